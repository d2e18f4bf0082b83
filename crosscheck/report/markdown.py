"""report.md: the report for a pull request or a GitHub step summary."""

import statistics
from collections.abc import Iterator, Sequence

from crosscheck.report import rows
from crosscheck.report.markup import code, fence, folded, head, inline, row
from crosscheck.report.model import Cause, ReportCell, RunReport
from crosscheck.report.rows import LABELS

LARGEST = 200_000
"""Bytes of the whole report. GitHub drops a step summary that is over 1 MiB, and nobody reads one that is near it."""

CAUSES_SHARE = 0.55
"""Of these, what causes may take at most."""

TABLE_SHARE = 0.25
"""And the table."""

RESERVED = 500
"""Bytes of them for the lines that say how much had no room."""

SUBJECTS = 12
"""So many of a cause's experiments are named."""

ALSO = 10
"""So many further failures of a cause are listed."""

TRACEBACK = 3_000
"""Characters of a traceback that are shown."""

TRIED = 20
"""Variants tried in vain that are listed."""


def render(report: RunReport, title: str = "crosscheck", level: int = 1) -> str:
    """The report as Markdown, less than `LARGEST` bytes of it; what has no room is counted where it would stand.

    title: before what was compared. level: of the heading, where it is a part of something else.
    """
    marks = "#" * level
    room = _Room(LARGEST)
    room.add(_top(report, f"{marks} {title}"))
    room.add_each(_causes(report, marks), "causes", LARGEST * CAUSES_SHARE)
    room.add(_before_table(report, marks))
    room.add_each(_table(report), "rows", LARGEST * TABLE_SHARE)
    for part in _folded(report):
        room.add(part)
    return room.text()


class _Room:
    """Blocks, each of which is whole in itself, up to so many bytes."""

    def __init__(self, size: int) -> None:
        # What says how much has no room has to have its place too.
        self._left = size - RESERVED
        self._blocks: list[str] = []
        self._dropped = 0

    def add(self, block: str) -> bool:
        """Add it where there is room."""
        size = len(block.encode()) + 1
        if size > self._left:
            self._dropped += 1
            return False
        self._blocks.append(block)
        self._left -= size
        return True

    def add_each(self, blocks: Sequence[str], what: str, limit: float) -> None:
        """Add as many as have room, and say how many have none."""
        begin = self._left
        for count, block in enumerate(blocks):
            if begin - self._left + len(block.encode()) > limit or len(block.encode()) + 1 > self._left:
                self._blocks.append(f"\n{len(blocks) - count} more {what} had no room here: report.json has them.")
                return
            self.add(block)

    def text(self) -> str:
        """All of them."""
        if self._dropped:
            self._blocks.append(f"\n{self._dropped} more parts had no room here: report.json has them.")
        return "\n".join(self._blocks) + "\n"


def _top(report: RunReport, heading: str) -> str:
    lines = [f"{heading}: {code(report.title)}", f"\n**{inline(report.verdict)}**\n"]
    made = f"{report.comparisons} comparisons of {report.elements} values, seed {report.seed}"
    where = f", {inline(report.device)}" if report.device else ""
    lines.append(f"Exit code {report.exit_code}; {made}{where}, {report.seconds:.0f} s.")
    if report.command:
        lines.append(f"\nAgain: {code(report.command)}")
    return "\n".join(lines)


def _causes(report: RunReport, marks: str) -> list[str]:
    """A block each, the first below the heading of all."""
    blocks = [_cause(report, cause, f"{marks}## {number}.") for number, cause in enumerate(report.causes, 1)]
    if not blocks:
        return []
    count = f"{len(blocks)} causes" if len(blocks) > 1 else "One cause"
    return [f"\n{marks}# {count}\n{blocks[0]}", *blocks[1:]]


