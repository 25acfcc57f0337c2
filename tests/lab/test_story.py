"""What a person does with a model, from loading to a verified package, in real JupyterLab.

The tests share one notebook on the trained MiniLM. Each starts from an all-float16 plan and an empty selection.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from lab.conftest import VIEWPORT
from lab.explorer import Explorer
from lab.harness import DARK, LIGHT, Notebook

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

    from lab.conftest import OpenNotebook
    from lab.harness import Server

pytestmark = [pytest.mark.lab, pytest.mark.slow]

LOAD = f"""
import json, sys, time
from pathlib import Path
import ipywidgets
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
import models
import talaria_nb as tnb
model = models.minilm()
"""
EXPLORE = 'session = tnb.explore(model, device="iPhone 15 Pro")'
ROW = "ipywidgets.HBox([session.table, session.graph])"
BLOCK = "while not Path('go-on').exists(): time.sleep(0.05)"
START_OVER = """
session.selection = ()
session.plan = tnb.Plan(model)
"""
LOAD_CELL, EXPLORE_CELL, ROW_CELL, BLOCK_CELL = range(4)

EMBEDDINGS = """[name for name, module in zip(model.ops["name"], model.program.blocks.tree.module)
if model.program.modules.path[module].startswith("embed")]"""
EMBEDDING = "p_embeddings_word_embeddings_weight_to_fp16"


@pytest.fixture(scope="module")
def notebook(open_notebook: OpenNotebook) -> Notebook:
    opened = open_notebook([LOAD, EXPLORE, ROW, BLOCK, ""])
    opened.run(LOAD_CELL)
    opened.run(EXPLORE_CELL)
    return opened


@pytest.fixture
def explorer(notebook: Notebook, all_ops: list[str]) -> Iterator[Explorer]:
    notebook.run_code(START_OVER)
    shown = Explorer(notebook.page, notebook.cell(EXPLORE_CELL), all_ops)
    shown.show_all()
    expect(shown.selected_rows()).to_have_count(0)
    return shown


def python(notebook: Notebook, expression: str) -> Any:
    return json.loads(notebook.run_code(f"print(json.dumps({expression}))"))


@pytest.fixture(scope="module")
def all_ops(notebook: Notebook) -> list[str]:
    return list(python(notebook, "list(model.ops['name'])"))


@pytest.fixture(scope="module")
def ops(notebook: Notebook) -> dict[str, str]:
    """Name of the op with weights by its module's path."""
    weighted = "model.ops[model.ops['weight_bytes'] > 0]"
    return dict(python(notebook, f"dict(zip({weighted}['module'], {weighted}['name']))"))


def test_a_dragged_slider_moves_the_totals_and_reaches_python(
    notebook: Notebook, explorer: Explorer, ops: dict[str, str]
) -> None:
    size, latency = explorer.total("size"), explorer.total("latency")
    assert size == python(notebook, "session.estimate.size_bytes")
    explorer.drag(explorer.slider(ops["embeddings.word_embeddings"]), 3)
    assert explorer.total("size") < 0.7 * size
    assert explorer.total("latency") <= latency
    notebook.page.wait_for_timeout(500)
    assert python(notebook, f"session.plan[{EMBEDDING!r}].bits") == 4
    assert python(notebook, "session.estimate.size_bytes") == explorer.total("size")
    assert python(notebook, "session.estimate.latency_ms") == pytest.approx(explorer.total("latency"), rel=1e-9)


def test_with_the_kernel_blocked_a_drag_still_shows_in_the_same_frame(
    notebook: Notebook, explorer: Explorer, ops: dict[str, str], server: Server
) -> None:
    slider = explorer.slider(ops["embeddings.word_embeddings"])
    before = explorer.total("size")
    notebook.start(BLOCK_CELL)
    notebook.page.wait_for_timeout(500)
    assert notebook.is_busy()
    moves = explorer.drag(slider, 3, watch=True)
    assert notebook.is_busy(), "the kernel was free before the drag ended, which proves nothing"
    (server.notebooks / "go-on").touch()
    changes = [move for move in moves if move["now"]["stop"] != move["before"]["stop"]]
    assert [change["now"]["stop"].split(",")[0] for change in changes] == ["8 bits", "6 bits", "4 bits"]
    print("ms from pointer to the end of its frame:", [round(change["ms"]) for change in changes])  # noqa: T201
    for change in changes:
        for what in ("size", "row", "graph"):
            assert change["now"][what] != change["before"][what], f"{what} did not change with the slider"
    after = explorer.total("size")
    assert after < before
    notebook.wait_done(BLOCK_CELL)
    notebook.page.wait_for_timeout(500)
    assert python(notebook, f"session.plan[{EMBEDDING!r}].bits") == 4
    assert explorer.total("size") == after, "the answer from Python moved what was on screen"


