"""Real JupyterLab and Notebook 7 in real Chromium, driven as a person would: a server, a page, a notebook in it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import nbformat
from playwright.sync_api import expect, sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from playwright.sync_api import Browser, Locator, Page

SETTINGS = {
    "apputils-extension/notification": '{"fetchNews": "false", "checkForUpdates": false, "doNotDisturbMode": true}',
    "apputils-extension/themes": '{"theme": "JupyterLab Light", "adaptive-theme": false}',
}
CHROMIUM_FLAGS = [
    "--no-sandbox",  # CI runs as root, where Chromium has no sandbox
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
LIGHT, DARK = "JupyterLab Light", "JupyterLab Dark"
CELL_TIMEOUT_MS = 300_000


@contextmanager
def jupyter_lab(directory: Path) -> Iterator[Server]:
    """Run a JupyterLab server on a free port, with its own settings, workspaces and notebooks under `directory`."""
    notebooks = directory / "notebooks"
    notebooks.mkdir()
    port = free_port()
    server = Server(f"http://127.0.0.1:{port}", notebooks)
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", f"--ServerApp.root_dir={notebooks}"]
    environment = jupyter_environment(directory, port)
    with serving(command, f"{server.url}/api/status", environment, directory / "jupyter.log"):
        yield server


def jupyter_environment(directory: Path, port: int) -> dict[str, str]:
    """Return variables under which Jupyter serves at a port, without a token, and keeps what it has in `directory`."""
    homes = {
        name: directory / name for name in ("config", "data", "runtime", "settings", "workspaces", "ipython", "cache")
    }
    for name, text in SETTINGS.items():
        path = homes["settings"] / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    homes["config"].mkdir()
    configs = {
        "server": {
            "ServerApp": {
                "allow_root": True,
                "ip": "127.0.0.1",
                "port": port,
                "port_retries": 0,
            },
            "IdentityProvider": {"token": ""},
        },
        "lab": {"LabApp": {"expose_app_in_browser": True}},
        "notebook": {"JupyterNotebookApp": {"expose_app_in_browser": True}},
    }
    for name, config in configs.items():
        (homes["config"] / f"jupyter_{name}_config.json").write_text(json.dumps(config))
    return {
        **os.environ,
        "JUPYTER_CONFIG_DIR": str(homes["config"]),
        "JUPYTER_DATA_DIR": str(homes["data"]),
        "JUPYTER_RUNTIME_DIR": str(homes["runtime"]),
        "JUPYTERLAB_SETTINGS_DIR": str(homes["settings"]),
        "JUPYTERLAB_WORKSPACES_DIR": str(homes["workspaces"]),
        "IPYTHONDIR": str(homes["ipython"]),
        "XDG_CACHE_HOME": str(homes["cache"]),
    }


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(
    command: Sequence[str], status: str, environment: Mapping[str, str], log: Path, folder: Path | None = None
) -> Iterator[None]:
    """Run a server while the context lasts, in a folder, from when its `status` page answers."""
    with log.open("w") as out:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + 120
        while not answers(status):
            if process.poll() is not None or time.monotonic() > deadline:
                message = f"{' '.join(command[:4])} did not start:\n{log.read_text()}"
                raise RuntimeError(message)
            time.sleep(0.2)
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def answers(url: str) -> bool:
    """Tell whether a page of our own server is there."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 - our own server
            return bool(response.status == 200)
    except OSError:
        return False


@dataclass(frozen=True)
class Server:
    """A running JupyterLab."""

    url: str
    notebooks: Path

    def open(self, page: Page, name: str, *, app: Literal["lab", "notebook"] = "lab") -> Notebook:
        """Open a notebook in JupyterLab, in a workspace of its own, or in Notebook 7."""
        lab = f"lab/workspaces/auto-{name.partition('.')[0]}/tree/{name}?reset"
        page.goto(f"{self.url}/{lab if app == 'lab' else f'notebooks/{name}'}")
        return Notebook(self, page)

    def write(self, name: str, cells: Sequence[str]) -> str:
        """Write a notebook of code cells and return its name."""
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, self.notebooks / name)
        return name


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Chromium: `$CHROMIUM`, else the one on PATH, else Playwright's own."""
    executable = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_FLAGS)
        try:
            yield browser
        finally:
            browser.close()


