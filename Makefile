# Everything a person types. Each target sets up .venv by itself on a machine that has only Python.
PYTHON ?= python3
BIN := .venv/bin
RUNTIME := .venv/.runtime
DEV := .venv/.dev
BUILDERS := .venv/.builders
DOCS := .venv/.docs
RELEASER := .venv/.releaser
RELEASE ?= dist
EXTRAS ?=
PYTHONS ?=

.PHONY: demo test test-slow test-long test-all check docs format release locks clean

$(BIN)/python:
	$(PYTHON) -m venv .venv

# What a deployed bundle needs, with what quantizes it: no torch, no compiler, no test tools. Only files whose hashes are known.
$(RUNTIME): $(BIN)/python pyproject.toml requirements/runtime.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements/runtime.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

# torch comes first and by its pinned version, so that pip does not fetch a CUDA build as a dependency.
$(DEV): $(RUNTIME) pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[cpu,openvino,export,images,serve,ray,dev]'
	touch $@

# What builds GPU engines on a machine without a GPU: 95 MB that only the slow tests need.
$(BUILDERS): $(DEV) pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[tensorrt-rtx]'
	touch $@

# What builds the site of docs/.
$(DOCS): $(RUNTIME) pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	touch $@

# What builds a release, and locks what it depends on.
$(RELEASER): $(RUNTIME) pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[release]'
	touch $@

# Enlarges the packaged pictures with the packaged model; everything it makes lies in demo-output.
demo: $(RUNTIME)
	$(BIN)/idm-deploy demo --force

# Two processes, each test file in one of them.
test: $(DEV)
	$(BIN)/pytest -n 2 --dist loadfile -m 'not slow'

test-slow: $(BUILDERS) $(RELEASER)
	$(BIN)/pytest -m 'slow and not long'

# Campaigns of minutes each, run by hand before an issue is resolved.
test-long: $(BUILDERS) $(RELEASER)
	$(BIN)/pytest -m long

test-all: $(BUILDERS) $(RELEASER)
	$(BIN)/pytest -n 2 --dist loadfile -m 'not slow'
	$(BIN)/pytest -m slow

check: $(DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy tests/deploy/picture/api_types.py
	$(BIN)/pytest -q tests/test_arrows.py tests/test_floors.py

# The page of the commands anew, and the site in site/. A broken link or anchor fails, and a page that would fetch
# something from elsewhere: its grep finds the page.
docs: $(DOCS)
	$(BIN)/python -m benchmarks.pages.command_line
	$(BIN)/zensical build --clean --strict
	! grep -rnE '(src|<link[^>]+href)="?(https?:)?//|url\(["'"'"']?(https?:)?//' site --include='*.html' --include='*.css'

# Wheel, sdist, bill of materials and hashes of HEAD in dist/, tried in a new environment; the same commit gives the same
# bytes. EXTRAS=--extras tries every extra that needs no GPU, which takes minutes; PYTHONS=--pythons every Python that is here.
release: $(RELEASER)
	$(BIN)/python -m releasing --output $(RELEASE) $(EXTRAS) $(PYTHONS)

# Versions and hashes of requirements/ anew, after a change of pyproject.toml or constraints.txt.
locks: $(RELEASER)
	$(BIN)/python -m releasing.locks

format: $(DEV)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv .cache demo-output site dist build