def test_a_drag_is_one_step_to_undo_and_redo(notebook: Notebook, explorer: Explorer, ops: dict[str, str]) -> None:
    float16 = explorer.total("size")
    explorer.drag(explorer.slider(ops["embeddings.word_embeddings"]), 3)
    small = explorer.total("size")
    assert small < float16
    explorer.root.get_by_role("button", name="Undo").click()
    explorer.expect_total("size", float16)
    explorer.root.get_by_role("button", name="Redo").click()
    explorer.expect_total("size", small)
    notebook.page.wait_for_timeout(500)
    notebook.run_code("session.undo()")
    explorer.expect_total("size", float16)
    notebook.run_code("session.redo()")
    explorer.expect_total("size", small)


def test_the_model_wide_slider_sets_every_weight(notebook: Notebook, explorer: Explorer) -> None:
    explorer.drag(explorer.root.get_by_role("slider", name="Bits of all weights"), 2)
    notebook.page.wait_for_timeout(500)
    bits = python(notebook, "[s.bits for s in session.plan.schemes.values()]")
    assert set(bits) == {6}
    assert explorer.total("bits") == pytest.approx(6, abs=0.1)


def test_selecting_in_the_graph_selects_and_shows_the_rows(notebook: Notebook, explorer: Explorer) -> None:
    explorer.click_box("embeddings")
    # A cast of a model's input belongs to the model, wherever it runs.
    expected = python(notebook, EMBEDDINGS)
    assert len(expected) > 1
    assert sorted(python(notebook, "session.selection")) == sorted(expected)
    expect(explorer.selected_rows().first).to_be_in_viewport()
    shown = explorer.names(explorer.selected_rows())
    assert shown
    assert set(shown) <= set(expected)
    # The keys stay in the view that was clicked, although nothing in a canvas takes the focus itself.
    explorer.click_box("embeddings")
    notebook.page.keyboard.press("Escape")
    expect(explorer.selected_rows()).to_have_count(0)
    notebook.page.wait_for_timeout(500)
    assert python(notebook, "session.selection") == []


def test_selecting_a_row_marks_the_box(notebook: Notebook, explorer: Explorer, ops: dict[str, str]) -> None:
    op = ops["embeddings.word_embeddings"]
    explorer.click_row(op)
    expect(explorer.box("embeddings")).to_have_accessible_name(re.compile("partly selected$"))
    assert python(notebook, "session.selection") == [op]
    notebook.run_code("session.selection = ()")
    expect(explorer.selected_rows()).to_have_count(0)


def test_details_show_the_line_of_an_op_and_the_palette_of_its_weight(explorer: Explorer, ops: dict[str, str]) -> None:
    op = ops["encoder.layer.0.attention.self.query"]
    explorer.click_row(op)
    details = explorer.root.get_by_role("region", name="Details")
    line = details.locator("summary").first
    expect(line).to_contain_text("self.query(hidden_states)")
    expect(line).to_have_attribute("title", re.compile(r"/modeling_bert\.py:\d+$"))
    values = details.get_by_role("img")
    expect(values).to_have_accessible_name(re.compile(r"^147\s456 values of .*float16$"))
    explorer.drag(explorer.slider(op), 3)
    # The palette that comes is that of the last stop: its sixteen values are read out.
    expect(values).to_have_accessible_name(re.compile(r"4-bit palettize · 16 values(.*, ){15}"))


def test_python_edits_and_selects_in_the_browser(notebook: Notebook, explorer: Explorer, ops: dict[str, str]) -> None:
    notebook.run_code('session.plan = session.plan.set("encoder.layer.0.*", tnb.Palettize(2))')
    explorer.expect_total("size", python(notebook, "session.estimate.size_bytes"))
    op = ops["encoder.layer.0.attention.self.query"]
    expect(explorer.slider(op)).to_have_attribute("aria-valuetext", "2 bits, palettize")
    explorer.show_all()
    notebook.run_code(f"session.selection = [{op!r}]")
    expect(explorer.selected_rows()).to_have_count(1)
    expect(explorer.selected_rows()).to_be_in_viewport()


