"""Holds a JSON report against what a program says of itself."""

import re

# What these allocate for themselves is libc's and the loader's, not the program's.
LIBRARYS_OWN = re.compile(r"pthread_create|pthread_cancel|_dl_|pthread_getattr_np")


def outstanding_of(report, function, domain):
    """(bytes, count) outstanding of the stacks whose leaf frame is `function`."""
    stacks = [
        stack
        for stack in report["stacks"]
        if stack["domain"] == domain and stack["frames"] and stack["frames"][0]["function"] == function
    ]
    return sum(stack["bytes"] for stack in stacks), sum(stack["count"] for stack in stacks)


def by_innermost_site(truth, report):
    """(bytes, count) outstanding by (site, domain), and the stacks of no site.

    The site of a stack is its innermost function that the program calls a site: between it and the
    recorded function may lie functions of libraries, `strdup` or `operator new`.
    """
    figures = {(site["function"], site["domain"]): (0, 0) for site in truth["sites"]}
    others = []
    for stack in report["stacks"]:
        places = [(frame["function"], stack["domain"]) for frame in stack["frames"]]
        place = next((place for place in places if place in figures), None)
        if place is None:
            others.append(stack)
            continue
        byte_count, block_count = figures[place]
        figures[place] = (byte_count + stack["bytes"], block_count + stack["count"])
    return figures, others


def inexact(truth, report):
    """Sentences about each site that is not exact, and about each byte that no site owns, in any domain;
    none if nothing is wrong, and then nothing was lost, nor guessed."""
    wrong = losses(report)
    figures, others = by_innermost_site(truth, report)
    for site in truth["sites"]:
        found, true = figures[site["function"], site["domain"]], (site["bytes"], site["count"])
        if found != true:
            wrong.append(
                f"{site['function']}: {found[0]} bytes in {found[1]} allocations reported, {true[0]} in {true[1]} are true"
            )
    for stack in others:
        functions = [frame["function"] or "?" for frame in stack["frames"]]
        if stack["count"] > 0 and not any(LIBRARYS_OWN.search(function) for function in functions):
            wrong.append(f"{stack['bytes']} bytes in {stack['count']} from no site: " + " < ".join(functions))
    anomalies = report["trace"]["anomalies"]
    for guess in ("implicit_frees", "unfinished_reallocations"):
        if anomalies[guess] != 0:
            wrong.append(f"{guess}: {anomalies[guess]}")
    return wrong


def without_operators(report):
    """The report with stacks that begin at the function that wrote `new`, where libstdc++ called malloc for it."""

    def is_operator(frame):
        return (frame["function"] or "").startswith("operator new")

    stacks = []
    for stack in report["stacks"]:
        frames = stack["frames"]
        while frames and is_operator(frames[0]):
            frames = frames[1:]
        stacks.append({**stack, "frames": frames})
    return {**report, "stacks": stacks}


def losses(report):
    """Sentences about events missing from the trace, or a trace that is not whole."""
    wrong = []
    if not report["trace"]["complete"]:
        wrong.append("the trace is not complete")
    if report["trace"]["lost"]["total"] != 0:
        wrong.append(f"events were lost: {report['trace']['lost']}")
    return wrong


def differences(truth, report):
    """Sentences about losses, and about each call site whose figures are not exact; none if nothing is wrong."""
    return losses(report) + wrong_sites(truth, report)


def wrong_sites(truth, report):
    """Sentences, one for each call site whose figures are not exact; none if all are."""
    wrong = []
    for site in truth["sites"]:
        expected = (site["bytes"], site["count"])
        found = outstanding_of(report, site["function"], site["domain"])
        if found != expected:
            wrong.append(
                f"{site['function']}: {found[0]} bytes in {found[1]} allocations reported, "
                f"{expected[0]} in {expected[1]} are true"
            )
    return wrong


def unexpected(truth, report):
    """Sentences about outstanding heap stacks that the program does not know of."""
    known = {site["function"] for site in truth["sites"]}
    return [
        f"{stack['bytes']} bytes in {stack['count']} allocations from an unexpected stack: "
        + " < ".join(frame["function"] or "?" for frame in stack["frames"])
        for stack in report["stacks"]
        if stack["domain"] == "heap"
        and stack["count"] > 0
        and not (stack["frames"] and stack["frames"][0]["function"] in known)
    ]


def below_main(stack):
    """The functions from the leaf down to main; the whole stack if main is not in it."""
    functions = [frame["function"] for frame in stack["frames"]]
    return functions[: functions.index("main") + 1] if "main" in functions else functions
