"""What is counted once for weights that are alike is what each of them takes by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

import models
import synthetic
from talaria_nb import storage
from talaria_nb.legality import refused
from talaria_nb.menu import DEFAULT_MENU
from talaria_nb.schemes import Palettize
from talaria_nb.subjects import subject
from talaria_nb.weight_bytes import weight_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from talaria_nb.program import Program

MENU = (*DEFAULT_MENU, Palettize(mode="unique"))


def varied(target: str) -> Program:
    """Build layers of different widths whose weights have names of different lengths and letters."""
    program = synthetic.transformer(6, hidden_widths=2)
    names = tuple(f"{name}{'é' * (row % 3)}{'_' * (row % 128)}" for row, name in enumerate(program.weights.name))
    return replace(program, deployment_target=target, weights=replace(program.weights, name=names))


@pytest.mark.parametrize(
    "load",
    [
        lambda: varied("iOS18"),
        lambda: varied("iOS16"),
        lambda: models.classifier().program,
        lambda: models.tied().program,
        lambda: models.unet("iOS16").program,
    ],
    ids=["varied", "varied-iOS16", "classifier", "tied", "unet-iOS16"],
)
def test_each_weight_is_counted_as_if_it_was_alone(load: Callable[[], Program]) -> None:
    program = load()
    weights, found = program.weights, weight_bytes(program, MENU)
    for row, column in np.ndindex(found.reason.shape):
        weight, scheme = subject(program, row), MENU[column]
        said = refused(scheme, weight)
        if said is not None:
            assert found.refusals[found.reason[row, column]] == said
            continue
        reads = [pair for op in weights.readers[row] for pair in program.ops.inputs[op]]
        alone = storage.stored(
            scheme,
            weight,
            weights.dtype[row],
            name_bytes=len(weights.name[row].encode()),
            parameters=[parameter for parameter, value in reads if value == weights.value[row]],
        )
        assert found.reason[row, column] == -1
        assert found.payload_bytes[row, column] == alone.payload_bytes
        assert found.proto_bytes[row, column] == alone.proto_bytes
        assert found.tensors[row, column] == len(alone.tensors)
        assert found.tables[row, column] == alone.tables


def test_a_program_without_weights_has_nothing_to_count() -> None:
    build = synthetic.Builder()
    program = build.program([build.op("relu", {"x": build.input((1, 4))}, (1, 4))])
    assert weight_bytes(program, MENU).payload_bytes.shape == (0, len(MENU))
