# pmxcfs: build, test, demonstrate, measure.

CARGO ?= cargo
# Where `packages` puts Rust if there is none.
export PATH := $(PATH):$(HOME)/.cargo/bin
# How often `make torture-kill` kills the daemon.
KILLS ?= 200
# How many simulated clusters of each cast `make sim` runs.
SEEDS ?= 10000
# How long `make torture` lets faults happen, in seconds.
TORTURE_SECONDS ?= 60
# How often `make test-power` cuts the power.
CUTS ?= 200
# How many hosts `make test-large` runs, and how long they are under load, in seconds.
HOSTS ?= 16
LOAD_SECONDS ?= 600
# How long `make fuzz-smoke` runs each target, in seconds.
FUZZ_SECONDS ?= 5

# Tests of the crates that need neither root nor a mount nor corosync.
QUICK_TESTS = applications backlog db_tool golden ipc lock_order log_* memdb_replace memory messages notify_environment prop_* real_files scale \
	sequences sim status store_* transcripts tree
# How many simulated clusters of each cast `make quick` runs.
QUICK_SEEDS = 20

.PHONY: all check quick test sim demo bench bench-cluster bench-scale torture torture-kill test-power test-large fuzz-smoke deb test-deb clean packages

all: packages
	$(CARGO) build --workspace --release

# Format, lints, documentation, licences; and the fuzz targets compile.
check: packages
	$(CARGO) fmt --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	cp Cargo.lock fuzz/Cargo.lock
	$(CARGO) check --quiet --manifest-path fuzz/Cargo.toml --workspace --bins --target-dir target/fuzz
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps --document-private-items
	scripts/check-licences

# Format, lints, and the tests that every user can run. Installs nothing: `make packages` does. Files that corosync reads
# belong to root, so only root can test writing them.
quick:
	$(CARGO) fmt --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	PMXCFS_SIM_COUNT=$(QUICK_SEEDS) $(CARGO) test --quiet --workspace --exclude integration-tests --lib --bins \
		$(foreach name,$(QUICK_TESTS),--test '$(name)') -- --skip cluster::corosync_conf::
	$(CARGO) test --quiet --package integration-tests --test semantics --test structure --test unit_file

# Everything that has to hold. Mounts filesystems and makes network namespaces: run it as root.
test: check
	$(CARGO) test --workspace --doc
	$(CARGO) test --workspace --lib --bins --tests

# Simulated clusters under faults. A seed that fails is printed with the command that replays it.
sim: packages
	PMXCFS_SIM_COUNT=$(SEEDS) $(CARGO) test --release --package pmxcfs-dfsm --test sim -- --nocapture

# Starts a daemon in a throw-away directory, uses it and stops it.
demo: packages
	$(CARGO) build --release --package pmxcfs --package integration-tests
	scripts/demo

# Rates beside the fastest possible FUSE filesystem and beside libqb, bytes written, start, memory.
bench: packages
	$(CARGO) bench --package pmxcfs-ipc --bench against_libqb
	$(CARGO) run --release --package integration-tests --bin pmxcfs-bench

# Three hosts beside a bare process group on the same ring.
bench-cluster: packages
	$(CARGO) run --release --package integration-tests --bin pmxcfs-cluster-bench

# The daemon with 1,000 to 262,144 entries: a table, and a plot in target/scale.svg.
bench-scale: packages
	$(CARGO) run --release --package integration-tests --bin pmxcfs-scale-bench

# Random faults on a real cluster under load; then the kills of a single daemon.
torture: packages torture-kill
	PMXCFS_TORTURE_SECONDS=$(TORTURE_SECONDS) $(CARGO) test --package integration-tests --test cluster -- --nocapture random_faults

torture-kill: packages
	PMXCFS_KILLS=$(KILLS) $(CARGO) test --package integration-tests --test durability -- --nocapture torture

# Cuts the power of a recording disk below a daemon at random moments. Needs loop devices.
test-power: packages
	PMXCFS_POWER_CUTS=$(CUTS) $(CARGO) test --package integration-tests --test durability -- --nocapture power

# A large cluster: joins, a third killed, a partition in the middle, load.
test-large: packages
	PMXCFS_HOSTS=$(HOSTS) PMXCFS_LOAD_SECS=$(LOAD_SECONDS) $(CARGO) test --package integration-tests --test cluster -- --nocapture large_cluster

# Every decoder against mutations of recorded bytes.
fuzz-smoke: packages
	scripts/fuzz-smoke $(FUZZ_SECONDS)

# The Debian package, in target/deb.
deb: packages
	scripts/build-deb

# Installs, uses, upgrades, removes and purges the package on an overlay of this system.
test-deb: packages
	scripts/test-deb

clean:
	$(CARGO) clean

packages:
	@scripts/install-packages
