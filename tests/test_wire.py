"""What crosses to the browser: complete, and not much of it."""

from __future__ import annotations

import dataclasses
import json
import time
from types import SimpleNamespace

import numpy as np
import pytest

import synthetic
from talaria_nb.costs import cost_table
from talaria_nb.devices import device
from talaria_nb.menu import DEFAULT_MENU, Menu
from talaria_nb.source import Frame
from talaria_nb.wire import Wire, pack_costs, pack_menu, pack_program

MOST_BYTES_AN_OP = 200


def nbytes(packed: object) -> int:
    """Count what crosses: bytes as they are, all else as JSON."""
    if isinstance(packed, bytes):
        return len(packed)
    if isinstance(packed, dict):
        return sum(len(key) + 4 + nbytes(value) for key, value in packed.items())
    return len(json.dumps(packed, ensure_ascii=False).encode())


def rows(packed: Wire, dtype: str) -> np.ndarray:
    of = np.frombuffer(packed["of"], dtype=f"<u{packed['of_width']}")
    return np.frombuffer(packed["rows"], dtype=dtype).reshape(of.max() + 1, -1)[of]


def synthetic_model(size: int, widths: int = 1) -> SimpleNamespace:
    program = synthetic.transformer(size // synthetic.OPS_A_LAYER, hidden_widths=widths)
    line = iter(range(len(program.ops)))
    sources = SimpleNamespace(user_frame=lambda _: Frame("modeling.py", 100 + next(line) % 300, "forward", "x = f(x)"))
    return SimpleNamespace(program=program, module=None, source_map=sources)


@pytest.mark.parametrize("widths", [1, 20])
def test_ten_thousand_ops_with_all_that_is_known_of_them_take_200_bytes_an_op(widths: int) -> None:
    model = synthetic_model(10_000, widths)
    program = model.program
    table = cost_table(program, device("iPhone 15 Pro"), schemes=DEFAULT_MENU)
    rng = np.random.default_rng(0)
    errors = rng.lognormal(size=table.squared_error.shape).astype(np.float32)
    table = dataclasses.replace(table, squared_error=errors, signal=rng.lognormal(size=len(errors)))
    packed = {**pack_program(model), **pack_costs(table), **pack_menu(table, Menu.default(), ["all"])}
    assert nbytes(packed) / len(program.ops) <= MOST_BYTES_AN_OP


def test_rows_that_are_alike_cross_once_and_every_weight_finds_its_own() -> None:
    program = synthetic.transformer(20)
    table = cost_table(program, device("iPhone 15 Pro"), schemes=DEFAULT_MENU)
    packed = pack_costs(table)
    for name in ("payload_bytes", "file_bytes", "stream_ms", "proto_bytes"):
        np.testing.assert_array_equal(rows(packed[name], "<f8"), getattr(table, name), err_msg=name)
        assert len(packed[name]["rows"]) < getattr(table, name).nbytes / 10


def test_packing_takes_time_in_proportion_to_the_ops() -> None:
    def seconds(model: SimpleNamespace) -> float:
        start = time.process_time()
        pack_program(model)
        return time.process_time() - start

    few, many = (min(seconds(synthetic_model(size)) for _ in range(3)) for size in (1_000, 10_000))
    assert many < 30 * few, "ten times the ops; were it squared, a hundred times as long"
