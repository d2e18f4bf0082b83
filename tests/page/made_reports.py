"""Reports as runs make them, of any size and with any text, without a run."""

import random
from collections.abc import Callable
from typing import Any

from crosscheck.checks import BY_DEFAULT
from crosscheck.comparison import Comparison, DifferenceGrowth, StageGrowth
from crosscheck.mapping.words import LinkTold
from crosscheck.report.model import (
    SCHEMA_VERSION,
    Cause,
    Fact,
    MapTold,
    PairDifference,
    ReportCell,
    ReportSide,
    ReportStatus,
    ReportSubject,
    RunReport,
    SourceLine,
    Unchecked,
)

CHECKS = [check.NAME for check in BY_DEFAULT]
SIDES = ("torch_impl", "flax_impl")
STEPS = 60
FAMILIES = ("GRU", "LSTM", "RNN", "TransformerEncoder")


def growth(apart: float, bound: float, steps: int = STEPS, seed: int = 0) -> DifferenceGrowth:
    """Differences around `apart`, some of them zero, under a bound that grows; a loss that falls."""
    drawn = random.Random(seed)
    differences = [apart * drawn.random() * (step % 7 != 3) for step in range(steps)]
    losses = [1.4 * 0.93**step for step in range(steps)]
    return DifferenceGrowth(
        steps=list(range(steps)),
        difference=differences,
        bound=[bound * (1 + step / 20) for step in range(steps)],
        first=losses,
        second=[loss + difference for loss, difference in zip(losses, differences, strict=True)],
    )


def staged(*names: str) -> StageGrowth:
    """The first is within its bound, the second wrong in itself, and what follows beyond it for that."""
    count = len(names)
    return StageGrowth(
        names=list(names),
        difference=[0.0, *(0.1 * place for place in range(1, count))],
        bound=[1e-15] * count,
        own=[place == 1 for place in range(count)],
    )


def comparison(name: str, check: str, tensor: str, passed: bool = True, **fields: Any) -> Comparison:
    given: dict[str, Any] = {
        "experiment": name, "check": check, "precision": "float64", "case": "recipe", "tensor": tensor, "sides": SIDES,
        "passed": passed, "elements": 12, "difference": 1e-16, "bound": 1e-15, "ratio": 0.1 if passed else 1e12,
    }  # fmt: skip
    return Comparison(**{**given, **fields})


def subject(name: str, failing: bool, cause: int = 0, tensors: int = 10, comparisons: int = 0) -> ReportSubject:
    """An experiment that is the same, or fails from forward on for the cause of that number."""
    broken = ("forward", "gradients", "trajectory") if failing else ()
    found = []
    for precision, apart in (("float64", 1e-15), ("float32", 1e-7)):
        for number, tensor in enumerate(
            () if not tensors else ("loss", *(f"parameters/rnn.weight_l{n}" for n in range(tensors)), "logits")
        ):
            grown = growth(1e3 if failing else apart, 10 * apart, seed=number)
            found.append(comparison(name, "trajectory", tensor, not failing, precision=precision, growth=grown, step=3))
    found += [comparison(name, "forward", f"rnn.h_l{n % 9}", not failing, case="own") for n in range(comparisons)]
    cells = [
        ReportCell(
            check=check,
            status="different" if check in broken else "same",
            ratio=1e12 if check in broken else 0.25,
            comparisons=100,
            elements=12_345,
            seconds=(1.0, 2.0),
            causes=[cause] if check in broken else [],
            note="what follows may only be downstream" if failing and check == "outcome" else "",
        )
        for check in CHECKS
    ]
    return ReportSubject(
        name=name,
        status="different" if failing else "same",
        cells=cells,
        family="GRU" if failing else FAMILIES[sum(map(ord, name)) % len(FAMILIES)],
        hash="0" * 12,
        failures=40 if failing else 0,
        causes=[cause] if failing else [],
        comparisons=found,
    )


def cause(names: list[str], **fields: Any) -> Cause:
    given: dict[str, Any] = {
        "title": f"every GRU, forward, from rnn.h_l0 on: {len(names)} experiments; LSTM, RNN fine",
        "status": "different",
        "check": "forward",
        "subjects": names,
        "families": ["GRU"],
        "whole": ["GRU"],
        "fine": ["LSTM", "RNN"],
        "at_fault": "flax_impl",
        "reason": "each stage from the side's own earlier ones, against the reference's",
        "stage": "rnn.h_l0",
        "looks_like": "as if the update gate were negated, h = z n + (1 - z) h",
        "sources": [SourceLine(side="flax_impl", file="flax_impl/gru.py", line=31, name="GRUCell.__call__")],
        "example": names[0],
        "facts": [Fact(name="difference", text="0.149, bound 1.11e-15"), Fact(name="torch_impl", text="-0.356")],
        "comparison": comparison(names[0], "forward", "rnn.h_l0", False),
        "traceback": "",
        "reproduce": f"python -m crosscheck {names[0]} --checks forward --precision float64 --case own",
        "failures": 374,
        "later": ["gradients", "trajectory"],
        "also": [f"forward, float64 ragged: rnn.h_l0[0, 0, {n}]: 0.14 > 1.1e-15" for n in range(8)],
        "more": 365,
        "growth": staged("embedding", "rnn.h_l0", "rnn.h_n", "logits"),
    }
    return Cause(**{**given, **fields})


