# safelight from a checkout, on a machine that has Python, git and make.
# Everything is installed into .venv beside this file, and nothing outside it is touched.
# GNU Make 3.81 (macOS) must be able to read this: no .ONESHELL, no file function.

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.safelight-ready
UNFINISHED := $(VENV)/.safelight-unfinished

# The tested version, without a local tag, so that it fits every wheel index.
TORCH := $(shell sed -n 's/^torch==/torch==/p' constraints.txt)

# -qq hides the warnings of pip's own, not its errors.
PIP_QUIET := $(if $(V),,-qq)
PIP = $(BIN)/python -m pip install $(PIP_QUIET) --no-input --disable-pip-version-check -c constraints.txt

# Every Python that may be there: the tested ones first, then whatever python3 is, then those that pyenv and uv keep
# without putting them on the path. PYTHON=… is the only candidate where it is given.
ifeq ($(origin PYTHON), undefined)
PYTHONS := python3.11 python3.12 python3.13 python3 python python3.14 \
	"$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/3.1[1-9]*/bin/python \
	"$${XDG_DATA_HOME:-$$HOME/.local/share}"/uv/python/cpython-3.1[1-9]*/bin/python3
else
PYTHONS := "$(PYTHON)"
endif

# What an earlier setup was made with, in a file that is written last: the PyTorch index, and where the checkout was
# (an environment does not survive being moved: its scripts and the path to the code are absolute).
# Of a setup that was killed, the index that it was meant to have.
HAD_INDEX := $(shell sed -n 's/^index=//p' $(firstword $(wildcard $(UNFINISHED) $(READY))) /dev/null 2>/dev/null)
HAD_PLACE := $(shell sed -n 's/^place=//p' $(READY) 2>/dev/null)

# Without TORCH_INDEX the one that was chosen before stays chosen; `TORCH_INDEX=` goes back to the default.
INDEX := $(if $(filter undefined,$(origin TORCH_INDEX)),$(HAD_INDEX),$(strip $(TORCH_INDEX)))

# A setup is out of date when a file named in its rule is newer, and when one of these holds: another index or another
# place, a Python that has gone (brew and pyenv remove theirs), an earlier setup that was killed.
STALE := $(shell if [ -e $(UNFINISHED) ]; then echo again; \
	elif [ -e $(READY) ] && [ ! -x $(BIN)/python ]; then echo again; fi)
ifneq ($(wildcard $(READY)),)
ifneq ($(INDEX),$(HAD_INDEX))
STALE := again
endif
ifneq ($(CURDIR),$(HAD_PLACE))
STALE := again
endif
endif

# pip undoes a step that fails, so what was ready before stays ready. A first setup that fails is begun afresh, and the
# index that it failed with is not kept.
FAILED = { if [ -e $(READY) ]; then rm -f $(UNFINISHED); else : > $(UNFINISHED); fi; \
	echo 'error: pip could not install $(1): see above' >&2; exit 1; }

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run test test-terminals setup lint clean again

help:
	@echo "safelight, a terminal darkroom"
	@echo
	@echo "  make run     set up in $(VENV) what is missing, and open the workbench"
	@echo "               ARGS is passed on: make run ARGS='generate \"a red apple\" --seed 7'"
	@echo "  make test    the same setup, then lint, types, import rules and tests (ARGS goes to pytest)"
	@echo "  make lint    the same without the tests"
	@echo "  make setup   the setup alone"
	@echo "  make clean   remove $(VENV) and what the checks leave behind"
	@echo
	@echo "  PYTHON=/path/to/python   use this Python (3.11 or newer)"
	@echo "  TORCH_INDEX=URL          take PyTorch from another wheel index, for an older GPU driver or for no GPU:"
	@echo "                           https://download.pytorch.org/whl/cu126 or https://download.pytorch.org/whl/cpu"
	@echo "                           It is remembered; TORCH_INDEX= goes back to the default."
	@echo "  V=1                      show what pip does"

run: $(READY)
	@$(BIN)/safelight $(ARGS)

setup: $(READY)
	@echo '$(VENV) is ready: $(BIN)/safelight'

