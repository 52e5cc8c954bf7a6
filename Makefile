# Everything that the README names. Each target makes .venv first where it is missing.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: install demo test check format bench simulate torture stack-test store-test clean

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --upgrade pip
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --editable '.[pipeline]' --group test
	touch $@

demo: install
	$(BIN)/python -m tools.demo

test: install
	$(BIN)/python -m pytest

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Some ten minutes on a quiet machine; writes benchmarks/results.json, the tables of docs/performance.md, and its plot.
bench: install
	$(BIN)/python -m benchmarks

# For a night: `make simulate SEEDS=200000`, `make torture KILLS=1000`.
SEEDS ?= 2000
KILLS ?= 40

simulate: install
	$(BIN)/python -m tests.simulation --seeds $(SEEDS)

torture: install
	$(BIN)/python -m tests.torture --kills $(KILLS)

# Prefect's server on PostgreSQL (Debian's `postgresql`), two workers, an S3 server; five minutes.
stack-test: install
	$(BIN)/python -m pytest tests/stack

# Real S3 servers: Ceph from Debian's packages (needs root and mmdebstrap), Swift. One that cannot be had is skipped.
# `make store-test STORE_SERVERS=ceph-20,ceph-18,swift` for all of them.
STORE_SERVERS ?= ceph-20
comma := ,

store-test: install
	$(BIN)/python -m tests.stores.servers $(subst $(comma), ,$(STORE_SERVERS))
	STORE_SERVERS=$(STORE_SERVERS) $(BIN)/python -m pytest tests/stores -k '$(subst $(comma), or ,$(STORE_SERVERS))'

clean:
	rm -rf .venv .prefect .*_cache .hypothesis dist *.egg-info demo-archive demo-export
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
