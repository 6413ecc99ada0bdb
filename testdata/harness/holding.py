"""Programs that hold memory in a known way, recorded together; the stack of each that a verdict is asked about."""

import subprocess

import compare
from session import Recording, report_of


class Holder:
    """A program that waits for a line, says "done" when it has done what it is for, and ends with its input."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self.process.pid

    def go(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def wait_until_done(self):
        assert self.process.stdout.readline() == "done\n"


def recorded(start, names, trace, transient=()):
    """The stack of each program that `start(name)` starts. They share a recording and have to end together: who
    stopped long before its end would look like a leak that stopped. `transient`: names of those that hold nothing for long."""
    programs = {}
    try:
        for name in names:
            programs[name] = start(name)
        pids = ",".join(str(program.pid) for program in programs.values())
        with Recording(pids, trace) as recording:
            for program in programs.values():
                program.go()
            for program in programs.values():
                program.wait_until_done()
            recording.stop()
        report = report_of(trace)
        assert not compare.losses(report)
    finally:
        for program in programs.values():
            program.process.kill()
            program.process.wait()
    return {name: stack_of(program.pid, report, name in transient) for name, program in programs.items()}


def stack_of(pid, report, is_transient):
    """The stack that held the most at any moment; of what is never held for long, the one that allocated the most."""
    own = [stack for stack in report["stacks"] if stack["pid"] == pid and stack["domain"] == "heap"]
    if is_transient:
        return max(own, key=lambda stack: stack["total_bytes"])
    return max(own, key=lambda stack: max(point["bytes"] for point in stack["timeline"]))
