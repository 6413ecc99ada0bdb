"""A memory limit for a process: cgroup v2 where it has the controller, else v1."""

import contextlib
import os
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")


def limits():
    """Where groups are made, and the file that holds their limit in bytes; None if there is no way."""
    if (ROOT / "cgroup.controllers").exists() and "memory" in (ROOT / "cgroup.controllers").read_text():
        return ROOT, "memory.max"
    if (ROOT / "memory/memory.limit_in_bytes").exists():
        return ROOT / "memory", "memory.limit_in_bytes"
    return None


@contextlib.contextmanager
def memory_limit(pid, limit):
    """Puts the process into a group of its own that may use `limit` bytes, swap included."""
    root, file = limits()
    group = root / f"memleak-test-{pid}"
    if root == ROOT:
        with contextlib.suppress(OSError):
            (root / "cgroup.subtree_control").write_text("+memory")
    group.mkdir()
    try:
        (group / file).write_text(str(limit))
        for swap in ("memory.swap.max", "memory.memsw.limit_in_bytes"):
            with contextlib.suppress(OSError):
                (group / swap).write_text("0" if swap == "memory.swap.max" else str(limit))
        (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        with contextlib.suppress(OSError):
            os.rmdir(group)
