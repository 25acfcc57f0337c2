"""`talaria-nb lab`: the notebook that it writes, and what it starts."""

from __future__ import annotations

import errno
import json
import os
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest

from talaria_nb import cli, device, lab

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """Go to an empty folder and return what is started, without starting it."""
    commands: list[list[str]] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "execv", lambda _program, command: commands.append(command))
    return commands


def sources(path: str | Path) -> list[str]:
    with open(path, encoding="utf-8") as file:  # noqa: PTH123 - a name or a path
        notebook: dict[str, Any] = json.load(file)
    import nbformat

    nbformat.validate(nbformat.from_dict(notebook))  # type: ignore[no-untyped-call]
    return [cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_a_package_gets_a_notebook_and_none_is_ever_overwritten(started: list[list[str]], tmp_path: Path) -> None:
    (tmp_path / "My model's.mlpackage").mkdir()
    assert cli.main(["lab", "My model's.mlpackage", "--device", "A15"]) == 0
    first = tmp_path / "My-model-s.ipynb"
    load, explore, allocate, *export = sources(first)
    assert """tnb.load("My model's.mlpackage")""" in load
    assert "resume=True" in explore
    assert "device='A15'" in explore or "iPhone" in explore
    assert "session.allocate" in allocate
    assert any("compress(" in cell for cell in export)
    before = first.read_bytes()
    assert cli.main(["lab", "My model's.mlpackage"]) == 0
    assert first.read_bytes() == before
    assert [command[-1] for command in started] == ["My-model-s.ipynb", "My-model-s-2.ipynb"]
    assert started[0][1:3] == ["-m", "jupyterlab"]


def test_the_cells_of_a_function_and_of_the_example_run(started: list[list[str]], tmp_path: Path) -> None:
    (tmp_path / "app_models.py").write_text(
        "import torch\ndef make():\n    return torch.nn.Linear(64, 64).eval(), torch.zeros(1, 64)\n"
    )
    assert cli.main(["lab", "app_models:make"]) == 0
    assert cli.main(["lab"]) == 0
    assert len(started) == 2
    names: dict[str, Any] = {}
    for cell in sources("exploration.ipynb")[:3]:
        exec(compile(cell, "cell", "exec"), names)  # noqa: S102 - what people would run
    assert names["session"].estimate.bits_per_weight <= 3.6
    assert "from app_models import make" in sources("make.ipynb")[0]


@pytest.mark.parametrize(
    ("model", "sentence"),
    [("none.mlpackage", "There is no none.mlpackage"), ("not_a_module_here:make", "There is no module not_a_module")],
)
def test_what_is_not_there_is_said_and_nothing_written(
    model: str, sentence: str, started: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["lab", model]) == cli.BAD_INPUT
    assert sentence in capsys.readouterr().err
    assert not started
    assert not [*tmp_path.iterdir()]


def test_without_jupyterlab_it_says_how_to_get_it(
    started: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lab.importlib.util, "find_spec", lambda _name: None)
    assert cli.main(["lab"]) == cli.BAD_INPUT
    assert "JupyterLab is not installed" in capsys.readouterr().err
    assert not started


def test_a_notebook_that_cannot_be_written_is_gone_and_said(
    started: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, *_: object, **__: object) -> mock.MagicMock:
        path.touch()
        file = mock.MagicMock()
        file.__enter__.return_value.name = path
        file.__enter__.return_value.write.side_effect = OSError(errno.ENOSPC, "No space left on device")
        return file

    monkeypatch.setattr(lab.Path, "open", full)
    assert cli.main(["lab"]) == cli.BAD_INPUT
    assert "exploration.ipynb could not be written: the disk is full." in capsys.readouterr().err
    assert ([*tmp_path.iterdir()], started) == ([], [])


def test_a_device_of_ones_own_is_refused(started: list[list[str]], tmp_path: Path) -> None:
    device("A15").to_toml(tmp_path / "mine.toml")
    assert cli.main(["lab", "--device", "mine.toml"]) == cli.BAD_INPUT
    assert started == []
