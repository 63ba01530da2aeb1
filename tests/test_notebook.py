"""The notebook: stored without results, and executed whole."""

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

NOTEBOOK = Path(__file__).parents[1] / "labelr" / "guide" / "quickstart.ipynb"
MAX_CELL_LINES = 12
MAX_LINE_LENGTH = 100
"""In a cell of code; a longer line has to be scrolled."""


@pytest.fixture
def notebook() -> Any:
    """The notebook as it is shipped."""
    return nbformat.read(NOTEBOOK, as_version=nbformat.NO_CONVERT)


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_notebook_is_valid_and_has_no_stored_results(notebook: Any) -> None:
    nbformat.validate(notebook)
    assert [(cell.outputs, cell.execution_count) for cell in code_cells(notebook)] == (
        [([], None)] * len(code_cells(notebook))
    )


def test_cells_are_short(notebook: Any) -> None:
    for cell in notebook.cells:
        assert len(cell.source.splitlines()) <= MAX_CELL_LINES, cell.source
    for cell in code_cells(notebook):
        assert max(map(len, cell.source.splitlines())) <= MAX_LINE_LENGTH, cell.source


def test_first_cell_installs_only_where_labelr_is_missing(notebook: Any) -> None:
    first = code_cells(notebook)[0].source
    assert first.index('find_spec("labelr") is None') < first.index("    %pip install")


def test_notebook_asks_for_a_gpu_and_the_kernel_that_every_server_has(notebook: Any) -> None:
    metadata = notebook.metadata
    assert (metadata.kernelspec.name, metadata.kernelspec.language) == ("python3", "python")
    assert metadata.accelerator == "GPU"  # what Colab starts
    assert "colab" in metadata
    assert not [cell for cell in code_cells(notebook) if re.search(r"device\s*=|cuda", cell.source)]  # auto takes it


def test_nothing_installs_the_other_package_of_that_name(notebook: Any) -> None:
    for cell in notebook.cells:
        assert not re.search(r"pip install[^\n]*\blabelr\b(?!\[)", cell.source), cell.source


@pytest.mark.slow
def test_notebook_without_labelr_says_what_to_set(notebook: Any, tmp_path: Path) -> None:
    hide = "import importlib.util\nimportlib.util.find_spec = lambda name: None"
    notebook.cells = [nbformat.v4.new_code_cell(hide), code_cells(notebook)[0]]
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}})
    with pytest.raises(CellExecutionError, match=r"no labelr in '\.\./\.\.': set SOURCE"):
        client.execute()


@pytest.mark.slow
def test_notebook_runs_and_results_show_themselves(
    notebook: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}})
    process, updates = client.process_message, []

    def record(msg: dict[str, Any], *where: Any) -> Any:
        if msg["msg_type"] == "update_display_data":
            updates.append(msg["content"]["data"].get("text/html", ""))
        return process(msg, *where)

    monkeypatch.setattr(client, "process_message", record)
    client.execute()
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    assert [output for output in outputs if output.output_type in ("error", "stream")] == []
    shown = [output.data for output in outputs]
    assert sum("image/png" in data for data in shown) == 3
    tables = "".join(data.get("text/html", "") for data in shown)
    assert all(
        f"<strong>{name}</strong>" in tables for name in ("FitResult", "Check", "Model", "Evaluation", "TagSummary")
    )
    assert any("epoch 8/8" in update and " of " in update for update in updates)
    assert {"corrected.csv", "inbox_labels", "model"} <= {
        path.name for path in (tmp_path / "labelr-quickstart").iterdir()
    }
