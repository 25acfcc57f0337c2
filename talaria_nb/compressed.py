"""Weights that a package already holds compressed: what scheme each has, and where its bytes lie in `weight.bin`.

A compressed weight is a `constexpr_*` op, or a chain of them, whose last output the model's ops read. The scheme is
recognised from the ops and their operands; the bytes are read from the package itself, never predicted.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING, cast

import numpy as np
from coremltools.converters.mil.mil import types
from coremltools.proto import MIL_pb2

from talaria_nb import storage, stored_tensors
from talaria_nb.errors import SchemeError
from talaria_nb.program import Packed
from talaria_nb.schemes import AsStored, LinearQuantize, Palettize, Prune, Scheme, part
from talaria_nb.subjects import Subject

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from coremltools.converters.mil.mil import Operation, Var
    from numpy.typing import NDArray

    from talaria_nb.program import Shape
    from talaria_nb.schemes import LinearDtype, LinearMode

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
    written
        Offsets of the records that a package of the function alone would have, in its order. Equal constants of less
        than 100 elements share one record where there are several functions, and have one each where there is one.
    """

    offsets: Mapping[str, tuple[int, ...]]
    operands: Mapping[str, tuple[str, ...]]
    extent: Mapping[int, int]
    data_bytes: Mapping[int, int]
    written: tuple[int, ...]

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


@dataclass(frozen=True, slots=True)
class StoredWeight:
    """One weight of a function, as it lies in the package.

    Attributes
    ----------
    name
        Name of the op that holds or decompresses it.
    shape
        Its shape.
    payload_bytes
        Bytes of its data, tables and scales.
    records
        Where they lie in `weight.bin`: the same for functions that share the weight.
    """

    name: str
    shape: Shape
    payload_bytes: int
    records: frozenset[int]


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
    written: list[int] = []
    seen: set[int] = set()
    for name, body in spec.functions.items():
        for op in _constants(body.block_specializations[body.opset].operations):
            blobs = [value for value in _values(op) if value.HasField("blobFileValue")]
            own = tuple(value.blobFileValue.offset for value in blobs)
            data_bytes.update(zip(own, map(stored_bytes, blobs), strict=True))
            if name == function and op.outputs:
                small = {
                    at
                    for at, value in zip(own, blobs, strict=True)
                    if _elements(value) < stored_tensors.MIN_SHARED_ELEMENTS
                }
                written += sorted(at for at in own if at in small or at not in seen)
                seen.update(own)
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
    return Layout(offsets, operands, extent, data_bytes, tuple(written))


def weights(spec: MIL_pb2.Program, function: str, found: Layout) -> Iterator[StoredWeight]:
    """Read the weights of a function from its proto alone: float constants of rank 2 or more that its ops read.

    Parameters
    ----------
    spec
        The program proto.
    function
        Its function.
    found
        `layout` of the same function.
    """
    body = spec.functions[function]
    operations = body.block_specializations[body.opset].operations
    constants = {output.name: op for op in _constants(operations) for output in op.outputs}
    for name in _read_by_ops(operations):
        op = constants.get(name)
        records = frozenset(found.records(name))
        if op is None or not records:
            continue
        kind = op.outputs[0].type.tensorType
        shape = tuple(int(dim.constant.size) for dim in kind.dimensions)
        if len(shape) > 1 and kind.dataType in _FLOATS:
            title = op.attributes["name"].immediateValue.tensor.strings.values
            yield StoredWeight(title[0] if title else name, shape, _payload(name, constants), records)


_FLOATS = frozenset([MIL_pb2.FLOAT16, MIL_pb2.FLOAT32])


def _read_by_ops(operations: Sequence[MIL_pb2.Operation]) -> dict[str, None]:
    """Name what ops read that are no part of compressed weights, in order and each once."""
    names: dict[str, None] = {}
    for op in operations:
        for block in op.blocks:
            names |= _read_by_ops(block.operations)
        if not op.type.startswith(PREFIX):
            each = (binding for argument in op.inputs.values() for binding in argument.arguments)
            names |= {binding.name: None for binding in each if binding.HasField("name")}
    return names


def _payload(name: str, constants: Mapping[str, MIL_pb2.Operation]) -> int:
    """Count the bytes of everything that a constant is made of, as `payload_bytes` does of coremltools' objects."""
    total = 0
    waiting, seen = [name], set()
    while waiting:
        op = constants.get(waiting.pop())
        if op is None or op.outputs[0].name in seen:
            continue
        seen.add(op.outputs[0].name)
        for parameter, value in op.attributes.items():
            if parameter != "name" and parameter not in _NOT_DATA:
                total += stored_bytes(value)
        for parameter, argument in op.inputs.items():
            if parameter not in _NOT_DATA:
                waiting.extend(binding.name for binding in argument.arguments if binding.HasField("name"))
                total += sum(stored_bytes(each.value) for each in argument.arguments if each.HasField("value"))
    return total


