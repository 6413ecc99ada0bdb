#!/usr/bin/env bash
# A leaking program, recorded by pid, analyzed, and held against the truth. Installs what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

.ci/setup.sh build
cargo build --release --locked --workspace
python3 testdata/harness/demo.py
