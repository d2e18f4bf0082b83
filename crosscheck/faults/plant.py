"""A copy of an implementation with a fault in it."""

import ast
import importlib.util
import shutil
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from crosscheck.checks import LADDER
from crosscheck.faults import given
from crosscheck.faults.fault import Edit, Fault
from spec.errors import UsageError


def label(fault: Fault) -> str:
    """What tells a fault from all others."""
    return f"{fault.implementation}/{fault.name}"


def choose(faults: Iterable[Fault], patterns: Iterable[str]) -> list[Fault]:
    """Those whose name, with or without the implementation before it, matches one of the patterns; all without any.

    Raises UsageError for a pattern that matches none.
    """
    faults = list(faults)
    chosen = set()
    for pattern in patterns:
        found = {label(fault) for fault in faults if _matches(fault, pattern)}
        if not found:
            raise UsageError(f"faults: expected names of planted faults (see --list), got {pattern!r}")
        chosen |= found
    return [fault for fault in faults if not patterns or label(fault) in chosen]


def _matches(fault: Fault, pattern: str) -> bool:
    return fnmatchcase(fault.name, pattern) or fnmatchcase(label(fault), pattern)


def verify(faults: Sequence[Fault]) -> None:
    """Raise UsageError where the table asks for what there is not."""
    known = set(given.names())
    checks = {check.NAME: check for check in LADDER}
    seen: set[str] = set()
    for fault in faults:
        name = label(fault)
        if name in seen:
            raise UsageError(f"{name}: expected each fault once, got it twice")
        seen.add(name)
        if fault.experiment not in known:
            expected = "a shipped name or one of crosscheck/faults/experiments"
            raise UsageError(f"{name}: experiment: expected {expected}, got {fault.experiment!r}")
        check = checks.get(fault.check)
        if check is None or fault.precision not in check.PRECISIONS:
            raise UsageError(f"{name}: check: expected one that runs in {fault.precision}, got {fault.check!r}")
        if reason := check.inapplicable(given.load(fault.experiment)):
            raise UsageError(f"{name}: expected {fault.check} to run on {fault.experiment}, got: {reason}")


def source(implementation: str) -> Path:
    """The directory of an installed package, which is not imported for that. Raises UsageError."""
    found = importlib.util.find_spec(implementation)
    if found is None or not found.submodule_search_locations:
        raise UsageError(f"faults: expected an importable package, got {implementation!r}")
    return Path(next(iter(found.submodule_search_locations)))


def edited(fault: Fault, package: Path) -> dict[str, str]:
    """The files that the fault changes, as they are with it.

    Raises UsageError where a place or the text to replace in it is not there, or is there twice, or where what comes of
    it is not Python.
    """
    texts: dict[str, str] = {}
    for edit in fault.edits:
        path = package / edit.file
        text = texts[edit.file] if edit.file in texts else path.read_text() if path.is_file() else ""
        begin, end = _span(fault, text, edit)
        found = text.count(edit.old, begin, end) if edit.old else 0
        if found != 1:
            got = f"{found} times" if found else "no such text"
            raise UsageError(f"{label(fault)}: expected to find once in {edit.place}: {edit.old!r}, got {got}")
        texts[edit.file] = text[:begin] + text[begin:end].replace(edit.old, edit.new) + text[end:]
        if texts[edit.file] == text:
            raise UsageError(f"{label(fault)}: expected an edit of {edit.place}, got the same text again: {edit.old!r}")
    for file, text in texts.items():
        try:
            ast.parse(text)
        except SyntaxError as error:
            raise UsageError(f"{label(fault)}: expected Python, got in {file}: {error}") from None
    return texts


def definitions(text: str) -> list[tuple[str, int, int]]:
    """Functions and classes of a source, those inside of others too: the name with dots, where it begins and ends."""
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found: list[tuple[str, int, int]] = []

    def visit(node: ast.AST, owner: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                first = min([child.lineno, *(decorator.lineno for decorator in child.decorator_list)])
                found.append((owner + child.name, starts[first - 1], starts[child.end_lineno or child.lineno]))
                visit(child, f"{owner}{child.name}.")
            else:
                visit(child, owner)

    visit(ast.parse(text), "")
    return found


def _span(fault: Fault, text: str, edit: Edit) -> tuple[int, int]:
    """Where an edit's place begins and ends in the file."""
    name = edit.place.partition(":")[2]
    if not name:
        return 0, len(text)
    try:
        spans = [(begin, end) for found, begin, end in definitions(text) if found == name]
    except SyntaxError as error:
        raise UsageError(f"{label(fault)}: expected Python, got in {edit.file}: {error}") from None
    if len(spans) != 1:
        got = f"{len(spans)} of them" if spans else "none"
        raise UsageError(f"{label(fault)}: expected one {name} in {edit.file}, got {got}")
    return spans[0]


def plant(fault: Fault, package: Path, directory: Path) -> Path:
    """Copy the package into the directory with the fault's edits in it; returns the copy. Raises as `edited` does."""
    texts = edited(fault, package)
    copy = directory / package.name
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for file, text in texts.items():
        (copy / file).write_text(text)
    return copy