def stored_bytes(value: MIL_pb2.Value) -> int:
    """Count the bytes of a value's data from its type."""
    return -(-_elements(value) * BITS[value.type.tensorType.dataType] // 8)


def _elements(value: MIL_pb2.Value) -> int:
    return int(prod(dim.constant.size for dim in value.type.tensorType.dimensions))


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
        if parameter not in _NOT_DATA
        and not (parameter == "mask" and step.nonzero_data.op.op_type != "const")  # the same that its data has
        and var is not None
        and var.op is not None
        and var.op.op_type == "const"
    }
    return sum(-(-int(np.size(var.val)) * _bits_of(var) // 8) for var in stored.values())


def dense_value(op: Operation) -> NDArray[np.floating]:
    """Decompress a weight to what the device computes with. float16 or float32, the weight's shape."""
    # coremltools does not follow a table that is compressed itself.
    if op.op_type == "constexpr_lut_to_dense" and op.lut.op.op_type.startswith(PREFIX):
        return np.asarray(op.decompress(op.indices.val, dense_value(op.lut.op), op.vector_axis and op.vector_axis.val))
    if op.op_type == "constexpr_sparse_to_dense":
        inner = op.nonzero_data.op
        if inner.op_type == "constexpr_lut_to_sparse" and inner.lut.op.op_type.startswith(PREFIX):
            table = dense_value(inner.lut.op)
            mask, data = inner.decompress(inner.indices_mask.val, inner.indices_nonzero_data.val, table, None)
            return np.asarray(op.decompress(data, mask))
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
        weight = Subject(shape, channel_axes, target)
        predicted = sum(tensor.nbytes for tensor in storage.tensors(scheme, weight, _float_dtype(op)))
        if predicted != payload and part(scheme, Prune) is None:  # how many zeros a rule leaves, the values decide
            scheme = None
    if scheme is None:
        steps = [_WORDS.get(step.op_type, step.op_type.removeprefix(PREFIX)) for step in reversed(chain(op))]
        scheme = AsStored(" + ".join(dict.fromkeys(steps)), _element_bits(op))
    data = _data_bytes(op)
    return Packed(scheme, data, payload - data, sum(extents[offset] for offset in owned), _tables(op))


def _float_dtype(op: Operation) -> str:
    return str(types.builtin_to_string(op.outputs[0].dtype))


def _data_bytes(op: Operation) -> int:
    """Count the bytes of the elements alone."""
    for step in reversed(chain(op)):
        for parameter in _DATA:
            var = step.inputs.get(parameter)
            if var is not None and var.op is not None and var.op.op_type == "const":
                return -(-int(np.size(var.val)) * _bits_of(var) // 8)
    return 0


def _recognised(op: Operation, shape: Shape, axes: tuple[int, int] | None) -> Scheme | None:
    """Name the scheme that coremltools would have written as this op, or None if it is none that can be planned."""
    try:
        if op.op_type == "constexpr_sparse_to_dense":
            return _sparse(op, shape, axes)
        if op.op_type == "constexpr_lut_to_dense":
            return _palette(op, shape, axes)
        if op.op_type == "constexpr_affine_dequantize":
            return _affine(op, axes)
        if op.op_type == "constexpr_blockwise_shift_scale":
            return _scaled(op, shape, axes)
    except SchemeError:  # a width or block that coremltools can store and a plan cannot say
        return None
    return None


def _sparse(op: Operation, shape: Shape, axes: tuple[int, int] | None) -> Scheme | None:
    """Name a pruned weight; by what rule it was pruned cannot be seen, only how much."""
    inner = op.nonzero_data.op
    pruned = Prune(round(1 - op.nonzero_data.shape[0] / prod(shape), 2))
    if inner.op_type == "const":
        return pruned
    if inner.op_type == "constexpr_lut_to_sparse":
        rest = _palette(inner, shape, axes)
    elif inner.op_type == "constexpr_sparse_blockwise_shift_scale":
        rest = _linear(inner.nonzero_data, inner.scale, inner.offset, shape, axes)
    else:
        return None
    return None if rest is None else pruned + rest


def _palette(op: Operation, shape: Shape, axes: tuple[int, int] | None) -> Scheme | None:
    table = tuple(op.lut.shape)
    if len(table) == 1:
        return Palettize(_log2(table[0]))
    *counts, entries, vector = table
    integers = op.lut.op
    if integers.op_type == "const":
        return _grouped(_log2(entries), tuple(counts), vector, shape, axes)
    if integers.op_type != "constexpr_blockwise_shift_scale" or len(chain(integers)) > 1:
        return None
    scales = tuple(integers.scale.shape)
    if prod(scales) == 1:
        tables = _linear(integers.data, integers.scale, integers.offset, table, None)
        palette = _grouped(_log2(entries), tuple(counts), vector, shape, axes)
        return None if tables is None or palette is None else palette + tables
    linear = _linear(integers.data, integers.scale, integers.offset, shape, axes, scales[:-2])
    if linear is None or scales[-2:] != (1, 1):
        return None
    groups = (1,) * len(counts) if tuple(counts) == scales[:-2] else tuple(counts)
    palette = _grouped(_log2(entries), groups, vector, shape, axes)
    return None if palette is None else linear + palette


def _scaled(op: Operation, shape: Shape, axes: tuple[int, int] | None) -> Scheme | None:
    """Name integers, or a palette of integers as iOS26 has it: scaled behind its tables."""
    inner = op.data.op
    if inner.op_type == "const":
        return _linear(op.data, op.scale, op.offset, shape, axes)
    if inner.op_type != "constexpr_lut_to_dense" or len(chain(op)) > 2:
        return None
    *counts, entries, vector = tuple(inner.lut.shape)
    palette = _grouped(_log2(entries), tuple(counts), vector, shape, axes)
    linear = _linear(inner.lut, op.scale, op.offset, shape, axes)
    if palette is None or linear is None:
        return None
    return palette + linear if linear.granularity == "per_tensor" else linear + palette


def _grouped(nbits: int, counts: Shape, vector: int, shape: Shape, axes: tuple[int, int] | None) -> Palettize | None:
    """Name a palette by how many tables it has along each axis."""
    divided = [axis for axis, count in enumerate(counts) if count > 1]
    if not divided:
        return Palettize(nbits, cluster_dim=vector)
    if len(divided) > 1 or axes is None:
        return None
    [axis] = divided
    channel_axis = None if axis == axes[1] else axis
    return Palettize(nbits, "per_grouped_channel", shape[axis] // counts[axis], channel_axis, vector)


def _log2(entries: int) -> int:
    return int(entries).bit_length() - 1


def _affine(op: Operation, axes: tuple[int, int] | None) -> Scheme | None:
    dtype = _dtype(op.quantized_data)
    mode = _mode(dtype, op.zero_point.val)
    if np.size(op.scale.val) == 1:
        return LinearQuantize(dtype, "per_tensor", mode=mode)
    if axes is None or int(op.axis.val) != axes[1]:
        return None
    return LinearQuantize(dtype, "per_channel", mode=mode)


def _linear(
    data: Var, scale: Var, offset: Var | None, shape: Shape, axes: tuple[int, int] | None, counts: Shape | None = None
) -> LinearQuantize | None:
    """Name linear quantization by how many scales it has along each axis."""
    dtype = _dtype(data)
    if offset is None and dtype.startswith("u"):
        return None
    # Signed integers have zero points only where the range is not symmetric.
    mode = _mode(dtype, 0 if offset is None else offset.val) if dtype.startswith("u") or offset is None else "linear"
    counts = tuple(scale.shape) if counts is None else counts
    if prod(counts) == 1:
        return LinearQuantize(dtype, "per_tensor", mode=mode)
    if axes is None:
        return None
    input_axis, output_axis = axes
    channels = [1] * len(shape)
    channels[output_axis] = shape[output_axis]
    if list(counts) == channels:
        return LinearQuantize(dtype, "per_channel", mode=mode)
    channels[input_axis] = counts[input_axis]
    if list(counts) == channels:
        return LinearQuantize(dtype, "per_block", shape[input_axis] // counts[input_axis], mode)
    blocks = tuple(0 if count == 1 else size // count for size, count in zip(shape, counts, strict=True))
    return LinearQuantize(dtype, "per_block", blocks, mode)


def _dtype(var: Var) -> LinearDtype:
    return cast("LinearDtype", str(types.builtin_to_string(var.dtype)))


def _mode(dtype: str, zero_points: object) -> LinearMode:
    """Tell whether zero points say more than where the middle of the range is."""
    middle = 0 if not dtype.startswith("u") else 7 if dtype.endswith("4") else 127
    return "linear_symmetric" if np.all(np.asarray(zero_points) == middle) else "linear"


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
