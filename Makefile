PYTHON ?= python3
PYTEST_ARGS ?=

VENV := .venv
PIP_INSTALL := $(VENV)/bin/python -m pip --disable-pip-version-check install --quiet --editable

.PHONY: demo test lint vendor clean

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

# Fills lib/ anew.
vendor:
	@$(PYTHON) dotnet/vendor.py

clean:
	@rm -rf $(VENV) dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/.installed: pyproject.toml
	@test -x $(VENV)/bin/pip || $(PYTHON) -m venv $(VENV)
	@$(PIP_INSTALL) .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	@$(PIP_INSTALL) ".[test]"
	@touch $@
