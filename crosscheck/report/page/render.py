"""report.html of a report: what is put where, and the strict policy under which a browser shows it.

The template escapes whatever it prints; pictures alone are markup, and are made of numbers and of names of tensors. The
policy lets one style sheet and one script run, by their hashes, and nothing be fetched.
"""

import base64
import hashlib
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from importlib import resources
from typing import NamedTuple

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from crosscheck.checks import trajectory
from crosscheck.comparison import Comparison, DifferenceGrowth
from crosscheck.report.model import FAILING, Cause, ReportCell, ReportStatus, ReportSubject, RunReport
from crosscheck.report.observed import ByEquations, Observations, Observed, Predicted
from crosscheck.report.page import pictures
from crosscheck.report.page.beside import Beside
from crosscheck.report.page.vector import Drawer
from spec.text import visible, visible_lines

LARGEST = 2_000_000
"""Bytes of the page. Pictures of subjects where nothing is wrong are left out of one that would be larger, then all."""

LEADS = 5
"""Causes that stand right below the verdict."""

OPEN_CAUSES = 3
"""Causes whose details are shown at once."""

GROWTH = "Difference of the loss against its bound, over the steps"
"""The title of the picture that also stands beside a cause."""

STAGES: Mapping[str, str] = {
    "forward": "Difference of each stage against its bound, in the order of computation",
    "gradients": "Difference of each gradient against its bound",
}
"""The title of the picture that leads to where two sides part, by check."""

PREDICTED = 12
"""Rows of predictions at most: the first ones, and the last."""

CHECK = trajectory.NAME
"""The check whose steps are drawn."""


class Tone(NamedTuple):
    """How a status is shown; its sign and its word say what its colour does. name: of the style sheet's class."""

    symbol: str
    name: str
    word: str
    meaning: str


TONES: Mapping[ReportStatus, Tone] = {
    "different": Tone("✗", "bad", "different", "a difference is beyond its bound"),
    "not representable": Tone("✗", "bad", "not representable", "one side has no place for what the other computes"),
    "cannot train alike": Tone("✗", "bad", "cannot train alike", "the sides compute alike, and train otherwise"),
    "crashed": Tone("!", "bad", "crashed", "a side gave no answer"),
    "underpowered": Tone("?", "warn", "underpowered", "too few runs to tell"),
    "ambiguous": Tone("?", "warn", "ambiguous", "all is the same, and would be under another map"),
    "partly checked": Tone("◐", "warn", "partly checked", "too little was compared to call the sides the same"),
    "not checked": Tone("○", "warn", "not checked", "a side leaves it out"),
    "left out": Tone("○", "none", "left out", "a side declares that it has no such option"),
    "expected": Tone("≈", "good", "expected", "it differs as the pair says it does"),
    "same": Tone("✓", "good", "the same", "no difference is beyond its bound"),
    "not asked": Tone("-", "none", "not asked", "the pair gives nothing for it"),
    "not applicable": Tone("-", "none", "not applicable", "there is nothing to ask"),
}

HEADLINES: Mapping[ReportStatus, str] = {
    "same": "Yes: they train alike",
    "expected": "Yes: they train alike, but for what is expected",
    "different": "No: they do not train alike",
    "not representable": "No: one cannot be what the other is",
    "cannot train alike": "No: they compute alike, and cannot train alike",
    "crashed": "Not known: a side gave no answer",
    "underpowered": "Not settled: too few runs to tell",
    "ambiguous": "Not settled: another map would fit as well",
}
"""Of a run; of others, that it was checked in part."""

PARTLY = "Not settled: only a part was checked"


class Picture(NamedTuple):
    """A picture with its title and what it says in words. key: which legend it takes."""

    title: str
    svg: Markup
    caption: str
    key: str = ""


class Shown(NamedTuple):
    """A subject on the page. nearest: by check, what came nearest to its bound. said: what `predicted` is."""

    number: int
    subject: ReportSubject
    cells: dict[str, ReportCell]
    nearest: dict[str, str]
    pictures: list[Picture]
    predicted: list[Predicted]
    said: str


def render(report: RunReport, observed: Observations | None = None, further: Sequence[Beside] = ()) -> bytes:
    """The page. observed: what recordings hold beside what was judged. further: other reports, to be shown as well."""
    rendered = b""
    for words, drawn in (
        ("", lambda subject: True),
        ("Pictures of experiments where nothing is wrong are left out: the page would be too large.", _failing),
        ("Pictures are left out: the page would be too large.", lambda subject: False),
    ):
        rendered = _rendered(report, observed or {}, further, drawn, words)
        if len(rendered) <= LARGEST:
            break
    return rendered


