# Everything sets itself up in .venv; nothing else is installed by hand.
VENV   := .venv
PYTHON := $(VENV)/bin/python
READY  := $(VENV)/.ready

.PHONY: demo test format lint types unit redis clean

demo: $(READY)
	$(VENV)/bin/headrace demo examples/complete_journey.toml

test: format lint types unit

format: $(READY)
	$(VENV)/bin/ruff format --check src tests benchmarks

lint: $(READY)
	$(VENV)/bin/ruff check src tests benchmarks

types: $(READY)
	$(VENV)/bin/pyright --pythonpath $(PYTHON)

unit: $(READY) redis
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest --numprocesses 2 --dist loadfile

# the law of behaviour stores runs on a real server where there is one, else on the tests' own
redis:
	@command -v redis-server >/dev/null \
		|| { apt-get -qq update && apt-get -qq -y install redis-server; } >/dev/null 2>&1 \
		|| echo "no redis-server could be installed: tests use their own"

$(READY): pyproject.toml
	test -d $(VENV) || python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --upgrade pip
	$(PYTHON) -m pip install --quiet --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build dist
