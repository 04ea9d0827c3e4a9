# Everyday commands. Each target does what its name says; `make help` lists them.
VENV   := .venv
# captures to try inspection on, where they are; without them that test says that it is skipped
export QG_CORPUS ?= $(wildcard ../shared/corpus)
PY     := $(VENV)/bin/python
STAMP  := $(VENV)/.installed
PROGRAMS := $(VENV)/.programs
IMAGES := $(VENV)/.images
BENCH  := $(VENV)/.bench

.PHONY: help setup lock fmt lint types test test-vm ci unit bench oracle mutants model chaos fuzz bench-vm man image record-boots image-check agent-deb demo demo-vm clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

setup: $(STAMP) ## install system packages and the locked virtual environment

$(STAMP): requirements.lock pyproject.toml scripts/setup
	@scripts/setup

$(PROGRAMS): $(STAMP) scripts/setup-programs
	@scripts/setup-programs

lock: $(STAMP) ## resolve the dependencies anew into requirements.lock
	@scripts/lock

fmt: $(STAMP) ## format the code
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

lint: $(STAMP) ## format check, lint, import layers
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(VENV)/bin/lint-imports

types: $(STAMP) ## mypy --strict
	$(PY) -m mypy

unit: $(STAMP) ## the tests that start no lab
	$(PY) -m pytest -q -m "not lab and not vm"

test: lint types $(PROGRAMS) $(IMAGES) ## format, lint, types, layers, and all tests but those of virtual machines
	$(PY) -m pytest -q -m "not vm" || { echo "a lab loses trust when its host is away for longer than 2T = 0.4 s: what failed is tried once more"; \
	  $(PY) -m pytest -q -m "not vm" --last-failed --last-failed-no-failures none; }

test-vm: image ## real virtual machines: boots, attestation, alterations
	$(PY) -m pytest -q -m vm || { echo "an emulated machine may be late on a busy host: what failed is tried once more"; \
	  $(PY) -m pytest -q -m vm --last-failed --last-failed-no-failures none; }

ci: test test-vm ## all tests there are

chaos: $(STAMP) ## kill, stop and restart the gateway's processes at 50 random instants
	QUOTEGATE_CHAOS=50 $(PY) -m pytest -q -s tests/lab/test_chaos.py

$(BENCH): $(STAMP) requirements-bench.lock scripts/setup-bench
	@scripts/setup-bench

bench: $(BENCH) ## measure, each figure beside its baseline
	$(PY) -m bench

bench-vm: $(IMAGES) ## measure virtual machines, each figure beside the same machine without us
	$(PY) -m bench.vm

oracle: $(STAMP) ## 10,000 random policies: the evaluator and the real kernel agree on every packet
	QG_ORACLE_POLICIES=10000 $(PY) -m pytest -q -s tests/filters/oracle

mutants: $(STAMP) ## remove each check of the verifier in a copy: exactly its named test must fail
	$(PY) -m tests.mutants

$(IMAGES): $(STAMP) scripts/setup-images
	@scripts/setup-images

image: $(IMAGES) ## build the images of virtual machines
	$(VENV)/bin/quotegate image build guest gateway

record-boots: image ## boot the guest image well and altered, and keep what it proved as the tests' recordings
	$(PY) -m tests.vm.record

image-check: $(IMAGES) ## build each image once more: the bytes must be the same
	$(VENV)/bin/quotegate image check guest gateway

agent-deb: $(STAMP) ## build the agent's Debian package, for somebody's own guest
	$(VENV)/bin/quotegate image deb

man: $(STAMP) ## write the manual pages, from the commands' own help, to build/man
	scripts/man build/man

fuzz: $(STAMP) ## fuzz every parser of untrusted bytes, then the live control port with 100,000 messages
	$(PY) -m tests.fuzz --seconds $(or $(FUZZ_SECONDS),60)
	QUOTEGATE_FUZZ_MESSAGES=100000 $(PY) -m pytest -q -s tests/lab/test_fuzz_control_port.py

model: $(STAMP) ## check the models of handshake, beacons and leases; show what each missing rule allows
	$(PY) -m tests.model

demo: $(STAMP) ## run the main job in a lab of its own
	$(VENV)/bin/quotegate lab demo

demo-vm: image ## run the main job with virtual machines: altered images, foreign programs, pulled plugs
	$(VENV)/bin/quotegate lab demo --vm

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
