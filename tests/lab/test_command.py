"""`talaria-nb lab` for real: JupyterLab opens the notebook that it wrote, and its first cells show the Explorer."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

import models
from lab.conftest import VIEWPORT
from lab.harness import Notebook, Server, free_port, jupyter_environment, serving

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser

LOAD_CELL, EXPLORE_CELL = 1, 2


@pytest.mark.lab
def test_a_package_is_opened_and_explored(browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models.classifier().mlmodel.save(str(tmp_path / "small.mlpackage"))
    # The browser that JupyterLab opens is this script, which leaves the address to ours.
    opener, address = tmp_path / "browser", tmp_path / "address"
    opener.write_text(f'#!/bin/sh\nprintf %s "$1" > "{address}.part" && mv "{address}.part" "{address}"\n')
    opener.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    port = free_port()
    server = Server(f"http://127.0.0.1:{port}", tmp_path)
    (tmp_path / "jupyter").mkdir()
    environment = jupyter_environment(tmp_path / "jupyter", port) | {"BROWSER": f"{opener} %s"}
    command = [sys.executable, "-m", "talaria_nb.cli", "lab", "small.mlpackage", "--device", "iPhone 13"]
    with serving(command, f"{server.url}/api/status", environment, tmp_path / "jupyter.log"):
        deadline = time.monotonic() + 30
        while not address.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        page = browser.new_context(viewport=VIEWPORT).new_page()
        page.goto(address.read_text())
        page.wait_for_url(f"{server.url}/lab/tree/small.ipynb*")
        notebook = Notebook(server, page)
        assert "8 weights" in notebook.run(LOAD_CELL)
        notebook.run(EXPLORE_CELL)
        cell = notebook.cell(EXPLORE_CELL)
        expect(cell.get_by_test_id("total-size")).to_be_visible()
        expect(cell.get_by_label("Device")).to_have_value("iPhone 13")
        notebook.close()
