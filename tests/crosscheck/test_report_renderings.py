"""One result, and the same verdict, counts and causes in every rendering of it; each is read back by a reader of its
own."""

import gzip
import io
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import jsonschema
import msgspec
import numpy as np
import pytest
from junitparser import Error, Failure, JUnitXml, Skipped
from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.console import Console

from crosscheck.comparison import Comparison, Evidence, Place, StageGrowth
from crosscheck.diagnosis.finding import Blame, Departure
from crosscheck.explain.explanation import Explanation
from crosscheck.judging.summary import SideSummary, Summary, conclude
from crosscheck.judging.verdict import Cell, Status, Verdict
from crosscheck.pair import result as pairs
from crosscheck.pair.report import report_of as of_pair
from crosscheck.pair.result import CheckCell, Difference, PairResult, SideTold, SourcePlace
from crosscheck.report import data, files, junit, markdown, rows, schema, stages, terminal
from crosscheck.report.experiments import report_of
from crosscheck.report.model import FAILING, RunReport
from crosscheck.report.where import SourceFinder
from spec.errors import UsageError
from spec.text import visible
from tests.hostile import HOSTILE, problems

SIDES = ("torch_impl", "flax_impl")

CHECKS = ["forward", "gradients", "trajectory", "outcome"]

FAMILIES = {
    "hello-gru": "GRU",
    "hello-bidirectional-gru": "GRU",
    "hello-gru-clipping": "GRU",
    "ragged-gru": "GRU",
    "hello-lstm": "LSTM",
    "hello-stacked-lstm": "LSTM",
    "hello-rnn": "RNN",
    "hello-transformer": "TransformerEncoder",
}


def compared(name: str, check: str, tensor: str, passed: bool = True, **fields: Any) -> Comparison:
    given = {
        "sides": SIDES,
        "case": "own",
        "precision": "float64",
        "elements": 4,
        "index": (0, 1),
        "values": (1.0, 1.5),
    }
    sizes = {"difference": 0.5, "bound": 1.0 if passed else 1e-15, "ratio": 0.5 if passed else 5e14}
    return Comparison(experiment=name, check=check, tensor=tensor, passed=passed, **{**given, **sizes, **fields})


class Fault(NamedTuple):
    """Where an experiment fails, and what is known of it."""

    check: str = "forward"
    stage: str = "rnn.h_l0"
    at_fault: str = "flax_impl"
    looks_like: str = ""
    crashed: str = ""


def verdict(name: str, fault: Fault | None = None, status: Status = "same", **cells: Status) -> Verdict:
    """An experiment with a fault, in its check and all that train; or with one status in some of its cells."""
    tensor = fault.stage if fault else "rnn.h_l0"
    found = []
    comparisons = []
    for check in CHECKS:
        failing = fault is not None and (check == fault.check or check == "trajectory")
        kind: Status = ("crashed" if fault and fault.crashed else "different") if failing else status
        if check in cells:
            kind = cells[check]
        made = kind in ("same", "different", "crashed", "underpowered")
        found.append(
            Cell(
                check=check, status=kind, ratio=0.5, comparisons=int(made), elements=4 * int(made),
                reason="" if kind == "same" else f"why {check}", needed=1200 if kind == "underpowered" else 0,
            )
        )  # fmt: skip
        if made:
            more: dict[str, Any] = {}
            if fault and failing and fault.crashed:
                trace = f"Traceback (most recent call last):\n  File x\n{fault.crashed}"
                more = {"kind": "crashed", "alone": "flax_impl", "note": f"flax_impl: {fault.crashed}", "elements": 0}
                more |= {"traceback": trace, "values": None, "difference": None, "bound": None, "ratio": None}
            if kind == "underpowered":
                evidence = Evidence(same=0.3, different=0.4, members=(40, 40), needed=1200)
                more = {"underpowered": True, "evidence": evidence, "passed": False}
            comparisons.append(compared(name, check, tensor, **{"passed": not failing, **more}))
    blame = explained = None
    if fault:
        departure = Departure(
            side=fault.at_fault, stage="crash" if fault.crashed else fault.stage, tensor=tensor, value=1.5,
            expected=1.0, downstream=["logits"],
        )  # fmt: skip
        blame = Blame(at_fault=fault.at_fault, reason="each stage from its own earlier ones", departures=[departure])
        explained = Explanation(looks_like=fault.looks_like, variant=fault.looks_like and "gates", tried=["one", "two"])
    return Verdict(
        experiment=name,
        hash="0" * 12,
        argument=name,
        cells=found,
        comparisons=comparisons,
        blame=blame,
        explanation=explained,
        family=FAMILIES.get(name, "RNN"),
    )


