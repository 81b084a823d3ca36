# Everything that can be done with Papo. `make` alone lists it.

ARGS ?=
DOCKER ?= docker
VERSION := $(shell sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)

.DEFAULT_GOAL := help
.PHONY: help run test conformance bench e2e faults soak crowd attack scale kind image generate docs

help: ## List the commands
	@awk -F ': ## ' '/^[a-z0-9-]+: ## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "To change a flag, a ChatRoom field, an event or a metric, each in one place: docs/changing.md"

run: ## Build the chat server and run it on port 5000 (ARGS="--broker amqp://...")
	@cargo run --release -p papo-server -- $(ARGS)

test: ## Run every test that needs no cluster, after setting this machine up for it (SUITES="unit page" for some)
	@tests/run $(SUITES)

conformance: ## Run the cases of outside suites: Autobahn, Engine.IO's, Socket.IO's (docs/conformance.md)
	@tests/conformance/autobahn/install > /dev/null && PAPO_AUTOBAHN=all tests/run conformance

bench: ## Measure Papo beside Node's Socket.IO, Flask-SocketIO and a floor (ARGS="--quick", ARGS=--help)
	@tests/bench/run $(ARGS)

e2e: ## Run the end-to-end tests on the cluster KUBECONFIG names
	@$(MAKE) --silent tests/node_modules && cd tests/e2e && npm --silent test -- $(ARGS)

faults: ## Cause every fault under traffic and check what clients saw (ARGS="--quick", "--only 1,7", "--cluster", "--help")
	@$(FAULTS) && node run.mjs $(ARGS)

soak: ## Cause random faults for 20 minutes (ARGS="--minutes 60 --seed 7")
	@$(FAULTS) && node soak.mjs $(ARGS)

crowd: ## Stop 100 of 1000 readers; kill the server of 5000 members (ARGS="--only storm")
	@$(FAULTS) && node crowd.mjs $(ARGS)

attack: ## Attack a server beside honest members, and print what both got (ARGS="--quick", "--only 41,42", "--help")
	@$(SERVER) && cd tests/attack && node run.mjs $(ARGS)

scale: ## Create 100 rooms in the cluster of KUBECONFIG, and print what they take (ARGS="--rooms 1000", "--servers", "--help")
	@$(MAKE) --silent tests/node_modules && cd tests/scale && node run.mjs $(ARGS)

# The server is built first, unless PAPO_SERVER names another.
SERVER = { [ -n "$$PAPO_SERVER" ] || cargo build --release -p papo-server -p papo-crowd; } && $(MAKE) --silent tests/node_modules
FAULTS = $(SERVER) && cd tests/faults

# The packages that the suites of the npm workspace need.
tests/node_modules: tests/package-lock.json
	@cd tests && npm ci --no-audit --no-fund --silent && touch node_modules

kind: ## Create a kind cluster with Papo and a first room (ARGS="--workers 2")
	@manifests/kind.sh $(ARGS)

image: ## Build the container images of both programs
	DOCKER_BUILDKIT=1 $(DOCKER) build --target server -t papo-server:$(VERSION) .
	DOCKER_BUILDKIT=1 $(DOCKER) build --target operator -t papo-operator:$(VERSION) .

generate: ## Write the generated files: the CRD, the plain manifests
	@manifests/generate.sh

docs: ## Build the documentation as a site, in target/docs
	@docs/check.sh --build
