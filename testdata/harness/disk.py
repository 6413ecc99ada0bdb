"""A disk that is soon full."""

import contextlib
import subprocess

from session import as_root


@contextlib.contextmanager
def small_disk(directory, size):
    """A file system in memory of this size, as mount(8) takes it, in a new directory."""
    directory.mkdir()
    subprocess.run([*as_root(), "mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(directory)], check=True)
    try:
        yield
    finally:
        subprocess.run([*as_root(), "umount", str(directory)], check=True)


def ended_by_full_disk(program, recording, wait_s):
    """Fails unless the recorder ends with 1 and one sentence, and leaves the program alone."""
    assert recording.process.wait(wait_s) == 1
    recording.lines.wait_for_end()
    said = recording.lines.seen
    assert any("No space left on device" in line for line in said), said
    assert not any("panicked" in line for line in said), said
    assert program.process.poll() is None
