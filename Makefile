# SPDX-License-Identifier: BSD-2-Clause
# make build     .venv/bin/pyebpf, installed from the built wheel as a user would install it
# make demo      shows the tools at work on the bundled samples (takes under two minutes)
# make test      lints, then runs the tests against the built wheel
# make wheel     dist/*.whl and dist/*.tar.gz
# make docs      build/site, the documentation as a site
# make hosts     docs/support.md: what works on which hosts, tried on all of them that can be had (15 minutes, root)
# make libbpf-wheel  build/libbpf/*.whl: libbpf itself, for hosts where nothing may be installed
# make test-kernels  the live tests and every tool under other kernels, in QEMU; docs/support.md (hours)
# make torture   docs/torture.md: what traced programs and the tracer survive, counted (root, an hour)
# make accounting  docs/accounting.md: delivered + lost = made, for every tool (root)
# make fuzz      fuzzes each reader of untrusted input for a minute (20 minutes)
# make soak      every tool and the agent under load for an hour each: memory, descriptors (root, two hours)
# make bench     benchmarks/RESULTS.md: measured beside bpftrace, libbpf-tools and bcc (root, a quiet machine)
# make examples  compiles examples/, leaving out the languages whose compiler is not here
# make lint      ruff and mypy
# make clean     removes what the others made
#
# PYTHON=python3.12 chooses the interpreter of the environments (make clean first when changing it).

PYTHON ?= python3
export PYTHON

.DELETE_ON_ERROR:
.SUFFIXES:
.PHONY: build demo test wheel docs hosts libbpf-wheel test-kernels torture accounting fuzz soak bench examples lint clean \
	FORCE

BUILD_TOOLS = 'setuptools>=77' wheel 'cffi>=2.0'
LINT_TOOLS = ruff mypy
TEST_TOOLS = pytest hypothesis iced-x86 mypy 'setuptools>=77' wheel pyte prometheus_client opentelemetry-sdk \
	opentelemetry-exporter-otlp-proto-http 'atheris==2.3.0; python_version == "3.11" and implementation_name == "cpython"'
DOCS_TOOLS = mkdocs-material mkdocstrings-python ruff

PIP = -m pip --disable-pip-version-check --quiet

