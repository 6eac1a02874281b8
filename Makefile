# `make demo` and `make test` need nothing but Python 3.11 or newer and make: everything else goes into .venv.

PYTHON ?= $(firstword $(foreach p,python3 python3.14 python3.13 python3.12 python3.11,\
	$(shell $(p) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(p))))
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/made-from-lock
PACKAGES := protocol config proxy tests
COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header pyproject.toml
UV := $(shell command -v uv 2>/dev/null)
ARGS ?=
# Processes of `make test`, each with its own PostgreSQL; a file of tests stays in one. Much of most is waiting,
# so that two leave two cores more than half idle.
JOBS ?= 3

.DEFAULT_GOAL := help
.PHONY: help demo test lint format bench conformance fuzz build lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' Makefile

demo: $(STAMP) ## PostgreSQL, the pooler and 500 clients, live; Ctrl-C cleans up (ARGS="--help")
	@$(BIN)/howdah demo $(ARGS)

test: $(STAMP) ## every test (ARGS="-k name" for some)
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(STAMP) ## style, types, import contracts, generated texts, Dockerfile, YAML
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict $(PACKAGES:%=-p %)
	$(BIN)/lint-imports
	$(BIN)/python -m config.docs --check README.md
	$(BIN)/hadolint Dockerfile
	$(BIN)/yamllint --strict deploy

format: $(STAMP) ## rewrite the sources as `make lint` wants them
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) ## compare with PostgreSQL directly and with PgBouncer, where it is installed
	@$(BIN)/python -m tests.bench $(ARGS)

conformance: $(STAMP) ## every promise put to PostgreSQL, PgBouncer and Howdah: one table (ARGS="--case O31")
	@$(BIN)/python -m tests.conformance $(ARGS)

fuzz: $(STAMP) ## a minute of coverage-guided fuzzing for each reader of strangers' bytes (ARGS="--seconds 600")
	@$(BIN)/python -m tests.conformance.fuzz $(ARGS)

build: $(STAMP) ## a wheel in dist/, its hot files compiled where there is a C compiler
	HOWDAH_COMPILE=$(or $(HOWDAH_COMPILE),1) $(BIN)/python -c 'from setuptools.build_meta import build_wheel; build_wheel("dist")'

lock: ## choose versions anew: the files requirements*.lock (needs uv)
	@command -v uv >/dev/null || { echo 'make lock needs uv:  pip install uv' >&2; exit 1; }
	$(COMPILE) --output-file requirements.lock $(ARGS)
	$(COMPILE) --extra demo --group dev --output-file requirements-dev.lock $(ARGS)
	$(COMPILE:pyproject.toml=) --group postgres --output-file requirements-postgres.lock $(ARGS)

clean: ## remove the environment and what tools left behind
	rm -rf $(VENV) build dist *.egg-info .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

$(STAMP): requirements-dev.lock pyproject.toml
	@if [ -z "$(PYTHON)" ]; then \
		echo 'make needs Python 3.11 or newer, for example:  sudo apt-get install python3 python3-venv' >&2; exit 1; fi
	@if [ ! -x $(BIN)/python ]; then \
		if [ -n "$(UV)" ]; then uv venv --quiet --python $(PYTHON) $(VENV); \
		elif $(PYTHON) -c 'import venv, ensurepip' 2>/dev/null; then $(PYTHON) -m venv $(VENV); \
		else echo "make needs Python's venv module:  sudo apt-get install python3-venv" >&2; exit 1; fi; fi
	@echo 'making $(VENV) from requirements-dev.lock'
	@if [ -x $(BIN)/pip ]; then \
		$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock && \
		$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .; \
	else \
		uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements-dev.lock && \
		uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .; fi
	@touch $@
