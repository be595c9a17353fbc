# Each command sets up what it needs. The work is done in Python: `python -m mwaa_local --help`, `python -m mwaa_release --help`.
SHELL := /bin/sh
STATE := $(or $(LOCAL_DIR),.local)
BIN := $(STATE)/venvs/tools/bin
LOCAL := $(BIN)/python -m mwaa_local
WORKBENCH := $(BIN)/python -m workbench
PYTEST := $(BIN)/python -m pytest
.DEFAULT_GOAL := help
.PHONY: help dev build test-models show compile diff freshness docs hooks new-model new-domain add-ecs add-serverless bring start-fresh upgrade site packages screenshots deps run drill up down clean warehouse sql test test-fast test-slow lint scan format bench report lock

# Prints the targets named in $(1); without names, all.
define list
@awk -v names='$(if $(1), $(1) )' 'BEGIN {FS = ":.*## "} /^[a-z -]+:.*## / && (!names || index(names, " " $$1 " ")) { \
  printf "  make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
endef

help: ## List the commands for daily work
	@echo "Run"
	$(call list,run drill up down sql)
	@echo "Models"
	$(call list,dev build show new-model)
	@echo "Check"
	$(call list,test lint)
	@echo "Start"
	$(call list,bring start-fresh upgrade)
	@echo "make help-all lists the other commands too."

.PHONY: help-all
help-all: ## List all commands
	$(call list)

deps: ## Prepare the tools (every other command does it by itself)
	@./.ci/bootstrap.sh

run: deps ## Run a pipeline end to end on this machine (PIPELINE=shop_pipeline: not the first; ENV=prod; V=1: details; TARGET=ecs or serverless)
	@$(LOCAL) run $(if $(V),--verbose) $(if $(PIPELINE),--pipeline "$$PIPELINE") $(if $(ENV),--environment "$$ENV") $(if $(TARGET),--target "$$TARGET")

drill: deps ## The same with a model that fails on purpose (LAMBDA=broken: the alert fails too; TARGET=ecs or serverless)
	@$(LOCAL) drill $(if $(filter broken,$(LAMBDA)),--broken-lambda) $(if $(TARGET),--target "$$TARGET")

up: deps ## Keep warehouse, AWS and Airflow running in the background
	@$(LOCAL) up

down: deps ## Stop everything that runs
	@$(LOCAL) down

clean: ## Stop everything, and delete .local with all tools and data
	@test -z "$$LOCAL_DIR" || { echo "LOCAL_DIR is set to $$LOCAL_DIR. Run make down, and delete that folder yourself." >&2; exit 2; }
	@if [ -x $(BIN)/python ]; then $(LOCAL) down; fi
	@rm -rf .local

warehouse: deps ## The Redshift stand-in alone, in the foreground
	@$(LOCAL) warehouse

sql: deps ## Run a query or a saved question: make sql Q="select ..." (FORMAT=csv or json; DB_USER=awsuser: as admin)
	@$(LOCAL) sql $(if $(DB_USER),--user $(DB_USER)) $(if $(FORMAT),--format "$$FORMAT") -- "$$Q"

test: deps ## Unit and integration tests, and one run on a real scheduler
	@$(PYTEST) -n 3 --dist loadfile --no-loadscope-reorder -m "not slow"