def _failing(subject: ReportSubject) -> bool:
    return subject.status in FAILING


def _rendered(
    report: RunReport,
    observed: Observations,
    further: Sequence[Beside],
    drawn: Callable[[ReportSubject], bool],
    dropped: str,
) -> bytes:
    drawer, sides = Drawer(), (report.sides[0].name, report.sides[1].name)
    shown = [
        _shown(number, subject, observed.get(subject.name), sides, drawer if drawn(subject) else None)
        for number, subject in enumerate(report.subjects, 1)
    ]
    stages = {
        number: _staged(cause, drawer)
        for number, cause in enumerate(report.causes[:OPEN_CAUSES], 1)
        if cause.growth is not None
        and cause.check in STAGES
        and any(one.name == cause.example and drawn(one) for one in report.subjects)
    }
    script, sheet = _part("page.js"), _part("page.css") + _shades() + drawer.style_sheet
    failing = report.status in FAILING
    statuses = list(dict.fromkeys(status for status in TONES for one in report.subjects if one.status == status))
    cells = [cell for one in report.subjects for cell in one.cells]
    used = {cell.status for cell in cells} | {one.status for one in report.subjects}
    text = _template().render(
        report=report,
        headline=HEADLINES.get(report.status, PARTLY),
        failing=failing,
        leads=LEADS,
        open_causes=OPEN_CAUSES,
        places=list(_places(report, further, failing)),
        numbers={each.subject.name: each.number for each in shown},
        subjects_shown=shown,
        growths={
            one.subject.name: one.pictures[0] for one in shown if one.pictures and one.pictures[0].title == GROWTH
        },
        stages=stages,
        statuses=statuses,
        used=[status for status in TONES if status in used],
        cell_notes=dict.fromkeys((cell.check, cell.status, cell.note) for cell in cells if cell.note),
        families=sorted({one.family for one in report.subjects if one.family}),
        environment=list(_environment(report)),
        further=further,
        map_rows=report.map.rows if report.map else [],
        dropped=dropped,
        policy=_policy(sheet, script),
        # Ours, and without a character that ends its element.
        style=Markup(sheet),
        script=Markup(script),
    )
    return text.encode("utf-8", "backslashreplace")


@lru_cache(maxsize=1)
def _template():
    environment = Environment(autoescape=True, undefined=StrictUndefined, finalize=_plain, keep_trailing_newline=True)
    environment.globals.update(
        tone=TONES.__getitem__, word=lambda status: TONES[status].word, figure=_figure, lines=_lines
    )
    return environment.from_string(_part("page.html"))


def _part(name: str) -> str:
    return resources.files("crosscheck.report.page").joinpath(name).read_text(encoding="utf-8")


def _plain(value: object) -> object:
    """What is printed: no control character, no end of a line, nothing that turns the text around."""
    if value is None:
        return ""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _lines(text: str) -> Markup:
    return escape(visible_lines(text.strip("\n")))


