# Everything a developer or a newcomer does, by one word each:
#
#   make up      set up, build, start a cluster on this machine, try it
#   make down    stop it and remove everything, its data too
#   make test    set up, build and run all tests (as root: networks are real)
#   make bench   print the benchmark tables; AREA=cni for one of them
#
# Smaller steps: setup build test-unit test-net lint generate generate-check

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build
.PHONY: setup build up down test test-unit test-net bench generate generate-check lint vet

# What setup got comes first: bin/toolchain is there only where the machine's
# own Go is too old.
export PATH := $(CURDIR)/bin/toolchain/bin:$(CURDIR)/bin/tools:$(PATH)
export GOTOOLCHAIN := local

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION)
# Two packages at a time: tests start whole clusters. They build the binaries
# that they run, which Go's cache of test results does not know.
TESTFLAGS ?= -p 2 -timeout 30m -count=1
RACE := CGO_ENABLED=1 go test -race $(TESTFLAGS)

setup:
	@scripts/setup.sh

build:
	@mkdir -p bin
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o bin/ ./cmd/...

up:
	@$(MAKE) --no-print-directory setup
	@$(MAKE) --no-print-directory build
	@bin/contrail up

down:
	@[ -x bin/contrail ] || { $(MAKE) --no-print-directory setup && $(MAKE) --no-print-directory build; }
	@bin/contrail down --purge

test:
	@$(MAKE) --no-print-directory setup
	@$(MAKE) --no-print-directory build
	@$(MAKE) --no-print-directory vet generate-check
	$(RACE) -tags net ./...

test-unit:
	$(RACE) ./...

test-net: build
	$(RACE) -tags net -run '^TestNet' ./...

# AREA is one of dataplane, cni, configapi, control, mesos; empty for all.
AREA ?=
bench: build
	@mkdir -p bench/out
	go run ./test/bench $(if $(AREA),-area $(AREA)) -out bench/out

generate:
	buf generate
	go generate ./...

generate-check:
	@scripts/generate-check.sh

vet:
	@files=$$(gofumpt -l cmd internal test tools); [ -z "$$files" ] || { echo "not formatted (gofumpt -w FILE): $$files" >&2; exit 1; }
	go vet -tags net ./...

lint: vet
	staticcheck -tags net ./...
	shellcheck scripts/*.sh .ci/run
