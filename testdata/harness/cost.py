"""What the recorder itself costs: its processor time, its memory, and bytes per event, in one run.

    python3 testdata/harness/cost.py          as root, after `make build programs`; about a minute

Each row is a program recorded for some seconds. The floor is a program that only burns processor time, measured in
the same run for the same time beside the same target: how much of a core a thread gets on this machine.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from session import PROGRAMS, Program, Recording, build_programs, report_of

SECONDS = 8
TICKS = os.sysconf("SC_CLK_TCK")
MIB = 1 << 20
RING = 64 * MIB
# python3 as people use it: containers, text, JSON, regular expressions; malloc sees every object.
PYTHON = """
import collections, json, random, re, sys
print("ready", flush=True)
sys.stdin.readline()
def tree(depth):
    return [random.random() for _ in range(5)] if depth == 0 else {str(i): tree(depth - 1) for i in range(4)}
kept = collections.deque(maxlen=100)
while True:
    text = json.dumps(tree(4))
    json.loads(text)
    kept.append(collections.Counter(re.findall(r"\\d+", text)).most_common(20))
    sorted(word * 2 for word in text.split())
"""


class Python:
    """python3 without its own pools, so that every object is an allocation."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-c", PYTHON],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONMALLOC": "malloc"},
        )
        self.pid = self.process.pid
        self.process.stdout.readline()

    def go(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def cpu_seconds(pid):
    """Processor time of a process, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory(pid):
    """Bytes of a process: its proportional share of what is shared. The ring is mapped twice and counts once
    in it; it is left out, for the ring is another figure."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    pss = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) * 1024
    return pss - RING


def recorder_of(recording):
    """The recorder's pid, also behind sudo."""
    return recording.process.pid


def burned(seconds):
    """The share of a core that a busy loop gets in this time."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        time.sleep(0.2)
        before = cpu_seconds(busy.pid)
        time.sleep(seconds)
        share = (cpu_seconds(busy.pid) - before) / seconds
        busy.kill()
    return share


def measure(name, target, directory):
    """Records a target; prints a row."""
    trace = directory / f"{name}.parquet"
    with target, Recording(target.pid, trace) as recording:
        target.go()
        time.sleep(1)
        pid = recorder_of(recording)
        start, before = time.monotonic(), cpu_seconds(pid)
        largest = 0
        for _ in range(SECONDS):
            time.sleep(1)
            largest = max(largest, memory(pid))
        took, used = time.monotonic() - start, cpu_seconds(pid) - before
        floor = burned(1)
        recording.stop()
    report = report_of(trace)
    events, duration = report["trace"]["events"], report["trace"]["duration_ns"] / 1e9
    row = {
        "target": name,
        "events": events,
        "events_per_s": round(events / duration),
        "lost": report["trace"]["lost"]["total"],
        "recorder_core_percent": round(100 * used / took, 1),
        "ns_per_event": round(1e9 * used / took / (events / duration)),
        "busy_loop_core_percent": round(100 * floor, 1),
        "memory_beside_ring_mib": round(largest / MIB, 1),
        "bytes_per_event": round(trace.stat().st_size / events, 2),
    }
    print(json.dumps(row), flush=True)
    trace.unlink()


def main():
    if os.geteuid() != 0:
        sys.exit("cost.py measures the recorder by its pid: run it as root")
    if not PROGRAMS.exists():
        build_programs()
    with tempfile.TemporaryDirectory() as directory:
        directory = Path(directory)
        measure("churn, 500,000 events a second", Program("churn", 9, 0, 250_000), directory)
        measure("stress, 1,000 blocks", Program("stress", 1_000, 0, 0), directory)
        measure("stress, 10,000 blocks", Program("stress", 10_000, 0, 0), directory)
        measure("python3", Python(), directory)


if __name__ == "__main__":
    main()
