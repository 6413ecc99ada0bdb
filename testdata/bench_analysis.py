#!/usr/bin/env python3
"""How fast traces are analyzed, and in how much memory, beside others on the same files in the same run.

    target/venv/bin/python testdata/bench_analysis.py [DIRECTORY] [EVENTS]

Makes traces of EVENTS (default 20,000,000) with 0.5 and 4 million live blocks in DIRECTORY (default
target/bench) and compares

- the whole default report with decoding alone (`cargo bench --bench analyze`, must have been built),
- with DuckDB doing the same: sums, peak, timelines and ages by stack, all threads, its memory limit the machine's;
- the events a second of heaptrack_print on a program that it recorded (Debian's package heaptrack) with ours on
  the same program, recorded by memleak-record (root); left out where one of them is missing.

Ratios are what counts: the floor is measured in the same run.
"""

import glob
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
RELEASE = REPOSITORY / "target/release"
MIB = 1 << 20
TURNS = 2

DUCKDB = """
CREATE TEMP TABLE change AS
SELECT row, ts, space, domain, addr, size, stack_id,
       op IN ('malloc', 'calloc', 'realloc', 'mmap') AS allocates,
       lead(row) OVER same AS freed_row, lead(ts) OVER same AS freed_ts
FROM (SELECT file_row_number AS row, * FROM read_parquet('{trace}', file_row_number = true)
      WHERE domain IS NOT NULL AND addr <> 0)
WINDOW same AS (PARTITION BY domain, space, addr ORDER BY row);
CREATE TEMP TABLE lifetime AS SELECT * EXCLUDE allocates FROM change WHERE allocates;
CREATE TEMP TABLE step AS
SELECT row, domain, stack_id, ts, size AS bytes FROM lifetime
UNION ALL SELECT freed_row, domain, stack_id, freed_ts, -size FROM lifetime WHERE freed_row IS NOT NULL;
-- By stack: outstanding and in all, ages, lifetimes.
SELECT domain, stack_id, sum(size) FILTER (freed_row IS NULL) AS bytes, count(*) FILTER (freed_row IS NULL),
       sum(size), count(*), min(ts) FILTER (freed_row IS NULL), max(ts) FILTER (freed_row IS NULL),
       quantile_disc(freed_ts - ts, 0.99)
FROM lifetime GROUP BY ALL ORDER BY bytes DESC LIMIT 10;
SELECT stack_id, floor(log2(greatest(1, {end} - ts)) * 2) AS bin, sum(size), count(*)
FROM lifetime WHERE freed_row IS NULL GROUP BY ALL;
-- The peak of each domain.
SELECT domain, max(held) FROM (SELECT domain, sum(bytes) OVER (PARTITION BY domain ORDER BY row) AS held FROM step) GROUP BY ALL;
-- Timelines by stack, 64 buckets.
SELECT stack_id, bucket, sum(bytes) OVER (PARTITION BY stack_id ORDER BY bucket) FROM (
    SELECT stack_id, (ts - {start}) * 64 // ({end} - {start} + 1) AS bucket, sum(bytes) AS bytes FROM step GROUP BY ALL);
"""


def measured(command, **options):
    """Runs a command; seconds, its peak of resident memory in bytes, its output."""
    begun = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"{command[0]} failed with status {status}")
    return time.monotonic() - begun, usage.ru_maxrss * 1024, output


def best(turns, run):
    return min((run() for _ in range(turns)), key=lambda result: result[0])


def bench_binary():
    """The newest build of the bench `analyze`."""
    built = [path for path in glob.glob(str(RELEASE / "deps/analyze-*")) if os.access(path, os.X_OK) and "." not in path]
    if not built:
        raise SystemExit("build it first: cargo bench --workspace --bench analyze --no-run")
    return max(built, key=os.path.getmtime)