SOURCES := $(shell find bpf vmlinux pyebpf -type f \( -name '*.[ch]' -o -name '*.py' -o -name py.typed \) \
	! -path pyebpf/core/_libbpf.py) \
	$(wildcard build.py setup.py pyproject.toml MANIFEST.in README.md LICENSE LICENSES/*)

build: .venv/.installed

wheel: dist/.built

# --- system packages -------------------------------------------------------------------------------------------------
build/.deps: .ci/install-deps
	.ci/install-deps
	@mkdir -p build && touch $@

build/.deps-test: .ci/install-deps
	.ci/install-deps --test
	@mkdir -p build && touch $@

build/.deps-hosts: build/.deps-test
	.ci/install-deps --hosts
	@touch $@

# --- wheel and sdist -------------------------------------------------------------------------------------------------
build/venv/.tools: build/.deps
	$(PYTHON) -m venv build/venv
	build/venv/bin/python $(PIP) install $(BUILD_TOOLS)
	@touch $@

# The list changes when a source is added or deleted, which no time stamp of a file tells
build/.sources: FORCE
	@mkdir -p build
	@printf '%s\n' $(sort $(SOURCES)) | cmp -s - $@ || printf '%s\n' $(sort $(SOURCES)) > $@

# build/lib would keep deleted modules. `python -m build` would run our own build.py.
dist/.built: build/venv/.tools build/.sources $(SOURCES)
	rm -rf build/lib build/bdist.* dist
	build/venv/bin/python setup.py --quiet sdist --dist-dir dist 2>build/sdist.log || { cat build/sdist.log; exit 1; }
	build/venv/bin/python $(PIP) wheel --no-deps --no-build-isolation --wheel-dir dist .
	@ls -l dist
	@touch $@

# --- environments that hold the wheel --------------------------------------------------------------------------------
# Forced, because pip takes a rebuilt wheel of the same version for installed; the second line brings what it depends on
.venv/.installed: dist/.built
	$(PYTHON) -m venv .venv
	.venv/bin/python $(PIP) install --force-reinstall --no-deps dist/*.whl
	.venv/bin/python $(PIP) install dist/*.whl
	@touch $@
	@echo "built: .venv/bin/pyebpf"

.venv-test/.tools: build/.deps
	$(PYTHON) -m venv .venv-test
	.venv-test/bin/python $(PIP) install $(TEST_TOOLS)
	@touch $@

.venv-test/.installed: dist/.built .venv-test/.tools
	.venv-test/bin/python $(PIP) install --force-reinstall --no-deps dist/*.whl
	.venv-test/bin/python $(PIP) install dist/*.whl
	@touch $@

# --- checks ----------------------------------------------------------------------------------------------------------
build/venv/.lint-tools: build/venv/.tools
	build/venv/bin/python $(PIP) install $(LINT_TOOLS)
	@touch $@

lint: build/venv/.lint-tools
	build/venv/bin/ruff check .
	build/venv/bin/mypy --strict -p pyebpf

# PYTEST_ARGS="-k frames -x" for a part of it
test: build/.deps-test build lint build/docs-venv/.tools .venv-test/.installed
	.ci/test .venv-test $(PYTEST_ARGS)

demo: build
	examples/demo

# --- documentation, and what is tried only now and then --------------------------------------------------------------
build/docs-venv/.tools: build/.deps
	$(PYTHON) -m venv build/docs-venv
	build/docs-venv/bin/python $(PIP) install $(DOCS_TOOLS)
	@touch $@

docs: build/docs-venv/.tools
	NO_MKDOCS_2_WARNING=1 build/docs-venv/bin/mkdocs build --strict --quiet -f .ci/mkdocs.yml
	@echo "built: build/site/index.html"

libbpf-wheel: build/venv/.tools build/.deps-hosts
	build/venv/bin/python .ci/libbpf/build.py build/libbpf

hosts: build/.deps-hosts .venv-test/.installed
	rm -rf build/libbpf
	build/venv/bin/python .ci/libbpf/build.py build/libbpf
	CC=musl-gcc build/venv/bin/python .ci/libbpf/build.py build/libbpf
	.venv-test/bin/python tests/hosts/run.py dist/*.whl build/libbpf/*.whl

# --- proofs: long runs that write what they found into docs/ ---------------------------------------------------------
test-kernels: build/.deps-test .venv-test/.installed
	.venv-test/bin/python tests/vm/matrix.py
	.venv-test/bin/python tests/vm/report.py

torture: build/.deps-test .venv-test/.installed
	.venv-test/bin/python tests/torture/run.py --write docs/torture.md

accounting: build/.deps-test .venv-test/.installed
	.venv-test/bin/python tests/accounting/run.py --write docs/accounting.md

fuzz: .venv-test/.installed
	.venv-test/bin/python tests/fuzz/run.py --seconds 60 --jobs 2

soak: build/.deps-test .venv-test/.installed
	.venv-test/bin/python benchmarks/soak.py --minutes 60 --write

# BENCH="--quick --only starting" for a part of it
bench: build
	.venv/bin/python benchmarks/run.py $(BENCH)

# --- examples --------------------------------------------------------------------------------------------------------
examples:
	examples/build

clean:
	rm -rf .venv .venv-test dist build/venv build/docs-venv build/site build/lib build/bdist.* build/demo build/.[a-z]*
	rm -rf pyebpf/objects pyebpf/core/_libbpf.py *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find pyebpf tests examples benchmarks -name __pycache__ -prune -exec rm -rf {} +
	examples/build --clean
