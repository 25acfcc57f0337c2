"""The Explorer as a person finds it on the page: totals to read, sliders to drag, rows and boxes to click."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

# Watches a drag from inside the page. For every pointer move it keeps what stood on screen when the event arrived and
# what stands there at the end of the very next frame: a resize observer is called after all animation callbacks and
# layout of a frame, right before that frame is painted.
WATCH = """(explorer) => {
    const slider = explorer.getRootNode().activeElement.closest("[role=slider]"), row = slider.closest("[role=row]");
    const canvas = explorer.querySelector("[data-testid=graph-canvas]");
    const see = () => {
        const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        let hash = 0;
        for (let i = 0; i < pixels.length; i++) hash = (hash * 31 + pixels[i]) | 0;
        return {
            stop: slider.getAttribute("aria-valuetext"),
            size: explorer.querySelector("[data-testid=total-size]").textContent,
            row: row.querySelector(".tlr-cell-size").textContent,
            graph: hash,
        };
    };
    const sentinel = document.body.appendChild(document.createElement("div"));
    sentinel.style.cssText = "position: fixed; width: 1px; height: 1px; visibility: hidden";
    window.watched = [];
    let move = null;
    new ResizeObserver(() => {
        if (move) window.watched.push({ before: move.before, now: see(), ms: performance.now() - move.time });
        move = null;
    }).observe(sentinel);
    addEventListener("pointermove", (event) => {
        move = { before: see(), time: event.timeStamp };
        requestAnimationFrame(() => { sentinel.style.width = sentinel.style.width === "1px" ? "2px" : "1px"; });
    }, { capture: true });
}"""


class Explorer:
    """One Explorer, or another view of its session, inside `frame` (a cell). `ops` are the names of the model's ops."""

    def __init__(self, page: Page, frame: Locator, ops: list[str]) -> None:
        self.page = page
        self.ops = ops
        self.root = frame.locator(".tlr").first
        expect(self.root).to_be_visible(timeout=30_000)

    def total(self, name: str) -> float:
        """Return a total as a number: "size", "latency" or "bits"."""
        return float(self._total(name).get_attribute("data-value") or "nan")

    def expect_total(self, name: str, value: float) -> None:
        """Wait until a total shows this value, as exactly as Python and the browser agree."""
        self.page.wait_for_function(
            "([total, value]) => Math.abs(total.dataset.value - value) <= 1e-9 * Math.abs(value)",
            arg=[self._total(name).element_handle(), value],
        )

    def _total(self, name: str) -> Locator:
        return self.root.get_by_test_id(f"total-{name}")

    def row(self, op: str) -> Locator:
        """Return the row of an op, after searching for it, so that it is among those drawn."""
        self.root.get_by_label("Search ops").fill(op)
        return self.root.locator(f'[data-testid=op-row][data-op="{self.ops.index(op)}"]')

    def click_row(self, op: str) -> None:
        """Click an op's row on its name."""
        self.row(op).locator(".tlr-cell-name").click()

    def slider(self, op: str) -> Locator:
        """Return the slider in an op's row."""
        return self.row(op).get_by_role("slider")

    def show_all(self) -> None:
        """Empty the search."""
        self.root.get_by_label("Search ops").fill("")

    def selected_rows(self) -> Locator:
        """Return the rows that show as selected."""
        return self.root.locator('[data-testid=op-row][aria-selected="true"]')

    def names(self, rows: Locator) -> list[str]:
        """Return the ops that rows show."""
        return [self.ops[int(row.get_attribute("data-op") or -1)] for row in rows.all()]

    def box(self, module: str) -> Locator:
        """Return the accessible twin of a module's box in the graph, which lies exactly over it."""
        return self.root.get_by_role("treeitem", name=f"{module}, ")

    def click_box(self, module: str) -> None:
        """Click a module's box on the canvas."""
        self.box(module).scroll_into_view_if_needed()
        x, y = self._middle(self.box(module))
        self.page.mouse.click(x, y)

    def export(self, item: str) -> Locator:
        """Choose an item of the Export menu by keys, and return the dialog that it opens."""
        self.root.get_by_role("button", name="Export").press("ArrowDown")
        items = self.root.get_by_role("menuitem")
        expect(items.first).to_be_focused()
        wanted = self.root.get_by_role("menuitem", name=item)
        for _ in range(items.count()):
            # In marimo the view lies in a shadow root, which alone knows what has the focus inside of it.
            if wanted.evaluate("item => item === item.getRootNode().activeElement"):
                break
            self.page.keyboard.press("ArrowDown")
        expect(wanted).to_be_focused()
        self.page.keyboard.press("Enter")
        dialog = self.root.get_by_role("dialog")
        expect(dialog).to_be_visible(timeout=30_000)
        return dialog

    def drag(self, slider: Locator, stops: int, *, watch: bool = False) -> list[dict[str, Any]]:
        """Drag a slider's thumb by so many stops to the right, one stop a move, and return what was watched."""
        slider.scroll_into_view_if_needed()
        box = slider.bounding_box()
        assert box is not None
        inset = float(slider.evaluate("slider => parseFloat(getComputedStyle(slider).paddingLeft)"))
        at, last = (int(slider.get_attribute(name) or 0) for name in ("aria-valuenow", "aria-valuemax"))
        step = (box["width"] - 2 * inset) / last
        x, y = box["x"] + inset + at * step, box["y"] + box["height"] / 2
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        if watch:
            self.root.evaluate(WATCH)
        for stop in range(1, stops + 1):
            self.page.mouse.move(x + stop * step, y)
            # A hand rests on every stop for longer than a frame.
            self.page.wait_for_timeout(100)
        self.page.mouse.up()
        return list(self.page.evaluate("window.watched")) if watch else []

    @staticmethod
    def _middle(locator: Locator) -> tuple[float, float]:
        box = locator.bounding_box()
        assert box is not None
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def optimize(self, budget: str) -> Locator:
        """Ask the Optimize menu for the best plan within a budget, and wait for it."""
        panel = self._open_optimize()
        # Enabled once the errors of all weights are known.
        expect(panel.get_by_role("slider", name="Bits a weight")).to_be_enabled(timeout=120_000)
        panel.get_by_label("Budget").fill(budget)
        panel.get_by_label("Budget").press("Enter")
        expect(panel.get_by_role("status").first).to_contain_text("bits a weight", timeout=60_000)
        return panel

    def refine(self) -> str:
        """Have the Optimize menu measure plans and take the best, and return what it says of it."""
        part = self._open_optimize().get_by_role("region", name="Refine by measuring")
        part.get_by_role("button", name="Refine").click()
        expect(part.get_by_role("status")).to_contain_text("measured on", timeout=60_000)
        said = part.get_by_role("status").inner_text()
        self.page.keyboard.press("Escape")
        return said

    def _open_optimize(self) -> Locator:
        self.root.get_by_role("button", name="Optimize").click()
        return self.root.get_by_role("dialog", name="Best plan for a budget")
