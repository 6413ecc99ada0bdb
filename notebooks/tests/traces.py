"""Which traces the tests read, and what memleak-analyze says of them."""

import functools
import json
import os
import subprocess
from pathlib import Path

import pyarrow.parquet as pq

REPOSITORY = Path(__file__).resolve().parents[2]
ANALYZE = os.environ.get("MEMLEAK_ANALYZE", REPOSITORY / "target/release/memleak-analyze")


def committed():
    """The traces of every format version."""
    return sorted((REPOSITORY / "testdata/traces").glob("*/*.parquet"))


def all_traces():
    """The committed ones, and a fresh one if MEMLEAK_FRESH_TRACE names it."""
    fresh = os.environ.get("MEMLEAK_FRESH_TRACE")
    return committed() + ([Path(fresh).resolve()] if fresh else [])


@functools.cache
def is_sampled(path):
    """Whether the trace holds a sample of the blocks only, so that figures are estimates."""
    header = json.loads(pq.read_metadata(path).metadata[b"memleak"])
    return "sampling" in header.get("selection", {})


@functools.cache
def report_of(path):
    """The JSON report of a trace."""
    output = subprocess.run([ANALYZE, "--format", "json", path], check=True, capture_output=True, timeout=120)
    return json.loads(output.stdout)
