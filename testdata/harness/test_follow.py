"""--follow: every process that begins is recorded from its first instruction, and counted once."""

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import compare
import pytest
from command import Recorded
from session import PATIENCE_S, PROGRAMS, Lines, Program, Recording, binary, build_programs, report_of, state, wait_until

FOLLOW = ("--follow",)


@pytest.fixture(scope="module", autouse=True)
def built():
    build_programs()


def wrong(truths, report):
    """Sentences about each process whose figures are not exact. A process tells its pid as its name."""
    sentences = compare.losses(report)
    for truth in truths:
        own = {**report, "stacks": [stack for stack in report["stacks"] if stack["pid"] == int(truth["program"])]}
        for line in compare.differences(truth, own):
            sentences.append(f"process {truth['program']}: {line}")
    known = {site["function"] for truth in truths for site in truth["sites"]}
    everything = {"sites": [{"function": function} for function in known]}
    return sentences + compare.unexpected(everything, report)


def follow(mode, trace):
    """Records a mode of `follow` from its start. Returns the truths, the report, and what was said."""
    recorded = Recorded(trace, "--", PROGRAMS / "follow", mode, options=FOLLOW)
    assert recorded.code == 0, recorded.said
    return recorded.truths(), recorded.report(), recorded.said


def anomalies(report):
    """Those that a sound trace of these programs has none of."""
    found = report["trace"]["anomalies"]
    return {name: found[name] for name in ("free_before_attach", "already_freed", "implicit_frees")}


NONE = {"free_before_attach": 0, "already_freed": 0, "implicit_frees": 0}


def test_a_forked_child(tmp_path):
    """Its own blocks are its own; those it inherited are the parent's, whoever frees a copy."""
    truths, report, _ = follow("fork", tmp_path / "trace.parquet")
    assert len(truths) == 2
    assert not wrong(truths, report)
    assert anomalies(report) == NONE and report["trace"]["inherited_frees"] == 2


def test_a_vfork_child_is_its_parent_until_it_executes(tmp_path):
    """What it allocates before is in the parent's memory; the leaf is a process of its own."""
    truths, report, _ = follow("vfork", tmp_path / "trace.parquet")
    assert len(truths) == 2
    assert not wrong(truths, report)
    assert anomalies(report) == NONE


@pytest.mark.parametrize("mode", ["chain", "thread"])
def test_exec(mode, tmp_path):
    """Each exec ends a heap, whichever thread calls it; what the last program holds is exact."""
    truths, report, _ = follow(mode, tmp_path / "trace.parquet")
    assert len(truths) == 1
    assert not wrong(truths, report)


def test_a_thread_executes_without_follow(tmp_path):
    """The probes hang on a thread that is gone then: they are put on again before the program runs."""
    recorded = Recorded(tmp_path / "trace.parquet", "--", PROGRAMS / "follow", "thread")
    assert recorded.code == 0, recorded.said
    assert not wrong(recorded.truths(), recorded.report())


@pytest.mark.parametrize(("mode", "children"), [("prefork", 50), ("many", 20)])
def test_many_children(mode, children, tmp_path):
    """A server with fifty workers at once, and twenty children one after the other: every site of
    every process is exact, and the screen says that the probes fire everywhere."""
    truths, report, said = follow(mode, tmp_path / "trace.parquet")
    assert len(truths) == children + 1
    assert not wrong(truths, report)
    assert anomalies(report) == NONE and report["trace"]["inherited_frees"] == 2 * children
    assert "fire in every process" in said


def test_a_running_process_is_followed(tmp_path):
    """-p with --follow; the recording ends with the last process."""
    trace = tmp_path / "trace.parquet"
    with Program("follow", "fork", "wait") as program, Recording(program.pid, trace, *FOLLOW) as recording:
        program.go()
        recording.wait()
        program.process.wait()
        program.lines.wait_for_end()
        lines = [line for line in program.lines.seen if '"sites"' in line]
    truths = [json.loads(line) for line in lines]
    assert len(truths) == 2
    assert not wrong(truths, report_of(trace))


