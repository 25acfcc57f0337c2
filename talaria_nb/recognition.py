"""Weights that a package already holds compressed: what scheme each has, as far as a plan can say it, and its bytes.

The scheme is recognised from the ops and their operands; the bytes are read from the package itself, never predicted.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, cast

import numpy as np
from coremltools.converters.mil.mil import types

from talaria_nb import storage
from talaria_nb.compressed import PREFIX, bits_of, chain, payload_bytes
from talaria_nb.errors import SchemeError
from talaria_nb.program import Packed
from talaria_nb.schemes import AsStored, LinearQuantize, Palettize, Prune, Scheme, part
from talaria_nb.subjects import Subject

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coremltools.converters.mil.mil import Operation, Var

    from talaria_nb.program import Shape
    from talaria_nb.schemes import LinearDtype, LinearMode

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
                return -(-int(np.size(var.val)) * bits_of(var) // 8)
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
                return bits_of(var)
    return 16


def _tables(op: Operation) -> int:
    for step in chain(op):
        table = step.inputs.get("lut")
        if table is not None:
            return prod(tuple(table.shape)[:-2]) if len(table.shape) > 2 else 1
    return 0
