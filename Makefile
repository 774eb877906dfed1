PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
DEMO_S ?= 60
FUZZ_EXECUTIONS ?= 1000000
TEST_PROCESSES ?= 2

.PHONY: demo test fuzz mutants lint format protos licences train clean
.DELETE_ON_ERROR:

# The environment is rebuilt when what it is made from changes. CPU=1 leaves out CUDA: PyPI's torch for Linux has it, and cannot be imported without
# it. uv knows where PyTorch keeps its builds for the CPU; UV_OFFLINE=1 UV_FIND_LINKS=FOLDER takes their wheels from a folder.
$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("sensebind needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
ifeq ($(CPU),1)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --torch-backend cpu --no-deps --constraint constraints.txt torch torchaudio torchvision
	$(BIN)/python -m pip uninstall --quiet --yes uv
endif
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	$(BIN)/python -m pip check
	@touch $@

demo: $(VENV)/installed
	$(BIN)/sensebind demo --seconds $(DEMO_S)

test: $(VENV)/installed
	@$(BIN)/sensebind doctor
	$(BIN)/pytest -n $(TEST_PROCESSES) --dist loadfile

# Overnight: all targets of tests/fuzz, with atheris where `pip install .[fuzz]` has put it. Findings and the corpus are kept in runs/fuzz.
fuzz: $(VENV)/installed
	PYTHONPATH=.:tests $(BIN)/python -m fuzz --executions $(FUZZ_EXECUTIONS)

# Some minutes: a line of the source is changed at a time, in a copy, and tests must notice. WORD="ring book" runs some.
mutants: $(VENV)/installed
	PYTHONPATH=.:tests $(BIN)/python -m mutants $(WORD)

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Generated code is committed; a test checks that it is fresh.
protos: $(VENV)/installed
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m protos.generate

licences: $(VENV)/installed
	$(BIN)/python third_party.py

# Shards out of the synthetic world, then the weights that ship. To resume an interrupted run: make train RESUME=--resume
train: $(VENV)/installed
	$(BIN)/sensebind simulate --out shards/train --windows 6600 --seed 10000
	$(BIN)/sensebind simulate --out shards/val --windows 800 --seed 5000
	$(BIN)/sensebind train --shards shards/train --validation shards/val --out runs/nano $(RESUME)
	mkdir -p models/shipped
	cp runs/nano/imagebind_nano.safetensors models/shipped/
	$(BIN)/sensebind weights calibrate imagebind_nano

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache shards runs
