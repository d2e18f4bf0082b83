"""The lesson's translation keeps what is no text, and has the glossary's words. `make docs` counts what it lacks."""

import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "docs"), str(ROOT / "docs" / "lesson")]
import catalogues  # noqa: E402
import record  # noqa: E402

TERMS = tomllib.loads(catalogues.TERMS.read_text())["terms"]
CATALOGUE = ROOT / "docs" / "locale" / "zh_CN" / "LC_MESSAGES" / "lesson.po"
ENTRIES = {
    json.loads(text): json.loads(translation)
    for text, translation in re.findall(r'^msgid (".+")\nmsgstr (".+")$', CATALOGUE.read_text(), re.MULTILINE)
}
"""Each text of one line, as catalogues.py writes them."""


def words_of(page: Path) -> str:
    """A page's text without blocks of code and equations."""
    text = re.sub(r"^```.*?^```|^\$\$.*?^\$\$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return catalogues.prose(text)


PAGES = [*(chapter.name for chapter in record.chapters()), "port", "spec", "worse"]
WORDS = {name: words_of(record.LESSON / name / "index.md") for name in PAGES}


def test_translations_keep_what_is_no_text_and_have_the_glossary_s_words() -> None:
    assert len(ENTRIES) > 400
    assert {text: said for text, one in ENTRIES.items() if (said := catalogues.wrong(text, one, TERMS))} == {}


PLANTED = {
    "code": ("Call `nnx.jit` once.", "只调用一次 `nnx.jit`。", "`nnx.jit`", "`jax.jit`"),
    "equation": ("It grows with $\\sqrt{d}$.", "它按 $\\sqrt{d}$ 增长。", "$\\sqrt{d}$", "$d$"),
    "link": ("See [here](../05_gru/index.md).", "见[这里](../05_gru/index.md)。", "05_gru", "04_lstm"),
    "role": ("{download}`Here <a.ipynb>`", "{download}`这里 <a.ipynb>`", "a.ipynb", "b.ipynb"),
    "placeholder": ("By |today|.", "截至 |today|。", "|today|", ""),
    "bold": ("**No.** Yes.", "**不。** 是。", "**不。**", "不。"),
    "number": ("Apart by 2e-02 and 0.12.", "相差 2e-02 和 0.12。", "2e-02", "2e-03"),
    "forget gate": ("The forget gate.", "遗忘门。", "遗忘门", "忘记门"),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_a_translation_that_lost_something_is_seen(kind: str) -> None:
    text, translation, there, instead = PLANTED[kind]
    assert catalogues.wrong(text, translation, TERMS) == []
    broken = translation.replace(there, instead)
    assert broken != translation
    (first, *_) = catalogues.wrong(text, broken, TERMS)
    assert kind in first


def test_what_a_translation_adds_is_seen() -> None:
    assert catalogues.wrong("Once.", "一次 `nnx.jit`。", TERMS) == ["code 'nnx.jit' is not in the text"]


def test_a_heading_that_would_be_read_as_a_list_is_seen() -> None:
    assert catalogues.wrong("9. Several heads", "9.\u00a0多个头", TERMS) == []
    assert "begins as a list" in catalogues.wrong("9. Several heads", "9. 多个头", TERMS)[0]


def test_only_words_are_counted() -> None:
    for text in (
        "`nn.GRU(4, 8)`",
        "(1, 5, 8)",
        "python gru_torch.py",
        "\\begin{aligned}\nh &= x\n\\end{aligned}",
        "r, z",
    ):
        assert not catalogues.has_words(text), text
    for text in ("time is the second axis", "(1, 8) each", "{download}`A notebook <gru.ipynb>`", "`step` returns $h$"):
        assert catalogues.has_words(text), text


@pytest.mark.parametrize("term", TERMS, ids=[term["en"] for term in TERMS])
def test_a_term_is_first_where_the_glossary_says(term: dict[str, Any]) -> None:
    form = catalogues.forms(term)
    assert next(name for name, text in WORDS.items() if form.search(text)) == term["page"]


def test_names_that_a_reader_types_are_kept() -> None:
    _, causes = record.VARIANTS["worse"]
    for cause in filter(None, causes):
        assert ENTRIES[cause].startswith(cause)
