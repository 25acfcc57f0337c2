"""The harness itself, on a plain anywidget: what the other tests here take for granted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from lab.harness import DARK

if TYPE_CHECKING:
    from lab.conftest import OpenNotebook

COUNTER = """
import anywidget, traitlets

class Counter(anywidget.AnyWidget):
    _esm = '''export default { render({ model, el }) {
        const button = document.createElement("button");
        button.className = "counter";
        const draw = () => { button.textContent = `count ${model.get("count")}`; };
        button.onclick = () => { model.set("count", model.get("count") + 1); model.save_changes(); };
        model.on("change:count", draw); draw(); el.append(button);
    } }'''
    count = traitlets.Int(1).tag(sync=True)

counter = Counter()
counter
"""


@pytest.mark.lab
def test_widgets_live_in_both_directions(open_notebook: OpenNotebook) -> None:
    notebook = open_notebook([COUNTER, "print(counter.count)", "import time; time.sleep(2)", ""])
    notebook.run(0)
    button = notebook.cell(0).locator("button.counter")
    button.click()
    expect(button).to_have_text("count 2")
    assert notebook.run(1) == "2"
    notebook.run_code("counter.count = 40")
    expect(button).to_have_text("count 40")
    notebook.start(2)
    notebook.page.wait_for_timeout(500)
    assert notebook.is_busy()
    notebook.wait_done(2)
    assert not notebook.is_busy()
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        notebook.run_code("1 / 0")
    notebook.theme(DARK)
