"""Weight errors against exhaustive search and against coremltools itself."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from coremltools._deps import kmeans1d
from coremltools.optimize.coreml._quantization_passes import linear_quantize_weights, palettize_weights
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import models
import talaria_nb as tnb
from packages import dequantized_weights
from talaria_nb.clustering import best_table, cluster, squared_error
from talaria_nb.contents import prune
from talaria_nb.distortion import dequantized, distortions, palette, signal, squared_errors
from talaria_nb.histograms import histogram
from talaria_nb.legality import refused
from talaria_nb.menu import DEFAULT_MENU
from talaria_nb.schemes import Float16
from talaria_nb.subjects import subject

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

BITS = (8, 6, 4, 3, 2, 1)
FLOATS = (np.float16, np.float32)
SHAPES: dict[str, Callable[[np.random.Generator, int], NDArray[Any]]] = {
    "normal": lambda rng, size: rng.normal(0, 0.02, size),
    "laplace": lambda rng, size: rng.laplace(0, 0.02, size),
    "heavy tails": lambda rng, size: np.clip(rng.standard_cauchy(size) * 0.01, -6e4, 6e4),
    "one huge value": lambda rng, size: np.append(rng.normal(0, 0.02, size - 1), 1000),
    "many duplicates": lambda rng, size: rng.choice(rng.normal(0, 0.1, 600), size),
    "mostly zeros of both signs": lambda rng, size: (
        np.where(rng.random(size) < 0.9, 0, rng.normal(0, 0.02, size)) * rng.choice([-1, 1], size)
    ),
    "subnormal": lambda rng, size: rng.normal(0, 2e-6, size),
    "two humps": lambda rng, size: rng.choice([-1, 1], size) * rng.normal(1, 0.01, size),
    "scale of a norm": lambda rng, size: rng.normal(1, 0.01, size),
    "few distinct": lambda rng, size: rng.choice([-0.5, 0.0, 0.25, 1.0, 3.0], size),
    "all equal": lambda _, size: np.full(size, 0.3),
    "all zero": lambda _, size: np.zeros(size),
}

slow_inputs = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def error_of(values: NDArray[Any], restored: NDArray[Any]) -> float:
    return float((np.subtract(values, restored, dtype=np.float64) ** 2).sum())


def exhaustive_error(points: NDArray[np.float64], weights: NDArray[np.float64], count: int) -> float:
    """Try every way to cut sorted points into clusters."""
    best = np.inf
    for cuts in combinations(range(1, len(points)), min(count, len(points)) - 1):
        parts = zip(np.split(points, cuts), np.split(weights, cuts), strict=True)
        best = min(best, sum(float(w @ (x - np.average(x, weights=w)) ** 2) for x, w in parts))
    return best


@slow_inputs
@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(1, 4))
def test_clusters_of_few_values_are_the_best_there_are(numbers: list[int], count: int) -> None:
    values = np.array([numbers], dtype=np.float32) ** 2
    points, occurrences = np.unique(values, return_counts=True)
    best = exhaustive_error(points.astype(np.float64), occurrences.astype(np.float64), count)
    found = histogram(values)
    assert squared_error(found, best_table(found, count)) == pytest.approx(best, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [3_000, 20_000])
def test_clusters_are_as_good_as_those_of_coremltools(shape: str, size: int) -> None:
    """Whole float16 weights go through kmeans1d there, which is exact."""
    values = SHAPES[shape](np.random.default_rng(size), size).astype(np.float16)
    found = histogram(values)
    points, occurrences = found.points, found.weights
    for nbits in BITS:
        error = squared_error(found, best_table(found, 2**nbits))
        count = min(2**nbits, len(points))
        theirs = kmeans1d.cluster(points, count, weights=occurrences)
        table = np.array(theirs.centroids).astype(np.float16).astype(np.float64)
        optimum = float(occurrences @ (points - table[np.array(theirs.clusters)]) ** 2)
        assert error <= optimum * (1 + 1e-6) + 1e-12 * signal(values), nbits


@slow_inputs
@given(
    seed=st.integers(0, 10**6),
    shape=st.sampled_from(list(SHAPES)),
    dtype=st.sampled_from(FLOATS),
    nbits=st.sampled_from(BITS),
    group_size=st.sampled_from([None, 8, 16]),
    axes=st.sampled_from([(1, 0), (0, 1), (2, 1)]),
)
def test_tables_are_what_a_lut_function_must_return(
    seed: int, shape: str, dtype: type, nbits: int, group_size: int | None, axes: tuple[int, int]
) -> None:
    values = SHAPES[shape](np.random.default_rng(seed), 32 * 16 * 9).reshape(32, 16, 9).astype(dtype)
    scheme = tnb.Palettize(nbits, "per_grouped_channel", group_size) if group_size else tnb.Palettize(nbits)
    tables, indices = palette(values, scheme, axes)
    pending = iter(zip(tables, indices, strict=True))
    sizes = [group_size or 0 if axis == axes[1] else 0 for axis in range(3)]
    stored = palettize_weights.blockwise_compress(values, "CUSTOM", None, sizes, lambda _: next(pending), 1, axes[1])
    restored = dequantized(values, scheme, channel_axes=axes)
    assert tables.dtype == restored.dtype == dtype
    np.testing.assert_array_equal(palettize_weights.decompress(stored), restored)
    [error] = squared_errors(values, [scheme], channel_axes=axes)
    assert error == pytest.approx(error_of(values, restored), rel=1e-9, abs=1e-12 * signal(values))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", ["laplace", "heavy tails", "many duplicates"])
def test_grouped_tables_are_as_good_as_those_of_coremltools(shape: str, dtype: type) -> None:
    values = SHAPES[shape](np.random.default_rng(0), 32 * 256).reshape(32, 256).astype(dtype)
    for nbits in (6, 4, 2):
        stored = palettize_weights.blockwise_compress(values, "KMEANS", nbits, [16, 0])
        theirs = error_of(values, palettize_weights.decompress(stored))
        scheme = tnb.Palettize(nbits, "per_grouped_channel", 16)
        [ours] = squared_errors(values, [scheme], channel_axes=(1, 0))
        assert ours <= theirs * (1 + 1e-6)


@slow_inputs
@given(
    seed=st.integers(0, 10**6),
    shape=st.sampled_from(list(SHAPES)),
    dtype=st.sampled_from(FLOATS),
    integer=st.sampled_from(["int8", "uint8", "int4", "uint4"]),
    granularity=st.sampled_from(["per_tensor", "per_channel", "per_block"]),
    mode=st.sampled_from(["linear_symmetric", "linear"]),
    axes=st.sampled_from([(1, 0), (0, 1)]),
)
def test_linear_quantization_is_bit_for_bit_what_coremltools_stores(
    seed: int, shape: str, dtype: type, integer: Any, granularity: Any, mode: Any, axes: tuple[int, int]
) -> None:
    values = SHAPES[shape](np.random.default_rng(seed), 64 * 32 * 3).reshape(64, 32, 3).astype(dtype)
    values[3] = 0
    scheme = tnb.LinearQuantize(integer, granularity, 16 if granularity == "per_block" else None, mode)
    sizes = [0, 0, 0]
    if granularity != "per_tensor":
        sizes[axes[1]] = 1
    if granularity == "per_block":
        sizes[axes[0]] = 16
    with np.errstate(all="ignore"):
        stored = linear_quantize_weights.blockwise_compress_by_dtype(values, integer, mode.upper(), sizes)
        theirs = linear_quantize_weights.decompress(stored)
    np.testing.assert_array_equal(dequantized(values, scheme, channel_axes=axes), theirs)
    [error] = squared_errors(values, [scheme], channel_axes=axes)
    if np.isfinite(theirs).all():
        assert error == pytest.approx(error_of(values, theirs), rel=1e-4, abs=1e-12 * signal(values))
    else:
        assert np.isnan(error)


def test_fewer_values_than_entries_are_kept_exactly() -> None:
    values = np.array([[3.0, -0.0, 0.0, 1.0, 3.0]], dtype=np.float16)
    tables, indices = cluster(values, 8)
    np.testing.assert_array_equal(tables, [[0, 1, 3, 0, 0, 0, 0, 0]])
    np.testing.assert_array_equal(indices, [[2, 0, 0, 1, 2]])


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("dtype", FLOATS)
def test_infinite_values_are_refused_by_name(bad: float, dtype: type) -> None:
    values = np.zeros((64, 64), dtype=dtype)
    values[5, 7] = bad
    for scheme in (tnb.Palettize(4), tnb.LinearQuantize("int8")):
        with pytest.raises(tnb.TalariaError, match="infinite or not numbers"):
            dequantized(values, scheme, channel_axes=(1, 0))
    errors = squared_errors(values, [Float16(), tnb.Palettize(4), tnb.LinearQuantize("int8")], channel_axes=(1, 0))
    np.testing.assert_array_equal(errors, [0, np.nan, np.nan])


def test_a_model_has_an_error_for_every_legal_choice() -> None:
    program = models.unet().program
    found = distortions(program, models.unet().weight_value, DEFAULT_MENU)
    for row, name in enumerate(program.weights.name):
        axes = program.weights.channel_axes[row]
        values = models.unet().weight_value(name)
        assert found.signal[row] == pytest.approx(error_of(values, np.zeros_like(values)))
        for column, scheme in enumerate(DEFAULT_MENU):
            legal = refused(scheme, subject(program, row))
            if legal is not None:
                assert np.isnan(found.squared_error[row, column])
            else:
                exact = error_of(values, dequantized(values, scheme, channel_axes=axes))
                assert found.squared_error[row, column] == pytest.approx(exact, rel=1e-4)


INTEGER_TABLES = tnb.LinearQuantize("int8", "per_tensor")
GROUPED = tnb.Palettize(4, "per_grouped_channel", 16)


@pytest.mark.parametrize(
    "scheme",
    [
        tnb.Palettize(6) + INTEGER_TABLES,
        GROUPED + INTEGER_TABLES,
        GROUPED + tnb.LinearQuantize("uint8", "per_tensor", mode="linear"),
        tnb.Prune(0.5) + tnb.Palettize(6) + INTEGER_TABLES,
        tnb.Prune(0.5) + tnb.LinearQuantize("int8", "per_tensor"),
        tnb.LinearQuantize("int8") + tnb.Palettize(4),
        tnb.LinearQuantize("uint8", mode="linear") + GROUPED,
        tnb.LinearQuantize("int8") + tnb.Palettize(4, mode="uniform"),
    ],
    ids=lambda scheme: scheme.key,
)
def test_joint_schemes_have_the_errors_of_what_compress_stores(scheme: Any) -> None:
    model = models.unet()
    chosen = [
        row
        for row in range(len(model.program.weights))
        if model.program.weights.elements[row] > 2048 and refused(scheme, subject(model.program, row)) is None
    ]
    assert chosen
    names = [model.program.weights.name[row] for row in chosen]
    stored = dequantized_weights(tnb.Plan(model).set(names, scheme).compress(progress=False))
    for row, name in zip(chosen, names, strict=True):
        values, axes = model.weight_value(name), model.program.weights.channel_axes[row]
        np.testing.assert_array_equal(dequantized(values, scheme, channel_axes=axes), stored[name])
        [error] = squared_errors(values, [scheme], channel_axes=axes)
        assert error == pytest.approx(error_of(values, stored[name]), rel=1e-6)
        assert 0 < error < 0.5 * signal(values)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_whole_menu_has_the_errors_of_what_comes_out(shape: str, dtype: type) -> None:
    values = SHAPES[shape](np.random.default_rng(1), 32 * 128).reshape(32, 128).astype(dtype)
    values[3] = 0
    errors = squared_errors(values, DEFAULT_MENU, channel_axes=(1, 0))
    for scheme, error in zip(DEFAULT_MENU, errors, strict=True):
        exact = error_of(values, dequantized(values, scheme, channel_axes=(1, 0)))
        if np.isfinite(exact):
            assert error == pytest.approx(exact, rel=1e-4, abs=1e-11 * signal(values)), scheme
        else:
            assert np.isnan(error), scheme


@pytest.mark.parametrize(
    "scheme",
    [
        tnb.Prune(0.5),
        tnb.Prune(threshold=0.01),
        tnb.Prune(0.5) + tnb.Palettize(4),
        tnb.Prune(0.5) + tnb.LinearQuantize(),
    ],
)
def test_what_is_pruned_is_zero_and_the_rest_is_stored_as_asked(scheme: Any) -> None:
    values = SHAPES["laplace"](np.random.default_rng(0), 4096).reshape(64, 64).astype(np.float16)
    first, *rest = scheme.parts
    kept = prune(values, first) != 0
    restored = dequantized(values, scheme, channel_axes=(1, 0))
    assert not restored[~kept].any()
    if rest:
        assert error_of(values[kept], restored[kept]) < 0.02 * signal(values)
    else:
        np.testing.assert_array_equal(restored[kept], values[kept])
    [error] = squared_errors(values, [scheme], channel_axes=(1, 0))
    assert error == pytest.approx(error_of(values, restored))
