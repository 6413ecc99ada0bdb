"""Lifetimes of a trace as schemas/lifetimes.sql finds them, and what a view must say of them."""

import functools
import json
import subprocess
from dataclasses import dataclass

import duckdb
from traces import ANALYZE, REPOSITORY

SQL = (REPOSITORY / "schemas/lifetimes.sql").read_text().rstrip().rstrip(";")
COLUMNS = (
    "domain op pid tid space stack_id address size born died freed_by born_row died_row weight".split()
)


@dataclass(frozen=True)
class Life:
    """An allocation, or a piece of a mapping; times are ns since the start, None while it lives."""

    domain: str
    op: str
    pid: int
    tid: int
    space: int
    stack_id: int | None
    address: int
    size: int
    born: int
    died: int | None
    freed_by: str | None
    born_row: int
    died_row: int | None
    #: How many blocks it stands for, in a sample.
    weight: float
    #: 1; of a mapping that was cut up, for the piece that ends last (or one that lives).
    count: int

    def age(self, at):
        return max(0, at - self.born)

    def lifetime(self):
        return max(0, self.died - self.born)

    def site(self):
        return (self.domain, self.op, self.pid, self.stack_id)


def query(sql):
    with duckdb.connect() as connection:
        return connection.execute(sql).fetchall()


@functools.cache
def span(trace):
    """Start and end of the recording, ns of the trace's clock: as the report's duration has it."""
    rows = query(f"select op, min(ts), max(ts) from '{trace}' where op in ('open', 'close') group by op")
    told = {op: (first, last) for op, first, last in rows}
    [(first, last)] = query(f"select arg_min(ts, file_row_number), max(ts) from read_parquet('{trace}', file_row_number = true) where domain is not null")
    start = told["open"][1] if "open" in told else first
    return start, max(told["close"][1] if "close" in told else last, start)


@functools.cache
def lives(trace, after=None):
    """Every lifetime up to `after` ns from the start; to the end without."""
    start, _ = span(trace)
    sql = SQL.replace("'trace.parquet'", f"'{trace}'")
    if after is not None:
        numbered = f"read_parquet('{trace}', file_row_number = true)"
        [(cut,)] = query(f"select min(file_row_number) from {numbered} where domain is not null and ts > {start + after}")
        if cut is not None:
            sql = sql.replace("9223372036854775807", str(cut))
    weighted = f"""
        select life.*, coalesce(event.weight, 1.0)
        from ({sql}) as life
        join read_parquet('{trace}', file_row_number = true) as event on event.file_row_number = life.born_row
    """
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in query(weighted)]
    last = {}
    for row in rows:
        if row["domain"] == "mapping":
            key = (row["died_row"] is None, row["died_row"] or 0, row["address"])
            last[row["born_row"]] = max(last.get(row["born_row"], key), key)
    made = []
    for row in rows:
        counts = row["domain"] != "mapping" or last[row["born_row"]][2] == row["address"]
        row["born"] -= start
        row["died"] = None if row["died"] is None else row["died"] - start
        made.append(Life(**row, count=int(counts)))
    return made


@functools.cache
def names(trace):
    """Of each stack, its frames leaf first as (function, module, file): inlined functions too."""
    symbols = {}
    for frame, function, module, file, inlined in query(
        f"select frame, function, module, file, inlined from read_parquet('{trace}', file_row_number = true) where op = 'symbol' order by file_row_number"
    ):
        module = module and module.rsplit("/", 1)[-1]
        within = [(one["function"], module, one["file"]) for one in inlined or []]
        symbols[frame] = [*within, (function, module, file)]
    stacks = {}
    for stack_id, frames in query(f"select stack_id, frames from '{trace}' where frames is not null"):
        stacks[stack_id] = [name for frame in frames for name in symbols.get(frame, [(None, None, None)])]
    return stacks


def view(trace, name, *options):
    """The rows of a view, from its JSON."""
    return document(trace, name, *options)["rows"]


def document(trace, name, *options):
    """The JSON of a view."""
    command = [ANALYZE, name, "--format", "json", *options, trace]
    output = subprocess.run(command, check=True, capture_output=True, timeout=120)
    return json.loads(output.stdout)
