# `make serve` and `make test` each set up all they need, from nothing. ARGS passes arguments on: make serve ARGS="--port 9000"
VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin
HINT := "Not installed: pip says above why. Where it is a package that must be compiled for this Python (pysimdjson, for 3.14)," \
	"a C++ compiler and Python's headers are missing: apt install g++ python3-dev. Or take another Python:" \
	"make clean, then the same with PYTHON=python3.13."
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.PHONY: help install install-train install-dev serve train test check bench bench-gpu format lock clean

help:
	@echo "make serve          the service on http://127.0.0.1:8000, in its own environment"
	@echo "make train          train the gyro denoiser (about 10 minutes on 2 cores), then: $(BIN)/python -m scripts.export runs/..."
	@echo "make test           the whole test suite"
	@echo "make check          lint, types, architecture"
	@echo "make bench          the service beside raw ONNX Runtime and a plain service (about 10 minutes)"
	@echo "make bench-gpu      what a GPU changes: placement, exactness, speed, memory (about 5 minutes; needs a GPU)"
	@echo "make install        the service's environment; install-train adds PyTorch, install-dev the tools"
	@echo "make format         format the code; make lock  pin the newest versions anew; make clean  remove $(VENV)"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# One stamp per requirements file: nothing is installed twice, and a changed file is installed again.
$(VENV)/%.stamp: requirements/%.txt | $(BIN)/python
	@echo "Installing $<$(if $(findstring torch,$<), (PyTorch: this takes some minutes),)"
	@$(PIP) -r $< || { printf '%s\n' $(HINT) >&2; exit 1; }
	@touch $@

$(VENV)/torch.stamp: requirements/torch-pins.txt

install: $(VENV)/service.stamp
install-train: install $(VENV)/torch.stamp $(VENV)/train.stamp
install-dev: install-train $(VENV)/dev.stamp

serve: install
	@exec $(BIN)/python -m app $(ARGS)

train: install-train
	@exec $(BIN)/python -m scripts.train $(ARGS)

test: install-dev
	@$(BIN)/python -m pytest -n 4 --dist worksteal $(ARGS)

check: install-dev
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy app scripts
	@$(BIN)/mypy --platform darwin --cache-dir .mypy_cache/darwin app scripts
	@$(BIN)/python -m pytest -q tests/test_architecture.py

bench: install-train
	@$(BIN)/python -m scripts.bench $(ARGS)

bench-gpu: install-train
	@$(BIN)/python -m scripts.bench_gpu $(ARGS)

format: install-dev
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

lock: install-dev
	@$(PIP) uv==0.13.9
	@cd requirements && for name in service service-cpu service-cuda train torch-pins otel extras dev; do \
		../$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --custom-compile-command "make lock" \
			$$name.in -o $$name.txt || exit 1; done

clean:
	rm -rf $(VENV)
