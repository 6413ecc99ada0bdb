"""Records the committed traces of the format's present version anew: regenerate_traces.py DIRECTORY.

DIRECTORY is named for the version, as in testdata/traces/v1.1.
"""

import json
import os
import sys
from pathlib import Path

# A trace holds the program's path; a committed one should not hold that of a checkout.
os.environ["MEMLEAK_PROGRAMS"] = "/tmp/memleak-programs"

import compare
from session import Program, Recording, analyze, build_programs, json_report, record_program

PROGRAMS = ("test_memleak", "family", "patterns", "exec_again")
IN_PARTS = "patterns"
#: A sample of each kind, of a program that takes what it may hold from the draw.
SAMPLES = {"sampled-bytes": ("--sample-bytes", "64KiB"), "sampled-one-in": ("-s", "20")}


def version_in(trace):
    """The format's version that a trace says it has, as `v1.1`."""
    # The header is small JSON near the beginning of the file.
    head = trace.read_bytes()[:65536]
    _, _, rest = head.partition(b'"version":{"major":')
    major, _, rest = rest.partition(b',"minor":')
    return f"v{int(major)}.{int(rest.partition(b'}')[0])}"


def record(name, directory):
    """One trace."""
    trace = directory / f"{name}.parquet"
    trace.unlink(missing_ok=True)
    truth, report = record_program(name, trace)
    return [trace], compare.differences(truth, report)


def record_in_parts(name, directory):
    """The same program, cut into parts of a second."""
    for part in directory.glob(f"{name}-parts.*.parquet"):
        part.unlink()
    trace = directory / f"{name}-parts.parquet"
    with Program(name) as program, Recording(program.pid, trace, "--rotate-time", "1s") as recording:
        program.go()
        truth = program.truth()
        program.wait_until_done()
        recording.stop()
    parts = sorted(directory.glob(f"{name}-parts.*.parquet"))
    return parts, compare.differences(truth, json_report(*parts))


def record_sample(name, directory):
    """`sampled`, drawn as SAMPLES says: what it says of each function must lie in the intervals."""
    trace = directory / f"{name}.parquet"
    trace.unlink(missing_ok=True)
    with Program("sampled") as program, Recording(program.pid, trace, *SAMPLES[name]) as recording:
        program.go()
        program.wait_until_done()
        recording.stop()
        [sites, *_] = [json.loads(line)["sites"] for line in program.lines.seen if '"sites"' in line]
    rows = json.loads(analyze(trace, "top", "--by", "function", "--format", "json"))["rows"]
    rows = {row["function"]: row for row in rows if row["domain"] == "heap"}
    within = lambda site, row: row["bytes_low"] <= site["bytes"] <= row["bytes_high"]
    return [trace], [site["function"] for site in sites if not within(site, rows[site["function"]])]


def main():
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    build_programs()
    recorded = [record(name, directory) for name in PROGRAMS]
    recorded.append(record_in_parts(IN_PARTS, directory))
    recorded += [record_sample(name, directory) for name in SAMPLES]
    for traces, wrong in recorded:
        for trace in traces:
            if version_in(trace) != directory.name:
                wrong.append(f"its version is {version_in(trace)}, not that of {directory}")
            print(f"{trace}: {trace.stat().st_size} bytes")
        if wrong:
            print(f"{traces[0]}: {'; '.join(wrong)}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
