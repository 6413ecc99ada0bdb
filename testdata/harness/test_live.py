"""What the recorder tells besides its trace: a line per event (--trace), what a recording would cost (--estimate)."""

import os
import re
import subprocess

import compare
import pytest
from session import PATIENCE_S, Lines, Program, as_root, binary, build_programs, report_of

LINE = re.compile(r"\d\d:\d\d:\d\d\.\d{6} (\d+)/(\d+) ([a-z_]+) 0x[0-9a-f]+( \d+ bytes)?(, stack \d+(: .+)?)?")


@pytest.fixture(scope="module", autouse=True)
def built():
    build_programs()


class Tracing:
    """memleak-record --trace with its output in a file or a pipe; entered when every probe is on."""

    def __init__(self, pid, trace, stdout):
        command = [*as_root(), str(binary("memleak-record")), "-p", str(pid), "-o", str(trace), "--trace"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE, text=True
        )
        self.lines = Lines(self.process.stderr)
        self.lines.wait_for(lambda line: line.startswith("recording"), "memleak-record")

    def stop(self):
        subprocess.run([*as_root(), "kill", "-INT", str(self.process.pid)], check=True)
        assert self.process.wait(PATIENCE_S) == 0
        self.lines.wait_for_end()


def test_a_line_per_event(tmp_path):
    """As many lines as events, each of the form that is documented, in the order of the trace."""
    trace, output = tmp_path / "trace.parquet", tmp_path / "lines"
    with Program("selected", 0, 1 << 40) as program, output.open("w") as out:
        recording = Tracing(program.pid, trace, out)
        program.go()
        truth = program.truth()
        program.wait_until_done()
        recording.stop()
        program.end()
    report, lines = report_of(trace), output.read_text().splitlines()
    assert not compare.differences(truth, report)
    assert len(lines) == report["trace"]["events"]
    wrong = [line for line in lines if not LINE.fullmatch(line)]
    assert not wrong, wrong[:3]
    found = [LINE.fullmatch(line) for line in lines]
    assert {int(match[1]) for match in found} == {program.pid}
    mallocs = sum(match[3] == "malloc" for match in found)
    assert mallocs == sum(stack["total_count"] for stack in report["stacks"] if stack["op"] == "malloc")


def test_names_come_with_time(tmp_path):
    """Frames are named as soon as their names are known: later lines of the same stacks have them."""
    output = tmp_path / "lines"
    with Program("patterns") as program, output.open("w") as out:
        recording = Tracing(program.pid, tmp_path / "trace.parquet", out)
        program.go()
        program.wait_until_done()
        recording.stop()
    assert any(": comes_and_goes < step < main" in line for line in output.read_text().splitlines())


def test_head_ends_the_lines_only(tmp_path):
    """`| head`: no word of it, and the recording is whole."""
    trace = tmp_path / "trace.parquet"
    with Program("selected", 0, 1 << 40) as program:
        reading, writing = os.pipe()
        recording = Tracing(program.pid, trace, writing)
        os.close(writing)
        os.close(reading)
        program.go()
        truth = program.truth()
        program.wait_until_done()
        recording.stop()
        program.end()
    assert not compare.differences(truth, report_of(trace))
    assert not any("pipe" in line.lower() for line in recording.lines.seen), recording.lines.seen


def test_an_estimate_records_nothing(tmp_path):
    """The rates are those of the program, the ways to record less are compared, and no file appears."""
    with Program("churn", 9, 0, 20000) as program:
        program.go()
        command = [*as_root(), str(binary("memleak-record")), "-p", str(program.pid), "--estimate", "--duration", "1s"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, cwd=tmp_path)
        assert program.process.poll() is None
        program.end()
    assert result.returncode == 0, result.stderr
    assert list(tmp_path.iterdir()) == []
    text = result.stdout
    rates = re.search(r"([\d.]+) k allocations/s \(.*/s\), ([\d.]+) k releases/s", text)
    assert rates, text
    allocations, releases = float(rates[1]), float(rates[2])
    # Each block is freed at once; how many the machine let it make in the second is not judged.
    assert abs(allocations - releases) <= 0.2 + allocations * 0.05
    assert 0 < allocations <= 25
    for words in ("counted for", "nothing was recorded", "everything", "--sample-bytes 64KiB", "-s 100", "the probes alone"):
        assert words in text, text


def test_an_estimate_ends_with_its_target(tmp_path):
    """A target that ends while it is counted is no failure."""
    with Program("exit_soon") as program:
        command = [*as_root(), str(binary("memleak-record")), "-p", str(program.pid), "--estimate", "--duration", "60s"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as estimate:
            Lines(estimate.stderr).wait_for(lambda line: line.startswith("counting"), "memleak-record")
            program.go()
            assert estimate.wait(PATIENCE_S) == 0
            assert "nothing was recorded" in estimate.stdout.read()