def summary(*verdicts: Verdict, **fields: Any) -> Summary:
    code, words = conclude(verdicts, narrowed=True)
    sides = [
        SideSummary(name=name, implementation=name, describe={"framework": "1.0"}, machine={"numpy": "2"}, seconds=1.0)
        for name in SIDES
    ]
    given: dict[str, Any] = {
        "sides": sides, "checks": CHECKS, "precisions": ["float64", "float32"], "seed": 0, "device": "cpu",
        "seconds": 2.0, "exit_code": code, "verdict": words, "experiments": list(verdicts),
    }  # fmt: skip
    return Summary(**{**given, **fields})


def everyone(**faults: Fault) -> list[Verdict]:
    """All experiments; those of a family of the name with that fault."""
    return [verdict(name, faults.get(family)) for name, family in FAMILIES.items()]


def pair(*differences: Difference, **statuses: pairs.Status) -> RunReport:
    """A pair with those differences, and checks with those statuses."""
    cells = []
    for check in ("structure", "forward", "optimizer", "convergence"):
        open_still = [one for one in differences if one.check == check and not one.expected]
        expected = [one for one in differences if one.check == check and one.expected]
        status = open_still[0].kind if open_still else "expected" if expected else statuses.get(check, "same")
        cells.append(
            CheckCell(
                check=check, status=status, text=f"what {check} is", ratio=0.5, comparisons=3, elements=12, seconds=1.0,
                scope=check == "convergence" and status == "not checked",
            )
        )  # fmt: skip
    words, code = pairs.conclude(cells, list(differences), alone=True)
    sides = [SideTold(name=name, kind="torch", leaves=3, numbers=99, versions={"framework": "1.0"}) for name in "ab"]
    made = PairResult(
        schema_version=pairs.SCHEMA_VERSION, pair="a-pair", sides=(sides[0], sides[1]), cells=cells,
        differences=list(differences), notes=["a note"], map={"same": 3}, map_file="a-pair.map.toml (written)",
        unused=[], seed=0, seconds=3.0, verdict=words, exit_code=code,
        compared=[compared("a-pair", "forward", "y", passed=not differences)],
    )  # fmt: skip
    return of_pair(made, "python -m crosscheck pair a_pair.py")


PLACE = SourcePlace(source="model.py:31", module="encoder.norm", op="layer_norm")

PARTED = Difference(
    name="forward: norm", check="forward", text="parts by 0.1", first=PLACE, values=(1.0, 1.1), size=0.1
)

EXPLAINED = Explanation(looks_like="as if epsilon were 1e-6", variant="layer_norm")

RUNS: dict[str, Callable[[], RunReport]] = {
    "passing": lambda: report_of(summary(*everyone())),
    "failing, one cause": lambda: report_of(summary(*everyone(GRU=Fault()))),
    "failing, two causes": lambda: report_of(summary(*everyone(GRU=Fault(), LSTM=Fault(stage="logits")))),
    "failing everywhere": lambda: report_of(
        summary(*(verdict(name, Fault("gradients", f"part{n}")) for n, name in enumerate(FAMILIES)))
    ),
    "crashed": lambda: report_of(summary(*everyone(GRU=Fault(crashed="ValueError: shapes (3, 4)")))),
    "crashed and failing": lambda: report_of(
        summary(*everyone(GRU=Fault(crashed="ValueError: y"), RNN=Fault(at_fault="both")))
    ),
    "underpowered": lambda: report_of(summary(*everyone()[:3], verdict("hello-rnn", outcome="underpowered"))),
    "partly checked": lambda: report_of(
        summary(*everyone()[:3], verdict("hello-rnn", forward="not checked", gradients="not checked"))
    ),
    "nothing compared": lambda: report_of(summary(verdict("hello-rnn", status="left out"))),
    "nothing to ask": lambda: report_of(summary(verdict("hello-rnn", status="not applicable"))),
    "a pair that is the same": lambda: pair(convergence="not checked"),
    "a pair that differs": lambda: pair(
        PARTED, msgspec.structs.replace(PARTED, name="forward: head", explanation=EXPLAINED)
    ),
    "a pair that differs as it says": lambda: pair(msgspec.structs.replace(PARTED, expected="we know")),
    "a pair that is not checked in part": lambda: pair(optimizer="not checked"),
    "a pair that crashed": lambda: pair(optimizer="crashed"),
    "a pair that is ambiguous": lambda: pair(msgspec.structs.replace(PARTED, kind="ambiguous")),
    "a pair that cannot be represented": lambda: pair(
        Difference(name="structure: bias", check="structure", text="no place", kind="not representable"), PARTED
    ),
}


