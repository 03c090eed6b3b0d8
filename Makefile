# make run: the embedded default run. make test: all tests. Both make .venv first; nothing is installed twice.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet
HASHED := --require-hashes --no-deps --no-build-isolation --use-pep517
PACKAGES := requirements.txt $(patsubst %,requirements-%.txt,base serve export workflow)
VERSION := import sys; found = '%d.%d' % sys.version_info[:2]; found in ('3.11', '3.12', '3.13') or sys.exit( \
	'Python 3.11 to 3.13 is needed, $(PYTHON) is ' + found + ': name one, such as make PYTHON=python3.12 $(MAKECMDGOALS)')
PROJECT := pyproject.toml $(wildcard retort/search/native/*.[ch]) constraints.txt locks/build.txt locks/run.txt

.PHONY: run test unit lint format schema lock clean

run: $(VENV)/.installed
	$(BIN)/retort run config.yaml

test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder

# All but what is marked slow: one to two minutes of two cores.
unit: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/unit -m "not slow" --numprocesses 2 --quiet

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

# The hashes of every file of every pinned version, from the index; needs uv. What has no hash is printed.
lock:
	UV_NATIVE_TLS=1 $(PYTHON) locks/update.py

clean:
	rm -rf $(VENV)

# A .venv of another Python is made again, and one without pip, which Debian's leaves behind without python3-venv.
# Whatever has a hash first; then torch, whose builds differ between indexes, and what only one of them needs.
$(VENV)/.installed: $(PACKAGES) $(PROJECT)
	@{ $(BIN)/python -c "$(VERSION)" && $(BIN)/python -m pip --version; } > /dev/null 2>&1 \
		|| { $(PYTHON) -c "$(VERSION)" && $(PYTHON) -m venv --clear $(VENV); }
	$(PIP) $(HASHED) --requirement locks/build.txt
	$(PIP) $(HASHED) --requirement locks/run.txt
	$(PIP) --constraint constraints.txt --requirement requirements.txt
	$(PIP) --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed locks/dev.txt requirements-dev.txt requirements-transformers.txt
	$(PIP) $(HASHED) --requirement locks/dev.txt
	$(PIP) --constraint constraints.txt --requirement requirements-dev.txt
	touch $@
