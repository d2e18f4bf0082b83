"""The lesson's translations: brought up to date, counted, and held to what they translate.

python docs/catalogues.py update|check TEMPLATE FOLDER: TEMPLATE is what Sphinx's gettext builder made of the lesson,
FOLDER that of the languages. `update` gives each catalogue the texts that are there now: what is new without a
translation, what has changed with its old one, marked as fuzzy. `check` prints for each language how many texts are
there, how many have no translation (English is shown), how many of these a fuzzy one, and how many entries are about a
text that is no more. None of these is an error. These are, and make the exit code 1: a translation without the code,
equation, link or number of its text, or without the glossary's word for a term.

Babel, which reads catalogues, is imported where it is needed: `make test` has none, and tests the rest.
"""

import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

TERMS = Path(__file__).parent / "lesson" / "terms.toml"

CODE = re.compile(r"(?P<ticks>`+)(?P<text>.+?)(?P=ticks)")
ROLE = re.compile(r"(?P<role>\{[\w:-]+\})`[^`<]*<(?P<target>[^>`]+)>`")
MATH = re.compile(r"\$[^$]+\$")
LINK = re.compile(r"\]\((?P<target>[^)]+)\)")
PLACEHOLDER = re.compile(r"\|[A-Za-z][\w ]*\||%\(\w+\)[sd]|\{\w+\}(?!`)")
BOLD = re.compile(r"\*\*")
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e-?\d+)?(?![\w])")
NAMES = {"pytorch", "torch", "flax", "jax", "python", "port", "none"}
"""Words that are no text: of a caption that is a command, or a cell that is a name."""

HEADER = "# The lesson's translation: `make docs-catalogues` brings it up to date."


def kept(text: str) -> Iterator[tuple[str, Counter[str]]]:
    """Each kind of thing that a translation leaves as it is, and what a text has of it."""
    roles = ROLE.findall(text)
    text = ROLE.sub(" ", text)
    math = MATH.findall(text)
    text = MATH.sub(" ", text)
    code = [match["text"] for match in CODE.finditer(text)]
    text = CODE.sub(" ", text)
    links = LINK.findall(text)
    text = LINK.sub("] ", text)
    yield "role", Counter(f"{role}<{target}>" for role, target in roles)
    yield "equation", Counter(math)
    yield "code", Counter(code)
    yield "link", Counter(links)
    yield "placeholder", Counter(PLACEHOLDER.findall(text))
    yield "bold", Counter(BOLD.findall(text))
    yield "number", Counter(NUMBER.findall(text))


def prose(text: str) -> str:
    """A text without all that is no words."""
    for pattern in (ROLE, MATH, CODE, LINK):
        text = pattern.sub(" ", text)
    return text


def has_words(text: str) -> bool:
    """Whether there is anything to translate: no name of a file, no command, equation, shape or number."""
    if ROLE.search(text):
        return True
    if "\\" in prose(text):  # an equation that stands by itself
        return False
    words = re.sub(r"[\w/-]+\.(py|toml|txt|md|ipynb)\b|^python .*|^PORT = .*", " ", prose(text))
    return any(word.lower() not in NAMES for word in re.findall(r"[A-Za-z]{2,}", words))


def lost(text: str, translation: str) -> list[str]:
    """What of a text its translation lacks or has too often."""
    found = []
    for (kind, wanted), (_, got) in zip(kept(text), kept(translation), strict=True):
        found += [f"{kind} {one!r} is missing" for one in (wanted - got)]
        found += [f"{kind} {one!r} is not in the text" for one in (got - wanted)]
    return found


def forms(term: dict[str, Any]) -> re.Pattern[str]:
    words = "|".join(re.escape(word) for word in (term["en"], *term.get("also", ())))
    return re.compile(rf"(?<![\w-])(?:{words})(?![\w-])", re.IGNORECASE)


def other_words(text: str, translation: str, terms: Sequence[dict[str, Any]]) -> list[str]:
    """Terms of a text for which its translation has none of the glossary's words."""
    plain = prose(text)
    return [
        f"{term['en']!r}: expected {' or '.join(term['zh'])}"
        for term in terms
        if forms(term).search(plain) and not any(word in translation for word in term["zh"])
    ]


LIST = re.compile(r"\d+[.)][ \t]|[-+*][ \t]")
"""How an item of a list begins. A heading's text that begins so, read by itself, is none: Sphinx would show English. A
no-break space after the number keeps it a heading."""


def wrong(text: str, translation: str, terms: Sequence[dict[str, Any]]) -> list[str]:
    found = lost(text, translation) + other_words(text, translation, terms)
    return found + [f"begins as a list does, {translation[:4]!r}: put a no-break space"] * bool(LIST.match(translation))


def texts_of(template: Path) -> Any:
    """The template as Babel's catalogue, without what has nothing to translate."""
    from babel.messages.pofile import read_po

    with template.open("rb") as file:
        found = read_po(file)
    for message in list(found):
        if message.id and not has_words(message.id):
            del found[message.id]
    return found


def update(texts: Any, path: Path, language: str) -> None:
    from babel.messages.catalog import Catalog
    from babel.messages.pofile import read_po, write_po

    catalogue = Catalog(locale=language, fuzzy=False, header_comment=HEADER)
    if path.exists():
        with path.open("rb") as file:
            catalogue = read_po(file)
    catalogue.update(texts, update_creation_date=False)
    for message in catalogue:  # braces of equations and roles are no format
        message.flags -= {"python-format", "python-brace-format"}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        write_po(file, catalogue, width=0, ignore_obsolete=True)


def check(texts: Any, path: Path, language: str, terms: Sequence[dict[str, Any]]) -> int:
    """How many errors there are."""
    from babel.messages.pofile import read_po

    with path.open("rb") as file:
        entries = {message.id: message for message in read_po(file) if message.id}
    wanted = [message.id for message in texts if message.id]
    done = {key: one.string for key, one in entries.items() if one.string and not one.fuzzy}
    errors = [(text, said) for text in wanted if text in done for said in wrong(text, done[text], terms)]
    for text, said in errors:
        print(f"{path}: {text[:60]!r}: {said}", file=sys.stderr)
    fuzzy = sum(entries[text].fuzzy for text in wanted if text in entries)
    missing = sum(text not in done for text in wanted)
    stale = len(entries.keys() - set(wanted))
    print(
        f"{language}: {len(wanted) - missing} of {len(wanted)} texts translated, {missing} untranslated "
        f"({fuzzy} of them fuzzy), {stale} of a text that is no more"
    )
    return len(errors)


def main(command: str, template: Path, languages: Path) -> int:
    texts = texts_of(template)
    terms = tomllib.loads(TERMS.read_text())["terms"]
    errors = 0
    for folder in sorted(path for path in languages.iterdir() if path.is_dir()):
        path = folder / "LC_MESSAGES" / template.with_suffix(".po").name
        if command == "update":
            update(texts, path, folder.name)
        else:
            errors += check(texts, path, folder.name, terms)
    return int(errors > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
