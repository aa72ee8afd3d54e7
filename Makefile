# make demo and make test are all a newcomer needs; each makes .venv from the lock file first.
PYTHON ?= python3.11
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
export HF_HUB_OFFLINE ?= 1
export HF_DATASETS_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: demo test test-slow check format docs bench gpu patient venv dist docs-site clean

demo: .venv/demo
	$(BIN)/mnemos run mnemos:demo.yaml --out runs/demo --jobs 2

test: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n 2

test-slow: .venv/ready
	$(BIN)/python -m pytest -m slow
	HYPOTHESIS_PROFILE=new $(BIN)/python -m pytest -m "hypothesis and not slow"

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_layers.py tests/test_method_laws.py tests/test_readme.py tests/test_docs.py \
		tests/recipes/test_catalogue.py tests/recipes/test_findings.py

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Every page that shows the numbers of studies, from the results that are kept.
RESULTS ?= $(wildcard docs/results/*.json)

docs: .venv/ready
	$(BIN)/python -m mnemos.recipes.catalogue $(foreach file,$(RESULTS),--results $(file))
	$(BIN)/python -m mnemos.recipes.findings $(foreach file,$(RESULTS),--results $(file))

bench: .venv/ready
	$(BIN)/python -m benchmarks

# On a machine with an NVIDIA GPU, by its own Python: nothing is installed, and what is missing is said.
GPU_PYTHON ?= python3
gpu:
	$(GPU_PYTHON) -m benchmarks.gpu

patient: .venv/ready
	$(BIN)/python -m mnemos.recipes.patient --out mnemos/recipes/patients

venv: .venv/ready

# A lock for each purpose, into one environment: the demo's is a part of requirements.lock, at the same versions.
# torch first: its exact version keeps looser ranges of other packages from bringing another build.
.venv/demo: requirements-demo.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(PIP) "$$(grep '^torch==' requirements-demo.lock)"
	$(PIP) -r requirements-demo.lock
	$(PIP) --no-build-isolation --no-deps -e .
	touch $@

.venv/ready: .venv/demo requirements.lock
	$(PIP) -r requirements.lock
	touch $@

.venv/docs: .venv/ready requirements-docs.lock
	$(PIP) -r requirements-docs.lock
	touch $@

# The pages as a site, without a network; site/index.html opens without a server.
docs-site: .venv/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --clean

# An sdist and a wheel in dist/, without a network.
dist: .venv/ready
	$(BIN)/python -c "from setuptools import build_meta as b; print(b.build_sdist('dist'), b.build_wheel('dist'))"

clean:
	rm -rf .venv runs build dist site