def test_the_watchdog_continues_a_held_child(tmp_path):
    """The recorder is killed while a child waits for its probes: the child goes on and ends well."""
    trace = tmp_path / "trace.parquet"
    with Program("follow", "fork", "wait") as program, Recording(program.pid, trace, *FOLLOW) as recording:
        os.kill(recording.process.pid, signal.SIGSTOP)
        program.go()
        children = Path(f"/proc/{program.pid}/task/{program.pid}/children")
        wait_until(lambda: any(state(pid) == "T" for pid in children.read_text().split()), "no child was held")
        recording.process.kill()
        assert program.process.wait(PATIENCE_S) == 0


def test_children_that_are_not_followed(tmp_path):
    """Without --follow a child's events are not its parent's, and the parent stays exact."""
    recorded = Recorded(tmp_path / "trace.parquet", "--", PROGRAMS / "follow", "fork")
    report = recorded.report()
    parents = [truth for truth in recorded.truths() if truth["sites"][0]["function"] == "parent_keeps"]
    assert not wrong(parents, report)
    assert len(report["trace"]["processes"]) == 1 and anomalies(report) == NONE


def test_a_followed_trace_is_sound(tmp_path):
    """memleak-analyze verify finds nothing wrong in a trace with fork, vfork, exec and exit."""
    trace = tmp_path / "trace.parquet"
    recorded = Recorded(trace, "--", "sh", "-c", "ls / | sort | head -1; ls /tmp > /dev/null; exit 3", options=FOLLOW)
    assert recorded.code == 3, recorded.said
    assert recorded.result.stdout.strip()
    result = subprocess.run([binary("memleak-analyze"), "verify", trace], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def root_with(program, root):
    """A root directory that has a program and its libraries, and nothing else."""
    (root / "bin").mkdir(parents=True)
    shutil.copy(PROGRAMS / program, root / "bin")
    libraries = subprocess.run(["ldd", PROGRAMS / program], capture_output=True, text=True, check=True).stdout
    for word in libraries.split():
        if word.startswith("/"):
            copy = root / word.lstrip("/")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(word, copy)
    return root


def in_container(root):
    """Words before a command that runs in other namespaces, below another root."""
    return ["unshare", "--mount", "--pid", "--fork", "--kill-child", f"--root={root}"]


def test_a_container(tmp_path):
    """Other namespaces and another root: the program's files are found through it, and the pids are
    those that the recorder's caller sees."""
    command = [*in_container(root_with("start", tmp_path / "root")), "/bin/start", "5"]
    recorded = Recorded(tmp_path / "trace.parquet", "--", *command, options=FOLLOW)
    assert recorded.code == 5, recorded.said
    [truth] = recorded.truths()
    report = recorded.report()
    inner = [process for process in report["trace"]["processes"] if process["command"] == "/bin/start 5"]
    assert len(inner) == 1 and inner[0]["pid"] > 1
    own = {**report, "stacks": [stack for stack in report["stacks"] if stack["pid"] == inner[0]["pid"]]}
    assert not compare.differences(truth, own)


@pytest.mark.skipif(os.geteuid() != 0, reason="a container needs root")
def test_a_process_in_a_container(tmp_path):
    """The same of one that runs already, by the pid that the caller sees: inside, it is process 1."""
    command = [*in_container(root_with("family", tmp_path / "root")), "/bin/family"]
    trace = tmp_path / "trace.parquet"
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as outer:
        try:
            lines = Lines(outer.stdout)
            lines.wait_for(lambda line: line == "ready", "family")
            [pid] = map(int, Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split())
            with Recording(pid, trace) as recording:
                os.kill(pid, signal.SIGUSR1)
                truth = json.loads(lines.wait_for(lambda line: '"sites"' in line, "family"))
                lines.wait_for(lambda line: line == "done", "family")
                recording.stop()
        finally:
            outer.kill()
    report = report_of(trace)
    assert not compare.inexact(truth, report)
    assert {stack["pid"] for stack in report["stacks"]} == {pid}
