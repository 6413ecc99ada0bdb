"""`top` on samples: every figure is what SQL with the weights of the trace says, and the truth lies within the intervals."""

import csv
import io
import json
from collections import defaultdict

import compare
import duckdb
import pytest
from session import REPOSITORY, Program, Recording, analyze, build_programs, report_of

FIGURES = ("bytes", "count", "total_bytes", "total_count")


@pytest.fixture(scope="module", params=[("--sample-bytes", "16KiB"), ("-s", "50")], ids=["by_bytes", "one_in_50"])
def sampled(request, tmp_path_factory):
    """A sample of `sampled`: the trace, the truth of its sites, and what it says of all its allocations."""
    build_programs()
    trace = tmp_path_factory.mktemp("sampled") / "trace.parquet"
    with Program("sampled") as program, Recording(program.pid, trace, *request.param) as recording:
        program.go()
        program.wait_until_done()
        recording.stop()
        told = [json.loads(line) for line in program.lines.seen if '"sites"' in line]
    assert not compare.losses(report_of(trace))
    return trace, told[0]["sites"], told[1]["sites"]


def weighted(trace):
    """By SQL alone: of each lifetime its thread, stack, operation and size, whether it lives, and how many blocks it stands for."""
    lives = (REPOSITORY / "schemas/lifetimes.sql").read_text().rstrip().rstrip(";").replace("'trace.parquet'", f"'{trace}'")
    rows = f"""
        select life.domain, life.op, life.pid, life.tid, life.stack_id, life.size, life.died_row is null, coalesce(event.weight, 1)
        from ({lives}) as life
        join read_parquet('{trace}', file_row_number = true) as event on event.file_row_number = life.born_row
    """
    with duckdb.connect() as connection:
        return connection.execute(rows).fetchall()


def estimates(trace, key):
    """Sums of weight and of weight times size by a key."""
    sums = defaultdict(lambda: [0.0] * 4)
    for row in weighted(trace):
        domain, _, _, _, _, size, lives, weight = row
        group = sums[key(row)]
        for index, value in enumerate((weight * size, weight)):
            group[index] += value * lives
            group[index + 2] += value
    return sums


def rows_of(trace, *options):
    return json.loads(analyze(trace, "top", "--format", "json", *options))["rows"]


def size_class(size):
    return 0 if size == 0 else 1 << (size.bit_length() - 1)


@pytest.mark.parametrize(
    "by,key_of,own",
    [
        ("stack", lambda row: (row[0], row[1], row[2], row[4]), ("domain", "op", "pid", "stack_id")),
        ("thread", lambda row: (row[0], row[2], row[3]), ("domain", "pid", "tid")),
        ("size", lambda row: (row[0], size_class(row[5])), ("domain", "from_bytes")),
    ],
)
def test_figures_are_those_of_sql(sampled, by, key_of, own):
    """Estimated bytes and counts of every group, and none is missing; intervals hold their figures."""
    trace, _, _ = sampled
    rows = {tuple(row[key] for key in own): row for row in rows_of(trace, "--by", by)}
    expected = estimates(trace, key_of)
    assert set(rows) == set(expected)
    for key, sums in expected.items():
        assert [rows[key][figure] for figure in FIGURES] == pytest.approx(sums, abs=0.51, rel=1e-9), key
        for figure in FIGURES:
            assert rows[key][f"{figure}_low"] <= rows[key][figure] <= rows[key][f"{figure}_high"]


def test_intervals_are_those_of_the_report(sampled):
    """The report adds and takes away with every event, this view sums up at the end: the same intervals."""
    trace, _, _ = sampled
    told = {(stack["op"], stack["id"]): stack["estimated"] for stack in report_of(trace)["stacks"] if "estimated" in stack}
    rows = [row for row in rows_of(trace) if row["domain"] == "heap"]
    assert len(rows) == len(told)
    for row in rows:
        for figure in FIGURES:
            found = (row[f"{figure}_low"], row[f"{figure}_high"])
            assert found == pytest.approx(tuple(told[row["op"], row["stack_id"]][figure]), abs=1)


def test_the_truth_lies_within(sampled):
    """What the program says of each function: by name, where malloc and realloc of one function are one group."""
    trace, sites, totals = sampled
    rows = {row["function"]: row for row in rows_of(trace, "--by", "function") if row["domain"] == "heap"}
    assert {"many_small", "some_mixed"} <= set(rows)
    for site, total in zip(sites, totals):
        # Of sixty blocks, one in fifty is none in a third of all recordings.
        if site["function"] == "few_large" and "few_large" not in rows:
            continue
        row = rows[site["function"]]
        known = {"bytes": site["bytes"], "count": site["count"]}
        if site["function"] != "some_mixed":
            known |= {"total_bytes": total["bytes"], "total_count": total["count"]}
        for figure, truth in known.items():
            assert row[f"{figure}_low"] <= truth <= row[f"{figure}_high"], (site["function"], figure)


def test_text_and_csv(sampled):
    """As text figures have their ±, and CSV has the columns of JSON."""
    trace, _, _ = sampled
    text = analyze(trace, "top")
    assert "estimates of the whole" in text and "± " in text
    [first, *_] = csv.DictReader(io.StringIO(analyze(trace, "top", "--format", "csv")))
    [row, *_] = rows_of(trace)
    assert {key: first[key] for key in first if key.startswith(("bytes", "count"))} == {key: str(row[key]) for key in first if key.startswith(("bytes", "count"))}
