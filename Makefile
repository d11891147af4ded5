# Needs Python 3.11 or newer and make; everything else is installed into .venv.
# PYTHON=python3.12 make run  uses another interpreter for the environment.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check

# Every folder with Python of ours: what is formatted, linted and typed.
SOURCES := $(wildcard api benchmarks config deploy docs examples mech_queue tasks tests workers)

.DEFAULT_GOAL := help
.PHONY: help run docs test check format lint types imports containers pytest cluster failover matrix fuzz kills machine reseal lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.service ## start everything on this machine: store, api, workers, scheduler, metrics, Flower
	@exec $(BIN)/python -m workers.dev

reseal: $(VENV)/.service ## rewrite every stored secret under the first key of SECRETS_KEY (then the older keys may go)
	@$(BIN)/python -m workers.reseal

test: check pytest ## lint, types, import contract and all tests

check: lint types imports containers ## everything of `make test` that needs no running process

docs: $(VENV)/.dev ## write what is made from code: pages of docs/ (states, keys, settings, alerts), Grafana's dashboard
	$(BIN)/python -m docs.generate

format: $(VENV)/.dev ## put the code into its one format
	$(BIN)/ruff check --fix --quiet $(SOURCES)
	$(BIN)/ruff format --quiet $(SOURCES)

lint: $(VENV)/.dev ## ruff: rules and format
	$(BIN)/ruff check --quiet $(SOURCES)
	$(BIN)/ruff format --check --quiet $(SOURCES)

types: $(VENV)/.dev ## mypy, strict
	$(BIN)/mypy $(SOURCES)

imports: $(VENV)/.dev ## the import contract (.importlinter)
	$(BIN)/lint-imports --no-logo

containers: $(VENV)/.dev ## docker-compose.yml against the compose schema, Dockerfile by hadolint
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
	$(BIN)/hadolint --no-color Dockerfile

pytest: $(VENV)/.dev ## all tests; PYTEST="tests/store -x" narrows them
	$(BIN)/python -m pytest -n 3 --dist loadfile $(PYTEST)  # two cores: a third process uses what the others wait

cluster: $(VENV)/.dev ## the store on three primaries: scripts, slots that move, nodes that die, the whole service
	$(BIN)/python -m pytest -n 0 -m "" tests/store/test_cluster.py tests/store/test_cluster_nodes.py tests/e2e/test_cluster.py

failover: $(VENV)/.dev ## servers behind Sentinels die, hang and come back: the service goes on, and a table of what was lost
	$(BIN)/python -m pytest -n 0 -m "" tests/e2e/test_failover.py
	$(BIN)/python -m benchmarks.failover

matrix: $(VENV)/.dev ## native workers, each pool with each fault and broker; writes docs/native-matrix.md
	mkdir -p build && rm -f build/matrix.jsonl
	MATRIX=build/matrix.jsonl $(BIN)/python -m pytest -n 0 -m "" tests/celery/test_matrix.py tests/celery/test_many_applications.py
	NATIVE_BROKER=rabbitmq MATRIX=build/matrix.jsonl $(BIN)/python -m pytest -n 0 -m "" tests/celery/test_matrix.py
	$(BIN)/python -m docs.matrix build/matrix.jsonl

fuzz: $(VENV)/.dev ## 10,000 random requests, and each border of each schema, against the API's own document
	FUZZ_CASES=10000 $(BIN)/python -m pytest -n 2 tests/api/test_contract.py

kills: $(VENV)/.dev ## 200 kill -9, of one process after the other, while jobs are submitted; an exact count at the end
	KILLS=200 $(BIN)/python -m pytest -n 0 -rP tests/e2e/test_kill.py -k while_everything_is_killed

machine: $(VENV)/.dev ## the engine's model-based machine, 5,000 new sequences, and that it notices each planted fault
	MACHINE_EXAMPLES=5000 $(BIN)/python -m pytest -n 2 tests/store/test_machine.py tests/store/test_planted_faults.py

lock: $(VENV)/.dev ## choose exact versions anew (requirements*.lock)
	$(BIN)/uv pip compile --quiet --upgrade $(COMPILE) -o requirements.lock
	$(BIN)/uv pip compile --quiet --upgrade $(COMPILE) --group dev -c requirements.lock -o requirements-dev.lock

COMPILE := --universal --python-version 3.11 --no-header --no-annotate --no-emit-index-url \
	--extra celery --group service pyproject.toml

clean: ## remove the environment and caches (the data of `make run` stays in .mech-queue)
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build

# The environment. A stamp per lock file: a second call with unchanged locks does nothing.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "mech-queue needs Python 3.11 or newer: PYTHON=/path/to/python3.11 make $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ echo "Python's venv module is missing: on Debian and Ubuntu, apt install python3-venv"; exit 1; }

$(VENV)/.service: requirements.lock | $(BIN)/python
	@echo "Installing into $(VENV) …"
	@$(PIP) -r requirements.lock
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.service | $(BIN)/python
	@$(PIP) -r requirements-dev.lock
	@touch $@
