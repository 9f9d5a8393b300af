# `make demo` and `make test` need Python >= 3.11 and make; both create what else they need.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test lint types docs bench clean

$(VENV)/.demo: pyproject.toml
	@echo "== creating $(VENV) and installing otel-sessions with the demo's SDKs"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.demo
	@echo "== installing what the tests need"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(VENV)/.demo ## an agent run offline, then its session tree
	@$(BIN)/otel-sessions demo

test: $(VENV)/.dev ## the test suite
	@echo "== running the tests (a part that is missing on this machine is a visible skip)"
	@$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile

lint: $(VENV)/.dev ## style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev ## mypy --strict on package and tests
	$(BIN)/mypy

docs: $(VENV)/.dev ## refresh the generated tables in README and docs
	$(BIN)/cog -r README.md docs/*.md

bench: $(VENV)/.dev ## every benchmark once; see bench/README.md for single ones
	$(BIN)/python -m bench.overhead
	$(BIN)/python -m bench.export
	$(BIN)/python -m bench.scale

clean:
	rm -rf $(VENV)
