"""Bytes of the program text (`model.mlmodel`), counted as coremltools would write it.

What `MILProtoExporter` writes (`converters/mil/backend/mil/load.py`, coremltools 9) is added up by the rules of
protobuf's wire format: a model has thousands of weights, and messages are slow to make. Lengths of names are those of
their UTF-8. `tests/test_proto.py` compares with the messages.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import TYPE_CHECKING

import numpy as np
from coremltools.converters.mil.backend.mil.helper import (
    create_file_value_tensor,
    create_scalar_value,
    create_tensor_value,
    types_to_proto_primitive,
)
from coremltools.converters.mil.mil import types
from coremltools.proto import MIL_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from talaria_nb.program import Shape
    from talaria_nb.stored_tensors import Step

_FILE = "@model_path/weights/weight.bin"
_SHORT_OFFSET = 64
"""An offset of one byte. How long the real ones are depends on the whole plan: `plan.offset_bytes` counts that."""

_INLINE_OPSETS_BEFORE = 18
"""Until iOS17 the operands of constexpr ops are attributes, since then inputs."""


def dense_op_bytes(name_bytes: int, shape: Shape, dtype: str) -> int:
    """Count the bytes of a dense weight's const op in a block, its offset in `weight.bin` taken as one byte.

    Parameters
    ----------
    name_bytes
        Length of the weight's name.
    shape, dtype
        The weight's.
    """
    return _op_bytes("const", name_bytes, _entry("val", _file_value_bytes(dtype, shape)), [(name_bytes, dtype, shape)])


def step_bytes(step: Step, name_bytes: int, ios: int) -> int:
    """Count the bytes of a constexpr op in a block, all offsets in `weight.bin` taken as one byte.

    Parameters
    ----------
    step
        The op.
    name_bytes
        Length of the weight's name.
    ios
        iOS version of the deployment target.
    """
    operands = 0
    for parameter, operand in step.operands:
        if isinstance(operand, str):
            operands += _bound(parameter, _field(name_bytes + len(operand)))
            continue
        count = _file_value_bytes if operand.in_file else _immediate_bytes
        value = count(operand.dtype, operand.shape)
        operands += _entry(parameter, value) if ios < _INLINE_OPSETS_BEFORE else _bound(parameter, _field(value))
    outputs = [(name_bytes + len(suffix), dtype, shape) for suffix, dtype, shape in step.outputs]
    return _op_bytes(step.op_type, name_bytes + len(step.suffix), operands, outputs)


def op_bytes(op_type: str, name_bytes: int, read: Mapping[str, int], dtype: str, shape: Shape) -> int:
    """Count the bytes of an op that reads other ops' outputs and writes one tensor.

    Parameters
    ----------
    op_type, name_bytes
        Its type and the length of its name, which is its output's too.
    read
        Parameter → length of the name of what is read there.
    dtype, shape
        The output's.
    """
    operands = sum(_bound(parameter, _field(length)) for parameter, length in read.items())
    return _op_bytes(op_type, name_bytes, operands, [(name_bytes, dtype, shape)])


def small_const_bytes(name_bytes: int, dtype: str, text_bytes: int = 0) -> int:
    """Count the bytes of the op of a constant number, or with the dtype "string" of a text of so many bytes."""
    value = _text_value_bytes(text_bytes) if dtype == "string" else _immediate_bytes(dtype, ())
    return _op_bytes("const", name_bytes, _entry("val", value), [(name_bytes, dtype, ())])


def renaming_bytes(name_bytes: int, new_name_bytes: int, parameters: Iterable[str]) -> int:
    """Count by how much the ops that read a weight grow when it is renamed.

    Parameters
    ----------
    name_bytes, new_name_bytes
        Lengths of the name of the weight's value.
    parameters
        As what it is read, once for every place.
    """
    return sum(
        _bound(parameter, _field(new_name_bytes)) - _bound(parameter, _field(name_bytes)) for parameter in parameters
    )


def attributes_bytes(program: MIL_pb2.Program) -> int:
    """Count the bytes of a program's attributes, the build information, which coremltools drops on compression."""
    return int(MIL_pb2.Program(attributes=program.attributes).ByteSize())


