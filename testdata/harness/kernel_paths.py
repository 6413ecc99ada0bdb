"""What a report says of the kernel, by the function that called the allocator."""

from collections import Counter

import compare


def outstanding(report, domain):
    """{function at the leaf: objects outstanding} of a domain."""
    found = Counter()
    for stack in report["stacks"]:
        if stack["domain"] == domain and stack["frames"]:
            found[stack["frames"][0]["function"]] += stack["count"]
    return found


def multiples(found, number, lost=0):
    """{function: objects per thing made}, of the paths that `number` things took, where up to `lost` events are missing."""
    per_thing = {function: round(count / number) for function, count in found.items()}
    return {
        function: per for function, per in per_thing.items() if per and abs(found[function] - per * number) <= lost
    }


def wrong_with_eventfds(report, number):
    """Sentences about a report on `number` eventfds that are held; none if it is exact."""
    wrong = []
    if not report["trace"]["complete"]:
        wrong.append("the trace is not complete")
    lost = report["trace"]["lost"]["total"]
    per_thing = multiples(outstanding(report, "slab"), number)
    # An interrupt that hits a probe costs its event, and the report says so: then it cannot be exact.
    if lost == 0 and (sum(per_thing.values()) != 4 or not {"do_eventfd", "__d_alloc"} <= set(per_thing)):
        wrong.append(f"an eventfd is 4 objects, found were {per_thing} of {dict(outstanding(report, 'slab'))}")
    if lost > number:
        wrong.append(f"{lost} events were lost: {report['trace']['lost']['by_cause']}")
    return wrong


def wrong_on_both_sides(truth, report, number, lost):
    """Sentences on what is not exact on either side of `both_sides`, which holds `number` blocks and eventfds, and a pipe with
    every fourth; none if all is. Up to `lost` of the kernel's events are missing."""
    wrong = [] if report["trace"]["complete"] else ["the trace is not complete"]
    wrong += compare.wrong_sites(truth, report) + compare.unexpected(truth, report)
    slab = outstanding(report, "slab")
    pipes = number // 4
    # An eventfd is one file, a pipe two. Linux 6.1 has a function more on the way.
    files = slab["alloc_empty_file"] + slab["__alloc_file"]
    if abs(files - number - 2 * pipes) > lost:
        wrong.append(f"{number + 2 * pipes} files are held, {files} told")
    if slab["do_eventfd"] and abs(slab["do_eventfd"] - number) > lost:
        wrong.append(f"{number} eventfds are held, {slab['do_eventfd']} told")
    if abs(slab["alloc_pipe_info"] - 2 * pipes) > lost:
        wrong.append(f"{pipes} pipes of 2 objects are held, {slab['alloc_pipe_info']} told")
    return wrong
