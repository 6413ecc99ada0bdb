"""Holds a JSON report against what a program says of itself."""


def outstanding_of(report, function, domain):
    """(bytes, count) outstanding of the stacks whose leaf frame is `function`."""
    stacks = [
        stack
        for stack in report["stacks"]
        if stack["domain"] == domain and stack["frames"] and stack["frames"][0]["function"] == function
    ]
    return sum(stack["bytes"] for stack in stacks), sum(stack["count"] for stack in stacks)


def losses(report):
    """Sentences about events missing from the trace, or a trace that is not whole."""
    wrong = []
    if not report["trace"]["complete"]:
        wrong.append("the trace is not complete")
    if report["trace"]["lost"]["total"] != 0:
        wrong.append(f"events were lost: {report['trace']['lost']}")
    return wrong


def differences(truth, report):
    """Sentences, one for each call site whose figures are not exact; none if all are."""
    wrong = losses(report)
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
