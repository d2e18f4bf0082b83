"""The history of runs: what is appended is read again, whatever befell the file; the picture and the badge say it."""

import json
import math
import os
import threading
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from made_reports import headroom, report, subject

from crosscheck.report import history
from crosscheck.report.history import PastRun
from crosscheck.report.history_plot import history_plot
from crosscheck.report.model import ReportStatus
from spec.errors import UsageError

TEXT = "{http://www.w3.org/2000/svg}text"


def run(status: ReportStatus = "same", **fields: object) -> PastRun:
    given = {"verdict": "THE SAME", "status": status, "exit_code": 0, "counts": {status: 2}, "seconds": 3.0}
    return PastRun(**{**given, **fields})  # pyright: ignore[reportArgumentType]


def test_a_run_is_one_line_that_says_what_the_report_does(tmp_path: Path) -> None:
    made = report(
        subject("a"),
        subject("b", "different"),
        status="different",
        exit_code=1,
        headroom=[
            headroom("forward", 20.0),
            headroom("forward", 4.0, "float32"),
            headroom("gradients", math.inf),
        ],
    )
    path = tmp_path / "new" / "history.jsonl"
    history.append(path, history.of_report(made, "abc123"))
    assert path.read_text().count("\n") == 1
    (found,) = history.read(path).runs
    assert (found.commit, found.date, found.status, found.exit_code) == ("abc123", made.made, "different", 1)
    assert found.counts == {"same": 1, "different": 1}
    assert found.headroom == {"forward": 4.0}
    assert (found.seconds, found.comparisons) == (12.3, 6)


def test_many_at_once_mix_no_lines(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"

    def add(number: int) -> None:
        for _ in range(20):
            history.append(path, run(commit=f"{number}" * 300))

    threads = [threading.Thread(target=add, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = history.read(path)
    assert (len(found.runs), found.unread) == (100, 0)
    assert all(len(set(each.commit)) == 1 for each in found.runs)


def test_a_torn_line_costs_itself_alone(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    history.append(path, run(commit="first"))
    with path.open("ab") as file:
        file.write(b'{"verdict": "THE SA')
    history.append(path, run(commit="second"))
    found = history.read(path)
    assert [each.commit for each in found.runs] == ["first", "second"]
    assert found.unread == 1
    assert "1 lines are no runs" in history.markdown(found)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe\n", b'{"status": 3}\n', b"[" * 100_000])
def test_a_file_without_a_run_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "history.jsonl"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="expected a run in each line"):
        history.read(path)


def test_what_is_no_file_is_neither_read_nor_written(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(UsageError):
            history.append(path, run())
        with pytest.raises(UsageError):
            history.read(path)


def test_fields_of_a_later_version_are_read_over(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text('{"verdict": "THE SAME", "status": "same", "exit_code": 0, "later": [1]}\n')
    assert history.read(path).runs[0].verdict == "THE SAME"


@pytest.mark.parametrize(
    ("status", "counts", "message", "color"),
    [
        ("same", {"same": 43}, "same, 43 experiments", "brightgreen"),
        ("same", {"same": 1}, "same", "brightgreen"),
        ("different", {"same": 40, "different": 3}, "different, 3 of 43", "red"),
        ("cannot train alike", {"cannot train alike": 1}, "cannot train alike", "red"),
        ("partly checked", {"same": 1, "partly checked": 1}, "partly checked, 1 of 2", "yellow"),
        ("underpowered", {"underpowered": 2}, "underpowered, 2 of 2", "yellow"),
    ],
)
def test_the_badge(status: ReportStatus, counts: dict[str, int], message: str, color: str) -> None:
    last = run(status, counts=counts)
    told = json.loads(history.badge_json(last))
    assert told == {"schemaVersion": 1, "label": "crosscheck", "message": message, "color": color}
    picture = ElementTree.fromstring(history.badge_svg(last))
    assert [each.text for each in picture.iter(TEXT)] == ["crosscheck", message]
    assert picture.get("aria-label") == f"crosscheck: {message}"
    fills = {each.get("fill") for each in picture.iter()}
    assert history.COLORS["same"][1] in fills or color != "brightgreen"


def test_the_picture_shows_every_check_and_says_the_same_twice() -> None:
    runs = [
        run("same", commit="aaaaaaaaaa", headroom={"forward": 20.0, "gradients": 3.0}),
        run("different", commit="<b>&$x_1$", headroom={"forward": 0.5}),
        run("partly checked", commit="", date="2026-11-29T20:00:00Z", headroom={"forward": 0.0}),
    ]
    drawn = history_plot(runs)
    words = "".join(ElementTree.fromstring(drawn).itertext())
    for word in ("forward", "gradients", "the bound", "aaaaaaaa", "<b>&$x_1", "2026-11-29", "same", "failing", "open"):
        assert word in words
    assert history_plot(runs) == drawn
    assert history_plot([run()])
    assert len(history_plot([run(commit=str(number)) for number in range(1000)])) < 200_000
