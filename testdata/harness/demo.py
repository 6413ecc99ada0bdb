"""make demo: a leaking program, recorded by pid, and its three stacks held against the truth."""

import sys
from pathlib import Path

import compare
from session import REPOSITORY, analyze, build_programs, record_program

TRACE = REPOSITORY / "target/demo.parquet"


def main():
    build_programs()
    TRACE.unlink(missing_ok=True)
    truth, report = record_program("test_memleak", TRACE)
    print(analyze(TRACE), end="", flush=True)

    wrong = compare.differences(truth, report) + compare.unexpected(truth, report)
    outstanding = [stack for stack in report["stacks"] if stack["count"] > 0 and stack["domain"] == "heap"]
    for stack in outstanding:
        path = compare.below_main(stack)
        if path[-1:] != ["main"] or len(path) != 2:
            wrong.append(f"the stack of {path[0]} does not lead to main: {path}")
    source = (REPOSITORY / "testdata/programs/test_memleak.c").relative_to(REPOSITORY)
    print(f"\nTruth, as {source} tells it, against the report:")
    for site in truth["sites"]:
        found = compare.outstanding_of(report, site["function"], site["domain"])
        print(f"  {site['function']:<15} {site['count']} x, {site['bytes']:>6} B   reported: {found[1]} x, {found[0]:>6} B")
    for sentence in wrong:
        print(f"WRONG: {sentence}")
    if not wrong:
        print("All three stacks are exact, down to main, and there is no other.")
        print(f"The trace is {Path(TRACE).relative_to(REPOSITORY)}; read it again with target/release/memleak-analyze.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
