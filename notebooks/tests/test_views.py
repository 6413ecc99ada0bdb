"""Every view of memleak-analyze against the same figure computed from the file by SQL, value for value."""

import csv
import io
import json
import re
import subprocess
from collections import defaultdict

import jsonschema
import pytest
from lifetimes import document, lives, names, query, span, view
from traces import ANALYZE, REPOSITORY, committed, is_sampled, report_of

MS = 1_000_000


def run(*arguments):
    return subprocess.run([ANALYZE, *map(str, arguments)], capture_output=True, timeout=120, text=True)


def half(trace):
    """A moment in the middle, as an option and in ns since the start."""
    start, end = span(trace)
    middle = (end - start) // 2
    return f"{middle}ns", middle


def bytes_of(rows):
    """The bytes of lifetimes; of a sample, what they stand for."""
    return round(sum(life.weight * life.size for life in rows))


def count_of(rows):
    """The number of lifetimes; of a sample, what they stand for."""
    return round(sum(life.weight * life.count for life in rows))


def totals(rows):
    """(bytes, count, total bytes, total count) of lifetimes."""
    live = [life for life in rows if life.died is None]
    return (bytes_of(live), count_of(live), bytes_of(rows), count_of(rows))


def grouped(rows, key):
    groups = defaultdict(list)
    for life in rows:
        groups[key(life)].append(life)
    return groups


def figures(row):
    return (row["bytes"], row["count"], row["total_bytes"], row["total_count"])


def site_of(row):
    return (row["domain"], row["op"], row["pid"], row["stack_id"])


def check_stacks(trace, expected, *options):
    """`top` says of every stack what these lifetimes sum up to."""
    rows = view(trace, "top", *options)
    assert {site_of(row): figures(row) for row in rows} == {
        site: totals(group) for site, group in grouped(expected, lambda life: life.site()).items()
    }


def test_export_has_every_lifetime(trace):
    """CSV and Parquet rows are the lifetimes that SQL finds: addresses, threads, births, deaths, causes."""
    output = run("export", trace)
    assert output.returncode == 0, output.stderr
    rows = list(csv.DictReader(io.StringIO(output.stdout)))
    keys = ("domain", "op", "pid", "tid", "stack_id", "address", "size", "born_ns", "died_ns", "freed_by")
    found = sorted(tuple(row[key] for key in keys) for row in rows)
    text = lambda value: "" if value is None else str(value)
    expected = sorted(
        (l.domain, l.op, text(l.pid), text(l.tid), text(l.stack_id), f"{l.address:#x}", text(l.size), text(l.born), text(l.died), text(l.freed_by))
        for l in lives(trace)
    )
    assert found == expected
    # How many blocks each stands for, to the last digits.
    weights = {(row["address"], row["born_ns"], row["size"]): float(row["weight"]) for row in rows}
    assert weights == pytest.approx({(f"{l.address:#x}", text(l.born), text(l.size)): l.weight for l in lives(trace)})
    counts = lambda pairs: {key: sum(count for other, count in pairs if other == key) for key in {key for key, _ in pairs}}
    assert counts([((row["domain"], row["stack_id"]), int(row["count"])) for row in rows]) == counts(
        [((l.domain, text(l.stack_id)), l.count) for l in lives(trace)]
    )


def test_export_as_parquet(trace, tmp_path):
    """The Parquet table has the rows of the CSV."""
    path = tmp_path / "lifetimes.parquet"
    output = run("export", "--output", path, trace)
    assert output.returncode == 0, output.stderr
    [(rows, size, dead)] = query(f"select count(*), sum(size), count(died_ns) from '{path}'")
    expected = lives(trace)
    assert (rows, size, dead) == (len(expected), sum(l.size for l in expected), sum(l.died is not None for l in expected))
    again = run("export", "--output", path, trace)
    assert again.returncode == 1 and "--force" in again.stderr


