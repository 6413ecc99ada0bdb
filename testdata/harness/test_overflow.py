"""A ring that is too small: what `--on-overflow` promises, to the event."""

import os
import signal
import subprocess
import time

import compare
import pytest
from session import PATIENCE_S, Program, Recording, as_root, build_programs, report_of, state, wait_until

# Two threads at full speed fill it in some milliseconds.
SMALL_RING = ("--ring-size", "256KiB")
PAIRS = 400_000
RUNS = int(os.environ.get("MEMLEAK_OVERFLOW_RUNS", "3"))


@pytest.fixture(scope="module", autouse=True)
def built():
    """Without thread caches: what a thread frees from its cache when it ends is another number each time."""
    build_programs()
    before = os.environ.get("GLIBC_TUNABLES")
    os.environ["GLIBC_TUNABLES"] = "glibc.malloc.tcache_count=0"
    yield
    if before is None:
        del os.environ["GLIBC_TUNABLES"]
    else:
        os.environ["GLIBC_TUNABLES"] = before


def heap_events(report):
    """Allocations of the heap in the trace."""
    return report["domains"]["heap"]["total_count"]


@pytest.mark.parametrize("run", range(RUNS))
def test_pause_loses_nothing(run, tmp_path):
    """Every event of two threads at full speed is there, though the ring was full again and again."""
    trace = tmp_path / "trace.parquet"
    with (
        Program("swap", PAIRS) as program,
        Recording(program.pid, trace, *SMALL_RING, "--on-overflow", "pause") as recording,
    ):
        program.go()
        truth = program.truth()
        program.wait_until_done()
        recording.stop()
    report, said = report_of(trace), recording.lines.seen
    assert any("the target was stopped each time" in line for line in said), said
    assert report["trace"]["lost"]["total"] == 0
    assert not compare.differences(truth, report)
    assert heap_events(report) >= PAIRS


def made(truth):
    """Events of the pairs: every malloc, and a free for each block that did not stay in its slot."""
    return 2 * PAIRS - sum(site["count"] for site in truth["sites"])


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """Events of `swap` beside its pairs (threads are made), in a recording that loses none."""
    trace = tmp_path_factory.mktemp("whole") / "trace.parquet"
    with Program("swap", PAIRS) as program, Recording(program.pid, trace) as recording:
        program.go()
        truth = program.truth()
        program.wait_until_done()
        recording.stop()
    report = report_of(trace)
    assert report["trace"]["lost"]["total"] == 0
    return report["trace"]["events"] - made(truth)


@pytest.mark.parametrize("run", range(RUNS))
def test_drop_counts_every_loss(run, tmp_path, others):
    """What is in the trace and what the ledger says was lost are together what the program did."""
    trace = tmp_path / "trace.parquet"
    with Program("swap", PAIRS) as program, Recording(program.pid, trace, *SMALL_RING) as recording:
        # A recorder that gets no processor for a while.
        os.kill(recording.process.pid, signal.SIGSTOP)
        program.go()
        time.sleep(0.1)
        os.kill(recording.process.pid, signal.SIGCONT)
        truth = program.truth()
        program.wait_until_done()
        recording.stop()
    report = report_of(trace)
    lost = report["trace"]["lost"]
    assert set(lost["by_cause"]) <= {"ring full, allocation", "ring full, release"}
    assert lost["total"] > 0, "the ring was never full: this run shows nothing"
    assert report["trace"]["events"] + lost["total"] == made(truth) + others


def test_abort_ends_at_the_first_loss(tmp_path):
    """Exit 1 with the reason; the trace is whole up to there."""
    trace = tmp_path / "trace.parquet"
    with Program("churn", 3, 0, 0) as program:
        # Not to be drained: the recorder sleeps until the ring is full.
        with Recording(program.pid, trace, *SMALL_RING, "--on-overflow", "abort") as recording:
            os.kill(recording.process.pid, signal.SIGSTOP)
            program.go()
            time.sleep(0.5)
            os.kill(recording.process.pid, signal.SIGCONT)
            assert recording.process.wait(PATIENCE_S) == 1
            recording.lines.wait_for_end()
        assert program.process.poll() is None
    assert any("--on-overflow abort asks for" in line for line in recording.lines.seen)
    report = report_of(trace)
    assert report["trace"]["complete"]
    assert report["trace"]["lost"]["total"] > 0


def stopped_target(program, trace):
    """A recording whose target is stopped at a full ring, because the recorder is stopped itself."""
    recording = Recording(program.pid, trace, *SMALL_RING, "--on-overflow", "pause")
    os.kill(recording.process.pid, signal.SIGSTOP)
    program.go()
    wait_until(lambda: state(program.pid) == "T", "the target was not stopped")
    return recording


def test_the_watchdog_continues_the_target(tmp_path):
    """The recorder is killed while the target is stopped: it goes on, and nobody stays behind."""
    with Program("churn", 3, 0, 0) as program:
        with stopped_target(program, tmp_path / "trace.parquet") as recording:
            subprocess.run([*as_root(), "kill", "-KILL", str(recording.process.pid)], check=True)
            recording.process.wait(PATIENCE_S)
            wait_until(lambda: state(program.pid) != "T", "the target stays stopped")
            # Its stderr has ended: the watchdog holds none of it.
            recording.lines.wait_for_end()
        time.sleep(0.2)
        assert state(program.pid) in "RS"
    wait_until(lambda: not watchdogs(), "a watchdog stays behind")


def watchdogs():
    """Watchdogs of recorders that have ended: their parent is not known, but their name is."""
    found = subprocess.run(["pgrep", "-c", "-x", "memleak-watchd"], capture_output=True, text=True)
    recorders = subprocess.run(["pgrep", "-c", "-x", "memleak-record"], capture_output=True, text=True)
    return int(found.stdout or 0) > int(recorders.stdout or 0)


def test_a_stop_of_the_user_is_respected(tmp_path):
    """Stopped by the user while it was stopped by a full ring: it stays so until the user says."""
    with Program("churn", 3, 0, 0) as program:
        with stopped_target(program, tmp_path / "trace.parquet") as recording:
            program.process.send_signal(signal.SIGSTOP)
            os.kill(recording.process.pid, signal.SIGCONT)
            # The ring is drained when the trace has grown; the target still waits.
            time.sleep(0.5)
            assert state(program.pid) == "T"
            program.process.send_signal(signal.SIGCONT)
            recording.stop()
            wait_until(lambda: state(program.pid) in "RS", "the target stays stopped")
    report = report_of(tmp_path / "trace.parquet")
    assert report["trace"]["lost"]["total"] == 0
