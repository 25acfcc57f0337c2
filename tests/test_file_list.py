"""README's list of files is the order of imports: it names every file, and a file imports only from those above it."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON, FRONT_END = README.split("\n    talaria_nb/\n")[1].split("\n    js/bench/")[0].split("\n    js/src/\n")
ORDER = re.findall(r"^      (\w+)(?:\.py|/) ", PYTHON, re.MULTILINE)

# Calibrating devices is a tool beside the package: it prices and loads what is above it.
TOOLS = {"devices/calibrate.py", "devices/fit.py", "devices/report.py"}


def files() -> Iterator[tuple[str, Path]]:
    for path in sorted((ROOT / "talaria_nb").rglob("*.py")):
        name = path.relative_to(ROOT / "talaria_nb").as_posix()
        if name != "__init__.py":
            yield name, path


def imported(node: ast.AST) -> Iterator[str]:
    """Name what is imported as the file is; what a function imports is there by the time it is called."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        if isinstance(child, ast.ImportFrom) and (child.module or "").startswith("talaria_nb"):
            _, _, below = (child.module or "").partition(".")
            yield from [below.split(".")[0]] if below else [alias.name for alias in child.names]
        elif isinstance(child, ast.Import):
            yield from (alias.name.split(".")[1] for alias in child.names if alias.name.startswith("talaria_nb."))
        yield from imported(child)


def test_every_file_is_listed_once_and_is_there() -> None:
    own = {name.split("/")[0].removesuffix(".py") for name, _ in files()}
    assert sorted(ORDER) == sorted(own)


def test_files_import_only_from_above() -> None:
    upward = [
        f"{name} imports {other}"
        for name, path in files()
        if name not in TOOLS
        for other in imported(ast.parse(path.read_text(encoding="utf-8")))
        if other in ORDER and ORDER.index(other) > ORDER.index(name.split("/")[0].removesuffix(".py"))
    ]
    assert upward == []


def test_nothing_but_the_session_and_its_views_knows_widgets() -> None:
    widgets = re.compile(r"^(?:from|import) (?:ipy|any)widget", re.MULTILINE)
    knowing = [name for name, path in files() if widgets.search(path.read_text(encoding="utf-8"))]
    assert [name for name in knowing if not name.startswith("views/")] == ["session.py"]


def test_every_file_of_the_front_end_is_listed() -> None:
    own = {path.name for path in (ROOT / "js" / "src").glob("*.ts") if not path.name.endswith(".d.ts")}
    assert own <= set(re.findall(r"\w+\.ts\b", FRONT_END))
