"""Debian's redis-server (jemalloc) under redis-benchmark: what it holds, against what it says it holds."""

import subprocess
import time

import compare
import pytest
from session import PATIENCE_S, Recording, debian_program, report_of


class Redis:
    """Debian's redis-server with an empty database, behind a socket in a directory."""

    def __init__(self, directory):
        self.socket = str(directory / "redis.sock")
        options = ["--port", "0", "--unixsocket", self.socket, "--save", "", "--dir", str(directory)]
        self.server = subprocess.Popen([debian_program("redis-server"), *options], stdout=subprocess.DEVNULL)

    def __enter__(self):
        deadline = time.monotonic() + PATIENCE_S
        while self.ask("ping") != "PONG":
            assert time.monotonic() < deadline and self.server.poll() is None, "redis-server does not answer"
            time.sleep(0.05)
        return self

    def __exit__(self, *_):
        self.server.kill()
        self.server.wait()

    def ask(self, *words):
        command = [debian_program("redis-cli"), "-s", self.socket, *words]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()

    def load(self, requests, keys):
        """Sets random ones of as many keys, from fifty clients."""
        command = [debian_program("redis-benchmark"), "-s", self.socket, "-q", "-t", "set"]
        subprocess.run([*command, "-n", str(requests), "-r", str(keys)], check=True, stdout=subprocess.DEVNULL)


def test_redis_under_its_benchmark(tmp_path):
    """A key of redis (jemalloc) is a name and an entry, both allocated below dbAdd: as many as it says it has."""
    trace = tmp_path / "trace.parquet"
    with Redis(tmp_path) as redis:
        with Recording(redis.server.pid, trace) as recording:
            redis.load(20_000, 15_000)
            size = int(redis.ask("dbsize"))
            recording.stop()
    assert size > 10_000
    report = report_of(trace)
    assert not compare.losses(report)
    counts = {"sdsnewlen": 0, "dictAddRaw": 0}
    for stack in report["stacks"]:
        names = [frame["function"] or "" for frame in stack["frames"]]
        if stack["domain"] == "heap" and "dbAdd" in names:
            below = names[: names.index("dbAdd")]
            kind = next((kind for kind in counts if any(kind in name for name in below)), None)
            assert kind, names
            counts[kind] += stack["count"]
    assert counts["sdsnewlen"] == pytest.approx(size, rel=0.01)
    assert counts["dictAddRaw"] == pytest.approx(size, rel=0.01)
