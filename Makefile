# Each target does all the set-up that it needs, once: a virtual environment in .venv, the extension in it, and for the
# tests the system's packages. PYTHON and CARGO choose other ones than those that are found.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
# The steps share one environment, one Cargo target and two cores.
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

export PATH := $(PATH):$(HOME)/.cargo/bin
CARGO ?= cargo
export CARGO
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export VIRTUAL_ENV := $(CURDIR)/.venv
export PYO3_PYTHON := $(VIRTUAL_ENV)/bin/python
unexport PYTHONHOME PYTHONPATH MAKELEVEL

BIN := .venv/bin
RUST := $(shell find rust -name '*.rs' 2>/dev/null)

TIME ?= 60
TARGETS ?=
BENCH ?=

RECORD ?=

.PHONY: help run test lint bench bench-rival bench-path instructions fuzz guest build system rust clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 24

run: build ## a guest plays a tune through the device into a file: is every frame there?
	@$(BIN)/vsnd-hybrid demo

test: system lint ## everything: lint, Rust, Python, real Linux guests
	$(CARGO) test --profile quick
	$(CARGO) test --profile quick --features rtcheck --test realtime
	$(BIN)/python scripts/instructions
	$(BIN)/python -m pytest

lint: build .venv/.dev ## ruff, mypy --strict, stubtest, rustfmt, clippy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest vsnd_hybrid._core --allowlist scripts/stubtest-allowlist --ignore-unused-allowlist
	$(CARGO) fmt --check
	$(CARGO) clippy --quiet --all-targets -- -D warnings
	$(CARGO) clippy --quiet --all-targets --features python -- -D warnings

bench: build ## what the daemon costs, beside vhost-device-sound if it is installed: BENCH='--quick' and other options
	@scripts/system-setup bench
	@$(BIN)/vsnd-hybrid bench $(BENCH)

bench-rival: rust ## install vhost-device-sound, which make bench compares with
	@scripts/bench-rival

bench-path: rust ## what the audio path costs (criterion)
	$(CARGO) bench --bench path

instructions: system rust $(BIN)/python ## instructions of an engine's callback against their budget; RECORD=1 makes them the budget
	@$(BIN)/python scripts/instructions $(if $(RECORD),--record)

fuzz: build .venv/.dev ## fuzz what guests and front ends can reach: TIME=60 seconds for each of TARGETS
	@TIME='$(TIME)' scripts/fuzz $(TARGETS)

guest: system build .venv/.dev ## a shell in a small Linux that has the sound card
	@$(BIN)/python -m tests.guests.shell

build: rust .venv/.built ## the extension, in .venv

clean: ## remove all that was built or downloaded
	rm -rf target rust/fuzz/target .venv .cache demo bench .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find python tests examples -name __pycache__ -prune -exec rm -rf {} +
	rm -f python/vsnd_hybrid/_core*.so

rust:
	@scripts/check-rust

system: ## install the system's packages that the tests need
	@scripts/system-setup

# The environment is made anew when its Python is gone.
$(BIN)/python:
	@python=$(if $(PYTHON),'$(PYTHON)',$$(scripts/find-python)); rm -rf .venv; \
	echo "making .venv with $$python"; "$$python" -m venv .venv

.venv/.run: pyproject.toml scripts/requirements | $(BIN)/python
	@echo "installing Python packages for the demo"
	@$(BIN)/python scripts/requirements demo | $(BIN)/pip install --quiet --requirement /dev/stdin
	@touch $@

.venv/.dev: pyproject.toml scripts/requirements .venv/.run | $(BIN)/python
	@echo "installing Python packages for the tests"
	@$(BIN)/python scripts/requirements dev | $(BIN)/pip install --quiet --requirement /dev/stdin
	@touch $@

.venv/.built: .venv/.run Cargo.toml Cargo.lock pyproject.toml $(RUST)
	@echo "building the extension (a minute the first time)"
	@$(BIN)/maturin develop --release --locked >.venv/build.log 2>&1 || { cat .venv/build.log >&2; exit 1; }
# As an installation does: where PYTHONDONTWRITEBYTECODE is set, each start would compile all of it again.
	@$(BIN)/python -m compileall -q python/vsnd_hybrid
	@touch $@
