"""Any program under the preloaded counter (programs/counter.c): held, let go, frozen, counted."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

from session import PATIENCE_S, PROGRAMS


class Counted:
    """Entered when the program is held before its main: attach now, then go()."""

    def __init__(self, command, figures, output=None, environment=None):
        self.figures_path = Path(figures)
        self.output = Path(output) if output else Path(os.devnull)
        self.ready_path = Path(f"{figures}.ready")
        for path in (self.figures_path, self.ready_path):
            path.unlink(missing_ok=True)
        environment = os.environ | (environment or {}) | {
            "LD_PRELOAD": str(PROGRAMS / "libcounter.so"),
            "MEMLEAK_COUNTER": str(self.figures_path),
        }
        with self.output.open("wb") as out:
            self.process = subprocess.Popen(
                list(map(str, command)), env=environment, stdin=subprocess.DEVNULL, stdout=out
            )
        self.pid = self.process.pid
        self._wait_for(self.ready_path.exists, "to be held")

    def _wait_for(self, condition, what):
        end = time.monotonic() + PATIENCE_S
        while not condition():
            if self.process.poll() is not None and not condition():
                raise RuntimeError(f"{self.process.args}: exit {self.process.returncode} while waiting {what}")
            if time.monotonic() > end:
                raise RuntimeError(f"{self.process.args}: waited {PATIENCE_S} s {what}")
            time.sleep(0.01)

    def signal(self, number):
        self.process.send_signal(number)

    def go(self):
        """From here on it is counted."""
        self.signal(signal.SIGUSR1)

    def wait_for_output(self, text):
        self._wait_for(lambda: text in self.output.read_text(errors="replace"), f"for {text!r} in its output")

    def wait_until_frozen(self):
        """The program came to its end, or sent itself SIGUSR2: the figures, while it stands still."""
        self._wait_for(self.figures_path.exists, "for its figures")
        return json.loads(self.figures_path.read_text())

    def freeze(self):
        """Stops it where it is, best in a quiet moment: the figures, while it stands still."""
        self.signal(signal.SIGUSR2)
        return self.wait_until_frozen()

    def end(self):
        """Lets a frozen program run to its end; returns its exit status."""
        self.signal(signal.SIGUSR1)
        return self.process.wait(PATIENCE_S)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
