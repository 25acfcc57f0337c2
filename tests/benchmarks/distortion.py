"""The error sweep against coremltools palettizing each weight: `python tests/benchmarks/distortion.py [MODEL ...]`.

Every weight with more than 2048 elements of a ViT-B/16 and a ResNet50 (timm, random values) and of the trained MiniLM,
in float16, at 8, 6, 4, 3, 2 and 1 bits with one table each. Ours sweeps them all. coremltools takes minutes for it:
it is given one weight of each shape, and its time counts as often as the shape occurs. Both run on one thread, and what
is compared is the processor time of that thread, which other work on the machine changes least.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from coremltools.optimize.coreml._quantization_passes import palettize_weights

sys.path.insert(0, str(Path(__file__).parents[1]))

import models
import talaria_nb as tnb
import vision  # noqa: F401 - it finds timm
from talaria_nb.distortion import squared_errors

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

BITS = (8, 6, 4, 3, 2, 1)
SCHEMES = [tnb.Palettize(nbits) for nbits in BITS]


def _module(name: str) -> nn.Module:
    if name == "MiniLM":
        return models.minilm_module()
    import timm

    return timm.create_model({"ViT-B": "vit_base_patch16_224", "ResNet50": "resnet50"}[name])


def _sweep(weight: NDArray[np.float16]) -> tuple[float, NDArray[np.float64]]:
    start = time.thread_time()
    errors = squared_errors(weight, SCHEMES, channel_axes=(1, 0))
    return time.thread_time() - start, errors


def _coremltools(weight: NDArray[np.float16]) -> tuple[float, NDArray[np.float64]]:
    sizes = [0] * weight.ndim
    start = time.thread_time()
    stored = [palettize_weights.blockwise_compress(weight, "KMEANS", nbits, sizes) for nbits in BITS]
    seconds = time.thread_time() - start
    restored = map(palettize_weights.decompress, stored)
    return seconds, np.array([np.sum(np.subtract(weight, each, dtype=np.float64) ** 2) for each in restored])


def main(names: list[str]) -> None:
    """Print one line a model."""
    print(f"{'model':10} {'coremltools s':>14} {'ours s':>8} {'ratio':>7}  error ratio at 8, 6, … 1 bits, worst weight")  # noqa: T201
    for name in names or ["MiniLM", "ResNet50", "ViT-B"]:
        weights = [each.detach().numpy().astype(np.float16) for each in _module(name).parameters()]
        weights = [weight for weight in weights if weight.ndim > 1 and weight.size > 2048]
        _sweep(weights[0])  # compiles
        ours = sum(_sweep(weight)[0] for weight in weights)
        theirs, worst = 0.0, np.zeros(len(BITS))
        for shape in sorted({weight.shape for weight in weights}, key=np.prod):
            alike = [weight for weight in weights if weight.shape == shape]
            seconds, optimum = _coremltools(alike[0])
            theirs += seconds * len(alike)
            worst = np.maximum(worst, _sweep(alike[0])[1] / optimum)
        ratios = " ".join(f"{ratio:.4f}" for ratio in worst)
        print(f"{name:10} {theirs:14.1f} {ours:8.2f} {theirs / ours:7.0f}  {ratios}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
