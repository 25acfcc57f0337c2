"""How long pricing takes: `python tests/benchmarks/cost_table.py [OPS …]`, and `… models` for loaded models.

The first cost table of a program that was loaded, under 16 schemes for iPhone 15 Pro, with all that is counted once a
program and kept; then the same for another device, and for a batch of 8. Milliseconds of one core (`time.process_time`)
and by the clock, each the best of five equal programs. Microseconds an op must not grow.

Weights that are alike are counted once, so what is slow is many different ones: the synthetic transformers have 6
weights a layer of 3 shapes in all, or MLPs of 20 or 100 different widths. Models are loaded with their weights, whose
values are read: which stored tensors are equal depends on them.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))

import models
import synthetic
import talaria_nb as tnb
import zoo
from talaria_nb.costs import cost_table
from talaria_nb.devices import device
from talaria_nb.menu import DEFAULT_MENU

if TYPE_CHECKING:
    from collections.abc import Callable

    from talaria_nb.program import Program

SIZES = (1_000, 3_000, 10_000, 30_000)
WIDTHS = (1, 20, 100)
SCHEMES = DEFAULT_MENU[:16]
ROUNDS = 5
ZOO = ("unet-conditioned", "timm/mobilenetv3_small_050", "timm/swin_tiny_patch4_window7_224")
PHONE, OTHER = device("iPhone 15 Pro"), device("M2")


def timed(action: Callable[[], object]) -> tuple[float, float]:
    """Return the milliseconds of one core, and by the clock."""
    clock, core = time.perf_counter(), time.process_time()
    action()
    return 1e3 * (time.process_time() - core), 1e3 * (time.perf_counter() - clock)


def line(name: str, program_of: Callable[[], Program], rounds: int = ROUNDS) -> None:
    """Print the best times of programs that are equal."""
    first, again, batch = [], [], []
    for _ in range(rounds):
        program = program_of()
        first.append(timed(lambda program=program: cost_table(program, PHONE, schemes=SCHEMES)))
        again.append(timed(lambda program=program: cost_table(program, OTHER, schemes=SCHEMES)))
        batch.append(timed(lambda program=program: cost_table(program, PHONE, schemes=SCHEMES, batch=8)))
    shapes = len(set(program.weights.shape))
    bests = [map(min, zip(*each, strict=True)) for each in (first, again, batch)]
    columns = "".join(f"{core:9.1f}{clock:8.1f}" for core, clock in bests)
    per_op = 1e3 * min(core for core, _ in first) / len(program.ops)
    print(f"{name:36}{len(program.ops):8,}{len(program.weights):9,}{shapes:8}{columns}{per_op:8.1f}")  # noqa: T201


def main() -> None:
    """Print one line a program."""
    print(f"{'':61}{'first':>17}{'other device':>17}{'batch of 8':>17}")  # noqa: T201
    print(f"{'':36}{'ops':>8}{'weights':>9}{'shapes':>8}" + f"{'core':>9}{'clock':>8}" * 3 + f"{'µs/op':>8}")  # noqa: T201
    cost_table(synthetic.transformer(1), PHONE, schemes=SCHEMES)  # what is imported and cached by the first of all
    if sys.argv[1:] == ["models"]:
        loaded = {"minilm": models.minilm, "mobilenet": models.mobilenet}
        loaded |= {name: lambda name=name: tnb.load(*zoo.build(name), progress=False) for name in ZOO}
        for name, load in loaded.items():
            line(name, lambda load=load: load().program, rounds=1)
        return
    for size in [int(size) for size in sys.argv[1:]] or SIZES:
        layers = max(1, size // synthetic.OPS_A_LAYER)
        for widths in WIDTHS:
            line(f"transformer, {widths} widths", lambda n=layers, w=widths: synthetic.transformer(n, hidden_widths=w))


if __name__ == "__main__":
    main()
