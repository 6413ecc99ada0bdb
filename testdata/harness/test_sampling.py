"""Recordings that leave blocks out: by size exactly, by chance within the intervals that are stated."""

import json
from subprocess import run

import compare
import pytest
from holding import record_together
from session import Program, Recording, analyze, binary, build_programs, report_of

LEAST, MOST = 1000, 5000
# Processes in one trace have sites of their own: each is a run.
TOGETHER, RECORDINGS = 10, 2


@pytest.fixture(scope="module", autouse=True)
def built():
    build_programs()


def record(name, trace, *options, arguments=()):
    """Runs a program under the recorder with options. Returns (truth, report)."""
    with Program(name, *arguments) as program, Recording(program.pid, trace, *options) as recording:
        program.go()
        truth = program.truth()
        program.wait_until_done()
        recording.stop()
        program.end()
    return truth, report_of(trace)


def sound(trace):
    """What memleak-analyze verify says against it."""
    result = run([str(binary("memleak-analyze")), "verify", str(trace)], capture_output=True, text=True)
    return "" if result.returncode == 0 else result.stdout


def test_a_size_filter_is_exact(tmp_path):
    """Each site has exactly its blocks within the bounds, over every realloc across them; frees of others are not there."""
    trace = tmp_path / "trace.parquet"
    truth, report = record("selected", trace, "-z", str(LEAST), "-Z", str(MOST), arguments=(LEAST, MOST))
    wrong = compare.differences(truth, report) + compare.unexpected(truth, report)
    assert not wrong, "\n".join(wrong)
    assert report["trace"]["selection"] == {"min_size": LEAST, "max_size": MOST}
    anomalies = report["trace"]["anomalies"]
    assert anomalies == {name: 0 for name in anomalies}, anomalies
    assert report["trace"]["defects"]["total"] == 0
    assert not sound(trace)
    assert "filter: heap blocks of at least 1000 and at most 5000 bytes" in analyze(trace)


def test_everything_is_no_filter(tmp_path):
    """The same program without filter: every site, the frees of older blocks too, and no word of a selection."""
    truth, report = record("selected", tmp_path / "trace.parquet", arguments=(0, 1 << 40))
    wrong = compare.differences(truth, report)
    assert not wrong, "\n".join(wrong)
    assert "selection" not in report["trace"]
    assert report["trace"]["anomalies"]["free_before_attach"] >= 2


def test_a_full_set_is_told(tmp_path):
    """More recorded blocks than are tracked: nothing is wrong, but frees of others are in the trace, and it says why."""
    trace = tmp_path / "trace.parquet"
    options = ("-z", str(LEAST), "-Z", str(MOST), "--tracked-blocks", "64")
    truth, report = record("selected", trace, *options, arguments=(LEAST, MOST))
    wrong = compare.differences(truth, report) + compare.unexpected(truth, report)
    assert not wrong, "\n".join(wrong)
    assert any(cause.startswith("no room to remember") for cause in report["trace"]["defects"]["by_cause"])
    anomalies = report["trace"]["anomalies"]
    assert anomalies["free_before_attach"] + anomalies["already_freed"] > 0
    assert anomalies["implicit_frees"] == 0 and not sound(trace)


def test_exec_forgets_what_was_recorded(tmp_path):
    """The blocks of the old program are gone with it, also where only some were recorded."""
    with Program("exec_again") as program, Recording(program.pid, tmp_path / "t.parquet", "-z", "1") as recording:
        program.go()
        truth = program.truth()
        program.wait_until_done()
        recording.stop()
    report = report_of(tmp_path / "t.parquet")
    heap = report["domains"]["heap"]
    assert (heap["bytes"], heap["count"]) == (truth["sites"][0]["bytes"], truth["sites"][0]["count"])


