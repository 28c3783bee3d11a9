# make install                 the environment alone, for fit and predict on your own images
# make reproduce [PLAN=quick]  install, run the plan, print the verdicts
# make test                    install, lint, type-check, test
# make faults                  plant every fault of tests/faults, print which test catches it
# make plan [PLAN=digits]      what the plan takes on this machine, from some steps of each run: hours, memory, disk
# make bench                   time a step beside a plain implementation and the device's ceilings: results/bench/
# make bundle [PYTHON_THERE=3.12]  bundle.tar: the project, wheels and CIFAR-10 for a machine that has PyTorch and no network
# make verify                  recompute every recorded accuracy, judge all claims, print the verdicts: seconds
# make report                  verdicts, report and README table again, from what is recorded
# make lock                    pin newer dependencies
# make audit                   look up known vulnerabilities of what is pinned; status 3 where no database can be reached
# make check-generated         is the lock what pyproject.toml asks for, and every generated file what the records give

PLAN ?= quick
PYTHON ?= python3
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# Compiled Python files halve the start of every stage.
unexport PYTHONDONTWRITEBYTECODE
# The Python of the machine that the bundle is for; compiled wheels are of one version.
PYTHON_THERE ?= $(shell python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
# Published without a wheel; pure Python.
SOURCE_ONLY := antlr4-python3-runtime
# What prepare, train, evaluate and export import beside PyTorch, NumPy, Pillow and PyYAML, which come with most installations.
WHEELS := antlr4-python3-runtime hydra-core omegaconf packaging pandas python-dateutil safetensors six tqdm

.PHONY: install reproduce plan bench bundle test faults verify report lock audit check-generated
.DEFAULT_GOAL := reproduce

install: $(VENV)/.ready

reproduce: $(VENV)/.ready
	@test -f experiments/plan/$(PLAN).yaml || { echo "error: PLAN = $(PLAN) has no file in experiments/plan; plans: $(patsubst experiments/plan/%.yaml,%,$(wildcard experiments/plan/*.yaml))" >&2; exit 2; }
	@! grep -q '^needs: gpu' experiments/plan/$(PLAN).yaml || python -m repro.cli.cost experiments/plan/$(PLAN).yaml --if-refused
	@ln -sfn experiments/plan/$(PLAN).yaml params.yaml
	dvc repro
	@python -m repro.cli.verdicts

plan: $(VENV)/.ready
	@python -m repro.cli.plan experiments/plan/$(PLAN).yaml

bench: $(VENV)/.ready
	@python -m repro.cli.bench

bundle: $(VENV)/.ready
	@test -z "$$(git status --porcelain)" || echo "The bundle holds what is committed; other changes stay behind." >&2
	@rm -rf bundle && mkdir -p bundle/wheels
	@git archive HEAD | tar -x -C bundle
	@git rev-parse HEAD > bundle/REVISION
	@set -e; for pin in $$(for name in $(WHEELS); do grep -oE "^$$name==[^ ;\\]+" requirements.lock; done); do \
	  case $$pin in $(SOURCE_ONLY)==*) pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir bundle/wheels $$pin ;; \
	  *) pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --python-version $(PYTHON_THERE) --dest bundle/wheels $$pin ;; esac; done
	@! test -d datasets/cifar-10-batches-py || { mkdir -p bundle/datasets && cp -rL datasets/cifar-10-batches-py bundle/datasets/; }
	@tar -cf bundle.tar bundle && rm -rf bundle && du -h bundle.tar
	@echo "There: tar -xf bundle.tar && cd bundle && pip install --no-index --no-deps --target site wheels/*.whl && export PYTHONPATH=site"

test: $(VENV)/.ready
	ruff check --quiet
	ruff format --check --quiet
	mypy --no-error-summary
	python -m pytest -n auto --dist loadgroup

faults: $(VENV)/.ready
	python -m tests.faults.run

verify: $(VENV)/.ready
	python -m repro.cli.verify
	@python -m repro.cli.verdicts

report: $(VENV)/.ready
	python -m repro.cli.verify
	python -m repro.cli.report
	@python -m repro.cli.verdicts

lock: $(VENV)/.ready
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --group dev pyproject.toml --output-file requirements.lock

audit: $(VENV)/.ready
	@python -m tests.supply.audit

check-generated: $(VENV)/.ready
	@python -m tests.supply.generated

$(VENV)/.ready: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(PYTHON) is older than 3.11; name a newer one: make PYTHON=python3.12" >&2; exit 2; }
	@echo "Installing into $(VENV): about 6 GB of disk, most of it PyTorch's GPU libraries."
	@$(PYTHON) -m venv $(VENV) || { echo "error: $(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv" >&2; exit 2; }
	@awk '/^[a-z]/ {mine = /^uv==/} mine' requirements.lock > $(VENV)/uv.lock
	@python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/uv.lock
	@uv pip install --quiet --require-hashes --python $(VENV)/bin/python -r requirements.lock
	@touch $@
