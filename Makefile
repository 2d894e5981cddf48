# Everything a newcomer needs: `make demo` and `make test`. Both create .venv if it is
# missing, install the package into it, and on Linux without a display use Xvfb.

VENV := .venv
PY := $(VENV)/bin/python
RUN := scripts/with-display
STAMP := $(VENV)/.installed
FOUND_PYTHON := $(shell for p in python3.13 python3.12 python3.11 python3.14 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null && echo $$p && break; done)
PYTHON ?= $(FOUND_PYTHON)

.PHONY: help demo test lint format docs screenshots benchmark clean system

help:
	@echo "make demo         run the main job on sample images and show it"
	@echo "make test         run the whole test suite"
	@echo "make lint         ruff, mypy --strict, import contracts"
	@echo "make format       format the code"
	@echo "make docs         build the documentation into site/"
	@echo "make screenshots  make the pictures of the documentation again"
	@echo "make benchmark    accuracy on DATA=folder (default ../shared/data)"
	@echo "make clean        remove .venv and build output"

$(STAMP): pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12, 3.13 or 3.14 was not found. Install it, or say where: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --upgrade pip
	$(PY) -m pip install --quiet --editable ".[all,test,dev]"
	@touch $@

system:
	@scripts/system-libraries

demo: $(STAMP) system
	$(RUN) $(PY) -m napari_fewshot demo --out demo-output $(ARGS)

test: $(STAMP) system
	$(RUN) $(PY) -m pytest -n 2 --dist loadgroup $(ARGS)

lint: $(STAMP)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports

format: $(STAMP)
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

docs: $(STAMP)
	$(PY) -m pip install --quiet --editable ".[docs]"
	$(PY) -m mkdocs build --strict

screenshots: $(STAMP) system
	$(RUN) $(PY) docs/screenshots.py

DATA ?= ../shared/data
benchmark: $(STAMP)
	$(VENV)/bin/napari-fewshot benchmark few-shot $(DATA) $(ARGS)

clean:
	rm -rf $(VENV) site dist build demo-output .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
