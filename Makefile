# Redpoll's tasks: `make setup` once, then `make test` or `make demo`.
#
#   make test     every test of the workspace, then the Python ones
#   make demo     a small night on this machine, without Kafka
#   make gates    end-to-end checks with real processes (tests/gates/)
#   make clients  other engines read what we wrote (tests/clients/)
#   make bench    measurements (benches/)
#   make lint     formatting and lints
#
# Scripts in those folders find the binary in $REDPOLL and a Python with the test packages in $PYTHON.

CACHE ?= $(HOME)/.cache/redpoll
export CARGO_TARGET_DIR ?= $(CACHE)/target
export REDPOLL ?= $(CARGO_TARGET_DIR)/debug/redpoll
VENV := $(CACHE)/venv
export PYTHON ?= $(VENV)/bin/python

# Debian's names: a C compiler and make for librdkafka and zstd, OpenSSL for its TLS, venv for the test packages.
PACKAGES := build-essential libssl-dev pkg-config python3-venv
MISSING = $(foreach package,$(PACKAGES),$(if $(shell dpkg-query -W -f='$${db:Status-Abbrev}' $(package) 2>/dev/null | grep ^ii),,$(package)))

.PHONY: setup test demo gates clients bench lint build
.DELETE_ON_ERROR:

setup:
	@missing='$(strip $(MISSING))'; if [ -n "$$missing" ]; then \
		echo "missing packages: $$missing; as root: apt-get install --no-install-recommends $$missing" >&2; exit 1; fi
	@command -v cargo >/dev/null || { echo "missing: cargo, version in rust-toolchain.toml; see https://rustup.rs" >&2; exit 1; }
	@$(MAKE) --no-print-directory $(VENV)/ready

$(VENV)/ready: tests/requirements.txt
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	touch $@

build:
	cargo build --workspace

test: setup build
	cargo test --workspace --no-fail-fast
	@if ls python/tests/test_*.py tests/e2e/test_*.py >/dev/null 2>&1; then \
		$(PYTHON) -m pytest $(wildcard python/tests tests/e2e); fi

demo: setup build
	$(REDPOLL) demo

gates: setup build
	@tests/each.sh tests/gates

clients: setup build
	@tests/each.sh tests/clients

bench: setup build
	@tests/each.sh benches

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
