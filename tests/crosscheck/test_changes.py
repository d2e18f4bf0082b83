"""What changed between two reports: each kind of change is planted, and seen."""

import io
import json
import math
from typing import Any

import pytest
from made_reports import cell, headroom, report, side, subject
from rich.console import Console

from crosscheck.report import changes
from crosscheck.report.changes import Changes, between
from crosscheck.report.model import ReportStatus, RunReport


def terminal(found: Changes) -> str:
    written = io.StringIO()
    changes.terminal(found, Console(file=written, width=80, force_terminal=True, color_system=None))
    return written.getvalue()


def test_nothing_changed() -> None:
    found = between(report(), report(made="2026-11-30T20:00:00Z", seconds=99.0))
    assert found.nothing
    assert not found.worse
    assert terminal(found).splitlines()[-1] == "nothing changed"
    assert "**nothing changed**" in changes.markdown(found)


@pytest.mark.parametrize(
    ("before", "after", "sense"),
    [
        ("same", "different", "worse"),
        ("same", "crashed", "worse"),
        ("same", "not checked", "worse"),
        ("same", "underpowered", "worse"),
        ("partly checked", "different", "worse"),
        ("left out", "not representable", "worse"),
        ("different", "same", "better"),
        ("ambiguous", "same", "better"),
        ("different", "crashed", "other"),
        ("left out", "same", "other"),
    ],
)
def test_a_verdict_that_flipped(before: ReportStatus, after: ReportStatus, sense: str) -> None:
    one = report(subject("a", "same", cell("forward", before)), subject("b"))
    two = report(subject("a", "same", cell("forward", after)), subject("b"))
    found = between(one, two)
    (flip,) = found.flips
    assert (flip.subject, flip.check, flip.before, flip.after, flip.sense) == ("a", "forward", before, after, sense)
    assert found.worse == (sense == "worse")
    shown = f"a forward: {before}, now {after}" + ("" if sense == "other" else f" ({sense})")
    assert shown in terminal(found)
    assert f"| a | forward | {before} | {after} |" in changes.markdown(found)


def test_the_whole_run_s_verdict_counts_where_no_subject_is_in_both() -> None:
    found = between(report(subject("a")), report(subject("b", "different"), status="different", exit_code=1))
    assert found.worse
    assert [(flip.subject, flip.check) for flip in found.flips] == [("", "")]
    assert (found.added, found.removed) == (["b"], ["a"])
    assert "subjects removed: 1" in terminal(found)


@pytest.mark.parametrize(
    ("before", "after", "seen"),
    [
        (6.0, 3.0, "worse"),
        (3.0, 6.0, "better"),
        (3.0, 2.5, ""),
        (5000.0, 500.0, ""),
        (500.0, 5.0, "worse"),
        (math.inf, 2.0, "worse"),
        (0.0, 0.0, ""),
        (2.0, 0.0, "worse"),
    ],
)
def test_headroom_that_moved(before: float, after: float, seen: str) -> None:
    one, two = (report(headroom=[headroom("forward", times)]) for times in (before, after))
    found = between(one, two)
    assert [moved.sense for moved in found.headroom] == ([seen] if seen else [])
    assert not found.worse
    assert ("headroom shrank in 1" in changes.conclusion(found)) == (seen == "worse")


@pytest.mark.parametrize(
    ("before", "after", "seen"),
    [
        (0.2, 0.5, True),
        (0.5, 0.2, True),
        (0.2, 0.25, False),
        (0.001, 0.09, False),
        (0.001, 0.2, True),
        (0.5, math.inf, True),
        (math.nan, math.nan, False),
        (0.5, math.nan, True),
        (None, 0.9, False),
        (0.0, 0.0, False),
    ],
)
def test_a_ratio_that_moved(before: float | None, after: float, seen: bool) -> None:
    one, two = (report(subject("a", "same", cell("forward", "same", ratio))) for ratio in (before, after))
    assert len(between(one, two).ratios) == seen
    assert "ratios moved: 1" in changes.conclusion(between(one, two)) or not seen


def test_versions_and_checks_that_differ() -> None:
    sides = (side("torch_impl", torch="2.14.0"), side("flax_impl", jax="0.10.2", flax="0.12.8"))
    found = between(report(), report(sides=sides, checks=["forward", "loss"]))
    assert [(each.package, each.before, each.after) for each in found.versions] == [
        ("torch", "2.13.0", "2.14.0"),
        ("flax", "", "0.12.8"),
    ]
    assert (found.checks_added, found.checks_removed) == (["loss"], ["gradients"])
    assert "torch_impl torch: 2.13.0, now 2.14.0" in terminal(found)
    assert "flax_impl flax: none, now 0.12.8" in terminal(found)


def test_json_is_plain_whatever_moved() -> None:
    one, two = (report(subject("a", "same", cell("forward", "same", ratio))) for ratio in (0.2, math.inf))
    found = json.loads(changes.as_json(between(one, two)))
    assert found["ratios"][0]["after"] == "inf"
    assert found["nothing"] is False


def test_hostile_names_change_no_rendering() -> None:
    name = "x\n# forged | cell\x1b[2J\n::error::planted <script>"
    one, two = (report(subject(name, "same", cell("forward", status))) for status in ("same", "different"))
    one, two = _with_title(one, name), _with_title(two, name)
    found = between(one, two)
    told, marked = terminal(found), changes.markdown(found)
    assert "\x1b[2J" not in told + marked
    assert not [line for line in (told + marked).splitlines() if line.startswith(("# ", "::"))]
    rows = [line for line in marked.splitlines() if line.startswith("| ") and "forward" in line]
    assert {line.count("|") for line in rows} == {6}
    assert max(map(len, told.splitlines())) <= 80


def _with_title(made: RunReport, title: str) -> RunReport:
    fields: dict[str, Any] = {field: getattr(made, field) for field in made.__struct_fields__}
    return RunReport(**{**fields, "title": title})


def test_of_recordings_what_was_given_then_is_what_is_expected() -> None:
    sides = (side("torch_impl", torch="2.13.0"), side("torch_impl", torch="2.14.0"))
    alike = changes.of_recordings(report(subject("a", "same", cell("forward", "same", 0.01)), sides=sides))
    assert not alike.worse
    assert [each.after for each in alike.versions] == ["2.14.0"]
    moved = report(
        subject("a", "different", cell("forward", "different", 7.0)), sides=sides, status="different", exit_code=1
    )
    found = changes.of_recordings(moved)
    assert found.worse
    assert [(flip.subject, flip.check) for flip in found.flips] == [("", ""), ("a", ""), ("a", "forward")]
    assert [each.after for each in found.ratios] == [7.0]
