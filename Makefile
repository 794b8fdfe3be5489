PYTHON ?= python3
PYTEST_ARGS ?=
DIST ?= dist

VENV := .venv
PIP_INSTALL = $(@D)/bin/python -m pip --disable-pip-version-check install --quiet --editable
FREEZER := build/freezer
FROZEN := minidumper-linux-x64

.PHONY: demo test lint dist vendor clean

# Dumps a small .NET program in every mode, and reads the heap dump back.
demo: $(VENV)/.installed
	@$(VENV)/bin/minidumper demo

# Everything; PYTEST_ARGS chooses.
test: lint
	@$(VENV)/bin/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.installed-test
	@$(VENV)/bin/ruff check --quiet
	@$(VENV)/bin/ruff format --check --quiet
	@$(VENV)/bin/mypy --platform linux --cache-dir .mypy_cache/linux
	@# What Windows never imports is left out there: the rooms of Linux, and tests that run on it.
	@$(VENV)/bin/mypy --platform win32 --cache-dir .mypy_cache/win32 --follow-imports silent \
		--exclude platforms/linux/ minidumper tests/windows dotnet/vendor.py

# A folder and a .tar.gz for Linux x64 that run without Python and .NET. They ask for the glibc of
# this machine or a newer one.
dist: $(FREEZER)/.installed
	@$(FREEZER)/bin/pyinstaller --noconfirm --log-level ERROR --workpath build \
		--distpath $(DIST) dotnet/freeze/minidumper.spec
	@tar --create --gzip --file $(DIST)/$(FROZEN).tar.gz --directory $(DIST) \
		--owner 0 --group 0 --numeric-owner $(FROZEN)
	@echo $(DIST)/$(FROZEN).tar.gz

# Fills lib/ anew.
vendor:
	@$(PYTHON) dotnet/vendor.py

clean:
	@rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/.installed: pyproject.toml
	@test -x $(VENV)/bin/pip || $(PYTHON) -m venv $(VENV)
	@$(PIP_INSTALL) .
	@touch $@

$(FREEZER)/.installed: pyproject.toml
	@test -x $(FREEZER)/bin/pip || $(PYTHON) -m venv $(FREEZER)
	@$(PIP_INSTALL) ".[freeze]"
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	@$(PIP_INSTALL) ".[test]"
	@touch $@
