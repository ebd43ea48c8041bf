# Needs make and Python: 3.10 or newer for the demo, 3.11 or newer for the rest. Everything else goes into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# How pip and uv set up: in a terminal they show their progress.
QUIET := $(shell [ -t 2 ] && [ -z "$$NO_COLOR" ] || echo -q)

.PHONY: help demo demo-ui probe test test-fast coverage oldest matrix chaos ui lint docs docs-serve dist clean

help: ## Show what there is.
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

demo: $(VENV)/.demo ## A real Airflow builds and runs Actors on an emulator of Apify, one worker dies, items go into a table (or APIFY_TOKEN=... ACTOR=...).
	@$(BIN)/python -m demo

demo-ui: $(VENV)/.demo ## The same, and Airflow's UI to look around in (AIRFLOW_PORT=8080, EMULATOR_PORT=3333).
	@$(BIN)/python -m demo --keep

probe: $(VENV)/.demo ## Ask Apify for what the promises rest on, with one build (APIFY_TOKEN=... ACTOR=...).
	@$(BIN)/python -m probe

test: $(VENV)/.dev ## Run all tests: unit, integration, killed processes, samples of the docs, and a whole Airflow (half an hour).
	$(BIN)/python -m pytest -n 4 --dist loadgroup -m "not long" tests/system tests/chaos tests/integration tests/unit
	$(BIN)/python -m pytest -n 2 tests/docs

test-fast: $(VENV)/.dev ## Run the tests that need no Airflow services.
	$(BIN)/python -m pytest -n 4 -m "not long" tests/unit tests/integration

coverage: $(VENV)/.dev ## Measure how many lines and branches the unit and integration tests reach.
	$(BIN)/python -m pytest -q -n 4 -m "not long" --cov --cov-report=term-missing:skip-covered tests/unit tests/integration

oldest: $(VENV)/.dev ## Run the unit tests and a deferred build on the oldest Airflow.
	$(BIN)/nox --error-on-missing-interpreters -t oldest -- tests/unit

matrix: $(VENV)/.dev ## Run unit and integration tests on every Airflow and Python; write docs/versions.md (MATRIX="-t 3.1.8" for less).
	$(BIN)/nox $(MATRIX)

SEED ?= 0
ROWS := .rows.json

chaos: $(VENV)/.dev ## Kill workers, triggerers and the scheduler, break answers; SEED=n gives other faults (docs/reliability.md; 45 minutes).
	@rm -f $(ROWS)
	@status=0; started=$$(date +%s); run() { $(BIN)/python -m pytest -q --rows $(ROWS) --seed $(SEED) "$$@" || status=1; }; \
	run -n 2 --hypothesis-seed=$(SEED) -m hypothesis tests/unit; \
	run -n 4 --dist loadgroup tests/system tests/chaos $(wildcard tests/integration/test_*.py); \
	run tests/storm; \
	$(BIN)/python -m tests.rows $(ROWS) || status=1; \
	echo "seed $(SEED), $$(($$(date +%s) - started)) s, $$([ $$status = 0 ] && echo every row holds || echo NOT EVERY ROW HOLDS)"; \
	exit $$status

ui: $(VENV)/.ui ## Test Airflow's UI in a browser (apt install chromium); SCREENSHOTS=1 makes the pictures of the docs.
	$(BIN)/python -m pytest tests/ui

lint: $(VENV)/.dev ## Check style, types, dead code, the direction of imports and that dependencies are declared.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy airflow_provider_apify demo probe rig bench example_dags tests
	$(BIN)/vulture
	$(BIN)/lint-imports
	$(BIN)/deptry airflow_provider_apify

DOCS_PORT ?= 8000

docs: $(VENV)/.docs ## Build the documentation in site/; a broken link or anchor fails.
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "Open site/index.html in a browser, or run make docs-serve."

docs-serve: $(VENV)/.docs ## Show the documentation on 127.0.0.1 (DOCS_PORT=8000), and build it again at each change.
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve --dev-addr 127.0.0.1:$(DOCS_PORT)

