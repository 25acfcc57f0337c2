"""`talaria-nb lab` for real: JupyterLab opens the notebook that it wrote, and its cells go on after a restart."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

import models
from lab.conftest import VIEWPORT
from lab.explorer import Explorer
from lab.harness import DARK, LIGHT, Notebook, Server, free_port, jupyter_environment, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser

pytestmark = pytest.mark.lab

LOAD_CELL, EXPLORE_CELL = 1, 2


@dataclass(frozen=True)
class Opened:
    """The notebook of a package, as the command opened it."""

    notebook: Notebook
    ops: list[str]

    def explore(self) -> Explorer:
        """Run the cells that load and explore, and return what they show."""
        assert "8 weights" in self.notebook.run(LOAD_CELL)
        self.notebook.run(EXPLORE_CELL)
        return Explorer(self.notebook.page, self.notebook.cell(EXPLORE_CELL), self.ops)


@pytest.fixture(scope="module")
def opened(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    folder = tmp_path_factory.mktemp("command")
    model = models.classifier()
    model.mlmodel.save(str(folder / "small.mlpackage"))
    # The browser that JupyterLab opens is this script, which leaves the address to ours.
    opener, address = folder / "browser", folder / "address"
    opener.write_text(f'#!/bin/sh\nprintf %s "$1" > "{address}.part" && mv "{address}.part" "{address}"\n')
    opener.chmod(0o755)
    port = free_port()
    server = Server(f"http://127.0.0.1:{port}", folder)
    (folder / "jupyter").mkdir()
    environment = jupyter_environment(folder / "jupyter", port) | {"BROWSER": f"{opener} %s"}
    command = [sys.executable, "-m", "talaria_nb.cli", "lab", "small.mlpackage", "--device", "iPhone 13"]
    with serving(command, f"{server.url}/api/status", environment, folder / "jupyter.log", folder=folder):
        deadline = time.monotonic() + 30
        while not address.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        page = browser.new_context(viewport=VIEWPORT).new_page()
        page.goto(address.read_text())
        page.wait_for_url(f"{server.url}/lab/tree/small.ipynb*")
        notebook = Notebook(server, page)
        yield Opened(notebook, list(model.program.ops.name))
        notebook.close()


def test_a_package_is_opened_and_explored_and_the_same_cells_go_on_after_a_restart(
    opened: Opened, screenshots: Path
) -> None:
    notebook = opened.notebook
    explorer = opened.explore()
    expect(explorer.root.get_by_label("Device")).to_have_value("iPhone 13")
    bar, every = explorer.root.locator(".tlr-offline"), explorer.root.get_by_role("slider", name="Bits of all weights")
    float16 = explorer.total("size")
    expect(bar).to_have_count(0)
    explorer.drag(every, 2)
    small = explorer.total("size")
    assert small < float16
    notebook.page.wait_for_timeout(500)
    assert float(notebook.run_code("print(session.estimate.size_bytes)")) == small
    notebook.cell(EXPLORE_CELL)

    # At once: what is not written yet is written when the kernel ends.
    notebook.restart()
    expect(bar).to_have_text(
        "The kernel was restarted, which ended this session. Plan and history are kept: load the model, then run "
        "tnb.explore(model, resume=True) to go on. Edits made here now are lost."
    )
    explorer.drag(every, 1)
    assert explorer.total("size") < small
    dialog = explorer.export("Python source")
    expect(dialog.get_by_role("alert")).to_contain_text("go on with tnb.explore(model, resume=True)")
    notebook.page.keyboard.press("Escape")
    for theme, name in ((DARK, "restarted-dark"), (LIGHT, "restarted-light")):
        notebook.theme(theme)
        expect(notebook.page.locator("#jupyterlab-splash")).to_have_count(0)
        notebook.page.screenshot(path=screenshots / f"{name}.png")

    explorer = opened.explore()
    explorer.expect_total("size", small)
    expect(bar).to_have_count(0)
    expect(explorer.root.get_by_label("Device")).to_have_value("iPhone 13")
    explorer.root.get_by_role("button", name="Undo", exact=True).click()
    explorer.expect_total("size", float16)

    # Without any kernel; and the page loaded again, for which JupyterLab starts a new one.
    notebook.shut_down()
    expect(bar).to_contain_text("The kernel has ended, and this session with it. Plan and history are kept")
    explorer.drag(every, 1)
    assert explorer.total("size") < float16
    notebook.page.screenshot(path=screenshots / "no-kernel.png")
    notebook.reload()
    cell = notebook.cell(EXPLORE_CELL)
    expect(cell.get_by_text("load the model, then run tnb.explore(model, resume=True)")).to_be_visible()
    expect(cell.get_by_role("row", name="size of the package")).to_be_visible()
    expect(cell.get_by_text("Error displaying widget")).to_be_hidden()