def sampled_runs(trace, *options):
    """Records several programs at once. Yields, for each, its true sites, what it allocated in all, and its report's stacks."""
    programs, report = record_together(lambda _: Program("sampled"), range(TOGETHER), trace, *options)
    assert report["trace"]["defects"]["total"] == 0
    # Nothing was freed that is not known: alloc and free stay together.
    anomalies = report["trace"]["anomalies"]
    assert anomalies == {name: 0 for name in anomalies}, anomalies
    assert not sound(trace)
    for program in programs.values():
        told = [json.loads(line) for line in program.lines.seen if '"sites"' in line]
        own = [stack for stack in report["stacks"] if stack["pid"] == program.pid]
        yield told[0]["sites"], told[1]["sites"], own


@pytest.mark.parametrize("options", [("--sample-bytes", "64KiB"), ("-s", "100")], ids=["by_bytes", "one_in_100"])
def test_intervals_hold(options, tmp_path):
    """The stated intervals of the three sites hold, and the estimates are right on average."""
    checked, missed, ratios = 0, [], {}
    for number in range(RECORDINGS):
        for sites, totals, stacks in sampled_runs(tmp_path / f"{number}.parquet", *options):
            for site, total in zip(sites, totals):
                here = [stack for stack in stacks if stack["frames"][0]["function"] == site["function"]]
                # malloc and realloc of one function are two stacks, with intervals of their own.
                if site["function"] == "some_mixed":
                    here = [stack for stack in here if stack["op"] == "realloc"]
                for stack in here:
                    known = {"bytes": site["bytes"], "count": site["count"]}
                    if site["function"] != "some_mixed":
                        known |= {"total_bytes": total["bytes"], "total_count": total["count"]}
                    for figure, truth in known.items():
                        low, high = stack["estimated"][figure]
                        checked += 1
                        if not low <= truth <= high:
                            missed.append((site["function"], figure, truth, low, high))
                        assert low <= stack[figure] <= high
                    # The ages are of the same blocks; each bin was rounded.
                    bins = stack["age_histogram"]
                    assert abs(sum(part["bytes"] for part in bins) - stack["bytes"]) <= len(bins)
                    for part in bins:
                        low, high = part["estimated"]["bytes"]
                        assert low <= part["bytes"] <= high
                # A site of which nothing was recorded is estimated to have nothing.
                estimate = sum(stack["bytes"] for stack in here)
                ratios.setdefault(site["function"], []).append(estimate / site["bytes"])
    assert checked >= 2 * 2 * TOGETHER * RECORDINGS
    # Each misses once in a thousand times: three in some two hundred happen once in ten thousand test runs.
    assert len(missed) <= 2, missed
    for function, found in ratios.items():
        if function == "few_large" and not any(found):
            continue  # Of its 300 blocks one in a hundred is recorded: once in twenty test runs none is, which has no mean.
        mean = sum(found) / len(found)
        spread = (sum((ratio - mean) ** 2 for ratio in found) / (len(found) - 1) / len(found)) ** 0.5
        assert abs(mean - 1) <= 5 * spread + 0.001, (function, mean, spread)


def test_estimates_are_called_so(tmp_path):
    """The text says that figures are estimates, and a trace that was sampled names it as something to know."""
    trace = tmp_path / "trace.parquet"
    record("sampled", trace, "--sample-bytes", "16KiB")
    text = analyze(trace)
    assert "ESTIMATES" in text and "bytes at 99.9 %" in text and "from" in text
    assert b'"requires":["sampling"]' in trace.read_bytes()


def test_threads_that_swap_addresses(tmp_path):
    """Two threads free each other's blocks at full speed, and get each other's addresses: each free finds its block."""
    trace = tmp_path / "trace.parquet"
    _, report = record("swap", trace, "-s", "3", "--on-overflow", "pause", arguments=(200_000,))
    assert not compare.losses(report)
    anomalies = report["trace"]["anomalies"]
    assert anomalies == {name: 0 for name in anomalies}, anomalies
    assert not sound(trace)
