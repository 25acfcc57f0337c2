"""Real marimo in real Chromium: a server for one notebook, and its page."""

from __future__ import annotations

import json
import os
import sys
import textwrap
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from playwright.sync_api import expect

from lab.harness import CELL_TIMEOUT_MS, free_port, serving

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from playwright.sync_api import Locator, Page

SETTINGS = """
[runtime]
auto_instantiate = true
[display]
theme = "system"
"""
# Evaluates what is written into its field, so that a test can ask Python at any time.
ASK = """
import json
import marimo as mo
asked = mo.ui.text(label="Ask Python", full_width=True)
asked
"""
ANSWER = """
mo.plain_text("answer " + json.dumps([asked.value, eval(asked.value or "None")]))
"""


@contextmanager
def marimo(directory: Path, cells: Sequence[str]) -> Iterator[str]:
    """Serve a notebook of code cells, with settings of its own under `directory`, and give its address."""
    (directory / "marimo").mkdir()
    (directory / "marimo" / "marimo.toml").write_text(SETTINGS)
    path = directory / "notebook.py"
    functions = [f"@app.cell\ndef _():\n{textwrap.indent(cell.strip(), '    ')}\n" for cell in (*cells, ASK, ANSWER)]
    path.write_text("import marimo\n\napp = marimo.App(width='full')\n\n\n" + "\n\n".join(functions))
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    options = ["--headless", "--no-token", "--skip-update-check", "--host=127.0.0.1", f"--port={port}"]
    command = [sys.executable, "-m", "marimo", "--log-level=warn", "edit", *options, str(path)]
    environment = {**os.environ, "XDG_CONFIG_HOME": str(directory), "XDG_CACHE_HOME": str(directory / "cache")}
    with serving(command, f"{address}/health", environment, directory / "log"):
        yield address


class MarimoNotebook:
    """The notebook, running from its first cell to its last as soon as it is open."""

    def __init__(self, address: str, page: Page) -> None:
        self.page = page
        self.asked = 0
        page.goto(address)

    def output(self, index: int) -> Locator:
        """Return what the cell with that number shows, once the notebook has run."""
        field = self.page.get_by_role("textbox", name="Ask Python")
        expect(field).to_be_visible(timeout=CELL_TIMEOUT_MS)
        return self.page.locator(".marimo-cell").nth(index).locator(".output")

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression in the notebook, over JSON."""
        self.asked += 1
        expression += f"  # question {self.asked}"  # marimo does not run a cell again for the same value
        field = self.page.get_by_role("textbox", name="Ask Python")
        field.fill(expression)
        field.press("Enter")
        answer = self.page.get_by_text(f"answer {json.dumps([expression])[:-1]}")
        expect(answer).to_be_visible(timeout=30_000)
        return json.loads(answer.inner_text().removeprefix("answer "))[1]

    def theme(self, dark: bool) -> None:  # noqa: FBT001 - on or off
        """Follow a system that is dark or light."""
        self.page.emulate_media(color_scheme="dark" if dark else "light")
