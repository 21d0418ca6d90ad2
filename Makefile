# The commands of this repository. `make` alone lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --no-input -qq install --progress-bar off

# Data sets for tests and examples that want more than comes with a library; optional.
ifneq ($(wildcard ../shared/data),)
export HANSA_DATA ?= $(abspath ../shared/data)
endif

.PHONY: help
help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(VENV)/.has-demo ## eight sites learn handwritten digits together: a table and a figure in half a minute
	@$(VENV)/bin/hansa demo $(ARGS)

.PHONY: test
test: $(VENV)/.has-test ## all tests: fast, slow, docs
	@.ci/test $(PY)

.PHONY: check
check: $(VENV)/.has-test ## lint, format, types, architecture
	@$(VENV)/bin/ruff check --quiet .
	@$(VENV)/bin/ruff format --check --quiet .
	@$(VENV)/bin/mypy
	@$(PY) -m pytest -q -m "not slow" tests/test_architecture.py

.PHONY: format
format: $(VENV)/.has-test ## put the code into shape (ruff)
	@$(VENV)/bin/ruff check --quiet --fix-only .
	@$(VENV)/bin/ruff format .

.PHONY: bench
bench: $(VENV)/.has-test ## measure the figures that README quotes
	@for file in benchmarks/bench_*.py; do echo "== $$file"; $(PY) $$file; done

SEEDS ?= 20

.PHONY: faults
faults: $(VENV)/.has-test ## let faults loose on federations, SEEDS=20 of them, and check that nothing was lost
	@$(VENV)/bin/hansa faults --seeds $(SEEDS) $(ARGS)

.PHONY: mutants
mutants: $(VENV)/.has-test ## plant defects one by one and see that a test catches each
	@$(PY) tests/mutants/run.py $(ARGS)

.PHONY: docs
docs: $(VENV)/.has-test ## build the documentation into docs/_build/html
	@$(PY) -m sphinx -q -W --keep-going -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

.PHONY: clean
clean: ## remove the environment, builds and caches (runs/ stays)
	@rm -rf $(VENV) build dist docs/_build .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps depend on pyproject.toml, so that what is installed follows it, and a second run installs nothing.
$(VENV)/bin/python:
	@.ci/venv

$(VENV)/.has-demo: pyproject.toml | $(PY)
	@echo "installing hansa with the demo's packages (once)"
	@$(PIP) --editable '.[demo]'
	@touch $@

$(VENV)/.has-test: pyproject.toml | $(PY)
	@echo "installing hansa with all that tests need, torch included (once; a few minutes)"
	@$(PIP) --editable '.[test]'
	@touch $(VENV)/.has-demo $@
