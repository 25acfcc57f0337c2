"""Bytes of the program text, as they are added up, against messages made with coremltools' own helpers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from coremltools.converters.mil.backend.mil.helper import (
    create_file_value_tensor,
    create_scalar_value,
    create_tensor_value,
    create_valuetype_tensor,
    types_to_proto_primitive,
)
from coremltools.converters.mil.mil import types
from coremltools.proto import MIL_pb2
from hypothesis import given
from hypothesis import strategies as st

import talaria_nb as tnb
from talaria_nb import proto
from talaria_nb.constexprs import steps
from talaria_nb.menu import DEFAULT_MENU
from talaria_nb.subjects import Subject

if TYPE_CHECKING:
    from talaria_nb.program import Shape
    from talaria_nb.stored_tensors import Step, Tensor

FILE = "@model_path/weights/weight.bin"
SCHEMES = (
    *DEFAULT_MENU,
    tnb.Palettize(2, cluster_dim=2),
    tnb.LinearQuantize("uint4", "per_tensor", mode="linear"),
    tnb.LinearQuantize("int8") + tnb.Palettize(4),
    tnb.Prune(0.5) + tnb.LinearQuantize("uint8"),
)
NAMES = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=90) | st.just("long_" * 40)
SHAPES = st.lists(st.sampled_from([1, 16, 64, 128, 16_384]), min_size=2, max_size=4).map(tuple)


def primitive(dtype: str) -> int:
    return types_to_proto_primitive(types.string_to_builtin(dtype))  # type: ignore[no-any-return]


def operation(op_type: str, name: str, outputs: list[tuple[str, str, Shape]]) -> MIL_pb2.Operation:
    return MIL_pb2.Operation(
        type=op_type,
        attributes={"name": create_scalar_value(name)},
        outputs=[
            MIL_pb2.NamedValueType(name=output, type=create_valuetype_tensor(shape, primitive(dtype)))
            for output, dtype, shape in outputs
        ],
    )


def in_block(op: MIL_pb2.Operation) -> int:
    return MIL_pb2.Block(operations=[op]).ByteSize()  # type: ignore[no-any-return]


def value(tensor: Tensor) -> MIL_pb2.Value:
    if tensor.in_file:
        return create_file_value_tensor(FILE, 64, tensor.shape, primitive(tensor.dtype))
    numbers = np.ones(tensor.shape, types.nptype_from_builtin(types.string_to_builtin(tensor.dtype)))
    return create_tensor_value(numbers)


def written(step: Step, name: str, ios: int) -> int:
    outputs = [(name + suffix, dtype, shape) for suffix, dtype, shape in step.outputs]
    op = operation(step.op_type, name + step.suffix, outputs)
    for parameter, operand in step.operands:
        if isinstance(operand, str):
            op.inputs[parameter].arguments.add(name=name + operand)
        elif ios < 18:
            op.attributes[parameter].CopyFrom(value(operand))
        else:
            op.inputs[parameter].arguments.add(value=value(operand))
    return in_block(op)


@given(name=NAMES, shape=SHAPES, scheme=st.sampled_from(SCHEMES), target=st.sampled_from(["iOS16", "iOS18"]))
def test_a_step_takes_the_bytes_of_its_message(name: str, shape: Shape, scheme: tnb.Scheme, target: str) -> None:
    weight = Subject(shape, (1, 0), target)
    for step in steps(scheme, weight, "fp16"):
        assert proto.step_bytes(step, len(name.encode()), weight.ios) == written(step, name, weight.ios)


@given(name=NAMES, shape=SHAPES, dtype=st.sampled_from(["fp16", "fp32"]))
def test_a_dense_weight_takes_the_bytes_of_its_message(name: str, shape: Shape, dtype: str) -> None:
    op = operation("const", name, [(name, dtype, shape)])
    op.attributes["val"].CopyFrom(create_file_value_tensor(FILE, 64, shape, primitive(dtype)))
    assert proto.dense_op_bytes(len(name.encode()), shape, dtype) == in_block(op)


@given(name=NAMES, suffix=NAMES)
def test_renaming_costs_what_the_readers_grow_by(name: str, suffix: str) -> None:
    def reader(weight: str) -> int:
        op = MIL_pb2.Operation(type="linear")
        for parameter in ("x", "weight"):
            op.inputs[parameter].arguments.add(name=weight)
        return op.ByteSize()  # type: ignore[no-any-return]

    grown = proto.renaming_bytes(len(name.encode()), len((name + suffix).encode()), ["x", "weight"])
    assert grown == reader(name + suffix) - reader(name)


@pytest.mark.parametrize(("number", "nbytes"), [(0, 1), (127, 1), (128, 2), (16_383, 2), (16_384, 3)])
def test_a_whole_number_takes_a_byte_for_seven_bits(number: int, nbytes: int) -> None:
    assert proto.varint_bytes(number) == nbytes
