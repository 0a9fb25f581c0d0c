# Each target is one line that a person could type instead.

PYTHON ?= python3
TORCH_VERSION := 2.13.0
# A package index for torch alone, such as one with CPU builds where the default is several GB.
TORCH_INDEX ?=
DATA ?= data
PORT ?= 8000

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: demo test install serve lint bench chaos clean lock

demo: install
	$(BIN)/python -m examples.demo

test: install-dev
	$(BIN)/python -m pytest tests

install: .venv/installed

install-dev: .venv/installed-dev

serve: install
	exec $(BIN)/python -m embedded --data "$(DATA)" --port $(PORT)

lint: install-dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

bench: install-dev
	$(BIN)/python -m benchmarks

chaos: install-dev
	$(BIN)/python -m pytest tests/chaos -m chaos --timeout 600

clean:
	rm -rf .venv demo-*.json demo-*.html .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

# Locks hold everything but torch, for every Python from 3.11 on.
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header pyproject.toml
lock: install-dev
	$(LOCK) --group dev -o requirements-dev.lock
	$(LOCK) --group embedded -c requirements-dev.lock -o requirements.lock
	$(LOCK) --group worker -c requirements-dev.lock -o requirements-worker.lock
	$(LOCK) --group web -c requirements-dev.lock -o requirements-web.lock

.venv/installed: requirements.lock pyproject.toml Makefile
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) install --require-hashes -r requirements.lock
	$(PIP) install torch==$(TORCH_VERSION) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
	$(PIP) install --no-deps --no-build-isolation --editable .
	touch $@

.venv/installed-dev: .venv/installed requirements-dev.lock
	$(PIP) install --require-hashes -r requirements-dev.lock
	touch $@
