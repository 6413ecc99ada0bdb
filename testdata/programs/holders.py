"""holders.py BEHAVIOUR: holds memory in one known way, as programs do, over 6,000 steps of a millisecond.

Waits for a line on standard input, says "done" after the last step, and ends at the end of its input. A step is
counted, not timed: on a busy machine the same things happen, later. The blocks that matter are bytearrays,
which come from malloc; harness/test_verdicts_held_out.py knows the class of each behaviour.
"""

import functools
import math
import random
import sqlite3
import sys
import time
from collections import deque

STEPS = 6000
PAUSE_S = 0.001


def unbounded_dict(seen={}):
    """A dictionary that gets a key for every request and never loses one."""
    for step in steps():
        if step % 3 == 0:
            seen[step] = bytearray(800)


def list_append():
    """One list that gets longer: a buffer that is reallocated by an eighth each time."""
    rows = []
    for _ in steps():
        rows.extend([None] * 50)


def doubling_buffer():
    """A buffer that gets 200 bytes at a time, and one of twice its size when it is full."""
    buffer, used = bytearray(1024), 0
    for _ in steps():
        used += 200
        if used > len(buffer):
            buffer = bytearray(2 * len(buffer))


def hash_table():
    """A dictionary of small keys: its table is replaced by one of twice the size when it is two thirds full."""
    seen = {}
    for step in steps():
        seen[2 * step] = seen[2 * step + 1] = None


def uneven_waves_with_leak():
    """Five waves and a half of uneven height, and a block in twenty steps that is never freed."""
    live, lost = [], []
    for step in steps():
        wave = math.sin(step / STEPS * 11 * math.pi) + 0.4 * math.sin(step / STEPS * 5 * math.pi)
        while len(live) < 250 + 100 * wave:
            live.append(bytearray(700))
        live.pop(random.randrange(len(live)))
        if step % 20 == 0:
            lost.append(bytearray(700))


def sawtooth_with_leak():
    """Batches of a hundred, freed together but for two."""
    batch, lost = [], []
    for step in steps():
        if step % 3 == 0:
            batch.append(bytearray(700))
        if len(batch) == 100:
            lost += batch[:2]
            batch = []


def waves(leak_every=None):
    """A load that rises and falls, four waves in all."""
    live, lost = [], []
    for step in steps():
        wanted = 200 + 150 * math.sin(step / STEPS * 8 * math.pi)
        while len(live) < wanted:
            live.append(bytearray(700))
        if len(live) > wanted + 5 or step % 4 == 0:
            live.pop(random.randrange(len(live)))
        if leak_every and step % leak_every == 0:
            lost.append(bytearray(700))


def waves_with_leak():
    """The same, with a block in twenty-five steps that is never freed."""
    waves(25)


def late_leak():
    """A cache of 100 blocks all the time; from 70 % on a block in three steps is lost too."""
    live, lost = deque(maxlen=100), []
    for step in steps():
        live.append(bytearray(700))
        if step > STEPS * 0.7 and step % 3 == 0:
            lost.append(bytearray(700))


def lost_sessions():
    """Sessions that end after 300 steps, but for one in twenty whose end is missed."""
    sessions = {}
    for step in steps():
        sessions[step] = bytearray(600)
        if (step - 300) % 20:
            sessions.pop(step - 300, None)


def sqlite_growing():
    """A table in memory that gets rows and never loses one."""
    table = sqlite3.connect(":memory:")
    table.execute("create table t(b text)")
    for step in steps():
        table.execute("insert into t values (?)", ("x" * 700,))


def lru_cache():
    """functools.lru_cache of 300 results for 2,000 different questions."""

    @functools.lru_cache(maxsize=300)
    def answer(question):
        return bytearray(900)

    for _ in steps():
        answer(random.randrange(2000))


def ring():
    """The last 500 messages."""
    last = deque(maxlen=500)
    for _ in steps():
        last.append(bytearray(1000))


def expiring():
    """Sessions that all end after 1,000 steps."""
    sessions = {}
    for step in steps():
        sessions[step] = bytearray(600)
        sessions.pop(step - 1000, None)


def slow_pool():
    """Forty connections; one breaks every 50 steps and is replaced 150 steps later."""
    pool, missing = [], deque()
    for step in steps():
        if step < 800 and step % 20 == 0:
            pool.append(bytearray(20000))
        if step >= 800 and step % 50 == 0:
            pool.pop(random.randrange(len(pool)))
            missing.append(step + 150)
        while missing and missing[0] <= step:
            missing.popleft()
            pool.append(bytearray(20000))


def sqlite_cleared():
    """A table in memory that is emptied every 1,500 rows: sqlite keeps the pages for the next ones."""
    table = sqlite3.connect(":memory:")
    table.execute("create table t(b text)")
    for step in steps():
        table.execute("insert into t values (?)", ("x" * 700,))
        if step % 1500 == 1499:
            table.commit()
            table.execute("delete from t")


def table_at_start():
    """A table made at the start, and requests that need short-lived memory of another kind."""
    table = []
    for step in steps():
        if step == 0:
            table = [b"%d" % number * 400 for number in range(1500)]
        bytearray(3000)


def uneven_waves():
    """Five waves and a half of uneven height."""
    live = []
    for step in steps():
        wave = math.sin(step / STEPS * 11 * math.pi) + 0.4 * math.sin(step / STEPS * 5 * math.pi)
        while len(live) < 250 + 100 * wave:
            live.append(bytearray(700))
        live.pop(random.randrange(len(live)))


def reloads():
    """A configuration that is read anew four times: the new one is there before the old one is forgotten."""
    held = []
    for step in steps():
        if step in (0, 900, 2100, 3900, 5200):
            held = [bytearray(2000 + random.randrange(500)) for _ in range(200)]
    assert held


def log_rotation():
    """Lines are kept until there are 400, then written and forgotten."""
    lines = []
    for _ in steps():
        lines.append(bytearray(600))
        if len(lines) == 400:
            lines.clear()


def requests():
    """What a request needs is gone when it is answered."""
    for _ in steps():
        needed = [bytearray(5000) for _ in range(random.randrange(1, 6))]
        del needed


def steps():
    """Every step; after the last one the behaviour waits, with all that it holds."""
    sys.stdin.readline()
    for step in range(STEPS):
        yield step
        time.sleep(PAUSE_S)
    print("done", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    behaviour = globals()[sys.argv[1]]
    random.seed(1)
    behaviour()
