#!/usr/bin/env bash
# Sphinx 9.0.4: a site in Chinese has a search page whose script names `ChineseStemmer`, which nothing defines: it has the
# English stemmer, and asks for one named after the language. In the browser a ReferenceError ends the script.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check sphinx==9.0.4
mkdir "$folder/docs"
printf 'project = "x"\n' >"$folder/docs/conf.py"
printf 'Words\n=====\n\nhello\n' >"$folder/docs/index.rst"
for language in en zh_CN; do
  "$folder/venv/bin/python" -m sphinx -q -D "language=$language" "$folder/docs" "$folder/$language"
done
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import re
import sys
from pathlib import Path

expected = {"en": ("EnglishStemmer", True), "zh_CN": ("ChineseStemmer", False)}
for language, outcome in expected.items():
    text = Path(sys.argv[1], language, "_static", "language_data.js").read_text()
    (name,) = re.findall(r"^window\.Stemmer = (\w+);", text, re.MULTILINE)
    defined = re.search(rf"(?:var|let|const|function|class)\s+{name}\b|^{name}\s*=", text, re.MULTILINE) is not None
    print(f"{language}: the script takes {name}, defined: {defined}")
    assert (name, defined) == outcome
PYTHON
