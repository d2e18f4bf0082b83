"""What is cut and escaped of foreign text, and how lines are folded."""

import json
import subprocess

import msgspec
import pytest

from spec.text import MESSAGE, admit, command, descriptions, exception, fold, of_json, table, trace, visible
from tests.hostile import HOSTILE, problems

WIDTHS = [None, 130, 80, 60, 40, 20, 5]

everything = pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)


@everything
def test_what_is_shown_is_one_line_that_commands_nothing(hostile: str) -> None:
    shown = visible(hostile)
    assert problems(shown) == []
    assert "\n" not in shown
    assert visible(shown) == shown
    shown.encode()


@everything
@pytest.mark.parametrize("columns", WIDTHS)
def test_folding_brings_no_command_to_a_line_s_start(hostile: str, columns: int | None) -> None:
    for prefix in ("", "name: ", "  "):
        lines = fold(prefix + visible(hostile), columns)
        assert [problems(line) for line in lines] == [[]] * len(lines)
        assert "".join(lines).replace(" ", "") == (prefix + visible(hostile)).replace(" ", "")


@everything
def test_json_says_the_same_and_commands_nothing(hostile: str) -> None:
    whole = hostile.encode("utf-8", "backslashreplace").decode()
    encoded = of_json(msgspec.json.encode({whole: whole}).decode())
    assert problems(encoded) == []
    assert json.loads(encoded) == {whole: whole}


def test_plain_text_is_left_alone() -> None:
    for text in ("", "hello-gru", "at::native, a::b", "# not at all", "C:\\path", "größer ± 1 µs", "1.5 | 2"):
        assert visible(text) == text
        assert admit(text) == text
        assert of_json(json.dumps(text, ensure_ascii=False)) == json.dumps(text, ensure_ascii=False)


@pytest.mark.parametrize("text", ["x" * 20_000_000, "\x1b" * 50_000, "::error::\n" * 5_000], ids=["x", "ESC", "lines"])
@pytest.mark.parametrize("lines", [False, True])
@pytest.mark.parametrize("limit", [300, MESSAGE])
def test_a_long_text_is_cut_once_with_a_note(text: str, limit: int, lines: bool) -> None:
    kept = admit(text, limit, lines)
    assert len(kept) <= limit
    assert f" ... [cut to {limit:,} of {len(text):,} characters] ..." in kept
    assert admit(kept, limit, lines) == kept
    assert problems(kept) == []


def test_both_ends_of_a_long_text_are_kept() -> None:
    kept = admit("beginning" + "x" * 10_000 + "end", 200)
    assert kept.startswith("beginning")
    assert kept.endswith("end")


class Speechless(Exception):
    def __str__(self) -> str:
        raise ValueError("no message")


def test_exceptions_are_bounded_whatever_they_are() -> None:
    assert exception(ValueError("planted")) == "ValueError: planted"
    assert exception(Speechless()) == "Speechless: (its message cannot be had: ValueError)"
    assert len(exception(ValueError("x" * 10**7))) == MESSAGE
    with pytest.raises(ValueError, match="forged") as caught:
        int("x\n::error::forged")
    told = trace(caught.value)
    assert told.startswith("Traceback (most recent call last):\n")
    assert problems(told) == []


def test_a_description_of_any_size_is_bounded() -> None:
    assert descriptions({"torch": 2.13, "device": "cpu"}) == {"torch": "2.13", "device": "cpu"}
    told = descriptions({f"key {i}": "x" * 10**4 for i in range(1000)})
    assert sum(map(len, told.values())) < 20_000
    assert told["..."] == "cut to 29 of 1000 entries"
    assert descriptions(told) == told


@everything
def test_a_command_to_be_copied_reads_as_one_line_and_means_what_it_meant(hostile: str) -> None:
    shown = command(["printf", "%s", hostile])
    assert problems(shown) == []
    assert "\n" not in shown
    if "\x00" in hostile or "\ud800" in hostile:
        return  # No word of a command line can hold them.
    done = subprocess.run(["bash", "-c", shown], capture_output=True, check=True)
    assert done.stdout == hostile.encode("utf-8", "surrogateescape")


ROWS = [
    ["FAIL", "hello-embedding-scale-by-frequency", "in forward, gradients, optimizer, trajectory; 5 checks ok"],
    ["ok", "hello-gru", "9 checks, 0.41 (initialization)"],
    ["UNDERPOWERED", "course-rnn", ""],
]


@pytest.mark.parametrize("columns", WIDTHS)
def test_a_table_cuts_nothing(columns: int | None) -> None:
    shown = table(ROWS, columns)
    for row, lines in zip(ROWS, shown, strict=True):
        assert " ".join(" ".join(lines).split()) == " ".join(" ".join(row).split())
        assert lines[0].lstrip().startswith(row[0])
        if columns is None:
            assert len(lines) == 1
        else:
            # Only a word that is longer than a line may stick out of it.
            longest = max(len(word) for cell in row for word in cell.split()) + 4
            assert all(len(line) <= max(columns, longest, 20) for line in lines)


def test_the_last_cell_is_folded_beneath_its_own_beginning() -> None:
    (lines, *_) = table(ROWS, 80)
    assert len(lines) > 1
    start = lines[0].index("in forward")
    assert all(line[:start].isspace() and not line[start].isspace() for line in lines[1:])
