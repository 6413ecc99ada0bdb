# The commands of this repository; README says what they do.
.PHONY: demo test setup setup-build build programs vm-test bench bench-analysis fuzz

# A leaking program, recorded by pid, analyzed, and held against the truth.
demo:
	.ci/demo.sh

# Every check there is.
test:
	.ci/test.sh

# Installs what the tests need and this machine does not have.
setup:
	.ci/setup.sh test

setup-build:
	.ci/setup.sh build

build: setup-build
	cargo build --release --locked --workspace

programs:
	$(MAKE) -C testdata/programs OUT=$(CURDIR)/target/programs

# Debian's kernels 6.1 and 6.12 in virtual machines.
vm-test: setup build
	testdata/vm/run.sh

# What tracing costs on this machine.
bench: build programs
	testdata/bench.sh

# How fast traces are analyzed, beside others. Wants the package heaptrack for one of them.
bench-analysis: setup build
	cargo build --release --locked --workspace --example generate
	cargo bench --locked --workspace --bench analyze --no-run
	target/venv/bin/python testdata/bench_analysis.py

# Ten minutes of mutated traces, from a new seed.
fuzz: setup-build
	MEMLEAK_FUZZ_SECONDS=600 MEMLEAK_FUZZ_SEED=$$(date +%s) \
	    cargo test --release --locked --workspace --test fuzz -- --nocapture
