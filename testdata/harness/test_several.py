"""Several processes in one trace: each call site of each process exact, nothing besides."""

import compare
import pytest
from session import Program, Recording, build_programs, report_of


@pytest.fixture(scope="module", autouse=True)
def built():
    build_programs()


def of_process(report, pid):
    """The report of one process alone."""
    return {**report, "stacks": [stack for stack in report["stacks"] if stack["pid"] == pid]}


def record_together(names, trace, pids):
    """Records programs at once. `pids` spells them for -p. Returns their truths by pid, the report, what was said."""
    programs = [Program(name) for name in names]
    try:
        with Recording(pids([program.pid for program in programs]), trace) as recording:
            for program in programs:
                program.go()
            truths = {program.pid: program.truth() for program in programs}
            for program in programs:
                program.wait_until_done()
                program.end()
            recording.wait()  # with the last of them
        return truths, report_of(trace), recording.lines.seen
    finally:
        for program in programs:
            program.process.kill()
            program.process.wait()


def differences(truths, report):
    wrong = []
    for pid, truth in truths.items():
        own = of_process(report, pid)
        wrong += [f"process {pid}: {line}" for line in compare.differences(truth, own) + compare.unexpected(truth, own)]
    return wrong


def test_each_process_is_exact(tmp_path):
    """Three processes, two of them of the same program; the trace ends with the last of them."""
    names = ["test_memleak", "family", "test_memleak"]
    truths, report, said = record_together(names, tmp_path / "trace.parquet", lambda pids: ",".join(map(str, pids)))
    assert not differences(truths, report)
    assert {process["pid"] for process in report["trace"]["processes"]} == set(truths)
    assert report["trace"]["complete"] and not compare.losses(report)
    assert any("the target exited" in line or "the target was killed" in line for line in said), said


def test_many_share_probes(tmp_path):
    """Ten processes share one set of probes, and the screen says what that costs."""
    names = ["test_memleak"] * 10
    truths, report, said = record_together(names, tmp_path / "trace.parquet", lambda pids: ",".join(map(str, pids)))
    assert not differences(truths, report)
    assert any("fire in every process" in line for line in said), said
