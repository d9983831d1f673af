# From a fresh clone with Python >= 3.11 and a package index: everything else goes into .venv.
#
#     make demo                       train a network and compare it with scikit-learn
#     make test PYTHON=python3.12     with another Python; TESTS="-k packaging" runs some of the tests
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TESTS ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-slow lint bench clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-14s %s\n", $$1, $$2 }'

$(VENV)/.made:
	@command -v "$(PYTHON)" >/dev/null || { echo "$(PYTHON) is not found: name a Python >= 3.11 with 'make PYTHON=...'" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "fastbp needs Python >= 3.11, but $(PYTHON) is $$("$(PYTHON)" -V 2>&1): name another with 'make PYTHON=...'" >&2; exit 1; }
	"$(PYTHON)" -m venv --clear $(VENV)
	@touch $@

# One stamp for each set of extras, so that a second run starts at once; a change of pyproject.toml installs again.
$(VENV)/.with-%: pyproject.toml $(VENV)/.made
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@

demo: $(VENV)/.with-plot  ## train on digits, compare with the reference and scikit-learn, write demo.png
	$(BIN)/python scripts/demo.py

PYTEST := $(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile

test: $(VENV)/.with-plot,test  ## run the tests, but for those that wait long for the compiler
	$(PYTEST) -m "not slow" $(TESTS)

test-slow: $(VENV)/.with-plot,test  ## run those: other vectors and CPU models, all features at once, cold starts
	$(PYTEST) -m slow $(TESTS)

lint: $(VENV)/.with-dev  ## ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	@# mypy reads the package as it is installed, with kernels/ inside it
	@rm -rf build/types && mkdir -p build/types
	@cp -R fastbp build/types/fastbp && cp -R kernels build/types/fastbp/kernels
	$(BIN)/mypy

bench: $(VENV)/.with-bench,plot  ## time training against PyTorch, JAX and scikit-learn
	$(BIN)/python -m benchmarks.run --suite cpu

clean:  ## remove the environment and everything that was made
	rm -rf $(VENV) build dist demo.png *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
