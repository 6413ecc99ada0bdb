"""Programs of every class, recorded for real: the verdict is that of the class, and figures are exact."""

import pytest
from holding import record_together
from session import Program, build_programs

CLASSES = {
    "growing": ["leak", "slow_leak", "leak_in_churn", "late_leak", "burst_leak", "leak_after_start"]
    + ["slow_consumer", "growing_buffer"],
    "plateau": ["fill_and_stop", "lru", "half_filled_lru", "random_keys", "stopped_leak", "pool"],
    "static": ["start_up", "one_block"],
    "churn": ["batches", "short_lived"],
}
CLASS_OF = {behaviour: name for name, behaviours in CLASSES.items() for behaviour in behaviours}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Every behaviour at once in one trace: by behaviour, what the program says and its stack in the report."""
    build_programs()
    trace = tmp_path_factory.mktemp("verdicts") / "trace.parquet"
    programs, report = record_together(lambda behaviour: Program("verdicts", behaviour), CLASS_OF, trace)
    truths = {behaviour: program.truth()["sites"][0] for behaviour, program in programs.items()}
    stacks = {}
    for behaviour, program in programs.items():
        own = [stack for stack in report["stacks"] if stack["pid"] == program.pid]
        own = [stack for stack in own if stack["frames"] and stack["frames"][0]["function"] == "take"]
        # A program that makes a block larger takes the first one elsewhere.
        stacks[behaviour] = max(own, key=lambda stack: stack["total_count"])
    return truths, stacks


@pytest.mark.parametrize("behaviour", CLASS_OF)
def test_verdict(recorded, behaviour):
    """The verdict is that of the class, and the bytes it speaks of are the program's own."""
    truths, stacks = recorded
    stack = stacks[behaviour]
    assert stack["verdict"] == CLASS_OF[behaviour], stack["verdict_evidence"]
    assert (stack["bytes"], stack["count"]) == (truths[behaviour]["bytes"], truths[behaviour]["count"])


def test_evidence_of_the_slope(recorded):
    """A steady leak: slope times span is what was leaked, and nothing else speaks against it."""
    _, stacks = recorded
    leak = stacks["leak"]
    evidence = leak["verdict_evidence"]
    leaked = evidence["slope_bytes_per_second"] * evidence["span_ns"] / 1e9
    assert leaked == pytest.approx(leak["bytes"], rel=0.2)
    assert evidence["freed"] == 0 and evidence["reason"] == "rises"


def test_evidence_of_lifetimes(recorded):
    """A full cache: what lives is younger than twice what its freed siblings lived to."""
    _, stacks = recorded
    lru = stacks["lru"]
    evidence = lru["verdict_evidence"]
    assert evidence["freed"] == lru["total_count"] - lru["count"]
    assert evidence["survivors"] == 0
    assert lru["oldest_age_ns"] < 2 * evidence["lifetime_p99_ns"]
