"""Packages on disk, and how large their weight files are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from talaria_nb.compressed import dense_value
from talaria_nb.export import constexprs
from talaria_nb.package import parse

if TYPE_CHECKING:
    import coremltools as ct
    import numpy as np


def saved(mlmodel: ct.models.MLModel, folder: Path) -> Path:
    path = folder / "saved.mlpackage"
    mlmodel.save(str(path))
    return path


def actual_bytes(mlmodel: ct.models.MLModel) -> int:
    return (Path(mlmodel.weights_dir) / "weight.bin").stat().st_size


def dequantized_weights(mlmodel: ct.models.MLModel) -> dict[str, np.ndarray]:
    """Read the weights of a compressed model back as a device would see them, in each weight's own shape."""
    if mlmodel._mil_program is None:  # as coremltools leaves it where it read the package
        mlmodel._mil_program = parse(mlmodel, "saved")
    return {weight: dense_value(op) for weight, op in constexprs(mlmodel).items()}
