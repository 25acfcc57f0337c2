"""How time grows with a program's size: `python tests/benchmarks/scale.py [OPS …]`.

Synthetic transformers of 1,000 to 100,000 ops; for each, the module tree, the repeated blocks (tree included) and all
lint rules. What counts is the last column of each: microseconds an op, which must not grow. It is the best of three.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))

import synthetic
from talaria_nb.blocks import find_blocks, module_tree
from talaria_nb.lint import findings

if TYPE_CHECKING:
    from collections.abc import Callable

    from talaria_nb.program import Program

SIZES = (1_000, 3_000, 10_000, 30_000, 100_000)
ROUNDS = 3
STAGES: dict[str, Callable[[Program], object]] = {"tree": module_tree, "blocks": find_blocks, "lint": findings}


def seconds(action: Callable[[Program], object], program: Program) -> float:
    """Return the best time of some rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        action(program)
        best = min(best, time.perf_counter() - start)
    return best


def main() -> None:
    """Print one line a size."""
    sizes = [int(size) for size in sys.argv[1:]] or SIZES
    print(f"{'ops':>8}" + "".join(f"{name + ' s':>11} {'µs/op':>7}" for name in STAGES))  # noqa: T201
    for size in sizes:
        program = synthetic.transformer(max(1, size // synthetic.OPS_A_LAYER))
        ops = len(program.ops)
        times = [seconds(action, program) for action in STAGES.values()]
        print(f"{ops:8,}" + "".join(f"{took:11.3f} {took / ops * 1e6:7.1f}" for took in times))  # noqa: T201


if __name__ == "__main__":
    main()
