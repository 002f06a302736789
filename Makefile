# The two commands of the README are `make demo` and `make test`; the rest is for working here.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := $(VENV)/.installed
DEV := $(VENV)/.installed-dev
CHECK_ENV := DJANGO_SETTINGS_MODULE=tests.settings
WORKERS ?= 2
ARGS ?=
SINCE ?= HEAD

.PHONY: help demo run test check check-fast lint types contracts system test-sqlite test-postgresql demo-trace format lock benchmarks chaos

help:  ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 18

$(RUN): requirements.txt
	@echo "Installing the portal into $(VENV) (once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@touch $@

$(DEV): $(RUN) requirements-dev.txt
	@echo "Installing the checks into $(VENV) (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@

demo: $(RUN)  ## the portal with a governed airline and an agent at work; ARGS="--trace FILE --json OUT --exit"
	@$(BIN)/python -m demo.run $(ARGS)

run: $(RUN)  ## the portal alone, at http://localhost:8000
	@$(BIN)/python -m common.local_env var/local.env
	@$(BIN)/python -m portal.serve

test: $(DEV) test-sqlite test-postgresql  ## all tests on SQLite, and on PostgreSQL those that use a database

test-sqlite: $(DEV)
	@echo "Tests on SQLite"
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

test-postgresql: $(DEV)
	@echo "Tests on PostgreSQL"
	@$(BIN)/python -m tests.on_postgresql $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

check: $(DEV) lint types contracts system test demo-trace  ## exactly what CI runs

check-fast: $(DEV) lint types contracts  ## lint, types, contracts and the tests changed SINCE=HEAD
	@$(BIN)/python -m pytest -q -n $(WORKERS) tests/architecture/test_naming.py tests/architecture/test_documents.py \
		$$(git diff --name-only --diff-filter=d $(SINCE) -- 'tests/test_*.py' 'tests/**/test_*.py')

lint: $(DEV)
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(DEV)
	@$(BIN)/mypy .

contracts: $(DEV)
	@mkdir -p var; $(BIN)/lint-imports > var/contracts.log || (cat var/contracts.log; exit 1)
	@tail -n 1 var/contracts.log

system: $(DEV)
	@$(CHECK_ENV) $(BIN)/python manage.py check --fail-level WARNING
	@$(CHECK_ENV) $(BIN)/python manage.py makemigrations --check --dry-run

demo-trace: $(RUN)  ## replay the bundled trace and check the table
	@$(BIN)/python -m demo.run --exit --strict --json var/trace.json

format: $(DEV)  ## put the code in order
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

lock: $(DEV)  ## compile requirements.txt and requirements-dev.txt from their .in files
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -o requirements.txt requirements.in
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -o requirements-dev.txt requirements-dev.in

benchmarks: $(DEV)  ## time of decisions beside bare Cedar and inserts, of workflows beside DBOS
	@$(BIN)/python -m benchmarks.decision
	@$(BIN)/python -m benchmarks.workflows

chaos: $(DEV)  ## a thousand workers killed at random: what is lost, what is done twice
	@$(BIN)/python -m benchmarks.chaos
