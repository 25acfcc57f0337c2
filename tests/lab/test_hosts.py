"""The story of the Explorer in the other hosts: Notebook 7 and marimo. `test_story.py` has JupyterLab."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from lab.conftest import VIEWPORT
from lab.explorer import Explorer
from lab.harness import DARK, LIGHT, Notebook
from lab.marimo_host import MarimoNotebook, marimo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, Locator, Page

    from lab.harness import Server

pytestmark = [pytest.mark.lab, pytest.mark.slow]

LOAD = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
import models
import talaria_nb as tnb
import torch
model = models.classifier()
data = [torch.randn(4, 3, 32, 32)]
"""
EXPLORE = 'session = tnb.explore(model, device="iPhone 15 Pro")'
VIEWS = {"notebook": "session.table", "marimo": "mo.vstack([mo.ui.anywidget(session.table), session.summary])"}
EXPLORE_CELL, VIEWS_CELL = 1, 2
CONFIGS = {
    "notebook": "This notebook now has optimization_configs",
    "marimo": "write session.plan.optimization_configs()",
}
"""What the Export menu says of configs: it cannot reach marimo's variables."""
HEAD, HEAD_OP = "p_head_weight_to_fp16", "linear_0_cast_fp16"


@dataclass(frozen=True)
class Host:
    """A notebook that has run, in one of the hosts."""

    name: str
    page: Page
    output: Callable[[int], Locator]
    """What a cell shows."""
    evaluate: Callable[[str], Any]
    """The value of an expression of the notebook, as JSON knows it."""
    dark: Callable[[bool], None]
    """Switch to the dark theme, or to the light one."""


def notebook_host(notebook: Notebook) -> Host:
    return Host(
        "notebook",
        notebook.page,
        notebook.cell,
        lambda expression: json.loads(notebook.run_code(f"import json; print(json.dumps({expression}))")),
        lambda dark: notebook.theme(DARK if dark else LIGHT),
    )


def marimo_host(notebook: MarimoNotebook) -> Host:
    return Host("marimo", notebook.page, notebook.output, notebook.evaluate, notebook.theme)


@pytest.fixture(scope="module")
def hosts(server: Server, browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Host]]:
    cells = {host: [LOAD, EXPLORE, views] for host, views in VIEWS.items()}
    with marimo(tmp_path_factory.mktemp("marimo"), cells["marimo"]) as address:
        pages = [browser.new_context(viewport=VIEWPORT).new_page() for _ in cells]
        errors: list[str] = []
        pages[0].on("pageerror", lambda error: errors.append(str(error)))
        # Ours only: modules of widgets come as blobs. Notebook 7.6 has an error of its own when it starts.
        pages[1].on("pageerror", lambda error: errors.append(str(error)) if "blob:" in (error.stack or "") else None)
        # Opened first, so that the two kernels start beside each other.
        other = MarimoNotebook(address, pages[0])
        server.write("hosts.ipynb", [*cells["notebook"], ""])
        notebook = server.open(pages[1], "hosts.ipynb", app="notebook")
        for index in range(len(cells["notebook"])):
            notebook.run(index)
        yield {"notebook": notebook_host(notebook), "marimo": marimo_host(other)}
        notebook.close()
        pages[0].context.close()
        assert not errors


@pytest.fixture(params=list(VIEWS))
def host(request: pytest.FixtureRequest, hosts: dict[str, Host]) -> Host:
    return hosts[request.param]


