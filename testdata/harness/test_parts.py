"""Recordings cut into parts: each can be read alone, and all together are the recording."""

import os
import re
import subprocess
import time

import compare
import pytest
from session import PATIENCE_S, Program, Recording, analyze, as_root, binary, build_programs, json_report, report_of


@pytest.fixture(scope="module", autouse=True)
def built():
    build_programs()


def verify(parts):
    """Fails unless every part is sound by itself."""
    for part in parts:
        analyze(part, "verify", "--quiet")


def record_in_parts(program, directory, *options):
    """Lets a program run to its end under the recorder; returns its truth and the parts."""
    with Recording(program.pid, directory / "trace.parquet", *options) as recording:
        program.go()
        truth = program.truth()
        program.wait_until_done()
        recording.stop()
    said = recording.lines.seen
    parts = sorted(directory.glob("trace.*.parquet"))
    assert f"{len(parts)} parts were written" in said, said
    assert not (directory / "trace.parquet").exists()
    return truth, parts


def wait_for(path):
    """Until a file is there."""
    end = time.monotonic() + PATIENCE_S
    while not path.exists():
        assert time.monotonic() < end, path
        time.sleep(0.05)


def test_no_event_is_lost_or_told_twice(tmp_path):
    """Two threads at full speed over many seams: every kept block is found, and the parts hold as many
    events as the whole; each part is sound, and names every frame that it uses."""
    pairs = 2_000_000  # some seconds: a part is as long as a row group at least, half a second
    with Program("swap", pairs) as program:
        truth, parts = record_in_parts(
            program, tmp_path, "--rotate-size", "64KiB", "--on-overflow", "pause", "--ring-size", "1MiB"
        )
    assert len(parts) >= 3
    report = json_report(*reversed(parts))
    assert report["trace"]["complete"], report["trace"]["remarks"]
    assert report["trace"]["lost"]["total"] == 0
    assert not compare.differences(truth, report)
    assert report["trace"]["anomalies"]["implicit_frees"] == 0
    assert [part["number"] for part in report["trace"]["parts"]] == list(range(1, len(parts) + 1))
    alone = [report_of(part) for part in parts]
    assert sum(part["trace"]["events"] for part in alone) == report["trace"]["events"]
    assert report["domains"]["heap"]["total_count"] >= pairs
    verify(parts)
    for part in alone:
        frames = [frame for stack in part["stacks"] for frame in stack["frames"]]
        assert frames and all(frame["function"] for frame in frames)


def test_parts_by_time_carry_what_is_live(tmp_path):
    """A leak and a cache over two seconds in parts of one: the same truth as in one trace."""
    with Program("patterns") as program:
        truth, parts = record_in_parts(program, tmp_path, "--rotate-time", "1s")
    assert len(parts) >= 2
    assert not compare.differences(truth, json_report(*parts))
    verify(parts)
    first_alone = report_of(parts[0])
    assert not first_alone["trace"]["complete"]
    assert "goes on in a later part" in " ".join(first_alone["trace"]["remarks"])


def test_a_later_part_that_cannot_be_created_ends_the_recording(tmp_path):
    """Somebody else's file under the next name is not replaced; what was recorded is kept, and the
    reason said."""
    with Program("churn", 5, 0, 50000) as program:
        with Recording(program.pid, tmp_path / "trace.parquet", "--rotate-time", "1s") as recording:
            (tmp_path / "trace.000002.parquet").write_text("mine")
            program.go()
            assert recording.process.wait(PATIENCE_S) == 1
            recording.lines.wait_for_end()
        said = " ".join(recording.lines.seen)
        assert "cannot begin part 2" in said and "panicked" not in said, said
        assert program.process.poll() is None
    assert (tmp_path / "trace.000002.parquet").read_text() == "mine"
    assert report_of(tmp_path / "trace.000001.parquet")["trace"]["events"] > 0


def test_earlier_parts_are_not_replaced(tmp_path):
    """Parts of another recording are refused before anything is probed, unless --force says so."""
    (tmp_path / "trace.000003.parquet").write_text("old")
    with Program("test_memleak") as program:
        command = [*as_root(), str(binary("memleak-record")), "-p", str(program.pid), "--rotate-time", "1h"]
        command += ["-o", str(tmp_path / "trace.parquet")]
        refused = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
        assert refused.returncode == 1
        assert re.search(r"trace\.000003\.parquet exists", refused.stderr), refused.stderr
        with Recording(program.pid, tmp_path / "trace.parquet", "--rotate-time", "1h", "--force") as recording:
            recording.stop()
    assert (tmp_path / "trace.000001.parquet").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="SUDO_UID counts for root only")
def test_every_part_belongs_to_the_caller_of_sudo(tmp_path, monkeypatch):
    """Also the parts that are created long after the start."""
    monkeypatch.setenv("SUDO_UID", "12345")
    monkeypatch.setenv("SUDO_GID", "23456")
    with Program("churn", 5, 0, 20000) as program:
        with Recording(program.pid, tmp_path / "trace.parquet", "--rotate-time", "1s") as recording:
            program.go()
            wait_for(tmp_path / "trace.000003.parquet")
            recording.stop()
    owners = {(part.stat().st_uid, part.stat().st_gid) for part in tmp_path.glob("trace.*.parquet")}
    assert owners == {(12345, 23456)}
