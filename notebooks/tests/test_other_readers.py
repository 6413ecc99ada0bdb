"""A trace is plain Parquet: other readers see the same rows, and SQL finds the report's totals."""

import duckdb
import polars as pl
import pyarrow.parquet as pq
from traces import REPOSITORY, report_of

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


def test_sql_finds_the_outstanding_of_the_report(trace):
    """schemas/outstanding.sql over the file gives every domain's bytes and blocks as reported."""
    sql = OUTSTANDING_SQL.read_text().rstrip().rstrip(";")
    assert "'trace.parquet'" in sql
    sql = sql.replace("'trace.parquet'", f"'{trace}'")
    totals = query(f"select domain, sum(bytes), sum(count) from ({sql}) group by domain")
    found = {domain: (int(size), int(count)) for domain, size, count in totals}
    for domain, figures in report_of(trace)["domains"].items():
        assert found.get(domain, (0, 0)) == (figures["bytes"], figures["count"]), domain


def test_polars_finds_the_outstanding_of_the_report(trace):
    """The same in polars, written without the SQL: the last event that held at each address, if no exec ended its space."""
    outcomes = ["realloc", "reallocarray"]
    births = ["malloc", "calloc", "posix_memalign", "aligned_alloc", "memalign", "valloc", "pvalloc", *outcomes]
    rows = pl.scan_parquet(trace).with_row_index("row").collect()
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
    heap = report_of(trace)["domains"]["heap"]
    assert (last["size"].sum(), last.height) == (heap["bytes"], heap["count"])
