"""The error sweep against coremltools palettizing each weight: `python tests/benchmarks/distortion.py`.

Matrices with the shapes of MiniLM, ResNet50 and ViT-B, drawn from a Laplace distribution with a fixed seed, at 8, 6, 4,
3, 2 and 1 bits. coremltools takes minutes for a model, so it clusters one weight of each shape and its time counts for
all of that shape; ours sweeps every weight. Both run in turn, and the best of some rounds counts on either side.
"""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count

import numpy as np
from coremltools.optimize.coreml._quantization_passes import palettize_weights

import talaria_nb as tnb
from talaria_nb.distortion import squared_errors

BITS = (8, 6, 4, 3, 2, 1)
ROUNDS = 2
SUBJECTS = {
    "MiniLM": Counter({(384, 384): 24, (1536, 384): 12, (30522, 384): 1}),
    "ResNet50": Counter(
        {(64, 576): 3, (256, 64): 4, (128, 1152): 4, (512, 128): 4, (256, 2304): 6, (1024, 256): 11, (512, 4608): 3}
        | {(2048, 512): 5, (2048, 1024): 1, (1000, 2048): 1}
    ),
    "ViT-B": Counter({(2304, 768): 12, (768, 768): 13, (3072, 768): 24, (1000, 768): 1}),
}


def main() -> None:
    """Print one line a model."""
    rng = np.random.default_rng(0)
    schemes = [tnb.Palettize(nbits) for nbits in BITS]
    print(f"{'model':10} {'coremltools s':>14} {'ours s':>8} {'ratio':>7}  worst error ratio at 8, 6, … 1 bits")  # noqa: T201
    for name, shapes in SUBJECTS.items():
        values = {shape: rng.laplace(0, 0.02, shape).astype(np.float16) for shape in shapes}
        weights = [values[shape] for shape in shapes.elements()]
        worst = np.zeros(len(BITS))
        ours, theirs = np.inf, dict.fromkeys(shapes, np.inf)
        squared_errors(weights[0], schemes, channel_axes=(1, 0))  # compiles
        for _ in range(ROUNDS):
            start = time.perf_counter()
            with ThreadPoolExecutor(cpu_count()) as pool:
                list(pool.map(lambda weight: squared_errors(weight, schemes, channel_axes=(1, 0)), weights))
            ours = min(ours, time.perf_counter() - start)
            for shape, weight in values.items():
                start = time.perf_counter()
                stored = [palettize_weights.blockwise_compress(weight, "KMEANS", nbits, [0, 0]) for nbits in BITS]
                theirs[shape] = min(theirs[shape], time.perf_counter() - start)
                errors = squared_errors(weight, schemes, channel_axes=(1, 0))
                for column, params in enumerate(stored):
                    restored = palettize_weights.decompress(params)
                    optimum = (np.subtract(weight, restored, dtype=np.float64) ** 2).sum()
                    worst[column] = max(worst[column], errors[column] / optimum)
        total = sum(theirs[shape] * count for shape, count in shapes.items())
        ratios = " ".join(f"{ratio:.4f}" for ratio in worst)
        print(f"{name:10} {total:14.1f} {ours:8.2f} {total / ours:7.0f}  {ratios}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
