"""Every allocator that Debian has, linked, preloaded and static, its own functions too: exact without options."""

import ctypes.util
from concurrent.futures import ThreadPoolExecutor

import compare
import pytest
from session import build_programs, record_program

# test_programs.py has jemalloc with the same programs.
PRELOADED = [
    ("operators", "jemalloc"),
    ("family", "tcmalloc_minimal"),
    ("failing", "tcmalloc_minimal"),
    ("threads", "tcmalloc_minimal"),
    ("operators", "tcmalloc_minimal"),
    ("family", "mimalloc"),
    ("failing", "mimalloc"),
    ("threads", "mimalloc"),
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

# Name of the test: program, and what takes malloc's place.
RECORDINGS = {name: (name, None) for name in LINKED + OWN_NAMES}
RECORDINGS |= {f"{name}-{library}": (name, library) for name, library in PRELOADED}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The recordings by name, each a future of (truth, report): a recorder that detaches its probes mostly waits."""
    build_programs("allocators")
    directory = tmp_path_factory.mktemp("allocators")

    def record(name):
        program, library = RECORDINGS[name]
        preload = library and ctypes.util.find_library(library)
        assert bool(preload) == bool(library), f"lib{library} is not installed: run make setup"
        return record_program(program, directory / f"{name}.parquet", preload=preload)

    with ThreadPoolExecutor(4) as pool:
        yield {name: pool.submit(record, name) for name in RECORDINGS}


@pytest.mark.parametrize("name", RECORDINGS)
def test_every_site_is_exact(name, recorded):
    """glibc, musl and three other allocators, linked, static and preloaded, by malloc's name and their own: every
    call site is exact, one event per call, whoever defines it."""
    truth, report = recorded[name].result()
    report = compare.without_operators(report)
    wrong = compare.differences(truth, report)
    if RECORDINGS[name][0] not in ALLOCATES_ELSEWHERE:
        wrong += compare.unexpected(truth, report)
    anomalies = report["trace"]["anomalies"]
    if anomalies["implicit_frees"] or anomalies["already_freed"] or anomalies["unfinished_reallocations"]:
        wrong.append(f"anomalies: {anomalies}")
    assert not wrong, "\n".join(wrong)


def test_opened_later(tmp_path):
    """An allocator that is opened while recording has its probes before its first function runs, and is exact, or the
    report says that it was learnt too late: a hundred functions may take longer to be probed than a thread waits."""
    build_programs("allocators")
    truth, report = record_program("late_allocator", tmp_path / "trace.parquet")
    wrong = compare.differences(truth, report)
    assert not wrong or "library opened, learnt too late" in report["trace"]["defects"]["by_cause"], "\n".join(wrong)
