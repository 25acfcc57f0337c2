"""`talaria-nb lab`: a fresh notebook for a model, opened in JupyterLab."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from talaria_nb.errors import LoadError, TalariaError
from talaria_nb.whole_file import reason

if TYPE_CHECKING:
    from typing import TextIO

EXAMPLE = """\
import torch

import talaria_nb as tnb

# Put your own module and example inputs here, or the path of an .mlpackage: tnb.load("my_model.mlpackage")
module = torch.nn.Sequential(torch.nn.Linear(256, 512), torch.nn.GELU(), torch.nn.Linear(512, 256)).eval()
model = tnb.load(module, torch.zeros(1, 256))
model"""


def open_lab(source: str | None, device: str) -> int:
    """Write a notebook for a model into the current folder and become JupyterLab on it.

    Parameters
    ----------
    source
        An .mlpackage, or "module:function" of a function that returns (module, example_inputs). None for an example.
    device
        The device that the notebook explores.

    Raises
    ------
    TalariaError
        If JupyterLab is not installed, or the notebook cannot be written.
    LoadError
        If there is no such package or module.
    """
    if importlib.util.find_spec("jupyterlab") is None:
        raise TalariaError(f"JupyterLab is not installed: {sys.executable} -m pip install jupyterlab")
    path = write_notebook(source, device, Path())
    print(f"talaria-nb: wrote {path}", file=sys.stderr)
    # In this process's place, so that Ctrl-C and the terminal are JupyterLab's own.
    os.execv(sys.executable, [sys.executable, "-m", "jupyterlab", str(path)])  # noqa: S606 - no shell is wanted
    return 0


def write_notebook(source: str | None, device: str, folder: Path) -> Path:
    """Write the notebook under a name that is free, and return its path."""
    name, load = _load_cell(source)
    cells = [
        _text(f"# {name}\n\nWhat it costs on {device}, and what fewer bits make of that. Run the cells one by one."),
        _code(load),
        _code(f"session = tnb.explore(model, device={device!r}, resume=True)"),
        _text("Drag, select, undo. Or let the best plan be found for a budget; undo takes it back."),
        _code('session.allocate("3.6 bits")'),
        _text("The plan as coremltools' configs, and the compressed package, proved against what was predicted."),
        _code("print(session.plan.to_python())"),
        _code(f'compressed = session.plan.compress("{name}-small.mlpackage")\nsession.plan.verify(compressed)'),
    ]
    notebook = {
        "cells": [cell | {"id": f"cell-{index}"} for index, cell in enumerate(cells)],
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    for number in count(1):
        path = folder / f"{name}{'' if number == 1 else f'-{number}'}.ipynb"
        try:
            with path.open("x", encoding="utf-8") as file:
                _fill(file, text)
        except FileExistsError:
            continue
        except OSError as error:
            raise TalariaError(f"{path} could not be written: {reason(error)}") from error
        return path
    raise AssertionError


def _fill(file: TextIO, text: str) -> None:
    """Write a new file, or have it be gone."""
    try:
        file.write(text)
        file.flush()
    except OSError:
        Path(file.name).unlink()
        raise


def _load_cell(source: str | None) -> tuple[str, str]:
    """Return what to call the notebook, and the code that loads the model."""
    if source is None:
        return "exploration", EXAMPLE
    module, colon, function = source.rpartition(":")
    if colon and re.fullmatch(r"[\w.]+", module) and function.isidentifier():
        if not _is_there(module):
            raise LoadError(f"There is no module {module}. Run this in the folder from where it can be imported.")
        made = f"from {module} import {function}\n\nimport talaria_nb as tnb\n\nmodel = tnb.load(*{function}())\nmodel"
        return function, made
    if not os.path.exists(source):  # noqa: PTH110 - Path.exists raises for names that are too long
        raise LoadError(f"There is no {source}. MODEL is an .mlpackage, or module:function.")
    name = re.sub(r"[^\w.-]+", "-", Path(source).stem).strip("-.") or "exploration"
    return name, f"import talaria_nb as tnb\n\nmodel = tnb.load({source!r})\nmodel"


def _is_there(module: str) -> bool:
    sys.path.insert(0, "")
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
    finally:
        sys.path.remove("")


def _text(source: str) -> dict[str, object]:
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def _code(source: str) -> dict[str, object]:
    return {"cell_type": "code", "metadata": {}, "source": source, "execution_count": None, "outputs": []}
