#!/usr/bin/env bash
# What tracing costs on this machine: the target's price per call against floors of the same run,
# then the trace's encoding and decoding, then the recorder's own processor time and memory and bytes per event.
# Needs root and target/release/memleak-*; takes about four minutes.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo bench --quiet --locked --workspace --bench price
echo
cargo bench --quiet --locked --workspace --bench kernel
echo
cargo bench --quiet --locked --workspace --bench encode
echo
python3 testdata/harness/cost.py
