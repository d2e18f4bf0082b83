"""What the site needs beside what its packages do.

Equations become MathML, which browsers draw by themselves: no script, no font, no network. Diagrams are pictures that
lie in docs/pictures, since drawing them takes a browser: mermaid-cli does it. Docstrings here are plain text with
equations, not reStructuredText. Helps and exit codes are asked of the commands. Links that leave docs are names on the
site. Notebooks are made of the chapters. The lesson's pages are there in two languages, and each leads to the other.
"""

import hashlib
import os
import re
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.search.zh import SearchChinese
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).parents[1]
DOCS = Path(__file__).parent
PICTURES = DOCS / "pictures"
TERMS = DOCS / "lesson" / "terms.toml"
log = logging.getLogger(__name__)


def mathml(writer: Any, node: nodes.Element, block: bool) -> None:
    try:
        drawn = tex2mathml(node.astext(), as_block=block)
        writer.body.append(f'<div class="equation">{drawn}</div>' if block else drawn)
    except MathError as error:
        log.warning("no MathML for %r: %s", node.astext(), error, location=node)
    raise nodes.SkipNode


def inline_math(writer: Any, node: nodes.Element) -> None:
    mathml(writer, node, block=False)


def block_math(writer: Any, node: nodes.Element) -> None:
    mathml(writer, node, block=True)


def picture_of(source: str) -> Path:
    """Where the picture of a diagram lies: named by what it was drawn from."""
    return PICTURES / f"{hashlib.sha256(source.strip().encode()).hexdigest()[:16]}.svg"


class Mermaid(SphinxDirective):
    """A diagram: its picture, or a warning that there is none of what now stands there."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        source = "\n".join(self.content)
        path = picture_of(source)
        if not path.exists():
            log.warning(
                "expected the diagram's picture as docs/pictures/%s, got none", path.name, location=self.get_location()
            )
            return [nodes.literal_block(source, source)]
        return [nodes.image(uri=f"/pictures/{path.name}", alt="diagram", classes=["diagram"])]


class HelpOf(SphinxDirective):
    """What a command says of itself: its module and, where it has commands of its own, one of these."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        command = [sys.executable, "-m", *self.arguments[0].split(), "--help"]
        environment = os.environ | {"COLUMNS": "78", "NO_COLOR": "1"}
        ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if ran.returncode:
            log.warning("%s: %s", " ".join(command[1:]), ran.stderr.strip(), location=self.get_location())
        text = f"$ python -m {self.arguments[0]} --help\n\n{ran.stdout}"
        block = nodes.literal_block(text, text)
        block["language"] = "text"
        return [block]


class ExitCodes(SphinxDirective):
    """A table of exit codes, given as module:NAME."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        module, _, name = self.arguments[0].partition(":")
        rows = getattr(import_module(module), name)
        lines = ["| exit code | verdict | when |", "|---|---|---|"]
        lines += [f"| {row.code} | {row.word} | {row.meaning} |" for row in rows]
        return self.parse_text_to_nodes("\n".join(lines))


class Terms(SphinxDirective):
    """The glossary: both languages of each term, and the first page that has it. It is no text to translate."""

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(str(TERMS))
        lines = ["| English | 中文 | |", "|---|---|---|"]
        for term in tomllib.loads(TERMS.read_text())["terms"]:
            lines.append(f"| {term['en']} | {'、'.join(term['zh'])} | [](/lesson/{term['page']}/index.md) |")
        made = self.parse_text_to_nodes("\n".join(lines))
        for table in made:
            for node in table.findall(nodes.Element):
                node["translatable"] = False
        return made


def paragraphs(lines: Sequence[str]) -> list[str]:
    """A docstring in reStructuredText: what is indented stays as it is, and nothing else is markup but `code`."""
    found = []
    for block in re.split(r"\n\s*\n", "\n".join(lines)):
        if not block.strip():
            continue
        if block.startswith(" "):
            found.append("::\n\n" + textwrap.indent(textwrap.dedent(block), "    "))
            continue
        for entry in re.split(r"(?<=[.)])\n(?=\w[\w, ]*: )", block):
            if "\n " in entry:
                first, _, rest = entry.partition("\n ")
                found += [escaped(first), "::\n\n" + textwrap.indent(textwrap.dedent(" " + rest), "    ")]
            else:
                found.append(escaped(entry))
    return "\n\n".join(found).splitlines() + [""]


def escaped(text: str) -> str:
    parts = re.split(r"(`[^`\n]+`)", text)
    return "".join(
        f"`{part}`" if place % 2 else re.sub(r"([\\*_|`<>])", r"\\\1", part) for place, part in enumerate(parts)
    )


def process_docstring(app: Sphinx, what: str, name: str, it: object, options: object, lines: list[str]) -> None:
    lines[:] = paragraphs(lines)


def names_outside(app: Sphinx, document: nodes.document) -> None:
    """Links to folders beside docs are names on the site, which has none of these; a file there can be downloaded."""
    page = Path(app.env.doc2path(app.env.docname)).parent
    for node in [node for node in document.findall(addnodes.pending_xref) if node["reftype"] == "myst"]:
        path = (page / node["reftarget"]).resolve()
        if path.is_dir() and not path.is_relative_to(DOCS):
            node.replace_self(nodes.literal(text=node.astext()))


def pages_beside(app: Sphinx, document: nodes.document) -> None:
    """Where the lesson is built alone, into a folder of the site, links to other pages lead out of that folder."""
    if app.config.root_doc != "lesson/index":
        return
    page = Path(app.env.doc2path(app.env.docname)).parent
    for node in [node for node in document.findall(addnodes.pending_xref) if node["reftype"] == "myst"]:
        target = node["reftarget"]
        path = DOCS / f"{target}.md" if node.get("refdomain") == "doc" else (page / target).resolve()
        if path.is_file() and path.is_relative_to(DOCS) and not path.is_relative_to(TERMS.parent):
            out = "../" * (app.env.docname.count("/") + 1)
            anchor = f"#{node['reftargetid']}" if node.get("reftargetid") else ""
            uri = f"{out}{path.relative_to(DOCS).with_suffix('.html').as_posix()}{anchor}"
            node.replace_self(nodes.reference("", "", *node.children[0].children, refuri=uri, internal=True))


LANGUAGES = {"en": ("English", ""), "zh_CN": ("中文", "zh/")}
"""The lesson's: what each is called, and where in the site its pages are."""


