# Every target does the set-up it needs; `make help` lists them.
SHELL := /bin/bash
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=
SKILL_SCRIPTS := $(sort $(dir $(wildcard skills/*/scripts/*.py)))

.DEFAULT_GOAL := help
.PHONY: help setup demo test deep fuzz mutate lint types check bench build deb reference docs lock format clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## make or refresh the virtual environment
	@scripts/setup $(VENV)

demo: setup ## see the daemon work: a skill used, edited, the daemon killed and back
	@$(BIN)/python examples/demo.py

test: setup ## run the tests, but for the long ones (PYTEST_ARGS=... adds options)
	@scripts/test $(BIN)/pytest $(PYTEST_ARGS)

deep: setup ## run the long tests
	@$(BIN)/pytest -m deep $(PYTEST_ARGS) || [ $$? -eq 5 ]

fuzz: ## fuzz what reads skills and packages of strangers, FUZZ_S=60 seconds for each of four targets
	@scripts/setup .venv-fuzz
	@.venv-fuzz/bin/python -m pip install --quiet "atheris>=3,<4"
	@scripts/fuzz .venv-fuzz

mutate: ## change the runtime's sources in small ways and list what no test notices: takes long
	@scripts/setup .venv-mutate
	@.venv-mutate/bin/python -m pip install --quiet "mutmut>=3.8,<4"
	@scripts/mutate .venv-mutate

lint: setup ## ruff, rules and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: setup ## mypy, strict
	@$(BIN)/mypy
	@set -e; for folder in $(SKILL_SCRIPTS); do \
	    MYPYPATH=$$folder $(BIN)/mypy --explicit-package-bases $$folder/*.py; done

check: lint types test ## lint, types and test

bench: setup ## run every benchmark and print its table
	@set -e; for file in benchmarks/[a-z]*.py; do echo "== $$file"; $(BIN)/python $$file; echo; done

build: setup ## the sdist, the wheel from the sdist, and the wheel of the monitoring client, into dist/
	@rm -rf dist
	@$(BIN)/python -m build --no-isolation --outdir dist .
	@$(BIN)/python -m build --no-isolation --wheel --outdir dist daemon/skilld_monitor

deb: build ## a Debian package of the wheel, into dist/
	@scripts/deb $(VENV) dist/skilld-*.whl dist

reference: setup ## write docs/reference from the program
	@$(BIN)/python scripts/reference

docs: setup ## the manual as a site, into build/docs
	@$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --builder html docs build/docs
	@echo "build/docs/index.html"

format: setup ## let ruff rewrite the files
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lock: setup ## pin the newest versions that pyproject.toml allows into requirements.lock
	@$(BIN)/python -m pip install --quiet uv
	@$(BIN)/uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --upgrade --generate-hashes \
	    --no-emit-index-url --no-emit-find-links --no-header --no-annotate --quiet --output-file requirements.lock

clean: ## remove what the other targets made
	@rm -rf $(VENV) .venv-wheel .venv-mutate .venv-fuzz dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