def test_views_in_a_row_share_its_width_and_stay_linked_with_those_of_other_cells(
    notebook: Notebook, explorer: Explorer, ops: dict[str, str]
) -> None:
    op = ops["embeddings.word_embeddings"]
    float16 = explorer.total("size")
    notebook.run(ROW_CELL)
    cell = notebook.cell(ROW_CELL)
    row = cell.locator(".widget-hbox")
    table, graph = (Explorer(notebook.page, row.locator("> *").nth(place), explorer.ops) for place in (0, 1))
    whole, *views = [each.bounding_box() for each in (row, table.root, graph.root)]
    assert whole is not None
    for view in views:
        assert view is not None
        assert view["width"] == pytest.approx(whole["width"] / 2, abs=8)
        assert whole["x"] <= view["x"] <= view["x"] + view["width"] <= whole["x"] + whole["width"] + 1

    table.drag(table.slider(op), 3)
    table.click_row(op)
    expect(graph.box("embeddings")).to_have_accessible_name(re.compile("partly selected$"))
    graph.click_box("embeddings")
    table.show_all()
    expect(table.selected_rows().first).to_be_in_viewport()
    assert set(table.names(table.selected_rows())) <= set(python(notebook, EMBEDDINGS))

    explorer = Explorer(notebook.page, notebook.cell(EXPLORE_CELL), explorer.ops)
    assert explorer.total("size") < float16
    expect(explorer.slider(op)).to_have_attribute("aria-valuetext", "4 bits, palettize")
    expect(explorer.selected_rows()).to_have_count(1)
    assert sorted(python(notebook, "session.selection")) == sorted(python(notebook, EMBEDDINGS))


def test_the_menu_exports_source_configs_and_a_verified_package(
    notebook: Notebook, explorer: Explorer, ops: dict[str, str], server: Server
) -> None:
    explorer.drag(explorer.slider(ops["embeddings.word_embeddings"]), 3)
    notebook.run_code('session.plan = session.plan.set("encoder.*", tnb.LinearQuantize("int8"))')

    dialog = explorer.export("Python source")
    expect(dialog.get_by_role("code")).to_contain_text("OpPalettizerConfig")
    dialog.get_by_label("File name").fill("small.py")
    notebook.page.keyboard.press("Enter")
    expect(dialog.get_by_role("status").last).to_contain_text("Saved")
    notebook.page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(explorer.root.get_by_role("button", name="Export")).to_be_focused()
    source = (server.notebooks / "small.py").read_text()
    assert source == notebook.run_code("print(session.plan.to_python())") + "\n"
    compile(source, "exported", "exec")

    dialog = explorer.export("coremltools configs")
    expect(dialog).to_contain_text("This notebook now has optimization_configs")
    notebook.page.keyboard.press("Escape")
    assert python(notebook, "[name for name, _ in optimization_configs]") == ["palettize", "linear_quantize"]

    package = server.notebooks / "small.mlpackage"
    dialog = explorer.export("Compressed package")
    dialog.get_by_label("File name").fill(package.name)
    notebook.page.keyboard.press("Enter")
    expect(dialog.get_by_role("progressbar")).to_have_attribute("aria-valuenow", re.compile(r"[1-9]\d"), timeout=60_000)
    expect(dialog).to_contain_text("are exactly as predicted", timeout=120_000)
    expect(dialog).to_contain_text(f"Saved {package}.")
    sizes = {file.name: file.stat().st_size for file in package.rglob("*") if file.is_file()}
    assert sizes["weight.bin"] == python(notebook, "session.estimate.weight_file_bytes")
    assert sum(sizes.values()) == pytest.approx(explorer.total("size"), rel=1e-4)
    notebook.page.keyboard.press("Escape")

    changed = package.stat().st_mtime_ns
    dialog = explorer.export("Compressed package")
    dialog.get_by_label("File name").fill(package.name)
    notebook.page.keyboard.press("Enter")
    expect(dialog.get_by_role("alert")).to_contain_text("small.mlpackage exists already", timeout=60_000)
    expect(dialog.get_by_role("button", name="Save as small-2.mlpackage")).to_be_visible()
    notebook.page.keyboard.press("Escape")
    assert package.stat().st_mtime_ns == changed