def enclosing_bytes(program: MIL_pb2.Program, function: str) -> tuple[int, ...]:
    """Count the bytes of the messages around the ops of a function, innermost first: a proto writes each one's length.

    They are its block, the entry of that in the function, the function, the entry of that in the program, the program.
    """
    body = program.functions[function]
    block = int(body.block_specializations[body.opset].ByteSize())
    return (
        block,
        _entry_bytes(body.opset, block),
        int(body.ByteSize()),
        _entry_bytes(function, int(body.ByteSize())),
        int(program.ByteSize()),
    )


def _entry_bytes(key: str, nbytes: int) -> int:
    """Count the bytes of a map's entry: a key, a message of so many bytes, and the tag and length of each."""
    text = len(key.encode())
    return 1 + varint_bytes(text) + text + 1 + varint_bytes(nbytes) + nbytes


def varint_bytes(number: int) -> int:
    """Count the bytes of a whole number in a proto."""
    return max(1, -(-number.bit_length() // 7))


def _op_bytes(op_type: str, name_bytes: int, operands: int, outputs: Iterable[tuple[int, str, Shape]]) -> int:
    """Count the bytes of an op in a block: with its tag and length, its operands given in bytes."""
    named = sum(_field(_field(length) + _field(_type_bytes(dtype, shape))) for length, dtype, shape in outputs)
    return _field(_field(len(op_type)) + _entry("name", _text_value_bytes(name_bytes)) + operands + named)


def _bound(parameter: str, binding: int) -> int:
    """Count the bytes of an operand that is bound to a name or a value."""
    return _entry(parameter, _field(binding))


def _entry(key: str, nbytes: int) -> int:
    """Count the bytes of an entry of a map from texts to messages."""
    return _field(_field(len(key)) + _field(nbytes))


@lru_cache(maxsize=4096)
def _field(nbytes: int) -> int:
    """Count the bytes of a text or message with its tag and length; all tags here take one byte."""
    return 1 + varint_bytes(nbytes) + nbytes


def _file_value_bytes(dtype: str, shape: Shape) -> int:
    """Count the bytes of a value that lies in `weight.bin`: its type, and where it is."""
    return _field(_type_bytes(dtype, shape)) + _place_bytes()


@cache
def _place_bytes() -> int:
    value = create_file_value_tensor(_FILE, _SHORT_OFFSET, (), _primitive("fp16"))
    return int(value.ByteSize()) - _field(_type_bytes("fp16", ()))


@lru_cache(maxsize=4096)
def _type_bytes(dtype: str, shape: Shape) -> int:
    """Count the bytes of a tensor's type: what it is of, its rank if it has one, and each size in two messages."""
    sizes = sum(_field(_field(1 + varint_bytes(size) if size else 0)) for size in shape)
    return _field(1 + _dtype_bytes(dtype) + (1 + varint_bytes(len(shape)) if shape else 0) + sizes)


@cache
def _dtype_bytes(dtype: str) -> int:
    return varint_bytes(_primitive(dtype))


@lru_cache(maxsize=4096)
def _text_value_bytes(nbytes: int) -> int:
    return int(create_scalar_value("x" * nbytes).ByteSize())


def _primitive(dtype: str) -> int:
    return int(types_to_proto_primitive(types.string_to_builtin(dtype)))


@lru_cache(maxsize=4096)
def _immediate_bytes(dtype: str, shape: Shape) -> int:
    """Count a small tensor; its values are taken to be as long as most: only numbers of 32 bits vary in length."""
    filler = np.ones(shape, dtype=types.nptype_from_builtin(types.string_to_builtin(dtype)))
    return int(create_tensor_value(filler).ByteSize())