def test_the_two_references_agree(trace):
    """outstanding.sql and lifetimes.sql are two queries: what has no death in one is what the other counts."""
    sql = (REPOSITORY / "schemas/outstanding.sql").read_text().replace("'trace.parquet'", f"'{trace}'")
    groups = grouped([life for life in lives(trace) if life.died is None], lambda l: (l.domain, l.stack_id))
    expected = {key: (sum(l.size for l in group), sum(l.count for l in group)) for key, group in groups.items()}
    assert {(domain, stack): (size, count) for domain, stack, size, count in query(sql.rstrip().rstrip(";"))} == expected


def test_exec_ends_what_was_held():
    """In a trace with an exec, the first image's five blocks were freed by it, and only those."""
    [trace] = [path for path in committed() if path.name == "exec_again.parquet"]
    ended = [life for life in lives(trace) if life.freed_by == "process" and life.size == 800]
    assert len(ended) == 5 and len({life.space for life in ended}) == 1
    live = [life for life in lives(trace) if life.died is None and life.size == 800]
    assert len(live) == 7 and {life.space for life in live}.isdisjoint({life.space for life in ended})


@pytest.mark.parametrize("moment", ["end", "half"])
def test_top_by_stack(trace, moment):
    """Outstanding and total figures of every stack, at the end and half-way."""
    if moment == "end":
        check_stacks(trace, lives(trace))
    else:
        option, after = half(trace)
        check_stacks(trace, lives(trace, after), "--at", option)


def test_top_by_thread_and_size(trace):
    """Groups by thread and by power of two."""
    rows = view(trace, "top", "--by", "thread")
    expected = grouped(lives(trace), lambda l: (l.domain, l.pid, l.tid))
    assert {(row["domain"], row["pid"], row["tid"]): figures(row) for row in rows} == {key: totals(group) for key, group in expected.items()}
    rows = view(trace, "top", "--by", "size")
    expected = grouped(lives(trace), lambda l: (l.domain, size_class(l.size)))
    assert {(row["domain"], (row["from_bytes"], row["to_bytes"])): figures(row) for row in rows} == {key: totals(group) for key, group in expected.items()}


def size_class(size):
    return (0, 1) if size == 0 else (1 << (size.bit_length() - 1), 1 << size.bit_length())


@pytest.mark.parametrize("kind,index", [("function", 0), ("module", 1)])
def test_top_by_name(trace, kind, index):
    """A name's own figures are those of the stacks it ends, the inclusive ones those of all it is in."""
    known = names(trace)
    rows = {(row["domain"], row[kind]): row for row in view(trace, "top", "--by", kind)}
    own, inclusive = defaultdict(list), defaultdict(list)
    for life in lives(trace):
        stack = [name[index] for name in known[life.stack_id]]
        own[life.domain, stack[0]].append(life)
        for name in set(stack):
            inclusive[life.domain, name].append(life)
    # What has no name is told by module and offset, which is not computed here.
    own = {key: group for key, group in own.items() if key[1]}
    for key, group in own.items():
        assert figures(rows[key]) == totals(group), key
    for key, group in inclusive.items():
        if key[1]:
            assert (rows[key]["inclusive_bytes"], rows[key]["inclusive_count"]) == totals(group)[:2], key


def test_tree_sums_up(trace):
    """Both trees: every path has the sums of the stacks that begin (or end) with it."""
    known = names(trace)
    for options, order in (((), -1), (("--inverted",), 1)):
        paths = defaultdict(list)
        for life in lives(trace):
            stack = [name[0] for name in known[life.stack_id]][::order]
            for depth in range(len(stack) + 1):
                paths[life.domain, *stack[:depth]].append(life)
        rows = view(trace, "tree", *options)
        by_id = {row["id"]: row for row in rows}

        def path(row):
            above = path(by_id[row["parent"]]) if row["parent"] is not None else ()
            return (*above, row["function"])

        found = {path(row): figures(row) for row in rows}
        for key, group in paths.items():
            if all(key):
                assert found[key] == totals(group), key


def test_folded_stacks(trace):
    """Folded lines sum up to the outstanding bytes of each domain."""
    output = run("tree", "--folded", trace)
    sums = defaultdict(int)
    for line in output.stdout.splitlines():
        stack, figure = line.rsplit(" ", 1)
        sums[stack.split(";")[0]] += int(figure)
    expected = grouped(lives(trace), lambda l: l.domain)
    assert dict(sums) == {key: totals(group)[0] for key, group in expected.items() if totals(group)[0]}


