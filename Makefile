# Every target sets up what it needs; all that has to be there before is Python >= 3.11 with venv.

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
UV := 0.13.8
FRONTEND := hatch_build.py $(shell find frontend -name node_modules -prune -o -type f -print)
NOTEBOOKS := $(wildcard notebooks/*.ipynb)
BENCHMARKS := $(filter-out benchmarks/_% benchmarks/accuracy.py benchmarks/soak.py,$(wildcard benchmarks/*.py))

# Without compiled files every start imports the whole stack from source: 8 s instead of 4.7 s.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test lint bench accuracy soak browser screenshots lock clean

help:
	@echo "make demo      simulate a microscope, import and process its movies into demo-project/"
	@echo "make test      run the tests, the import contracts and the notebooks"
	@echo "make lint      check style, formatting, types and the direction of imports"
	@echo "make bench     measure speed and scale"
	@echo "make accuracy  measure accuracy on simulated movies with known truth"
	@echo "make soak      process a thousand tiny movies while workers, processes and disks fail"
	@echo "make browser   test the pages in Chromium and JupyterLab; installs Chromium where it may"
	@echo "make screenshots  take the pictures of the documentation anew"
	@echo "make lock      bring requirements.lock in step with pyproject.toml, keeping pins that still fit"
	@echo "make clean     remove the environment, the caches and the demo"

demo: $(INSTALLED)
	$(BIN)/focusnb demo
	@echo "Before these commands, once in a terminal: . $(BIN)/activate"

# A file's tests stay on one worker: its fixtures are made once, and a notebook's cells share one kernel.
test: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 --dist loadfile tests $(if $(NOTEBOOKS),--nbval-lax --nbval-current-env $(NOTEBOOKS))

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: $(INSTALLED)
	@for script in $(BENCHMARKS); do echo "$$script"; $(BIN)/python $$script || exit 1; done

accuracy: $(INSTALLED)
	$(BIN)/python benchmarks/accuracy.py

soak: $(INSTALLED)
	$(BIN)/python benchmarks/soak.py

# Here nothing may be skipped: what the tests need is installed, or the target says what is missing and fails.
browser: $(INSTALLED) $(VENV)/.browser
	FOCUSNB_NO_SKIPS=1 $(BIN)/python -m pytest -m browser tests/browser

screenshots: $(INSTALLED) $(VENV)/.browser
	$(BIN)/python docs/make_screenshots.py

$(VENV)/.browser: $(INSTALLED)
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || { \
	    if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	            chromium fonts-dejavu-core; \
	    else \
	        echo "Chromium is missing; install it (Debian, Ubuntu, as root: apt-get install chromium)" >&2; false; \
	    fi; }
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint requirements.lock 'playwright>=1.50' 2>/dev/null || \
	    $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock 'playwright>=1.50'
	@touch $@

lock: $(INSTALLED)
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --extra dev --no-emit-index-url \
	    --no-emit-find-links --no-header --no-annotate --output-file requirements.lock pyproject.toml

clean:
	rm -rf $(VENV) build dist demo-project demo-camera .benchmarks .hypothesis .import_linter_cache .mypy_cache \
	    .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# uv is ten times faster than pip but ignores pip's configuration: where that names an index of its own, or where uv
# fails, pip installs the same lock.
# The front end is bundled while focusnb is installed, so it is installed again where that changed.
$(INSTALLED): pyproject.toml requirements.lock $(FRONTEND)
	@seen=; found=; \
	for python in $(PYTHON) python3 python3.15 python3.14 python3.13 python3.12 python3.11; do \
	    version=$$("$$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue; \
	    seen="$$seen, $$python is $$version"; \
	    "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || continue; \
	    "$$python" -c 'import venv, ensurepip' 2>/dev/null || { seen="$$seen without venv"; continue; }; \
	    found=$$python; break; \
	done; \
	if [ -z "$$found" ]; then \
	    echo "focusnb needs Python 3.11 or newer with its venv module ($${seen:-, no python3 found})." \
	        "Install it (Debian, Ubuntu: apt install python3-venv) or name one: make PYTHON=/path/to/python3.12" \
	        | sed 's/(, /(/' >&2; \
	    exit 1; \
	fi; \
	if ! $(BIN)/python -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "making $(VENV) with $$found"; "$$found" -m venv --clear $(VENV) || exit 1; \
	fi
	@if $(BIN)/python -m pip config list 2>/dev/null | grep -q '[.]index-url='; then \
	    echo "installing with pip, whose configuration names an index"; false; \
	else \
	    $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV) && \
	    $(BIN)/uv pip install --quiet --python $(BIN)/python --reinstall-package focusnb -r requirements.lock \
	    -e . || { echo "uv could not install; pip takes over"; false; }; \
	fi || $(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock -e .
	@touch $(INSTALLED)
