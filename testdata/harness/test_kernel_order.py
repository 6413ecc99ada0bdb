"""The kernel's events stand in the trace in the order in which they were, whatever CPUs they were on."""

import os
from collections import Counter

import polars
import pytest
from session import Program, Recording, build_programs, report_of

MESSAGES = 50_000
# Buffers of 64 slots, the least there are.
LEAST_RING = "4096"


@pytest.fixture(scope="module", autouse=True)
def built():
    assert len(os.sched_getaffinity(0)) >= 2, "needs two CPUs, so that one frees what the other allocates"
    build_programs()


FREES = ["kmem_cache_free", "kfree"]


def recorded(trace, *options):
    """The slab events of the program, in the trace's order, and the losses by cause."""
    with Program("messages", MESSAGES) as program, Recording(program.pid, trace, *options) as recording:
        program.go()
        program.wait_until_done()
        recording.stop()
    rows = polars.read_parquet(trace, columns=["op", "tid", "addr", "cache"])
    slab = rows.filter(polars.col("op").is_in(["kmalloc", "kmem_cache_alloc", *FREES]))
    return slab, report_of(trace)["trace"]["lost"]["by_cause"]


def of_messages(slab):
    """Those on the messages' own objects: (tid, address, whether it is a free)."""
    mine = slab.filter(polars.col("cache").str.starts_with("skbuff")).select("addr").unique()
    events = slab.join(mine, on="addr", maintain_order="left").select("op", "tid", "addr")
    return [(tid, addr, op in FREES) for op, tid, addr in events.iter_rows()]


def mistakes(events):
    """How many frees are of what does not live, and how many allocations of what does."""
    live = set()
    wrong = Counter()
    for _, addr, is_free in events:
        if is_free == (addr not in live):
            wrong["free" if is_free else "alloc"] += 1
        (live.discard if is_free else live.add)(addr)
    return wrong


@pytest.mark.parametrize("mode", ["--kernel", "--with-kernel"])
def test_across_cpus(mode, tmp_path):
    """Objects that one CPU allocates and another frees: no free stands before its allocation, no address lives twice."""
    slab, by_cause = recorded(tmp_path / "trace.parquet", mode)
    events, lost = of_messages(slab), sum(by_cause.values())
    assert all(cause.startswith("interrupted probe") for cause in by_cause), by_cause
    assert len(events) >= 2 * 2 * MESSAGES - lost
    assert sum(mistakes(events).values()) <= lost
    # Whether this could fail: thread by thread the same events are wrong.
    assert sum(mistakes(sorted(events, key=lambda event: event[0])).values()) > MESSAGES


def test_full_buffers(tmp_path):
    """Where the buffers are far too small, every event is in the trace or in the ledger, allocations and frees apart."""

    def totals(name, *options):
        slab, by_cause = recorded(tmp_path / name, "--kernel", *options)
        frees = slab.filter(polars.col("op").is_in(FREES)).height
        told = {"allocation": slab.height - frees, "release": frees}
        lost = {kind: sum(count for cause, count in by_cause.items() if cause.endswith(kind)) for kind in told}
        return told, lost

    told, lost = totals("few.parquet", "--ring-size", LEAST_RING)
    whole, none = totals("all.parquet")
    for kind in told:
        assert lost[kind] > MESSAGES / 10 > none[kind]
        # The program makes few other objects, but not always as many.
        assert abs(told[kind] + lost[kind] - whole[kind] - none[kind]) < MESSAGES / 100, (kind, told, lost, whole, none)
