"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a text as UTF-8; the file that was there is replaced at once, or stays as it is.

    Raises
    ------
    OSError
        If the folder does not exist, or writing fails, as on a full disk.
    """
    with tempfile.TemporaryDirectory(prefix=".talaria-nb-", dir=path.parent) as folder:
        written = Path(folder) / "text"
        written.write_text(text, encoding="utf-8")
        written.replace(path)


def reason(error: OSError) -> str:
    """Say in a few words why something could not be saved."""
    # shutil gathers the errors of single files as text.
    if error.errno == errno.ENOSPC or "No space left" in str(error):
        return "the disk is full."
    return f"{error.strerror or error}."