def _cause(report: RunReport, cause: Cause, heading: str) -> str:
    lines = [f"\n{heading} {LABELS[cause.status].word}: {inline(cause.title)}\n"]
    if len(report.subjects) > 1 and len(cause.subjects) > 1:
        names = ", ".join(map(inline, cause.subjects[:SUBJECTS]))
        more = f" and {len(cause.subjects) - SUBJECTS} more" if len(cause.subjects) > SUBJECTS else ""
        lines.append(f"- experiments: {names}{more}")
    if cause.at_fault:
        lines.append(f"- at fault: {code(cause.at_fault)} ({inline(cause.reason)})")
    if cause.looks_like:
        lines.append(f"- looks like: {code(cause.looks_like)}")
    lines += [f"- source: {code(line.where)} ({code(line.name)})" for line in cause.sources]
    if cause.later:
        lines.append(f"- also fail: {', '.join(map(inline, cause.later))}")
    if cause.reproduce:
        lines.append(f"- reproduce: {code(cause.reproduce)}")
    told = {"at fault", "looks like"} if cause.looks_like else {"at fault"}
    known = [f"- {inline(fact.name)}: {code(fact.text)}" for fact in cause.facts if fact.name not in told]
    inside = "\n".join(known)
    if cause.traceback:
        inside += f"\n\n{fence(cause.traceback[-TRACEBACK:])}"
    if cause.also:
        also = [f"- {code(line)}" for line in cause.also[:ALSO]]
        left = len(cause.also) - len(also) + cause.more
        also += [f"- and {left} more in report-details.json.gz"] if left else []
        inside += "\n\nFurther failures, in order:\n\n" + "\n".join(also)
    if cause.tried:
        tried = [f"- {code(one)}" for one in cause.tried[:TRIED]]
        tried += [f"- and {len(cause.tried) - TRIED} more"] if len(cause.tried) > TRIED else []
        inside += "\n\nTried in vain:\n\n" + "\n".join(tried)
    if inside:
        of = f" of {code(cause.example)}" if len(cause.subjects) > 1 else ""
        lines.append(folded("Values", f"What is known{of}:\n\n{inside}"))
    return "\n".join(lines)


def _before_table(report: RunReport, marks: str) -> str:
    lines = [f"{inline(line)}." for line in report.legend]
    for said, checks in report.remarks.items():
        lines.append(f"ok in {', '.join(map(inline, checks))} beside failures: {inline(said)}.")
    return f"\n{marks}# Checks\n\n" + "  \n".join(lines) + "\n"


def _table(report: RunReport) -> list[str]:
    """A row each, the first below the table's head; a pair's checks are rows, and say what was looked at."""
    if report.kind == "pair":
        cells = report.subjects[0].cells
        found = [
            row(
                inline(cell.check),
                _cell(cell),
                "" if cell.ratio is None else f"{cell.ratio:.2g}",
                inline(cell.reason),
                f"{sum(cell.seconds):.1f}",
            )
            for cell in cells
        ]
        top = head("check", "", "largest, in bounds", "what", "seconds")
    else:
        # What fails is seen without scrolling.
        ordered = sorted(report.subjects, key=lambda subject: not subject.causes)
        found = [row(inline(subject.name), *map(_cell, subject.cells)) for subject in ordered]
        top = head("experiment", *map(inline, report.checks))
    return [f"{top}\n{found[0]}", *found[1:]] if found else []


def _cell(cell: ReportCell) -> str:
    words = rows.in_short(cell)
    return f"**{words}**" if cell.causes else words


def _folded(report: RunReport) -> Iterator[str]:
    """Whatever is for those who want to know more."""
    if report.unchecked:
        entries = [
            f"- {inline(left.subject)} ({', '.join(map(inline, left.checks))}): {code(left.reason)}"
            for left in report.unchecked
        ]
        yield folded("Not checked", "\n".join(entries))
    if report.expected:
        entries = [f"- {code(known.name)}: {code(known.reason)}" for known in report.expected]
        yield folded("Expected", "\n".join(entries))
    if report.notes:
        yield folded("Notes", "\n".join(f"- {code(note)}" for note in report.notes))
    yield folded("Sides", "\n".join(_sides(report)))
    if report.endpoints or report.speeds:
        yield folded("Convergence", "\n".join(_convergence(report)))
    if any(subject.batches for subject in report.subjects):
        yield folded("Batches", "\n".join(_batches(report)))
    if report.headroom:
        yield folded("Headroom", "\n".join(_headroom(report)))
    if report.kind == "experiments":
        yield folded("Seconds", "\n".join(_time(report)))


