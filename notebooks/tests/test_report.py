"""The JSON report is what its schema says, and agrees with itself."""

import json

import jsonschema
from traces import REPOSITORY, is_sampled, report_of


def test_report_is_valid(trace):
    """Every key and type of the report is in schemas/report-v1.json."""
    schema = json.loads((REPOSITORY / "schemas/report-v1.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(report_of(trace), schema, cls=jsonschema.Draft202012Validator)


def test_stacks_add_up_to_their_domain(trace):
    """All stacks are in the report: their sums are the domain's figures (of a sample each is rounded)."""
    report = report_of(trace)
    assert report["stacks"]
    for domain, figures in report["domains"].items():
        for key in ("bytes", "count", "total_bytes", "total_count"):
            figures_of_stacks = [stack[key] for stack in report["stacks"] if stack["domain"] == domain]
            off = len(figures_of_stacks) / 2 if is_sampled(trace) else 0
            assert abs(sum(figures_of_stacks) - figures[key]) <= off, key
