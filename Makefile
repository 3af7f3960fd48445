# Every action of a developer. `make up` and `make test` work on a fresh machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Tests of the quick loop: pure ones, and those of the machinery on virtual time.
QUICK := tests/api tests/base tests/cli tests/control tests/model tests/apiserver/apply tests/apiserver/crd \
  tests/apiserver/kinds tests/apiserver/patches tests/gateway/test_plan.py tests/groups/leader_worker_sets/test_plan.py \
  tests/groups/disaggregated_sets/test_plan.py tests/groups/disaggregated_sets/test_rollout.py tests/groups/job_sets/test_plan.py \
  tests/groups/leader_worker_sets/test_restart.py tests/node/test_pure.py tests/scheduling/test_plan.py
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help up down test check format bench docs chart lock schemas kubernetes fuzz gateway-conformance upstream-objects clean

help:  ## list these actions
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | awk -F'\t' '{printf "  make %-10s %s\n", $$1, $$2}'

$(STAMP): requirements/dev.txt pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

up: $(STAMP)  ## start a cluster on this machine, deploy a model, ask it one question (ARGS: options of kaji up)
	@$(BIN)/python -m kajitori.engines.weights > /dev/null
	@$(BIN)/kaji up --ask "What is Kubernetes?" $(ARGS)

down: $(STAMP)  ## stop the cluster
	@$(BIN)/kaji down

test: $(STAMP)  ## everything that must hold: format, lint, types, layers, tests, documentation
	@tools/test

check: $(STAMP)  ## the quick loop: format, lint, types, layers, pure tests
	$(BIN)/ruff format --check src tests tools bench conftest.py
	$(BIN)/ruff check src tests tools bench conftest.py
	$(BIN)/lint-imports
	$(BIN)/pyright
	$(BIN)/pytest -q -n 2 $(QUICK)

format: $(STAMP)  ## format and mend what can be mended
	$(BIN)/ruff format src tests tools bench
	$(BIN)/ruff check --fix src tests tools bench

bench: $(STAMP)  ## measure the figures of docs/reference/figures.md
	@for name in apiserver cluster groups gateway scheduling; do echo "== bench.$$name"; $(BIN)/python -m bench.$$name || exit 1; done

docs: $(STAMP)  ## make the generated reference pages
	$(BIN)/python tools/generate_reference.py

chart: $(STAMP)  ## write the Helm chart from its source
	$(BIN)/kaji install --render --helm deploy/helm/kajitori

lock: $(STAMP)  ## resolve the dependencies anew, with hashes
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --group dev pyproject.toml -o requirements/dev.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --constraint requirements/dev.txt pyproject.toml -o requirements/runtime.txt

kubernetes: $(STAMP)  ## build a real control plane and Go clients for the tests (minutes, once; into a cache outside the checkout)
	$(BIN)/python -m tools.kubernetes.build

fuzz: $(STAMP)  ## fuzz whoever reads foreign bytes by coverage (FUZZ_SECONDS for each, 60; x86_64 and Python 3.11 only)
	$(BIN)/python -m tests.fuzz.long_run .fuzz $${FUZZ_SECONDS:-60}

gateway-conformance: $(STAMP)  ## run the Gateway API's own conformance suite against the gateway (minutes; needs Go and the ports 80, 443, 8080, 8443; SERVER=kubernetes: on a real API server)
	$(BIN)/python -m tools.gateway_conformance --server $(or $(SERVER),embedded)

upstream-objects: $(STAMP)  ## hold definitions and plans against the objects of Envoy Gateway's own tests (minutes; needs Go)
	$(BIN)/python -m tools.upstream_objects

schemas: $(STAMP)  ## make the wire types anew from the published schemas of Kubernetes
	$(BIN)/python tools/generate_kubernetes_schemas.py

clean:  ## remove what was built (clusters keep running: see `kaji down`)
	rm -rf $(VENV) .fuzz dist build .pytest_cache .ruff_cache .hypothesis
