# Everything a user needs: demo, serve, test. The environment is built once, in .venv.
VENV ?= .venv
EXTRAS ?= server,train,dev
PYTHON ?=
STUDIES ?=
MODEL ?=
PORT ?= 8000

BIN := $(VENV)/bin
STAMP := $(VENV)/.complete
STARTER := $(firstword $(foreach name,python3 python3.12 python3.11 python3.10 python,$(shell command -v $(name) 2>/dev/null)))
PHANTOMS := studies

.PHONY: help demo serve test lint env slicer-core clean

help:
	@echo "make demo                   segment a phantom study through the server, write demo/"
	@echo "make serve STUDIES=folder   serve a folder of studies to 3D Slicer (default: phantoms)"
	@echo "make test                   run the tests"
	@echo "make lint                   ruff and mypy"
	@echo "make env                    only build the environment (PYTHON=... chooses Python)"
	@echo "make slicer-core            build the environments of the Slicer extension's tests"
	@echo "make clean                  remove the environment and what the tools left"

$(STAMP): pyproject.toml constraints.txt
ifeq ($(STARTER),)
	@echo "No Python was found. CineLabel needs Python 3.10, 3.11 or 3.12." >&2; exit 2
endif
	@$(STARTER) .ci/environment.py --venv "$(VENV)" --extras "$(EXTRAS)" --python "$(PYTHON)"
	@touch $@

env: $(STAMP)

demo: $(STAMP)
	@$(BIN)/cinelabel demo --output demo

serve: $(STAMP)
ifeq ($(STUDIES),)
	@test -d $(PHANTOMS) || { rm -rf $(PHANTOMS).part \
		&& echo "Simulating three phantom studies in $(PHANTOMS)/ ..." \
		&& $(BIN)/cinelabel phantom $(PHANTOMS).part --studies 3 --seed 1 >/dev/null \
		&& mv $(PHANTOMS).part $(PHANTOMS); }
	@$(BIN)/cinelabel serve --studies $(PHANTOMS) --port $(PORT) $(if $(MODEL),--model $(MODEL))
else
	@$(BIN)/cinelabel serve --studies "$(STUDIES)" --port $(PORT) $(if $(MODEL),--model $(MODEL))
endif

# What measures time runs alone, the rest file by file in two processes of one thread each.
test: $(STAMP)
	@$(BIN)/python -m pytest -m "timed and not slow"
	@OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(BIN)/python -m pytest \
		-n 2 --dist loadfile --no-loadscope-reorder -m "not timed and not slow"

lint: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/mypy

slicer-core: $(STAMP)
	@$(BIN)/python tests/slicer/environments.py

clean:
	rm -rf $(VENV) .slicer-core build dist demo $(PHANTOMS).part .pytest_cache .mypy_cache .ruff_cache
	find training apps tests -name __pycache__ -type d -prune -exec rm -rf {} +
