# make run: the embedded default run. make test: all tests. Both make .venv first; nothing is installed twice.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet
PROJECT := pyproject.toml constraints.txt

.PHONY: run test lint format schema clean

run: $(VENV)/.installed
	$(BIN)/snakemake --cores all

test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/snakemake --lint

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile rules

# The files that are generated from the configuration's models.
schema: $(VENV)/.installed
	$(BIN)/python -m retort.config.reference --schema > config.schema.json
	$(BIN)/python -m retort.config.reference --table > docs/configuration.md

clean:
	rm -rf $(VENV)

$(VENV)/.installed: requirements.txt $(PROJECT)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --constraint constraints.txt --requirement requirements.txt
	$(PIP) --no-deps --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt requirements-transformers.txt
	$(PIP) --constraint constraints.txt --requirement requirements-dev.txt
	touch $@
