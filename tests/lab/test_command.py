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

    from playwright.sync_api import Browser, Locator

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
        return self.shown()

    def shown(self) -> Explorer:
        """Return what the last run of these cells shows, whether or not its kernel is there."""
        return Explorer(self.notebook.page, self.notebook.cell(EXPLORE_CELL), self.ops)


@dataclass(frozen=True)
class Sizes:
    """Bytes of the package, uncompressed and as it was left when its kernel was restarted."""

    float16: float
    small: float


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


@pytest.fixture(scope="module")
def explored(opened: Opened) -> Sizes:
    """Run the cells, and give all weights 6 bits."""
    explorer = opened.explore()
    expect(explorer.root.get_by_label("Device")).to_have_value("iPhone 13")
    expect(bar(explorer)).to_have_count(0)
    float16 = explorer.total("size")
    explorer.drag(every(explorer), 2)
    return Sizes(float16, explorer.total("size"))


@pytest.fixture(scope="module")
def restarted(opened: Opened, explored: Sizes) -> Sizes:
    """Restart the kernel once Python has heard of that, but at once: what is not written yet is when it ends."""
    deadline = time.monotonic() + 30
    while float(opened.notebook.run_code("print(session.estimate.size_bytes)")) != explored.small:
        assert time.monotonic() < deadline, "Python did not hear of the drag"
    opened.notebook.restart()
    return explored


def bar(explorer: Explorer) -> Locator:
    """Return the line on top that says what became of the kernel."""
    return explorer.root.locator(".tlr-offline")


def every(explorer: Explorer) -> Locator:
    """Return the slider of all weights."""
    return explorer.root.get_by_role("slider", name="Bits of all weights")


def test_a_package_is_opened_and_explored(explored: Sizes) -> None:
    assert explored.small < explored.float16


def test_after_a_restart_it_is_said_what_is_kept_and_how_to_go_on(
    opened: Opened, restarted: Sizes, screenshots: Path
) -> None:
    notebook, explorer = opened.notebook, opened.shown()
    expect(bar(explorer)).to_have_text(
        "The kernel was restarted, which ended this session. Plan and history are kept: load the model, then run "
        "tnb.explore(model, resume=True) to go on. Edits made here now are lost."
    )
    explorer.drag(every(explorer), 1)
    assert explorer.total("size") < restarted.small
    dialog = explorer.export("Python source")
    expect(dialog.get_by_role("alert")).to_contain_text("go on with tnb.explore(model, resume=True)")
    notebook.page.keyboard.press("Escape")
    for theme, name in ((DARK, "restarted-dark"), (LIGHT, "restarted-light")):
        notebook.theme(theme)
        expect(notebook.page.locator("#jupyterlab-splash")).to_have_count(0)
        notebook.page.screenshot(path=screenshots / f"{name}.png")


def test_the_same_cells_go_on_where_it_ended(opened: Opened, restarted: Sizes) -> None:
    explorer = opened.explore()
    explorer.expect_total("size", restarted.small)
    expect(bar(explorer)).to_have_count(0)
    expect(explorer.root.get_by_label("Device")).to_have_value("iPhone 13")
    explorer.root.get_by_role("button", name="Undo", exact=True).click()
    explorer.expect_total("size", restarted.float16)


def test_without_any_kernel_edits_are_lost_and_a_page_that_is_loaded_again_shows_a_picture(
    opened: Opened, explored: Sizes, screenshots: Path
) -> None:
    notebook, explorer = opened.notebook, opened.shown()
    notebook.shut_down()
    expect(bar(explorer)).to_contain_text("The kernel has ended, and this session with it. Plan and history are kept")
    explorer.drag(every(explorer), 1)
    assert explorer.total("size") < explored.float16
    notebook.page.screenshot(path=screenshots / "no-kernel.png")
    notebook.reload()  # JupyterLab starts a new kernel for it
    cell = notebook.cell(EXPLORE_CELL)
    expect(cell.get_by_text("load the model, then run tnb.explore(model, resume=True)")).to_be_visible()
    expect(cell.get_by_role("row", name="size of the package")).to_be_visible()
    expect(cell.get_by_text("Error displaying widget")).to_be_hidden()
