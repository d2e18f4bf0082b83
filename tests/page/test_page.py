"""report.html: well-formed, whole, fetching nothing, and of one structure whatever texts it is given."""

import base64
import hashlib
import re
import time
from collections import Counter
from functools import cache
from html.parser import HTMLParser

import msgspec
import numpy as np
import pytest
from hostile import HOSTILE, problems
from page import made_reports

from crosscheck.comparison import DifferenceGrowth
from crosscheck.report.model import FAILING, ReportStatus
from crosscheck.report.observed import ByEquations, Observed, Predicted
from crosscheck.report.page import pictures, render
from crosscheck.report.page.beside import Beside
from crosscheck.report.page.vector import Drawer

VOID = {"meta", "link", "input", "br", "path", "image"}
"""Elements without an end; the last two are SVG's, which end themselves."""


class Structure(HTMLParser):
    """What a page consists of. Asserts that its elements are nested."""

    def __init__(self, page: bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(page.decode())
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), (tag, attrs)
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_data(self, data: str) -> None:
        self.text += data

    @property
    def shape(self) -> Counter[tuple[str, ...]]:
        """Elements by their names and those of their attributes, and classes."""
        return Counter((tag, attrs.get("class", ""), *sorted(attrs)) for tag, attrs in self.elements)

    def of(self, tag: str) -> list[dict[str, str]]:
        return [attrs for name, attrs in self.elements if name == tag]


FURTHER = [Beside("faults", "Planted faults", "faults.json", "190 of 190 seen", ("fault", "seen by"), (("a", "b"),))]


def observed(text: str = "Predicted string: ") -> Observed:
    weights = np.eye(3)
    rows = [Predicted(n, f"{text}{'o' * n}", f"{text}{'o' * min(n, 3)}") for n in range(1, 30)]
    return Observed(rows, (weights, weights), {"loss_auc": (np.arange(9.0), np.arange(9.0) + 1)})


def whole(made: made_reports.RunReport, text: str = "Predicted string: ") -> bytes:
    return render.render(made, {one.name: observed(text) for one in made.subjects}, FURTHER)


@pytest.mark.parametrize("name", [name for name in made_reports.PAGES if name != "full"])
def test_a_page_is_well_formed_and_leads_nowhere_else(name: str) -> None:
    page = Structure(whole(made_reports.PAGES[name]()))
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    links = [attrs["href"] for attrs in page.of("a")]
    assert links
    assert {link[0] for link in links} == {"#"}
    assert {link[1:] for link in links} <= set(ids)
    for tag, attrs in page.elements:
        assert "style" not in attrs, tag
        assert not [name for name in attrs if name.startswith("on")], tag
        for fetched in ("src", "srcset", "xlink:href", "data", "action"):
            assert fetched not in attrs, tag
    assert {attrs["href"][:22] for attrs in page.of("image")} == {"data:image/png;base64,"}
    assert [attrs["href"] for attrs in page.of("link")] == ["data:,"]


