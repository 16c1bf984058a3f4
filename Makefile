# Everything that is done to this repository by hand. `make` lists it.

SHELL := /bin/sh
GO    ?= go
TOOLS := $(CURDIR)/.tools/bin

GOLANGCI_LINT_VERSION := v2.15.0
GOVULNCHECK_VERSION   := v1.9.0

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
# FUZZTIME is how long each fuzz target runs. BENCH goes to the benchmark:
# make bench BENCH="-rounds 3 -duration 5s".
FUZZTIME ?= 10s
# SEEDS is how many seeds make simulate runs.
SEEDS    ?= 10000
BENCH    ?=
# TEST goes to go test: make test TEST="-run Ledger ./internal/ledger".
TEST     ?= ./...

# PROFILE is what make build optimizes for (https://go.dev/doc/pgo). It is not
# named default.pgo, for go run should not compile everything twice.
PROFILE := cmd/sluice/release.pgo

.DEFAULT_GOAL := help
.PHONY: help run build package deploy test simulate bench profile lint fmt vuln fuzz clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## everything on this machine, as `go run ./cmd/sluice`
	$(GO) run ./cmd/sluice

build: ## the binary, static, in bin/, optimized for what PROFILE says is hot
	CGO_ENABLED=0 $(GO) build -trimpath -pgo=$(PROFILE) -ldflags "-s -w -X github.com/eventsluice/sluice/internal/app.version=$(VERSION)" -o bin/sluice ./cmd/sluice

package: ## the Lambda functions as zips for arm64, in dist/, the same bytes each time
	$(GO) run ./deployments/pack functions -o dist

# Everything that deploys: deployments/README.md.
deploy: ## everything to AWS: STACK=name [ENVIRONMENT= DESTINATIONS= IMAGE= VPC_ID= SUBNET_IDS= PARAMETERS=]
	@STACK="$(STACK)" ENVIRONMENT="$(ENVIRONMENT)" DESTINATIONS="$(DESTINATIONS)" IMAGE="$(IMAGE)" \
		VPC_ID="$(VPC_ID)" SUBNET_IDS="$(SUBNET_IDS)" PARAMETERS="$(PARAMETERS)" deployments/deploy

# What a machine lacks is said here, in one line each, for go test does not
# show why a test was skipped. With CI=true nothing is skipped: a test that
# lacks something fails.
define probe
race=-race; \
printf '#include <stdlib.h>\nint main(void) { return 0; }\n' | $$($(GO) env CC) -x c -o /dev/null - 2>/dev/null || race=; \
lacks() { if [ "$$CI" = true ]; then echo "CI=true, and there is no $$1" >&2; exit 1; fi; echo "skipped: $$2, for there is no $$1"; }; \
[ -n "$$race" ] || lacks "C compiler (gcc, libc6-dev)" "the race detector"; \
PATH="$$PATH:$$(ls -d /usr/lib/postgresql/*/bin /opt/homebrew/opt/postgresql*/bin 2>/dev/null | tr '\n' ':')"; \
command -v initdb >/dev/null || lacks "PostgreSQL server (postgresql)" "the tests against PostgreSQL"; \
command -v redis-server >/dev/null || command -v valkey-server >/dev/null || lacks "Redis (redis-server)" "the tests against Redis"; \
command -v node >/dev/null && command -v npm >/dev/null || lacks "Node.js (nodejs, npm)" "the tests with packages from npm"; \
command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome-stable >/dev/null || command -v google-chrome >/dev/null || lacks "Chromium (chromium)" "the tests in a browser"; \
command -v javac >/dev/null && command -v mvn >/dev/null || lacks "JDK with Maven (default-jdk-headless, maven)" "the tests with KPL and KCL"; \
python3 -c 'import ensurepip' 2>/dev/null || lacks "Python with venv (python3-venv)" "the tests with boto3, moto and cfn-lint"
endef

test: ## every test; parts that this machine lacks are skipped, with a line saying so
	@$(probe); export CGO_ENABLED=$${race:+1}; \
	$(GO) test $$race -timeout 15m $(TEST)

simulate: ## the producer with stream, clock and faults simulated, SEEDS (10000) times; the spool and the fan-out a tenth, the deduplication a twentieth of it; a bad day for each connector
	@simulate() { $(GO) test -timeout 30m -run '^TestSimulation$$' "$$1" -sim.seeds="$$2"; }; \
	failed=0; simulate ./internal/stream/producer $(SEEDS) & \
	{ simulate ./internal/stream/spool $$(($(SEEDS) / 10)) && simulate ./internal/router/fanout $$(($(SEEDS) / 10)) && \
		simulate ./internal/stream/dedup $$(($(SEEDS) / 20)); } || failed=1; \
	wait $$! || failed=1; exit $$failed
	$(GO) test -timeout 30m -run '^TestEndures' $(call folders_with,TestEndures)

bench: ## sluice beside a bare net/http + chi handler: rate, latency, CPU per event; what Kinesis would bill
	$(GO) run ./internal/bench $(BENCH)

profile: ## the profile that make build uses, taken anew from the benchmark
	$(GO) run ./internal/bench -rounds 1 -duration 10s -only connections -profiles bin/profiles
	$(GO) tool pprof -proto -output $(PROFILE) bin/profiles/*.pprof

lint: $(TOOLS)/golangci-lint-$(GOLANGCI_LINT_VERSION) ## format and golangci-lint, all of vet in it
	@unformatted=$$(gofmt -l api cmd internal deployments examples); if [ -n "$$unformatted" ]; then echo "not gofmt-ed:"; echo "$$unformatted"; exit 1; fi
	$< run --allow-parallel-runners ./...

fmt: ## gofmt on everything
	gofmt -w api cmd internal deployments examples

vuln: $(TOOLS)/govulncheck-$(GOVULNCHECK_VERSION) ## known vulnerabilities in what is called
	$< ./...

# Only folders that have such tests are built.
folders_with = $(addprefix ./,$(patsubst %/,%,$(sort $(dir $(shell grep -rl --include='*_test.go' '^func $(1)' api cmd deployments examples internal)))))

fuzz: ## every fuzz target for FUZZTIME (10s)
	@FUZZTIME=$(FUZZTIME) .ci/fuzz

clean: ## what make made
	rm -rf bin dist .tools

# Tools are built from source into .tools, at versions that are the same
# everywhere; a new version is a new file name, so that it is built.
$(TOOLS)/golangci-lint-%:
	@echo "building golangci-lint $*, once"
	@mkdir -p $(TOOLS)
	@GOBIN=$(TOOLS) GOFLAGS= $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$*
	@mv $(TOOLS)/golangci-lint $@

$(TOOLS)/govulncheck-%:
	@echo "building govulncheck $*, once"
	@mkdir -p $(TOOLS)
	@GOBIN=$(TOOLS) GOFLAGS= $(GO) install golang.org/x/vuln/cmd/govulncheck@$*
	@mv $(TOOLS)/govulncheck $@
