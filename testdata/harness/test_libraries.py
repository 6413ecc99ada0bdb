"""A program with more than a hundred libraries: every stack, and one unwind table per file."""

import os
import re
import shutil
import signal
import subprocess
import time

import compare
import pytest
from command import Recorded
from session import REPOSITORY, Program, Recording, build_programs, debian_program, report_of, state, wait_until

COUNT = 120
SOURCE = REPOSITORY / "testdata/programs/library.c"


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    """A directory with lib0.so …, each a file with its own build id and its own function."""
    build_programs()
    directory = tmp_path_factory.mktemp("libraries")
    for number in range(COUNT):
        subprocess.run(
            ["cc", "-g", "-shared", "-fPIC", f"-DKEEPS=library_{number}_keeps", "-DSIZE=100", "-o", directory / f"lib{number}.so", SOURCE],
            check=True,
        )
    return directory


def record(programs, trace):
    """Records the programs together. Returns their truths by pid, the report, the words on unwind tables."""
    start = time.monotonic()
    with Recording(",".join(str(program.pid) for program in programs), trace) as recording:
        print(f"{len(programs)} × {COUNT} libraries: {time.monotonic() - start:.2f} s from start to recording")
        truths = {}
        for program in programs:
            program.go()
            truths[program.pid] = program.truth()
            program.wait_until_done()
        recording.stop()
        [tables] = [line for line in recording.lines.seen if line.startswith("unwind tables:")]
    return truths, report_of(trace), re.match(r"unwind tables: (.*) for (\d+) files", tables).groups()


def test_libraries_are_read_once_for_all_processes(libraries, tmp_path):
    """Each function of 120 libraries is exact in each of two processes, which share one table per file."""
    with Program("many_libraries", libraries, COUNT) as first:
        truths, report, tables = record([first], tmp_path / "one.parquet")
        assert not compare.differences(truths[first.pid], report)
        assert report["trace"]["stacks"]["stopped_in"] == []
        assert int(tables[1]) > COUNT

    with Program("many_libraries", libraries, COUNT) as first, Program("many_libraries", libraries, COUNT) as second:
        truths, report, together = record([first, second], tmp_path / "two.parquet")
        for pid, truth in truths.items():
            own = {**report, "stacks": [stack for stack in report["stacks"] if stack["pid"] == pid]}
            assert not compare.differences(truth, own)
            assert not compare.unexpected(truth, own)
        assert together == tables


LLVM = """
import ctypes, sys
files = {line.split()[-1] for line in open("/proc/self/maps") if "/libLLVM" in line}
assert not files, files
ctypes.CDLL(sys.argv[1])
"""


def llvm():
    """The file of LLVM's library that clang uses."""
    used = subprocess.run(["ldd", shutil.which("clang")], capture_output=True, text=True, check=True).stdout
    return re.search(r"=> (\S*/libLLVM\S*)", used)[1]


def forget(path):
    """Has the file read from the disk again."""
    with open(path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@pytest.mark.parametrize("opened_by", ["loader", "program", "program, from the disk"])
def test_large_libraries_have_room(opened_by, tmp_path):
    """LLVM has more than a million unwind rows, most programs a tenth of that or less: whether the loader maps it when the
    program starts, or the program itself opens it, stacks through it are whole, and those of its constructors. A thread
    that waits for the recorder must not keep the disk from being read: its CPU has work to do for that."""
    source = tmp_path / "empty.c"
    source.write_text("int main(void) { return 0; }\n")
    compile_it = ["clang", "-c", source, "-o", tmp_path / "empty.o"]
    command = compile_it if opened_by == "loader" else ["python3", "-c", LLVM, llvm()]
    if "disk" in opened_by:
        forget(llvm())
    recorded = Recorded(tmp_path / "trace.parquet", "--", *command)
    assert recorded.code == 0, recorded.said
    assert "no room" not in recorded.said
    report = recorded.report()
    assert not report["trace"]["defects"]["total"], report["trace"]["defects"]
    ends = {stop["end"] for stop in report["trace"]["stacks"]["stopped_in"]}
    assert ends <= {"too_deep"}, report["trace"]["stacks"]
    opened = [stack for stack in report["stacks"] if any("libLLVM" in (frame["module"] or "") for frame in stack["frames"])]
    assert opened, "nothing is held by LLVM"


OPENS = """
import ctypes, sys
print("ready", flush=True)
for line in sys.stdin:
    path, function = line.split()
    getattr(ctypes.CDLL(path), function)()
    print("opened", flush=True)
"""


def is_at_rest(pid):
    """Whether the process does nothing for a tenth of a second."""
    for _ in range(10):
        if state(pid) != "S":
            return False
        time.sleep(0.01)
    return True


def test_opened_while_the_recorder_is_stopped(libraries, tmp_path):
    """Who waits for the recorder while that is stopped goes on by itself, and its stacks say so; once it looks again, what
    is opened then is known in time."""
    program = subprocess.Popen(
        [debian_program("python3"), "-c", OPENS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )

    def open_next(number):
        program.stdin.write(f"{libraries}/lib{number}.so library_{number}_keeps\n")
        assert program.stdout.readline() == "opened\n"

    try:
        assert program.stdout.readline() == "ready\n"
        with Recording(program.pid, tmp_path / "trace.parquet") as recording:
            os.kill(recording.process.pid, signal.SIGSTOP)
            for number in range(5):
                open_next(number)
            os.kill(recording.process.pid, signal.SIGCONT)
            wait_until(lambda: is_at_rest(recording.process.pid), "the recorder does not come to rest")
            for number in range(5, 10):
                open_next(number)
            recording.stop()
    finally:
        program.kill()
        program.wait()
    report = report_of(tmp_path / "trace.parquet")
    assert report["trace"]["defects"]["by_cause"]["library opened, learnt too late"] == 5
    keeps = {f"library_{number}_keeps" for number in range(5, 10)}
    whole = {
        frame["function"]
        for stack in report["stacks"]
        if stack["end"] == "complete" and (stack["bytes"], stack["count"]) == (300, 3)
        for frame in stack["frames"][:1]
    }
    assert keeps <= whole
