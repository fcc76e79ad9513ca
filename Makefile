# make run: a first look; make test: the tests; make faults: what a run survives; make bench: speed; make lint: style, types, import rules. Each sets up .venv itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help setup run test faults bench lint format clean

help:
	@sed -n '1s/^# //p' Makefile

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] < (3, 14) else "sslbench needs Python 3.11 to 3.13; set PYTHON=python3.12, say")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $(READY)

setup: $(READY)

# One after the other, so that both have the machine to themselves.
run: $(READY)
	$(BIN)/sslbench algorithm=supervised logger=none output_root=outputs/first_look
	$(BIN)/sslbench algorithm=vat logger=none output_root=outputs/first_look
	$(BIN)/sslbench-report outputs/first_look --html outputs/first_look/report.html

test: $(READY)
	$(BIN)/python -m pytest -n 2

# What a run must survive, thoroughly; the table of what was tried goes into docs/reliability.md.
faults: $(READY)
	$(BIN)/python -m pytest tests -n 2 --dist worksteal -m "fault or thorough" --thorough --fault-table=docs/reliability.md

# Half an hour on 2 cores; leave the machine alone meanwhile.
bench: $(READY)
	$(BIN)/python benchmarks/speed.py --out docs/results/speed.md

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
