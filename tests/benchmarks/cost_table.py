"""How long pricing takes, and where the time goes: `python tests/benchmarks/cost_table.py [OPS …]`.

Synthetic transformers priced under 16 schemes: the work of every op (counted once a program), its time on a device, and
the cost table, which adds the bytes of every weight under every scheme to the times. Best of three, in
milliseconds; the last column is microseconds an op of the table, which must not grow.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))

import synthetic
from talaria_nb.costs import cost_table
from talaria_nb.devices import device
from talaria_nb.latency import op_times
from talaria_nb.menu import DEFAULT_MENU
from talaria_nb.work import _count_work, count_work

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES = (1_000, 3_000, 10_000, 30_000)
SCHEMES = DEFAULT_MENU[:16]
ROUNDS = 3


def milliseconds(action: Callable[[], object]) -> float:
    """Return the best time of some rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        action()
        best = min(best, time.perf_counter() - start)
    return 1e3 * best


def main() -> None:
    """Print one line a size."""
    sizes = [int(size) for size in sys.argv[1:]] or SIZES
    phone = device("iPhone 15 Pro")
    print(f"{'ops':>8}{'weights':>9}{'work ms':>10}{'times ms':>10}{'table ms':>10}{'µs/op':>8}")  # noqa: T201
    for size in sizes:
        program = synthetic.transformer(max(1, size // synthetic.OPS_A_LAYER))
        ops = len(program.ops)
        work = count_work(program)
        counting = milliseconds(lambda program=program: _count_work(program))
        timing = milliseconds(lambda program=program, work=work: op_times(program, work, phone))
        table = milliseconds(lambda program=program: cost_table(program, phone, schemes=SCHEMES))
        print(  # noqa: T201
            f"{ops:8,}{len(program.weights):9,}{counting:10.1f}{timing:10.1f}{table:10.1f}{table / ops * 1e3:8.1f}"
        )


if __name__ == "__main__":
    main()
