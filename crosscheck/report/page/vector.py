"""Matplotlib's pictures as SVG that stands in a page: without ids that clash, and in colours of the page's style sheet.

Matplotlib writes a picture as a file of its own: style attributes, which a strict Content-Security-Policy forbids, and
colours that are the same on a light and on a dark ground. Here each style becomes a class of one style sheet for all
pictures, and the colours of INKS become its variables.
"""

import io
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INKS = {
    "first": "#000001",
    "second": "#000002",
    "rule": "#000003",
    "ink": "#000004",
    "bad": "#000005",
    "quiet": "#000006",
    "paper": "#000007",
    "third": "#000008",
}
"""What a picture is drawn in: a colour that matplotlib takes, and stands for the variable of that name."""

_NAMES = {colour: f"var(--{name})" for name, colour in INKS.items()}
_FONTS = re.compile(r"font-family: [^;]*;?|font: ")
_DECIMALS = re.compile(r"(-?\d+\.\d)\d+")
_SPACE = re.compile(r"\s*([MLHVCQz])\s*")


class AxisLabel(NamedTuple):
    """A word in a picture: where its baseline is, in points from the upper left corner; which of its ends is there."""

    x: float
    y: float
    text: str
    anchor: str


class Drawer:
    """Turns figures into SVG, and collects the styles that they need."""

    def __init__(self) -> None:
        self._classes: dict[str, str] = {}

    def svg(self, figure: "Figure", label: str, words: Iterable[AxisLabel] = ()) -> str:
        """The figure, whose dots are points: of 72 an inch.

        label: what it shows, for whom it is read out. words: what stands beside its axes.
        """
        # What savefig does but for what is thrown away here; a quarter of its time.
        import matplotlib
        from matplotlib.backends.backend_svg import RendererSVG

        width, height = (72.0 * size for size in figure.get_size_inches())
        written = io.StringIO()
        with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "page"}):
            renderer = RendererSVG(width, height, written, image_dpi=72)
            figure.draw(renderer)
            renderer.finalize()
        found = ElementTree.fromstring(written.getvalue())
        root = ElementTree.Element(
            "svg", {"viewBox": f"0 0 {width:.0f} {height:.0f}", "role": "img", "aria-label": label}
        )
        for child in found:
            self._take(child, root)
        for word in words:
            style = self._class(f"font-size:10px;text-anchor:{word.anchor};fill:var(--quiet)")
            place = {"x": f"{word.x:.1f}", "y": f"{word.y:.1f}", "class": style}
            ElementTree.SubElement(root, "text", place).text = word.text
        return ElementTree.tostring(root, encoding="unicode")

    @property
    def style_sheet(self) -> str:
        """The classes of all pictures so far."""
        return "".join(f"svg .{name}{{{style}}}" for style, name in self._classes.items())

    def _take(self, element: ElementTree.Element, parent: ElementTree.Element) -> None:
        tag = element.tag.rpartition("}")[2]
        if tag in ("defs", "metadata") or (tag == "path" and not element.get("d", "").strip()):
            return
        if tag == "g" and "transform" not in element.attrib:
            for child in element:
                self._take(child, parent)
            return
        given = {}
        for name, value in element.attrib.items():
            name = name.rpartition("}")[2]
            if name == "style":
                if style := self._style(value):
                    given["class"] = self._class(style)
            elif name == "transform" and value.startswith("rotate(-0 "):
                continue
            elif name == "d":
                given[name] = _SPACE.sub(r"\1", _DECIMALS.sub(r"\1", value)).strip()
            elif name not in ("id", "clip-path"):
                given[name] = value if name == "href" else _DECIMALS.sub(r"\1", value)
        made = ElementTree.SubElement(parent, tag, given)
        made.text = (element.text or "").strip() or None
        for child in element:
            self._take(child, made)

    def _class(self, style: str) -> str:
        return self._classes.setdefault(style, f"p{len(self._classes)}")

    def _style(self, style: str) -> str:
        plain = _FONTS.sub("", style)
        for colour, variable in _NAMES.items():
            plain = plain.replace(colour, variable)
        return ";".join(part.strip().replace(": ", ":") for part in plain.split(";") if part.strip())