def test_the_best_plan_for_a_budget_beside_a_snapshot_and_undone(notebook: Notebook, explorer: Explorer) -> None:
    float16 = explorer.total("size")
    panel = explorer.optimize("3.6 bits")
    assert explorer.total("bits") <= 3.6
    assert explorer.total("size") == python(notebook, "session.estimate.size_bytes")
    expect(panel).to_contain_text("knows nothing about the model's output")
    panel.get_by_label("Budget").press("Escape")
    expect(panel).to_have_count(0)

    explorer.root.get_by_role("tab", name="History").click()
    name = explorer.root.get_by_label("Name of the snapshot")
    name.fill("small")
    expect(explorer.root.get_by_role("button", name="Keep", exact=True)).to_be_enabled()
    name.press("Enter")
    expect(explorer.root.get_by_role("button", name="small", exact=True)).to_be_visible()
    notebook.run_code('session.plan = session.plan.set("encoder.*", tnb.Palettize(8))')
    explorer.root.get_by_label("Compare with").select_option(label="vs small")
    expect(explorer.root.get_by_label("Totals")).to_contain_text("larger than small")
    notebook.page.wait_for_timeout(500)
    assert python(notebook, "session.baseline == session.snapshots['small']")

    notebook.cell(EXPLORE_CELL)
    undo = explorer.root.get_by_role("button", name="Undo", exact=True)
    undo.click()
    undo.click()
    explorer.expect_total("size", float16)
    notebook.run_code("session.baseline = None")


def test_a_saved_notebook_shows_its_last_state_without_its_kernel(
    notebook: Notebook, explorer: Explorer, server: Server, browser: Browser, all_ops: list[str], screenshots: Path
) -> None:
    notebook.run_code("session.plan = session.plan.set('*', tnb.Palettize(6))")
    small = python(notebook, "session.estimate.size_bytes")
    explorer.expect_total("size", small)
    # The picture is drawn once things have been quiet for a second.
    notebook.page.wait_for_timeout(1500)
    saved = {"picture": notebook.save().read_text()}
    notebook.switch_saving_of_widgets()
    notebook.run_code("session.plan")
    saved["widgets"] = notebook.save().read_text()
    notebook.switch_saving_of_widgets()
    print({what: len(text) for what, text in saved.items()})  # noqa: T201

    for what, text in saved.items():
        (server.notebooks / f"saved-{what}.ipynb").write_text(text)

    # Opened with a new kernel: a table, and no word of an error above it.
    opened = server.open(browser.new_context(viewport=VIEWPORT).new_page(), "saved-picture.ipynb")
    cell = opened.cell(EXPLORE_CELL)
    expect(cell.get_by_text("the Explorer as it was at")).to_be_visible()
    expect(cell.get_by_role("row", name="size of the package")).to_contain_text(f"{small / 1e6:.3g} MB")
    expect(cell.get_by_text("Error displaying widget")).to_be_hidden()
    opened.page.screenshot(path=screenshots / "saved-picture.png")

    # With its widgets: everything, and what edits are worth.
    opened.replace("saved-widgets.ipynb")
    cell = opened.cell(EXPLORE_CELL)
    shown = Explorer(opened.page, cell, all_ops)
    assert shown.total("size") == small
    expect(shown.root.get_by_role("status").first).to_contain_text("This is how the notebook was saved")
    expect(cell.get_by_text("the Explorer as it was at")).to_be_hidden()
    shown.click_row(all_ops[0])
    expect(shown.selected_rows()).to_have_count(1)
    opened.page.screenshot(path=screenshots / "saved-widgets.png")
    opened.close()


def test_a_page_that_is_loaded_again_has_the_plan_and_its_undo(
    notebook: Notebook, explorer: Explorer, all_ops: list[str]
) -> None:
    float16 = explorer.total("size")
    explorer.drag(explorer.root.get_by_role("slider", name="Bits of all weights"), 2)
    small = explorer.total("size")
    assert small < float16
    notebook.page.wait_for_timeout(500)
    notebook.reload()
    again = Explorer(notebook.page, notebook.cell(EXPLORE_CELL), all_ops)
    again.expect_total("size", small)
    again.root.get_by_role("button", name="Undo", exact=True).click()
    again.expect_total("size", float16)


def test_pictures(notebook: Notebook, explorer: Explorer, screenshots: Path) -> None:
    notebook.run_code('session.plan = session.plan.set("encoder.*", tnb.Palettize(6))')
    explorer.click_box("embeddings")
    for theme, name in ((LIGHT, "story-light.png"), (DARK, "story-dark.png")):
        notebook.theme(theme)
        notebook.cell(EXPLORE_CELL)
        notebook.page.wait_for_timeout(500)
        notebook.page.screenshot(path=screenshots / name)
    notebook.theme(LIGHT)
