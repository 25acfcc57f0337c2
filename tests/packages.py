"""Packages on disk, and how large their weight files are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import coremltools as ct


def saved(mlmodel: ct.models.MLModel, folder: Path) -> Path:
    path = folder / "saved.mlpackage"
    mlmodel.save(str(path))
    return path


def actual_bytes(mlmodel: ct.models.MLModel) -> int:
    return (Path(mlmodel.weights_dir) / "weight.bin").stat().st_size
