"""What happens to trace and target when something ends that should not."""

import os
import shutil
import signal
import subprocess
import time

import compare
import pytest
from disk import ended_by_full_disk, small_disk
from session import PATIENCE_S, Program, Recording, analyze, as_root, binary, build_programs, record_program, report_of


@pytest.fixture(scope="module", autouse=True)
def built():
    build_programs()


def test_the_recording_outlives_the_main_thread(tmp_path):
    """Probes die with the thread they name: they move to another one, and the report says so."""
    trace = tmp_path / "trace.parquet"
    with Program("leader_exits") as program, Recording(program.pid, trace) as recording:
        program.go()
        recording.lines.wait_for(lambda line: "were moved to thread" in line, "memleak-record")
        for count in (10, 20):
            program.go()
            program.lines.wait_for(lambda line: f'"count":{count}}}' in line, "leader_exits")
        recording.stop()
    report = report_of(trace)
    assert compare.outstanding_of(report, "thread_that_stays", "heap") == (14000, 20)
    assert "the probed thread ended" in report["trace"]["lost"]["by_cause"]
    assert "lost: an unknown number of events" in analyze(trace)


def test_exec_ends_a_heap(tmp_path):
    """What the old program held is gone, not outstanding; what the new one allocates is counted, and
    its stacks are found as soon as its mappings are."""
    truth, report = record_program("exec_again", tmp_path / "trace.parquet")
    assert not compare.losses(report)
    heap = report["domains"]["heap"]
    assert (heap["bytes"], heap["count"]) == (truth["sites"][0]["bytes"], truth["sites"][0]["count"])
    assert heap["total_count"] == truth["sites"][0]["count"] + 5
    assert report["trace"]["processes"][0]["command"].endswith("exec_again again")


def kill_recorder(recording):
    """SIGKILL: nothing can be done any more."""
    subprocess.run([*as_root(), "kill", "-KILL", str(recording.process.pid)], check=True)
    recording.process.wait(PATIENCE_S)


def test_a_killed_recorder_leaves_target_and_trace(tmp_path):
    """The target goes on, and the trace opens with all but the last moments."""
    trace = tmp_path / "trace.parquet"
    with Program("churn", 5, 0, 50000) as program:
        with Recording(program.pid, trace) as recording:
            program.go()
            time.sleep(3)
            kill_recorder(recording)
        assert program.process.poll() is None
        before = switches(program.pid)
        time.sleep(0.5)
        assert switches(program.pid) > before, "the target no longer runs"
        report = report_of(trace)
        assert not report["trace"]["complete"]
        # Of the 300,000 events of 3 s; the last second may be missing.
        assert report["trace"]["events"] > 100000
        assert report["domains"]["heap"]["count"] <= 1
        # It can be recorded again.
        with Recording(program.pid, tmp_path / "second.parquet") as recording:
            recording.stop()
        assert report_of(tmp_path / "second.parquet")["trace"]["complete"]


def switches(pid):
    """How often the process went to sleep: a paced program does so after each batch."""
    with open(f"/proc/{pid}/status") as status:
        return int(next(line for line in status if line.startswith("voluntary_ctxt_switches")).split()[1])


def test_a_full_disk_ends_the_recording_with_what_was_written(tmp_path):
    """One sentence with the cause, exit 1, and a trace that can be read."""
    disk, kept = tmp_path / "disk", tmp_path / "kept.parquet"
    with small_disk(disk, "256k"):
        trace = disk / "trace.parquet"
        with Program("churn", 5, 0, 50000) as program, Recording(program.pid, trace) as recording:
            program.go()
            ended_by_full_disk(program, recording, PATIENCE_S)
        shutil.copy(trace, kept)
    report = report_of(kept)
    assert report["trace"]["events"] > 0
    assert not report["trace"]["complete"]


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_the_end_of_the_target_ends_the_recording(ending, tmp_path):
    """However the target ends, the trace is whole and has what was outstanding."""
    trace = tmp_path / "trace.parquet"
    with Program("test_memleak") as program, Recording(program.pid, trace) as recording:
        program.go()
        truth = program.truth()
        program.wait_until_done()
        os.kill(program.pid, ending)
        recording.wait()
    assert not compare.differences(truth, report_of(trace))


def test_duration_and_sigterm_end_with_zero(tmp_path):
    """--duration ends by itself; SIGTERM is as good as Ctrl-C."""
    with Program("test_memleak") as program:
        with Recording(program.pid, tmp_path / "duration.parquet", "--duration", "300ms") as recording:
            recording.wait()
        with Recording(program.pid, tmp_path / "sigterm.parquet") as recording:
            subprocess.run([*as_root(), "kill", "-TERM", str(recording.process.pid)], check=True)
            recording.wait()
    for name in ("duration", "sigterm"):
        assert report_of(tmp_path / f"{name}.parquet")["trace"]["complete"]


def test_a_target_without_an_allocator_is_refused(tmp_path):
    """One sentence, exit 1, no file."""
    source, program = tmp_path / "bare.c", tmp_path / "bare"
    source.write_text(
        'void _start(void) { for (;;) __asm__ volatile("syscall" : : "a"(34) : "rcx", "r11", "memory"); }\n'
    )
    subprocess.run(["cc", "-nostdlib", "-static", "-o", str(program), str(source)], check=True)
    trace = tmp_path / "trace.parquet"
    with subprocess.Popen([str(program)]) as target:
        try:
            command = [*as_root(), str(binary("memleak-record")), "-p", str(target.pid), "-o", str(trace)]
            result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
            assert target.poll() is None
        finally:
            target.kill()
    assert result.returncode == 1
    assert "no malloc found in process" in result.stderr
    assert not trace.exists()