class Told(NamedTuple):
    """What a rendering says. rows: by subject, or by a pair's check, the word that it is given. wrong: how many cells
    keep the run from "the same"."""

    verdict: str
    causes: list[str]
    rows: dict[str, str]
    wrong: int


def by_the_model(report: RunReport) -> Told:
    named = {one.name: one.status for one in report.subjects}
    if report.kind == "pair":
        named = {cell.check: cell.status for cell in report.subjects[0].cells}
    return Told(
        report.verdict,
        [f"{rows.LABELS[cause.status].word}: {cause.title}" for cause in report.causes],
        {name: rows.LABELS[status].word for name, status in named.items()},
        sum(bool(cell.causes) for one in report.subjects for cell in one.cells),
    )


def printed(report: RunReport, width: int | None = 80) -> str:
    file = io.StringIO()
    shown = Console(file=file, width=width, force_terminal=width is not None, color_system=None, _environ={})
    terminal.show(report, shown)
    return file.getvalue()


def by_the_terminal(report: RunReport) -> Told:
    lines = [line.rstrip() for line in printed(report, None).splitlines()]
    causes = [found[1] for line in lines if (found := re.match(r"\d+\. (.*)", line))]
    words = sorted({label.word for label in rows.LABELS.values()}, key=len, reverse=True)
    row = re.compile(rf"  ({'|'.join(map(re.escape, words))}) +(\S+(?: \S+)?)(?:  |$)")
    found = {match[2]: match[1] for line in lines if (match := row.match(line))}
    return Told(lines[-1], causes, found, -1)


def parsed(text: str) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(text)


def words(token: Token) -> str:
    return "".join(child.content for child in token.children or [])


def by_markdown(report: RunReport) -> Told:
    tokens = parsed(markdown.render(report))
    causes, cells, bold = [], [], 0
    headed = False
    table: list[list[str]] = []
    for before, token in itertools.pairwise(tokens):
        if before.type == "heading_open" and before.tag == "h3":
            causes.append(words(token).partition(". ")[2])
        if before.type == "heading_open" and words(token) == "Checks":
            headed = True
        if headed and token.type == "tr_open":
            cells = []
            table.append(cells)
        if headed and before.type in ("td_open", "th_open"):
            cells.append(words(token))
            bold += any(child.type == "strong_open" for child in token.children or [])
        if headed and token.type == "table_close":
            break
    strong = next(token for token in tokens if token.type == "inline" and token.content.startswith("**"))
    named = {row[0]: row[1] for row in table[1:]} if report.kind == "pair" else {row[0]: "" for row in table[1:]}
    return Told(words(strong), causes, named, bold)


def by_json(report: RunReport, folder: Path) -> Told:
    for name, content in files.contents(report, data.render(report)).items():
        (folder / name).write_bytes(content())
    return by_the_model(data.read(folder))


def by_junit(report: RunReport) -> Told:
    read = ElementTree.fromstring(junit.render(report))
    results = [case[0] for case in read.iter("testcase") if len(case)]
    wrong = [result for result in results if result.tag != "skipped"]
    messages = dict.fromkeys(result.get("message", "") for result in wrong)
    statuses = {suite.get("name", ""): "" for suite in read.iter("testsuite")}
    (said,) = {one.get("value", "") for one in read.iter("property") if one.get("name") == "verdict"}
    return Told(said, list(messages), statuses, len(wrong))


@pytest.mark.parametrize("name", RUNS)
def test_every_rendering_says_the_same(name: str, tmp_path: Path) -> None:
    report = RUNS[name]()
    said = by_the_model(report)
    assert (report.exit_code == 0) == (not report.causes) == (report.status == "same"), name
    assert by_json(report, tmp_path) == said
    of_terminal = by_the_terminal(report)
    assert of_terminal._replace(wrong=said.wrong) == said
    of_markdown = by_markdown(report)
    assert (of_markdown.verdict, of_markdown.causes, of_markdown.wrong) == (said.verdict, said.causes, said.wrong)
    assert of_markdown.rows.keys() == said.rows.keys()
    of_junit = by_junit(report)
    assert (of_junit.verdict, of_junit.wrong) == (said.verdict, said.wrong)
    for cause in report.causes:
        assert any(visible(cause.title) in told for told in of_junit.causes)
    assert bool(of_junit.wrong) == bool(report.exit_code)
    assert said.wrong >= len(report.causes)


@pytest.mark.parametrize("name", RUNS)
def test_a_rendering_that_says_otherwise_is_seen(name: str, tmp_path: Path) -> None:
    """The comparison above can fail: of another run each reader says something else."""
    report, other = RUNS[name](), RUNS["failing, one cause" if name != "failing, one cause" else "passing"]()
    said = by_the_model(report)
    assert by_json(other, tmp_path) != said
    assert by_the_terminal(other)._replace(wrong=said.wrong) != said
    assert by_markdown(other)[:2] != said[:2]
    assert by_junit(other)[::3] != said[::3]


