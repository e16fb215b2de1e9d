# Two commands do all the set-up: `make demo` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(abspath $(VENV))/bin
export PATH := $(BIN):$(PATH)

.PHONY: demo test setup lint bench nightly gpu resolve docs clean

demo: setup  ## publish the sample to a real S3 server on this machine, and pull it back
	@python examples/demo.py

test: setup lint  ## the whole test suite
	@OMP_NUM_THREADS=1 pytest -n 2

bench: setup  ## every speed that is claimed, as ratios to its peers
	@for script in bench/*.py; do echo "== $$script"; python $$script || exit 1; done

nightly: setup  ## the slow suites
	@OMP_NUM_THREADS=1 pytest -m nightly

gpu: setup  ## what needs a GPU
	@pytest -m gpu

lint: setup
	@ruff check . && ruff format --check . && mypy

resolve: setup  ## does dvc[s3] still install beside us?
	@pip install -qq --dry-run -c constraints.txt -e '.[dev]' 'dvc[s3]'

docs: setup  ## pages that are generated from the code
	@python docs/generate.py

setup: $(VENV)/ready

$(VENV)/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "publisher needs Python 3.11 or newer; try make PYTHON=python3.12 ...")'
	@echo "setting up $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

clean:  ## all that make and the demo made
	rm -rf $(VENV) build demo dvc.lock
