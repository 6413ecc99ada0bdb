"""check.py KERNEL RESULTS: holds what a virtual machine told (see init) against the truth."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "harness"))
import compare
import kernel_paths

PROGRAMS = ("test_memleak", "family")
# Records the kernel: eventfds; and both sides, blocks and eventfds: as many as they make by default.
KERNEL, BOTH, NUMBER = "kernel_objects", "both_sides", 100


def read(results):
    """{program: {word: content}}, and what was said per program, by it and by the stages it came to."""
    told, said = {}, {}
    for line in results.read_text(errors="replace").splitlines():
        word, _, rest = line.strip().partition(" ")
        program, _, content = rest.partition(" ")
        if word in ("said", "stage"):
            said.setdefault(program, []).append(content)
        else:
            told.setdefault(program, {})[word] = content
    return told, said


def wrong_with(told):
    """Sentences about one program; none if it was recorded exactly."""
    for word, what in (("recorder", "memleak-record"), ("analyzer", "memleak-analyze"), ("program", "the program")):
        if told.get(word) != "0":
            return [f"{what} ended with {told.get(word, 'no status')}"]
    for word in ("truth", "report"):
        if not told.get(word):
            return [f"there is no {word}"]
    truth, report = json.loads(told["truth"]), json.loads(told["report"])
    if truth["program"] == KERNEL:
        return kernel_paths.wrong_with_eventfds(report, NUMBER)
    if truth["program"] == BOTH:
        lost = report["trace"]["lost"]["total"]
        too_many = [f"{lost} events were lost"] if lost > NUMBER / 4 else []
        return too_many + kernel_paths.wrong_on_both_sides(truth, report, NUMBER, lost)
    return compare.differences(truth, report) + compare.unexpected(truth, report)


def main():
    series, results = sys.argv[1], Path(sys.argv[2])
    told, said = read(results)
    kernel = told.get("-", {}).get("kernel", "")
    failed = False
    if not kernel.startswith(f"{series}."):
        print(f"  a kernel {series} was wanted, {kernel or 'none'} ran")
        failed = True
    for program in (*PROGRAMS, KERNEL, BOTH):
        wrong = wrong_with(told.get(program, {}))
        failed |= bool(wrong)
        print(f"  Linux {kernel}, {program}: {'; '.join(wrong) or 'every call site exact'}")
        if wrong:
            for line in said.get(program, [])[-20:]:
                print(f"    {line}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
