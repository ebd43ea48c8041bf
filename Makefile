# Needs Python 3.10 or newer and make; everything else goes into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo demo-ui test test-fast lint clean

help: ## Show what there is.
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

demo: $(VENV)/.demo ## Rebuild an Actor on a real Airflow, against the emulator (or APIFY_TOKEN=... ACTOR=...).
	@$(BIN)/python -m demo

demo-ui: $(VENV)/.demo ## The same, and keep Airflow running to look around (AIRFLOW_PORT=8080, EMULATOR_PORT=3333).
	@$(BIN)/python -m demo --keep

test: $(VENV)/.dev ## Run all tests: unit, integration, system.
	$(BIN)/python -m pytest -n 2 tests/unit tests/integration
	$(BIN)/python -m pytest tests/system

test-fast: $(VENV)/.dev ## Run the tests that need no Airflow services.
	$(BIN)/python -m pytest -n 2 tests/unit tests/integration

lint: $(VENV)/.dev ## Check style, types and the direction of imports.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy airflow_provider_apify demo
	$(BIN)/lint-imports

clean: ## Remove what make has made.
	rm -rf $(VENV) .demo .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

$(VENV)/.uv:
	@echo "Setting up $(VENV) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed; name one with PYTHON=...")'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check uv
	@touch $@

$(VENV)/.demo: $(VENV)/.uv pyproject.toml
	@$(BIN)/uv pip install -q --python $(BIN)/python -e . --group airflow
	@touch $@

$(VENV)/.dev: $(VENV)/.uv pyproject.toml
	@$(BIN)/uv pip install -q --python $(BIN)/python -e . --group dev
	@touch $@ $(VENV)/.demo