lint: $(READY)
	@echo '== ruff check';          $(BIN)/python -m ruff check .
	@echo '== ruff format --check'; $(BIN)/python -m ruff format --check .
	@echo '== mypy';                $(BIN)/python -m mypy
	@echo '== lint-imports';        $(BIN)/lint-imports --no-logo

test: lint
	@echo '== pytest';              $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

# In real terminals under Xvfb: what of them is installed, and what is not is told.
test-terminals: $(READY)
	$(BIN)/python -m pytest tests/test_terminals.py -rs $(ARGS)

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
	find engines tui tests -name __pycache__ -type d -prune -exec rm -rf {} +

# Another build of the same version counts as installed for pip: it has to be told.
FORCE_TORCH := $(if $(filter-out $(HAD_INDEX),$(INDEX))$(filter-out $(INDEX),$(HAD_INDEX)),--force-reinstall)
MORE_INDEX := $(if $(INDEX),--extra-index-url '$(INDEX)')

# The marker is there while pip works. What a killed setup leaves behind can look complete and not be so, and is thrown
# away; so is an environment that was moved or whose Python is gone. A sound one that is only out of date is kept, and
# brought up to date. torch comes first and alone: so it is that build, and the rest is fitted to it.
$(READY): pyproject.toml constraints.txt $(STALE)
	@if [ -e $(UNFINISHED) ]; then \
		echo 'the last setup did not finish: starting again'; rm -rf $(VENV); \
	elif [ -n '$(HAD_PLACE)' ] && [ '$(HAD_PLACE)' != '$(CURDIR)' ]; then \
		echo '$(VENV) was made in another folder: starting again'; rm -rf $(VENV); \
	elif [ -e $(VENV) ] && ! $(BIN)/python -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
		echo '$(VENV) has no Python >= 3.11 that works: starting again'; rm -rf $(VENV); \
	fi
	@if [ ! -e $(VENV) ]; then \
		found=; poor=; \
		for candidate in $(PYTHONS); do \
			"$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 </dev/null || continue; \
			if "$$candidate" -c 'import ctypes, ensurepip, sqlite3, ssl, venv' >/dev/null 2>&1 </dev/null; \
			then found=$$candidate; break; fi; \
			[ -n "$$poor" ] || poor=$$candidate; \
		done; \
		if [ -z "$$found" ] && [ -n "$$poor" ]; then \
			echo "error: $$poor cannot make environments (no ensurepip, sqlite3 or ssl); on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; \
		elif [ -z "$$found" ]; then \
			echo 'error: no Python 3.11 or newer was found; install one, or name it: make PYTHON=/path/to/python' >&2; exit 1; \
		fi; \
		echo "making $(VENV) with $$("$$found" -c 'import platform, sys; print("Python", platform.python_version(), "at", sys.executable)')"; \
		mkdir $(VENV) && touch $(UNFINISHED) && "$$found" -m venv $(VENV) </dev/null; \
	fi
	@echo 'index=$(INDEX)' > $(UNFINISHED)
	@[ -n '$(TORCH)' ] || { echo 'error: constraints.txt pins no torch' >&2; exit 1; }
	@echo 'installing $(TORCH)$(if $(INDEX), from $(INDEX)) (up to 3 GB the first time; V=1 shows pip at work)'
ifneq ($(INDEX),)
	@$(PIP) --no-deps $(FORCE_TORCH) --index-url '$(INDEX)' '$(TORCH)' </dev/null || $(call FAILED,$(TORCH) from $(INDEX))
else
	@$(PIP) $(if $(FORCE_TORCH),--no-deps $(FORCE_TORCH)) '$(TORCH)' </dev/null || $(call FAILED,$(TORCH))
endif
	@echo 'installing the rest (about 0.3 GB the first time)'
	@$(PIP) $(MORE_INDEX) '$(TORCH)' hatchling </dev/null || $(call FAILED,what $(TORCH) needs)
	@$(PIP) $(MORE_INDEX) --no-build-isolation --editable '.[dev]' </dev/null || $(call FAILED,safelight)
	@printf 'index=%s\nplace=%s\n' '$(INDEX)' '$(CURDIR)' > $(READY)
	@rm -f $(UNFINISHED)
