# Everything here works on a fresh clone, with an empty environment and without a terminal.

GOLANGCI_VERSION := v2.15.0
GOLANGCI := .tools/golangci-lint-$(GOLANGCI_VERSION)
# The newest that Go 1.26 builds.
GORELEASER_VERSION := v2.15.4
GORELEASER := .tools/goreleaser
CYCLONEDX_VERSION := v1.9.0
CYCLONEDX := .tools/cyclonedx-gomod
KUSTOMIZE_VERSION := v5.8.1
KUSTOMIZE := .tools/kustomize
VALIDATE_VERSION := v0.0.4
VALIDATE := .tools/kubectl-validate
FUZZTIME ?= 10s

# Go's own installer does not put it on the PATH of every shell.
export PATH := $(PATH):/usr/local/go/bin:/opt/homebrew/bin

# A Postgres for each test package means thousands of small files; scripts/tmpdir says where those are quick.
TEST := TMPDIR=$$(scripts/tmpdir) go test

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: go postgres build ## the tour: a private Postgres, requests, a worker, and the proof
	bin/worker demo

.PHONY: build
build: go ## bin/worker and bin/enqueue, static
	CGO_ENABLED=0 go build -trimpath -o bin/ ./cmd/worker ./cmd/enqueue

.PHONY: postgres
postgres: ## install a Postgres server if there is none (Debian, Ubuntu), or say how
	@scripts/postgres

.PHONY: test
test: go postgres ## all tests, on a private Postgres or on that of DATABASE_URL
	$(TEST) -timeout 20m ./...

.PHONY: test-race
test-race: go postgres ## all tests under the race detector (needs a C compiler)
	$(TEST) -race -timeout 30m ./...

# Each version's programs come from npm (Linux on x86-64): scripts/postgres-version.
VERSIONS := 14 15 16 17 18
PACKAGES := ./...
RUN := .

.PHONY: test-versions
test-versions: go ## all tests on each of Postgres 14 to 18; VERSIONS="14 18" PACKAGES=./schema for less
	@for version in $(VERSIONS); do \
		bin=$$(scripts/postgres-version $$version) || exit; \
		echo "Postgres $$version"; \
		PATH=$$bin:$$PATH TMPDIR=$$(scripts/tmpdir) go test -count=1 -timeout 15m -run '$(RUN)' $(PACKAGES) || exit; \
	done

# What a version of Postgres can change: plans, the order that follows from them, SQL. All of outbox and jobs on both takes
# seven minutes more.
.PHONY: test-ends
test-ends: go ## schema, and what of outbox and jobs depends on plans, on the oldest and the newest Postgres
	@$(MAKE) --no-print-directory test-versions VERSIONS="14 18" PACKAGES=./schema
	@$(MAKE) --no-print-directory test-versions VERSIONS="14 18" PACKAGES="./outbox ./jobs" RUN='Plan|Statement|Order|Snapshot|Conformance'

.PHONY: soak
soak: go postgres ## all tests, those that inject faults for long, then make chaos
	SOAK=1 $(TEST) -count=1 -timeout 2h ./...
	@$(MAKE) chaos

# Each run adds to what is known: internal/chaos/results.json, and docs/reliability.md, which is made of it.
TIME ?= 10m
SEED ?= $(shell date +%s)

.PHONY: chaos
chaos: go postgres ## the fault bench for TIME (10m): TIME=1h SEED=7 ARGS="-faults kill"; a seed repeats its plans
	TMPDIR=$$(scripts/tmpdir) go run ./internal/chaos/soak -time $(TIME) -seed $(SEED) -results internal/chaos/results.json \
		-report docs/reliability.md $(ARGS)

.PHONY: reliability
reliability: go ## docs/reliability.md, from internal/chaos/results.json
	@go run ./internal/chaos/soak -time 0 -results internal/chaos/results.json -report docs/reliability.md

.PHONY: fuzz
fuzz: go postgres ## every fuzz target for FUZZTIME (10s)
	TMPDIR=$$(scripts/tmpdir) scripts/fuzz $(FUZZTIME)

.PHONY: bench
bench: go postgres ## from asking to the outcome: the lane, workers by hand and River; ARGS=-help for its flags
	go run ./internal/bench $(ARGS)