test-fast: deps ## Unit tests
	@$(PYTEST) -q $(wildcard tests/unit */*/tests/unit benchmarks/tests)

test-slow: deps ## Slow tests and tests that need a browser
	@$(PYTEST) -n 4 --dist loadfile --no-loadscope-reorder -m slow

# copier: if in_template
bench: deps ## Benchmarks, side by side with an alternative (SUITES="warehouse ...")
	@$(BIN)/python -m benchmarks $(SUITES)

# copier: endif
dev: deps ## Watch the dbt projects: build each saved file with its children and tests (P=shop: one project)
	@$(WORKBENCH) dev $(if $(P),--project "$$P")

build: deps ## Build models on the local warehouse (M="departures+"; P=shop: one project; FULL_REFRESH=1)
	@$(WORKBENCH) build $(if $(FULL_REFRESH),--full-refresh) $(if $(P),--project "$$P") -- "$$M"

test-models: deps ## Run the tests and unit tests of models (M=departures)
	@$(WORKBENCH) test-models $(if $(P),--project "$$P") -- "$$M"

show: deps ## The first rows of a model (M=departures N=10)
	@$(WORKBENCH) show $(if $(N),--rows "$$N") $(if $(P),--project "$$P") -- "$$M"

compile: deps ## The SQL that dbt makes of a model (M=departures)
	@$(WORKBENCH) compile $(if $(P),--project "$$P") -- "$$M"

diff: deps ## Rows and columns of a model against another commit's (M=departures BASE=main)
	@$(WORKBENCH) diff $(if $(BASE),--base "$$BASE") $(if $(P),--project "$$P") -- "$$M"

freshness: deps ## How old the newest row of each source is (P=shop: not the first project)
	@$(WORKBENCH) freshness $(if $(P),--project "$$P")

docs: deps ## dbt's documentation as one HTML file (P=shop: not the first project)
	@$(WORKBENCH) docs $(if $(P),--project "$$P")

new-model: deps ## SQL and YAML of a new model (NAME=late_carriers LAYER=marts; P=shop: not the first project)
	@$(BIN)/python -m workbench new-model $(if $(P),--project "$$P") -- "$$NAME" "$$LAYER"

new-domain: deps ## A dbt project for another team, with its pipeline (NAME=sales)
	@$(WORKBENCH) new-domain -- "$$NAME"

add-ecs add-serverless: deps ## Add what it takes to run dbt in ECS, or in MWAA Serverless
	@$(WORKBENCH) $@

# copier: if in_template
bring: deps ## Add a copy of a dbt project, with its pipeline and profile (P=../shop SCHEMA=shop)
	@$(WORKBENCH) bring $(if $(SCHEMA),--schema "$$SCHEMA") -- "$$P"

start-fresh: deps ## Turn this clone into a copy without the sample (YES=1: without asking)
	@$(WORKBENCH) start-fresh $(if $(YES),--yes) $(if $(TEMPLATE),--template "$$TEMPLATE")

# copier: endif
upgrade: deps ## Upgrade this copy to the newest version of its template (YES=1: without asking)
	@$(WORKBENCH) upgrade $(if $(YES),--yes) $(if $(TEMPLATE),--template "$$TEMPLATE")

site: deps ## The documentation as a site, its reference from the code
	@$(BIN)/python -m workbench site

# copier: if in_template
packages: deps ## Build the packages for a package index, into dist/
	@$(BIN)/python packages/build.py dist --publish

screenshots: deps ## Take the documentation's screenshots (needs Chromium)
	@$(BIN)/python -m workbench screenshots

# copier: endif
report: deps ## The audit trail as one HTML file (DAYS=30)
	@$(LOCAL) report $(if $(DAYS),--days "$$DAYS")

lint: deps ## All linters
	@$(WORKBENCH) lint

# copier: if in_template
.PHONY: test-package
test-package: deps ## All tests of one package (PACKAGE=redshift-local)
	@$(PYTEST) "packages/$(PACKAGE)"

# copier: endif
hooks: deps ## Check staged files at each git commit, in seconds
	@$(BIN)/prek install --quiet && echo "git commit checks what is staged from now on; make lint checks everything."

scan: deps ## The stacks against checkov, the workflows against actionlint
	@$(BIN)/python -m workbench scan

format: deps ## Format Python
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

# copier: if in_template
lock: deps ## Resolve the requirement files: make lock CONSTRAINTS=<path or URL>
	@$(WORKBENCH) lock "$$CONSTRAINTS"

# copier: endif
export BASE TARGET ENV FORMAT M N P Q CONSTRAINTS DAYS NAME LAYER TEMPLATE
