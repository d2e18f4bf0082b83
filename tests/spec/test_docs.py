"""What the docs and README say of experiments is so."""

import re
from pathlib import Path

import pytest

from spec.experiment import drawn, load, shipped

ROOT = Path(__file__).parents[2]


def course_rows() -> dict[str, list[str]]:
    """The table of the course's rows: row -> the experiments that it names, endings filled in."""
    text = (ROOT / "docs" / "experiments.md").read_text()
    table = text[text.index("| row | in the course | here |") :].partition("\n\n")[0]
    found = {}
    for line in table.splitlines()[2:]:
        row, _, here = (cell.strip() for cell in line.strip("|").split("|"))
        first, *others = re.findall(r"`([\w-]+)`", here)
        known = [first]
        for name in others:
            # `hello-a-b`, `-c` is short for hello-a-c or hello-a-b-c.
            candidates = [name, *(f"{first.rsplit('-', n)[0]}{name}" for n in range(3))]
            known.append(next((c for c in candidates if c in shipped()), name))
        found[row] = known
    return found


def test_the_course_s_rows_are_experiments_that_there_are() -> None:
    rows = course_rows()
    assert list(rows) == [*map(str, range(1, 7)), "6b", *map(str, range(7, 15))]
    assert [name for names in rows.values() for name in names if name not in shipped()] == []


@pytest.mark.parametrize("name", [name for name in shipped() if "row " in load(name).description])
def test_a_row_that_a_description_names_is_in_the_table_with_it(name: str) -> None:
    (row,) = re.findall(r"[Cc]ourse row (\d+b?)", load(name).description)
    assert name in course_rows()[row]


def test_the_readme_s_experiment_is_the_one_that_ships() -> None:
    text = (ROOT / "README.md").read_text()
    found = re.findall(r"^([\w-]+) \(spec (\w{12})\)", text, re.MULTILINE)
    assert found
    assert [(name, load(name).hash) for name, _ in found] == found
    (count,) = re.findall(r"THE SAME: (\d+) experiments", text)
    assert int(count) == len(shipped()) + len(drawn())


def test_the_readme_s_source_lines_are_those_of_what_they_name() -> None:
    """A class, or an attribute where it is set: its difference is shown as crosscheck prints it."""
    text = (ROOT / "README.md").read_text()
    found = re.findall(r"edited/([\w/]+\.py):(\d+)\s+\((\w+)(?:\.(\w+))?\)", text)
    assert found
    for file, number, owner, attribute in found:
        line = (ROOT / file).read_text().splitlines()[int(number) - 1].strip()
        wanted = f"self.{attribute} = " if attribute else f"class {owner}("
        assert line.startswith(wanted), f"README: {file}:{number} is {line!r}, not {wanted!r}"
