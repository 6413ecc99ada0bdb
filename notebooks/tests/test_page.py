"""The default page as a user meets it on a terminal: what the first screen says, and that it fits."""

import fcntl
import os
import pty
import struct
import subprocess
import termios

import pytest
from traces import ANALYZE, report_of

BARS = " ▁▂▃▄▅▆▇█"


def page_of(trace, columns, *options):
    """The lines of the report on a terminal of so many columns."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = subprocess.Popen([ANALYZE, *options, trace], stdout=follower, stderr=subprocess.DEVNULL)
    os.close(follower)
    page = b""
    while True:
        try:
            piece = os.read(leader, 65536)
        except OSError:  # the other side is closed
            break
        if not piece:
            break
        page += piece
    os.close(leader)
    assert process.wait(60) == 0
    return page.decode().replace("\r\n", "\n").split("\n")


def table_of(lines):
    """Title and rows of the table of stacks."""
    title = next(index for index, line in enumerate(lines) if line.endswith("allocated by"))
    end = lines.index("", title)
    return lines[title], [line for line in lines[title + 1 : end] if not line.startswith("growing, further")]


@pytest.mark.parametrize("columns", [80, 120])
def test_first_screen(trace, columns):
    """Within 40 lines: complete or not, losses, every domain with its peak, resident memory, and the top stacks."""
    lines = page_of(trace, columns)
    report = report_of(trace)
    title, rows = table_of(lines)
    screen, used = [], 0
    for line in lines:
        used += max(1, -(-len(line) // columns))
        if used <= 40:
            screen.append(line)
    words = "\n".join(screen)
    assert ("trace: complete" in words) == report["trace"]["complete"]
    assert "lost: " in words
    for domain, figures in report["domains"].items():
        assert f"{domain}: {figures['bytes']} bytes in {figures['count']} allocations outstanding" in words
    assert words.count("  at most ") == len(report["domains"])
    assert words.count("resident memory of ") == len(report["trace"]["resident"])
    assert set(rows) <= set(screen)
    assert all(len(line) <= columns for line in [title, *rows])


@pytest.mark.parametrize("columns", [80, 120])
def test_rows_are_the_stacks(trace, columns):
    """A row per stack in the order of JSON, with its count and verdict, and a course that ends as its timeline does."""
    title, rows = table_of(page_of(trace, columns, "--top", "1000"))
    stacks = [stack for stack in report_of(trace)["stacks"] if stack["count"] > 0]
    assert len(rows) == len(stacks)
    begin, width = title.index("over time"), 20 if columns >= 100 else 10
    for row, stack in zip(rows, stacks):
        assert f" {stack['count']:,} " in row
        assert f" {stack['verdict'] or 'too short'} " in row
        assert row[begin : begin + width] == course_of(stack, report_of(trace)["at_ns"], width)


def course_of(stack, at_ns, width):
    """The most held in each part of the time, in eighths of the most of all, rounded up."""
    most = []
    for part in range(width):
        low, high = at_ns * part // width, at_ns * (part + 1) // width
        before = [point["bytes"] for point in stack["timeline"] if point["at_ns"] <= low and part > 0][-1:]
        inside = [point["bytes"] for point in stack["timeline"] if (low < point["at_ns"] or part == 0) and point["at_ns"] <= high]
        most.append(max(before + inside, default=0))
    if not max(most):
        return " " * width
    return "".join(BARS[-(-value * 8 // max(most))] for value in most)


def test_no_course_elsewhere(trace):
    """In a pipe there are no bars, and the rest is the same."""
    piped = subprocess.run([ANALYZE, trace], check=True, capture_output=True, text=True).stdout
    assert not set(BARS[1:]) & set(piped)
    title, rows = table_of(piped.split("\n"))
    assert len(rows) == len(table_of(page_of(trace, 120))[1])
