# Each target is one line; what it runs can be run by hand.

export CGO_ENABLED = 0
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS  = -s -w -X github.com/locksmith-reboot/locksmith/internal/options.version=$(VERSION)

.PHONY: help build demo test test-unit test-machines test-machines-long test-race bench bench-quick model lint docs clean fuzz fuzz-quick fuzz-short hostile scale scale-record scale-plots chaos soak soak-plots

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 20

build: ## build locksmithctl, locksmithd and locksmith-server into bin/
	@scripts/build "$(LDFLAGS)"

demo: build ## five simulated machines reboot one at a time, through a real etcd and on a dashboard
	@bin/locksmith-server demo -machines 5 -max 1

test: ## install what the tests need (Debian packages) and run all of them
	@scripts/test all

test-unit: ## all tests but those on real machines
	@scripts/test unit

test-machines: ## the tests on real machines (root)
	@scripts/test machines

test-machines-long: ## the same with the long forms
	@LOCKSMITH_MACHINES_LONG=1 scripts/test machines

chaos: ## the lock under faults, and a store restored; SEEDS schedules (200) from SEED (1) on, of DURATION (1m) each, PARALLEL (4) at a time (root; long)
	@scripts/test chaos -run 'TestSchedules|TestRestore' -v -timeout 0 -parallel $(or $(PARALLEL),4) -summary $(CURDIR)/bin/chaos.log -seeds $(or $(SEEDS),200) -seed $(or $(SEED),1) -length $(or $(DURATION),1m)

test-race: ## the concurrent packages under the race detector, twenty times (needs gcc; long)
	@scripts/test race

fuzz: ## run every fuzz target, FUZZTIME (10m) each, FUZZJOBS (1) at a time; ends with a failure where one finds something
	@scripts/fuzz

fuzz-quick: ## the same, five seconds each
	@FUZZTIME=5s scripts/fuzz

fuzz-short: ## ten seconds each for four that are quick to build: requests, semaphores, windows and environment files
	@FUZZTIME=10s scripts/fuzz 'FuzzHandler$$\|FuzzParseSemaphore$$\|window FuzzParse$$\|envfile FuzzParse$$'

hostile: ## hostile clients against a real server, ten times as many as in the tests; tells how a client that behaves was served
	@LOCKSMITH_HOSTILE_LONG=1 go test -count=1 -timeout 60m -v -run InNumbers ./test/hostile

bench: build ## measure the figures, each beside its floor
	@go run ./test/bench

bench-quick: build ## the same in a short form
	@go run ./test/bench -quick

model: ## explore the model of the protocol in its long form, and walk through it on a real etcd (long; 12 GiB)
	@LOCKSMITH_MODEL_LONG=1 go test -count=1 -timeout 3h -v -run 'TestPromises|TestTwo|TestAny|TestLong|TestReplay' ./test/model

scale: ## how it behaves as fleets grow: policies on virtual time, ten thousand machines on one etcd
	@go run ./test/scale

scale-record: ## the same, recorded and written into docs/performance.md (an hour, on a machine without other work)
	@go run ./test/scale -record test/scale/measured.json && $(MAKE) scale-plots

scale-plots: ## draw docs/images/scale-*.svg anew, and write the recorded figures into docs/performance.md
	@go run ./test/scale -plots docs/images -page docs/performance.md

soak: ## a fleet of 200 for DURATION (2h) with rollouts and faults: does anything grow? samples go to SAMPLES (soak.jsonl)
	@go run ./test/soak -duration $(or $(DURATION),2h) -samples $(or $(SAMPLES),soak.jsonl)

soak-plots: ## draw docs/images/soak-*.svg anew, from SAMPLES (soak.jsonl)
	@go run ./test/soak -plot $(or $(SAMPLES),soak.jsonl) -out docs/images

lint: ## gofmt, vet and staticcheck
	@scripts/lint

docs: ## write the generated parts of docs/ anew
	@go generate ./... && go test ./cmd/locksmithd ./cmd/locksmith-server -run TestReference -update

clean: ## remove what was built
	@rm -rf bin
