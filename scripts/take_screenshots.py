"""Open the quick start in real JupyterLab and take the README's pictures of the Explorer, light and dark.

PYTHONPATH=tests python scripts/take_screenshots.py docs
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import expect

from lab.explorer import Explorer
from lab.harness import DARK, LIGHT, chromium, jupyter_lab

QUICKSTART = Path(__file__).parents[1] / "notebooks" / "quickstart.ipynb"
SHOWN_ROW = 1
"""The row that is selected, whose details show: the largest weight but for the table of words."""
LAST = "python"
"""Id of the cell after which the Explorer shows a finished plan."""


def main(folder: Path) -> None:
    """Take the pictures into a folder."""
    cells = json.loads(QUICKSTART.read_text())["cells"]
    ids = [cell["id"] for cell in cells]
    with tempfile.TemporaryDirectory() as directory, jupyter_lab(Path(directory)) as server, chromium() as browser:
        (server.notebooks / QUICKSTART.name).write_text(QUICKSTART.read_text())
        # Twice the pixels: the README shows them at half their size.
        context = browser.new_context(viewport={"width": 1760, "height": 1000}, device_scale_factor=2)
        notebook = server.open(context.new_page(), QUICKSTART.name)
        for index in range(ids.index(LAST) + 1):
            if cells[index]["cell_type"] == "code":
                notebook.run(index)
        explorer = Explorer(notebook.page, notebook.cell(ids.index("explore")), ops=[])
        explorer.root.locator("[data-testid=op-row]").nth(SHOWN_ROW).locator(".tlr-cell-name").click()
        expect(explorer.root.locator(".tlr-values svg")).to_be_visible(timeout=60_000)
        # The errors of all weights are found in the background.
        expect(explorer.root).not_to_contain_text("being found", timeout=300_000)
        notebook.page.mouse.move(0, 0)
        folder.mkdir(parents=True, exist_ok=True)
        for theme, name in ((LIGHT, "light"), (DARK, "dark")):
            notebook.theme(theme)
            notebook.page.wait_for_timeout(1000)
            explorer.root.screenshot(path=folder / f"explorer-{name}.png")
        notebook.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
