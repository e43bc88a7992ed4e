.DEFAULT_GOAL := help
.PHONY: help install install-dev up demo test test-all chaos chaos-report chaos-proof test-versions test-lowest test-highest
.PHONY: check check-lint check-format check-types check-imports check-contract check-generated
.PHONY: check-dashboard dashboard check-site site check-dockerfile check-stubs check-clients screenshots recording format generate generate-clients
.PHONY: lock sbom audit freeze bench release check-release keep-release set-version

VENV := .venv/bin
export PATH := $(CURDIR)/$(VENV):$(PATH)
# The platform's certificate store, so that uv trusts a company's own authority as other programs do.
export UV_SYSTEM_CERTS ?= true

help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | expand -t 20

install: ## Put Ingot into .venv, start nothing
	./install.sh

up: install ## Run Ingot with its embedded Redis and S3, workers, gRPC on 50051, HTTP on 8080
	$(VENV)/ingot-server up

demo: install ## Make a clip, ingest it, watch it, download it
	$(VENV)/python docs/demo.py

install-dev: ## Also put into .venv what the tests and the checks need
	./install.sh dev

# Most tests wait for other processes, so one more than there are processors keeps these busy.
TEST_PROCESSES ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1)))
PYTEST := $(VENV)/pytest --numprocesses=$(TEST_PROCESSES) --dist=worksteal

test: install-dev ## Run the tests in some minutes: unit, contract, integration, and one whole `up`
	$(PYTEST) -m "not live and not slow and not other_stores" tests/unit tests/model tests/integration tests/e2e/test_http.py
	@echo "Passed. To run the rest too (slow tests, Redis and MinIO, end to end, chaos): make test-all"
	@echo "To run one part: $(VENV)/pytest tests/unit"

test-all: install-dev ## Run every test: also the slow ones, on Redis and MinIO, end to end, and chaos
	$(PYTEST) $(TEST_OPTIONS)

# Another seed each time, unless SEED is set; the report names it.
FAULTS ?= 200
STACK ?= valkey-seaweedfs
BROKER ?= redis

chaos: install-dev ## Disturb a whole Ingot at random, check every promise (SEED, FAULTS, STACK, BROKER)
	$(VENV)/python -m tests.chaos $(if $(SEED),--seed $(SEED)) --faults $(FAULTS) --stack $(STACK) --broker $(BROKER)

chaos-report: install-dev ## Disturb it 1,000 times in one run, alone on a machine, and write docs/chaos-report.txt (takes half an hour)
	$(VENV)/python -m tests.chaos --seed $(or $(SEED),1000) --faults 1000 --stack $(STACK) --broker $(BROKER) --report docs/chaos-report.txt

chaos-proof: install-dev ## Plant bugs into copies of the server; the suite must find each (BUGS names some of them)
	$(VENV)/python -m tests.chaos.planted $(BUGS)

test-versions: test-lowest test-highest ## Run the unit tests on the oldest and the newest allowed dependencies

test-lowest: install-dev ## Run the unit tests on the oldest allowed dependencies
	$(call test_with_resolution,lowest-direct)

test-highest: install-dev ## Run the unit tests on the newest allowed dependencies, locked or not
	$(call test_with_resolution,highest)

# Each run makes its environment again; only uv's cache of packages is kept.
define test_with_resolution
	uv --quiet venv --clear --python $(VENV)/python .cache/versions/$(1)
	uv --quiet pip install --python .cache/versions/$(1) --resolution $(1) -r requirements/build.in \
		-r clients/python/pyproject.toml -r server/pyproject.toml --extra telegram --group dev
	uv --quiet pip install --python .cache/versions/$(1) --no-deps --no-build-isolation \
		--editable clients/python --editable server
	PATH=$(CURDIR)/.cache/versions/$(1)/bin:$$PATH pytest tests/unit
endef

# The pre-commit hooks call the same targets.
check: check-lint check-format check-types check-imports check-contract check-generated check-dockerfile check-dashboard check-site ## Run every check

check-lint: install-dev ## Lint the Python code
	ruff check

check-format: install-dev ## Check that Python and protobuf files are formatted
	ruff format --check
	buf format --diff --exit-code

check-types: install-dev ## Check the types
	mypy

check-imports: install-dev ## Check that imports run from the upper layers to the lower ones
	lint-imports

check-contract: install-dev ## Lint the contract, and compare it with the released one
	buf lint
	buf breaking --against proto/released.binpb

check-generated: install-dev ## Check that what is generated from proto/ and from code is up to date
	generated=$$(mktemp -d) && trap 'rm -rf "$$generated"' EXIT && clients/generate.sh "$$generated" && \
		diff -r -x __pycache__ "$$generated/clients/python/ingot/v1" clients/python/ingot/v1 && \
		for file in validate.binpb openapi.json; do \
			diff "$$generated/server/ingot_server/api/$$file" server/ingot_server/api/$$file || exit 1; \
		done && \
		for stub in manifest_pb2.py manifest_pb2.pyi; do \
			diff "$$generated/server/ingot_server/library/$$stub" server/ingot_server/library/$$stub || exit 1; \
		done && \
		diff "$$generated/docs/settings.md" docs/settings.md && \
		diff -r "$$generated/docs/reference" docs/reference

check-stubs: install-dev ## Generate and compile stubs for Go, TypeScript and Java (needs Go, Node, Maven)
	tests/stubs/check.sh

check-clients: install-dev ## Check the clients of other languages (needs Node, Go)
	clients/check.sh

