# One list of commands, for people and for CI. `make` alone prints it.
.DEFAULT_GOAL := help
.PHONY: help install demo test check format golden parity real browser docs notebooks pictures bench clean

PYTHON ?= $(shell for p in python3.11 python3; do $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
# Further arguments for pip when it installs torch, such as an index with builds for CPUs only.
TORCH_ARGS ?=
# Further arguments for pytest, such as ARGS="-k bert -x".
ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
TORCH := $(shell sed -n '/^torch==/p' constraints.txt)
ASSETS_TOOL ?= $(BIN)/python tests/assets.py

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

# torch first and by itself: as a dependency of something else it would bring gigabytes for GPUs.
$(VENV)/.installed-torch: constraints.txt
	@test -x $(BIN)/python || { test -n "$(PYTHON)" && $(PYTHON) -m venv $(VENV); } || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PIP) $(TORCH_ARGS) $(TORCH)
	@touch $@

$(VENV)/.installed: $(VENV)/.installed-torch pyproject.toml
	@$(PIP) -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	@$(PIP) -c constraints.txt -e '.[test]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-test
	@$(PIP) -c constraints.txt -e '.[dev]'
	@touch $@

$(VENV)/.installed-parity: $(VENV)/.installed-test
	@$(PIP) -c constraints.txt -e '.[parity]'
	@touch $@

$(VENV)/.installed-browser: $(VENV)/.installed-test
	@$(PIP) -c constraints.txt -e '.[browser]'
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	@$(PIP) -c constraints.txt -e '.[docs]'
	@touch $@

install: $(VENV)/.installed-torch ## all that check, real, browser and docs need, at once
	@$(PIP) -c constraints.txt -e '.[test,dev,browser,docs]'
	@touch $(addprefix $(VENV)/.installed,'' -test -dev -browser -docs)

demo: $(VENV)/.installed ## the sentiment of a few sentences, and of TEXT="..."
	@$(BIN)/python examples/demo.py

test: $(VENV)/.installed-test ## the quick tests: no network, no real checkpoints (ARGS="-k bert")
	$(PYTEST) -m "not real and not parity and not slow and not browser" -n 2 --dist loadgroup $(ARGS)

check: $(VENV)/.installed-dev ## all that a change must pass: format, lint, types, quick tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	@$(MAKE) --no-print-directory test

format: $(VENV)/.installed-dev ## formats the code and mends what the linter can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

golden: $(VENV)/.installed-parity $(VENV)-4/.installed ## makes golden files with the reference library (MODEL=bert: only that)
	$(BIN)/python tests/models/make_golden.py $(MODEL)
	$(VENV)-4/bin/python tests/models/make_golden.py $(MODEL)
	$(BIN)/python tests/generation_cases.py
	$(VENV)-4/bin/python tests/generation_cases.py

# the last version 4 of the reference that has what version 5 took away: head masks, groups of beams, constraints, …
$(VENV)-4/.installed:
	@$(PYTHON) -m venv $(VENV)-4
	@$(VENV)-4/bin/python -m pip install -qq --disable-pip-version-check $(TORCH_ARGS) $(TORCH)
	@$(VENV)-4/bin/python -m pip install -qq --disable-pip-version-check transformers==4.55.4
	@touch $@

parity: $(VENV)/.installed-parity ## compares live with the reference library
	$(PYTEST) -m parity $(ARGS)

real: $(VENV)/.installed-test ## downloads real checkpoints and tests with them
	@$(ASSETS_TOOL)
	$(PYTEST) -m real -n 2 $(ARGS)

browser: $(VENV)/.installed-browser ## opens traces and attention pages in Chromium; pictures go to build/browser
	$(PYTEST) -m browser $(ARGS)

notebooks: $(VENV)/.installed-test ## executes the notebooks in place, so that their outputs are those of this code
	@$(BIN)/python notebooks/execute.py

pictures: browser ## takes the pictures of README and docs again
	@cp build/browser/trace-light.png build/browser/trace-dark.png build/browser/attention-light.png docs/images

docs: $(VENV)/.installed-docs ## the pages of docs/, the notebooks and the reference as HTML, in docs/_build/html
	@$(BIN)/sphinx-build -q -W --keep-going docs docs/_build/html
	@echo "docs/_build/html/index.html"

bench: ## lists the benchmarks
	@for f in benchmarks/*.py; do test -e "$$f" && printf '  %s\n      %s\n' "$(BIN)/python $$f" "$$(sed -n '1s/"""//gp' "$$f")" || echo "no benchmarks yet"; done

clean: ## removes what was built and cached (.venv stays)
	rm -rf build dist docs/_build docs/notebooks docs/pages docs/reference.rst .pytest_cache .ruff_cache .hypothesis src/*.egg-info
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +
