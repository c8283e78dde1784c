# CI calls these targets and nothing else, so that what passes here passes there.

GO          ?= go
TIMEOUT     ?= 30m# For the tests of one package.
FUZZTIME    ?= 60s# For each fuzz target.
BENCH       ?= .
BENCHTIME   ?= 1s
GOLANGCI    ?= $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOVULNCHECK ?= $(GO) run golang.org/x/vuln/cmd/govulncheck@latest

# Each directory with a go.mod: the module, and those nested in it.
MODULES = $(shell find . -name go.mod -not -path '*/testdata/*' -not -path '*/node_modules/*' -exec dirname {} \; | sort)

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' Makefile

.PHONY: demo
demo: ## Run the quickstart: SQLite and a simulated org, nothing to install but Go.
	CGO_ENABLED=0 $(GO) run ./examples/quickstart

# withpg sets TEST_DATABASE_URL to a throwaway PostgreSQL unless it is set, and
# runs the command in each module. It is built, not `go run`, so that a signal
# to make reaches it.
.PHONY: bin/withpg
bin/withpg:
	@CGO_ENABLED=0 $(GO) build -o $@ ./runner/internal/pgtest/withpg

.PHONY: test
test: bin/withpg ## Run all tests with the race detector, on SQLite and PostgreSQL.
	bin/withpg $(GO) test -race -timeout $(TIMEOUT) ./...
	$(GO) test -timeout $(TIMEOUT) -run TestTimeTravel ./runner

.PHONY: cover
cover: bin/withpg ## Run all tests and show how much of the code they cover.
	bin/withpg $(GO) test -timeout $(TIMEOUT) -coverpkg ./... -coverprofile cover.out ./...
	$(GO) tool cover -func cover.out | tail -n 1

.PHONY: bench
bench: bin/withpg ## Run the benchmarks (BENCH=regexp) with a PostgreSQL that flushes to disk.
	bin/withpg -durable $(GO) test -run '^$$' -bench '$(BENCH)' -benchtime $(BENCHTIME) -benchmem -timeout $(TIMEOUT) ./...

.PHONY: load
load: bin/withpg ## Send the service example 1,000 requests a second for 30 s (LOAD_SECONDS=30).
	@cd examples/service && LOAD_SECONDS=$${LOAD_SECONDS:-30} ../../bin/withpg $(GO) test -count 1 -v -run TestLoad .

.PHONY: fuzz
fuzz: ## Fuzz each target in turn (FUZZTIME=60s).
	@set -eu; \
	files=$$(grep -rlE --include='*_test.go' '^func Fuzz' .) || { echo "no fuzz targets found"; exit 1; }; \
	for file in $$files; do \
		for target in $$(sed -nE 's/^func (Fuzz[A-Za-z0-9_]*)\(.*/\1/p' $$file); do \
			echo "$$file: $$target"; \
			(cd $$(dirname $$file) && $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x .); \
		done; \
	done

# golangci-lint runs staticcheck among others; see .golangci.yml.
.PHONY: lint
lint: tidy ## Check formatting, go.mod, go vet, and golangci-lint with staticcheck.
	@files=$$(git ls-files -co --exclude-standard '*.go' | xargs gofmt -l); \
		if [ -n "$$files" ]; then echo "gofmt would change:"; echo "$$files"; exit 1; fi
	@set -e; for dir in $(MODULES); do \
		echo "lint $$dir"; \
		(cd $$dir && $(GO) vet ./... && $(GOLANGCI) run --config $(CURDIR)/.golangci.yml ./...); \
	done

.PHONY: tidy
tidy: ## Check that each go.mod and go.sum is what `go mod tidy` would write.
	@set -e; for dir in $(MODULES); do (cd $$dir && $(GO) mod tidy -diff); done

.PHONY: vuln
vuln: ## Look for known vulnerabilities in what the code calls.
	@set -e; for dir in $(MODULES); do (cd $$dir && $(GOVULNCHECK) ./...); done

.PHONY: clean
clean: ## Remove what the other targets left here.
	rm -rf bin cover.out
