# Two commands on a fresh machine: `make demo` and `make test`.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(abspath $(VENV))/bin
LOCKS := requirements-uv.lock requirements.lock pyproject.toml
# The stamp's name holds the digest of what was installed, and it is written last:
# an installation that was interrupted, or is of another lock, is made anew.
STAMP := $(VENV)/.installed-$(shell cat $(LOCKS) | sha256sum | cut -c1-16)
export PATH := $(BIN):$(PATH)

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

$(STAMP):
	@echo "installing into $(VENV) from requirements.lock" >&2
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
	  || { echo "aiqleads needs Python 3.11; name one with PYTHON=/path/to/python3.11" >&2; exit 2; }
	rm -rf $(VENV)
	"$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install -q --require-hashes --no-deps -r requirements-uv.lock
	$(BIN)/uv pip install --python $(BIN)/python -q --require-hashes --no-deps -r requirements.lock
	$(BIN)/uv pip install --python $(BIN)/python -q --no-deps --no-build-isolation -e .
	touch $(STAMP)

.PHONY: install
install: $(STAMP) ## make .venv from the lock

.PHONY: demo
demo: $(STAMP) ## the main job end to end on the sample: leads, rankers, service, purchase, reports
	$(BIN)/aiqleads demo

.PHONY: test
test: $(STAMP) ## all tests with coverage
	bash tests/system-packages.sh
	$(BIN)/pytest -q -n 2 --dist loadfile --no-loadscope-reorder --cov --cov-report=term

.PHONY: serve
serve: $(STAMP) ## the service on http://127.0.0.1:3000 (PORT=.. for another)
	$(BIN)/aiqleads serve $(if $(PORT),--port $(PORT))

.PHONY: notebook
notebook: $(STAMP) ## JupyterLab on the notebooks
	$(BIN)/jupyter lab --notebook-dir=notebooks

.PHONY: bento
bento: $(STAMP) ## the champion as a built bento
	$(BIN)/aiqleads package

.PHONY: bench
bench: $(STAMP) ## measures (NAME=feeds|features|ranking|loop|truths|serving|demo for one group), into reports/benchmarks.json
	$(BIN)/python tests/benchmarks/run.py $(NAME)

.PHONY: soak
soak: $(STAMP) ## the long counts (NAME=feeds|features|commerce): fuzzing, kills, leaks, parity, races; resumable, reports under reports/soak
	$(BIN)/python tests/soak/run.py $(NAME)

.PHONY: docs
docs: $(STAMP) ## writes what is generated: docs/, environment.yml
	$(BIN)/python docs/generate.py

.PHONY: lint
lint: $(STAMP) ## ruff, mypy, import-linter, nbstripout, deptry
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/nbstripout --verify --keep-id notebooks/*.ipynb
	$(BIN)/deptry src

.PHONY: lock
lock: ## resolves both locks anew (needs uv on PATH)
	uv pip compile -q --all-extras --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --no-annotate -o requirements.lock pyproject.toml
	uv pip compile -q --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --no-annotate -c requirements.lock -o requirements-serving.lock pyproject.toml

.PHONY: clean
clean: ## removes what was made: data (but the sample), mlruns, reports, the environment
	git clean -qfdX data mlruns reports bentos
	rm -rf $(VENV)
