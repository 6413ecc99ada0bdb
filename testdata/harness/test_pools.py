"""What the user names, what the program does with brk, and what is said when nothing is recorded."""

import compare
import pytest
from session import PROGRAMS, Program, Recording, analyze, build_programs, report_of

POOL = (
    "pool_alloc(size=2):pool_calloc(count=2,size=3):pool_grow(ptr=2,size=4):pool_get(size=2,out=3):pool_free(ptr=2)"
    "@pool"
)
OBJECTS = "object_get(bytes=48):object_put(ptr=1)"


@pytest.fixture(scope="module", autouse=True)
def built():
    build_programs("allocators")


def record(name, trace, *options):
    """(truth, report, what the recorder said)"""
    with Program(name) as program, Recording(program.pid, trace, *options) as recording:
        program.go()
        truth = program.truth()
        program.wait_until_done()
        recording.stop()
        program.end()
    return truth, report_of(trace), recording.lines.seen


def test_pools_and_other_names(tmp_path):
    """Pools are exact in a domain of their own, the chunks they carve up stay the heap's; -S finds other names."""
    trace = tmp_path / "trace.parquet"
    truth, report, said = record("pool", trace, "--probe", POOL, "--probe", OBJECTS, "-S", "my_")
    wrong = compare.differences(truth, report) + compare.unexpected(truth, report)
    assert not wrong, "\n".join(wrong)
    assert set(report["domains"]) == {"heap", "pool"}
    assert report["trace"]["anomalies"] == dict.fromkeys(report["trace"]["anomalies"], 0)
    line = next(line for line in said if line.startswith("probing") and "/pool," in line)
    assert all(name in line for name in ["pool_alloc", "pool_free", "object_get", "my_malloc", "symbol table"]), line
    assert "balance" in analyze_verify(trace)


def analyze_verify(trace):
    return analyze(trace, "verify")


def test_one_object_only(tmp_path):
    """-O looks for allocation functions in that file and in no other."""
    truth, report, said = record("family_jemalloc", tmp_path / "trace.parquet", "-O", "libjemalloc.so.2")
    probed = [line.split(",")[0] for line in said if line.startswith("probing")]
    assert [name.rsplit("/", 1)[-1] for name in probed] == ["libjemalloc.so.2"]
    assert compare.outstanding_of(report, "by_malloc", "heap") == (200, 2)
    assert "mapping" not in report["domains"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-O", "libnothing.so"], "no allocator found in libnothing.so"),
        (["--probe", "nothing(size=1)"], "no file of the target has a function nothing"),
    ],
)
def test_names_that_are_not_there(options, words, tmp_path):
    """A name that no file has is refused with a sentence."""
    with Program("family") as program, pytest.raises(RuntimeError, match=words):
        Recording(program.pid, tmp_path / "trace.parquet", *options)


def test_break_of_the_program(tmp_path):
    """brk and sbrk by the program are mappings to the byte; what malloc does with the same break is none."""
    truth, report, _ = record("program_break", tmp_path / "trace.parquet")
    wrong = compare.differences(truth, report) + compare.unexpected(truth, report)
    assert not wrong, "\n".join(wrong)
    mapped = sum(site["bytes"] for site in truth["sites"] if site["domain"] == "mapping")
    assert report["domains"]["mapping"]["bytes"] == mapped


@pytest.mark.parametrize(("arguments", "words"), [([], "the target is idle"), (["busy"], "--probe")])
def test_silence_is_told(arguments, words, tmp_path):
    """Five seconds without an event: one loud line, with the likely reason."""
    with Program("idle", *arguments) as program, Recording(program.pid, tmp_path / "trace.parquet") as recording:
        program.go()
        line = recording.lines.wait_for(lambda line: "NOTHING RECORDED" in line, "memleak-record")
        recording.stop()
    assert words in line
    assert sum("NOTHING RECORDED" in line for line in recording.lines.seen) == 1


def test_stripped_static_program(tmp_path):
    """A static program without symbols is refused, and what would help is said."""
    import subprocess

    stripped = PROGRAMS / "family_static_stripped"
    subprocess.run(["strip", "-o", stripped, PROGRAMS / "family_static"], check=True)
    with Program(stripped.name) as program, pytest.raises(RuntimeError, match="do not strip it.*--probe"):
        Recording(program.pid, tmp_path / "trace.parquet")
