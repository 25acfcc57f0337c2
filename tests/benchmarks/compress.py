"""How fast `plan.compress()` is beside coremltools' own palettization: `python tests/benchmarks/compress.py`.

The trained MiniLM, every weight at one width, rounds interleaved in one process after one of each that does not count
(it compiles our loops). Times are the least of the rounds; the error is the squared error of all weights together.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import coremltools.optimize.coreml as cto
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

import models
import talaria_nb as tnb
from packages import dequantized_weights
from talaria_nb.quiet import quiet

if TYPE_CHECKING:
    from collections.abc import Callable

    import coremltools as ct

ROUNDS = 2


def squared_error(model: tnb.Model, compressed: ct.models.MLModel) -> float:
    """Return the squared error of all compressed weights."""
    return sum(
        float(np.sum((model.weight_value(name).astype(np.float64) - stored) ** 2))
        for name, stored in dequantized_weights(compressed).items()
    )


def main() -> None:
    model = models.minilm()
    print(f"{'bits':>4} {'ours s':>8} {'coremltools s':>14} {'speed-up':>9} {'squared error, ours / theirs':>30}")  # noqa: T201
    for nbits in (4, 6):
        plan = tnb.Plan(model).set("*", tnb.Palettize(nbits))
        config = cto.OptimizationConfig(cto.OpPalettizerConfig(mode="kmeans", nbits=nbits))
        roads: dict[str, Callable[[], ct.models.MLModel]] = {
            "ours": lambda plan=plan: plan.compress(progress=False),
            "theirs": lambda config=config: cto.palettize_weights(model.mlmodel, config),
        }
        least = dict.fromkeys(roads, float("inf"))
        errors: dict[str, float] = {}
        for round_ in range(ROUNDS + 1):
            for name, road in roads.items():
                start = time.perf_counter()
                with quiet(progress=False):
                    compressed = road()
                if round_:
                    least[name] = min(least[name], time.perf_counter() - start)
                errors[name] = squared_error(model, compressed)
        ours, theirs = least["ours"], least["theirs"]
        ratio = errors["ours"] / errors["theirs"]
        print(f"{nbits:>4} {ours:8.1f} {theirs:14.1f} {theirs / ours:9.1f} {ratio:30.5f}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