@pytest.mark.parametrize("buckets", [1, 7, 100])
def test_timeline(trace, buckets):
    """At the end of each bucket: born by then and not dead by then; and what came and went in between."""
    start, end = span(trace)
    edges = [(end - start) * index // buckets for index in range(buckets + 1)]
    rows = view(trace, "timeline", "--buckets", str(buckets))
    by_domain = grouped(lives(trace), lambda l: l.domain)
    assert len(rows) == buckets * len(by_domain)
    for row in rows:
        group = by_domain[row["domain"]]
        low, high = row["from_ns"], row["to_ns"]
        assert high == edges[edges.index(low) + 1] if edges.count(low) == 1 else True
        inside = lambda at: at is not None and low < at <= high
        held = [l for l in group if l.born <= high and (l.died is None or l.died > high)]
        born = [l for l in group if inside(l.born)]
        died = [l for l in group if inside(l.died)]
        expected = [value for some in (held, born, died) for value in (bytes_of(some), count_of(some))]
        keys = ("bytes", "count", "allocated_bytes", "allocated_count", "freed_bytes", "freed_count")
        assert [row[key] for key in keys] == expected, row


def test_timeline_per_stack(trace):
    """The same of each stack: here, what it holds at the ends."""
    rows = view(trace, "timeline", "--buckets", "5", "--per-stack")
    groups = grouped(lives(trace), lambda l: l.site())
    for row in rows:
        held = [l for l in groups[site_of(row)] if l.born <= row["to_ns"] and (l.died is None or l.died > row["to_ns"])]
        assert (row["bytes"], row["count"]) == (bytes_of(held), count_of(held))
    assert {site_of(row) for row in rows} == set(groups)


def check_histogram(rows, expected, key):
    """Each bin of a histogram has the lifetimes between its bounds, and none is missing."""
    for row in rows:
        low, high = row[f"from_{key}"], row[f"to_{key}"]
        yield row, [l for l, value in expected if low <= value and (high is None or value < high) and l.domain == row["domain"]]


def test_histograms(trace):
    """Ages of the outstanding, sizes of all, lifetimes of the freed."""
    end = document(trace, "ages")["at_ns"]
    everything = lives(trace)
    live = [(l, l.age(end)) for l in everything if l.died is None]
    seen = 0
    for row, some in check_histogram(view(trace, "ages"), live, "ns"):
        assert (row["bytes"], row["count"]) == totals([l for l in some])[:2]
        seen += len(some)
    assert seen == len(live)
    seen = 0
    for row, some in check_histogram(view(trace, "sizes"), [(l, l.size) for l in everything], "bytes"):
        assert figures(row) == totals(some)
        seen += len(some)
    assert seen == len(everything)
    dead = [(l, l.lifetime()) for l in everything if l.died is not None]
    seen = 0
    for row, some in check_histogram(view(trace, "lifetimes"), dead, "ns"):
        assert (row["freed_bytes"], row["freed_count"]) == totals(some)[2:]
        seen += len(some)
    assert seen == len(dead)


def test_histograms_per_stack_sum_up(trace):
    """Per stack, the bins sum up to the stack's own figures."""
    groups = grouped(lives(trace), lambda l: l.site())
    for name, key, index in (("ages", "bytes", 0), ("sizes", "total_bytes", 2)):
        sums = defaultdict(int)
        rows = view(trace, name, "--per-stack")
        for row in rows:
            sums[site_of(row)] += row[key]
        # Each bin of a sample is rounded.
        off = len(rows) / 2 if is_sampled(trace) else 0
        for site, group in groups.items():
            assert abs(sums.get(site, 0) - totals(group)[index]) <= off


def held_in_order(trace):
    """Births and deaths in the order in which they took effect: (domain, site, size, count) each."""
    changes = []
    for l in lives(trace):
        # A block that moves is born before the old one dies; one that stays, after.
        changes.append((l.born_row, 1, l, 1))
        if l.died is not None:
            moved = l.freed_by in ("realloc", "reallocarray", "mremap") and not replaced_in_place(trace, l)
            changes.append((l.died_row, 2 if moved else 0, l, -1))
    return sorted(changes, key=lambda change: change[:2])


def replaced_in_place(trace, life):
    born = {l.born_row: l for l in lives(trace)}.get(life.died_row)
    return born is not None and born.address < life.address + max(life.size, 1) and life.address < born.address + max(born.size, 1)


def test_peak(trace):
    """The largest sum over all moments of each domain, and what each stack held then."""
    held, sums, best = defaultdict(lambda: [0, 0]), defaultdict(int), {}
    for _, _, life, sign in held_in_order(trace):
        held[life.site()][0] += sign * life.weight * life.size
        held[life.site()][1] += sign * life.weight * life.count
        sums[life.domain] += sign * life.weight * life.size
        if sign > 0 and round(sums[life.domain]) > best.get(life.domain, (0,))[0]:
            at = {site: tuple(map(round, values)) for site, values in held.items() if site[0] == life.domain}
            at = {site: values for site, values in at.items() if values != (0, 0)}
            best[life.domain] = (round(sums[life.domain]), life.born, at)
    rows = view(trace, "peak")
    report = report_of(trace)
    for domain, (peak, at, sites) in best.items():
        own = [row for row in rows if row["domain"] == domain]
        assert {site_of(row): (row["peak_bytes"], row["peak_count"]) for row in own} == sites
        assert {row["peak_at_ns"] for row in own} == {at}
        assert report["domains"][domain]["peak_bytes"] == peak == sum(row["peak_bytes"] for row in own)


def test_temporary(trace):
    """Freed within a time; and freed before the next allocation of the thread."""
    for within in (50_000, 10 * MS):
        groups = grouped(lives(trace), lambda l: l.site())
        expected = {}
        for site, group in groups.items():
            short = [l for l in group if l.died is not None and l.lifetime() <= within]
            if count_of(short):
                expected[site] = totals(short)[2:] + totals(group)[2:]
        rows = view(trace, "temporary", "--within", f"{within}ns")
        keys = ("temporary_bytes", "temporary_count", "total_bytes", "total_count")
        assert {site_of(row): tuple(row[key] for key in keys) for row in rows} == expected
    births = defaultdict(list)
    for life in lives(trace):
        births[life.pid, life.tid].append(life.born_row)
    expected = defaultdict(list)
    for life in lives(trace):
        following = [row for row in births[life.pid, life.tid] if row > life.born_row]
        at_once = life.died is not None and life.freed_by not in ("realloc", "reallocarray", "mremap")
        if at_once and (not following or life.died_row < min(following)):
            expected[life.site()].append(life)
    rows = view(trace, "temporary")
    assert {site_of(row): row["temporary_count"] for row in rows} == {site: count_of(some) for site, some in expected.items() if count_of(some)}


def test_window(trace):
    """The four classes, in all and per stack."""
    _, middle = half(trace)
    low, high = middle // 2, middle
    known = lives(trace, high)

    def of_class(life):
        inside = life.born >= low
        if life.died is not None and life.died < low:
            return None
        return ("AI" if inside else "AO") + ("FI" if life.died is not None else "FO")

    options = ("--from", f"{low}ns", "--to", f"{high}ns")
    rows = view(trace, "window", *options)
    expected = grouped(known, lambda l: (l.domain, of_class(l)))
    for row in rows:
        assert (row["bytes"], row["count"]) == totals(expected.get((row["domain"], row["class"]), []))[2:], row
    shown = {(row["domain"], row["class"]) for row in rows}
    assert {key for key in expected if key[1]} <= shown
    expected = grouped(known, lambda l: (l.site(), of_class(l)))
    for row in view(trace, "window", "--per-stack", *options):
        for name in ("AIFI", "AIFO", "AOFI", "AOFO"):
            found = (row[f"{name.lower()}_bytes"], row[f"{name.lower()}_count"])
            assert found == totals(expected.get((site_of(row), name), []))[2:]


def test_diff_of_two_moments(trace):
    """b − a of every stack that changed, and the rates; offsets tell stacks apart as their numbers do."""
    option, middle = half(trace)
    _, whole = 0, document(trace, "top")["at_ns"]
    a = grouped(lives(trace, middle), lambda l: (l.domain, l.op, l.stack_id))
    b = grouped(lives(trace), lambda l: (l.domain, l.op, l.stack_id))
    expected = []
    for key in set(a) | set(b):
        one, other = totals(a.get(key, [])), totals(b.get(key, []))
        if one != other:
            rate = (other[0] - one[0]) / ((whole - middle) / 1e9)
            expected.append((key[0], key[1], other[0] - one[0], other[1] - one[1], *one[:2], *other[:2], pytest.approx(rate)))
    rows = view(trace, "diff", "--match", "offsets", "--from", option)
    keys = ("domain", "op", "delta_bytes", "delta_count", "a_bytes", "a_count", "b_bytes", "b_count", "delta_bytes_per_s")
    found = sorted((tuple(row[key] for key in keys) for row in rows), key=lambda row: row[:8])
    assert found == sorted(expected, key=lambda row: row[:8])


def test_diff_of_a_trace_with_itself(trace):
    """Nothing changed, by names and by offsets."""
    for by in ("names", "offsets"):
        assert view(trace, "diff", "--match", by, str(trace)) == []


def test_allocs(trace):
    """Each outstanding allocation, largest first."""
    at = document(trace, "allocs")["at_ns"]
    rows = view(trace, "allocs")
    found = sorted((row["address"], row["size"], row["age_ns"], row["tid"], *site_of(row)) for row in rows)
    expected = sorted((f"{l.address:#x}", l.size, l.age(at), l.tid, *l.site()) for l in lives(trace) if l.died is None)
    assert found == expected
    sizes = [row["size"] for row in rows]
    assert sizes == sorted(sizes, reverse=True)


def test_events(trace):
    """The events as they stand in the file; filtered as SQL filters them."""
    start, _ = span(trace)
    columns = "ts, pid, tid, domain, op, addr, size, stack_id"
    rows = query(f"select {columns} from read_parquet('{trace}', file_row_number = true) where domain is not null order by file_row_number")
    keys = ("at_ns", "pid", "tid", "domain", "op", "address", "size", "stack_id")
    found = [tuple(row[key] for key in keys) for row in view(trace, "events")]
    expected = [(max(0, ts - start), pid, tid, domain, op, f"{addr:#x}", size, stack) for ts, pid, tid, domain, op, addr, size, stack in rows]
    assert found == expected
    option, middle = half(trace)
    some = view(trace, "events", "--from", option, "--op", "malloc,free")
    assert [row["at_ns"] for row in some] == [row[0] for row in expected if row[0] >= middle and row[4] in ("malloc", "free")]
    assert len(view(trace, "events", "-T", "3")) == 3


def test_series(trace):
    """At each moment, what SQL finds outstanding there."""
    start, end = span(trace)
    step = max(1, (end - start) // 4)
    rows = view(trace, "series", f"{step}ns", "3")
    for index in (1, 2, 3):
        expected = {
            site: totals(group)[:2]
            for site, group in grouped((l for l in lives(trace, index * step) if l.died is None), lambda l: l.site()).items()
        }
        found = {site_of(row): (row["bytes"], row["count"]) for row in rows if row["at_ns"] == index * step}
        assert found == {site: values for site, values in expected.items() if values != (0, 0)}


def test_filters(trace):
    """Each filter lets through what its words say, by sizes, times, threads, domains, operations and names."""
    everything = lives(trace)
    at = document(trace, "top")["at_ns"]
    known = names(trace)
    option, middle = half(trace)
    sizes = sorted(l.size for l in everything)
    size = sizes[len(sizes) // 2]
    ages = sorted(l.age(at) for l in everything if l.died is None)
    age = ages[len(ages) // 2] if ages else 0
    tid = everything[0].tid
    leaf = next(name[0] for stack in known.values() for name in stack if name[0])
    has = lambda life: any(name[0] and re.search(re.escape(leaf), name[0]) for name in known[life.stack_id])
    cases = [
        (["--min-size", size], lambda l: l.size >= size),
        (["--max-size", size], lambda l: l.size <= size),
        (["--older", f"{age}ns"], lambda l: l.died is None and l.age(at) >= age),
        (["--younger", f"{age}ns"], lambda l: l.died is None and l.age(at) <= age),
        (["--min-lifetime", "1ms"], lambda l: l.died is not None and l.lifetime() >= MS),
        (["--max-lifetime", "1ms"], lambda l: l.died is not None and l.lifetime() <= MS),
        (["--only-leaked"], lambda l: l.died is None),
        (["--only-temporary"], lambda l: l.died is not None),
        (["--from", option], lambda l: l.born >= middle),
        (["--tid", tid], lambda l: l.tid == tid),
        (["--domain", "mapping"], lambda l: l.domain == "mapping"),
        (["--op", "malloc,calloc"], lambda l: l.op in ("malloc", "calloc")),
        (["--function", re.escape(leaf)], has),
        (["--not-function", re.escape(leaf)], lambda l: not has(l)),
        (["--min-size", size, "--only-leaked", "--function", re.escape(leaf)], lambda l: l.size >= size and l.died is None and has(l)),
    ]
    for options, passes in cases:
        check_stacks(trace, [l for l in everything if passes(l)], *map(str, options))
    groups = grouped(everything, lambda l: l.site())
    some = {site for site, group in groups.items() if totals(group)[0] >= size}
    assert {site_of(row) for row in view(trace, "top", "--min-bytes", str(size))} == some


def test_the_report_takes_the_filters(trace):
    """The default report with filters has the stacks that SQL finds, as JSON and as CSV."""
    everything = [l for l in lives(trace) if l.died is None and l.op == "malloc"]
    groups = {site: totals(group)[:2] for site, group in grouped(everything, lambda l: l.site()).items()}
    report = json.loads(run("--format", "json", "--op", "malloc", trace).stdout)
    stacks = {(s["domain"], s["op"], s["pid"], s["id"]): (s["bytes"], s["count"]) for s in report["stacks"]}
    assert {site: values for site, values in stacks.items() if values != (0, 0)} == groups
    rows = csv.DictReader(io.StringIO(run("--format", "csv", "--op", "malloc", trace).stdout))
    found = {(r["domain"], r["op"], int(r["pid"]), int(r["stack_id"])): (int(r["bytes"]), int(r["count"])) for r in rows}
    assert found == groups


VIEWS = [
    ("top",),
    *(("top", "--by", key) for key in ("function", "module", "line", "thread", "size")),
    ("tree",),
    ("timeline",),
    ("timeline", "--per-stack"),
    ("ages",),
    ("sizes", "--per-stack"),
    ("lifetimes",),
    ("peak",),
    ("temporary",),
    ("window", "--from", "50%"),
    ("window", "--from", "50%", "--per-stack"),
    ("diff", "--from", "50%"),
    ("allocs",),
    ("events",),
    ("series", "1ms", "5"),
]


@pytest.mark.parametrize("arguments", VIEWS, ids=" ".join)
def test_forms_agree(trace, arguments):
    """JSON is what schemas/views-v1.json says; CSV has the same columns and rows; text is not empty; a sample has intervals."""
    schema = json.loads((REPOSITORY / "schemas/views-v1.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    told = document(trace, arguments[0], *arguments[1:])
    jsonschema.validate(told, schema, cls=jsonschema.Draft202012Validator)
    rows = list(csv.DictReader(io.StringIO(run(*arguments, "--format", "csv", trace).stdout)))
    assert len(rows) == len(told["rows"])
    for row, as_json in zip(rows, told["rows"], strict=True):
        assert set(row) == set(as_json)
        for key, value in as_json.items():
            if isinstance(value, int):
                assert row[key] == str(value)
    for row in told["rows"]:
        figures = [key.removesuffix("_low") for key in row if key.endswith("_low")]
        assert all(row[f"{key}_low"] <= row[key] <= row[f"{key}_high"] for key in figures), row
        assert bool(figures) == (is_sampled(trace) and arguments[0] not in ("allocs", "events"))
    text = run(*arguments, trace)
    assert text.returncode == 0 and text.stdout, text.stderr