def memory(trace):
    """The default report as a process of its own: seconds and memory, and per live block beyond 80 MB."""
    analyze = str(RELEASE / "memleak-analyze")
    seconds, peak, _ = best(TURNS, lambda: measured([analyze, str(trace)]))
    report = json.loads(measured([analyze, "--format", "json", "--top", "1", str(trace)])[2])
    blocks = report["domains"]["heap"]["count"]
    events = report["trace"]["events"]
    print(f"  {seconds:.1f} s, {events / seconds / 1e6:.1f} M events/s, {peak / MIB:.0f} MiB with {blocks} live blocks:"
          f" {(peak - 80e6) / blocks:.0f} bytes for each beyond 80 MB")
    return seconds


def duckdb(trace, ours):
    import duckdb as engine

    program = "import duckdb,sys; c=duckdb.connect(); c.execute('SET enable_progress_bar = false'); [c.execute(s).fetchall() for s in sys.stdin.read().split(';') if s.strip()]"
    start, end = engine.execute(
        f"SELECT min(ts), max(ts) FROM '{trace}' WHERE domain IS NOT NULL"
    ).fetchone()
    script = DUCKDB.format(trace=trace, start=start, end=end)
    begun = time.monotonic()
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, text=True)
    process.stdin.write(script)
    process.stdin.close()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - begun
    if status != 0:
        print(f"  DuckDB failed after {seconds:.1f} s")
        return
    print(f"  DuckDB {seconds:.1f} s, {usage.ru_maxrss * 1024 / MIB:.0f} MiB: we are {seconds / ours:.1f} times as fast")


def heaptrack(directory):
    """The same program under heaptrack and memleak-record; events a second of the two analyses."""
    trace = directory / "program.parquet"
    program = [sys.executable, "-c", "import json\nfor i in range(300): json.loads(json.dumps([{'k%d' % j: [j, str(j)] for j in range(400)}]))"]
    environment = {**os.environ, "PYTHONMALLOC": "malloc"}
    raw = directory / "heaptrack"
    for old in glob.glob(f"{raw}*"):
        os.unlink(old)
    try:
        subprocess.run(["heaptrack", "-o", str(raw), *program], env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except FileNotFoundError:
        print("heaptrack is not installed")
        return
    data = glob.glob(f"{raw}*")[0]
    seconds, _, said = best(TURNS, lambda: measured(["heaptrack_print", data], stderr=subprocess.DEVNULL))
    calls = int(re.search(r"calls to allocation functions: (\d+)", said).group(1))
    # Nearly each allocation is freed: two events.
    theirs = 2 * calls / seconds
    print(f"heaptrack_print: {calls} allocations and their frees in {seconds:.1f} s, {theirs / 1e6:.2f} M events/s")
    target = subprocess.Popen([sys.executable, "-c", "import sys; print(flush=True); sys.stdin.readline()\n" + program[2]],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True)
    target.stdout.readline()  # Its libraries are mapped.
    record = [str(RELEASE / "memleak-record"), "--force", "-p", str(target.pid), "-o", str(trace)]
    record = subprocess.Popen(record, stderr=subprocess.PIPE, text=True)
    while "recording" not in (line := record.stderr.readline()):
        if not line:
            print("memleak-record did not start")
            target.kill()
            return
    target.communicate("go\n")
    record.communicate()
    seconds, _, _ = best(TURNS, lambda: measured([str(RELEASE / "memleak-analyze"), str(trace)]))
    events = json.loads(measured([str(RELEASE / "memleak-analyze"), "--format", "json", "--top", "1", str(trace)])[2])["trace"]["events"]
    print(f"memleak-analyze: {events} events of the same program in {seconds:.1f} s, {events / seconds / 1e6:.2f} M events/s: "
          f"{events / seconds / theirs:.1f} times as fast")


def main():
    directory = Path(sys.argv[1] if len(sys.argv) > 1 else REPOSITORY / "target/bench")
    events = int(sys.argv[2]) if len(sys.argv) > 2 else 20_000_000
    directory.mkdir(parents=True, exist_ok=True)
    for live in (500_000, 4_000_000):
        trace = directory / f"{events}-{live}.parquet"
        if not trace.exists():
            generate = [str(RELEASE / "examples/generate"), str(trace), f"events={events}", f"live={live}"]
            subprocess.run(generate, check=True)
        print(measured([bench_binary(), str(trace)])[2].strip())
        duckdb(trace, memory(trace))
    heaptrack(directory)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    main()
