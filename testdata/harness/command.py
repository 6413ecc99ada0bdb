"""Starts a program by memleak-record -- PROGRAM, and reads what both said."""

import json
import subprocess

from session import PATIENCE_S, as_root, binary, report_of


class Recorded:
    """A command that was recorded to its end: exit code, words, and the report."""

    def __init__(self, trace, *command, options=()):
        self.trace = trace
        self.result = subprocess.run(
            [*as_root(), str(binary("memleak-record")), "-o", str(trace), *options, *map(str, command)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )

    @property
    def code(self):
        return self.result.returncode

    @property
    def said(self):
        """What the recorder said, and the command on its standard error."""
        return self.result.stderr

    def report(self):
        assert self.trace.exists(), self.said
        return report_of(self.trace)

    def truths(self):
        """What the programs said of themselves, in the order in which they did."""
        return [json.loads(line) for line in self.result.stdout.splitlines() if '"sites"' in line]
