"""Verdicts on programs that the rules were not made with: Python, sqlite and redis holding memory as they do.

The classes follow from what each program does, and were written down before it was recorded. `docs/verdicts.md`
says which rules were changed after a failure here: those programs are no longer held out.
"""

import socket
import subprocess
import threading
import time

import pytest
from holding import Holder, recorded
from session import PATIENCE_S, REPOSITORY, debian_program

CLASSES = {
    "growing": ["unbounded_dict", "list_append", "doubling_buffer", "sawtooth_with_leak", "waves_with_leak"]
    + ["late_leak", "lost_sessions", "sqlite_growing", "redis_unbounded", "hash_table", "uneven_waves_with_leak"],
    "plateau": ["lru_cache", "ring", "expiring", "slow_pool", "waves", "sqlite_cleared", "redis_lru", "uneven_waves", "reloads"],
    "static": ["table_at_start"],
    "churn": ["log_rotation", "requests"],
}
CLASS_OF = {behaviour: name for name, behaviours in CLASSES.items() for behaviour in behaviours}
#: Its load falls to a seventh, which is just what counts as nothing.
ALSO_RIGHT = {"waves": "churn"}
REDIS = {"redis_unbounded": [], "redis_lru": ["--maxmemory", "2mb", "--maxmemory-policy", "allkeys-lru"]}
STEPS = 3000


class Redis:
    """redis-server, and a client that sets two new keys every millisecond."""

    def __init__(self, options, directory):
        self.path = directory / "redis"
        command = [debian_program("redis-server"), "--port", "0", "--unixsocket", str(self.path), "--save", "", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=directory)
        self.pid = self.process.pid
        self.client = threading.Thread(target=self.load)
        self.failure = None
        self.connection = self.connect()

    def connect(self):
        end = time.monotonic() + PATIENCE_S
        while True:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(str(self.path))
                return connection
            except OSError:
                connection.close()
                assert time.monotonic() < end, "redis-server does not listen"
                time.sleep(0.05)

    def load(self):
        replies = self.connection.makefile("rb")
        for step in range(STEPS):
            keys = [b"SET key:%d:%d %s\r\n" % (step, number, b"v" * 400) for number in range(2)]
            self.connection.sendall(b"".join(keys))
            for reply in [replies.readline() for _ in keys]:
                self.failure = self.failure or (None if reply == b"+OK\r\n" else reply)
            time.sleep(0.001)

    def go(self):
        self.client.start()

    def wait_until_done(self):
        self.client.join()
        assert self.failure is None


@pytest.fixture(scope="module")
def stacks(tmp_path_factory):
    """By behaviour, the stack that is asked about."""
    directory = tmp_path_factory.mktemp("held_out")

    def start(behaviour):
        if behaviour in REDIS:
            return Redis(REDIS[behaviour], directory)
        program = REPOSITORY / "testdata/programs/holders.py"
        return Holder([debian_program("python3"), "-S", str(program), behaviour])

    found = {}
    for behaviours in ([name for name in CLASS_OF if name not in REDIS], *([name] for name in REDIS)):
        found |= recorded(start, behaviours, directory / f"{behaviours[0]}.parquet", ["requests"])
    return found


@pytest.mark.parametrize("behaviour", CLASS_OF)
def test_verdict(stacks, behaviour):
    """The verdict is the class that follows from what the program does."""
    stack = stacks[behaviour]
    assert stack["verdict"] in (CLASS_OF[behaviour], ALSO_RIGHT.get(behaviour)), stack["verdict_evidence"]
