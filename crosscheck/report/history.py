"""How runs went over time: a file of JSON Lines, one a run, a picture of them, and a badge of the last."""

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import escape, quoteattr

import msgspec

from crosscheck.report.markup import head, inline, row
from crosscheck.report.model import FAILING, OPEN, ReportStatus, RunReport
from spec import files, text
from spec.errors import UsageError

LARGEST = 2**26
"""Bytes of a history that is read: some hundred thousand runs."""

LABEL = "crosscheck"


class PastRun(msgspec.Struct, frozen=True, kw_only=True):
    """One run, a line of the file. Fields that a later version adds are read over.

    commit: of what was compared, as whoever ran it says. date: when, UTC, ISO 8601. title: what with what. counts:
    subjects by status. headroom: by check, how often its largest difference fits into its bound; where a check has
    several precisions, in the tightest. seconds: that the run took.
    """

    commit: str = ""
    date: str = ""
    title: str = ""
    verdict: str
    status: ReportStatus
    exit_code: int
    counts: dict[str, int] = {}
    comparisons: int = 0
    headroom: dict[str, float] = {}
    seconds: float = 0.0


class History(NamedTuple):
    """The runs of a file, the oldest first. unread: lines that are none, as a run that was killed leaves them."""

    runs: list[PastRun]
    unread: int


def of_report(report: RunReport, commit: str) -> PastRun:
    """The line of a run."""
    headroom: dict[str, float] = {}
    for each in report.headroom:
        # One that is infinite says that nothing differs: JSON has no word for it, and nothing is to be told.
        if math.isfinite(each.times):
            headroom[each.check] = float(f"{min(each.times, headroom.get(each.check, math.inf)):.4g}")
    return PastRun(
        commit=text.admit(commit, text.NAME),
        date=report.made,
        title=text.admit(report.title, text.NAME),
        verdict=text.admit(report.verdict),
        status=report.status,
        exit_code=report.exit_code,
        counts={str(status): count for status, count in report.counts.items()},
        comparisons=report.comparisons,
        headroom=headroom,
        seconds=round(report.seconds, 1),
    )


def append(path: Path, run: PastRun) -> None:
    """Add a line at the end, in one write, so that two runs at once do not mix theirs. Raises UsageError.

    Where the last line has no end, as where its run was killed or the disk was full, the new one begins below it.
    """
    line = msgspec.json.encode(run) + b"\n"
    try:
        target = files.destination(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(target, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            size = os.fstat(handle).st_size
            # A run that was killed leaves the beginning of a line at most.
            if size and os.pread(handle, 1, 0) != b"{":
                raise UsageError(f"{path}: expected a history, a run in each line, got something else")
            torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
            content = b"\n" + line if torn else line
            written = os.write(handle, content)
            if written != len(content):
                raise UsageError(f"{path}: cannot be written: {written} of {len(content)} bytes were")
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from None


def read(path: Path) -> History:
    """What is in the file. Raises UsageError where there is none, or where no line of it is a run's."""
    runs, unread = [], 0
    for line in files.read(path, LARGEST).splitlines():
        if not line.strip():
            continue
        try:
            runs.append(msgspec.json.decode(line, type=PastRun))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            unread += 1
    if not runs:
        raise UsageError(f"{path}: expected a run in each line, as --add writes it, got none in {unread} lines")
    return History(runs, unread)


COLORS = {"same": ("brightgreen", "#2f7d32"), "failing": ("red", "#b3261e"), "open": ("yellow", "#8a5a00")}
"""By what a status comes to: shields' own name, and a color on which white is read."""


def _color(status: ReportStatus) -> tuple[str, str]:
    return COLORS["failing" if status in FAILING else "open" if status in (*OPEN, "not checked") else "same"]


def message(run: PastRun) -> str:
    """What a badge says: the status, and of how many subjects."""
    every = sum(run.counts.values())
    if run.status == "same" or every <= 1:
        return f"{run.status}, {every} experiments" if every > 1 else run.status
    count = run.counts.get(run.status, 0)
    return f"{run.status}, {count} of {every}" if count else run.status


def badge_json(run: PastRun) -> bytes:
    """What shields.io reads at an address: its endpoint schema, version 1."""
    told = {"schemaVersion": 1, "label": LABEL, "message": message(run), "color": _color(run.status)[0]}
    return json.dumps(told).encode() + b"\n"


HEIGHT, PADDING, BASELINE, CHARACTER = 20, 6, 14, 6.6
"""Of the badge, in pixels. The last is what a character of size 11 takes on average; text is set to the width given."""


def badge_svg(run: PastRun) -> bytes:
    """The same as a picture that needs nobody to draw it."""
    words = (LABEL, text.visible(message(run)))
    first, second = (round(len(each) * CHARACTER) for each in words)
    left, right = first + 2 * PADDING, second + 2 * PADDING
    told = f"{words[0]}: {words[1]}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="{HEIGHT}" role="img" '
        f"aria-label={quoteattr(told)}>\n"
        f"<title>{escape(told)}</title>\n"
        f'<rect width="{left + right}" height="{HEIGHT}" rx="3" fill="#444"/>\n'
        f'<path d="M{left} 0h{right - 3}a3 3 0 0 1 3 3v{HEIGHT - 6}a3 3 0 0 1-3 3H{left}z" '
        f'fill="{_color(run.status)[1]}"/>\n'
        '<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">\n'
        f'<text x="{PADDING}" y="{BASELINE}" textLength="{first}">{escape(words[0])}</text>\n'
        f'<text x="{left + PADDING}" y="{BASELINE}" textLength="{second}">{escape(words[1])}</text>\n'
        "</g>\n</svg>\n"
    ).encode()


def rows(runs: Sequence[PastRun]) -> list[tuple[str, ...]]:
    """For a table: when, which commit, the verdict's word, subjects, the tightest check, seconds."""
    made = []
    for run in runs:
        check, times = min(run.headroom.items(), key=lambda item: item[1], default=("", math.nan))
        tightest = f"{times:.3g} times in {check}" if check else "-"
        made.append((run.date, run.commit[:12] or "-", message(run), tightest, f"{run.seconds:.0f} s"))
    return made


def as_json(history: History) -> dict[str, Any]:
    """For --json."""
    return {"runs": msgspec.to_builtins(history.runs), "unread": history.unread}


def markdown(history: History, last: int = 10) -> str:
    """The last runs, for a step summary."""
    lines = ["## History", "", head("when", "commit", "verdict", "headroom", "seconds")]
    lines += [row(*(inline(cell) for cell in each)) for each in rows(history.runs[-last:])]
    if history.unread:
        lines += ["", f"{history.unread} lines are no runs, as one that was killed leaves them."]
    return "\n".join(lines) + "\n"
