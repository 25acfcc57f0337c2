"""The quick start runs from a clean kernel, and what its text promises comes true."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

QUICKSTART = Path(__file__).parents[1] / "notebooks" / "quickstart.ipynb"
RESULTS = """
import json
print(json.dumps({
    "verified": bool(report["match"].all()),
    "bytes": [before.size_bytes, after.size_bytes],
    "checked": dict(checked.values),
    "bits": found.estimate(session.device).bits_per_weight,
    "optimal": found.optimal,
    "estimated": [sensitivity.total(each) for each in (uniform, found)],
    "loss": [each.evaluation.value for each in (uniform, found)],
    "shown": session.plan == found,
    "words_share": float(model.weights["weight_bytes"].max() / model.weights["weight_bytes"].sum()),
}))
"""


def test_it_is_stored_without_outputs() -> None:
    cells = nbformat.read(QUICKSTART, as_version=4).cells
    assert not [cell.id for cell in cells if cell.get("outputs") or cell.get("execution_count")]


@pytest.mark.slow
def test_it_runs_and_keeps_its_promises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    notebook = nbformat.read(QUICKSTART, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(RESULTS))
    resources, quiet = {"metadata": {"path": str(tmp_path)}}, ["--IPKernelApp.log_level=40"]
    NotebookClient(notebook, timeout=300, resources=resources, extra_arguments=quiet).execute()
    results: dict[str, Any] = json.loads(notebook.cells[-1].outputs[-1].text)
    assert results["verified"]
    assert results["words_share"] > 0.5
    before, after = results["bytes"]
    assert after < 0.35 * before
    assert results["checked"]["same sentence"] == 1
    assert results["checked"]["correlation"] > 0.999
    assert 3.5 < results["bits"] <= 3.6
    assert results["optimal"]
    assert results["shown"]
    uniform, found = results["loss"]
    assert found < 0.8 * uniform, "smaller, and closer to the original"
    for estimated, measured in zip(results["estimated"], results["loss"], strict=True):
        assert 0.5 < estimated / measured < 2
    assert (tmp_path / "MiniLM.mlpackage").is_dir()
