"""Paths as people write them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from talaria_nb.errors import TalariaError


def expanded(path: str | os.PathLike[str], error: type[TalariaError]) -> Path:
    """Return a path with the home folder for a ~ at its start; where that stands for no user, it is part of a name.

    Raises
    ------
    TalariaError
        Of the kind given, if there is a NUL in it: no system has such a file, and each call says so in its own way.
    """
    if "\0" in os.fspath(path):
        raise error(f"{os.fspath(path)!r} is no path: there is a NUL in it.")
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser raises where there is no such user
