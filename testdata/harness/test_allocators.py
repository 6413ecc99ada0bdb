"""Every allocator that Debian has, linked, preloaded and static, its own functions too: exact without options."""

import ctypes.util

import compare
import pytest
from session import build_programs, record_program

# test_programs.py has jemalloc with the same programs.
PRELOADED = [
    ("operators", "jemalloc"),
    ("family", "tcmalloc_minimal"),
    ("threads", "tcmalloc_minimal"),
    ("operators", "tcmalloc_minimal"),
    ("family", "mimalloc"),
    ("failing", "mimalloc"),
    ("operators", "mimalloc"),
]
# pthread_create allocates, mi_heap_new too, and libgcc's unwinder in a static program, when it looks for the
# first exception's handler: known to nobody else.
ALLOCATES_ELSEWHERE = {"threads", "threads_musl", "operators_static", "mi_malloc"}
LINKED = [
    "operators", "operators_static", "operators_tcmalloc", "family_static", "family_mimalloc",
    "family_musl", "family_musl_static", "threads_musl",
]  # fmt: skip
OWN_NAMES = ["mallocx", "mallocx_static", "mi_malloc", "tc_malloc", "tc_malloc_static"]


@pytest.fixture(scope="module", autouse=True)
def built():
    build_programs("allocators")


def check(name, tmp_path, preload=None):
    truth, report = record_program(name, tmp_path / "trace.parquet", preload=preload)
    report = compare.without_operators(report)
    wrong = compare.differences(truth, report)
    if name not in ALLOCATES_ELSEWHERE:
        wrong += compare.unexpected(truth, report)
    anomalies = report["trace"]["anomalies"]
    if anomalies["implicit_frees"] or anomalies["already_freed"] or anomalies["unfinished_reallocations"]:
        wrong.append(f"anomalies: {anomalies}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", LINKED)
def test_linked(name, tmp_path):
    """glibc, musl and three other allocators, dynamic and static: every call site is exact."""
    check(name, tmp_path)


@pytest.mark.parametrize(("name", "library"), PRELOADED)
def test_preloaded(name, library, tmp_path):
    """The same under an allocator that takes malloc's place: one event per call, whoever defines it."""
    path = ctypes.util.find_library(library)
    assert path, f"lib{library} is not installed: run make setup"
    check(name, tmp_path, preload=path)


@pytest.mark.parametrize("name", OWN_NAMES)
def test_own_names(name, tmp_path):
    """mallocx, mi_malloc, tc_malloc and their kin are found by name, and told once."""
    check(name, tmp_path)


def test_opened_later(tmp_path):
    """An allocator that is opened while recording has its probes before its first function runs, unless the report
    says that it was learnt too late: a hundred functions may take longer to be probed than a thread waits."""
    for attempt in range(3):
        truth, report = record_program("late_allocator", tmp_path / f"trace-{attempt}.parquet")
        if "library opened, learnt too late" not in report["trace"]["defects"]["by_cause"]:
            wrong = compare.differences(truth, report)
            assert not wrong, "\n".join(wrong)
            return
    pytest.skip("this machine is too slow to probe a whole allocator in time")
