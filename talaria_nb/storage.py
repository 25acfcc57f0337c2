"""Bytes on disk of a weight under a scheme, exact.

`weight.bin` is a 64-byte file header followed by the stored tensors; each is padded to a 64-byte boundary and has a
64-byte record before its data, and the last is not padded. Tensors with fewer than 10 elements are kept in the program
proto instead. Read in coremltools 9: `converters/mil/backend/mil/load.py` (`should_use_weight_file`) and the MIL blob
storage format; verified to the byte by `tests/test_storage.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from talaria_nb.program import DTYPE_BYTES
from talaria_nb.schemes import Float16, LinearQuantize, Palettize, Scheme, ios_version

if TYPE_CHECKING:
    from talaria_nb.program import Shape

FILE_HEADER_BYTES = 64
RECORD_BYTES = 64
ALIGNMENT = 64
MIN_FILE_ELEMENTS = 10
"""Tensors with fewer elements are stored in the proto (`should_use_weight_file`)."""

MIN_SHARED_ELEMENTS = 100
"""Equal constants of this size or more are stored once (coremltools' pass `const_deduplication`)."""

_PROTO_CONSTEXPR_BYTES = 53
_PROTO_DIMENSION_BYTES = 5
_PROTO_READER_BYTES = 11
_PROTO_FILE_TENSOR_BYTES = 75
_PROTO_INLINE_TENSOR_BYTES = 44
"""Growth of the program proto when a const becomes a constexpr op: of the op itself, for each dimension beyond two, for
each op that must name it anew, and for each tensor beside the data, in `weight.bin` or, with its own bytes on top,
inline. Measured with coremltools 9 on 42 weights under random schemes: right within 20 bytes a weight. coremltools
drops some 240 bytes of build information from a package when it compresses anything, which is not counted here."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What one weight takes on disk under one scheme.

    Attributes
    ----------
    payload_bytes
        Data, tables, scales and zero points, without records and padding, wherever they are stored.
    file_bytes
        Growth of `weight.bin`: records, data and padding, without `shared_zeros`.
    shared_zeros
        Elements of an all-zero tensor of zero points that every weight which needs one of this size shares; 0 for none.
    proto_bytes
        Estimated growth of the program proto against the dense weight.
    tables
        Look-up tables; 0 for schemes without any.
    """

    payload_bytes: int
    file_bytes: int
    shared_zeros: int
    proto_bytes: int
    tables: int


def padded(nbytes: int) -> int:
    """Round up to the alignment of `weight.bin`."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def recorded(nbytes: int) -> int:
    """Return the bytes that one stored tensor adds to `weight.bin`: its record, its data and the padding."""
    return RECORD_BYTES + padded(nbytes)


def tensors(
    scheme: Scheme, *, shape: Shape, dtype: str, channel_axes: tuple[int, int] | None, deployment_target: str
) -> list[tuple[int, int]]:
    """List the tensors that store a weight, in file order.

    Returns
    -------
    list of (elements, bytes)
        For the legal `scheme`; illegal ones give a number that means nothing.
    """
    count = prod(shape)
    float_bytes = int(DTYPE_BYTES[dtype])
    input_axis, output_axis = channel_axes if channel_axes is not None else (1, 0)
    if isinstance(scheme, Float16):
        return [(count, count * float_bytes)]
    if isinstance(scheme, Palettize):
        entries = _table_count(scheme, shape, channel_axes) * 2**scheme.nbits
        return [(count, -(-count * scheme.nbits // 8)), (entries, entries * float_bytes)]
    if isinstance(scheme, LinearQuantize):
        scales = 1
        if scheme.granularity != "per_tensor":
            scales = shape[output_axis]
        if scheme.block_size is not None:
            scales *= shape[input_axis] // scheme.block_size
        data = (count, -(-count * scheme.bits // 8))
        scale = (scales, scales * float_bytes)
        zero_point = (scales, -(-scales * scheme.bits // 8))
        if ios_version(deployment_target) < 18:
            return [data, zero_point, scale]
        return [data, scale, zero_point] if scheme.has_zero_point else [data, scale]
    message = f"No storage rule for {scheme!r}."
    raise TypeError(message)


def stored(
    scheme: Scheme,
    *,
    shape: Shape,
    dtype: str,
    channel_axes: tuple[int, int] | None,
    deployment_target: str,
    readers: int = 1,
    last_in_file: bool = False,
) -> Stored:
    """Count the bytes of one weight under one scheme.

    Parameters
    ----------
    scheme, shape, channel_axes, deployment_target
        As in `schemes.refusal`.
    dtype
        The weight's own, "fp16" or "fp32".
    readers
        Number of ops that read the weight.
    last_in_file
        Whether the weight ends `weight.bin`: its last stored tensor is then not padded.
    """
    parts = tensors(scheme, shape=shape, dtype=dtype, channel_axes=channel_axes, deployment_target=deployment_target)
    shared_zeros = _shared_zeros(scheme, parts, deployment_target)
    in_file = [nbytes for elements, nbytes in parts if elements >= MIN_FILE_ELEMENTS]
    file_bytes = sum(map(recorded, in_file)) - (recorded(shared_zeros) if shared_zeros else 0)
    if last_in_file and in_file:
        file_bytes -= padded(in_file[-1]) - in_file[-1]
    return Stored(
        payload_bytes=sum(nbytes for _, nbytes in parts),
        file_bytes=file_bytes,
        shared_zeros=shared_zeros,
        proto_bytes=_proto_growth(scheme, len(shape), readers, parts),
        tables=_table_count(scheme, shape, channel_axes),
    )


def _table_count(scheme: Scheme, shape: Shape, channel_axes: tuple[int, int] | None) -> int:
    if not isinstance(scheme, Palettize):
        return 0
    if scheme.group_size is None or channel_axes is None:
        return 1
    return shape[channel_axes[1]] // scheme.group_size


def _shared_zeros(scheme: Scheme, parts: list[tuple[int, int]], deployment_target: str) -> int:
    if not isinstance(scheme, LinearQuantize) or scheme.has_zero_point or ios_version(deployment_target) >= 18:
        return 0
    zero_points, _ = parts[1]
    return zero_points if zero_points >= MIN_SHARED_ELEMENTS else 0


def _proto_growth(scheme: Scheme, rank: int, readers: int, parts: list[tuple[int, int]]) -> int:
    if isinstance(scheme, Float16):
        return 0
    beside_data = sum(
        _PROTO_INLINE_TENSOR_BYTES + nbytes if elements < MIN_FILE_ELEMENTS else _PROTO_FILE_TENSOR_BYTES
        for elements, nbytes in parts[1:]
    )
    return _PROTO_CONSTEXPR_BYTES + _PROTO_DIMENSION_BYTES * (rank - 2) + _PROTO_READER_BYTES * readers + beside_data
