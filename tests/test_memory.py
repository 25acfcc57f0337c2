from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import models
from synthetic import Builder, transformer
from talaria_nb.memory import liveness

if TYPE_CHECKING:
    from talaria_nb.program import Program

KB = 1024
SHAPE = (1, 512)  # 1 KB of float16


def test_a_chain_holds_two_tensors_at_a_time() -> None:
    build = Builder()
    x = build.input(SHAPE)
    for _ in range(4):
        x = build.op("relu", {"x": x}, SHAPE)
    assert liveness(build.program([x])).live_bytes.tolist() == [2 * KB] * 4


def test_a_skip_connection_is_held_until_it_is_added() -> None:
    build = Builder()
    x = build.input(SHAPE)
    y = build.op("relu", {"x": x}, SHAPE)
    y = build.op("exp", {"x": y}, SHAPE)
    y = build.op("add", {"x": x, "y": y}, SHAPE)
    y = build.op("relu", {"x": y}, SHAPE)
    found = liveness(build.program([y]))
    assert found.live_bytes.tolist() == [2 * KB, 3 * KB, 3 * KB, 2 * KB]
    assert found.peak_bytes == 3 * KB


def test_an_output_is_held_to_the_end() -> None:
    build = Builder()
    x = build.input(SHAPE)
    early = build.op("relu", {"x": x}, SHAPE)
    late = build.op("exp", {"x": build.op("relu", {"x": x}, SHAPE)}, SHAPE)
    assert liveness(build.program([early, late])).live_bytes.tolist() == [2 * KB, 3 * KB, 3 * KB]


def test_a_reshape_needs_no_memory_and_keeps_its_source_alive() -> None:
    build = Builder()
    x = build.input(SHAPE)
    y = build.op("relu", {"x": x}, SHAPE)
    flat = build.op("reshape", {"x": y}, (512,))
    z = build.op("exp", {"x": flat}, (512,))
    assert liveness(build.program([z])).live_bytes.tolist() == [2 * KB, KB, 2 * KB]


def test_constants_are_not_activations() -> None:
    build = Builder()
    x = build.input(SHAPE)
    y = build.op("linear", {"x": x, "weight": build.weight((512, 512))}, SHAPE)
    assert liveness(build.program([y])).peak_bytes == 2 * KB


def test_a_program_without_ops_needs_nothing() -> None:
    found = liveness(Builder().program())
    assert found.peak_bytes == 0


@given(st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=3), min_size=1, max_size=25), st.data())
@settings(deadline=None, max_examples=60)
def test_any_program_agrees_with_counting_op_by_op(reads: list[list[int]], data: st.DataObject) -> None:
    build = Builder()
    made = [build.input((1, 7))]
    for row, chosen in enumerate(reads):
        shape = (1, data.draw(st.integers(1, 9)))
        op = {f"x{place}": made[which % len(made)] for place, which in enumerate(chosen)}
        made.append(build.op("concat", op, shape, name=f"op{row}"))
    program = build.program([made[-1]])
    assert liveness(program).live_bytes.tolist() == _counted(program)


def _counted(program: Program) -> list[int]:
    """Ask of every tensor at every op whether it exists already and is needed still."""
    live = []
    for row in range(len(program.ops)):
        written = {value for before in range(row + 1) for value in program.ops.outputs[before]} | set(program.inputs)
        ahead = range(row, len(program.ops))
        needed = {value for later in ahead for _, value in program.ops.inputs[later]} | set(program.outputs)
        needed |= set(program.ops.outputs[row])
        live.append(sum(program.values.bytes_of(value) for value in written & needed))
    return live


def test_real_models_peak_where_their_tensors_are_largest() -> None:
    program = models.unet().program
    found = liveness(program)
    images = [program.values.bytes_of(value) for outputs in program.ops.outputs for value in outputs]
    assert max(images) < found.peak_bytes <= sum(images) + sum(map(program.values.bytes_of, program.inputs))


def test_depth_alone_needs_no_more_memory() -> None:
    assert liveness(transformer(2)).peak_bytes == liveness(transformer(40)).peak_bytes
    assert np.all(liveness(transformer(3)).live_bytes > 0)
