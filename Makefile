.DEFAULT_GOAL := help
.PHONY: help install up demo test check format generate lock release bench

VENV := .venv/bin
export PATH := $(CURDIR)/$(VENV):$(PATH)

help: ## What can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 12

install: ## Put everything into .venv, start nothing
	./install.sh

up: install ## Run Ingot with its embedded Redis and S3, workers, gRPC on 50051, HTTP on 8080
	$(VENV)/ingot-server up

demo: install ## Make a clip, ingest it, watch it, download it
	$(VENV)/python docs/demo.py

.PHONY: install-dev
install-dev:
	./install.sh dev

test: install-dev ## Run the tests
	$(VENV)/pytest

check: install-dev ## Lint, types, import rules, contract, generated code
	ruff check
	ruff format --check
	mypy
	lint-imports
	buf lint
	buf format --diff --exit-code
	hadolint Dockerfile
	buf breaking --against proto/released.binpb
	generated=$$(mktemp -d) && trap 'rm -rf "$$generated"' EXIT && clients/generate.sh "$$generated" && \
		diff -r -x __pycache__ "$$generated/clients/python/ingot/v1" clients/python/ingot/v1 && \
		diff -r -x __pycache__ "$$generated/clients/python/buf" clients/python/buf

format: install-dev ## Format all code
	ruff check --fix
	ruff format
	buf format --write

generate: install-dev ## Generate the stubs from proto/
	clients/generate.sh

lock: install-dev ## Resolve the dependencies anew
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade --custom-compile-command "make lock" requirements/uv.in -o requirements/uv.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade --custom-compile-command "make lock" --no-emit-package ingot-client -c requirements/uv.txt server/pyproject.toml requirements/build.in -o requirements/server.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade --custom-compile-command "make lock" --no-emit-package ingot-client --no-emit-package ingot-server -c requirements/server.txt --group dev -o requirements/dev.txt

release: install-dev ## Fix the contract: what is in proto/ now can no longer be broken
	buf build --exclude-source-info --path proto/ingot --output proto/released.binpb

bench: install-dev ## Measure; prints ratios
	$(VENV)/python -m bench
