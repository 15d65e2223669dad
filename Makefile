# Everything a checkout needs: `make help` lists it. Nothing is installed outside this folder.

VENV ?= .venv
OPENAI1 := .venv-openai1
ANTHROPIC0 := .venv-anthropic0
NODE := tests/sdk/node
SECOND := .venv-second
LITELLM := .venv-litellm
ARGS ?=

# The newest of these that is new enough and really runs: a version manager may leave commands that only fail.
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3; do \
  "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { command -v "$$python"; break; }; done)

# 3.11 and 3.13 are both promised: of the two, the one that $(VENV) is not, if this machine has it.
SECOND_PYTHON ?= $(shell mine=$$($(VENV)/bin/python -c 'import sys; print(sys.version_info[1])'); \
  for python in python3.13 python3.11 "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/3.1[13].*/bin/python; do \
    "$$python" -c 'import ensurepip, sys; sys.exit(sys.version_info[1] not in {11, 13} - {int(sys.argv[1])})' "$$mine" \
      2>/dev/null && { command -v "$$python"; break; }; done)

# $(call environment,FOLDER,PYTHON,LOCKS): uv if it is there, else venv and pip. Every file is checked against its hash.
define environment
@echo "Setting up $(1) (once)"
@if command -v uv >/dev/null 2>&1; then \
  set -e; \
  [ -x $(1)/bin/python ] || uv venv --quiet --python "$(or $(2),>=3.11)" $(1); \
  uv pip install --quiet --python $(1)/bin/python --require-hashes $(foreach lock,$(3),-r $(lock)); \
else \
  [ -n "$(2)" ] || { echo "No Python >= 3.11 and no uv found: install one of them, or say make PYTHON=/path/to/python" >&2; exit 1; }; \
  set -e; \
  $(1)/bin/python -m pip --version >/dev/null 2>&1 || "$(2)" -m venv --clear $(1) || { rm -rf $(1); \
    echo "This Python cannot make environments. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }; \
  $(1)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes $(foreach lock,$(3),-r $(lock)); \
fi
endef

# $(call checkout,FOLDER): the `llm-router` command, bound to this checkout.
define checkout
@if command -v uv >/dev/null 2>&1; then \
  uv pip install --quiet --python $(1)/bin/python --no-deps --no-build-isolation --editable .; \
else \
  $(1)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .; \
fi
endef

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench fuzz soak chaos reference lock clean pytest pytest-second clients openai1 anthropic0 node litellm
.NOTPARALLEL:

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*##  */\1	/p' $(firstword $(MAKEFILE_LIST)) | expand -t 8

demo: $(VENV)/.runtime  ## the router with three embedded upstreams: no key, no network (ARGS="--once" ends by itself)
	@$(VENV)/bin/python -m router demo $(ARGS)

test: lint pytest-second pytest  ## everything CI runs, on one Python or two

lint: $(VENV)/.dev  ## style and types
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy

bench: $(VENV)/.dev  ## CPU, latency and memory beside nginx in the same run
	$(VENV)/bin/python -m tests.bench $(ARGS)

soak: $(VENV)/.dev  ## mixed faults at 200 streams for ten minutes, curves in build/soak/ (ARGS="--minutes 60 --seed 2")
	$(VENV)/bin/python -m tests.soak $(ARGS)

chaos: $(VENV)/.dev openai1 node $(if $(findstring litellm,$(ARGS)),litellm)  ## promises kept while things break (ARGS="--beside litellm")
	$(VENV)/bin/python -m tests.chaos $(ARGS)

fuzz: $(VENV)/.dev  ## one part of the router, with inputs that grow (ARGS="multipart --seconds 600", then ARGS="multipart --keep")
	$(VENV)/bin/python -m tests.fuzz $(ARGS)

reference: $(VENV)/.dev  ## what is generated from the code, anew: reference pages, JSON Schema, man page, dashboards
	$(VENV)/bin/python deploy/reference.py
	$(VENV)/bin/python -m router config schema > config/router.schema.json
	$(VENV)/bin/python -m router manual > deploy/man/llm-router.1
	$(VENV)/bin/python deploy/grafana/dashboards.py

lock:  ## the lock files anew from pyproject.toml (needs uv; delete one first to take the newest versions)
	$(LOCK) pyproject.toml -o requirements.lock
	$(LOCK) pyproject.toml --group dev -o requirements-dev.lock
	echo 'setuptools>=77' | $(LOCK) - -o requirements-build.lock
	echo 'openai==1.109.1' | $(LOCK) - -o tests/sdk/openai1.lock
	echo 'anthropic==0.125.0' | $(LOCK) - -o tests/sdk/anthropic0.lock
	echo 'litellm[proxy]' | $(LOCK) - -o tests/chaos/litellm.lock
	npm install --prefix $(NODE) --package-lock-only --omit-lockfile-registry-resolved --loglevel=error

clean:  ## remove what was built here
	rm -rf $(VENV) $(OPENAI1) $(ANTHROPIC0) $(SECOND) $(LITELLM) $(NODE)/node_modules build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

LOCK = UV_CUSTOM_COMPILE_COMMAND="make lock" uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-annotate --no-emit-index-url --no-emit-find-links

# The last line of `make test` is the closing line of this run.
pytest: $(VENV)/.dev clients
	$(VENV)/bin/python -m pytest -n auto --dist worksteal $(ARGS)

# Without what is slow and not about Python: SDKs (tests/relay plays the same answers), mutations, worlds, tools of deploy/.
pytest-second: $(VENV)/.dev
	@python="$(SECOND_PYTHON)"; \
	if [ -n "$$python" ]; then \
	  $(MAKE) --no-print-directory SECOND_PYTHON="$$python" $(SECOND)/.dev && \
	  $(SECOND)/bin/python -m pytest -q -n auto --dist worksteal -p no:cacheprovider \
	    $(foreach folder,chaos deploy doctor fuzz hostile migrate sdk simulation soak,--ignore=tests/$(folder)) $(ARGS); \
	else echo "Only one of Python 3.11 and 3.13 is here: tested on one"; fi

# SDK generations that need other versions of what the newest need too live apart, and so does what runs on Node.
# Without one of them its tests are skipped and say why.
clients: openai1 anthropic0 node

openai1:
	@$(MAKE) --no-print-directory $(OPENAI1)/.done || echo "The tests with openai 1.x will be skipped"

anthropic0:
	@$(MAKE) --no-print-directory $(ANTHROPIC0)/.done || echo "The tests with anthropic 0.x will be skipped"

node:
	@if command -v node >/dev/null && command -v npm >/dev/null; then $(MAKE) --no-print-directory $(NODE)/node_modules/.done; \
	else echo "No node and npm found"; false; fi || echo "The tests with openai on Node will be skipped"

$(OPENAI1)/.done: tests/sdk/openai1.lock
	$(call environment,$(OPENAI1),$(PYTHON),$<)
	@touch $@

$(ANTHROPIC0)/.done: tests/sdk/anthropic0.lock
	$(call environment,$(ANTHROPIC0),$(PYTHON),$<)
	@touch $@

# LiteLLM's proxy, for `make chaos ARGS="--beside litellm"` alone.
litellm:
	@$(MAKE) --no-print-directory $(LITELLM)/.done || echo "LiteLLM's proxy cannot be installed here"

$(LITELLM)/.done: tests/chaos/litellm.lock
	$(call environment,$(LITELLM),$(PYTHON),$<)
	@touch $@

$(NODE)/node_modules/.done: $(NODE)/package.json $(NODE)/package-lock.json
	@echo "Setting up $(NODE)/node_modules (once)"
	@npm ci --prefix $(NODE) --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null
	@touch $@

$(VENV)/.runtime: requirements.lock requirements-build.lock pyproject.toml
	$(call environment,$(VENV),$(PYTHON),requirements.lock requirements-build.lock)
	$(call checkout,$(VENV))
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements-dev.lock
	$(call environment,$(VENV),$(PYTHON),requirements-dev.lock)
	@touch $@

$(SECOND)/.dev: requirements-dev.lock requirements-build.lock pyproject.toml
	$(call environment,$(SECOND),$(SECOND_PYTHON),requirements-dev.lock requirements-build.lock)
	$(call checkout,$(SECOND))
	@touch $@