def _policy(sheet: str, script: str) -> Markup:
    """Nothing is fetched from anywhere; pictures stand in the page; one style sheet and one script, by their hashes."""
    style, code = (base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in (sheet, script))
    return Markup(
        f"default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{code}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _shades() -> str:
    """Of the heat maps' legend."""
    named = {f".shade{n}": shade for n, shade in enumerate(pictures.SHADES)}
    named |= {".swatch.beyond": pictures.BEYOND, ".swatch.unbounded": pictures.UNBOUNDED}
    return "".join(
        f"{name}{{background:rgb({','.join(str(round(255 * part)) for part in shade)})}}"
        for name, shade in named.items()
    )


def _places(report: RunReport, further: Sequence[Beside], failing: bool) -> Iterator[tuple[str, str]]:
    """The parts that are there: the place, and what it is called."""
    many = report.kind == "experiments"
    for place, words, there in (
        ("causes", "Causes", report.causes),
        ("matrix", "Matrix" if many else "Checks", True),
        ("subjects", "Experiments" if many else "Pair", True),
        ("map", "Map", report.map),
        ("expected", "Expected", report.expected),
        ("ensembles", "Ensembles", report.endpoints),
        ("headroom", "Headroom", report.headroom and not failing),
        *((beside.place, beside.title, True) for beside in further),
        ("unchecked", "Not checked", report.unchecked),
        ("environment", "Environment", True),
    ):
        if there:
            yield place, words


def _environment(report: RunReport) -> Iterator[tuple[str, str, str]]:
    """Rows of what either side says of itself."""
    one, two = report.sides
    yield "given", one.given, two.given
    told = [{**side.machine, **side.versions} for side in (one, two)]
    for name in dict.fromkeys((*one.versions, *two.versions, *told[0], *told[1])):
        yield name, told[0].get(name, ""), told[1].get(name, "")
    if one.leaves or two.leaves:
        yield "leaves", f"{one.leaves:,}", f"{two.leaves:,}"
        yield "numbers", f"{one.numbers:,}", f"{two.numbers:,}"
    if one.seconds or two.seconds:
        yield "seconds in workers", f"{one.seconds:.1f}", f"{two.seconds:.1f}"
    for kind in sorted({*one.overhead, *two.overhead}):
        yield f"seconds, {kind}", f"{one.overhead.get(kind, 0.0):.1f}", f"{two.overhead.get(kind, 0.0):.1f}"
    if one.compilations or two.compilations:
        yield "functions compiled", str(one.compilations), str(two.compilations)
    if one.reused or two.reused:
        yield "recordings of an earlier run", str(one.reused), str(two.reused)


def _figure(cell: ReportCell) -> str:
    """The largest difference in units of its bound, in few characters."""
    if cell.status == "underpowered":
        return str(cell.needed) if cell.needed else ""
    if cell.ratio is None:
        return ""
    return _short(cell.ratio)


def _short(value: float) -> str:
    if not math.isfinite(value):
        return "∞"
    if value == 0:
        return "0"
    return f"{value:.2f}" if 0.005 <= value < 100 else f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e+")


def _shown(
    number: int, subject: ReportSubject, observed: Observed | None, sides: tuple[str, str], drawer: Drawer | None
) -> Shown:
    nearest: dict[str, Comparison] = {}
    for one in subject.comparisons:
        if one.ratio is not None and (one.check not in nearest or one.ratio > (nearest[one.check].ratio or 0.0)):
            nearest[one.check] = one
    predicted, said = _changes(observed.predicted) if observed else ([], "")
    return Shown(
        number=number,
        subject=subject,
        cells={cell.check: cell for cell in subject.cells},
        nearest={check: _where(one) for check, one in nearest.items()},
        pictures=list(_pictures(subject, observed, sides, drawer)) if drawer else [],
        predicted=predicted,
        said=said,
    )


def _where(one: Comparison) -> str:
    step = "" if one.step is None else f"step {one.step}"
    return ", ".join(part for part in (one.tensor, one.precision, one.case, step) if part)


def _changes(predicted: Sequence[Predicted]) -> tuple[list[Predicted], str]:
    """The rows where something changes, the first ones and the last; and the words that all begin with."""
    if not predicted:
        return [], ""
    texts = [text for row in predicted for text in (row.first, row.second)]
    said, mark, _ = texts[0].partition(": ")
    if mark and all(text.startswith(said + mark) for text in texts):
        predicted = [Predicted(row.epoch, *(text[len(said + mark) :] for text in row[1:])) for row in predicted]
    else:
        said = ""
    changed = [one[1:] != two[1:] for one, two in itertools.pairwise(predicted)]
    rows = [row for row, new in zip(predicted, (True, *changed), strict=True) if new]
    if len(rows) > PREDICTED:
        rows = [*rows[: PREDICTED - 1], rows[-1]]
    return rows, said


def _pictures(
    subject: ReportSubject, observed: Observed | None, sides: tuple[str, str], drawer: Drawer
) -> Iterator[Picture]:
    """What is drawn of a subject, the losses first."""
    grown = [(one, growth) for one, growth in subject.growths() if one.check == CHECK and not one.alone]
    cases = dict.fromkeys(one.case for one, _ in grown)
    grown = [(one, growth) for one, growth in grown if one.case == next(iter(cases))]
    failed = [one.precision for one, _ in grown if not one.passed]
    precisions = list(dict.fromkeys([*failed, *(one.precision for one, _ in grown)]))
    losses = {one.precision: growth for one, growth in grown if one.tensor == "loss"}

    def made(title: str, figure: "pictures.Figure", caption: str, key: str = "") -> Picture:
        label = f"{title}, of {visible(subject.name)}. {visible(caption)}"
        return Picture(title, Markup(drawer.svg(figure, label, pictures.labels(figure))), caption, key)

    if drawable := [(p, losses[p]) for p in sorted(losses, reverse=True) if pictures.can_grow(losses[p])]:
        caption = "; ".join(f"{precision}: {_grown(growth)}" for precision, growth in drawable)
        within = not any(_beyond(growth) is not None for _, growth in drawable)
        hidden = " What differs does not show in the loss." if subject.status in FAILING and within else ""
        yield made(GROWTH, pictures.growth(drawable), f"{caption}.{hidden}")
    if precisions and (loss := losses.get(precisions[0])) and loss.first:
        known = observed.reference if observed else None
        caption = f"{_losses(loss)}, in {precisions[0]}.{_by_equations(known, sides)}"
        figure = pictures.losses(loss, known.losses if known else ())
        yield made("Loss, over the steps", figure, caption, "reference" if known else "sides")
    chosen = [
        (one.tensor, growth)
        for one, growth in grown
        if one.precision == precisions[0] and not one.tensor.startswith("slots/") and growth.steps
    ]
    if chosen:
        chosen = _fitting(chosen)
        beyond = [name.removeprefix("parameters/") for name, growth in chosen if _beyond(growth) is not None]
        caption = (
            f"Beyond their bounds: {', '.join(beyond[:6])}{' and more' if len(beyond) > 6 else ''}"
            if beyond
            else "All stay within their bounds"
        )
        title = "How much of its bound each tensor takes, over the steps"
        yield made(title, pictures.heat_map(chosen), f"{caption}, in {precisions[0]}.", "shades")
    if observed and observed.attention:
        figure = pictures.attention(*observed.attention)
        yield made(
            "Attention weights at a random start", figure, "Queries from top to bottom, keys from left to right."
        )
    if observed:
        for name, (one, two) in observed.ensembles.items():
            caption = f"The share of {len(one)} and {len(two)} runs that came out at most so."
            yield made(f"Ensembles: {name.replace('_', ' ')}", pictures.ensembles(one, two), caption, "sides")


def _staged(cause: Cause, drawer: Drawer) -> Picture:
    """How the difference of a cause grows from stage to stage."""
    growth, title = cause.growth, STAGES[cause.check]
    assert growth is not None
    rows = list(zip(growth.names, growth.difference, growth.bound, growth.own, strict=True))
    beyond = [name for name, difference, bound, _ in rows if not difference <= bound]
    own = [name for name, difference, bound, wrong in rows if wrong and not difference <= bound]
    said = f"{len(beyond)} of {len(rows)} beyond their bounds"
    if cause.check == "forward":
        said += f", {beyond[0]} first" if beyond else ""
    elif beyond:
        said += f": {', '.join(beyond[:6])}{' and more' if len(beyond) > 6 else ''}"
    # Where all are wrong in themselves, or none is known to be, there is nothing to tell apart.
    said += f"; wrong in itself: {', '.join(own[:6])}{' and more' if len(own) > 6 else ''}" if own else ""
    caption = f"{said}."
    label = f"{title}, of {visible(cause.example)}. {visible(caption)}"
    figure = pictures.stages(growth)
    return Picture(title, Markup(drawer.svg(figure, label, pictures.labels(figure))), caption)


def _fitting(found: Sequence[tuple[str, DifferenceGrowth]]) -> list[tuple[str, DifferenceGrowth]]:
    """As many as a picture has rows for: those that are nearest to their bounds, in their order."""
    if len(found) <= pictures.ROWS:
        return list(found)
    order = sorted(range(len(found)), key=lambda at: -pictures.largest_share(found[at][1]))
    return [found[at] for at in sorted(order[: pictures.ROWS])]


def _beyond(growth: DifferenceGrowth) -> int | None:
    """The first step that is beyond its bound."""
    shares = pictures.share(growth)
    return next((step for step, share in zip(growth.steps, shares, strict=True) if share > 1), None)


def _grown(growth: DifferenceGrowth) -> str:
    at = _beyond(growth)
    largest = max((value for value in growth.difference if math.isfinite(value)), default=math.inf)
    if at is not None:
        return f"beyond its bound from step {at} on, {largest:.2g} apart at most"
    if not largest:
        return "exactly the same"
    return f"{largest:.2g} apart at most, {_short(pictures.largest_share(growth))} of its bound"


def _by_equations(found: ByEquations | None, sides: tuple[str, str]) -> str:
    """How far each side is from the losses that the equations give, in words."""
    if found is None:
        return ""
    steps = len(found.losses)
    over = "all steps" if found.whole else f"the first {steps} steps" if steps > 1 else "the first step"
    apart = ", ".join(f"{side} {f'{far:.2g}' if far else '0'}" for side, far in zip(sides, found.apart, strict=True))
    return f" From the equations' own training, over {over} in float64, at most: {apart}."


def _losses(growth: DifferenceGrowth) -> str:
    one, two = growth.first[-1], growth.second[-1]
    return f"from {growth.first[0]:.4g} and {growth.second[0]:.4g} to {one:.4g} and {two:.4g}"
