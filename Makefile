# `make` alone prints the verbs.
PYTHON ?= $(shell .ci/python)
BIN := .venv/bin

# What LiteLLM and LangChain bring along and their image calls never load: left out of the lock, 180 MB less.
CONTRACT_UNUSED := boto3 botocore filelock fsspec h2 hf-xet hpack httpcore2 httpx-sse httpx2 httpx2-jsfetch huggingface-hub \
	hyperframe jmespath jsonpatch jsonpointer jsonschema jsonschema-specifications langchain-classic langchain-protocol \
	langchain-text-splitters langsmith numpy orjson python-dateutil referencing requests-toolbelt rpds-py s3transfer six \
	sqlalchemy tenacity tokenizers truststore uuid-utils websockets xxhash zstandard

# Where examples are generated: few in `make test`, many in `make prove`.
PROPERTIES := tests/properties tests/core/test_bigjson.py tests/imagesapi/test_any_body.py tests/imagesapi/test_pricing.py

.DEFAULT_GOAL := help
.PHONY: help install run test prove bench lint format types layers clients compiled lock schema migrations clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/runtime.stamp: requirements/runtime.txt pyproject.toml
	@echo "installing the runtime into .venv (once; a minute or two)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --disable-pip-version-check --no-input --quiet --require-hashes -r requirements/runtime.txt
	@touch $@

.venv/dev.stamp: .venv/runtime.stamp requirements/dev.txt
	@echo "installing the test tools into .venv (once)"
	@$(BIN)/python -m pip install --disable-pip-version-check --no-input --quiet --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --disable-pip-version-check --no-input --quiet --no-deps --no-build-isolation -e .
	@touch $@

install: .venv/dev.stamp ## set up .venv with everything

run: .venv/runtime.stamp ## set up what is missing and serve on http://127.0.0.1:8000 (HOST, PORT, DATA_DIR, DATABASE_URL)
	@exec $(BIN)/python manage.py serve

# The suite starts Python a hundred times: an environment that forbids keeping what is compiled would make it compile anew.
test: export PYTHONDONTWRITEBYTECODE :=
test: .venv/dev.stamp ## everything CI runs
	@$(MAKE) --no-print-directory -j 2 types lint layers clients compiled
	@$(BIN)/python -m pytest -n 4 --dist worksteal -m "not prove"

prove: .venv/dev.stamp ## the guarantees at full size
	@$(BIN)/python -m pytest -m prove -s
	@$(BIN)/python -m pytest --hypothesis-profile full -m "not prove" $(PROPERTIES)

bench: .venv/dev.stamp ## what we claim about speed, beside nginx and the peers
	@$(BIN)/python -m benchmarks

lint: .venv/dev.stamp ## ruff and djade
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@git ls-files -co --exclude-standard 'templates/*.html' | xargs $(BIN)/djade --target-version 5.2 --check

format: .venv/dev.stamp ## put the code into its form
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@git ls-files -co --exclude-standard 'templates/*.html' | xargs $(BIN)/djade --target-version 5.2 || true

types: .venv/dev.stamp ## mypy
	@$(BIN)/mypy

layers: .venv/dev.stamp ## who may import whom
	@$(BIN)/lint-imports --no-cache

clients: .venv/dev.stamp ## install the clients that the contract tests speak through, once
	@PYTHONPATH=.:platform $(BIN)/python -m tests.contract.installed

compiled: .venv/dev.stamp ## compile the tests once, not once in each of their processes
	@$(BIN)/python -m pytest --collect-only -qq -m "not prove" >/dev/null || true # the suite itself says what is wrong

lock: ## resolve the requirements anew, hashes and no addresses
	@$(PYTHON) -m venv .venv/lock && .venv/lock/bin/pip install --quiet uv
	@.venv/lock/bin/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" --upgrade --quiet -o requirements/runtime.txt
	@.venv/lock/bin/uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" --upgrade --quiet -o requirements/dev.txt
	@for line in 1 2; do .venv/lock/bin/uv pip compile requirements/contract-$$line.in $(addprefix --no-emit-package ,$(CONTRACT_UNUSED)) --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command "make lock" --upgrade --quiet -o requirements/contract-$$line.txt || exit 1; done
	@cd tests/contract && npm install --package-lock-only --omit-lockfile-registry-resolved --ignore-scripts --no-audit --no-fund

schema: .venv/dev.stamp ## write docs/openapi.json anew
	@$(BIN)/python manage.py write_openapi

migrations: .venv/dev.stamp ## write migrations for changed models
	@$(BIN)/python manage.py makemigrations

clean: ## remove the environment and the development data
	@rm -rf .venv var
