"""A trace is plain Parquet: other readers see the same rows, and SQL finds the report's totals."""

import subprocess

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from traces import ANALYZE, REPOSITORY, report_of

OUTSTANDING_SQL = REPOSITORY / "schemas/outstanding.sql"


def query(sql):
    """The rows of a query, from a DuckDB of its own."""
    with duckdb.connect() as connection:
        return connection.execute(sql).fetchall()


def test_readers_see_the_same_rows(trace):
    """polars, DuckDB and pyarrow agree on rows, on the names of operations and on sums."""
    arrow = pq.read_table(trace)
    polars = pl.scan_parquet(trace).collect()
    [(count, size)] = query(f"select count(*), sum(size) from read_parquet('{trace}')")
    assert arrow.num_rows == polars.height == count > 0
    assert polars["size"].sum() == size
    assert polars["op"].to_list() == arrow["op"].to_pylist()
    assert polars.columns == arrow.column_names


def test_sql_finds_the_outstanding_of_the_report(whole):
    """schemas/outstanding.sql over the file gives every domain's bytes and blocks as reported."""
    sql = OUTSTANDING_SQL.read_text().rstrip().rstrip(";")
    assert "'trace.parquet'" in sql
    sql = sql.replace("'trace.parquet'", f"'{whole}'")
    totals = query(f"select domain, sum(bytes), sum(count) from ({sql}) group by domain")
    found = {domain: (int(size), int(count)) for domain, size, count in totals}
    for domain, figures in report_of(whole)["domains"].items():
        assert found.get(domain, (0, 0)) == (figures["bytes"], figures["count"]), domain


def test_polars_finds_the_outstanding_of_the_report(whole):
    """The same in polars, written without the SQL: the last event that held at each address, if no exec ended its space."""
    outcomes = ["realloc", "reallocarray"]
    births = ["malloc", "calloc", "posix_memalign", "aligned_alloc", "memalign", "valloc", "pvalloc", *outcomes]
    rows = pl.scan_parquet(whole).with_row_index("row").collect()
    halves = rows.filter(pl.col("op").is_in(["realloc_release", "realloc_failed", *outcomes])).with_columns(
        pl.col("op").shift(-1).over("space", "tid", order_by="row").alias("outcome")
    )
    undone = halves.filter(pl.col("op") == "realloc_release", ~pl.col("outcome").is_in(outcomes).fill_null(False))
    processes = rows.filter(pl.col("op").is_in(["process", "exit"])).with_columns(
        pl.col("op", "space").shift(-1).over("pid", order_by="row").name.prefix("next_")
    )
    executed = processes.filter(pl.col("next_op") == "process", pl.col("op") == "process", pl.col("next_space") != pl.col("space"))
    last = (
        rows.filter(pl.col("op").is_in([*births, "free", "realloc_release"]), pl.col("addr") != 0)
        .join(undone.select("row"), on="row", how="anti", maintain_order="left")
        .group_by("space", "addr", maintain_order=True)
        .last()
        .filter(pl.col("op").is_in(births), ~pl.col("space").is_in(executed["space"].to_list()))
    )
    heap = report_of(whole)["domains"]["heap"]
    assert (last["size"].sum(), last.height) == (heap["bytes"], heap["count"])


#: One with many blocks at addresses of freed ones.
REUSES = REPOSITORY / "testdata/traces/v1.1/patterns.parquet"


def reused(table):
    """Rows (of a free, of the malloc that got its address next)."""
    freed, pairs = {}, []
    for row, (op, address) in enumerate(zip(table["op"].to_pylist(), table["addr"].to_pylist())):
        if op == "free":
            freed[address] = row
        elif op == "malloc" and address in freed:
            pairs.append((freed.pop(address), row))
    assert len(pairs) > 100
    return pairs


def report_on(table, path):
    """The report on a trace with these rows."""
    pq.write_table(table, path, compression="zstd")
    return report_of(path)


def by_stack(report):
    """Every stack's figures."""
    return {stack["id"]: [stack[key] for key in ("bytes", "count", "total_bytes", "total_count")] for stack in report["stacks"]}


def test_time_does_not_order(tmp_path):
    """U5: where a block got the address of one just freed and the two swapped their times, as those of two threads may
    be, every figure stays. Sorted by time, the free would be of the wrong block."""
    table = pq.read_table(REUSES)
    times = table["ts"].to_pylist()
    for free, malloc in reused(table):
        times[free], times[malloc] = times[malloc], times[free]
    column = table.schema.get_field_index("ts")
    table = table.set_column(column, table.schema.field(column), pa.array(times, pa.int64()))
    before, after = report_of(REUSES), report_on(table, tmp_path / "swapped.parquet")
    assert by_stack(after) == by_stack(before)
    assert after["trace"]["anomalies"] == before["trace"]["anomalies"]


def test_a_free_that_is_missing_is_told(tmp_path):
    """U6: a block at the address of one whose free is not in the trace ends it: the figures stay, and the report counts
    such blocks, for people too."""
    table = pq.read_table(REUSES)
    missing = {free for free, _ in reused(table)}
    path = tmp_path / "missing.parquet"
    after = report_on(table.filter(pa.array([row not in missing for row in range(table.num_rows)])), path)
    assert by_stack(after) == by_stack(report_of(REUSES))
    assert after["trace"]["anomalies"]["implicit_frees"] == len(missing)
    text = subprocess.run([ANALYZE, path], check=True, capture_output=True, text=True, timeout=120).stdout
    assert f"allocations at an address still in use: {len(missing):,} " in text
