"""Weights that a package already holds compressed: what scheme each has, and where its bytes lie in `weight.bin`.

A compressed weight is a `constexpr_*` op, or a chain of them, whose last output the model's ops read. The scheme is
recognised from the ops and their operands; the bytes are read from the package itself, never predicted.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING

import numpy as np
from coremltools.converters.mil.mil import types
from coremltools.proto import MIL_pb2

from talaria_nb import storage
from talaria_nb.errors import SchemeError
from talaria_nb.program import Packed
from talaria_nb.schemes import AsStored, LinearQuantize, Palettize, Scheme

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from coremltools.converters.mil.mil import Operation
    from numpy.typing import NDArray

PREFIX = "constexpr_"

_NOT_DATA = ("shape", "axis", "vector_axis", "output_dtype")
"""Operands of constexpr ops that say how to read the data, and are not counted as payload."""

_WORDS: Mapping[str, str] = {
    "constexpr_lut_to_dense": "palette",
    "constexpr_lut_to_sparse": "palette",
    "constexpr_affine_dequantize": "linear",
    "constexpr_blockwise_shift_scale": "linear",
    "constexpr_sparse_blockwise_shift_scale": "linear",
    "constexpr_sparse_to_dense": "sparse",
    "constexpr_cast": "cast",
}
"""How a step of decompression is called on screen; others by their own name."""

_DATA = ("indices", "indices_nonzero_data", "quantized_data", "data", "nonzero_data", "source_val")
"""Operands that hold the elements of a weight, by preference."""


BITS: Mapping[int, int] = {
    MIL_pb2.BOOL: 8,
    MIL_pb2.FLOAT16: 16,
    MIL_pb2.FLOAT32: 32,
    MIL_pb2.FLOAT64: 64,
    MIL_pb2.INT4: 4,
    MIL_pb2.INT8: 8,
    MIL_pb2.INT16: 16,
    MIL_pb2.INT32: 32,
    MIL_pb2.INT64: 64,
    MIL_pb2.UINT1: 1,
    MIL_pb2.UINT2: 2,
    MIL_pb2.UINT3: 3,
    MIL_pb2.UINT4: 4,
    MIL_pb2.UINT6: 6,
    MIL_pb2.UINT8: 8,
    MIL_pb2.UINT16: 16,
    MIL_pb2.UINT32: 32,
    MIL_pb2.UINT64: 64,
}
"""Bits of one element of each dtype of the proto."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the constants of one function lie in `weight.bin`.

    Attributes
    ----------
    offsets
        Offsets of the records that each const or constexpr op names itself, by its first output.
    operands
        Names that each const or constexpr op reads, by its first output.
    extent
        Bytes from each record to the next, or to the end of the file, in all functions.
    data_bytes
        Bytes of data of each record, without record and padding.
    """

    offsets: Mapping[str, tuple[int, ...]]
    operands: Mapping[str, tuple[str, ...]]
    extent: Mapping[int, int]
    data_bytes: Mapping[int, int]

    def records(self, name: str) -> set[int]:
        """Return the offsets of everything that the constant `name` is made of."""
        found: set[int] = set()
        waiting, seen = [name], set()
        while waiting:
            current = waiting.pop()
            if current not in seen:
                seen.add(current)
                found.update(self.offsets.get(current, ()))
                waiting.extend(self.operands.get(current, ()))
        return found


def layout(spec: MIL_pb2.Program, function: str, file_bytes: int) -> Layout:
    """Read where the constants of a function lie.

    Parameters
    ----------
    spec
        The program proto.
    function
        Its function; the extents are of all functions together, which share one file.
    file_bytes
        Size of `weight.bin`.
    """
    offsets: dict[str, tuple[int, ...]] = {}
    operands: dict[str, tuple[str, ...]] = {}
    data_bytes: dict[int, int] = {}
    for name, body in spec.functions.items():
        for op in _constants(body.block_specializations[body.opset].operations):
            blobs = [value for value in _values(op) if value.HasField("blobFileValue")]
            own = tuple(value.blobFileValue.offset for value in blobs)
            data_bytes.update(zip(own, map(stored_bytes, blobs), strict=True))
            if name == function and op.outputs:
                offsets[op.outputs[0].name] = own
                operands[op.outputs[0].name] = tuple(
                    binding.name
                    for argument in op.inputs.values()
                    for binding in argument.arguments
                    if binding.HasField("name")
                )
                for output in op.outputs[1:]:
                    offsets[output.name] = own
                    operands[output.name] = operands[op.outputs[0].name]
    ordered = [*sorted(data_bytes), file_bytes]
    extent = {start: end - start for start, end in pairwise(ordered)}
    return Layout(offsets, operands, extent, data_bytes)


def stored_bytes(value: MIL_pb2.Value) -> int:
    """Count the bytes of a value's data from its type."""
    tensor = value.type.tensorType
    elements = prod(dim.constant.size for dim in tensor.dimensions)
    return -(-int(elements) * BITS[tensor.dataType] // 8)


def _constants(operations: Sequence[MIL_pb2.Operation]) -> Iterator[MIL_pb2.Operation]:
    for op in operations:
        for block in op.blocks:
            yield from _constants(block.operations)
        if op.type == "const" or op.type.startswith(PREFIX):
            yield op


def _values(op: MIL_pb2.Operation) -> Iterator[MIL_pb2.Value]:
    yield from op.attributes.values()
    for argument in op.inputs.values():
        for binding in argument.arguments:
            if binding.HasField("value"):
                yield binding.value


def chain(op: Operation) -> list[Operation]:
    """List a constexpr op and the constexpr ops that it is made of, innermost first, each once."""
    found: dict[int, Operation] = {}

    def visit(current: Operation) -> None:
        if id(current) not in found:
            for var in current.inputs.values():
                if var is not None and var.op is not None and var.op.op_type.startswith(PREFIX):
                    visit(var.op)
            found[id(current)] = current

    visit(op)
    return [*found.values()]


def payload_bytes(op: Operation) -> int:
    """Count the stored bytes of a compressed weight: packed data, masks, tables, scales and zero points."""
    stored = {
        id(var): var
        for step in chain(op)
        for parameter, var in step.inputs.items()
        if parameter not in _NOT_DATA and var is not None and var.op is not None and var.op.op_type == "const"
    }
    return sum(-(-int(np.size(var.val)) * _bits_of(var) // 8) for var in stored.values())


def dense_value(op: Operation) -> NDArray[np.floating]:
    """Decompress a weight to what the device computes with. float16 or float32, the weight's shape."""
    table = op.inputs.get("lut")
    if op.op_type == "constexpr_lut_to_dense" and table.op.op_type.startswith(PREFIX):
        # coremltools does not follow a table that is compressed itself.
        return np.asarray(op.decompress(op.indices.val, dense_value(table.op), op.vector_axis and op.vector_axis.val))
    return np.asarray(op.materialized_val_inference())


def _bits_of(var: object) -> int:
    dtype = var.dtype  # type: ignore[attr-defined]
    return int(dtype.get_bitwidth() if hasattr(dtype, "get_bitwidth") else 8 * np.asarray(var.val).dtype.itemsize)  # type: ignore[attr-defined]


def packed(
    op: Operation, owned: set[int], extents: Mapping[int, int], channel_axes: tuple[int, int] | None, target: str
) -> Packed:
    """Describe a weight that is already compressed.

    Parameters
    ----------
    op
        The last constexpr op of the weight.
    owned
        Offsets of the records in `weight.bin` that no other constant shares.
    extents
        As in `Layout.extent`.
    channel_axes, target
        As in `schemes.refusal`.
    """
    payload = payload_bytes(op)
    shape = tuple(int(dim) for dim in op.outputs[0].shape)
    scheme = _recognised(op, shape, channel_axes)
    if scheme is not None:
        parts = storage.tensors(scheme, shape=shape, dtype="fp16", channel_axes=channel_axes, deployment_target=target)
        dtype_bytes = _float_bytes(op)
        predicted = sum(nbytes for _, nbytes in parts) if dtype_bytes == 2 else payload
        if predicted != payload:
            scheme = None
    if scheme is None:
        steps = [_WORDS.get(step.op_type, step.op_type.removeprefix(PREFIX)) for step in reversed(chain(op))]
        scheme = AsStored(" + ".join(dict.fromkeys(steps)), _element_bits(op))
    return Packed(scheme, payload, sum(extents[offset] for offset in owned), _tables(op))


def _float_bytes(op: Operation) -> int:
    return 4 if "32" in str(op.outputs[0].dtype) else 2


def _recognised(op: Operation, shape: tuple[int, ...], axes: tuple[int, int] | None) -> Scheme | None:
    """Name the scheme that coremltools would have written as this op, or None if it is none that can be planned."""
    if len(chain(op)) > 1:
        return None
    try:
        if op.op_type == "constexpr_lut_to_dense":
            return _palette(op, shape, axes)
        if op.op_type == "constexpr_affine_dequantize":
            return _affine(op, axes)
        if op.op_type == "constexpr_blockwise_shift_scale":
            return _blockwise(op, shape, axes)
    except SchemeError:  # a width or block that coremltools can store and a plan cannot say
        return None
    return None


def _palette(op: Operation, shape: tuple[int, ...], axes: tuple[int, int] | None) -> Scheme | None:
    table = tuple(op.lut.shape)
    if len(table) == 1:
        return Palettize(_log2(table[0]))
    *groups, entries, vector = table
    if vector != 1:
        return None
    if prod(groups) == 1:
        return Palettize(_log2(entries))
    if axes is None or prod(groups) != groups[axes[1]]:
        return None
    return Palettize(_log2(entries), "per_grouped_channel", shape[axes[1]] // groups[axes[1]])


def _log2(entries: int) -> int:
    return int(entries).bit_length() - 1


def _affine(op: Operation, axes: tuple[int, int] | None) -> Scheme | None:
    if np.asarray(op.quantized_data.val).dtype != np.int8:
        return None
    mode = "linear" if np.any(op.zero_point.val) else "linear_symmetric"
    if np.size(op.scale.val) == 1:
        return LinearQuantize("int8", "per_tensor", mode=mode)  # type: ignore[arg-type]
    if axes is None or int(op.axis.val) != axes[1]:
        return None
    return LinearQuantize("int8", "per_channel", mode=mode)  # type: ignore[arg-type]


def _blockwise(op: Operation, shape: tuple[int, ...], axes: tuple[int, int] | None) -> Scheme | None:
    dtype = str(types.builtin_to_string(op.data.dtype))
    if dtype not in ("int8", "int4"):
        return None
    mode = "linear" if op.offset is not None else "linear_symmetric"
    scale = tuple(op.scale.shape)
    if prod(scale) == 1:
        return LinearQuantize(dtype, "per_tensor", mode=mode)  # type: ignore[arg-type]
    if axes is None:
        return None
    input_axis, output_axis = axes
    if prod(scale) == scale[output_axis] == shape[output_axis]:
        return LinearQuantize(dtype, "per_channel", mode=mode)  # type: ignore[arg-type]
    blocks = scale[input_axis]
    if prod(scale) != scale[output_axis] * blocks or scale[output_axis] != shape[output_axis]:
        return None
    return LinearQuantize(dtype, "per_block", shape[input_axis] // blocks, mode)  # type: ignore[arg-type]


def _element_bits(op: Operation) -> int:
    """Width of one stored element of the data, without masks, tables and scales."""
    for step in reversed(chain(op)):
        if step.op_type == "constexpr_lut_to_dense" and len(step.lut.shape) == 1:
            return _log2(step.lut.shape[0])
        for parameter in _DATA:
            var = step.inputs.get(parameter)
            if var is not None and var.op is not None and var.op.op_type == "const":
                return _bits_of(var)
    return 16


def _tables(op: Operation) -> int:
    for step in chain(op):
        table = step.inputs.get("lut")
        if table is not None:
            return prod(tuple(table.shape)[:-2]) if len(table.shape) > 2 else 1
    return 0