def test_the_story(host: Host, screenshots: Path) -> None:
    shown = host.output(EXPLORE_CELL)
    ops = host.evaluate("list(model.ops['name'])")
    float16 = host.evaluate("session.estimate.size_bytes")

    def view(cell: int) -> Explorer:
        """Scroll to what a cell shows; what is asked of Python scrolls away from it."""
        return Explorer(host.page, host.output(cell), ops)

    # A drag moves totals, row and graph in the frame of every move, and Python hears of it.
    explorer = view(EXPLORE_CELL)
    expect(shown).to_be_visible()
    assert explorer.total("size") == float16
    if host.name == "marimo":  # whose outputs are 610 px high: nothing is scrolled inside of them
        explorer.root.get_by_label("Device").scroll_into_view_if_needed()
        for part in (explorer.root.get_by_label("Totals"), explorer.root.get_by_role("group", name="Edit weights")):
            expect(part).to_be_in_viewport(ratio=1)
    explorer.root.get_by_role("button", name="Fit", exact=True).click()
    moves = explorer.drag(explorer.slider(HEAD_OP), 3, watch=True)
    changes = [move for move in moves if move["now"]["stop"] != move["before"]["stop"]]
    assert [change["now"]["stop"].split(",")[0] for change in changes] == ["8 bits", "6 bits", "4 bits"]
    for change in changes:
        for what in ("size", "row", "graph"):
            assert change["now"][what] != change["before"][what], f"{what} did not change with the slider"
    small = explorer.total("size")
    assert small < float16
    host.page.wait_for_timeout(500)
    assert host.evaluate(f"session.plan[{HEAD!r}].bits") == 4
    assert host.evaluate("session.estimate.size_bytes") == small

    # A view in another cell, inside of the host's own layout, shows the same, and the line of code of what is selected.
    table = view(VIEWS_CELL)
    expect(table.slider(HEAD_OP)).to_have_attribute("aria-valuetext", "4 bits, palettize")
    table.click_row(HEAD_OP)
    explorer = view(EXPLORE_CELL)
    expect(explorer.selected_rows()).to_have_count(1)
    details = explorer.root.get_by_role("region", name="Details")
    expect(details.locator("summary").first).to_contain_text("self.head(")
    assert host.evaluate("session.selection") == [HEAD_OP]

    # Keys are the Explorer's, not the notebook's: a step of the slider, two of undo.
    explorer = view(EXPLORE_CELL)
    explorer.slider(HEAD_OP).press("ArrowRight")
    expect(explorer.slider(HEAD_OP)).to_have_attribute("aria-valuetext", "3 bits, palettize")
    explorer.slider(HEAD_OP).press("Control+z")
    explorer.expect_total("size", small)
    explorer.slider(HEAD_OP).press("Control+z")
    explorer.expect_total("size", float16)
    host.page.wait_for_timeout(500)
    assert host.evaluate("session.plan == tnb.Plan(model)")

    # The plan for a budget, from Python, and its source.
    assert host.evaluate("session.allocate('3.6 bits').estimate('iPhone 15 Pro').bits_per_weight") <= 3.6
    bits = host.evaluate("session.estimate.bits_per_weight")
    explorer = view(EXPLORE_CELL)
    explorer.expect_total("bits", bits)
    dialog = explorer.export("Python source")
    expect(dialog.get_by_role("code")).to_contain_text("OpPalettizerConfig")
    host.page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(explorer.export("coremltools configs")).to_contain_text(CONFIGS[host.name])
    host.page.keyboard.press("Escape")
    explorer.show_all()

    # The same plan after others were measured beside the kernel's own work, as one step.
    host.evaluate("setattr(session, 'error', tnb.sensitivity(model, data, method='one_width', progress=False))")
    said = view(EXPLORE_CELL).refine()
    assert "measured on 1 input" in said
    assert host.evaluate("session.history['label'].iloc[-1]").startswith("refined within 3.6 bits: mse ")
    assert host.evaluate("session.estimate.bits_per_weight") <= 3.6

    for dark, name in ((True, "dark"), (False, "light")):
        host.dark(dark)
        explorer = view(EXPLORE_CELL)
        assertion = expect(explorer.root)
        (assertion.to_have_attribute if dark else assertion.not_to_have_attribute)("data-dark", "")
        host.page.wait_for_timeout(300)
        host.page.screenshot(path=screenshots / f"{host.name}-{name}.png")
