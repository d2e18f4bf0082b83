"""Versions that are here, against those that were tried: the files of constraints/, and what the project asks for."""

import platform
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from crosscheck.cli.doctor.line import DoctorLine
from spec import requirements, text

ROOT = Path(__file__).resolve().parents[3]
"""Where the packages lie: the project's folder, or what pip has installed them into."""

CONSTRAINTS = (ROOT / "constraints", Path(__file__).parent / "constraints")
"""The folder of what was tried, in a clone and in a wheel."""

EXTRAS = ("torch", "flax", "crosscheck")
"""What a comparison of both sides needs, beside what nothing works without."""

BESIDE = {"jax": "jaxlib"}
"""Packages that nobody asks for by name, and without which another is nothing."""


class TriedVersions(NamedTuple):
    """The versions in one file of constraints/. python: "3.11". lowest: whether they are the oldest that work."""

    python: str
    lowest: bool
    versions: dict[str, str]


def tried() -> list[TriedVersions]:
    """All of them; none where the files are not there."""
    folder = next((folder for folder in CONSTRAINTS if folder.is_dir()), None)
    found = []
    for path in sorted(folder.glob("*.txt")) if folder else []:
        python = path.stem.removeprefix("lowest-")
        if not re.fullmatch(r"[\d.]+", python):  # What the documentation is built with.
            continue
        # Names are one whatever their case: pip freeze writes them as their authors do.
        pins = [line.lower().split("==") for line in path.read_text().splitlines() if re.match(r"[\w.-]+==", line)]
        found.append(TriedVersions(python, python != path.stem, dict(pins)))
    return found


def needed() -> dict[str, str]:
    """The packages, each with the extra that it is of; empty for what nothing works without."""
    found = {}
    for requirement, extra in _requirements():
        name = re.match(r"[\w.-]+", requirement)
        if name and extra in ("", *EXTRAS):
            found.setdefault(name[0], extra)
            found |= {BESIDE[name[0]]: extra} if name[0] in BESIDE else {}
    return found


def _requirements() -> Iterator[tuple[str, str]]:
    file = ROOT / "pyproject.toml"
    if file.is_file():
        project = tomllib.loads(file.read_text())["project"]
        yield from ((each, "") for each in project["dependencies"])
        for extra, listed in project["optional-dependencies"].items():
            yield from ((each, extra) for each in listed)
        return
    try:
        listed = metadata.requires("ohlol") or []
    except metadata.PackageNotFoundError:
        listed = list(requirements.PACKAGES)
    for each in listed:
        extra = re.search(r"extra *== *['\"]([\w-]+)", each)
        yield each, extra[1] if extra else ""


def lines() -> Iterator[DoctorLine]:
    """A line for Python, and for each package."""
    files = tried()
    packages = needed()
    found = {name: installed(name) for name in packages}
    yield python(files, platform.python_version())
    for name, extra in packages.items():
        yield package(name, extra, found[name], files, f"{sys.version_info.major}.{sys.version_info.minor}")
    yield from together(found)


def python(files: Sequence[TriedVersions], version: str) -> DoctorLine:
    """Of the Python that runs this."""
    known = sorted({file.python for file in files}, key=numbers)
    if not known or ".".join(version.split(".")[:2]) in known:
        return DoctorLine(group="versions", name="Python", status="ok", said=version)
    return DoctorLine(
        group="versions",
        name="Python",
        status="warn",
        said=f"{version}, which nobody has tried; {', '.join(known)} were",
        fix=f"take Python {known[0]}: python{known[0]} -m venv .venv",
    )


def package(name: str, extra: str, version: str | None, files: Sequence[TriedVersions], python: str) -> DoctorLine:
    """Of one package. version: None where it is not installed. python: as in the files' names."""
    made = [(file, file.versions[name]) for file in files if name in file.versions]
    of_this = [(file, found) for file, found in made if file.python == python]
    known = sorted({found for _, found in made}, key=numbers)
    wanted = next((found for file, found in of_this if not file.lowest), known[-1] if known else "")
    pinned = f"pip install '{name}=={wanted}'" if wanted else f"pip install {name}"
    if version is None:
        command = f'pip install "ohlol[{extra}]"' if extra else "pip install ohlol"
        # Frameworks have lines of their own, which know whether there is a way without them.
        side = f"{extra}{requirements.SUFFIX}" in requirements.EXTRAS
        status = "warn" if side else "fail"
        return DoctorLine(
            group="versions", name=name, status=status, said="not installed", fix=f"{command}, or {pinned}"
        )
    shown = text.admit(version, text.NAME // 5)
    public = version.partition("+")[0]
    if not made:
        return DoctorLine(group="versions", name=name, status="ok", said=f"{shown}; no other was written down as tried")
    if public in [found for _, found in of_this]:
        return DoctorLine(group="versions", name=name, status="ok", said=f"{shown}, tried with Python {python}")
    if public in known:
        pythons = sorted({file.python for file, found in made if found == public}, key=numbers)
        return DoctorLine(
            group="versions", name=name, status="ok", said=f"{shown}, tried with Python {', '.join(pythons)}"
        )
    if numbers(public) < numbers(known[0]):
        return DoctorLine(
            group="versions",
            name=name,
            status="fail",
            said=f"{shown}, expected {known[0]} or newer",
            fix=f"{pinned}, which was tried",
        )
    said = f"{shown}, which nobody has tried; {', '.join(known)} were"
    return DoctorLine(
        group="versions", name=name, status="warn", said=said, fix=f"where results are odd, go back: {pinned}"
    )


def installed(name: str) -> str | None:
    """A package's version; None where it is not there."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def together(found: Mapping[str, str | None]) -> Iterator[DoctorLine]:
    """Packages of one project that must be of one version. found: versions by package."""
    for name, other in BESIDE.items():
        own, others = found.get(name), found.get(other)
        if own and others and numbers(own) < numbers(others):
            yield DoctorLine(
                group="versions",
                name=f"{name} and {other}",
                status="fail",
                said=f"{name} {own} with {other} {others}, expected {other} no newer than {name}",
                fix=f"pip install '{name}=={own}' '{other}=={own}'",
            )


def numbers(version: str) -> tuple[int, ...]:
    """What versions are ordered by: the numbers of the release, with what comes before it ("rc1") below it."""
    release = re.match(r"\d+(\.\d+)*", version)
    if not release:
        return ()
    given = tuple(int(part) for part in release[0].split("."))
    while given and given[-1] == 0:
        given = given[:-1]
    early = re.match(r"\.?(a|b|rc|dev)", version[release.end() :])
    return (*given[:-1], given[-1] - 1, 10**9) if early and given else given
