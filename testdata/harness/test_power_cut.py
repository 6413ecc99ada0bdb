"""The power is cut: a disk holds what was synced, and any part of what was written since."""

import os
import random
import struct
import time

import pytest
from session import PROGRAMS, Program, Recording, build_programs, report_of

PAGE = 4096
# What of the writes since the last sync reached the disk, for each cut: none, or a random part.
CUTS = 40

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="sudo takes LD_PRELOAD away")


def operations(log):
    """What was done to the file: (letter, offset, bytes)."""
    rest = memoryview(log.read_bytes())
    while rest:
        letter = chr(rest[0])
        offset, length = struct.unpack_from("<QQ", rest, 1)
        yield letter, offset, bytes(rest[17 : 17 + length])
        rest = rest[17 + length :]


def write(image, offset, data):
    if len(image) < offset:
        image.extend(bytes(offset - len(image)))
    image[offset : offset + len(data)] = data


def apply(image, operation, chance=None):
    """Does an operation to the file's bytes; with `chance`, each page of a write only perhaps."""
    letter, offset, data = operation
    if letter == "t":
        if chance is None or chance.random() < 0.5:
            del image[offset:]
            image.extend(bytes(offset - len(image)))
        return
    start = 0
    while start < len(data):
        end = min(len(data), start + PAGE - (offset + start) % PAGE)
        if chance is None or chance.random() < 0.5:
            write(image, offset + start, data[start:end])
        start = end


def test_all_that_was_synced_is_there(tmp_path, monkeypatch):
    """At every cut the trace opens, holds at least what was synced, and never more than was written; small row
    groups are merged meanwhile."""
    build_programs()
    trace, log = tmp_path / "trace.parquet", tmp_path / "log"
    with Program("churn", 5, 0, 20000) as program:
        with monkeypatch.context() as patch:
            patch.setenv("LD_PRELOAD", str(PROGRAMS / "libwritelog.so"))
            patch.setenv("MEMLEAK_WRITE_LOG", str(log))
            recording = Recording(program.pid, trace)
        with recording:
            program.go()
            time.sleep(10)
            recording.stop()
    whole = report_of(trace)["trace"]["events"]
    done = list(operations(log))
    image = bytearray()
    for operation in done:
        if operation[0] != "s":
            apply(image, operation)
    assert bytes(image) == trace.read_bytes(), "the log is not all that was written"
    assert any(letter == "w" and offset < end for (letter, offset, _), end in zip(done, ends(done), strict=True)), (
        "no row groups were merged"
    )

    chance = random.Random(1)
    syncs = [index for index, operation in enumerate(done) if operation[0] == "s"]
    chosen = set(chance.sample(range(len(syncs)), min(CUTS, len(syncs))))
    image, durable, start = bytearray(), 0, 0
    cut = tmp_path / "cut.parquet"
    for number, sync in enumerate(syncs):
        pending = [operation for operation in done[start:sync] if operation[0] != "s"]
        start = sync
        if number in chosen and number > 0:
            torn = bytearray(image)
            for operation in pending:
                apply(torn, operation, chance)
            assert events_in(cut, torn) >= durable, f"sync {number}"
        for operation in pending:
            apply(image, operation)
        if number in chosen or number + 1 in chosen:
            durable = events_in(cut, image)
            assert durable <= whole
    assert durable <= whole == events_in(cut, image)


def ends(done):
    """The file's length before each operation."""
    length = 0
    for letter, offset, data in done:
        yield length
        if letter == "t":
            length = offset
        elif letter == "w":
            length = max(length, offset + len(data))


def events_in(path, image):
    path.write_bytes(image)
    return report_of(path)["trace"]["events"]