@pytest.mark.parametrize("name", RUNS)
def test_a_common_reader_takes_the_xml(name: str) -> None:
    """What its totals say is what its cases say, and what the report does."""
    report = RUNS[name]()
    read = JUnitXml.fromstring(junit.render(report))
    kinds: Counter[type] = Counter()
    for suite, subject in zip(read, report.subjects, strict=True):
        assert (suite.name, suite.tests) == (subject.name, len(subject.cells))
        for case, cell in zip(suite, subject.cells, strict=True):
            assert (case.name, case.classname) == (cell.check, subject.name)
            assert len(case.result) <= 1
            kinds.update(type(one) for one in case.result)
            assert not cell.causes or case.result[0].type == cell.status
            sources = [line for number in cell.causes[:1] for line in report.causes[number].sources]
            assert case._elem.get("file") == (sources[0].file if sources else None)
    assert read.tests == sum(len(subject.cells) for subject in report.subjects)
    assert (read.failures, read.errors) == (kinds[Failure], kinds[Error])
    assert read.skipped == kinds[Skipped]
    assert bool(read.failures + read.errors) == bool(report.exit_code)


# Causes.


def titles(*verdicts: Verdict) -> list[str]:
    return [cause.title for cause in report_of(summary(*verdicts)).causes]


def test_failures_of_one_kind_of_model_are_one_cause() -> None:
    (cause,) = report_of(summary(*everyone(GRU=Fault()))).causes
    assert cause.title == "every GRU, forward, from rnn.h_l0 on: 4 experiments; LSTM, RNN, TransformerEncoder fine"
    assert cause.subjects == [name for name, family in FAMILIES.items() if family == "GRU"]
    assert (cause.at_fault, cause.whole, cause.later) == ("flax_impl", ["GRU"], ["trajectory"])
    assert cause.reproduce == "python -m crosscheck hello-gru --checks forward --precision float64 --case own"
    (first, _) = cause.sources
    line = Path(first.file).read_text().splitlines()[first.line - 1]
    assert (first.side, first.file, line.split("(")[0]) == ("flax_impl", "flax_impl/gru.py", "class GRU")


def test_two_kinds_that_fail_at_the_same_stage_are_two_causes_where_a_third_does_not() -> None:
    found = titles(*everyone(GRU=Fault(), LSTM=Fault()))
    assert [title.partition(",")[0] for title in found] == ["every GRU", "every LSTM"]


def test_kinds_that_look_like_the_same_variant_are_one() -> None:
    (title,) = titles(*everyone(GRU=Fault(looks_like="as if x"), LSTM=Fault(looks_like="as if x")))
    assert title.startswith("every GRU and LSTM, forward, from rnn.h_l0 on: 6 experiments; RNN, ")


def test_what_looks_like_the_same_is_one_cause_whatever_its_stage_is_called() -> None:
    faults = {"GRU": Fault(looks_like="as if x of 3"), "LSTM": Fault(stage="encoder.h_l0", looks_like="as if x of 4")}
    made = everyone(**faults)
    (cause,) = report_of(summary(*made)).causes
    assert cause.title == "every GRU and LSTM, forward: 6 experiments; RNN, TransformerEncoder fine"
    # Where most of them have it.
    assert (cause.stage, cause.sources[0].name) == ("rnn.h_l0", "GRU")
    assert (
        len(report_of(summary(*everyone(**faults | {"LSTM": Fault("gradients", looks_like="as if x of 3")}))).causes)
        == 2
    )


def test_the_same_stage_that_looks_like_two_variants_is_two_causes() -> None:
    found = [verdict("hello-gru", Fault(looks_like="as if x")), verdict("ragged-gru", Fault(looks_like="as if y"))]
    found[1] = msgspec.structs.replace(found[1], explanation=Explanation(looks_like="as if y", variant="padding"))
    assert titles(*found) == ["hello-gru, forward, from rnn.h_l0 on", "ragged-gru, forward, from rnn.h_l0 on"]
    unexplained = verdict("hello-bidirectional-gru", Fault())
    assert len(titles(found[0], unexplained)) == 1


def test_sides_checks_and_crashes_are_told_apart() -> None:
    faults = [Fault(), Fault(at_fault="torch_impl"), Fault("gradients"), Fault(crashed="ValueError: x")]
    names = [name for name, family in FAMILIES.items() if family == "GRU"]
    found = report_of(summary(*(verdict(name, fault) for name, fault in zip(names, faults, strict=True))))
    assert [cause.status for cause in found.causes] == ["different"] * 3 + ["crashed"]
    assert {cause.at_fault for cause in found.causes} == set(SIDES)


