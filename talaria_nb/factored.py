"""A program in which some weights are products of two: an op more for each of them, and nothing else changed."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from talaria_nb.contents import Contents
from talaria_nb.legality import MIN_FILE_ELEMENTS
from talaria_nb.program import DTYPE_BYTES, NO_OP, Weights
from talaria_nb.stored_tensors import recorded

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from talaria_nb.program import Attribute, Program, Shape


class Factors(NamedTuple):
    """A weight as `second @ first`.

    Attributes
    ----------
    first, second
        In the weight's dtype and rank: shapes (rank, inputs, 1, …) and (outputs, rank, 1, …).
    squared_error
        Sum of the squared singular values that are left out.
    signal
        Sum of all of them, which is that of the weight's squared values.
    """

    first: NDArray[np.floating]
    second: NDArray[np.floating]
    squared_error: float
    signal: float


def factor(values: NDArray[np.floating], rank: int) -> Factors:
    """Find the product of two that is nearest to a weight by squared error (Eckart and Young, 1936)."""
    outputs, inputs = values.shape[:2]
    left, singular, right = np.linalg.svd(values.reshape(outputs, inputs).astype(np.float64), full_matrices=False)
    root = np.sqrt(singular[:rank])  # shared out evenly, both factors keep a range that float16 can hold
    taps = (1,) * (values.ndim - 2)
    first = (root[:, None] * right[:rank]).reshape(rank, inputs, *taps)
    second = (left[:, :rank] * root).reshape(outputs, rank, *taps)
    squared = singular**2
    return Factors(
        first.astype(values.dtype), second.astype(values.dtype), float(squared[rank:].sum()), float(squared.sum())
    )


def refusal(program: Program, row: int, rank: int) -> str | None:
    """Say why a weight cannot be a product of a rank, or return None if it can."""
    weights, ops = program.weights, program.ops
    shape, readers = weights.shape[row], weights.readers[row]
    types = {ops.op_type[op] for op in readers}
    if row in weights.packed:
        return "the package holds it compressed, and its own values are gone."
    if not types <= {"linear", "conv"} or any(size != 1 for size in shape[2:]):
        return f"it is read by {' and '.join(sorted(types))}, not by a linear layer or a 1×1 convolution."
    if len(readers) > 1:
        return f"{len(readers)} ops read it; each would need two layers of its own."
    if ops.attributes[readers[0]].get("groups", 1) != 1:
        return "its convolution has groups."
    if rank >= min(shape[:2]):
        return f"it has {shape[0]} × {shape[1]} channels, and its rank is {min(shape[:2])} at most already."
    return None


class Rewritten(NamedTuple):
    """A program with two ops in place of some, and where old weights and ops are in it: the first of two, if two."""

    program: Program
    row_of: NDArray[np.int64]
    op_of: NDArray[np.int64]


def rewritten(program: Program, factors: Mapping[int, Factors]) -> Rewritten:
    """Rewrite a program so that some weights, given by row, are the products of their factors."""
    weights, ops, values = program.weights, program.ops, program.values
    weight_of = {weights.readers[row][0]: row for row in factors}
    op_of, row_of = _places(len(ops), weight_of), _places(len(weights), factors)
    shapes, dtypes = list(values.shape), list(values.dtype)
    producer = [op if op == NO_OP else int(op_of[op]) + (op in weight_of) for op in values.producer.tolist()]
    holds = [row if row < 0 else int(row_of[row]) for row in values.weight.tolist()]

    def add(shape: Shape, dtype: str, made_by: int, weight: int) -> int:
        shapes.append(shape)
        dtypes.append(dtype)
        producer.append(made_by)
        holds.append(weight)
        return len(shapes) - 1

    listed = []
    seconds: dict[int, int] = {}
    biases: list[tuple[int, int]] = []
    for op, name in enumerate(ops.name):
        read, written, attributes = ops.inputs[op], ops.outputs[op], ops.attributes[op]
        if op not in weight_of:
            listed.append((name, read, written, attributes))
            continue
        row = weight_of[op]
        each, value, out = factors[row], int(weights.value[row]), written[0]
        [x] = [given for parameter, given in read if parameter == "x"]
        shapes[value] = each.first.shape
        channels = -1 if ops.op_type[op] == "linear" else 1
        inner = list(values.shape[out])
        inner[channels] = len(each.first)
        hidden = add(tuple(inner), values.dtype[out], int(op_of[op]), -1)
        seconds[row] = add(each.second.shape, values.dtype[value], NO_OP, int(row_of[row]) + 1)
        first = [("x", x), ("weight", value)]
        if ops.op_type[op] == "linear":  # coremltools gives it a bias of zeros
            dtype, length = values.dtype[value], len(each.first)
            first.append(("bias", add((length,), dtype, NO_OP, -1)))
            if length >= MIN_FILE_ELEMENTS:
                biases.append((int(row_of[row]) + 1, recorded(int(length * DTYPE_BYTES[dtype]))))
        listed.append((f"{name}_first", tuple(first), (hidden,), attributes))
        moved = {x: hidden, value: seconds[row]}
        reads = tuple((parameter, moved.get(given, given)) for parameter, given in read)
        listed.append((name, reads, written, _once(attributes)))
    names, reads_of, written_by, attributes_of = zip(*listed, strict=True)
    twice = [1 + (op in weight_of) for op in range(len(ops))]
    before, sizes = program.fixed_records.T
    records = [*biases, *zip((before + np.searchsorted(sorted(factors), before)).tolist(), sizes.tolist(), strict=True)]
    return Rewritten(
        replace(
            program,
            ops=replace(
                ops,
                name=names,
                op_type=tuple(np.repeat(np.array(ops.op_type, dtype=object), twice)),
                inputs=reads_of,
                outputs=written_by,
                attributes=attributes_of,
                module=np.repeat(ops.module, twice),
            ),
            values=replace(
                values,
                name=(*values.name, *(f"product_{number}" for number in range(len(values.name), len(shapes)))),
                shape=tuple(shapes),
                dtype=tuple(dtypes),
                producer=np.array(producer, dtype=np.int32),
                weight=np.array(holds, dtype=np.int32),
            ),
            weights=_weights(program, factors, seconds, op_of),
            fixed_file_bytes=program.fixed_file_bytes + sum(size for _, size in biases),
            fixed_records=np.array(sorted(records, key=lambda record: record[0]), dtype=np.int64).reshape(-1, 2),
        ),
        row_of,
        op_of,
    )


def _places(count: int, twice: Iterable[int]) -> NDArray[np.int64]:
    """Return where each of so many rows is once some of them are two."""
    sizes = np.ones(count, dtype=np.int64)
    sizes[list(twice)] = 2
    return np.concatenate([[0], np.cumsum(sizes)[:-1]]) if count else sizes


def _once(attributes: Mapping[str, Attribute]) -> Mapping[str, Attribute]:
    """Return a convolution's attributes without strides and padding, which the op before it has."""
    neutral = {"strides": 1, "pad": 0}
    return {
        name: (neutral[name],) * len(value) if name in neutral and isinstance(value, tuple) else value
        for name, value in attributes.items()
    }


