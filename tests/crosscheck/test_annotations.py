"""Annotations on GitHub: at most ten, at the place that is at fault, and no text of anybody's forges one."""

import re
from pathlib import Path

import pytest
from made_reports import cause, report

from crosscheck.report import annotations
from crosscheck.report.model import Fact, SourceLine

COMMAND = re.compile(r"::(error|warning) ((?:\w+=[^:,]*,?)+)::(.*)")


def parsed(line: str) -> tuple[str, dict[str, str], str]:
    """As a runner reads it."""
    found = COMMAND.fullmatch(line)
    assert found, line
    level, given, message = found.groups()
    properties = dict(each.split("=", 1) for each in given.split(","))
    for code, character in (("%2C", ","), ("%3A", ":"), ("%0A", "\n"), ("%0D", "\r"), ("%25", "%")):
        message = message.replace(code, character)
        properties = {name: value.replace(code, character) for name, value in properties.items()}
    return level, properties, message


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "impl").mkdir()
    (tmp_path / "impl" / "gru.py").write_text("pass\n")
    return tmp_path


def test_a_cause_stands_at_its_line(root: Path) -> None:
    found = cause(
        at_fault="flax_impl",
        reason="against the equations",
        looks_like="as if z and 1-z were swapped",
        sources=[
            SourceLine(side="flax_impl", file="/elsewhere/site-packages/flax.py", line=3),
            SourceLine(side="flax_impl", file=str(root / "impl" / "gru.py"), line=7, name="GRUCell"),
        ],
        facts=[
            Fact(name="difference", text="0.3, bound 1e-15"),
            Fact(name="looks like", text="as if z and 1-z were swapped"),
        ],
        reproduce="python -m crosscheck hello-gru --checks forward",
    )
    (line,) = annotations.render(report(causes=[found], exit_code=1), root)
    level, properties, message = parsed(line)
    assert level == "error"
    assert properties == {"file": "impl/gru.py", "line": "7", "title": "crosscheck: forward: different"}
    assert message.split("\n") == [
        "every GRU, forward",
        "at fault: flax_impl (against the equations)",
        "looks like: as if z and 1-z were swapped",
        "difference: 0.3, bound 1e-15",
        "see also: /elsewhere/site-packages/flax.py:3",
        "reproduce: python -m crosscheck hello-gru --checks forward",
    ]


@pytest.mark.parametrize(
    "file", ["/etc/passwd", "../outside.py", "impl/no-such.py", "", "impl/gru.py/../../../etc/passwd"]
)
def test_a_file_that_is_not_the_repository_s_is_not_named(root: Path, file: str) -> None:
    outside = str(root / file) if file and not file.startswith("/") else file
    found = cause(sources=[SourceLine(side="x", file=outside, line=1)])
    (line,) = annotations.render(report(causes=[found]), root)
    assert "file" not in parsed(line)[1]


def test_what_is_merely_open_is_a_warning(root: Path) -> None:
    lines = annotations.render(report(causes=[cause(status="underpowered"), cause(status="expected")]), root)
    assert [parsed(line)[0] for line in lines] == ["warning"]


@pytest.mark.parametrize(("count", "shown"), [(1, 1), (10, 10), (11, 10), (35, 10)])
def test_there_are_ten_at_most(root: Path, count: int, shown: int) -> None:
    causes = [cause(f"cause {number}") for number in range(count)]
    lines = annotations.render(report(causes=causes), root)
    assert len(lines) == shown
    messages = "\n".join(parsed(line)[2] for line in lines)
    assert all(f"cause {number}" in messages for number in range(count))
    assert (f"{count - 9} more" in messages) == (count > 10)


def test_a_failure_without_a_cause_is_told(root: Path) -> None:
    (line,) = annotations.render(report(exit_code=3, status="crashed", verdict="COULD NOT RUN"), root)
    assert parsed(line)[2] == "COULD NOT RUN; reproduce: python -m crosscheck"
    assert annotations.render(report(), root) == []


def test_hostile_text_forges_no_command(root: Path) -> None:
    hostile = "x%0A::error::forged\r\n::set-output name=a::b\x1b[2J, title=%2Cforged::"
    (root / "impl" / "a,b:c%.py").write_text("pass\n")
    found = cause(
        hostile,
        check=hostile,
        at_fault=hostile,
        reason=hostile,
        looks_like=hostile,
        reproduce=hostile,
        facts=[Fact(name=hostile, text=hostile)],
        sources=[SourceLine(side=hostile, file=str(root / "impl" / "a,b:c%.py"), line=2)],
    )
    (line,) = annotations.render(report(causes=[found]), root)
    assert "\n" not in line
    assert "\r" not in line
    assert "\x1b" not in line
    level, properties, message = parsed(line)
    assert level == "error"
    assert properties.keys() == {"file", "line", "title"}
    assert properties["file"] == "impl/a,b:c%.py"
    assert message.count("\n") == 4
    assert not [each for each in message.split("\n") if each.startswith("::")]


def test_a_message_is_bounded(root: Path) -> None:
    (line,) = annotations.render(report(causes=[cause("x" * 10**6)]), root)
    assert len(line) < 2 * annotations.LONGEST
