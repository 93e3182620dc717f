# Every target sets up what it needs: `make test` on a fresh clone is enough.
PYTHON ?= python3.11
export PYTHON

# Many container images turn off writing of bytecode; then each process of the tests compiles all sources again.
export PYTHONDONTWRITEBYTECODE =
export PYTHONPYCACHEPREFIX = $(CURDIR)/.venv/pycache

BIN := .venv/bin
INSTALLED := .venv/.installed
PYTEST := $(BIN)/pytest

.DEFAULT_GOAL := help
.PHONY: help setup jars uber-jar lock lock-java sbom licences advisories lint site format test test-unit test-java test-integration test-deep test-all test-busy test-privacy chaos chaos-seeds fuzz coverage coverage-unit golden schemas docs manifests \
	demo bench bench-quick bench-core bench-audit clean coverage-new need-python need-java need-maven

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# These run before anything else, so that a missing JDK shows at once and not after minutes of installing.
need-python:
	@scripts/require python

need-java:
	@scripts/require python java

need-maven: need-java
	@scripts/require mvn

# pip takes its index, proxy and certificates from the environment.
$(INSTALLED): setup.py requirements/dev.lock | need-python
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements/dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@# Compiles the kernels once, which takes half a minute.
	$(BIN)/python -c 'import orion_beam.pipeline; from orion_beam.transforms.arrow.compiled import compile_all; compile_all()' 2>/dev/null
	@touch $@

setup: $(INSTALLED) ## Install everything into .venv

jars: need-java $(INSTALLED) ## Build the Java side: expansion service, job server, development Kafka and Flink
	$(BIN)/python -m orion_beam.runners.jars.build

uber-jar: need-java $(INSTALLED) ## Build the jar that `orion-beam submit` puts a job into
	$(BIN)/python -c 'from orion_beam.runners.jars.build import build_uber_jar; print(build_uber_jar(print))'

lock: $(INSTALLED) ## Write the newest versions that fit together into setup.py and the locks; CHECK=1 prints them only
	@$(BIN)/python -m scripts.lock $(if $(CHECK),--check)

sbom: $(INSTALLED) ## Write the bill of materials of what the product runs with to out/sbom.cdx.json
	$(BIN)/python -m scripts.sbom

licences: $(INSTALLED) ## Check that nothing that the product runs with is under copyleft
	$(BIN)/python -m scripts.licences

advisories: $(INSTALLED) ## Compare what the product runs with to advisories of OSV: DB='PyPI.zip Maven.zip'
	@$(BIN)/python -m scripts.advisories $(DB)

lock-java: need-maven $(INSTALLED) ## Rewrite the list of jars to fetch, and of their licences, after a change to runners/java/pom.xml
	$(BIN)/python -m orion_beam.runners.jars.build --lock
	$(BIN)/python -m benchmarks.peers.build --lock
	$(BIN)/python -m scripts.licences --refresh

lint: $(INSTALLED) ## Check style, types, the direction of imports, licences and the documentation
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m scripts.licences
	@$(MAKE) --no-print-directory site

# The variable silences a notice about MkDocs 2, which concerns no page.
site: $(INSTALLED) ## Build the documentation into site/: warnings are errors, links are checked
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

format: $(INSTALLED) ## Format the code and mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: test-unit test-java test-integration ## Run unit and integration tests

test-unit: $(INSTALLED) ## Run the tests that need Python only
	$(PYTEST) -n 2 -m "not integration and not deep"

test-java: need-maven ## Run the tests of the Java source, on a Kafka of their own
	mvn --quiet --file runners/java/pom.xml -Dmaven.test.redirectTestOutputToFile=true test

test-integration: jars ## Run the tests on real Kafka and Flink
	$(PYTEST) -n 2 --dist loadfile --no-loadscope-reorder -m "integration and not deep" --durations=15

test-busy: ## Run the tests while every core is kept busy: they await conditions, not times
	scripts/busy $(MAKE) test

test-privacy: export ORION_LOG_LEVEL = debug
test-privacy: test-integration ## Run the tests on real Kafka and Flink at level debug: what they leave holds no subscriber's number

chaos: jars ## Kill and stop parts of a running system for MINUTES (10) by a schedule from SEED, and prove that nothing is lost
	$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES))

chaos-seeds: jars ## Run the schedules again that have failed once
	$(BIN)/pytest -v -m chaos

coverage coverage-unit: PYTEST := $(BIN)/python -m coverage run -m pytest

coverage: coverage-new test-unit test-integration ## Run unit and integration tests, and show by folder which share of lines and branches ran
	$(BIN)/python -m scripts.coverage_rooms --least 90

coverage-unit: coverage-new test-unit ## The same with the unit tests alone
	$(BIN)/python -m scripts.coverage_rooms

coverage-new:
	@rm -rf out/coverage

test-all: export ORION_REQUIRE_ALL = 1
test-all: test ## Run unit and integration tests, and fail where a Debian package is missing that some need

test-deep: jars ## Run the tests that take minutes: a million records against the oracle, the whole life of jobs on clusters
	$(BIN)/pytest -v -m "deep and not chaos" --durations=15

fuzz: $(INSTALLED) ## Look for input that breaks a parser: TARGET=letters (default: all), SECONDS=60 for each; Linux on x86-64
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements/fuzz.lock
	$(BIN)/python -m tests.fuzz.run $(if $(TARGET),--target $(TARGET)) $(if $(SECONDS),--seconds $(SECONDS))

golden: $(INSTALLED) ## Rewrite the expected outputs of the golden tests and the fingerprint of the job graph; review the diff
	$(BIN)/pytest -m "not integration and not deep" -k golden --update-golden

schemas: $(INSTALLED) ## Rewrite the checked-in Avro schemas from the pydantic models
	$(BIN)/python -m orion_beam.schemas.write

docs: $(INSTALLED) ## Rewrite the pages that are made from code
	$(BIN)/python -m scripts.pages
	$(BIN)/orion-beam alerts > runners/monitoring/alerts.yml
	$(BIN)/orion-beam alerts --kubernetes > runners/deploy/kubernetes/base/alerts.yaml
	$(BIN)/python -m orion_beam.runners.monitoring.dashboards

manifests: $(INSTALLED) ## Render the Kubernetes overlays for the tests, after a change; needs kustomize, kubectl or Go
	$(BIN)/python -m scripts.manifests

demo: jars ## Run the whole pipeline on this machine with generated CDRs
	$(BIN)/orion-beam demo

bench: jars ## Measure ORION beside other engines: CONTENDERS=orion,flink-sql ROUNDS=3 RECORDS=2000000; writes out/bench
	$(BIN)/python -m benchmarks.side_by_side $(if $(CONTENDERS),--contenders $(CONTENDERS)) \
		$(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(RECORDS),--records $(RECORDS))

bench-quick: jars ## Measure end to end, in a few minutes
	$(BIN)/python -m benchmarks.quick

bench-core: $(INSTALLED) ## Measure the transforms alone
	$(BIN)/python -m benchmarks.core

bench-audit: jars ## Measure the audit's rate and memory
	$(BIN)/python -m benchmarks.audit

clean: ## Remove build output and caches; .venv and the jars in ~/.orion-beam stay
	rm -rf build dist out site *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find runners/java -type d -name target -prune -exec rm -rf {} +
	find schemas transforms orion_beam runners tests benchmarks -type d -name __pycache__ -prune -exec rm -rf {} +
