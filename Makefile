# `make` sets everything up and runs the main job; `make test` the tests; `make check` style, types and tests;
# `make faults` shows that crosscheck sees planted bugs.
#
# SIDE=flax or SIDE=torch installs that framework alone: `make` compares its implementation with the reference in NumPy,
# `make test` runs the tests that need no other. PYTHON names another Python. Each choice has an environment of its own.
PYTHON ?= python3.11
SIDE ?=

SIDES := flax torch
ifneq ($(SIDE),)
ifeq ($(filter $(SIDES),$(SIDE)),)
$(error SIDE: expected one of $(SIDES), or none for both, got '$(SIDE)')
endif
endif

# Empty where there is no such Python, or one that is too old: the setup says which.
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
# A name that was given and is no Python: .venv is not what was asked for, however ready it is.
ifeq ($(VERSION)$(filter file default,$(origin PYTHON)),)
ifneq ($(MAKECMDGOALS),clean)
$(error expected Python 3.11 or newer as '$(PYTHON)', got no such command. \
  Install Python 3.11, or name another: make PYTHON=/path/to/python)
endif
endif
# Both sides on Python 3.11 have .venv, others a name that says what is in them.
VENV ?= .venv$(if $(filter-out 3.11,$(VERSION)),-$(VERSION))$(if $(SIDE),-$(SIDE))
# The versions that were tried together on that Python, if any were; `make CONSTRAINTS=` takes the newest of everything.
CONSTRAINTS ?= $(wildcard constraints/$(VERSION).txt)
EXTRAS := $(if $(SIDE),$(SIDE) crosscheck test,dev)
RUN := $(VENV)/bin/python

empty :=
comma := ,
INSTALLED := $(subst $(empty) $(empty),$(comma),$(EXTRAS))

.DEFAULT_GOAL := crosscheck
.PHONY: crosscheck faults test test-long test-pairs test-page test-weights test-maps test-lesson test-devices test-large-pair test-clean-pairs test-explain \
  test-signals test-reverse test-kills tables-optimizers tables-layers tables-defaults tables-pages docs docs-links docs-catalogues test-site test-notebooks lesson-outputs lint types check format clean

# The reference differentiates by hundreds of forward passes: minutes of processor time for an experiment with drawn
# batches, and more than ten by the clock where others use the cores too. It is slow there and not lost.
crosscheck: $(VENV)/installed
	$(RUN) -m crosscheck $(if $(SIDE),--implementations $(SIDE)_impl spec.reference --precision float64 --timeout 3600)

faults: $(VENV)/installed
	$(RUN) -m crosscheck faults

test: $(VENV)/installed
	$(RUN) -m pytest -n auto --dist worksteal $(if $(SIDE),--side $(SIDE))

# Cases that others stand for in `make test`, and tests beside which others look at the same. Takes a quarter of an hour.
test-long: $(VENV)/installed
	$(RUN) -m pytest -n auto --dist worksteal -m long $(if $(SIDE),--side $(SIDE))

# Pairs of other people's libraries: they need more than `make test` installs, in an environment of its own.
test-pairs: $(VENV)-pairs/installed
	$(VENV)-pairs/bin/python -m pytest -n auto --dist worksteal -m 'pairs or not pairs' tests/pairs

# The HTML report in a real browser: $CHROME, chromium or google-chrome, else one out of the npm registry. Needs Node.js.
# SHOTS=docs makes the pictures of it anew.
SHOTS ?=
test-page: $(VENV)/installed
	$(RUN) tests/page/browser.py $(VENV)-page $(SHOTS)

# Weights of other people's libraries, which write and read what `make test` does not install.
test-weights: $(VENV)-weights/installed
	$(VENV)-weights/bin/python -m pytest -n auto --dist worksteal -m 'weights or not weights' tests/weights

# Trainings on several devices, with processes that are killed and that find each other on the loopback interface.
test-devices: $(VENV)/installed
	$(RUN) -m pytest -m 'devices or not devices' tests/implementations/test_devices.py

# The lesson's chapters, run again: what they print, and what crosscheck says of each pair and of each exercise.
test-lesson: $(VENV)/installed
	$(RUN) -m pytest -n auto --dist worksteal -m 'lesson or not lesson' tests/lesson

# Every chapter's notebook from top to bottom, in a new environment on Python 3.12 that has Jupyter and nothing else: what a
# notebook needs, its own first cell installs (several GB, unless PIP_EXTRA_INDEX_URL has torch for the CPU).
NOTEBOOK_PYTHON ?= python3.12
test-notebooks:
	@command -v $(NOTEBOOK_PYTHON) >/dev/null || { \
	  echo "make: expected Python 3.12 as '$(NOTEBOOK_PYTHON)', got no such command (NOTEBOOK_PYTHON=/path/to/python)" >&2; exit 1; }
	rm -rf $(VENV)-notebooks
	$(NOTEBOOK_PYTHON) -m venv $(VENV)-notebooks
	$(VENV)-notebooks/bin/python -m pip install --quiet --disable-pip-version-check nbclient ipykernel
	$(VENV)-notebooks/bin/python tests/lesson/execute_notebooks.py $(CHAPTERS)

# What the lesson shows of its runs, after a chapter or a library has changed. CHAPTERS='01 05' takes some; with --ask-again
# among them crosscheck is asked anew, after what it prints has changed.
lesson-outputs: $(VENV)/installed
	$(RUN) docs/lesson/record.py $(CHAPTERS)