def test_one_style_sheet_and_one_script_may_run_and_nothing_is_fetched() -> None:
    page = whole(made_reports.failing()).decode()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    allowed = dict(part.split(" ", 1) for part in policy.replace("&#39;", "'").split("; "))
    for element, name in (("style", "style-src"), ("script", "script-src")):
        (inside,) = re.findall(rf"<{element}>(.*?)</{element}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert allowed.pop(name) == f"'sha256-{digest}'"
    assert allowed == {
        "default-src": "'none'", "img-src": "data:", "base-uri": "'none'", "form-action": "'none'",
    }  # fmt: skip


@cache
def plain_shape() -> Counter[tuple[str, ...]]:
    return Structure(whole(made_reports.everywhere("word"), "word")).shape


@pytest.mark.parametrize("name", HOSTILE)
def test_no_text_changes_the_structure(name: str) -> None:
    """The same elements, attributes and classes as with a plain word in its place."""
    text = HOSTILE[name]
    rendered = whole(made_reports.everywhere(text), text)
    assert Structure(rendered).shape == plain_shape()
    assert problems(rendered.decode()) == []


def test_a_text_that_is_not_escaped_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    part = render._part
    monkeypatch.setattr(
        render, "_part", lambda name: part(name).replace("{{ report.verdict }}", "{{ report.verdict|safe }}")
    )
    render._template.cache_clear()
    try:
        with pytest.raises(AssertionError):
            test_no_text_changes_the_structure("HTML")
    finally:
        render._template.cache_clear()


def test_a_verdict_leads_to_its_cause_with_one_link() -> None:
    page = Structure(render.render(made_reports.failing()))
    header = page.elements[: next(at for at, (tag, _) in enumerate(page.elements) if tag == "main")]
    assert [attrs["href"] for tag, attrs in header if tag == "a"][1] == "#cause-1"
    opened = [attrs for attrs in page.of("details") if attrs.get("class", "").startswith("cause")]
    assert ["open" in attrs for attrs in opened] == [True]
    for said in ("flax_impl/gru.py:31", "as if the update gate were negated", "python -m crosscheck hello-0 --checks"):
        assert page.text.index(said) < page.text.index("Experiments and checks")


def test_thirty_five_failing_experiments_lead_with_one_cause() -> None:
    made = made_reports.failing(35, 43, tensors=0)
    rendered = render.render(made)
    page = Structure(rendered)
    assert len(rendered) < render.LARGEST
    header = page.text[: page.text.index("comparisons of")]
    assert header.count("every GRU, forward, from rnn.h_l0 on: 35 experiments") == 1
    assert "hello-3" not in header


@pytest.mark.parametrize("name", ["passing", "failing"])
def test_what_it_says_is_what_the_report_says(name: str) -> None:
    made = made_reports.PAGES[name]()
    page = Structure(render.render(made))
    rows = [attrs for attrs in page.of("tr") if "data-name" in attrs]
    assert [(row["data-name"], row["data-status"]) for row in rows] == [(one.name, one.status) for one in made.subjects]
    assert made.verdict in page.text
    assert f"{made.comparisons:,} comparisons of {made.elements:,} values" in page.text.replace("\n", " ")
    cells = [
        attrs["class"] for attrs in page.of("td") if attrs.get("class") in {tone.name for tone in render.TONES.values()}
    ]
    expected = Counter(render.TONES[cell.status].name for one in made.subjects for cell in one.cells)
    assert Counter(cells) == expected


def test_a_cause_has_the_stages_up_to_which_all_is_well_and_from_which_on_it_is_not() -> None:
    made = made_reports.failing()
    rendered = render.render(made).decode()
    (label,) = re.findall(r'aria-label="(Difference of each stage[^"]*)"', rendered)
    assert "of hello-0. 3 of 4 beyond their bounds, rnn.h_l0 first; wrong in itself: rnn.h_l0." in label
    picture = rendered[rendered.index(label) :].partition("</svg>")[0]
    assert re.findall(r">(embedding|rnn\.h_l0|rnn\.h_n|logits)<", picture) == [
        "embedding",
        "rnn.h_l0",
        "rnn.h_n",
        "logits",
    ]
    # A dot for each of the three that are beyond.
    assert len(reds(rendered, picture)) == 3
    alone = msgspec.structs.replace(made.causes[0], growth=None)
    assert "Difference of each stage" not in render.render(msgspec.structs.replace(made, causes=[alone])).decode()


def reds(style_sheet: str, picture: str) -> list[str]:
    """The red lines of a picture."""
    red = set(re.findall(r"\.(\w+)\{[^}]*stroke:var\(--bad\)", style_sheet))
    paths = [dict(re.findall(r'(\w+)="([^"]*)"', path)) for path in re.findall(r"<path ([^>]*)>", picture)]
    return [path["d"] for path in paths if path.get("class") in red]


def test_one_step_alone_that_is_beyond_its_bound_is_seen() -> None:
    difference = [1e-16] * 9
    difference[4] = 1e-3
    grown = DifferenceGrowth(steps=list(range(9)), difference=difference, bound=[1e-15] * 9)
    drawer = Drawer()
    picture = drawer.svg(pictures.growth([("float64", grown)]), "x")
    drawn = reds(drawer.style_sheet, picture)
    # What a line without a second point is made of draws nothing; what has it at the same place is a dot.
    dots = [path for path in drawn if len(set(path.removeprefix("M").split("L"))) == 1]
    assert sorted(path.count("L") for path in dots) == [0, 1]


def test_the_equations_losses_are_drawn_and_told_beside_the_sides() -> None:
    made = made_reports.passing(1)
    name = made.subjects[0].name
    plain = render.render(made).decode()
    found = ByEquations((1.4, 1.3, 1.2), (2.5e-16, 0.03), whole=False)
    rendered = render.render(made, {name: observed()._replace(reference=found)}).decode()
    assert "own training, over the first 3 steps in float64, at most: torch_impl 2.5e-16, flax_impl 0.03." in rendered
    assert 'class="swatch three"' in rendered
    assert "stroke:var(--third)" in rendered
    assert "own training" not in plain
    assert 'class="swatch three"' not in plain


def test_every_status_has_its_sign_and_words() -> None:
    assert set(render.TONES) == set(ReportStatus.__args__)  # type: ignore[attr-defined]
    assert all(render.TONES[status].name == "bad" for status in FAILING)
    assert all(render.HEADLINES[status].startswith("No") for status in FAILING)
    assert not render.PARTLY.startswith("Yes")
    for status, words in render.HEADLINES.items():
        assert words.startswith("Yes") == (status in ("same", "expected"))


def test_the_full_run_is_small_and_made_in_seconds() -> None:
    made = made_reports.full()
    assert sum(len(one.comparisons) for one in made.subjects) > 92_000
    started = time.process_time()
    rendered = render.render(made)
    spent = time.process_time() - started
    assert len(rendered) < render.LARGEST
    assert rendered.count(b"<svg") == 3 * 43
    # Five times what it takes on an idle machine.
    assert spent < 30


def test_pictures_are_left_out_of_a_page_that_would_be_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    made = made_reports.failing()
    monkeypatch.setattr(render, "LARGEST", len(render.render(made)) - 1)
    rendered = render.render(made)
    assert len(rendered) <= render.LARGEST
    # Three of each that fails, and two more of the cause's example.
    assert rendered.count(b"<svg") == 3 * 4 + 2
    assert b"Pictures of experiments where nothing is wrong are left out" in rendered
    monkeypatch.setattr(render, "LARGEST", 1)
    assert b"<svg" not in render.render(made)


@pytest.mark.parametrize(
    "change",
    [
        {"difference": [0.0] * made_reports.STEPS},
        {"bound": [float("inf")] * made_reports.STEPS},
        {"bound": [0.0] * made_reports.STEPS},
        {"difference": [0.0] * made_reports.STEPS, "bound": [0.0] * made_reports.STEPS},
        {"difference": [float("nan")] * made_reports.STEPS},
        {"difference": [float("inf")] * made_reports.STEPS, "bound": [float("inf")] * made_reports.STEPS},
        {"first": [float("nan")] * made_reports.STEPS, "second": [float("inf")] * made_reports.STEPS},
        {"first": [], "second": []},
        {"steps": [7], "difference": [1e-9], "bound": [1e-8], "first": [1.0], "second": [1.0]},
        {"difference": [5e-324] * made_reports.STEPS, "bound": [1e308] * made_reports.STEPS},
    ],
)
def test_whatever_was_recorded_can_be_drawn(change: dict[str, list[float]]) -> None:
    made = made_reports.passing(1)
    (one,) = made.subjects
    grown = [
        msgspec.structs.replace(each, growth=msgspec.structs.replace(each.growth, **change)) if each.growth else each
        for each in one.comparisons
    ]
    changed = msgspec.structs.replace(made, subjects=[msgspec.structs.replace(one, comparisons=grown)])
    page = Structure(render.render(changed))
    for attrs in page.of("path"):
        assert "nan" not in attrs["d"].lower()
        assert "inf" not in attrs["d"].lower()


def test_shares_of_a_bound() -> None:
    grown = DifferenceGrowth(steps=[0, 1, 2, 3], difference=[0.5, 1.0, 0.0, 2.0], bound=[1.0, 0.0, 0.0, float("inf")])
    np.testing.assert_array_equal(pictures.share(grown), [0.5, np.inf, 0.0, np.nan])
    assert pictures._shade(1.0) == pictures.SHADES[-1]
    assert pictures._shade(1.0001) == pictures.BEYOND
    assert pictures._shade(0.0) == pictures.SHADES[0]