def _sides(report: RunReport) -> Iterator[str]:
    for side in report.sides:
        versions = ", ".join(f"{name} {version}" for name, version in side.versions.items())
        counted = f", {side.leaves} leaves, {side.numbers:,} numbers" if report.kind == "pair" else ""
        worked = f"{side.seconds:.0f} s in workers; " if report.kind == "experiments" else ""
        yield f"- {code(side.name)}: {code(side.given)}{counted}; {worked}{inline(versions)}"
        if side.machine:
            yield f"  - {inline(', '.join(f'{name} {value}' for name, value in side.machine.items()))}"
    if report.map:
        links = ", ".join(f"{count} {kind}" for kind, count in report.map.links.items())
        yield f"- map: {code(report.map.file)}" + (f", links: {inline(links)}" if links else "")


def _convergence(report: RunReport) -> Iterator[str]:
    """Each endpoint of the ensembles, and how fast they were trained."""
    yield "Means and rates with their 95 % intervals. n: members of each sample. p for SAME: the chance of such"
    yield "evidence where the difference is the margin or more; p for DIFFERENT: where it is the margin or less.\n"
    yield head(
        "experiment", "endpoint", "of", "", "", "difference", "margin", "p for SAME", "p for DIFFERENT", "n", "verdict"
    )
    for one in report.endpoints:
        cells = (
            one.subject,
            one.endpoint,
            " / ".join(one.sides),
            one.first,
            one.second,
            f"{one.difference:.4f}",
            f"{one.margin:.4f}",
            f"{one.same:.2g}",
            f"{one.different:.2g}",
            " and ".join(map(str, one.members)),
            one.word,
        )
        yield row(*map(inline, cells))
    if report.speeds:
        yield "\nTrainings per second in each side's worker, starting up and compiling included.\n"
        yield head("experiment", *(inline(side.name) for side in report.sides), "second / first")
        for speed in report.speeds:
            ratio = speed.second / speed.first
            yield row(inline(speed.subject), f"{speed.first:.0f}", f"{speed.second:.0f}", f"{ratio:.2f}")
        middle = statistics.median(speed.second / speed.first for speed in report.speeds)
        yield row("median", "", "", f"{middle:.2f}")


def _batches(report: RunReport) -> Iterator[str]:
    """What both sides were trained on."""
    yield "Hashes of the first steps' batches, as either side's training was handed them: the same bytes in both.\n"
    precisions = list(dict.fromkeys(precision for subject in report.subjects for precision in subject.batches))
    yield head("experiment", "steps", *map(inline, precisions))
    for subject in report.subjects:
        if subject.batches:
            hashes = (subject.batches.get(precision, "") for precision in precisions)
            yield row(inline(subject.name), str(subject.steps), *(code(each) if each else "" for each in hashes))


def _headroom(report: RunReport) -> Iterator[str]:
    """Where each check comes closest to its bound."""
    yield "How many times the largest difference fits into its bound, where it is tightest.\n"
    yield head("check", "precision", "headroom", "experiment", "tensor", "step")
    for one in report.headroom:
        step = "" if one.step is None else str(one.step)
        cells = (inline(one.check), inline(one.precision), f"{one.times:.3g}")
        yield row(*cells, inline(one.subject), code(one.tensor), step)
    for one in report.envelopes:
        middle = f"{one.median:.2g} of the one-bit envelope in the median over {one.count}"
        yield f"\n{one.precision}: in trajectory losses differ by {middle} trajectories, by {one.largest:.2g} at most."


def _time(report: RunReport) -> Iterator[str]:
    """Where the seconds went."""
    yield "In the workers of either side, several of them side by side.\n"
    yield head("check", *(inline(side.name) for side in report.sides))
    for check in report.checks:
        spent = [cell.seconds for subject in report.subjects for cell in subject.cells if cell.check == check]
        yield row(inline(check), *(f"{sum(seconds[i] for seconds in spent):.1f}" for i in range(len(report.sides))))
    kinds = {kind for side in report.sides for kind in side.overhead}
    for kind in sorted(kinds, key=lambda kind: (kind != "starting", kind)):
        words = "before that, starting" if kind == "starting" else f"of these, {kind}"
        yield row(inline(words), *(f"{side.overhead.get(kind, 0.0):.1f}" for side in report.sides))
    if any(side.compilations for side in report.sides):
        yield row("functions compiled", *(str(side.compilations) for side in report.sides))
    if any(side.reused for side in report.sides):
        yield "\nA check's seconds are those that its recording took, also where an earlier run made it."
    if report.comparing:
        yield f"\nComparing took {report.comparing:.1f} s of the run's {report.seconds:.0f}, while workers went on."
