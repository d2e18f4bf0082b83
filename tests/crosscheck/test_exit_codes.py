"""One table of verdicts and exit codes: in code, in --help and in the docs."""

import re
from pathlib import Path

import pytest

from crosscheck import exit_codes
from crosscheck.cli.command import COMMANDS
from crosscheck.judging.summary import conclude
from crosscheck.judging.verdict import Cell, Status, Verdict
from spec import errors
from spec.exit_codes import TRAIN, ExitCode, epilog

ROOT = Path(__file__).parents[2]

ROW = re.compile(r"^\| (\d+) \| ([^|]+) \| ([^|]*) \|$", re.MULTILINE)


def table_below(heading: str) -> list[ExitCode]:
    """The table of exit codes under that heading of docs/crosscheck.md."""
    _, _, text = (ROOT / "docs" / "crosscheck.md").read_text().partition(f"{heading}\n")
    rows = ROW.findall(text.partition("\n## ")[0].partition("\n**The train command")[0])
    return [ExitCode(int(code), word.strip(), meaning.strip()) for code, word, meaning in rows]


def test_the_docs_have_the_table():
    assert table_below("## Verdicts and exit codes") == list(exit_codes.TABLE)
    assert table_below("**The train command** has its own:") == list(TRAIN)


@pytest.mark.parametrize("command", ["", "record", "compare"])
def test_help_has_the_table(command: str):
    parser, _ = COMMANDS[command]
    said = " ".join(parser().format_help().split())
    assert " ".join(epilog(exit_codes.TABLE).split()) in said


def test_codes_are_distinct_and_those_of_the_errors():
    for table in (exit_codes.TABLE, TRAIN):
        assert len({row.code for row in table}) == len(table)
    assert errors.UsageError.exit_code == 2
    assert errors.DeviceMissing.exit_code == errors.Unsupported.exit_code == 3
    assert errors.NonFiniteLoss.exit_code == 4


COMPARED = ("same", "different", "underpowered")


def verdict(name: str, *cells: tuple[str, Status], elements: int = 1) -> Verdict:
    made = [Cell(check=r, status=s, elements=elements if s in COMPARED else 0) for r, s in cells]
    return Verdict(experiment=name, hash="", argument=name, cells=made, comparisons=[])


SAME = verdict("same", ("structure", "same"), ("forward", "same"))
PARTLY = verdict("partly", ("structure", "same"), ("forward", "not checked"))
OPEN = verdict("open", ("forward", "same"), ("outcome", "underpowered"))
CRASHED = verdict("crashed", ("forward", "crashed"))
DIFFERENT = verdict("different", ("forward", "different"))
NOTHING = verdict("walk", ("trajectory", "not applicable"))


@pytest.mark.parametrize(
    ("verdicts", "code", "words"),
    [
        ([SAME], 0, "THE SAME: 1 experiment, "),
        ([SAME, NOTHING], 0, "THE SAME: 1 of 2 experiments, nothing to compare in the others, "),
        ([SAME, PARTLY], 5, "PARTLY CHECKED: 1 of 2 experiments (partly), 1 check not checked: forward not checked"),
        ([SAME, PARTLY, OPEN], 4, "UNDERPOWERED: 1 of 3"),
        ([SAME, PARTLY, OPEN, CRASHED], 3, "COULD NOT RUN: 1 of 4"),
        ([SAME, PARTLY, OPEN, CRASHED, DIFFERENT], 1, "DIFFERENT: 1 of 5"),
        ([NOTHING], 5, "PARTLY CHECKED: nothing was compared in 1 experiment"),
        ([], 5, "PARTLY CHECKED: nothing was compared in 0 experiments"),
    ],
)
def test_the_first_that_applies(verdicts: list[Verdict], code: int, words: str):
    for order in (verdicts, verdicts[::-1]):
        got, said = conclude(order)
        assert (got, said[: len(words)]) == (code, words)
    assert [row.code for row in exit_codes.VERDICTS] == [1, 3, 4, 5, 0]


@pytest.mark.parametrize(
    ("cells", "lacking"),
    [
        ([("structure", "same")], ""),
        ([("structure", "same"), ("trajectory", "not applicable")], ""),
        ([("structure", "same"), ("loss", "not checked")], "structure alone compared"),
        ([("structure", "same"), ("gradients", "left out")], "structure alone compared"),
        ([("forward", "same"), ("loss", "not checked"), ("optimizer", "not checked")], ""),
        ([("forward", "same"), ("gradients", "left out"), ("trajectory", "left out")], ""),
        ([("forward", "same"), ("gradients", "not checked")], "gradients not checked"),
        ([("forward", "not checked"), ("gradients", "left out")], "forward not checked"),
        ([("loss", "not checked")], "nothing compared"),
        ([("forward", "not checked"), ("trajectory", "not checked")], "forward, trajectory not checked"),
    ],
)
def test_what_an_experiment_lacks(cells: list[tuple[str, Status]], lacking: str):
    found = verdict("short", *cells)
    assert found.lacking == lacking
    assert (found.status == "partly checked") == bool(lacking)


def test_who_leaves_out_what_is_counted():
    declared = ["two: sparse embedding gradients"]
    left = Cell(check="gradients", status="left out", declared=declared)
    again = Cell(check="trajectory", status="left out", declared=declared)
    whole = Cell(check="forward", status="same", elements=1)
    one = Verdict(experiment="one", hash="", argument="one", cells=[whole, left, again], comparisons=[])
    assert conclude([one])[1].endswith(", 1 experiment's training left out by two: sparse embedding gradients")
    assert conclude([one, one])[1].endswith(", 2 experiments' training left out by two: sparse embedding gradients")


def test_a_comparison_of_nothing_counts_as_nothing():
    empty = verdict("empty", ("forward", "same"), elements=0)
    assert conclude([empty])[0] == exit_codes.PARTLY_CHECKED