check-dockerfile: install-dev ## Lint the Dockerfiles
	hadolint Dockerfile deploy/minio/Dockerfile

# Only the dashboard needs it, and it belongs to Grafana more than to Ingot, so it is locked apart, too.
DASHBOARD := .cache/dashboard
$(DASHBOARD)/installed: requirements/dashboard.txt
	uv --quiet venv --clear --python $(VENV)/python $(DASHBOARD)
	uv --quiet pip install --python $(DASHBOARD) --require-hashes -r requirements/dashboard.txt
	touch $@

check-dashboard: install-dev $(DASHBOARD)/installed ## Check that Grafana's dashboard is what its code writes
	written=$$(mktemp) && trap 'rm -f "$$written"' EXIT && \
		$(DASHBOARD)/bin/python deploy/grafana/dashboard.py "$$written" && diff "$$written" deploy/grafana/ingot.json

dashboard: install-dev $(DASHBOARD)/installed ## Write Grafana's dashboard from its code
	$(DASHBOARD)/bin/python deploy/grafana/dashboard.py

# Locked apart as well: the site of the documentation needs nothing of Ingot.
SITE := .cache/site
export NO_MKDOCS_2_WARNING := 1
$(SITE)/installed: requirements/site.txt
	uv --quiet venv --clear --python $(VENV)/python $(SITE)/venv
	uv --quiet pip install --python $(SITE)/venv --require-hashes -r requirements/site.txt
	touch $@

site: install-dev $(SITE)/installed ## Build the site of the documentation in .cache/site/html
	$(SITE)/venv/bin/mkdocs build --strict

# Zensical keeps a cache in .cache of its directory, so it gets a copy.
check-site: site ## Check that MkDocs and its successor build the site, with all pages and without a broken link
	rm -rf $(SITE)/copy && mkdir $(SITE)/copy && cp -r mkdocs.yml docs $(SITE)/copy
	cd $(SITE)/copy && ../venv/bin/zensical build --strict

recording: install-dev $(SITE)/installed ## Record `make demo` in a terminal, into docs/images
	$(SITE)/venv/bin/python docs/recording.py

format: install-dev ## Format all code
	ruff check --fix
	ruff format
	buf format --write

generate: install-dev ## Generate the stubs from proto/, and the reference
	clients/generate.sh

generate-clients: install-dev ## Generate the stubs of the TypeScript and Go clients (needs Node, Go)
	clients/typescript/generate.sh
	clients/go/generate.sh

lock: install-dev ## Resolve the dependencies again and pin them by their hashes
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade --custom-compile-command "make lock" requirements/uv.in -o requirements/uv.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade --custom-compile-command "make lock" --no-emit-package ingot-client -c requirements/uv.txt server/pyproject.toml requirements/build.in -o requirements/server.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade --custom-compile-command "make lock" --no-emit-package ingot-client --no-emit-package ingot-server -c requirements/server.txt --group dev -o requirements/dev.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade --custom-compile-command "make lock" requirements/supply.in -o requirements/supply.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade --custom-compile-command "make lock" requirements/dashboard.in -o requirements/dashboard.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade --custom-compile-command "make lock" requirements/site.in -o requirements/site.txt

# The tools are locked apart from Ingot's own dependencies.
SUPPLY := .cache/supply
$(SUPPLY)/installed: requirements/supply.txt
	uv --quiet venv --clear --python $(VENV)/python $(SUPPLY)
	uv --quiet pip install --python $(SUPPLY) --require-hashes -r requirements/supply.txt
	touch $@

sbom: install-dev $(SUPPLY)/installed ## Write the bill of materials (CycloneDX) to .cache/sbom
	mkdir -p .cache/sbom
	$(SUPPLY)/bin/cyclonedx-py requirements --spec-version 1.6 --output-reproducible --pyproject server/pyproject.toml \
		--output-file .cache/sbom/server.cdx.json requirements/server.txt

audit: install-dev $(SUPPLY)/installed ## Look for known vulnerabilities of the locked dependencies (needs api.osv.dev)
	@if curl -sfo /dev/null -m 10 https://api.osv.dev/v1/vulns/PYSEC-2014-1; then \
		$(SUPPLY)/bin/pip-audit --vulnerability-service osv --disable-pip --require-hashes -r requirements/server.txt; \
	else \
		echo "api.osv.dev cannot be reached, so the dependencies were not audited. Run \`make audit\` where it can"; \
		echo "(with https_proxy set, if that is the way out), or give the bill of materials of \`make sbom\` to another scanner."; \
	fi

release: install-dev $(SUPPLY)/installed ## Make the files of a release in dist/ (IMAGE=yes: the image, too; needs Node)
	$(VENV)/python -m release.build $(if $(IMAGE),--image)

check-release: install-dev ## Use the files of `make release` in clean environments (needs Node, Go)
	$(VENV)/python -m release.verify

keep-release: install-dev ## Keep what this version stores in tests/kept, for later versions to read (takes two minutes)
	$(VENV)/python -m tests.keep_release $$($(VENV)/python -m release.versions)

set-version: install-dev ## Write VERSION into every place that has the version
	$(VENV)/python -m release.versions $(VERSION)

freeze: install-dev ## Record proto/ as the contract that check-contract compares with
	buf build --exclude-source-info --path proto/ingot --output proto/released.binpb

screenshots: install-dev ## Take the screenshots of the web page in docs/images (needs Chromium)
	$(VENV)/python docs/screenshots.py

bench: install-dev ## Run the benchmarks, print their ratios
	$(VENV)/python -m bench
