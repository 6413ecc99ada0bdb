"""The notebook runs from its first cell to its last, and is committed without outputs."""

import nbformat
import pytest
from nbclient import NotebookClient
from traces import REPOSITORY, report_of

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_outputs_are_stripped(path):
    """What a run prints is of that run's machine and changes with it: it stays out of git."""
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert cells
    for cell in cells:
        assert cell.outputs == [] and cell.execution_count is None


def test_explore_finds_the_outstanding_of_the_report(whole, monkeypatch):
    """The notebook executes, draws its two plots, and prints the report's outstanding bytes."""
    monkeypatch.setenv("MEMLEAK_TRACE", str(whole))
    notebook = nbformat.read(REPOSITORY / "notebooks/explore.ipynb", as_version=4)
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    printed = "".join(output.get("text", "") for output in outputs)
    heap = report_of(whole)["domains"]["heap"]
    assert f"outstanding: {heap['bytes']:,} bytes in {heap['count']:,} blocks" in printed
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