@pytest.mark.parametrize("count", [3, 35])
def test_what_spares_no_kind_of_model_is_one_cause(count: int) -> None:
    kinds = ["GRU", "LSTM", "RNN", "SelfAttention"]
    made = [
        msgspec.structs.replace(verdict(f"e{n}", Fault("gradients", f"{'abcd'[n % 4]}.weight")), family=kinds[n % 4])
        for n in range(count)
    ]
    (cause,) = report_of(summary(*made)).causes
    assert cause.title == f"every experiment, gradients: {count} experiments"
    spared = msgspec.structs.replace(verdict("fine"), family="TransformerEncoder")
    assert len(report_of(summary(*made, spared)).causes) == min(count, 4)


def test_what_is_not_the_models_own_is_one_cause_in_some_kinds_of_models_too() -> None:
    faults = {name: Fault("trajectory", "update") for name in ("hello-gru", "hello-rnn")}
    made = [verdict(name, faults.get(name)) for name in FAMILIES]
    (cause,) = report_of(summary(*made)).causes
    assert cause.title == ("every RNN, 1 of 4 GRU, trajectory, at update: 2 experiments; LSTM, TransformerEncoder fine")
    assert [line.file for line in cause.sources] == ["flax_impl/optimizer.py"]


def test_a_cause_has_the_growth_of_what_was_compared_where_it_failed_first() -> None:
    made = verdict("hello-gru", Fault())
    found = [compared("hello-gru", "forward", name, bound=1.0) for name in ("embedding", "input")]
    # Of another point, another case, or of a side alone: other stages.
    others = [
        compared("hello-gru", "forward", "x (offset)", point="offset"),
        compared("hello-gru", "forward", "y", case="ragged"),
        compared("hello-gru", "forward", "z", alone="flax_impl", other="spec.reference"),
    ]
    nan = compared("hello-gru", "forward", "logits", passed=False, difference=None, bound=1e-15)
    made = msgspec.structs.replace(made, comparisons=[*found, *made.comparisons, *others, nan])
    (cause,) = report_of(summary(made)).causes
    growth = cause.growth
    assert growth is not None
    assert growth.names == ["embedding", "input", "rnn.h_l0", "logits"]
    assert growth.difference == [0.5, 0.5, 0.5, np.inf]
    assert growth.bound == [1.0, 1.0, 1e-15, 1e-15]
    (departure,) = made.blame.departures if made.blame else ()
    wrong = msgspec.structs.replace(departure, wrong=["rnn.h_l0"])
    blamed = msgspec.structs.replace(made, blame=Blame(at_fault="flax_impl", reason="", departures=[wrong]))
    assert report_of(summary(blamed)).causes[0].growth.own == [False, False, True, False]  # type: ignore[union-attr]
    # A training has steps, and a picture of these.
    assert report_of(summary(verdict("hello-gru", Fault("trajectory")))).causes[0].growth is None


def test_where_stages_are_many_those_that_are_wrong_are_kept() -> None:
    names = [f"stage {place}" for place in range(500)]
    own = [place in (123, 321) for place in range(500)]
    kept = stages.thinned(StageGrowth(names=names, difference=[0.0] * 500, bound=[1.0] * 500, own=own))
    assert kept is not None
    assert len(kept.names) == stages.MOST
    assert {"stage 0", "stage 122", "stage 123", "stage 320", "stage 321", "stage 499"} <= set(kept.names)
    assert kept.names == sorted(kept.names, key=names.index)
    assert [name for name, wrong in zip(kept.names, kept.own, strict=True) if wrong] == ["stage 123", "stage 321"]
    assert stages.thinned(StageGrowth(names=["one"], difference=[0.0], bound=[1.0], own=[False])) is None


@pytest.mark.parametrize("side", SIDES)
def test_a_loss_that_is_wrong_in_a_training_is_looked_for_in_the_training(side: str) -> None:
    """The loss has a check of its own below it."""
    found = SourceFinder(side, side)
    for check, stage, file in (
        ("trajectory", "loss", "training"),
        ("shipped-path", "start/plain/loss", "training"),
        ("loss", "loss", "loss"),
        ("trajectory", "gradient or slots", "lstm"),
        ("trajectory", "update", "optimizer"),
        ("optimizer", "clipping or slots", "optimizer"),
        ("trajectory", "evaluation", "training"),
    ):
        assert found.stage(check, stage, ["LSTM"])[0].file == f"{side}/{file}.py", (check, stage)


