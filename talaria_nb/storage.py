"""Bytes on disk of a weight under a scheme, exact.

`weight.bin` is a 64-byte file header followed by the stored tensors; each is padded to a 64-byte boundary and has a
64-byte record before its data, and the last is not padded. Tensors with fewer than 10 elements are kept in the program
proto instead, and equal ones of 100 elements or more are stored once. Read in coremltools 9:
`converters/mil/backend/mil/load.py` (`should_use_weight_file`), the MIL blob storage format and the pass
`const_deduplication`; verified to the byte by `tests/test_storage.py` and `test_sizes.py`. `contents.py` tells which
stored tensors are equal. Not foreseen is equality in corners, where a file comes out smaller than predicted: indices
of palettes of constants and of odd multiples, quantized tables of multiples, grouped tables, what is joint with pruning
but masks and float tables, and floats that differ by less than 6e-8, which coremltools takes to be equal.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from talaria_nb import proto
from talaria_nb.constexprs import steps, tables_of_integers
from talaria_nb.schemes import LinearQuantize, Palettize, Scheme, part
from talaria_nb.stored_tensors import (
    Shareable,
    Step,
    Stored,
    Tensor,
    padded,
    recorded,
)
from talaria_nb.subjects import Subject, table_counts

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    from talaria_nb.contents import Contents


def file_bytes(stored: Iterable[tuple[Stored, Contents | None]], *, fixed: int, ends_with_weight: bool) -> int:
    """Add up `weight.bin`.

    Parameters
    ----------
    stored
        One a weight, in file order, with its values where they are at hand.
    fixed
        Bytes of the header and of everything that is no weight.
    ends_with_weight
        Whether the last weight ends the file: the last tensor is not padded.
    """
    total, last = fixed, 0
    seen: set[Hashable] = set()
    for weight, contents in stored:
        total += weight.read_bytes
        for nbytes, shareable in weight.tensors:
            shared = None if shareable is None else shareable.answered(contents)
            if shared is None or shared not in seen:
                total += recorded(nbytes)
                last = nbytes
            if shared is not None:
                seen.add(shared)
    return total - (padded(last) - last if ends_with_weight else 0)


_ELEMENTS = ("indices", "indices_nonzero_data", "quantized_data", "nonzero_data", "data")


def tensors(scheme: Scheme, weight: Subject, dtype: str) -> list[Tensor]:
    """List the tensors that a weight is stored as, in file order, without shapes and axes."""
    return _tensors(steps(scheme, weight, dtype), weight, dtype)


def _tensors(made: Sequence[Step], weight: Subject, dtype: str) -> list[Tensor]:
    if not made:
        return [Tensor(dtype, weight.shape)]
    operands = [operand for step in made for _, operand in step.operands]
    found = [operand for operand in operands if isinstance(operand, Tensor) and operand.is_data]
    return [tensor for at, tensor in enumerate(found) if not any(tensor is other for other in found[:at])]


def stored(
    scheme: Scheme, weight: Subject, dtype: str, *, name_bytes: int = 0, parameters: Sequence[str] = ()
) -> Stored:
    """Count the bytes of one weight under one scheme.

    Parameters
    ----------
    scheme, weight, dtype
        As in `steps`.
    name_bytes
        Length of its name.
    parameters
        As what the ops read it, once for every place.
    """
    (only,) = stored_with_names(scheme, weight, dtype, (name_bytes,), parameters)
    return only


def stored_with_names(
    scheme: Scheme, weight: Subject, dtype: str, name_bytes: Iterable[int], parameters: Sequence[str]
) -> list[Stored]:
    """Count the bytes of weights that differ in nothing but the lengths of their names; as `stored`, one a length."""
    made = steps(scheme, weight, dtype)
    found = _tensors(made, weight, dtype)
    total = sum(tensor.nbytes for tensor in found)
    data = _data_bytes(made, weight, dtype)
    in_file = tuple(
        (tensor.nbytes, tensor.shareable or _shared_with_all(at, found, weight))
        for at, tensor in enumerate(found)
        if tensor.in_file
    )
    tables = _tables(scheme, weight)
    return [
        Stored(in_file, data, total - data, _proto_growth(made, weight, dtype, length, parameters), tables)
        for length in name_bytes
    ]


def _shared_with_all(place: int, found: Sequence[Tensor], weight: Subject) -> Shareable | None:
    """Say what a small tensor is shared as: weights of which everything comes out equal share one op and its parts."""
    origins = tuple(tensor.origin for tensor in found if tensor.origin is not None)
    if len(origins) < len(found):
        return None
    looks = tuple((tensor.dtype, tensor.shape, origin.how) for tensor, origin in zip(found, origins, strict=True))
    how = (place, weight.shape, weight.channel_axes, looks)
    questions = tuple(origin.question for origin in origins if origin.question is not None)
    return Shareable(found[place].dtype, found[place].shape, how, questions)


def _tables(scheme: Scheme, weight: Subject) -> int:
    palette, linear = part(scheme, Palettize), part(scheme, LinearQuantize)
    if palette is None:
        return 0
    if linear is not None and scheme.parts[-1] is palette:
        return prod(tables_of_integers(palette, linear, weight))
    return prod(table_counts(palette, weight))


def _data_bytes(made: Sequence[Step], weight: Subject, dtype: str) -> int:
    """Count the bytes of the elements: of the first constant operand that holds them, in the last step that has one."""
    for step in reversed(made):
        for parameter, operand in step.operands:
            if parameter in _ELEMENTS and isinstance(operand, Tensor):
                return operand.nbytes
    return Tensor(dtype, weight.shape).nbytes


def _proto_growth(made: Sequence[Step], weight: Subject, dtype: str, name_bytes: int, parameters: Sequence[str]) -> int:
    """Count by how much the program text grows when a weight is no longer dense; see `Stored.proto_bytes`."""
    if not made:
        return 0
    written = sum(proto.step_bytes(step, name_bytes, weight.ios) for step in made)
    dense = proto.dense_op_bytes(name_bytes, weight.shape, dtype)
    renamed = proto.renaming_bytes(name_bytes, name_bytes + len(made[-1].outputs[0][0]), parameters)
    return written - dense + renamed
