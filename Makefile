PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CPP := $(shell find csrc -name '*.cpp' -o -name '*.h' -o -name "*.cu" -o -name "*.cuh")
FORMATTED := $(CPP) $(wildcard tests/emulation/*.cpp tests/stand_in/*.cpp)
RUFF_PATHS := setup.py csrc fsc_ext python tests bench examples

.PHONY: demo test test-emulated check-cuda sanitize lint format bench build

# The main job without any data: train a small network, compress it by every method.
demo: build
	$(BIN)/fsc demo --output fsc-demo

test: build
	$(BIN)/pytest
	$(MAKE) test-emulated

# The operators' tests on the source of the CUDA kernels, run by the host emulator.
test-emulated: build
	$(BIN)/python csrc/emulation/build.py
	FSC_EMULATE=1 OMP_NUM_THREADS=1 $(BIN)/pytest tests/ops

# Compiles the CUDA kernels for every architecture; no GPU is needed, but nvcc is.
check-cuda: build
	$(BIN)/python csrc/cuda/check.py

lint: build
	$(BIN)/ruff check $(RUFF_PATHS)
	$(BIN)/ruff format --check $(RUFF_PATHS)
	$(BIN)/clang-format --dry-run --Werror $(FORMATTED)
	$(BIN)/mypy

format: build
	$(BIN)/ruff check --fix $(RUFF_PATHS)
	$(BIN)/ruff format $(RUFF_PATHS)
	$(BIN)/clang-format -i $(FORMATTED)

# On a machine with a GPU: memory errors and races in every kernel that the operators' tests launch.
sanitize: build
	@command -v compute-sanitizer > /dev/null || { echo "sanitize: compute-sanitizer of the CUDA toolkit was not found"; exit 1; }
	for tool in memcheck racecheck; do \
		compute-sanitizer --tool $$tool --error-exitcode 1 $(BIN)/pytest tests/ops -k "cuda and not compile" || exit 1; \
	done

# BENCH_JSON=FILE keeps the figures for bench/table.py; DEVICE=cuda measures on a GPU, by its own clock.
DEVICE ?= cpu
bench: build
	$(BIN)/python bench/machine.py $(DEVICE)
	$(BIN)/pytest bench --device=$(DEVICE) --benchmark-only --benchmark-group-by=group --benchmark-columns=median,iqr,rounds --benchmark-max-time=0.3 \
		$(if $(BENCH_JSON),--benchmark-json=$(BENCH_JSON))

build: $(VENV)/built

$(VENV)/created: constraints.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fsc needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt setuptools wheel torch numpy pybind11 ninja
	touch $@

$(VENV)/built: $(VENV)/created setup.py pyproject.toml csrc/sources.txt $(CPP)
	$(BIN)/pip install -q -c constraints.txt --no-build-isolation -e '.[test,lint]'
	touch $@
