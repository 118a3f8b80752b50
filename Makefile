# The commands a newcomer types. Each one makes the virtual environment if there is none.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
NOTEBOOKS := $(sort $(wildcard nbs/*.ipynb))
export MPLBACKEND ?= agg

.PHONY: help demo networks lint test lab notebooks course readme bench minutes mutants hooks clean
.DEFAULT_GOAL := help

help: ## list the commands
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/installed: settings.ini setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(VENV)/installed ## train plain and dual-attention networks on the embedded data (about 5 minutes on 2 cores)
	$(BIN)/danet demo --out runs/demo

networks: $(VENV)/installed ## write data/networks and results/demo anew: the demo, and where the notebooks read it
	$(BIN)/danet demo --out runs/demo --networks data/networks
	rm -rf results/demo && mkdir -p results/demo
	cp -r runs/demo/*.jsonl runs/demo/*.md runs/demo/figures results/demo

lint: $(VENV)/installed ## what a tool can hold: form, imports, types
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/basedpyright

test: lint ## check the form, run every notebook and every test
	OMP_NUM_THREADS=1 $(BIN)/nbdev_test --n_workers 2 --do_print
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

lab: $(VENV)/installed ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab nbs/index.ipynb

notebooks: $(VENV)/installed ## execute the notebooks in place, clean them, write the package
	for notebook in $(NOTEBOOKS); do \
	  OMP_NUM_THREADS=1 $(BIN)/jupyter nbconvert --to notebook --execute --inplace $$notebook || exit 1; done
	$(BIN)/jupyter nbconvert --to notebook --inplace --TagRemovePreprocessor.enabled=True \
	  --TagRemovePreprocessor.remove_all_outputs_tags=widget \
	  --ClearMetadataPreprocessor.enabled=True --ClearMetadataPreprocessor.clear_cell_metadata=False \
	  --ClearMetadataPreprocessor.preserve_nb_metadata_mask=kernelspec $(NOTEBOOKS)
	$(BIN)/nbdev_clean
	$(BIN)/nbdev_export

course: $(VENV)/installed ## write the first cells and the index's tables from tests/course.py
	$(BIN)/python tests/course.py

readme: $(VENV)/installed ## write README.md from nbs/index.ipynb
	$(BIN)/jupyter nbconvert --to markdown --stdout nbs/index.ipynb --RegexRemovePreprocessor.patterns='^#\| hide' \
	  --TagRemovePreprocessor.enabled=True --TagRemovePreprocessor.remove_input_tags=remove-input \
	  | sed -E 's#\]\(\.\./#](#g; s#\]\(([a-z0-9_]+\.ipynb)#](nbs/\1#g' | cat -s \
	  | awk '/^```$$/ {fences++; if (fences % 2) {print "```python"; next}} {print}' > README.md

bench: $(VENV)/installed ## measure beside public code, on an idle machine (results/benchmarks)
	$(BIN)/python -m benchmarks.attention
	$(BIN)/python -m benchmarks.gpu
	if $(BIN)/python -c "import mmseg" 2>/dev/null; then $(BIN)/python -m benchmarks.network && $(BIN)/python -m benchmarks.training; fi

minutes: $(VENV)/installed ## measure how long each notebook takes, on an idle machine (results/minutes.json)
	$(BIN)/python -m benchmarks.minutes

mutants: $(VENV)/installed ## change one token of the exported code, again and again: does its notebook fail? (results/mutants)
	$(BIN)/python -m benchmarks.mutants

hooks: $(VENV)/installed ## install nbdev's git hooks (clean notebooks, readable merges)
	$(BIN)/nbdev_install_hooks

clean: ## remove the environment and everything that can be made again
	rm -rf $(VENV) build dist runs *.egg-info .pytest_cache .hypothesis .ruff_cache
