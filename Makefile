# Short names for the usual commands. Nothing here sets RUSTFLAGS: that would replace the target CPU of
# .cargo/config.toml and compile RocksDB (about 15 minutes of two cores) once more.

# A compiler cache, if one works here. `RUSTC_WRAPPER= make …` turns it off.
ifeq ($(origin RUSTC_WRAPPER),undefined)
ifeq ($(shell sccache rustc -vV </dev/null >/dev/null 2>&1 && echo works),works)
export RUSTC_WRAPPER := sccache
export CARGO_INCREMENTAL := 0
endif
endif

TARGET := $(or $(CARGO_TARGET_DIR),target)
# Seconds for each fuzz target, and which.
SECONDS ?= 60
FUZZ ?= $(notdir $(basename $(wildcard fuzz/fuzz_targets/*.rs)))

.PHONY: help deps build demo test bench fuzz fmt lint doc clean clients

help:
	@echo 'make demo    build, start a server, load a district, let three PouchDB phones and a supervisor sync'
	@echo 'make test    every test, the recordings of CouchDB and the PouchDB clients among them'
	@echo 'make bench   the speed of a release build beside the raw limits of this machine'
	@echo 'make fuzz    every fuzz target for $$SECONDS (60) each'
	@echo 'make build fmt lint doc clean deps'

deps:
	@.ci/deps

build: deps
	cargo build

# PouchDB for the demo and the client tests, exactly as the lock file says.
clients: tests/clients/node_modules/.package-lock.json

tests/clients/node_modules/.package-lock.json: tests/clients/package-lock.json
	@command -v npm >/dev/null || { echo 'npm is missing: install Node 20 or newer' >&2; exit 1; }
	cd tests/clients && npm ci --no-audit --no-fund
	@touch $@

demo: build clients
	$(TARGET)/debug/settle demo

test: deps
	cargo test --workspace

bench: deps
	cargo build --release
	$(TARGET)/release/settle bench

fuzz: deps
	@test -n '$(FUZZ)' || { echo 'no fuzz targets' >&2; exit 1; }
	for target in $(FUZZ); do fuzz/run.sh $$target $(SECONDS) || exit 1; done

fmt:
	cargo fmt --all

lint: deps
	cargo fmt --all -- --check
	cargo clippy --workspace --all-targets -- -D warnings

doc: deps
	RUSTDOCFLAGS='-D warnings' cargo doc --no-deps

clean:
	cargo clean
	rm -rf tests/clients/node_modules
