# make install                 the environment alone
# make reproduce [PLAN=quick]  install, run the plan, print the answers
# make test                    install, lint, type-check, test
# make report                  verdicts, report and README rows again, from what is recorded
# make bench                   time a step beside a plain implementation and the device's ceilings: results/bench/
# make faults                  plant every fault of tests/faults, print which test catches it
# make lock                    pin newer dependencies
# make audit                   look up known vulnerabilities of what is pinned
# make check-generated         is the lock what pyproject.toml asks for, and every generated file what the records give

PLAN ?= quick
PYTHON ?= python3
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# Compiled Python files halve the start of every stage.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install reproduce report bench test faults lock audit check-generated
.DEFAULT_GOAL := reproduce

install: $(VENV)/.ready

reproduce: $(VENV)/.ready
	@python -m repro reproduce $(PLAN)
	@python -m repro verdicts

test: $(VENV)/.ready
	ruff check --quiet
	ruff format --check --quiet
	mypy --no-error-summary
	python -m pytest -n auto --dist loadgroup

faults: $(VENV)/.ready
	python -m tests.faults.run

report: $(VENV)/.ready
	@python -m repro verify
	@python -m repro report
	@python -m repro verdicts

bench: $(VENV)/.ready
	@python -m repro bench

lock: $(VENV)/.ready
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --group dev pyproject.toml --output-file requirements.lock

audit: $(VENV)/.ready
	@uv tool run pip-audit --requirement requirements.lock --disable-pip --require-hashes

check-generated: $(VENV)/.ready
	@python -m tests.supply.generated

$(VENV)/.ready: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(PYTHON) is older than 3.11; name a newer one: make PYTHON=python3.12" >&2; exit 2; }
	@echo "Installing into $(VENV): about 6 GB of disk, most of it PyTorch's GPU libraries."
	@$(PYTHON) -m venv $(VENV) || { echo "error: $(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv" >&2; exit 2; }
	@awk '/^[a-z]/ {mine = /^uv==/} mine' requirements.lock > $(VENV)/uv.lock
	@python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/uv.lock
	@uv pip install --quiet --require-hashes --python $(VENV)/bin/python -r requirements.lock
	@uv pip install --quiet --no-deps --no-build-isolation --python $(VENV)/bin/python --editable .
	@touch $@
