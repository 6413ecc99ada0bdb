"""Commands that the recorder starts: recorded from their first instruction, undisturbed."""

import os
import signal
import subprocess

import compare
import pytest
from command import Recorded
from session import PATIENCE_S, PROGRAMS, Lines, as_root, binary, build_programs, report_of


@pytest.fixture(scope="module", autouse=True)
def built():
    build_programs()


def wrong(truth, report):
    return compare.differences(truth, report) + compare.unexpected(truth, report)


@pytest.mark.parametrize("program", ["start", "start_static"])
def test_everything_is_recorded(program, tmp_path):
    """A program that lives some milliseconds: what its constructor and its main allocate is exact, and
    its status is passed on."""
    recorded = Recorded(tmp_path / "trace.parquet", "--", PROGRAMS / program, 7)
    assert recorded.code == 7, recorded.said
    [truth] = recorded.truths()
    report = recorded.report()
    # A static program's libc allocates for itself before everything else: that is recorded, too.
    unexpected = [line for line in compare.unexpected(truth, report) if "__libc_init_first" not in line]
    assert not compare.differences(truth, report) + unexpected
    assert report["trace"]["complete"]
    [process] = report["trace"]["processes"]
    assert process["command"] == f"{PROGRAMS / program} 7"
    assert process["exit"] == 7
    assert any(line.startswith("recording") for line in recorded.said.splitlines())


def test_a_signal_is_passed_on(tmp_path):
    """A command that a signal ends gives 128 and the signal; -c is the same as --."""
    recorded = Recorded(tmp_path / "trace.parquet", "-c", f"{PROGRAMS / 'start'} {-signal.SIGKILL}")
    assert recorded.code == 128 + signal.SIGKILL, recorded.said
    [truth] = recorded.truths()
    assert not wrong(truth, recorded.report())
    assert "SIGKILL" in recorded.said


@pytest.mark.parametrize(("command", "code", "words"), [("no-such-program", 127, "no such program"), ("/etc", 126, "cannot be executed")])
def test_what_cannot_run_leaves_nothing(command, code, words, tmp_path):
    """As a shell says it, and without a trace."""
    trace = tmp_path / "trace.parquet"
    recorded = Recorded(trace, "--", command)
    assert (recorded.code, trace.exists()) == (code, False)
    assert words in recorded.said


def test_a_failed_recording_is_125(tmp_path):
    """The recorder's own failure is told from the command's, and the command does not run."""
    trace, mark = tmp_path / "trace.parquet", tmp_path / "mark"
    trace.write_text("old")
    recorded = Recorded(trace, "--", "touch", mark)
    assert recorded.code == 125 and "--force" in recorded.said
    assert not mark.exists() and trace.read_text() == "old"


def test_exec_goes_on_in_the_next_program(tmp_path):
    """`env` executes the program: its first instruction is recorded, too, and the old heap is gone."""
    recorded = Recorded(tmp_path / "trace.parquet", "--", "env", "A=b", PROGRAMS / "start")
    assert recorded.code == 0, recorded.said
    [truth] = recorded.truths()
    report = recorded.report()
    assert not wrong(truth, report)
    assert report["trace"]["processes"][0]["command"] == str(PROGRAMS / "start")


def test_a_signal_to_the_recorder_goes_to_the_command(tmp_path):
    """SIGTERM to the recorder ends the command, and the recording with it."""
    trace = tmp_path / "trace.parquet"
    command = [*as_root(), str(binary("memleak-record")), "-o", str(trace), "--", "sleep", "600"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        lines = Lines(process.stderr)
        lines.wait_for(lambda line: line.startswith("recording"), "memleak-record")
        subprocess.run([*as_root(), "kill", "-TERM", str(process.pid)], check=True)
        assert process.wait(PATIENCE_S) == 128 + signal.SIGTERM
    assert report_of(trace)["trace"]["complete"]


@pytest.mark.skipif(os.geteuid() != 0, reason="sudo's variables count for root only")
def test_it_runs_as_the_caller_of_sudo(tmp_path):
    """User, group and groups are the caller's, and so is the trace; HOME is not root's."""
    tmp_path.chmod(0o755)
    environment = {**os.environ, "SUDO_UID": "1", "SUDO_GID": "1"}
    trace = tmp_path / "trace.parquet"
    result = subprocess.run(
        [binary("memleak-record"), "-o", trace, "--", "sh", "-c", "id -u; id -g; id -G; echo $HOME"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert result.returncode == 0, result.stderr
    user, group, groups, home = result.stdout.splitlines()
    assert (user, group) == ("1", "1") and "0" not in groups.split() and home != "/root"
    assert trace.stat().st_uid == 1


def test_a_killed_recorder_lets_the_command_go(tmp_path):
    """SIGKILL while the command runs: it goes on."""
    trace = tmp_path / "trace.parquet"
    command = [str(binary("memleak-record")), "-o", str(trace), "--", "sh", "-c", "echo $$; sleep 1; echo went on"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        Lines(process.stderr).wait_for(lambda line: line.startswith("recording"), "memleak-record")
        output = Lines(process.stdout)
        output.wait_for(str.isdigit, "sh")
        process.kill()
        output.wait_for(lambda line: line == "went on", "sh")
