# pmxcfs: build, test, demonstrate, measure.

CARGO ?= cargo
# How often `make torture-kill` kills the daemon.
KILLS ?= 200

.PHONY: all check test demo bench torture-kill clean packages

all: packages
	$(CARGO) build --workspace --release

# Format and lints only.
check: packages
	$(CARGO) fmt --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

# Everything that has to hold. Mounts filesystems: run it as root.
test: check
	$(CARGO) test --workspace --doc
	$(CARGO) test --workspace --lib --bins --tests

# Starts a daemon in a throw-away directory, uses it and stops it.
demo: packages
	$(CARGO) build --release --package pmxcfs --package integration-tests
	scripts/demo

# Rates beside the fastest possible FUSE filesystem and beside libqb, bytes written, start, memory.
bench: packages
	$(CARGO) bench --package pmxcfs-ipc --bench against_libqb
	$(CARGO) run --release --package integration-tests --bin pmxcfs-bench

torture-kill: packages
	PMXCFS_KILLS=$(KILLS) $(CARGO) test --package integration-tests --test durability -- --nocapture torture

clean:
	$(CARGO) clean

packages:
	@scripts/install-packages
