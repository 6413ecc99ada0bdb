"""Records the committed traces of a format version anew: regenerate_traces.py DIRECTORY."""

import os
import sys
from pathlib import Path

# A trace holds the program's path; a committed one should not hold that of a checkout.
os.environ["MEMLEAK_PROGRAMS"] = "/tmp/memleak-programs"

import compare
from session import build_programs, record_program

PROGRAMS = ("test_memleak", "family", "patterns")


def main():
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    build_programs()
    for name in PROGRAMS:
        trace = directory / f"{name}.parquet"
        trace.unlink(missing_ok=True)
        truth, report = record_program(name, trace)
        wrong = compare.differences(truth, report)
        if wrong:
            print(f"{trace}: {'; '.join(wrong)}", file=sys.stderr)
            return 1
        print(f"{trace}: {trace.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
