"""How fast plans are found and how good they are: `python tests/benchmarks/allocate.py`.

Made-up models: sizes and importances of weights are log-normal, errors fall by four for each bit, 14 schemes. For each
number of weights the bits are limited to 3.6 a weight. Printed are the time from table to plan ("first", with the
convex hulls), the time for another budget ("again", what a slider waits for), the gap to the bound of the linear
relaxation, and HiGHS beside it on the whole problem: its time and the ratio of the two errors. Then the same through
`Allocator.allocate`, with all checks by the estimate, for bits and for bytes. Times are medians of `ROUNDS`, gaps and
ratios the worst of them.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

import synthetic
from talaria_nb.allocator import Allocator
from talaria_nb.error_table import ErrorTable
from talaria_nb.hulls import hull
from talaria_nb.knapsack import Knapsack, solve
from talaria_nb.load import Model
from talaria_nb.menu import DEFAULT_MENU
from talaria_nb.source import SourceMap

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES = (50, 200, 1000)
SCHEMES = DEFAULT_MENU[:14]
ROUNDS = 7
HIGHS_SECONDS = 20.0


def problem_of(weights: int, seed: int) -> tuple[Knapsack, float]:
    """Make up a choice of one scheme for every weight, and its limit."""
    rng = np.random.default_rng(seed)
    bits = np.array([scheme.bits for scheme in SCHEMES])
    sizes = np.round(rng.lognormal(11, 1.5, (weights, 1)))
    error = rng.lognormal(0, 1.5, (weights, 1)) * 4.0**-bits * rng.lognormal(0, 0.3, (weights, len(bits)))
    error[:, 0] = 0.0
    tables = rng.integers(0, 1024, (weights, len(bits))) * (bits < 16)
    return Knapsack(error, (sizes * bits + tables)[None]), float(3.6 * sizes.sum())


def timed(action: Callable[[], object]) -> float:
    """Return the time of an action in milliseconds."""
    start = time.perf_counter()
    action()
    return 1e3 * (time.perf_counter() - start)


def highs(problem: Knapsack, limit: float) -> float:
    """Let HiGHS solve the whole problem; return its error."""
    group, option = np.nonzero(np.isfinite(problem.error))
    one_each = csr_array((np.ones(len(group)), (group, np.arange(len(group)))))
    error = problem.error[group, option]
    found = milp(
        error / error.max(),
        integrality=np.ones(len(group)),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(one_each, 1, 1),
            LinearConstraint(problem.costs[0, group, option][None] / limit, -np.inf, 1),
        ],
        options={"time_limit": HIGHS_SECONDS, "mip_rel_gap": 1e-6},
    )
    return float(found.fun * error.max())


def compare(weights: int) -> str:
    """Return one line of the first table."""
    first, again, gaps, ratios, theirs = [], [], [], [], []
    for seed in range(ROUNDS):
        problem, limit = problem_of(weights, seed)
        most = np.array([limit])
        first.append(
            timed(lambda problem=problem, most=most: solve(problem, most, [hull(problem.error, problem.costs[0])]))
        )
        hulls = [hull(problem.error, problem.costs[0])]
        again.append(timed(lambda problem=problem, most=most, hulls=hulls: solve(problem, most * 1.01, hulls)))
        found = solve(problem, most, hulls)
        error = problem.total(found.choice)[0]
        gaps.append(error / found.bound - 1)
        if seed < 3:  # HiGHS takes its time
            start = time.perf_counter()
            ratios.append(error / highs(problem, limit))
            theirs.append(1e3 * (time.perf_counter() - start))
    return (
        f"{weights:8,}{median(first):10.1f}{median(again):10.1f}{100 * max(gaps):12.4f}{median(theirs):12.0f}"
        f"{max(ratios):12.6f}"
    )


def through_estimates(layers: int, budget: str) -> str:
    """Return one line of the second table."""
    program = synthetic.transformer(layers)
    weights = len(program.weights)
    rng = np.random.default_rng(0)
    error = rng.lognormal(0, 2, (weights, 1)) * 4.0 ** -np.array([scheme.bits for scheme in SCHEMES])
    error = error * rng.lognormal(0, 0.3, error.shape)
    error[:, 0] = 0.0
    table = ErrorTable(SCHEMES, error, "measured", "made up")
    allocator = Allocator(Model(program, None, SourceMap()), error=table, schemes=SCHEMES)
    low, high = allocator.range_of("size")
    budgets = [
        f"{low + (high - low) * share:.0f} B" if budget == "bytes" else f"{16 * share:.3f} bits"
        for share in np.linspace(0.15, 0.35, ROUNDS + 1)
    ]
    first = timed(lambda: allocator.allocate(budgets[0], polished=False))
    plans = []
    times = [timed(lambda each=each: plans.append(allocator.allocate(each, polished=False))) for each in budgets[1:]]
    gap = 100 * max(plan.gap for plan in plans)
    return f"{weights:8,}  {budget:6}{first:10.1f}{median(times):10.1f}{gap:12.4f}"


def main() -> None:
    """Print both tables."""
    print(f"{'weights':>8}{'first ms':>10}{'again ms':>10}{'gap %':>12}{'HiGHS ms':>12}{'ours/HiGHS':>12}")  # noqa: T201
    for weights in SIZES:
        print(compare(weights))  # noqa: T201
    print(f"\n{'weights':>8}  {'budget':6}{'first ms':>10}{'again ms':>10}{'gap %':>12}")  # noqa: T201
    for layers in (33, 167):
        for budget in ("bits", "bytes"):
            print(through_estimates(layers, budget))  # noqa: T201


if __name__ == "__main__":
    main()
