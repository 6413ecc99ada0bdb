#!/usr/bin/env bash
# What tracing costs on this machine: the target's price per call against floors of the same run,
# then the trace's encoding and decoding. Needs root; takes about three minutes.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo bench --quiet --locked --workspace --bench price
echo
cargo bench --quiet --locked --workspace --bench encode
