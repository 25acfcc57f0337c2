"""A JupyterLab server and a Chromium for the whole run, and pages for the notebooks of a test file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from lab.harness import Notebook, Server, chromium, jupyter_lab

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from playwright.sync_api import Browser, ViewportSize

# A laptop's window: wide enough for the Explorer side by side, and a README picture still reads at half its size.
VIEWPORT: ViewportSize = {"width": 1440, "height": 1000}


class OpenNotebook(Protocol):
    def __call__(self, cells: Sequence[str] | Path, *, viewport: ViewportSize = VIEWPORT) -> Notebook: ...


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with jupyter_lab(tmp_path_factory.mktemp("lab")) as running:
        yield running


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def open_notebook(server: Server, browser: Browser, request: pytest.FixtureRequest) -> Iterator[OpenNotebook]:
    """Open code cells, or a notebook file, in JupyterLab. An uncaught error in the page fails the last test."""
    opened: list[Notebook] = []
    errors: list[str] = []

    def open_(cells: Sequence[str] | Path, *, viewport: ViewportSize = VIEWPORT) -> Notebook:
        name = f"{Path(request.node.name).stem}-{len(opened)}.ipynb"
        if isinstance(cells, Path):
            (server.notebooks / name).write_text(cells.read_text())
        else:
            server.write(name, cells)
        page = browser.new_context(viewport=viewport).new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        opened.append(server.open(page, name))
        return opened[-1]

    yield open_
    for notebook in opened:
        notebook.close()
    assert not errors


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that pictures go to: $TALARIA_NB_SCREENSHOTS, or a temporary one."""
    wanted = os.environ.get("TALARIA_NB_SCREENSHOTS")
    folder = Path(wanted) if wanted else tmp_path_factory.getbasetemp() / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