def drawn(name: str, failed: str, *tensors: str) -> Verdict:
    """An experiment whose tensors of those letters differ for far seeds, of all that are compared."""
    found = [
        compared(name, "initialization", f"{tensor}, {asked}", asked == "mean" or tensor not in failed, array=tensor,
                 case="seeds", sides=("flax_impl", "law"), alone="flax_impl", other="law")
        for tensor in tensors for asked in ("mean", "far seeds")
    ]  # fmt: skip
    first = next(one for one in found if one.failed)
    departure = Departure(side="flax_impl", stage="initialization", tensor=first.tensor)
    cell = Cell(check="initialization", status="different", comparisons=len(found), elements=4)
    return Verdict(
        experiment=name, hash="0" * 12, argument=name, cells=[cell], comparisons=found, family=FAMILIES[name],
        blame=Blame(at_fault="flax_impl", reason="against the spec", departures=[departure]),
    )  # fmt: skip


def test_what_no_tensor_is_spared_is_one_cause_whatever_the_first_of_a_model_is_called() -> None:
    checks = {"checks": ["initialization", *CHECKS]}
    made = [drawn("hello-gru", "ab", "a", "b"), drawn("hello-lstm", "cde", "c", "d", "e"), verdict("hello-rnn")]
    (cause,) = report_of(summary(*made, **checks)).causes
    assert (cause.stage, len(cause.subjects)) == ("every tensor: far seeds", 2)
    assert cause.title == "every experiment, initialization, at every tensor: far seeds: 2 experiments"
    assert [line.file for line in cause.sources] == ["flax_impl/parameters.py"]
    # Where some tensors are well, which ones are not is what is known.
    made[1] = drawn("hello-lstm", "ce", "c", "d", "e")
    found = report_of(summary(*made, **checks)).causes
    assert [cause.stage for cause in found] == ["every tensor: far seeds", "c, far seeds"]
    # A tensor alone is all tensors, and says nothing of others.
    (alone,) = report_of(summary(drawn("hello-gru", "a", "a"), **checks)).causes
    assert alone.stage == "a, far seeds"


def test_crashes_with_other_numbers_are_one_cause_at_the_line_that_raised() -> None:
    own = Path("flax_impl/gru.py").resolve()
    trace = f'  File "{own}", line 33, in __call__\n  File "/lib/jax.py", line 7, in f\nValueError'
    made = []
    for number, name in enumerate(["hello-gru", "hello-lstm"]):
        one = verdict(name, Fault(crashed=f"ValueError: shapes ({number}, 4)"))
        changed = [msgspec.structs.replace(c, traceback=trace) if c.crashed else c for c in one.comparisons]
        made.append(msgspec.structs.replace(one, comparisons=changed))
    (cause,) = report_of(summary(*made)).causes
    assert (cause.status, len(cause.subjects)) == ("crashed", 2)
    assert [(line.where, line.name) for line in cause.sources] == [("flax_impl/gru.py:33", "__call__")]
    assert cause.traceback == trace


def test_an_outcome_that_is_ok_beside_failures_is_explained() -> None:
    report = RUNS["failing, one cause"]()
    cell = report.of("hello-gru").cell("outcome")
    assert cell is not None
    assert "that says nothing of whether they compute alike" in cell.note
    assert report.of("hello-lstm").cell("outcome").note == ""  # type: ignore[union-attr]
    for text in (printed(report), markdown.render(report)):
        assert "ok in outcome beside failures: " in " ".join(text.split())
    for text in (printed(RUNS["passing"]()), markdown.render(RUNS["passing"]())):
        assert "beside failures" not in text


def test_what_is_for_passing_runs_stands_below_failures() -> None:
    text = markdown.render(RUNS["failing, one cause"]())
    assert text.index("FAIL: every GRU") < text.index("| experiment |") < text.index("<summary>Headroom")
    assert "| forward | float64 | 2 | hello-lstm |" in text


def test_a_pair_has_a_cause_for_each_thing_that_its_differences_look_like() -> None:
    gelu = Explanation(looks_like="as if GELU were by tanh", variant="gelu")
    known = [("norm1", EXPLAINED), ("gelu", gelu), ("norm2", EXPLAINED)]
    found = [msgspec.structs.replace(PARTED, name=f"forward: {name}", explanation=why) for name, why in known]
    report = pair(*found)
    assert [cause.title for cause in report.causes] == ["forward: norm1, and 1 more", "forward: gelu"]
    assert [one.cause for one in report.differences] == [0, 1, 0]
    unknown = msgspec.structs.replace(PARTED, name="forward: logits")
    assert [cause.title for cause in pair(found[0], unknown).causes] == ["forward: norm1, and 1 more"]
    assert len(pair(*found, unknown).causes) == 3


