"""The product that an op computes, and its FLOPs: one table of counters by op type."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from talaria_nb.op_types import ELEMENTWISE, FREE, MOVEMENT, PASS_FLOPS, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from talaria_nb.program import Attribute, Program, Shape


class _Product(NamedTuple):
    """Work of one op; the fields of `Work` that depend on its type."""

    kind: Kind
    flops: float
    reduction: int = 1
    channels_in: int = 1
    channels_out: int = 1
    positions: int = 1
    width: int = 1
    unknown: bool = False


@dataclass(frozen=True, slots=True)
class _Op:
    """One op with the shapes it sees."""

    type: str
    inputs: Mapping[str, Shape]
    operands: tuple[Shape, ...]
    constant: frozenset[str]
    outputs: tuple[Shape, ...]
    attributes: Mapping[str, Attribute]

    def flag(self, name: str) -> bool:
        return bool(self.attributes.get(name, False))


def count_products(program: Program, activation: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Count every op's FLOPs and describe the product it computes: the fields of `_Product`, int64, shape (ops, 8)."""
    ops, values = program.ops, program.values
    products = np.tile(np.array(_Product(Kind.PASS, 0), dtype=np.int64), (len(ops), 1))
    kind, flops, unknown = products[:, 0], products[:, 1], products[:, 7]
    out = ops.sums(ops.writes, values.elements[ops.writes.value])
    largest = ops.largest(ops.reads, values.elements[ops.reads.value])
    for op_type, rows in ops.rows_of_type.items():
        if op_type in ELEMENTWISE:
            kind[rows] = Kind.FUSED
            flops[rows] = out[rows] * (2 if op_type == "batch_norm" else 1)
        elif op_type in FREE:
            kind[rows] = Kind.FREE
        elif op_type in _COUNTERS:
            products[rows] = _counted(program, op_type, rows, activation)
        elif op_type in PASS_FLOPS:
            flops[rows] = PASS_FLOPS[op_type] * largest[rows]
        else:
            unknown[rows] = op_type not in MOVEMENT
    return products


def _counted(
    program: Program, op_type: str, rows: NDArray[np.int64], activation: NDArray[np.bool_]
) -> list[tuple[int, ...]]:
    """Count ops of one type that `_COUNTERS` knows: once for each distinct set of operands, outputs and attributes."""
    ops, values = program.ops, program.values
    kind, varies = values.kind.tolist(), activation.tolist()  # lists are read faster one by one
    counted: dict[tuple[object, ...], tuple[int, ...]] = {}
    found = []
    for row in rows.tolist():
        operands, attributes = ops.inputs[row], ops.attributes[row]
        alike = (
            tuple([(parameter, kind[value], varies[value]) for parameter, value in operands]),
            tuple([kind[value] for value in ops.outputs[row]]),
            tuple([attributes.get(name) for name in _COUNTED_ATTRIBUTES]),
        )
        product = counted.get(alike)
        if product is None:
            op = _Op(
                op_type,
                {parameter: values.shape[value] for parameter, value in operands},
                tuple(values.shape[value] for _, value in operands),
                frozenset(parameter for parameter, value in operands if not varies[value]),
                tuple(values.shape[value] for value in ops.outputs[row]),
                attributes,
            )
            product = counted[alike] = tuple(map(int, _COUNTERS[op_type](op)))
        found.append(product)
    return found


_COUNTED_ATTRIBUTES = ("groups", "transpose_x", "transpose_y", "equation", "kernel_sizes")
"""What the functions in `_COUNTERS` look at beside shapes."""


