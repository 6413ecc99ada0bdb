"""The traps of pairing, a program each: recorded for real, every site exact, not a byte besides.

The recordings are made four at a time: a recorder that detaches its probes mostly waits.
"""

import json
import os
import re
import shutil
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor

import compare
import pytest
from session import PATIENCE_S, PROGRAMS, Program, Recording, analyze, binary, build_programs, record_program, report_of

# Name of the test: program and arguments.
RECORDINGS = {
    "ranges": ["ranges"],
    "resizing": ["resizing"],
    "big_blocks": ["big_blocks"],
    "cxx_family": ["cxx_family"],
    "left_by_longjmp": ["left_by_longjmp"],
    "handlers": ["handlers"],
    "cancelled": ["cancelled"],
    "coroutines": ["coroutines"],
    "thread_stacks": ["thread_stacks"],
    "cache_teardown": ["cache_teardown"],
    "destructors": ["destructors"],
    "deep": ["deep"],
    "last_call": ["last_call"],
    "live_blocks": ["live_blocks"],
    "static": ["family_static"],
    "static_pie": ["family_static_pie"],
    "random_1": ["random_calls", 1],
    "random_2": ["random_calls", 2],
    "random_3": ["random_calls", 3],
    "random_4": ["random_calls", 4],
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Where the traces are."""
    return tmp_path_factory.mktemp("exact")


@pytest.fixture(scope="module")
def recorded(directory):
    """The recordings by name, each a future of (truth, report)."""
    build_programs()
    with ThreadPoolExecutor(4) as pool:
        yield {
            name: pool.submit(record_program, program, directory / f"{name}.parquet", *arguments)
            for name, (program, *arguments) in RECORDINGS.items()
        }


@pytest.mark.parametrize("name", RECORDINGS)
def test_every_site_is_exact(name, recorded):
    """Bytes and count of every site in every domain are the program's own; nothing lost, nothing guessed."""
    truth, report = recorded[name].result()
    assert not compare.inexact(truth, report)


def test_a_second_free_by_the_thread_cache_is_told_apart(recorded):
    """U7: what libc frees again when a thread ends is counted as freed already: no double free, no older block."""
    _, report = recorded["cache_teardown"].result()
    assert report["trace"]["anomalies"]["already_freed"] >= 20 * 5


def test_stacks_of_threads_are_labelled(recorded, directory):
    """U11: what pthread_create mapped is labelled, nothing else is; a thread that was not joined is among them."""
    _, report = recorded["thread_stacks"].result()
    labelled = [stack for stack in report["stacks"] if stack.get("label") == "thread stack"]
    assert labelled == [stack for stack in report["stacks"] if stack["domain"] == "mapping"] and labelled
    assert "; thread stack; " in analyze(directory / "thread_stacks.parquet")


def test_a_mapping_over_a_live_one_is_counted(recorded):
    """U10: the report says how often a mapping replaced (a part of) another."""
    _, report = recorded["ranges"].result()
    assert report["trace"]["anomalies"]["mappings_replaced"] == 2


def test_a_stack_that_is_too_deep_says_so(recorded):
    """More frames than are kept: the stack ends, the report says why, the figures stay exact."""
    _, report = recorded["deep"].result()
    ends = report["trace"]["stacks"]
    assert ends["incomplete"].get("too_deep", 0) > 200
    assert ends["complete"] + sum(ends["incomplete"].values()) == report["domains"]["heap"]["total_count"]


def test_the_call_before_the_return_address_is_named(recorded):
    """S5: a return address that is the next function's first byte belongs to the function that called."""
    _, report = recorded["last_call"].result()
    callers = {
        stack["frames"][1]["function"]: (stack["bytes"], stack["count"]) for stack in report["stacks"] if stack["count"]
    }
    assert callers == {"ends_with_the_call": (165, 5), "ends_with_a_call_too": (220, 5)}


@pytest.mark.parametrize("depth", [14, 17])
def test_every_stack_is_kept(depth, tmp_path):
    """16,384 and 131,072 distinct stacks, each taken twice: all of them are told, exact in sum."""
    trace = tmp_path / "trace.parquet"
    with Program("many_stacks", depth, 2) as program, Recording(program.pid, trace) as recording:
        program.go()
        truth = program.truth()["sites"][0]
        program.wait_until_done()
        recording.stop()
    shown = re.search(r"--top (\d+) shows all", analyze(trace, "--top", "1"))
    report = json.loads(analyze(trace, "--format", "json", "--top", "1"))  # whole, it has a gigabyte
    assert not compare.losses(report)
    heap = report["domains"]["heap"]
    assert (heap["bytes"], heap["count"]) == (truth["bytes"], truth["count"])
    assert report["trace"]["stacks"]["incomplete"] == {}
    assert int(shown[1]) == 2**depth


def test_a_million_live_blocks_take_bounded_memory(recorded, directory):
    """For 1.1 million blocks alive at once the analyzer takes less than 300 bytes a block, all in all."""
    recorded["live_blocks"].result()
    command = [str(binary("memleak-analyze")), "--top", "1", str(directory / "live_blocks.parquet")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    assert usage.ru_maxrss * 1024 < 1_100_000 * 300


@pytest.mark.parametrize("arguments, status", [([], -signal.SIGKILL), (["exit"], 0)])
def test_the_end_comes_while_threads_allocate(arguments, status, tmp_path):
    """U13: SIGKILL and exit() in the midst of other threads' calls: what was done counts to the byte, and of
    each of the three threads no more than the block it was at."""
    trace = tmp_path / "trace.parquet"
    with Program("killed", *arguments) as program, Recording(program.pid, trace) as recording:
        program.go()
        truth = program.truth()
        program.wait_until_done()
        os.kill(program.pid, signal.SIGUSR1 if arguments else signal.SIGKILL)
        recording.wait()
        assert program.process.wait(PATIENCE_S) == status
    report = report_of(trace)
    assert not compare.losses(report)
    assert not compare.differences(truth, report)
    byte_count, block_count = compare.outstanding_of(report, "never_done", "heap")
    assert block_count <= 3 and byte_count == 70 * block_count


def copied_program(directory):
    """The path of a copy of test_memleak in a new directory."""
    directory.mkdir(parents=True)
    copy = directory / "test_memleak"
    shutil.copy(PROGRAMS / "test_memleak", copy)
    return copy


def test_a_path_of_any_length_and_letters(tmp_path):
    """A program in a directory of more than 300 bytes with spaces, quotes and accents."""
    part = "a long \"name\" with 'quotes', (brackets) & ünïcödé – " + "x" * 60
    copy = copied_program(tmp_path / part / part / part)
    assert len(os.fsencode(copy)) > 300
    truth, report = record_program(copy, tmp_path / "trace.parquet")
    assert not compare.inexact(truth, report)


def test_a_deleted_program(tmp_path):
    """The executable is gone from the disk when the recorder comes: probes, stacks and names all the same."""
    copy = copied_program(tmp_path / "gone")
    trace = tmp_path / "trace.parquet"
    with Program(copy) as program:
        copy.unlink()
        with Recording(program.pid, trace) as recording:
            program.go()
            truth = program.truth()
            program.wait_until_done()
            recording.stop()
    assert not compare.inexact(truth, report_of(trace))
