# `make demo` and `make test` do everything on a fresh machine, `make install` only what both begin with; the rest is for
# those who work on the code.
# PYTHON chooses the interpreter. A torch that is already in .venv is kept, so a CPU or CUDA build of one's own choice
# may be installed there first.

# STEPS is how long the demo trains: 1000 take a few minutes, 3000 give the figures of docs/results.md.

PYTHON ?= python3
STEPS ?= 1000
MINUTES ?= 30
CHECKPOINT ?= runs/demo/best.pt
SHARDS ?= data/grid-shards
RELEASE := configs/grid-laptop.yaml
LATE := configs/grid-laptop-late.yaml
DATA ?= GRID (Cooke, Barker, Cunningham, Shao 2006), one speaker
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: install demo serve release release-asr release-vocoder test fuzz lint format benchmarks clean

install: $(INSTALLED)

demo: $(INSTALLED)
	$(BIN)/pipeline build
	$(BIN)/pipeline verify
	$(BIN)/pipeline info
	$(BIN)/pipeline preview
	$(BIN)/pipeline tokenizer data/demo-shards --vocabulary-size 40
	$(BIN)/python -m train --config configs/demo.yaml --task asr --resume auto
	$(BIN)/python -m train units --asr runs/demo-asr/best.pt --shards data/demo-shards --out runs/demo-asr/units.pt
	$(BIN)/python -m train --config configs/demo.yaml --schedule.steps $(STEPS) --resume auto
	rm -rf reports/demo
	$(BIN)/python -m eval --checkpoint runs/demo/best.pt --shards data/demo-shards --split val --out reports/demo \
		--asr runs/demo-asr/best.pt
	@echo "try it on a face: $(BIN)/python -m eval serve --checkpoint runs/demo/best.pt   (or: make serve)"

# a page to try the demo's checkpoint on, or another one: CHECKPOINT=runs/x/best.pt
serve: $(INSTALLED)
	$(BIN)/python -m eval serve --checkpoint $(CHECKPOINT)

# a speaker of GRID (SHARDS, with a tokenizer: README.md) in an hour on two cores: release/grid-laptop.pt and its model card
release: $(INSTALLED)
	$(MAKE) -j2 release-asr release-vocoder
	for run in $(RELEASE) $(LATE) "$(LATE) --task vocoder"; do $(BIN)/torchrun --standalone --nproc-per-node 2 -m train \
		--config $$run --shards $(SHARDS) --resume auto || exit 1; done
	rm -rf reports/grid-laptop-val reports/grid-laptop-test
	for split in val test; do $(BIN)/python -m eval --config $(LATE) --shards $(SHARDS) --split $$split \
		--out reports/grid-laptop-$$split --systems '[network,shuffled_lips,ceiling,original]' || exit 1; done
	$(BIN)/python -m eval release --checkpoint runs/grid-laptop-late/best.pt --asr runs/grid-laptop-asr/best.pt \
		--vocoder runs/grid-laptop-vocoder-late/best.pt --out release/grid-laptop.pt \
		--reports '[reports/grid-laptop-val,reports/grid-laptop-test]' --data "$(DATA)" --license "CC BY 4.0"

# both at once: a core each
release-asr release-vocoder: $(INSTALLED)
	$(BIN)/python -m train --config $(RELEASE) --shards $(SHARDS) --task $(@:release-%=%) --resume auto
	$(if $(filter release-asr,$@),$(BIN)/python -m train units --asr runs/grid-laptop-asr/best.pt --shards $(SHARDS) \
		--out runs/grid-laptop-asr/units.pt)

# TESTS=all also runs the slow ones, PYTEST has further flags: PYTEST="-n 0 -x tests/train". A process a core, each with
# tests that follow each other, so that few of them make the same corpus
test: $(INSTALLED)
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal \
		$(if $(filter all,$(TESTS)),-m "slow or not slow") $(PYTEST)

# damaged files for every command, MINUTES long; `make test` tries a few of them
fuzz: $(INSTALLED)
	$(BIN)/python -m tests.fuzz --minutes $(MINUTES)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy eval model pipeline runtime shards train tests

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmarks: $(INSTALLED)
	$(BIN)/python -m tests.benchmarks

clean:
	rm -rf $(VENV) data/demo data/demo-shards data/demo-shards-preview.html runs/demo runs/demo-asr reports/demo

$(INSTALLED): setup.cfg pyproject.toml constraints.txt
	@sh .make/check-system.sh "$(PYTHON)"
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	@{ grep -v '^torch==' constraints.txt; \
	   $(BIN)/python -c 'from importlib.metadata import version; print("torch==" + version("torch"))' 2>/dev/null \
	   || grep '^torch==' constraints.txt; } > $(VENV)/constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(VENV)/constraints.txt \
		--editable '.[s3,web,test,lint]'
	@# only the face networks in it are used: what it would bring along (jax, OpenCV) is not wanted
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps "$$(grep '^mediapipe==' constraints.txt)"
	@touch $@
