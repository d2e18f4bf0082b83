# `make` builds .venv and runs the main job; `make test` the tests; `make check` style, types and tests;
# `make faults` shows that crosscheck sees planted bugs.
PYTHON ?= python3.11
VENV := .venv
RUN := $(VENV)/bin/python

.DEFAULT_GOAL := crosscheck
.PHONY: crosscheck faults test test-signals lint types check format clean

crosscheck: $(VENV)/installed
	$(RUN) -m crosscheck

faults: $(VENV)/installed
	$(RUN) -m crosscheck faults

test: $(VENV)/installed
	$(RUN) -m pytest -n auto

# Stops the train commands at random moments and resumes them; takes many minutes.
test-signals: $(VENV)/installed
	$(RUN) tests/kill_and_resume.py

lint: $(VENV)/installed
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .

types: $(VENV)/installed
	$(RUN) -m pyright

check: lint types test

format: $(VENV)/installed
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

clean:
	rm -rf $(VENV) runs crosscheck-report .pytest_cache .ruff_cache

$(VENV)/installed: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { \
	  echo "make: expected Python 3.11 as '$(PYTHON)', got no such command." >&2; \
	  echo "      Install Python 3.11, or name another: make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "make: expected Python 3.11 or newer, got $$($(PYTHON) -V)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "make: expected Python's venv module, got none (on Debian: apt install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@