def language_switch(app: Sphinx, page: str, template: str, context: dict[str, Any], document: nodes.document) -> None:
    """Both languages of a page of the lesson at its head."""
    if not page.startswith("lesson/") or app.builder.format != "html":
        return
    _, folder = LANGUAGES[app.config.language]
    root = "../" * (page.count("/") + folder.count("/"))
    links, alternates = [], []
    for code, (name, place) in LANGUAGES.items():
        tag, uri = code.replace("_", "-"), f"{root}{place}{page}.html"
        if code == app.config.language:
            links.append(f'<span aria-current="true" lang="{tag}">{name}</span>')
        else:
            links.append(f'<a href="{uri}" hreflang="{tag}" lang="{tag}">{name}</a>')
            alternates.append(f'<link rel="alternate" hreflang="{tag}" href="{uri}">')
    context["body"] = f'<nav class="languages" aria-label="Language">{" ".join(links)}</nav>{context["body"]}'
    context["metatags"] = context.get("metatags", "") + "".join(alternates)


class Chinese(SearchChinese):
    """Finds Chinese words without a dictionary: by each two characters that stand together."""

    language_name = "English"  # whose stemmer Latin words have: Sphinx asks the page for one of this name
    js_splitter_code = """
function splitQuery(query) {
    const runs = query.match(/[\\u4e00-\\u9fff]+/g) || [];
    const two = (run) => Array.from(run.slice(1), (_, place) => run.slice(place, place + 2));
    const pairs = runs.flatMap((run) => run.length < 2 ? [run] : two(run));
    return pairs.concat(query.match(/[A-Za-z0-9_]+/g) || []);
}
"""

    def split(self, input: str) -> list[str]:
        runs = re.findall("[\u4e00-\u9fff]+", input)
        return [run[place : place + 2] for run in runs for place in range(max(1, len(run) - 1))] + super().split(input)


def write_notebooks(app: Sphinx) -> None:
    sys.path.append(str(Path(__file__).parent / "lesson"))
    import_module("notebooks").write()


def list_the_rest(app: Sphinx, page: str, source: list[str]) -> None:
    """Pages of docs that the first page has no place for yet stand at its end, rather than nowhere."""
    if page == "index":
        listed = {line.strip() for line in source[0].splitlines()}
        rest = sorted(path.stem for path in Path(__file__).parent.glob("*.md") if path.stem not in listed | {"index"})
        if rest:
            source[0] += "\n".join(["\n```{toctree}", ":caption: More", ":hidden:", "", *rest, "```\n"])


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", inline_renderers=(inline_math, None), block_renderers=(block_math, None))
    directives.register_directive("mermaid", Mermaid)
    app.add_directive("help-of", HelpOf)
    app.add_directive("exit-codes", ExitCodes)
    app.add_directive("terms", Terms)
    app.add_search_language(Chinese)
    app.connect("autodoc-process-docstring", process_docstring)
    app.connect("builder-inited", write_notebooks)
    app.connect("source-read", list_the_rest)
    app.connect("doctree-read", names_outside)
    app.connect("doctree-read", pages_beside)
    app.connect("html-page-context", language_switch)
    return {"parallel_read_safe": True}
