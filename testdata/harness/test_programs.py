"""Programs of testdata/programs recorded for real: every call site exact, nothing besides."""

import ctypes.util

import compare
import polars as pl
import pytest
from session import REPOSITORY, build_programs, record_program

# Of these every heap allocation is at one of the sites; the others call pthread_create or dlopen.
NOTHING_ELSE = {"test_memleak", "family", "patterns", "failing", "churn", "exit_soon"}
PROGRAMS = {
    "test_memleak": [],
    "family": [],
    "patterns": [],
    "failing": [],
    "churn": [20, 20000, 0],
    "threads": [],
    "swap": [],
    "exit_soon": [],
}


@pytest.fixture(scope="module", autouse=True)
def built():
    build_programs()


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_site_is_exact(name, tmp_path):
    """Bytes and count of every call site equal the program's own figures; nothing lost."""
    truth, report = record_program(name, tmp_path / "trace.parquet", *PROGRAMS[name])
    wrong = compare.differences(truth, report)
    if name in NOTHING_ELSE:
        wrong += compare.unexpected(truth, report)
    assert not wrong, "\n".join(wrong)


def test_each_call_is_one_event(tmp_path):
    """U3: of functions that share an address (memalign and aligned_alloc, free and cfree, mmap and mmap64) one is
    probed: as many allocations in all as `family` makes, and no free of a free block."""
    _, report = record_program("family", tmp_path / "trace.parquet")
    made = {domain: figures["total_count"] for domain, figures in report["domains"].items()}
    assert made == {"heap": 25, "mapping": 5}
    assert not any(report["trace"]["anomalies"].values()), report["trace"]["anomalies"]


def test_libraries_opened_later_are_named(tmp_path):
    """Allocations in libraries that were opened after the recorder attached, from constructors on, have whole stacks;
    the second lies where the first one was."""
    trace = tmp_path / "trace.parquet"
    truth, report = record_program("dlopen", trace)
    assert not compare.losses(report)
    assert not compare.differences(truth, report)
    assert report["trace"]["stacks"]["incomplete"] == {}
    modules = pl.read_parquet(trace).filter(pl.col("op") == "module", pl.col("module").str.contains("lib(first|second).so$"))
    assert modules["file_id"].n_unique() == 2 and modules["addr"].n_unique() == 1


@pytest.mark.parametrize("name", ["family", "failing", "threads"])
def test_every_site_is_exact_under_jemalloc(name, tmp_path):
    """Two modules define an allocator, and libc's own functions stay in use where jemalloc has none."""
    jemalloc = ctypes.util.find_library("jemalloc")
    assert jemalloc, "libjemalloc2 is not installed: run make setup"
    truth, report = record_program(name, tmp_path / "trace.parquet", preload=jemalloc)
    wrong = compare.differences(truth, report)
    if name in NOTHING_ELSE:
        wrong += compare.unexpected(truth, report)
    assert not wrong, "\n".join(wrong)


def test_demo_stacks_lead_to_main(tmp_path):
    """The three stacks of the demonstration are: the function, then main."""
    _, report = record_program("test_memleak", tmp_path / "trace.parquet")
    paths = {tuple(compare.below_main(stack)) for stack in report["stacks"] if stack["domain"] == "heap"}
    assert paths == {("leak_small", "main"), ("leak_large", "main"), ("leak_with_loop", "main")}


def test_lines_are_those_of_the_source(tmp_path):
    """Each leaf frame names the source line that calls malloc."""
    source = (REPOSITORY / "testdata/programs/test_memleak.c").read_text().splitlines()
    _, report = record_program("test_memleak", tmp_path / "trace.parquet")
    leaves = [stack["frames"][0] for stack in report["stacks"] if stack["domain"] == "heap"]
    assert len(leaves) == 3
    for leaf in leaves:
        assert leaf["file"].endswith("test_memleak.c")
        assert "malloc(" in source[leaf["line"] - 1], leaf
