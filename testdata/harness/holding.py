"""Programs recorded together; of those that hold memory in a known way, the stack that a verdict is asked about."""

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


def record_together(start, names, trace, *options):
    """({name: program}, report) of one recording of programs that `start(name)` starts: they do their work at once, and are
    killed in the end."""
    programs = {}
    try:
        for name in names:
            programs[name] = start(name)
        pids = ",".join(str(program.pid) for program in programs.values())
        with Recording(pids, trace, *options) as recording:
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
    return programs, report


def recorded(start, names, trace, transient=()):
    """The stack of each program, recorded together. They have to end together, too: who stopped long before the end would
    look like a leak that stopped. `transient`: names of those that hold nothing for long."""
    programs, report = record_together(start, names, trace)
    return {name: stack_of(program.pid, report, name in transient) for name, program in programs.items()}


def stack_of(pid, report, is_transient):
    """The stack that held the most at any moment; of what is never held for long, the one that allocated the most."""
    own = [stack for stack in report["stacks"] if stack["pid"] == pid and stack["domain"] == "heap"]
    if is_transient:
        return max(own, key=lambda stack: stack["total_bytes"])
    return max(own, key=lambda stack: max(point["bytes"] for point in stack["timeline"]))
