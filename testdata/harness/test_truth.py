"""The programs' own figures against the preloaded counter: two ways of counting, no recorder."""

import json
import signal

import pytest
from counted import Counted
from session import PROGRAMS, build_programs

COUNTED = ["test_memleak", "family", "patterns", "failing", "churn", "swap", "threads", "dlopen"]
ARGUMENTS = {"churn": ["3", "10000", "0"]}
# pthread_create and dlopen allocate for themselves: known to the counter, not to the program.
ALLOCATES_ELSEWHERE = {"swap", "threads", "dlopen"}


@pytest.fixture(scope="module", autouse=True)
def built():
    build_programs()


@pytest.mark.parametrize("name", COUNTED)
def test_program_and_counter_agree(name, tmp_path):
    """The outstanding heap figures that the program tells are those which the counter finds."""
    with Counted([PROGRAMS / name, *ARGUMENTS.get(name, [])], tmp_path / "figures", output=tmp_path / "out") as counted:
        counted.go()
        counted.wait_for_output("ready")
        counted.signal(signal.SIGUSR1)
        counted.wait_for_output("done")
        figures = counted.freeze()
    told = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines() if '"sites"' in line]
    heap = [site for site in told[0]["sites"] if site["domain"] == "heap"]
    byte_count = sum(site["bytes"] for site in heap)
    block_count = sum(site["count"] for site in heap)
    assert figures["overflows"] == 0
    if name in ALLOCATES_ELSEWHERE:
        assert 0 <= figures["bytes"] - byte_count < 64 * 1024
        assert 0 <= figures["count"] - block_count < 64
    else:
        assert (figures["bytes"], figures["count"]) == (byte_count, block_count)