class Notebook:
    """The notebook that a page shows in JupyterLab, or in Notebook 7. Cells are counted from 0, text cells included."""

    def __init__(self, server: Server, page: Page) -> None:
        self.page = page
        self._server = server
        self._wait_open()

    def _wait_open(self) -> None:
        self.page.wait_for_function(
            "window.jupyterapp?.shell?.currentWidget?.content?.widgets?.length > 0", timeout=60_000
        )
        self._panel("await panel.context.ready; await panel.sessionContext.ready")
        self.wait_idle()

    def reload(self) -> None:
        """Save the notebook and load the page again; the kernel goes on."""
        self.save()
        self.page.reload()
        self._wait_open()

    def restart(self) -> None:
        """Restart the kernel by the menu."""
        self._choose("kernelmenu:restart")
        self.page.locator(".jp-Dialog .jp-mod-accept").click()
        self.wait_idle()

    def shut_down(self) -> None:
        """Shut the kernel down by the menu: the notebook has none then."""
        self._choose("kernelmenu:shutdown")
        expect(self.page.get_by_role("button", name="No Kernel", exact=True)).to_be_visible(timeout=30_000)

    def _choose(self, command: str) -> None:
        """Do what an item of a menu does, and do not wait for it: it may ask in a dialog."""
        self._panel("void app.commands.execute(args[0])", command)

    def replace(self, name: str) -> None:
        """Shut the kernel down, and open another notebook in the place of this one."""
        self._panel("await panel.sessionContext.shutdown(); await panel.context.save(); panel.dispose()")
        self.page.evaluate("path => void window.jupyterapp.commands.execute('docmanager:open', { path })", name)
        self._wait_open()

    def save(self) -> Path:
        """Save the notebook and return its file."""
        return self._server.notebooks / self._panel("await panel.context.save(); return panel.context.path")

    def switch_saving_of_widgets(self) -> None:
        """Switch JupyterLab's setting Save Widget State Automatically, which is off at first."""
        self._panel('await app.commands.execute("@jupyter-widgets/jupyterlab-manager:saveWidgetState")')

    def _panel(self, body: str, *arguments: Any) -> Any:
        """Run JavaScript with the lab's `app` and the notebook's `panel`, for a minute at most."""
        return self.page.evaluate(
            "(args) => { const app = window.jupyterapp, panel = app.shell.currentWidget;"
            "const late = (_, fail) => setTimeout(() => fail(new Error('no answer within a minute')), 60_000);"
            f"return Promise.race([(async () => {{ {body} }})(), new Promise(late)]); }}",
            list(arguments),
        )

    def start(self, index: int) -> None:
        """Run a cell and do not wait for it."""
        self._panel(
            """panel.content.activeCellIndex = args[0]; panel.content.deselectAll();
            void app.commands.execute("notebook:run-cell");
            """,
            index,
        )

    def run(self, index: int) -> str:
        """Run a cell to its end and return its text output; fail with its traceback if it raises."""
        self.start(index)
        self.wait_done(index)
        return self.output(index)

    def run_code(self, source: str) -> str:
        """Write code into the notebook's last cell, and run that."""
        index = self._panel(
            """const cells = panel.content.widgets, last = cells[cells.length - 1].model;
            last.sharedModel.setSource(args[0]); last.outputs.clear(); return cells.length - 1;""",
            source,
        )
        return self.run(index)

    def wait_done(self, index: int) -> None:
        """Wait until a started cell has ended."""
        # A cell that runs or waits has no execution count yet, and a kernel that has just been asked is not busy yet.
        self.page.wait_for_function(
            """(index) => { const panel = window.jupyterapp.shell.currentWidget;
            const cell = panel.content.widgets[index].model;
            return cell.executionState !== "running" && cell.executionCount !== null
                && panel.sessionContext.session.kernel.status === "idle"; }""",
            arg=index,
            timeout=CELL_TIMEOUT_MS,
        )

    def wait_idle(self) -> None:
        """Wait until the kernel has nothing to do."""
        self.page.wait_for_function(
            'window.jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status === "idle"', timeout=60_000
        )

    def is_busy(self) -> bool:
        """Tell whether the kernel is running a cell."""
        return bool(self._panel('return panel.sessionContext.session.kernel.status === "busy"'))

    def output(self, index: int) -> str:
        """Return what a cell printed and returned, as text."""
        texts = []
        for output in self._panel("return panel.content.widgets[args[0]].model.outputs.toJSON()", index):
            if output["output_type"] == "error":
                message = "\n".join(output["traceback"])
                raise AssertionError(message)
            text = output["text"] if "text" in output else output["data"].get("text/plain", "")
            texts.append(text if isinstance(text, str) else "".join(text))
        return "".join(texts).strip()

    def cell(self, index: int) -> Locator:
        """Scroll a cell into view and return its node."""
        self._panel(
            """await panel.content.scrollToItem(args[0], "start");
            panel.content.widgets[args[0]].node.dataset.cell = args[0];""",
            index,
        )
        return self.page.locator(f'[data-cell="{index}"]')

    def theme(self, name: str) -> None:
        """Switch to the theme called LIGHT or DARK here."""
        self._panel('await app.commands.execute("apputils:change-theme", {theme: args[0]})', name)
        expect(self.page.locator("body")).to_have_attribute(
            "data-jp-theme-light", str(name == LIGHT).lower(), timeout=30_000
        )

    def close(self) -> None:
        """Shut the kernel down and leave the page."""
        self._panel("await panel.sessionContext.shutdown(); await panel.context.save()")
        self.page.context.close()
