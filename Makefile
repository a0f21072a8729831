# Everything that is done with this project, by hand and in CI. `make help` lists it.
SHELL := /bin/bash
PYTHON ?= $(shell .ci/python || echo python3.11)
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test simulate chaos gen kustomize verify lint format types arch lock testbed images clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

# Two stamps on one environment: the demo needs no test tools.
$(VENV)/.run: requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed: $(PYTHON) was not found, or has no ensurepip (make PYTHON=/path/to/python3.11)"; exit 1; }
	@echo "making the virtual environment (once)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements-dev.lock
	@echo "adding the development tools (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

demo: $(VENV)/.run ## a fleet on this machine: three clusters, all services, a stream of workloads; ARGS="--help"
	@exec $(BIN)/python -m services.cli demo $(ARGS)

test: $(VENV)/.dev ## every test that this machine can run; ARGS="-k name"
	$(BIN)/python -m pytest $(ARGS)

simulate: $(VENV)/.dev ## the whole fleet in virtual time while everything breaks; ARGS="--seeds 1000"
	@$(BIN)/python -m tests.simulation $(ARGS)

chaos: $(VENV)/.dev ## real faults on the real test bed; ARGS="--seed S --minutes N"
	@exec $(BIN)/python -m tests.chaos $(ARGS)

gen: $(VENV)/.dev ## regenerate documents, schemas, topics, ACLs, CRDs, rules of RBAC and dashboards from the code
	$(BIN)/python -m shared.events.generate
	$(BIN)/python -m services.hub crds --write
	$(BIN)/python -m shared.security.generate
	$(BIN)/python deploy/grafana/generate.py

verify: $(VENV)/.dev ## fail if anything generated, formatted or locked differs from what is checked in
	$(BIN)/python -m shared.events.generate --check
	$(BIN)/python -m services.hub crds --check
	$(BIN)/python -m shared.security.generate --check
	$(BIN)/python deploy/grafana/generate.py --check
	$(BIN)/ruff format --check .
	.ci/check-tree

kustomize: $(VENV)/.dev ## render Kustomize's bases from the charts anew (needs `make testbed`)
	$(BIN)/python -m tests.testbed.kustomize

lint: $(VENV)/.dev ## ruff, every rule on but the explained ones; hadolint
	$(BIN)/ruff check .
	$(BIN)/hadolint deploy/docker/*.Dockerfile

format: $(VENV)/.dev ## format the code
	$(BIN)/ruff format .

types: $(VENV)/.dev ## mypy, strict
	$(BIN)/mypy

arch: $(VENV)/.dev ## the layers, as pyproject.toml states them
	$(BIN)/lint-imports

lock: $(VENV)/.dev ## resolve the hash-pinned requirement files anew
	$(BIN)/uv pip compile -q --generate-hashes --no-emit-index-url --no-header --python-version 3.11 \
		--extra embedded --extra aws pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile -q --generate-hashes --no-emit-index-url --no-header --python-version 3.11 \
		--extra embedded --extra aws --group dev pyproject.toml -o requirements-dev.lock
	$(BIN)/uv pip compile -q --generate-hashes --no-emit-index-url --no-header --python-version 3.11 \
		-c requirements.lock pyproject.toml -o deploy/docker/control-plane.lock
	$(BIN)/uv pip compile -q --generate-hashes --no-emit-index-url --no-header --python-version 3.11 \
		-c requirements.lock deploy/docker/agent.in -o deploy/docker/agent.lock

testbed: $(VENV)/.dev ## build the real test bed (kube-apiserver, etcd, kwok, Helm and others) into the cache, once
	$(BIN)/python -m tests.testbed.build
	$(BIN)/python -m tests.testbed.oracle
	$(BIN)/python -m tests.testbed.helm_cli
	$(BIN)/python -m tests.testbed.cluster_api

images: ## both container images; the same commit gives the same bytes. ARGS="--build-arg BASE=..."
	@export SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct); for image in control-plane agent; do \
		docker build -f deploy/docker/$$image.Dockerfile -t flotilla-$$image:dev \
			--build-arg REVISION=$$(git rev-parse HEAD) $(ARGS) . || exit 1; done

clean: ## remove the environment and caches of tools (not the cache of downloads and builds)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .flotilla
