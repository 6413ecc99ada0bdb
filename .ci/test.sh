#!/usr/bin/env bash
# Every check, the cheap ones first; stops at the first that fails. Installs what is missing before.
# Ends with "N passed, N failed", the sum of what the test runners counted and one for each check
# without a runner of its own.
set -uo pipefail
cd "$(dirname "$0")/.."

log=target/test.log
passed=0
failed=0

# Numbers of a runner's closing lines in the log, before a word: cargo's and pytest's, e.g. "12 passed".
counted() { # word
    grep -E '^test result: |^=* ?[0-9]+ (passed|failed).* in [0-9.]+s' "$log" | grep -oE "[0-9]+ $1" | awk '{sum += $1} END {print sum + 0}'
}

finish() {
    echo
    echo "$passed passed, $failed failed"
    [ "$failed" -eq 0 ]
    exit
}

# Runs a step; what a runner counted in it counts, else the step counts as one.
step() { # name command…
    local name=$1 status good bad
    shift
    printf '\n== %s\n' "$name"
    "$@" 2>&1 | tee "$log"
    status=${PIPESTATUS[0]}
    good=$(counted passed)
    bad=$(counted failed)
    if [ "$((good + bad))" -eq 0 ]; then
        [ "$status" -eq 0 ] && good=1 || bad=1
    elif [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; then
        bad=1
    fi
    passed=$((passed + good))
    failed=$((failed + bad))
    [ "$status" -eq 0 ] && [ "$bad" -eq 0 ] || { echo "FAILED: $name"; finish; }
}

pytest() { target/venv/bin/python -m pytest -q -p no:cacheprovider "$@"; }
build_programs() { make --silent -C testdata/programs OUT="$PWD/target/programs" allocators; }

.ci/setup.sh test || exit 1
mkdir -p target
step "format" cargo fmt --all --check
step "crate edges" .ci/crate-edges.sh
step "test programs build" build_programs
step "test programs against the counter" pytest testdata/harness/test_truth.py testdata/harness/test_compare.py
# With the tests, whose dependencies want features that would have polars built again later.
step "build" cargo build --release --locked --workspace --all-targets
step "demo" python3 testdata/harness/demo.py
step "recordings of test programs" pytest testdata/harness/test_programs.py testdata/harness/test_exact.py testdata/harness/test_libraries.py testdata/harness/test_several.py testdata/harness/test_symbolize.py
step "recordings of commands and children" pytest testdata/harness/test_command.py testdata/harness/test_follow.py
step "recordings of the kernel" pytest testdata/harness/test_kernel.py testdata/harness/test_kernel_order.py testdata/harness/test_with_kernel.py
step "recordings of other allocators and pools" pytest testdata/harness/test_allocators.py testdata/harness/test_pools.py
step "verdicts on recordings" pytest testdata/harness/test_verdicts.py testdata/harness/test_verdicts_held_out.py testdata/harness/test_verdicts_languages.py
step "recordings that end badly" pytest testdata/harness/test_robustness.py testdata/harness/test_overflow.py
step "recordings that leave blocks out" pytest testdata/harness/test_sampling.py testdata/harness/test_sampled_views.py testdata/harness/test_live.py
# Each kill takes seconds; fifty, as many as there are by default, are for the acceptance.
MEMLEAK_KILLS=10 step "what outlives recorder, disk and target" pytest testdata/harness/test_survival.py testdata/harness/test_power_cut.py
step "recordings in parts" pytest testdata/harness/test_parts.py
step "recordings of real programs" pytest testdata/harness/test_real_programs.py testdata/harness/test_redis.py
step "other readers, schema, notebook" env MEMLEAK_FRESH_TRACE=target/demo.parquet target/venv/bin/python -m pytest -q -p no:cacheprovider notebooks/tests
step "cargo test" cargo test --release --locked --workspace
step "virtual machines" testdata/vm/run.sh
step "clippy" cargo clippy --release --locked --workspace --all-targets -- -D warnings
finish
