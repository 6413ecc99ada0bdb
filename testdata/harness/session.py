"""Starts test programs, records them by pid, analyzes the trace. Python's standard library only.

The binaries are found through MEMLEAK_RECORD and MEMLEAK_ANALYZE, else in target/release.
"""

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAMS = Path(os.environ.get("MEMLEAK_PROGRAMS", REPOSITORY / "target/programs"))
# Generous: a stuck step must end, and nothing is judged by how long it took.
PATIENCE_S = 120


def binary(name):
    """Path of memleak-record or memleak-analyze."""
    variable = name.upper().replace("-", "_")
    return Path(os.environ.get(variable, REPOSITORY / "target/release" / name))


def build_programs(target="all"):
    """Builds testdata/programs into PROGRAMS; `allocators` needs the packages of the tests."""
    subprocess.run(
        ["make", "--silent", "-C", str(REPOSITORY / "testdata/programs"), f"OUT={PROGRAMS}", target],
        check=True,
    )


def debian_program(name):
    """A program of the distribution, not one that happens to come first on the path."""
    path = shutil.which(name, path="/usr/bin:/bin")
    assert path, f"{name} is not installed: run make setup"
    return path


def state(pid):
    """The letter of /proc/PID/status: T is stopped."""
    with open(f"/proc/{pid}/status") as status:
        return next(line for line in status if line.startswith("State:")).split()[1]


def wait_until(holds, what):
    """Returns when `holds()` is true; fails with `what` if that does not come."""
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.002)


def as_root():
    """Words before a command that needs root."""
    return [] if os.geteuid() == 0 else ["sudo"]


class Lines:
    """Lines of a pipe, read by a thread so that waiting for one can time out and nobody blocks."""

    def __init__(self, stream):
        self.seen = []
        self._changed = threading.Condition()
        self._ended = False
        threading.Thread(target=self._read, args=(stream,), daemon=True).start()

    def _read(self, stream):
        for line in stream:
            with self._changed:
                self.seen.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait_for(self, wanted, what):
        """The first line, from now or before, for which wanted(line) holds."""

        def found():
            return self._ended or any(wanted(line) for line in self.seen)

        with self._changed:
            in_time = self._changed.wait_for(found, PATIENCE_S)
            for line in self.seen:
                if wanted(line):
                    return line
        why = "ended" if in_time else f"said nothing of it in {PATIENCE_S} s"
        raise RuntimeError(f"{what}: {why}; it said: " + " | ".join(self.seen[-20:]))

    def wait_for_end(self):
        with self._changed:
            self._changed.wait_for(lambda: self._ended, PATIENCE_S)


class Program:
    """A program of testdata/programs; see truth.h for what it says and waits for."""

    def __init__(self, name, *arguments, preload=None):
        self.name = name
        environment = {**os.environ, "LD_PRELOAD": preload} if preload else None
        self.process = subprocess.Popen(
            [str(PROGRAMS / name), *map(str, arguments)], stdout=subprocess.PIPE, text=True, env=environment
        )
        self.pid = self.process.pid
        self.lines = Lines(self.process.stdout)
        self.lines.wait_for(lambda line: line == "ready", name)

    def go(self):
        self.process.send_signal(signal.SIGUSR1)

    def truth(self):
        """What the program says of itself: {"program": …, "sites": […]}."""
        line = self.lines.wait_for(lambda line: '"sites"' in line, self.name)
        return json.loads(line)

    def wait_until_done(self):
        self.lines.wait_for(lambda line: line == "done", self.name)

    def end(self):
        """Ends it; returns its exit status."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(PATIENCE_S)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class Recording:
    """memleak-record on a pid; entered when every probe is on."""

    def __init__(self, pid, trace, *options):
        self.trace = Path(trace)
        command = [*as_root(), str(binary("memleak-record")), "-p", str(pid), "-o", str(trace), *options]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.lines = Lines(self.process.stderr)
        self.lines.wait_for(lambda line: line.startswith("recording"), "memleak-record")

    def stop(self):
        """Ctrl-C; returns when the trace is finished. Fails unless the recorder exits with 0."""
        subprocess.run([*as_root(), "kill", "-INT", str(self.process.pid)], check=True)
        self.wait()

    def wait(self):
        """Returns when the recorder ended by itself, as it does with its target."""
        status = self.process.wait(PATIENCE_S)
        self.lines.wait_for_end()
        if status != 0:
            raise RuntimeError(f"memleak-record: exit {status}; it said: " + " | ".join(self.lines.seen[-20:]))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            subprocess.run([*as_root(), "kill", "-INT", str(self.process.pid)], check=False)
            try:
                self.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                subprocess.run([*as_root(), "kill", "-KILL", str(self.process.pid)], check=False)
                self.process.wait()


def analyze(trace, *options):
    """memleak-analyze's standard output."""
    return analyze_all([trace], *options)


def analyze_all(traces, *options):
    """The same on several traces at once."""
    command = [str(binary("memleak-analyze")), *options, *map(str, traces)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    if result.returncode != 0:
        raise RuntimeError(f"memleak-analyze: exit {result.returncode}: {result.stderr.strip()}")
    return result.stdout


def report_of(trace):
    """The JSON report, as an object."""
    return json_report(trace)


def json_report(*traces):
    """The JSON report on the parts of a recording."""
    return json.loads(analyze_all(traces, "--format", "json"))


def record_program(name, trace, *arguments, preload=None, options=()):
    """Runs a program of testdata/programs under the recorder. Returns (truth, report)."""
    with Program(name, *arguments, preload=preload) as program, Recording(program.pid, trace, *options) as recording:
        program.go()
        truth = program.truth()
        if name == "exit_soon":
            recording.wait()
        else:
            program.wait_until_done()
            recording.stop()
        status = program.end()
    if status not in (0, -signal.SIGTERM):
        raise RuntimeError(f"{name}: exit {status}: recording must not disturb it")
    return truth, report_of(trace)