# The site: build/site/index.html, and below build/site/zh the lesson in Chinese. Warnings are errors, among them links to
# what is not there; so are translations that lost code, an equation or a term. Texts without a translation are counted.
SPHINX = $(VENV)-docs/bin/python -m sphinx -q -W --keep-going

docs: $(VENV)-docs/installed
	$(SPHINX) -d build/doctrees docs build/site
	$(SPHINX) -b gettext -t lesson -d build/doctrees-lesson docs build/gettext
	$(VENV)-docs/bin/python docs/catalogues.py check build/gettext/lesson.pot docs/locale
	$(SPHINX) -t lesson -D language=zh_CN -d build/doctrees-zh docs build/site/zh

# After a text of the lesson has changed: docs/locale has it, without a translation or with the old one, marked as fuzzy.
docs-catalogues: $(VENV)-docs/installed
	$(SPHINX) -b gettext -t lesson -d build/doctrees-lesson docs build/gettext
	$(VENV)-docs/bin/python docs/catalogues.py update build/gettext/lesson.pot docs/locale

# The lesson's pages in a real browser, in both languages: tabs, search, the width of a phone, nothing fetched from elsewhere.
# SHOTS takes pictures of all of them into a folder.
test-site: docs
	$(VENV)-docs/bin/python tests/page/site.py $(VENV)-page build/site $(SHOTS)

# Links to other sites, which may be gone for reasons of their own.
docs-links: $(VENV)-docs/installed
	$(VENV)-docs/bin/python -m sphinx -q -b linkcheck -d build/doctrees docs build/links

# Maps of ports without names, in any order, with square kernels: right or ambiguous. Takes a minute or two.
test-maps: $(VENV)/installed
	$(RUN) tests/shuffled_maps.py

# A pair of 110 million parameters: what it takes of two cores and of memory. Takes ten minutes and 14 GB.
test-large-pair: $(VENV)/installed
	$(RUN) tests/large_pair.py

# Pairs that are alike, with 100 seeds: 400 runs, in which nothing may differ. Takes hours.
test-clean-pairs: $(VENV)/installed
	$(RUN) tests/clean_pairs.py

# What explanations name of every planted fault, each recorded by the check that should see it. Takes twenty minutes of
# one core. FAULTS="gru-* lstm-*" counts these alone.
test-explain: $(VENV)/installed
	$(RUN) tests/explained_faults.py $(FAULTS)

# Trains an encoder and decoder to say up to twelve symbols backwards, in both; each has to come to 99 % exact matches.
# Takes a minute or two.
test-reverse: $(VENV)/installed
	$(RUN) -m torch_impl.train reverse-long
	$(RUN) -m flax_impl.train reverse-long

# Stops the train commands at random moments and resumes them, and stops crosscheck; takes many minutes.
test-signals: $(VENV)/installed
	$(RUN) tests/kill_and_resume.py
	$(RUN) tests/stop_crosscheck.py

# Kills runs: 20 of each train command at random moments, and one of NumPy's at every write to the disk. Each goes on to
# the bits of a run that was left alone. Takes some ten minutes.
test-kills: $(VENV)/installed
	$(RUN) tests/spec/kill_everywhere.py
	$(RUN) tests/kill_and_resume.py --kinds SIGKILL --times 20 --long

# The tables of crosscheck/libraries, made again by running what they are about. That of layers sets up an environment for
# each library and runs it there: many minutes. tables-pages runs nothing, and writes docs/ out of the tables.
tables-optimizers: $(VENV)/installed
	$(RUN) tests/tables/optimizers.py

tables-layers: $(VENV)/installed
	$(RUN) tests/tables/layers $(VENV)-tables

# What signatures state, read in the same environments.
tables-defaults: $(VENV)/installed
	$(RUN) tests/tables/defaults.py $(VENV)-tables

tables-pages: $(VENV)/installed
	$(RUN) tests/tables/render.py

lint: $(VENV)/installed
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(VENV)/bin/zizmor --offline --quiet --strict-collection .github

types: $(VENV)/installed
	$(RUN) -m pyright --pythonpath $(RUN)

check: lint types test

format: $(VENV)/installed
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

clean:
	rm -rf .venv .venv-3.* .venv-pairs .venv-page .venv-weights .venv-docs .venv-notebooks .venv-tables .venv-flax* .venv-torch* runs crosscheck-report .pytest_cache .ruff_cache

# The site needs no framework. Its versions are on one list for every Python.
$(VENV)-docs/installed: CONSTRAINTS = constraints/docs.txt
$(VENV)-docs/installed: INSTALLED = docs$(comma)crosscheck
$(VENV)-docs/installed: constraints/docs.txt

$(VENV)/installed $(VENV)-pairs/installed $(VENV)-weights/installed $(VENV)-docs/installed: pyproject.toml $(CONSTRAINTS)
	@command -v $(PYTHON) >/dev/null || { \
	  echo "make: expected Python 3.11 or newer as '$(PYTHON)', got no such command." >&2; \
	  echo "      Install Python 3.11, or name another: make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "make: expected Python 3.11 or newer as '$(PYTHON)', got $$($(PYTHON) -V 2>&1)." >&2; \
	  echo "      Install Python 3.11, or name another: make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "make: expected Python's venv module, got none (on Debian: apt install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check $(addprefix -c ,$(CONSTRAINTS)) \
	  -e '.[$(INSTALLED)$(if $(findstring -pairs/,$@),$(comma)pairs)$(if $(findstring -weights/,$@),$(comma)weights$(comma)writers)]'
	touch $@
