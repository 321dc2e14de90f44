# make run   the whole recipe on this machine, in minutes
# make test  the default test suite

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Written last, so that an interrupted installation is done again.
READY := $(VENV)/.ready
ARGS ?=

.PHONY: run test check science pipelines manifests images image-test lock clean

run: $(READY)
	$(BIN)/zephyr run $(ARGS)

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

# Seeds 0, 1, 2 and the negative controls; writes benchmarks/results/science.md (about half an hour).
science: $(READY)
	$(BIN)/python benchmarks/science.py

# After a change to components/ or pipelines/.
pipelines: $(READY)
	$(BIN)/python -m pipelines.compile

# After a change to helm/zephyr: its README, k8s/zephyr.yaml.
manifests: $(READY)
	$(BIN)/python tools/chart.py

# Both container images, or ONLY=zephyr: REGISTRY=host/path PUSH=1 …; tools/images.py lists what else can be said.
images:
	@$(PYTHON) tools/images.py

# What the images do, in a Docker engine of this machine.
image-test: $(READY)
	$(BIN)/pytest -m docker tests/docker $(ARGS)

# After a change to pyproject.toml; needs uv.
lock:
	$(PYTHON) tools/lock.py

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is needed; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	grep -v '^torch==' requirements.lock > $(VENV)/hashed.lock
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r $(VENV)/hashed.lock
	$(BIN)/python -m pip install --quiet $$(grep '^torch==' requirements.lock)
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

clean:
	rm -rf $(VENV) .zephyr
