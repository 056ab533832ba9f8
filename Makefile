# Redpoll's tasks. Those that need it do `make setup` first, which installs Debian packages that are missing (as root, or
# where sudo asks for no password; elsewhere it prints the line to type) and makes the Python environment of the tests.
#
#   make test         every test of the workspace, then the Python ones
#   make demo         a small night on this machine, without Kafka
#   make seeds        SEEDS histories of the simulated coordinator, 10000 if not told; FIRST is the first seed
#   make gates        end-to-end checks with real processes (tests/gates/)
#   make clients      other engines read what we wrote (tests/clients/)
#   make packages     beside packages that are large: fink-science and fink-filters, astropy, healpy (tests/packages/)
#   make bench        measurements (benches/)
#   make chaos        RUNS=20 seeded runs in which processes are killed at named points (tests/chaos/), added to
#                     results.tsv; SEED=n begins there; RUNS=1 SEED=n repeats a run
#   make soak         a job that runs for MINUTES and must not grow (tests/soak/)
#   make soak-memory  a night of LSST with its stamps through one executor of 512 MiB
#   make burst        a visit of 10,000 LSST alerts at once, and when the last of them is out
#   make fuzz         each decoder and parser on made-up bytes, SECONDS=60 each (fuzz/); builds everything again at first
#   make lint         formatting, lints, licences and sources of the dependencies
#
# On two cores with nothing beside it: the first build of the dependencies takes 21 minutes, once; `make test` about 12, most
# of it for building our crates; `make gates` about 23. So `.ci/run` takes about 35 minutes, and 57 on a new machine.
#
# Scripts in those folders find the binary in $REDPOLL and a Python with the test packages in $PYTHON.

CACHE ?= $(HOME)/.cache/redpoll
export CARGO_TARGET_DIR ?= $(CACHE)/target
export REDPOLL ?= $(CARGO_TARGET_DIR)/debug/redpoll
VENV := $(CACHE)/venv
export PYTHON ?= $(VENV)/bin/python
# uv, which builds the environments of the science modules, is among the test packages.
export PATH := $(VENV)/bin:$(PATH)

# Debian's names: a C compiler and make for librdkafka and zstd, OpenSSL for its TLS, venv for the test packages.
# Other systems have other names: there the build says what it lacks.
PACKAGES := build-essential libssl-dev pkg-config python3-venv

CARGO_DENY := 0.20.2
CARGO_FUZZ := 0.13.1
# Of each fuzz target. The shell has a variable of this name, so only what is given to make counts.
SECONDS := 60

MINUTES ?= 10
RUNS ?= 20

.PHONY: setup test seeds demo gates chaos clients packages bench soak soak-memory burst fuzz lint build
.DELETE_ON_ERROR:

setup:
	@tests/install.sh $(PACKAGES)
	@command -v cargo >/dev/null || { echo "missing: cargo, version in rust-toolchain.toml; see https://rustup.rs" >&2; exit 1; }
	@$(MAKE) --no-print-directory $(VENV)/ready

$(VENV)/ready: tests/requirements.txt
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	touch $@

build:
	cargo build --workspace

test: setup
	cargo test --workspace --no-fail-fast -- --show-output
	$(PYTHON) -m pytest $(wildcard python/tests tests/e2e)

SEEDS ?= 10000
FIRST ?= 0

# The last line is the sum.
seeds:
	@REDPOLL_SEEDS=$(SEEDS) REDPOLL_FIRST_SEED=$(FIRST) \
		cargo test --workspace --test simulation -- --nocapture --exact seeds_break_no_invariant 2>&1 \
		| awk '/^[0-9]+ passed, [0-9]+ failed$$/ { sum = $$0; next } { print; fflush() } \
			END { print sum ? sum : "0 passed, 1 failed"; exit sum !~ / 0 failed$$/ }'

demo: setup build
	$(REDPOLL) demo

gates: setup build
	tests/services/all.sh start
	@eval "$$(tests/services/all.sh env)"; tests/each.sh tests/gates

chaos: setup build
	tests/services/all.sh start
	@eval "$$(tests/services/all.sh env)"; $(PYTHON) tests/chaos/chaos --runs $(RUNS) $(if $(SEED),--seed $(SEED)) \
		--table tests/chaos/results.tsv --summary

clients: setup build
	@tests/each.sh tests/clients

packages: setup build
	@tests/each.sh tests/packages

bench: setup build
	@tests/each.sh benches

soak: setup build
	@eval "$$(tests/services/all.sh env)"; $(PYTHON) tests/soak/soak --minutes $(MINUTES)

soak-memory: setup build
	@eval "$$(tests/services/all.sh env)"; $(PYTHON) tests/soak/memory

burst: setup build
	@eval "$$(tests/services/all.sh env)"; $(PYTHON) tests/soak/burst

# Without a sanitizer the stable compiler does; bounds and overflows are checked in any case.
fuzz:
	@cargo fuzz --version >/dev/null 2>&1 || env -u CARGO_TARGET_DIR cargo install --locked cargo-fuzz@$(CARGO_FUZZ)
	@cd fuzz && for target in $$(cargo fuzz list); do echo "== $$target"; \
		env -u CARGO_TARGET_DIR CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS=true cargo fuzz run --sanitizer none --target-dir $(CACHE)/fuzz \
		$$target -- -max_total_time=$(SECONDS) -rss_limit_mb=2048 -timeout=20 || exit 1; done

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	@cargo deny --version >/dev/null 2>&1 || env -u CARGO_TARGET_DIR cargo install --locked cargo-deny@$(CARGO_DENY)
	cargo deny --offline check licenses bans sources
