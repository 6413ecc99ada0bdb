#!/usr/bin/env bash
# Holds the crates to what docs/architecture.md says they never depend on.
set -euo pipefail
cd "$(dirname "$0")/.."

failed=0
# never CRATE DEPENDENCY…: none of these may be below CRATE, directly or through others.
never() {
    local crate=$1 tree found
    shift
    tree=$(cargo tree --locked --edges normal,build --prefix none --format '{p}' -p "$crate" | cut -d' ' -f1 | sort -u)
    grep -qx "$crate" <<<"$tree" || { echo "cargo tree does not know $crate" >&2; exit 1; }
    for dependency in "$@"; do
        found=$(grep -xE "$dependency(-.*)?" <<<"$tree" || true)
        if [ -n "$found" ]; then
            echo "$crate must not depend on $dependency, but it does: $(tr '\n' ' ' <<<"$found")" >&2
            failed=1
        fi
    done
}

never memleak-trace aya blazesym polars clap memleak-record memleak-analyze
never memleak-names aya polars clap memleak-record memleak-analyze
never memleak-record polars memleak-analyze
never memleak-analyze aya memleak-record
[ "$failed" -eq 0 ] && echo "crate edges hold"
exit "$failed"