.PHONY: bench-quick
bench-quick: go postgres ## the same with less of everything, in two to three minutes
	go run ./internal/bench -quick $(ARGS)

.PHONY: plots
plots: go ## the pictures of docs/benchmarks.md and docs/contention.md, from their tables
	go run ./internal/bench/plots docs/benchmarks.md docs/benchmarks
	go run ./internal/contention -draw

.PHONY: bench-contention
bench-contention: go postgres ## locks, versions, SERIALIZABLE and the lane, from 1 to 10,000 accounts; ARGS=-short to try it
	go run ./internal/contention $(ARGS)

.PHONY: docs
docs: go postgres ## docs/sql.md, from the comments in the database; the schemas of what is relayed, from the kinds
	go run ./internal/sqldoc >docs/.sql.md && mv docs/.sql.md docs/sql.md
	go run ./cmd/worker relay schema >docs/outcome.schema.json
	go run ./cmd/worker relay schema --asyncapi >docs/asyncapi.json

.PHONY: examples
examples: go postgres ## the programs of examples/, each in its language; says what is missing
	$(TEST) -count=1 -timeout 10m -v ./internal/examples

.PHONY: lint
lint: go $(GOLANGCI) ## go vet, gofmt, golangci-lint, the direction of imports
	go vet ./...
	@unformatted=$$(gofmt -l .); [ -z "$$unformatted" ] || { echo "not gofmt-ed:" $$unformatted; exit 1; }
	$(GOLANGCI) run ./...

.PHONY: tidy
tidy: go ## go.mod and go.sum are what the code needs, the modules what go.sum says
	go mod tidy -diff
	@for mod in examples/*/go.mod; do (cd $$(dirname $$mod) && go mod tidy -diff) || exit; done
	go mod verify

.PHONY: cross
cross: go ## compiles for macOS too, tests included
	GOOS=darwin GOARCH=arm64 go build ./...
	GOOS=darwin GOARCH=arm64 go vet ./...

.PHONY: compose-check
compose-check: ## docker-compose.yml is valid
	@scripts/compose-check

.PHONY: release-check
release-check: go $(GORELEASER) ## .goreleaser.yaml is valid
	$(GORELEASER) check

# Publishes nothing. SKIP=docker,sbom leaves parts out; the image needs docker buildx.
SKIP := docker

.PHONY: release-snapshot
release-snapshot: go $(GORELEASER) $(CYCLONEDX) ## every artefact of a release, into dist, and the deb installed into an empty tree
	PATH=$(CURDIR)/.tools:$$PATH $(GORELEASER) release --snapshot --clean --skip=$(SKIP)
	@scripts/release-check dist

.PHONY: kustomize-check
kustomize-check: go $(KUSTOMIZE) $(VALIDATE) ## deploy/kustomize builds, and is what Kubernetes takes
	@built=$$(mktemp -d) && trap 'rm -rf "$$built"' EXIT && $(KUSTOMIZE) build deploy/kustomize -o "$$built/all.yaml" && \
		$(VALIDATE) "$$built/all.yaml"

.PHONY: promtool-check
promtool-check: go ## each alarm fires and each panel of the dashboard has data, says Prometheus's checker
	@scripts/promtool-check

.PHONY: clean
clean: ## remove what was built
	rm -rf bin dist .tools

# What the targets above need.

.PHONY: go
go:
	@go list -m >/dev/null || { echo >&2; \
		echo "Go 1.26 or newer is needed: https://go.dev/dl, or on macOS: brew install go" >&2; exit 1; }

$(GOLANGCI): | go
	GOBIN=$(CURDIR)/.tools go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
	mv .tools/golangci-lint $@

$(GORELEASER): | go
	GOBIN=$(CURDIR)/.tools go install github.com/goreleaser/goreleaser/v2@$(GORELEASER_VERSION)

$(CYCLONEDX): | go
	GOBIN=$(CURDIR)/.tools go install github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@$(CYCLONEDX_VERSION)

$(KUSTOMIZE): | go
	GOBIN=$(CURDIR)/.tools go install sigs.k8s.io/kustomize/kustomize/v5@$(KUSTOMIZE_VERSION)

$(VALIDATE): | go
	GOBIN=$(CURDIR)/.tools go install sigs.k8s.io/kubectl-validate@$(VALIDATE_VERSION)
