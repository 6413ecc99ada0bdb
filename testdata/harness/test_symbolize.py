"""A stripped program recorded for real; its names come later, from the debug file alone."""

import subprocess

import compare
import session
from session import PROGRAMS, Program, Recording, binary, build_programs, report_of


def test_names_come_later(tmp_path, monkeypatch):
    """Without names no site is found; with those from the debug file every site is exact."""
    build_programs()
    program = tmp_path / "patterns"
    debug = tmp_path / "symbols" / "somewhere"
    debug.mkdir(parents=True)
    subprocess.run(["objcopy", "--only-keep-debug", PROGRAMS / "patterns", debug / "patterns.debug"], check=True)
    subprocess.run(["strip", "-o", program, PROGRAMS / "patterns"], check=True)
    monkeypatch.setattr(session, "PROGRAMS", tmp_path)
    trace = tmp_path / "trace.parquet"
    with Program("patterns") as target, Recording(target.pid, trace) as recording:
        target.go()
        truth = target.truth()
        target.wait_until_done()
        recording.stop()
    program.unlink()
    before = report_of(trace)
    assert compare.differences(truth, before)

    command = [binary("memleak-analyze"), "symbolize", "--debug-dir", tmp_path / "symbols", trace]
    subprocess.run(command, check=True, capture_output=True, timeout=session.PATIENCE_S)
    after = report_of(tmp_path / "trace.named.parquet")
    assert not compare.differences(truth, after)
    for key in ("domains", "at_ns"):
        assert after[key] == before[key]
