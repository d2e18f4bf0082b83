"""What changed between two reports: verdicts that flipped, headroom that shrank, ratios that moved, versions."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import msgspec
from rich.console import Console

from crosscheck.report import data
from crosscheck.report.markup import head, inline, row
from crosscheck.report.model import FAILING, OPEN, ReportSide, ReportStatus, RunReport
from crosscheck.report.rows import say
from spec import text

SCHEMA_VERSION = 1

MOVED = 1.5
"""A ratio or headroom that is so many times what it was has moved: on another machine they move by a few per cent."""

WORTH_TELLING = 0.1
"""Where both ratios are below it, whatever moves is far from its bound."""

SHOWN = 40
"""Rows of a kind that are shown; the JSON has them all."""

Sense = Literal["worse", "better", "other"]


class Flip(msgspec.Struct, frozen=True, kw_only=True):
    """A verdict that is another now. subject: empty for the whole run. check: empty for the subject's own.

    sense: worse where less is known to be right than before, see `rank`.
    """

    subject: str
    check: str
    before: ReportStatus
    after: ReportStatus
    sense: Sense


class MovedFigure(msgspec.Struct, frozen=True, kw_only=True):
    """A figure. Of headroom: how often the largest difference fits into its bound, in all of a check's; else the ratio
    of a cell. subject: of headroom, where it is nearest now.
    """

    subject: str
    check: str
    precision: str
    before: float
    after: float
    sense: Sense


class VersionChange(msgspec.Struct, frozen=True, kw_only=True):
    """side: its name in the later report. before, after: empty where there was or is none."""

    side: str
    package: str
    before: str
    after: str


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """From one report to a later one. before, after: the two verdicts. worse: whether a verdict got worse.

    added, removed: subjects; checks_added, checks_removed: of all subjects. headroom, ratios: see `MovedFigure`.
    before_made, after_made, before_title, after_title: which reports they are.
    """

    schema_version: int = SCHEMA_VERSION
    before: str
    after: str
    before_made: str = ""
    after_made: str = ""
    before_title: str = ""
    after_title: str = ""
    worse: bool
    flips: list[Flip] = []
    headroom: list[MovedFigure] = []
    ratios: list[MovedFigure] = []
    versions: list[VersionChange] = []
    added: list[str] = []
    removed: list[str] = []
    checks_added: list[str] = []
    checks_removed: list[str] = []

    @property
    def nothing(self) -> bool:
        """Whether nothing of all this changed."""
        return not any(
            (
                *(self.flips, self.headroom, self.ratios, self.versions),
                *(self.added, self.removed, self.checks_added, self.checks_removed),
            )
        )


def rank(status: ReportStatus) -> int:
    """How bad it is: 2 for what is known to be wrong, 1 for what is not known to be right, 0 else."""
    return 2 if status in FAILING else 1 if status in (*OPEN, "not checked") else 0


def between(before: RunReport, after: RunReport) -> Changes:
    """What changed from one to the other. A verdict that there was or is none of is added or removed, and no flip."""
    flips = list(_flips(before, after))
    one, two = ({subject.name: subject for subject in report.subjects} for report in (before, after))
    return Changes(
        before=before.verdict,
        after=after.verdict,
        before_made=before.made,
        after_made=after.made,
        before_title=before.title,
        after_title=after.title,
        worse=any(flip.sense == "worse" for flip in flips),
        flips=flips,
        headroom=list(_headroom(before, after)),
        ratios=list(_ratios(before, after)),
        versions=list(_versions(before.sides, after.sides)),
        added=[name for name in two if name not in one],
        removed=[name for name in one if name not in two],
        checks_added=[check for check in after.checks if check not in before.checks],
        checks_removed=[check for check in before.checks if check not in after.checks],
    )


def _flip(subject: str, check: str, before: ReportStatus, after: ReportStatus) -> Iterator[Flip]:
    if before != after:
        yield Flip(subject=subject, check=check, before=before, after=after, sense=_sense(rank(before), rank(after)))


def _sense(before: float, after: float) -> Sense:
    """Where more is worse."""
    return "worse" if after > before else "better" if after < before else "other"


def _flips(before: RunReport, after: RunReport) -> Iterator[Flip]:
    yield from _flip("", "", before.status, after.status)
    earlier = {subject.name: subject for subject in before.subjects}
    for subject in after.subjects:
        if (was := earlier.get(subject.name)) is None:
            continue
        yield from _flip(subject.name, "", was.status, subject.status)
        cells = {cell.check: cell for cell in was.cells}
        for cell in subject.cells:
            if cell.check in cells:
                yield from _flip(subject.name, cell.check, cells[cell.check].status, cell.status)


def _headroom(before: RunReport, after: RunReport) -> Iterator[MovedFigure]:
    earlier = {(each.check, each.precision): each.times for each in before.headroom}
    for each in after.headroom:
        was = earlier.get((each.check, each.precision))
        if was is not None and _has_moved(was, each.times) and min(was, each.times) <= 1 / WORTH_TELLING:
            yield MovedFigure(
                subject=each.subject,
                check=each.check,
                precision=each.precision,
                before=was,
                after=each.times,
                sense=_sense(each.times, was),
            )


def _ratios(before: RunReport, after: RunReport) -> Iterator[MovedFigure]:
    earlier = {(subject.name, cell.check): cell.ratio for subject in before.subjects for cell in subject.cells}
    found = []
    for subject in after.subjects:
        for cell in subject.cells:
            was = earlier.get((subject.name, cell.check))
            if was is None or cell.ratio is None or max(was, cell.ratio) < WORTH_TELLING:
                continue
            if _has_moved(was, cell.ratio):
                sense = _sense(was, cell.ratio)
                found.append(
                    MovedFigure(
                        subject=subject.name,
                        check=cell.check,
                        precision="",
                        before=was,
                        after=cell.ratio,
                        sense=sense,
                    )
                )
    # Those that came nearest to their bounds first.
    yield from sorted(found, key=lambda each: -each.after)


def _has_moved(before: float, after: float) -> bool:
    """Also from and to 0 or infinity; what is no number has moved where it was one."""
    if math.isnan(before) or math.isnan(after):
        return math.isnan(before) != math.isnan(after)
    low, high = sorted((before, after))
    return low != high and high >= MOVED * low


def _versions(before: Sequence[ReportSide], after: Sequence[ReportSide]) -> Iterator[VersionChange]:
    for was, side in zip(before, after, strict=True):
        for one, two in ((was.versions, side.versions), (was.machine, side.machine)):
            yield from (
                VersionChange(side=side.name, package=name, before=one.get(name, ""), after=two.get(name, ""))
                for name in _names(one, two)
                if one.get(name, "") != two.get(name, "")
            )


def _names(one: Mapping[str, str], two: Mapping[str, str]) -> list[str]:
    return list(dict.fromkeys([*one, *two]))


def of_recordings(report: RunReport) -> Changes:
    """Of two recordings of one implementation, compared: what it gave then is what is expected now."""
    flips = [*_flip("", "", "same", report.status)]
    moved = []
    for subject in report.subjects:
        flips += _flip(subject.name, "", "same", subject.status)
        for cell in subject.cells:
            if rank(cell.status):
                flips += _flip(subject.name, cell.check, "same", cell.status)
            if cell.ratio is not None and not cell.ratio < WORTH_TELLING:
                ratio = {"before": 0.0, "after": cell.ratio, "sense": "worse"}
                moved.append(MovedFigure(subject=subject.name, check=cell.check, precision="", **ratio))
    one, two = report.sides
    return Changes(
        before="what the first recordings hold",
        after=report.verdict,
        before_title=one.name,
        after_title=two.name,
        after_made=report.made,
        worse=any(flip.sense == "worse" for flip in flips),
        flips=flips,
        ratios=sorted(moved, key=lambda each: -each.after),
        versions=list(_versions([one], [two])),
    )


def as_json(changes: Changes) -> bytes:
    """Its fields, and `nothing`."""
    return data.encode({**msgspec.to_builtins(changes), "nothing": changes.nothing}, indent=2) + b"\n"


def conclusion(changes: Changes) -> str:
    """It in a line."""
    if changes.nothing:
        return "nothing changed"
    parts = []
    for sense in ("worse", "better", "other"):
        count = sum(flip.sense == sense for flip in changes.flips)
        if count:
            parts.append(f"{count} verdict{'s' if count > 1 else ''} {'changed' if sense == 'other' else sense}")
    shrank = sum(moved.sense == "worse" for moved in changes.headroom)
    for count, what in (
        (shrank, "headroom shrank in"),
        (len(changes.ratios), "ratios moved:"),
        (len(changes.versions), "versions differ:"),
        (len(changes.added), "subjects added:"),
        (len(changes.removed), "subjects removed:"),
        (len(changes.checks_added), "checks added:"),
        (len(changes.checks_removed), "checks removed:"),
    ):
        parts += [f"{what} {count}"] if count else []
    return "; ".join(parts or ["only headroom grew"])


def sections(changes: Changes) -> Iterator[tuple[str, Sequence[str], list[tuple[str, ...]]]]:
    """For tables: what each is of, its header, and its rows, those first that matter most."""
    order = {"worse": 0, "better": 1, "other": 2}
    flips = sorted(changes.flips, key=lambda flip: order[flip.sense])
    yield (
        "verdicts",
        ("subject", "check", "before", "now", ""),
        [
            (
                flip.subject or "all of it",
                flip.check,
                flip.before,
                flip.after,
                "" if flip.sense == "other" else flip.sense,
            )
            for flip in flips
        ],
    )
    headroom = sorted(changes.headroom, key=lambda moved: moved.after)
    yield (
        "headroom, in times the difference fits into its bound",
        ("check", "precision", "before", "now", "nearest in"),
        [(m.check, m.precision, _figure(m.before), _figure(m.after), m.subject) for m in headroom],
    )
    yield (
        "ratios, the largest difference in units of its bound",
        ("subject", "check", "before", "now"),
        [(m.subject, m.check, _figure(m.before), _figure(m.after)) for m in changes.ratios],
    )
    yield (
        "versions",
        ("side", "of", "before", "now"),
        [(v.side, v.package, v.before or "none", v.after or "none") for v in changes.versions],
    )
    for words, names in (
        ("subjects added", changes.added),
        ("subjects removed", changes.removed),
        ("checks added", changes.checks_added),
        ("checks removed", changes.checks_removed),
    ):
        yield words, ("name",), [(name,) for name in names]


def _figure(value: float) -> str:
    return f"{value:.2g}" if value < 100 else f"{value:.0f}"


def terminal(changes: Changes, console: Console) -> None:
    """Print what changed, a line each, the conclusion last."""
    say(console, f"before: {_which(changes.before_title, changes.before_made)}: {changes.before}")
    say(console, f"now: {_which(changes.after_title, changes.after_made)}: {changes.after}")
    for title, _, rows in sections(changes):
        if not rows:
            continue
        say(console, title, "bold")
        for line in rows[:SHOWN]:
            say(console, f"  {_in_words(line)}", "bold red" if line[-1] == "worse" else None, indent=4)
        if len(rows) > SHOWN:
            say(console, f"  and {len(rows) - SHOWN} more, all with --json")
    say(console, conclusion(changes), "bold red" if changes.worse else "bold green")


def _in_words(line: tuple[str, ...]) -> str:
    if len(line) == 1:
        return line[0]
    first, second, before, after, *more = line
    name = " ".join(word for word in (first, second) if word)
    return f"{name}: {before}, now {after}" + "".join(f" ({word})" for word in more if word)


def _which(title: str, made: str) -> str:
    return ", ".join(word for word in (title, made) if word) or "(unnamed)"


def markdown(changes: Changes) -> str:
    """For a step summary."""
    lines = ["## What changed", "", f"**{inline(conclusion(changes))}**", ""]
    lines += [f"- before: {inline(changes.before)} ({inline(changes.before_made or 'unnamed')})"]
    lines += [f"- now: {inline(changes.after)} ({inline(changes.after_made or 'unnamed')})"]
    for title, names, rows in sections(changes):
        if not rows:
            continue
        lines += ["", f"### {title}", "", head(*(name or "&nbsp;" for name in names))]
        lines += [row(*(_marked(cell) for cell in line)) for line in rows[:SHOWN]]
        if len(rows) > SHOWN:
            lines += ["", f"and {len(rows) - SHOWN} more"]
    return "\n".join(lines) + "\n"


def _marked(cell: str) -> str:
    return f"**{cell}**" if cell == "worse" else inline(text.visible(cell)) if cell else ""
