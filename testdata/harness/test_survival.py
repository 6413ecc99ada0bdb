"""What is left of a recording when the recorder, the disk, or the target's memory ends, and how much."""

import os
import random
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import cgroup
import duckdb
import polars as pl
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from disk import ended_by_full_disk, small_disk
from session import PATIENCE_S, Program, Recording, analyze, as_root, binary, build_programs, json_report, report_of

KILLS = int(os.environ.get("MEMLEAK_KILLS", "50"))
# Attaching and detaching mostly wait: so many recordings at a time.
LANES = 5
EVENTS = ["malloc", "free"]
SECOND_NS = 1_000_000_000


@pytest.fixture(scope="module", autouse=True)
def built():
    build_programs()


def kill(recording):
    """SIGKILL. Returns the moment: nanoseconds of CLOCK_MONOTONIC, just before it."""
    pid = recording.process.pid
    if as_root():
        subprocess.run([*as_root(), "kill", "-KILL", str(pid)], check=True)
        moment = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    else:
        moment = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        os.kill(pid, 9)
    recording.process.wait(PATIENCE_S)
    return moment


def last_event(trace):
    """Time of the last event in a trace that another program may not open: it is repaired first."""
    repaired = trace.with_suffix(".repaired")
    analyze(trace, "repair", "--force", "-o", str(repaired))
    rows = pq.read_table(repaired, columns=["ts", "op"])
    events = rows.filter(pc.field("op").isin(EVENTS))
    return pc.max(events["ts"]).as_py()


def killed_recordings(directory, lane, runs):
    """Records one busy program again and again and kills each recorder at a random moment. Returns how
    many nanoseconds each trace lacks."""
    missing = []
    chance = random.Random(lane)
    with Program("churn", 5, 0, 20000) as program:
        program.go()
        for run in range(runs):
            trace = directory / f"{lane}-{run}.parquet"
            with Recording(program.pid, trace, "--ring-size", "4MiB") as recording:
                time.sleep(0.7 + chance.random())
                killed = kill(recording)
            missing.append(killed - last_event(trace))
            report = report_of(trace)
            assert not report["trace"]["complete"]
            assert report["trace"]["lost"]["total"] == 0
            assert program.process.poll() is None
    return missing


def test_kill_at_random_moments(tmp_path):
    """The trace opens every time, at most a second is missing (1.5 s in one of 25), and the target goes
    on: each further recording of it has events."""
    with ThreadPoolExecutor(LANES) as pool:
        lanes = [pool.submit(killed_recordings, tmp_path, lane, KILLS // LANES) for lane in range(LANES)]
        missing = sorted(nanoseconds for lane in lanes for nanoseconds in lane.result())
    print("missing, in milliseconds:", [round(ns / 1e6) for ns in missing])
    assert len(missing) >= LANES
    assert missing[-1] <= 1.5 * SECOND_NS
    assert sum(ns > SECOND_NS for ns in missing) <= max(1, KILLS // 25)


def query(sql):
    """The rows of a query, from a DuckDB of its own."""
    with duckdb.connect() as connection:
        return connection.execute(sql).fetchall()


def readers(trace):
    """How many rows each stock reader finds in a file."""
    return {
        "pyarrow": lambda: pq.read_table(trace).num_rows,
        "polars": lambda: pl.scan_parquet(trace).select(pl.len()).collect().item(),
        "duckdb": lambda: query(f"select count(*) from read_parquet('{trace}')")[0][0],
    }


def test_stock_readers_open_a_trace_that_grows(tmp_path):
    """While recording goes on, pyarrow, polars and DuckDB read whole rows, and more later. A reader that
    opens the file in the very moment in which its end is replaced may have to try again."""
    trace = tmp_path / "trace.parquet"
    with Program("churn", 5, 0, 50000) as program, Recording(program.pid, trace) as recording:
        program.go()
        seen = {name: [] for name in readers(trace)}
        refused = 0
        for _ in range(8):
            time.sleep(0.4)
            for name, read in readers(trace).items():
                for _ in range(5):
                    try:
                        seen[name].append(read())
                        break
                    except Exception:  # each library has its own
                        refused += 1
                        time.sleep(0.02)
        recording.stop()
    print("rows:", seen, "refused:", refused)
    for name, rows in seen.items():
        assert len(rows) == 8, f"{name} could not open the file"
        assert rows == sorted(rows) and rows[-1] > rows[0], name
    assert refused <= 12


def test_a_disk_that_fills_up_leaves_readable_parts(tmp_path):
    """Also where there is no room for another part: exit 1 with the reason, and every part is readable."""
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    with small_disk(disk, "400k"):
        with Program("churn", 5, 0, 50000) as program:
            options = ("--rotate-size", "64KiB", "--ring-size", "4MiB")
            with Recording(program.pid, disk / "trace.parquet", *options) as recording:
                program.go()
                ended_by_full_disk(program, recording, PATIENCE_S)
        shutil.copytree(disk, kept)
    parts = sorted(kept.glob("trace.*.parquet"), reverse=True)
    assert len(parts) >= 3
    readable = [part for part in parts if part.stat().st_size > 0]
    report = json_report(*readable)
    assert report["trace"]["events"] > 100_000
    assert not report["trace"]["complete"]
    assert report["trace"]["anomalies"]["implicit_frees"] == 0


@pytest.mark.parametrize("limit_mib", [150, 250, 350, 500, 1000])
def test_little_address_space(limit_mib, tmp_path):
    """Under `ulimit -v` the recorder records, or ends with what it has; it never takes the target along."""
    trace = tmp_path / "trace.parquet"
    limit = limit_mib << 20
    with Program("churn", 5, 0, 50000) as program:
        program.go()
        command = [*as_root(), "prlimit", f"--as={limit}", str(binary("memleak-record"))]
        command += ["-p", str(program.pid), "-o", str(trace), "--duration", "2s"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
        print(limit_mib, result.returncode, result.stderr)
        assert program.process.poll() is None
        stopped = open(f"/proc/{program.pid}/status").read()
        assert "State:\tT" not in stopped
    if result.returncode == 0:
        assert report_of(trace)["trace"]["complete"]
    elif trace.exists() and trace.stat().st_size > 0:
        report_of(trace)
    if limit_mib == 1000:
        assert result.returncode == 0, result.stderr


@pytest.mark.skipif(cgroup.limits() is None, reason="this machine has no memory controller for cgroups")
def test_the_oom_killer_takes_the_target(tmp_path):
    """The trace is whole, holds what was outstanding at death, and names the cause."""
    trace = tmp_path / "trace.parquet"
    with Program("eater") as program, cgroup.memory_limit(program.pid, 64 << 20):
        with Recording(program.pid, trace) as recording:
            program.go()
            recording.wait()
        assert program.process.wait(PATIENCE_S) == -9
    report = report_of(trace)
    assert report["trace"]["complete"], report["trace"]["remarks"]
    assert report["trace"]["end_reason"] == "the target was killed by the OOM killer"
    assert report["trace"]["processes"][0]["exit"] == 137
    heap = report["domains"]["heap"]
    assert 32 << 20 < heap["bytes"] <= 64 << 20
    assert heap["bytes"] == 65536 * heap["count"]
    ends = pl.read_parquet(trace).filter(pl.col("op") == "exit")
    assert ends["text"].to_list() == ["out of memory"]
