# Everything one does with Remora. Needs git, make and a Python 3.11 or later with venv; all else is set up here.
#
#   make run      start the proxy on the stand-in model (UPSTREAM=https://api.openai.com: on a real one)
#   make test     the tests            make lint     style, format and types
#   make bench    speed, side by side  make bench-peers  other proxies too
#   make lock     new lock files       make clean    remove what was set up

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
UPSTREAM ?= echo:
ARGS ?=
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: run test lint format bench bench-peers lock image clean
.DEFAULT_GOAL := run

run: $(VENV)/.run
	exec $(BIN)/remora serve --upstream $(UPSTREAM) $(ARGS)

test: $(VENV)/.dev
	@sh tests/support/servers.sh
	@sh tests/support/node.sh
	$(BIN)/pytest -n 3 --dist loadfile $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev
	$(BIN)/python -m bench $(ARGS)

bench-peers: $(VENV)/.dev
	$(BIN)/python -m bench peers $(ARGS)

image:
	docker build -t remora .

# Set-up. Each stamp is newer than what it was made from, so only what changed is done again.

$(VENV)/.made:
	@for python in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11; do \
	  if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    $$python -c 'import ensurepip, venv' 2>/dev/null || { \
	      echo "$$python has no venv; install it (Debian: apt install python3-venv) and run make again." >&2; exit 1; }; \
	    echo "$$python -m venv $(VENV)"; $$python -m venv $(VENV) && touch $@; exit; \
	  fi; \
	done; \
	echo "Remora needs Python 3.11 or later, and none was found; install one, or run make PYTHON=/path/to/python3." >&2; \
	exit 1

$(VENV)/.run: $(VENV)/.made requirements.lock pyproject.toml
	$(BIN)/pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements-dev.lock
	$(BIN)/pip install --quiet --require-hashes -r requirements-dev.lock
	@touch $@

# The second file holds the first, at the same versions.
lock: $(VENV)/.dev
	$(BIN)/uv pip compile $(LOCK) --group build -o requirements.lock pyproject.toml
	$(BIN)/uv pip compile $(LOCK) --group build --group dev -c requirements.lock -o requirements-dev.lock pyproject.toml
	@! grep -n '://' requirements.lock requirements-dev.lock
LOCK := --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate

clean:
	rm -rf $(VENV) build ./*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