dist: $(VENV)/.dev ## Build wheel and sdist in dist/, check them, and find the provider where only the wheel and Airflow are.
	@rm -rf dist
	$(BIN)/uv build -q
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl
	@$(BIN)/uv venv -q --clear --python $(BIN)/python .venv-dist
	@$(BIN)/uv pip install -q --python .venv-dist/bin/python dist/*.whl --group airflow
	@AIRFLOW_HOME=$$PWD/.venv-dist/airflow .venv-dist/bin/python -P -c "$$FIND_PROVIDER"

define FIND_PROVIDER
from airflow.providers_manager import ProvidersManager
found = ProvidersManager()
print("Airflow finds", found.providers["airflow-provider-apify"].version, found.hooks["apify"].hook_class_name)
endef
export FIND_PROVIDER

clean: ## Remove what make has made.
	rm -rf $(VENV) .venv-* .nox $(ROWS) .demo dist site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

$(VENV)/.uv:
	@echo "Setting up $(VENV): Airflow and this provider, about 300 MB ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed; name one with PYTHON=...")'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install $(QUIET:-q=-q --no-color) --disable-pip-version-check uv
	@touch $@

$(VENV)/.demo: $(VENV)/.uv pyproject.toml
	@$(BIN)/uv pip install $(QUIET) --python $(BIN)/python -e . --group demo
	@touch $@

$(VENV)/.dev: $(VENV)/.uv pyproject.toml
	@$(BIN)/uv pip install -q --python $(BIN)/python -e . --group dev
	@touch $@ $(VENV)/.demo

$(VENV)/.docs: $(VENV)/.uv pyproject.toml
	@$(BIN)/uv pip install -q --python $(BIN)/python --group docs
	@touch $@

$(VENV)/.ui: $(VENV)/.dev
	@$(BIN)/uv pip install -q --python $(BIN)/python --group ui
	@touch $@

.PHONY: scale
scale: .venv-scale/.done ## Wait for 1000 builds in one triggerer; 200 on Celery, with a triggerer lost; bursts of short builds; PostgreSQL (30 minutes).
	@.venv-scale/bin/python -m bench.scale $(PART)

.venv-scale/.done: $(VENV)/.uv pyproject.toml
	@$(BIN)/uv venv -q --clear --python $(BIN)/python .venv-scale
	@$(BIN)/uv pip install -q --python .venv-scale/bin/python -e . --group scale
	@touch $@

.PHONY: bench-results
bench-results: .venv-results/.done ## Write datasets of 200,000 and 2,000,000 items to a disk and to an S3 server (half an hour; ROUNDS=1 for less).
	@.venv-results/bin/python -m bench.results $(if $(ROUNDS),--rounds $(ROUNDS))

.venv-results/.done: $(VENV)/.uv pyproject.toml
	@$(BIN)/uv venv -q --clear --python $(BIN)/python .venv-results
	@$(BIN)/uv pip install -q --python .venv-results/bin/python -e . --group results
	@touch $@

# The other providers need an environment of their own.
PEERS := .venv-peers
BENCH := $(BIN)/python -m bench

.PHONY: bench bench-peers

bench: $(VENV)/.bench bench-peers ## Measure what is claimed (about an hour; python -m bench.waiting --help for less).
	$(BENCH).imports
	$(BENCH).start
	$(BENCH).waiting
	$(BENCH).growth
	$(BENCH).plots

bench-peers: $(PEERS)/.peers ## Set up the other providers that make bench compares with.

$(VENV)/.bench: $(VENV)/.dev
	@$(BIN)/uv pip install -q --python $(BIN)/python --group bench
	@touch $@

$(PEERS)/.peers: $(VENV)/.uv
	@$(BIN)/uv venv -q --clear --python $(BIN)/python $(PEERS)
	@$(BIN)/uv pip install -q --python $(PEERS)/bin/python apache-airflow==3.3.2 \
		apache-airflow-providers-airbyte==6.2.0 apache-airflow-providers-databricks==7.23.0
	@touch $@
