PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CPP := $(shell find csrc -name '*.cpp' -o -name '*.h' -o -name "*.cu" -o -name "*.cuh")
FORMATTED := $(CPP) $(wildcard tests/emulation/*.cpp tests/stand_in/*.cpp tests/sanitize/*.cpp)
RUFF_PATHS := setup.py csrc fsc_ext python tests bench examples docs/building
comma := ,

.PHONY: demo test test-emulated campaign sanitize check-cuda check-install docs lint format bench bench-check gpu zoo build tools

# The main job without any data: train a small network, compress it by every method.
demo: build
	$(BIN)/fsc demo --output fsc-demo

# Side by side, a file in one process; each on one thread, but for tests that ask for more.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder --benchmark-disable

test: tools
	$(PYTEST)
	$(MAKE) test-emulated

# The operators' tests on the source of the CUDA kernels, run by the host emulator.
test-emulated: tools
	$(BIN)/python csrc/emulation/build.py
	FSC_EMULATE=1 $(PYTEST) tests/ops tests/test_figures.py tests/test_launches.py tests/campaign/test_operators.py

# Thousands of random cases, hours; goes on where it stopped. PARTS="operators cuts" runs some parts only.
campaign: tools
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore tests/campaign/run.py $(PARTS)
	$(BIN)/python tests/campaign/page.py

# The operators' tests on builds that watch memory, undefined behaviour and threads, in build/sanitized.
# KINDS="address threads" runs some only.
sanitize: tools
	$(BIN)/python tests/sanitize/check.py $(KINDS)

# Compiles the CUDA kernels for every architecture, counts, and compares with csrc/cuda/figures.json; no GPU is needed,
# but nvcc is. WRITE=1 keeps what is found instead; ONLY="80 90" leaves the other architectures out.
check-cuda: tools
	$(BIN)/python csrc/cuda/check.py $(if $(WRITE),--write) $(if $(ONLY),--only $(ONLY))

# The site, in site/: fails on an example that does not run, a name that is not documented, a link that leads nowhere.
docs: $(VENV)/docs
	$(PYTEST) tests/test_docs.py tests/test_site.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	$(BIN)/python docs/building/check.py site

lint: tools
	$(BIN)/ruff check $(RUFF_PATHS)
	$(BIN)/ruff format --check $(RUFF_PATHS)
	$(BIN)/clang-format --dry-run --Werror $(FORMATTED)
	$(BIN)/mypy

format: tools
	$(BIN)/ruff check --fix $(RUFF_PATHS)
	$(BIN)/ruff format $(RUFF_PATHS)
	$(BIN)/clang-format -i $(FORMATTED)

# On a machine with a GPU, with the Python that is there and nothing fetched; goes on where it stopped.
GPU_RESULTS ?= gpu-results
gpu:
	$(PYTHON) bench/gpu.py $(GPU_RESULTS) $(STAGES)

# Several real networks to two sizes each, from FSC_DATA; hours. What is in examples/zoo already is left out;
# ZOO="resnet20-0.7 resnet20-0.5" runs some only.
zoo: build
	$(BIN)/python examples/zoo/run.py $(ZOO)

# BENCH_JSON=FILE keeps the figures for bench/table.py; DEVICE=cuda measures on a GPU, by its own clock.
DEVICE ?= cpu
bench: tools
	$(BIN)/python bench/machine.py $(DEVICE)
	$(BIN)/pytest bench --device=$(DEVICE) --benchmark-only --benchmark-group-by=group --benchmark-columns=median,iqr,rounds --benchmark-max-time=0.3 \
		$(if $(BENCH_JSON),--benchmark-json=$(BENCH_JSON))

# How many times longer plain PyTorch takes, against bench/kept_ratios.json: fails on a loss of more than 20 %; minutes.
# WRITE=1 keeps what is found instead; without it ONLY="gram 3" measures the cases with this in their names.
bench-check: tools
	OMP_NUM_THREADS=1 $(BIN)/python bench/check.py $(if $(WRITE),--write) $(if $(ONLY),--only "$(ONLY)")

build: $(VENV)/built

# Installs the commit in fresh environments; INSTALL="--torch 2.13.0 --path plain" tries one cell only.
check-install:
	$(PYTHON) tests/install/check.py --record $(INSTALL)

# pip is silent while it unpacks torch: a word every 15 s.
patiently = (while sleep 15 > /dev/null; do echo "  ... still at it"; done) & beat=$$!; \
	$(1); code=$$?; kill $$beat; exit $$code

$(VENV)/created: constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fsc needs Python 3.11 or newer")'
	@echo "1/3  An environment in $(VENV) with torch: about a minute, and as long as its download takes"
	$(PYTHON) -m venv $(VENV)
	@$(call patiently,$(BIN)/pip install -c constraints.txt setuptools torch numpy pybind11 ninja)
	@touch $@

$(VENV)/built: $(VENV)/created setup.py pyproject.toml csrc/sources.txt $(wildcard csrc/building/*.py) $(CPP)
	@echo "2/3  The kernels: two to three minutes on two cores"
	$(BIN)/python setup.py -q build_ext --inplace
	@echo "3/3  The packages that fsc runs with: half a minute"
	@$(call patiently,$(BIN)/pip install -c constraints.txt --no-build-isolation -e .)
	@touch $@

# Linters and test runners, which the demo does without.
tools: $(VENV)/tools

$(VENV)/tools: $(VENV)/built
	@echo "Linters and test runners: half a minute"
	@$(call patiently,$(BIN)/pip install -c constraints.txt 'fsc-ext[test$(comma)lint$(comma)onnx$(comma)lightning]')
	@touch $@

$(VENV)/docs: $(VENV)/tools
	@echo "What builds the site: a quarter of a minute"
	@$(call patiently,$(BIN)/pip install -c constraints.txt 'fsc-ext[docs]')
	@touch $@