# Files.


def test_the_schemas_are_those_in_the_files_and_hold() -> None:
    for name in schema.FILES:
        assert (schema.PLACE / name).read_text() == schema.text(name), "python -m crosscheck.report.schema --write"
    main, more = (json.loads((schema.PLACE / name).read_text()) for name in schema.FILES)
    for name, make in RUNS.items():
        report = make()
        written = json.loads(data.render(report))
        jsonschema.validate(written, main)
        jsonschema.validate(json.loads(gzip.decompress(data.details(report))), more)
        written["cells"]["status"][0] = "fine"
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(written, main)
        assert name


def trained(values: Sequence[float]) -> Comparison:
    place = Place("hello-gru", "trajectory", "float64", "recipe", SIDES)
    return place.close("loss", np.array(values), np.array(values) + 1e-9, allowed=1.0, stepwise=True)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    made = everyone(GRU=Fault())
    whole = msgspec.structs.replace(
        made[0],
        comparisons=[
            *made[0].comparisons,
            msgspec.structs.replace(trained([1.0, 0.5]), ratio=np.inf, passed=False, values=("nan", 1.0)),
        ],
    )
    report = report_of(summary(whole, *made[1:]))
    for name, content in files.contents(report, data.render(report)).items():
        (tmp_path / name).write_bytes(content())
    again = data.read(tmp_path)
    assert again == report
    assert [growth.first for _, growth in again.of("hello-gru").growths()] == [[1.0, 0.5]]
    (tmp_path / data.DETAILS).unlink()
    alone = data.read(tmp_path / data.NAME)
    assert alone.causes == report.causes
    assert not any(one.comparisons for one in alone.subjects)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: (folder / data.NAME).write_text("{"), "expected a report, got DecodeError"),
        (lambda folder: (folder / data.NAME).write_text('{"schema_version": 3}'), "of version 4, got 3"),
        (lambda folder: (folder / data.NAME).write_text("[]"), "of version 4, got None"),
        (lambda folder: (folder / data.NAME).write_text('{"schema_version": "4"}'), "of version 4, got '4'"),
        (lambda folder: (folder / data.NAME).write_text(f'{{"schema_version": {10**400}}}'), "cut to 80 of 401"),
        (lambda folder: (folder / data.NAME).write_text("\n"), "expected a report, got an empty file"),
        (lambda folder: edit(folder / data.NAME, '"subject":[0', '"subject":[-1'), "a place of -1 among 8"),
        (lambda folder: edit(folder / data.NAME, '"ragged-gru",', '"hello-gru",'), "each subject once, got hello-gru"),
        (lambda folder: edit(folder / data.NAME, '"subject":[0', '"subject":[99'), "expected a report, got IndexError"),
        (lambda folder: edit(folder / data.NAME, '"exit_code":1', '"exit_code":"x"'), "expected a report, got"),
        (lambda folder: (folder / data.DETAILS).write_bytes(b"no gzip"), "expected gzip, got"),
        (lambda folder: cut(folder / data.DETAILS), "cut short"),
        (lambda folder: edit(folder / data.NAME, '"made":"2', '"made":"1'), "expected the details of the run of 1"),
    ],
)
def test_what_is_no_report_is_one_line(change: Callable[[Path], Any], said: str, tmp_path: Path) -> None:
    report = RUNS["failing, one cause"]()
    for name, content in files.contents(report, data.render(report)).items():
        (tmp_path / name).write_bytes(content())
    change(tmp_path)
    with pytest.raises(UsageError) as error:
        data.read(tmp_path)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_report_of_before_a_field_was_added_is_read(tmp_path: Path) -> None:
    """Its version says that no field has changed its meaning; a field that was there from the beginning is a must."""
    report = RUNS["failing, one cause"]()
    for name, content in files.contents(report, data.render(report)).items():
        (tmp_path / name).write_bytes(content())
    found = json.loads((tmp_path / data.NAME).read_text())
    for record, field in ((found, "questions"), (found["causes"][0], "growth"), (found["cells"], "note")):
        del record[field]
    (tmp_path / data.NAME).write_text(json.dumps(found))
    again = data.read(tmp_path)
    assert (again.questions, again.causes[0].growth) == ({}, None)
    assert again.causes[0].title == report.causes[0].title
    schema_of_it = json.loads((schema.PLACE / "report.schema.json").read_text())
    with pytest.raises(jsonschema.ValidationError, match="is a required property"):
        jsonschema.validate(found, schema_of_it)
    del found["cells"]["status"]
    (tmp_path / data.NAME).write_text(json.dumps(found))
    with pytest.raises(UsageError, match="missing required field `status`"):
        data.read(tmp_path)


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20])