def _conv(op: _Op) -> _Product:
    weight, out = op.inputs["weight"], op.outputs[0]
    groups = _integer(op.attributes.get("groups", 1))
    if op.type == "conv_transpose":
        # The weight is (C_in, C_out / groups, *kernel), and every *input* position meets every tap.
        positions = out[0] * prod(op.inputs["x"][2:])
        channels_in, channels_out = weight[0] // groups, weight[1]
    else:
        positions = out[0] * prod(out[2:])
        channels_in, channels_out = weight[1], weight[0] // groups
    taps = prod(weight[2:])
    kind = Kind.CONV if groups == 1 else Kind.DEPTHWISE if channels_in == 1 else Kind.GROUPED
    flops = 2 * positions * taps * channels_in * channels_out * groups
    return _Product(kind, flops, channels_in * taps, channels_in, channels_out, positions, out[-1])


def _linear(op: _Op) -> _Product:
    rows, (out, inner) = prod(op.inputs["x"][:-1]), op.inputs["weight"]
    return _Product(Kind.LINEAR, 2 * rows * inner * out, inner, inner, out, rows)


def _matmul(op: _Op) -> _Product:
    x, y, out = op.inputs["x"], op.inputs["y"], op.outputs[0]
    inner = x[-2] if op.flag("transpose_x") and len(x) > 1 else x[-1]
    columns = 1 if len(y) == 1 else y[-2] if op.flag("transpose_y") else y[-1]
    rows = max(1, prod(out) // max(1, columns))
    kind = Kind.LINEAR if op.constant & {"x", "y"} else Kind.MATMUL
    return _Product(kind, 2 * prod(out) * inner, inner, inner, columns, rows)


def _attention(op: _Op) -> _Product:
    """Count softmax(Q Kᵀ) V of shapes (…, L, E), (…, S, E), (…, S, V)."""
    query, key, value = op.inputs["query"], op.inputs["key"], op.inputs["value"]
    pairs = prod(query[:-1]) * key[-2]
    return _Product(
        Kind.MATMUL, 2 * pairs * (query[-1] + value[-1]) + 5 * pairs, query[-1], query[-1], key[-2], query[-2]
    )


def _einsum(op: _Op) -> _Product:
    """Count an einsum as the product over all its distinct labels."""
    equation = str(op.attributes.get("equation", ""))
    left = equation.partition("->")[0].replace(" ", "").split(",")
    sizes = {
        label: size
        for term, shape in zip(left, op.operands, strict=False)
        for label, size in zip(term, shape, strict=False)
    }
    out = op.outputs[0]
    flops = 2 * prod(sizes.values()) if sizes else 2 * prod(out)
    inner = max(1, flops // (2 * max(1, prod(out))))
    return _Product(Kind.MATMUL, flops, inner, inner, out[-1] if out else 1, max(1, prod(out[:-1])))


def _recurrent(op: _Op) -> _Product:
    """Count the gate products of an LSTM, GRU or RNN: x is (steps, batch, inputs)."""
    rows = prod(op.inputs["x"][:-1])
    gates = sum(prod(shape) for name, shape in op.inputs.items() if name.startswith("weight"))
    batch = op.inputs["x"][-2]
    return _Product(Kind.LINEAR, 2 * rows * gates, op.inputs["x"][-1], op.inputs["x"][-1], op.outputs[0][-1], batch)


def _pool(op: _Op) -> _Product:
    taps = op.attributes.get("kernel_sizes")
    window = prod(int(tap) for tap in taps) if isinstance(taps, tuple) else 1
    return _Product(Kind.PASS, prod(op.outputs[0]) * window)


def _integer(value: Attribute) -> int:
    return int(value) if isinstance(value, (int, float)) else 1


_COUNTERS = {
    "conv": _conv,
    "conv_quantized": _conv,
    "conv_transpose": _conv,
    "linear": _linear,
    "matmul": _matmul,
    "einsum": _einsum,
    "scaled_dot_product_attention": _attention,
    "lstm": _recurrent,
    "gru": _recurrent,
    "rnn": _recurrent,
    "avg_pool": _pool,
    "max_pool": _pool,
    "l2_pool": _pool,
}

KNOWN = ELEMENTWISE | FREE | MOVEMENT | PASS_FLOPS.keys() | _COUNTERS.keys()
"""Op types that have a rule: all that coremltools 9 can write for iOS16 to iOS18."""
