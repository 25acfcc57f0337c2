"""What the proto of a package says of its stored tensors: where they lie, how long they are, what they belong to."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING

from coremltools.proto import MIL_pb2

from talaria_nb import stored_tensors
from talaria_nb.compressed import NOT_DATA, PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from talaria_nb.program import Shape

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
            blobs = [value for value in values_of(op) if value.HasField("blobFileValue")]
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
            if parameter != "name" and parameter not in NOT_DATA:
                total += stored_bytes(value)
        for parameter, argument in op.inputs.items():
            if parameter not in NOT_DATA:
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


def values_of(op: MIL_pb2.Operation) -> Iterator[MIL_pb2.Value]:
    """List the values that an op holds itself: its attributes, and the inputs that are no other op's."""
    yield from op.attributes.values()
    for argument in op.inputs.values():
        for binding in argument.arguments:
            if binding.HasField("value"):
                yield binding.value
