"""Bytes of the program text (`model.mlmodel`): built as coremltools would write it, and counted.

The messages are made with coremltools' own helpers, as `MILProtoExporter` does (`converters/mil/backend/mil/load.py`,
coremltools 9).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from coremltools.converters.mil.backend.mil.helper import (
    create_file_value_tensor,
    create_scalar_value,
    create_tensor_value,
    create_valuetype_tensor,
    types_to_proto_primitive,
)
from coremltools.converters.mil.mil import types
from coremltools.proto import MIL_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable

    from talaria_nb.program import Shape
    from talaria_nb.storage import Step, Tensor

_FILE = "@model_path/weights/weight.bin"
_SHORT_OFFSET = 64
"""An offset of one byte. How long the real ones are depends on the whole plan: `plan.offset_bytes` counts that."""

_INLINE_OPSETS_BEFORE = 18
"""Until iOS17 the operands of constexpr ops are attributes, since then inputs."""


def dense_op_bytes(name: str, shape: Shape, dtype: str) -> int:
    """Count the bytes of a dense weight's const op in a block, its offset in `weight.bin` taken as one byte.

    Parameters
    ----------
    name, shape, dtype
        The weight's.
    """
    value = create_file_value_tensor(_FILE, _SHORT_OFFSET, shape, _primitive(dtype))
    return _in_block(
        MIL_pb2.Operation(
            type="const",
            attributes={"name": create_scalar_value(name), "val": value},
            outputs=[MIL_pb2.NamedValueType(name=name, type=_type(dtype, shape))],
        )
    )


def step_bytes(step: Step, name: str, ios: int) -> int:
    """Count the bytes of a constexpr op in a block, all offsets in `weight.bin` taken as one byte.

    Parameters
    ----------
    step
        The op.
    name
        Of the weight.
    ios
        iOS version of the deployment target.
    """
    op = MIL_pb2.Operation(
        type=step.op_type,
        attributes={"name": create_scalar_value(name + step.suffix)},
        outputs=[
            MIL_pb2.NamedValueType(name=name + suffix, type=_type(dtype, shape))
            for suffix, dtype, shape in step.outputs
        ],
    )
    for parameter, operand in step.operands:
        if isinstance(operand, str):
            op.inputs[parameter].arguments.add(name=name + operand)
            continue
        if operand.in_file:
            value = create_file_value_tensor(_FILE, _SHORT_OFFSET, operand.shape, _primitive(operand.dtype))
        else:
            value = _immediate(operand)
        if ios < _INLINE_OPSETS_BEFORE:
            op.attributes[parameter].CopyFrom(value)
        else:
            op.inputs[parameter].arguments.add(value=value)
    return _in_block(op)


def renaming_bytes(name: str, new_name: str, parameters: Iterable[str]) -> int:
    """Count by how much the ops that read a weight grow when it is renamed.

    Parameters
    ----------
    name, new_name
        Of the weight's value.
    parameters
        As what it is read, once for every place.
    """
    return sum(_binding_bytes(parameter, new_name) - _binding_bytes(parameter, name) for parameter in parameters)


def attributes_bytes(program: MIL_pb2.Program) -> int:
    """Count the bytes of a program's attributes, the build information, which coremltools drops on compression."""
    return int(MIL_pb2.Program(attributes=program.attributes).ByteSize())


def varint_bytes(number: int) -> int:
    """Count the bytes of a whole number in a proto."""
    return max(1, -(-number.bit_length() // 7))


def _binding_bytes(parameter: str, name: str) -> int:
    op = MIL_pb2.Operation()
    op.inputs[parameter].arguments.add(name=name)
    return int(op.ByteSize())


def _in_block(op: MIL_pb2.Operation) -> int:
    """Count the bytes of an op with its tag and length."""
    size = int(op.ByteSize())
    return 1 + varint_bytes(size) + size


@lru_cache(maxsize=4096)
def _type(dtype: str, shape: Shape) -> MIL_pb2.ValueType:
    return create_valuetype_tensor(shape, _primitive(dtype))


def _primitive(dtype: str) -> int:
    return int(types_to_proto_primitive(types.string_to_builtin(dtype)))


@lru_cache(maxsize=4096)
def _immediate(tensor: Tensor) -> MIL_pb2.Value:
    """Write a small tensor out; its values are taken to be as long as most: only numbers of 32 bits vary in length."""
    filler = np.ones(tensor.shape, dtype=types.nptype_from_builtin(types.string_to_builtin(tensor.dtype)))
    return create_tensor_value(filler)
