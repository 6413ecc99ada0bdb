"""Programs from Debian, recorded while a preloaded counter counts the same run by other means."""

import compare
import pytest
from counted import Counted
from session import Recording, build_programs, debian_program, report_of

SQLITE_LOAD = """
create table t(a integer primary key, b text, c real);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000)
  insert into t select i, hex(randomblob(i % 64)), random() / 3.0 from n;
create index b on t(b);
create index c on t(c, b);
select count(*), sum(length(b)) from t where b like '%A%';
select substr(b, 1, 2) as k, count(*), avg(c) from t group by k order by 2 desc limit 20;
delete from t where a % 3 = 0;
vacuum;
update t set b = b || 'x' where a % 2 = 0;
"""

PYTHON_LOAD = """
import json, os, re, signal
kept = []
for i in range(400):
    rows = [{"id": j, "name": "n" * (j % 50), "tags": [str(k) for k in range(j % 7)]} for j in range(100)]
    text = json.dumps(rows)
    words = re.findall(r"[a-z]+", text)
    kept.append((json.loads(text), words))
    if len(kept) > 50:
        kept.pop(i % 50)
    if i == 200 and "MEMLEAK_FREEZE_HALF_WAY" in os.environ:
        # By itself: a signal from outside may hit it between the recorder's probe at the entry of
        # free and the counter's own line, and the two would differ by that block.
        os.kill(os.getpid(), signal.SIGUSR2)
"""


# Python's small objects come from malloc too, instead of from arenas of its own.
ENVIRONMENT = {"PYTHONMALLOC": "malloc", "PYTHONHASHSEED": "0"}


def commands():
    return {
        "sqlite3": [debian_program("sqlite3"), ":memory:", SQLITE_LOAD],
        "python3": [debian_program("python3"), "-S", "-c", PYTHON_LOAD],
    }


@pytest.fixture(scope="module", autouse=True)
def built():
    build_programs()


def check(name, tmp_path, environment):
    """Records the program from before its main until it has frozen itself and told the figures; at
    default settings nothing is lost, and the figures are equal."""
    trace = tmp_path / "trace.parquet"
    output = tmp_path / "output"
    with Counted(commands()[name], tmp_path / "figures", output=output, environment=environment) as counted:
        with Recording(counted.pid, trace) as recording:
            counted.go()
            figures = counted.wait_until_frozen()
            recording.stop()
        assert counted.end() == 0
    report = report_of(trace)
    assert not compare.losses(report)
    assert figures["overflows"] == 0
    assert figures["total_count"] > 10000, "the load was no load"
    heap = report["domains"]["heap"]
    keys = ("bytes", "count", "total_bytes", "total_count")
    assert {key: heap[key] for key in keys} == {key: figures[key] for key in keys}
    return figures


@pytest.mark.parametrize("name", ["sqlite3", "python3"])
def test_outstanding_at_exit_equals_an_independent_count(name, tmp_path):
    """What is left when main has returned: bytes and blocks as the counter has them."""
    check(name, tmp_path, ENVIRONMENT)


def test_outstanding_under_load_equals_an_independent_count(tmp_path):
    """The same in the midst of the load, with megabytes alive."""
    figures = check("python3", tmp_path, ENVIRONMENT | {"MEMLEAK_FREEZE_HALF_WAY": "1"})
    assert figures["bytes"] > 1_000_000