def test_markdown_stays_below_its_limit_however_many_fail() -> None:
    crashing = [
        msgspec.structs.replace(verdict(f"e{n}", Fault(stage=f"{'s' * 400}{chr(97 + n % 26)}{'x' * (n // 26)}")))
        for n in range(600)
    ]
    report = report_of(summary(*crashing))
    assert len(report.causes) > 200
    text = markdown.render(report)
    assert len(text.encode()) < markdown.LARGEST
    (more,) = re.findall(r"\n(\d+) more causes had no room here: report.json has them.", text)
    shown = sum(token.tag == "h3" and token.type == "heading_open" for token in parsed(text))
    assert shown + int(more) == len(report.causes)
    assert text.count("<details>") == text.count("</details>") > 0


# Text that is not ours.


def changed(value: Any, text: str, path: str = "") -> Any:
    """The same with the text in every field that may hold any: all but those of fixed words."""
    fixed = ("status", "kind", "check", "precision", "word", "made", "file_of")
    if isinstance(value, msgspec.Struct):
        fields = {
            name: getattr(value, name)
            if name.rstrip("s") in fixed or name in (*fixed, "checks", "precisions", "later")
            else changed(getattr(value, name), text, name)
            for name in value.__struct_fields__
        }
        return type(value)(**fields)
    if isinstance(value, str):
        return text if value else value
    if isinstance(value, (list, tuple)):
        return type(value)(changed(one, text, path) for one in value)
    if isinstance(value, dict):
        return {key: changed(one, text, path) for key, one in value.items()}
    return value


def shape_of_markdown(text: str) -> list[str]:
    tokens = parsed(text)
    inside = [
        child.type for token in tokens for child in token.children or [] if child.type not in ("text", "code_inline")
    ]
    return [token.type + token.tag for token in tokens] + inside


def shape_of_xml(element: ElementTree.Element) -> Any:
    return element.tag, sorted(element.keys()), [shape_of_xml(one) for one in element]


def shape_of_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: shape_of_json(one) for key, one in value.items()}
    return [shape_of_json(one) for one in value] if isinstance(value, list) else type(value).__name__


MORE = {
    **HOSTILE,
    "the end of a CDATA section": "a]]>b<![CDATA[c",
    "an element": "</failure></testcase><testcase name='forged'/>",
    "an attribute": "\" name='x' ' onclick=\"y",
    "what no XML may hold": "a\x00b\ufffec\uffffd\x0b",
}

HUGE = "x" * 1_000_000


@pytest.mark.parametrize("run", ["failing, one cause", "crashed and failing", "underpowered", "a pair that differs"])
def test_no_text_changes_the_structure_of_any_rendering(run: str) -> None:
    report = RUNS[run]()
    plain = changed(report, "harmless")
    structure = shape_of_markdown(markdown.render(plain))
    elements = shape_of_xml(ElementTree.fromstring(junit.render(plain)))
    values = shape_of_json(json.loads(data.render(plain)))
    lines = printed(plain, None).count("\n")
    for name, text in MORE.items():
        hostile = changed(report, text)
        assert shape_of_markdown(markdown.render(hostile)) == structure, name
        assert shape_of_xml(ElementTree.fromstring(junit.render(hostile))) == elements, name
        assert shape_of_json(json.loads(data.render(hostile))) == values, name
        assert printed(hostile, None).count("\n") == lines, name
        for output in (markdown.render(hostile), printed(hostile), data.render(hostile).decode()):
            assert problems(output) == [], name
        assert problems(junit.render(hostile).decode()) == [], name


def test_a_huge_text_is_bounded_where_it_enters() -> None:
    made = [changed(one, HUGE) for one in everyone(GRU=Fault())]
    report = report_of(summary(*made, verdict=HUGE, device=HUGE))
    assert len(markdown.render(report).encode()) < markdown.LARGEST
    assert len(junit.render(report)) < 1_000_000
    assert len(printed(report, None)) < 1_000_000


@pytest.mark.parametrize("name", RUNS)
def test_a_terminal_of_80_columns_is_enough(name: str) -> None:
    lines = printed(RUNS[name]()).splitlines()
    assert max(len(line.rstrip()) for line in lines if not line.lstrip().startswith("reproduce")) <= 80
    if RUNS[name]().causes:
        (first,) = [n for n, line in enumerate(lines) if line.startswith("1. ")]
        assert first <= 4


def test_failing_is_what_the_exit_code_says() -> None:
    for make in RUNS.values():
        report = make()
        assert (report.status in FAILING) == (report.exit_code in (1, 3))