def report(subjects: list[ReportSubject], causes: list[Cause] | None = None, **fields: Any) -> RunReport:
    failing = [one.name for one in subjects if one.status != "same"]
    given: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "kind": "experiments",
        "title": "torch_impl against flax_impl",
        "verdict": f"DIFFERENT: {len(failing)} of {len(subjects)}" if failing else f"THE SAME: {len(subjects)}",
        "status": "different" if failing else "same",
        "exit_code": 1 if failing else 0,
        "command": "python -m crosscheck",
        "sides": tuple(
            ReportSide(name=name, given=name, versions={"python": "3.11.7", name: "1.0"}, machine={"system": "x"})
            for name in SIDES
        ),
        "checks": CHECKS,
        "precisions": ["float64", "float32"],
        "subjects": subjects,
        "causes": causes or [],
        "device": "cpu",
        "questions": {check: f"what {check} asks" for check in CHECKS},
        "seconds": 56.0,
        "comparisons": 92_567,
        "elements": 100_000_000,
    }
    return RunReport(**{**given, **fields})


def passing(count: int = 3, **fields: Any) -> RunReport:
    return report([subject(f"hello-{number}", False, **fields) for number in range(count)])


def failing(count: int = 4, whole: int = 6, **fields: Any) -> RunReport:
    """The first `count` of `whole` fail for one cause."""
    subjects = [subject(f"hello-{number}", number < count, **fields) for number in range(whole)]
    return report(subjects, [cause([one.name for one in subjects[:count]])])


def full() -> RunReport:
    """As large as the run of everything: 43 experiments with 2,152 comparisons each, 30 of them over steps."""
    return passing(43, tensors=28, comparisons=2_092)


def difference(name: str, reason: str) -> PairDifference:
    return PairDifference(name=name, check=name, text=name, status="expected", reason=reason)


def pair(**fields: Any) -> RunReport:
    made = subject("encoder.py", True)
    rows = [
        LinkTold(target=f"layers.{n}.kernel", sources=f"layers.{n}.weight, axes [1, 0]", kind="copy", proof="value")
        for n in range(5)
    ]
    given = {
        "kind": "pair",
        "title": "encoder.py",
        "map": MapTold(file="encoder.map.toml (written)", links={"copy": 5}, rows=rows),
        "differences": [difference("train mode: stats", "other momentum")],
    }
    return report([made], [cause(["encoder.py"])], **{**given, **fields})


def everywhere(text: str) -> RunReport:
    """A failing pair that has the text in every field that may hold one."""
    status: ReportStatus = "different"
    cells = [
        ReportCell(check=text, status=status, ratio=1.0, elements=1, reason=text, note=text, causes=[0]),
        ReportCell(check="trajectory", status=status, reason=text),
    ]
    compared = [
        comparison(text, check, f"{text}/{n}", False, case=text, note=text, traceback=text, growth=growth(1e3, 1e-15))
        for check in ("trajectory", text)
        for n in range(2)
    ]
    told = ReportSubject(
        name=text,
        status=status,
        cells=cells,
        family=text,
        hash=text,
        causes=[0],
        comparisons=compared,
    )
    blamed = cause(
        [text, "elsewhere"],
        title=text, check=text, families=[text], fine=[text], at_fault=text, reason=text, stage=text, looks_like=text,
        sources=[SourceLine(side=text, file=text, line=1, name=text)], example=text, traceback=text,
        facts=[Fact(name=text, text=text)], reproduce=text, later=[text], also=[text], tried=[text],
        growth=staged(text, text, text),
    )  # fmt: skip
    return report(
        [told],
        [blamed],
        kind="pair", title=text, verdict=text, command=text, checks=[text, "trajectory"], precisions=[text],
        device=text, made=text, legend=[text],
        notes=[text], unchecked=[Unchecked(subject=text, checks=[text], reason=text)],
        differences=[difference(text, text)],
        sides=tuple(
            ReportSide(name=text, given=text, versions={text: text}, machine={text: text}, overhead={text: 1.0})
            for _ in SIDES
        ),
        questions={text: text},
        map=MapTold(
            file=text, links={text: 1}, rows=[LinkTold(target=text, sources=text, kind=text, proof=text, note=text)]
        ),
    )  # fmt: skip


PAGES: dict[str, Callable[[], RunReport]] = {"passing": passing, "failing": failing, "pair": pair, "full": full}
"""What is opened in a browser beside reports of runs."""
