"""The comparison itself: it must find what is wrong with a report."""

import copy

import compare
import pytest

TRUTH = {"sites": [{"function": "keeps", "domain": "heap", "bytes": 30, "count": 2}]}
REPORT = {
    "trace": {"complete": True, "lost": {"total": 0}},
    "stacks": [
        {"domain": "heap", "bytes": 10, "count": 1, "frames": [{"function": "keeps"}, {"function": "main"}]},
        {"domain": "heap", "bytes": 20, "count": 1, "frames": [{"function": "keeps"}, {"function": "other"}]},
    ],
}


def test_an_exact_report_has_no_differences():
    """Stacks of one call site are added up."""
    assert compare.differences(TRUTH, REPORT) == []
    assert compare.unexpected(TRUTH, REPORT) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda report: report["stacks"][0].update(bytes=11),
        lambda report: report["stacks"][0].update(count=2),
        lambda report: report["stacks"][0].update(domain="mapping"),
        lambda report: report["stacks"].pop(),
        lambda report: report["trace"].update(complete=False),
        lambda report: report["trace"]["lost"].update(total=1),
    ],
)
def test_every_deviation_is_a_difference(change):
    """One byte, one block, another domain, a stack too few, a loss: each is told."""
    report = copy.deepcopy(REPORT)
    change(report)
    assert len(compare.differences(TRUTH, report)) == 1


def test_a_stack_nobody_knows_is_told():
    """A phantom allocation shows up even if every known site is exact."""
    report = copy.deepcopy(REPORT)
    report["stacks"].append({"domain": "heap", "bytes": 1, "count": 1, "frames": [{"function": "phantom"}]})
    assert len(compare.unexpected(TRUTH, report)) == 1