def _weights(
    program: Program, factors: Mapping[int, Factors], seconds: Mapping[int, int], op_of: NDArray[np.int64]
) -> Weights:
    """List the weights of the rewritten program; `seconds` are the values that hold second factors."""
    old = program.weights
    twice = [1 + (row in factors) for row in range(len(old))]
    again = np.repeat(np.arange(len(old)), twice).tolist()
    second = [number > 0 and row == again[number - 1] for number, row in enumerate(again)]

    def stored(row: int, *, last: bool) -> NDArray[np.floating]:
        return factors[row].second if last else factors[row].first

    pairs = list(zip(again, second, strict=True))
    return Weights(
        name=tuple(f"{old.name[row]}_second" if last else old.name[row] for row, last in pairs),
        shape=tuple(stored(row, last=last).shape if row in factors else old.shape[row] for row, last in pairs),
        dtype=tuple(old.dtype[row] for row in again),
        value=np.array([seconds[row] if last else int(old.value[row]) for row, last in pairs], dtype=np.int32),
        channel_axes=tuple(old.channel_axes[row] for row in again),
        readers=tuple(tuple(int(op_of[op]) + last for op in old.readers[row]) for row, last in pairs),
        last_in_file=np.array([old.last_in_file[row] and last == (row in factors) for row, last in pairs]),
        packed={number: old.packed[row] for number, row in enumerate(again) if row in old.packed},
        contents=tuple(
            Contents(partial(stored, row, last=last)) if row in factors else old.contents[row] for row, last in pairs
        )
        if old.contents
        else (),
    )
