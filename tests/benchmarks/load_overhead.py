"""How much time `tnb.load` adds to bare export and conversion: `python tests/benchmarks/load_overhead.py`.

Both run in turn in one process, on modules made afresh. The ratio of medians is what counts; single times depend on
the machine. Bare conversion gets the same graph repairs, without which MiniLM does not convert at all.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import coremltools as ct
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

import models
import talaria_nb as tnb
from talaria_nb.quiet import quiet
from talaria_nb.repairs import repair

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 5


def bare(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Export and convert with nothing around it."""
    exported = torch.export.export(module, args, kwargs).run_decompositions({})
    exported = repair(exported).exported
    ct.convert(exported, minimum_deployment_target=ct.target.iOS18, skip_model_load=True)


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def main() -> None:
    subjects: dict[str, tuple[torch.nn.Module, Any]] = {
        "small CNN": (models.Classifier().eval(), torch.zeros(1, 3, 32, 32)),
        "U-Net": (models.UNet().eval(), torch.zeros(1, 3, 32, 32)),
        "MiniLM": (models.minilm_module(), dict(models.minilm_inputs())),
    }
    print(f"{'model':12} {'bare s':>8} {'load s':>8} {'ratio':>7}")  # noqa: T201
    for name, (module, inputs) in subjects.items():
        args, kwargs = ((), inputs) if isinstance(inputs, dict) else ((inputs,), {})
        times: tuple[list[float], list[float]] = ([], [])
        with quiet(progress=False):
            for round_ in range(ROUNDS + 1):
                pair = (
                    seconds(lambda: bare(module, args, kwargs)),  # noqa: B023 - called at once
                    seconds(lambda: tnb.load(module, inputs, progress=False)),  # noqa: B023
                )
                if round_:  # the first warms up
                    times[0].append(pair[0])
                    times[1].append(pair[1])
        ratio = statistics.median(ours / plain for plain, ours in zip(*times, strict=True))
        print(f"{name:12} {statistics.median(times[0]):8.2f} {statistics.median(times[1]):8.2f} {ratio:7.3f}")  # noqa: T201


if __name__ == "__main__":
    main()
