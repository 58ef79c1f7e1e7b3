# The commands of the repository. Each does its own set-up in .venv (tools/setup-venv) and says what it lacks.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
export VENV ?= .venv
PY := $(VENV)/bin/python
ARGS ?=

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

.PHONY: demo
demo: ## set-up, then one round of the wildfire example; ARGS=--keep serves on
	@tools/setup-venv cli demo
	@$(VENV)/bin/edgeagent demo $(if $(filter --keep,$(ARGS)),,--once) $(filter-out --once,$(ARGS))

.PHONY: test
test: ## set-up, then the whole test suite; ARGS go to pytest
	@tools/setup-venv cli demo test
	@tools/run-tests $(ARGS)

SEEDS ?= 1000
MINUTES ?= 0

.PHONY: sim
sim: ## every simulated scenario with SEEDS=1000 seeds; summary in benchmarks/results/sim.json; MINUTES=N stops it early
	@tools/setup-venv cli demo
	@$(PY) -m edgeagent.simulator.many_seeds --seeds $(SEEDS) --minutes $(MINUTES) --out benchmarks/results/sim.json

PACKETS ?= 1000000
SEED ?= 1

.PHONY: fuzz
fuzz: ## PACKETS=1000000 random and mutated packets for a member of the mesh, from SEED=1
	@tools/setup-venv cli demo test
	@$(PY) -m tests.fuzz.mesh_packets --packets $(PACKETS) --seed $(SEED)

TARGET ?= packets
SECONDS ?= 60

.PHONY: fuzz-guided
fuzz-guided: ## coverage-guided (atheris): TARGET=packets|frames|elements for SECONDS=60; Python 3.11 to 3.13
	@tools/setup-venv cli demo test fuzz
	@$(PY) -m tests.fuzz.guided $(TARGET) -max_total_time=$(SECONDS)

.PHONY: check
check: ## ruff, mypy --strict, import-linter, architecture rules, native warnings as errors, clang-tidy
	@EDGEAGENT_WERROR=1 tools/setup-venv cli demo test check
	@tools/check

.PHONY: check-native
check-native: ## the native tests under ASan and UBSan; aarch64 compile check
	@tools/setup-venv cli demo test
	@tools/check-native

.PHONY: native
native: ## the C++ extension alone, and a failure is an error
	@EDGEAGENT_COMPILE=always tools/setup-venv cli demo

.PHONY: wheel
wheel: ## a wheel for this Python and machine, under dist/
	@tools/setup-venv cli demo
	@$(PY) -m pip --disable-pip-version-check wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	@ls -1 dist/*.whl

.PHONY: clean
clean: ## removes what the other commands made, the environment too
	rm -rf $(VENV) build dist *.egg-info demo-output .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -f edgeagent/native/_core.*.so edgeagent/native/libedgehose.so
	find edgeagent tests tools examples -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: guests
guests: ## the example functions, compiled again where a wasm toolchain is present
-include examples/guests.mk
