"""The site: these pages and the lesson in one, by `make docs`. What only this site does stands in extension.py."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

project = "ohlol"
author = "the ohlol contributors"
language = "en"
extensions = ["myst_parser", "sphinx_design", "sphinx_copybutton", "sphinx.ext.autodoc", "extension"]
exclude_patterns = ["lesson/*/made", "locale"]
if tags.has("lesson"):  # -t lesson: the lesson alone, which is what there are translations of
    include_patterns = ["lesson/**"]
    root_doc = "lesson/index"
locale_dirs = ["locale"]
gettext_location = False  # a line that moves is no change of a text
nitpicky = True
nitpick_ignore_regex = [("py:.*", ".*")]  # types in signatures are no links: most are NumPy's and Python's

myst_enable_extensions = ["colon_fence", "dollarmath", "deflist"]
myst_heading_anchors = 4
myst_fence_as_directive = ["mermaid"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_use_legacy_class_based = False
add_module_names = False
python_maximum_signature_line_length = 80
default_role = "code"

html_theme = "furo"
html_title = "ohlol"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_copyright = False
html_show_search_summary = False  # it would fetch the pages that were found, which a page from a file may not
html_show_sourcelink = False
html_theme_options = {"navigation_with_keys": True}
copybutton_exclude = ".linenos, .gp, .go"
