"""Causes as GitHub shows them beside the code: workflow commands, at the file and line of what is at fault."""

import os
from collections.abc import Iterator
from pathlib import Path

from crosscheck.report.model import FAILING, OPEN, Cause, RunReport
from spec import text

MOST = 10
"""GitHub shows so many of each level that come from one step, and drops the others silently."""

LONGEST = 4_000
"""Characters of a message."""


def render(report: RunReport, root: Path) -> list[str]:
    """At most MOST commands, one a line: the causes that concern most, and how many are not among them.

    root: of the repository, which files are named from; what lies outside it is named in the message alone.
    """
    causes = [cause for cause in report.causes if cause.status in (*FAILING, *OPEN)]
    if not causes:
        told = "; ".join([report.verdict, _again(report.command)])
        return [_command("error", {"title": "crosscheck"}, told)] if report.exit_code else []
    shown = causes if len(causes) <= MOST else causes[: MOST - 1]
    lines = [_of(cause, root) for cause in shown]
    if len(causes) > MOST:
        others = [cause.title for cause in causes[MOST - 1 :]]
        told = "\n".join([f"{len(others)} more, all in the step summary and in report.json:", *others])
        level = "error" if any(cause.status in FAILING for cause in causes[MOST - 1 :]) else "warning"
        lines.append(_command(level, {"title": "crosscheck: more"}, told))
    return lines


def _of(cause: Cause, root: Path) -> str:
    places = [(inside, source) for source in cause.sources if (inside := _inside(source.file, root))]
    properties: dict[str, str] = {}
    if places:
        inside, source = places[0]
        properties["file"] = inside
        if source.line:
            properties["line"] = str(source.line)
    properties["title"] = f"crosscheck: {cause.check}: {cause.status}"
    level = "error" if cause.status in FAILING else "warning"
    return _command(level, properties, "\n".join(_said(cause, places[0][1].where if places else "")))


def _said(cause: Cause, shown: str) -> Iterator[str]:
    yield text.visible(cause.title)
    if cause.at_fault:
        yield text.visible(f"at fault: {cause.at_fault}" + (f" ({cause.reason})" if cause.reason else ""))
    if cause.looks_like:
        yield text.visible(f"looks like: {cause.looks_like}")
    said = ("at fault", "looks like") if cause.at_fault or cause.looks_like else ()
    yield from (text.visible(f"{fact.name}: {fact.text}") for fact in cause.facts if fact.name not in said)
    elsewhere = [source.where for source in cause.sources if source.where != shown]
    if elsewhere:
        yield text.visible(f"see also: {', '.join(elsewhere)}")
    yield text.visible(_again(cause.reproduce))


def _again(command: str) -> str:
    return f"reproduce: {command}" if command else "there is no command that makes it again"


def _inside(file: str, root: Path) -> str:
    """The file's name from the root, with slashes; empty where it is not below it, or not there."""
    if not file:
        return ""
    found, base = Path(os.path.abspath(file)), Path(os.path.abspath(root))
    return found.relative_to(base).as_posix() if found.is_relative_to(base) and found.is_file() else ""


def _command(level: str, properties: dict[str, str], message: str) -> str:
    """As runners read it: what would end a message or a property is written as its code."""
    given = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
    return f"::{level} {given}::{_data(text.admit(message, LONGEST, lines=True))}"


def _data(value: str) -> str:
    return value.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(value: str) -> str:
    return _data(text.visible(value)).replace(":", "%3A").replace(",", "%2C")
