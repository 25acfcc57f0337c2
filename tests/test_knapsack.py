"""The choice of one option a group: within its limits, and its bound against brute force."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from talaria_nb.hulls import hull
from talaria_nb.knapsack import Knapsack, polish, solve

SEEDS = st.integers(0, 2**32 - 1)


def random_problem(rng: np.random.Generator, groups: int, options: int, limits: int) -> Knapsack:
    """Make up errors that mostly fall as costs rise, some of them equal, with options that do not exist."""
    costs = rng.integers(1, 60, (limits, groups, options)).astype(np.float64)
    error = np.round(rng.lognormal(0, 1.5, (groups, 1)) * 100 / costs[0] * rng.lognormal(0, 0.5, (groups, options)), 2)
    missing = rng.random((groups, options)) < 0.2
    missing[:, 0] = False
    return Knapsack(np.where(missing, np.inf, error), costs)


def best(problem: Knapsack, limits: np.ndarray) -> float | None:
    """Return the least error within the limits, by trying everything."""
    groups, options = problem.error.shape
    tried = (problem.total(np.array(choice)) for choice in product(range(options), repeat=groups))
    return min((error for error, costs in tried if np.isfinite(error) and (costs <= limits).all()), default=None)


@given(seed=SEEDS, groups=st.integers(1, 5), options=st.integers(1, 4), limits=st.integers(1, 3))
def test_choices_keep_their_limits_and_the_bound_holds(seed: int, groups: int, options: int, limits: int) -> None:
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, groups, options, limits)
    most = np.array([rng.uniform(0.05, 1) * costs.max(axis=1).sum() for costs in problem.costs])
    found = solve(problem, most, [hull(problem.error, costs) for costs in problem.costs])
    truth = best(problem, most)
    if found is None:
        assert truth is None
        return
    error, costs = problem.total(found.choice)
    assert (costs <= most).all()
    assert truth is not None
    assert found.bound <= truth * (1 + 1e-6) + 1e-9
    assert error >= truth
    polished, proven = polish(problem, found, most, seconds=10)
    polished_error, polished_costs = problem.total(polished)
    assert (polished_costs <= most).all()
    assert polished_error <= error
    assert not proven or polished_error == pytest.approx(truth, rel=1e-3, abs=1e-9)


def test_the_bound_is_the_optimum_of_the_linear_relaxation() -> None:
    from scipy.optimize import linprog

    rng = np.random.default_rng(0)
    for limits in (1, 2, 3):
        problem = random_problem(rng, 30, 6, limits)
        most = np.array([0.4 * costs.max(axis=1).sum() for costs in problem.costs])
        group, option = np.nonzero(np.isfinite(problem.error))
        relaxed = linprog(
            problem.error[group, option],
            A_ub=problem.costs[:, group, option],
            b_ub=most,
            A_eq=(group == np.arange(30)[:, None]).astype(float),
            b_eq=np.ones(30),
        )
        found = solve(problem, most, [hull(problem.error, costs) for costs in problem.costs])
        assert found is not None
        assert found.bound == pytest.approx(relaxed.fun, rel=1e-5)


def test_a_thousand_groups_are_within_a_thousandth_of_the_bound() -> None:
    rng = np.random.default_rng(1)
    size, importance = rng.lognormal(11, 1.5, (1000, 1)), rng.lognormal(0, 1.5, (1000, 1))
    bits = np.array([16, 8, 6, 4, 3, 2, 1, 8.2, 6.2, 4.2, 3.2, 2.2, 1.2, 5])
    error = importance * 4.0**-bits * rng.lognormal(0, 0.4, (1000, 14))
    problem = Knapsack(error, (size * bits)[None])
    found = solve(problem, np.array([3.6 * size.sum()]), [hull(error, problem.costs[0])])
    assert found is not None
    assert problem.total(found.choice)[0] <= found.bound * 1.001
