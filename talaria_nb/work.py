"""Work of an op: FLOPs and bytes, counted from shapes, and exact."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from math import prod
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from talaria_nb.program import NO_OP

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from talaria_nb.program import Attribute, Pairs, Program, Shape


class Kind(IntEnum):
    """What an op does to a compute unit: which of a `Unit`'s rates prices it."""

    CONV = 0
    """Dense convolution: every output channel sees every input channel."""
    GROUPED = 1
    """Convolution with groups of more than one channel."""
    DEPTHWISE = 2
    """Convolution with one input channel a group."""
    LINEAR = 3
    """Matrix product with a constant, and recurrent layers."""
    MATMUL = 4
    """Matrix product of two activations, attention included."""
    PASS = 5
    """Reads its inputs and writes its outputs once: norms, softmax, reductions, pooling, resampling, data movement."""
    FUSED = 6
    """Element-wise, computed with the op that makes its input; costs the traffic of its other operands."""
    FREE = 7
    """Changes only how the same bytes are addressed."""


MOVEMENT = frozenset(
    [
        "band_part",
        "concat",
        "crop",
        "crop_resize",
        "cumsum",
        "depth_to_space",
        "fill",
        "fill_like",
        "gather",
        "gather_along_axis",
        "gather_nd",
        "list_gather",
        "list_length",
        "list_read",
        "list_scatter",
        "list_write",
        "make_list",
        "max_pool",
        "non_maximum_suppression",
        "non_zero",
        "one_hot",
        "pad",
        "pixel_shuffle",
        "pixel_unshuffle",
        "random_bernoulli",
        "random_categorical",
        "random_normal",
        "random_uniform",
        "range_1d",
        "resample",
        "resize",
        "resize_bilinear",
        "resize_nearest_neighbor",
        "reverse",
        "reverse_sequence",
        "scatter",
        "scatter_along_axis",
        "scatter_nd",
        "shape",
        "slice_by_index",
        "slice_by_size",
        "slice_update",
        "sliding_windows",
        "space_to_batch",
        "space_to_depth",
        "batch_to_space",
        "split",
        "stack",
        "tile",
        "topk",
        "transpose",
        "upsample_bilinear",
        "upsample_nearest_neighbor",
        "affine",
        "argsort",
        "classify",
        "cond",
        "while_loop",
    ]
)
"""Op types that are priced as data movement: one read of the inputs and one write of the outputs."""

FREE = frozenset(
    [
        "coreml_update_state",
        "const",
        "_const_symbolic",
        "constexpr_affine_dequantize",
        "constexpr_blockwise_shift_scale",
        "constexpr_cast",
        "constexpr_lut_to_dense",
        "constexpr_lut_to_sparse",
        "constexpr_sparse_blockwise_shift_scale",
        "constexpr_sparse_to_dense",
        "expand_dims",
        "flatten2d",
        "identity",
        "read_state",
        "reshape",
        "reshape_like",
        "squeeze",
        "write_state",
    ]
)
"""Op types that only change how a tensor is addressed: states are read and updated in place, and how weights are
decompressed is priced with their stream."""

CHOOSING = frozenset(["crop", "gather", "gather_along_axis", "gather_nd", "slice_by_index", "slice_by_size"])
"""Op types that read no more of their tensor than they write."""

ELEMENTWISE = frozenset(
    [
        "abs",
        "acos",
        "add",
        "asin",
        "atan",
        "atanh",
        "batch_norm",
        "cast",
        "ceil",
        "clamped_relu",
        "clip",
        "cos",
        "cosh",
        "dequantize",
        "elu",
        "equal",
        "erf",
        "exp",
        "exp2",
        "floor",
        "floor_div",
        "gelu",
        "greater",
        "greater_equal",
        "hard_sigmoid",
        "hard_swish",
        "inverse",
        "leaky_relu",
        "less",
        "less_equal",
        "linear_activation",
        "log",
        "logical_and",
        "logical_not",
        "logical_or",
        "logical_xor",
        "maximum",
        "minimum",
        "mod",
        "mul",
        "not_equal",
        "pow",
        "prelu",
        "quantize",
        "real_div",
        "relu",
        "relu6",
        "round",
        "rsqrt",
        "scaled_tanh",
        "select",
        "sigmoid",
        "sigmoid_hard",
        "sign",
        "silu",
        "sin",
        "sinh",
        "softplus",
        "softplus_parametric",
        "softsign",
        "sqrt",
        "square",
        "sub",
        "tan",
        "tanh",
        "threshold",
        "thresholded_relu",
    ]
)
"""Op types that compute each output element from the input elements in its place."""

PASS_FLOPS: Mapping[str, float] = {
    "softmax": 5,
    "layer_norm": 8,
    "instance_norm": 8,
    "local_response_norm": 8,
    "l2_norm": 3,
    "reduce_argmax": 1,
    "reduce_argmin": 1,
    "reduce_l1_norm": 2,
    "reduce_l2_norm": 2,
    "reduce_log_sum": 1,
    "reduce_log_sum_exp": 3,
    "reduce_max": 1,
    "reduce_mean": 1,
    "reduce_min": 1,
    "reduce_prod": 1,
    "reduce_sum": 1,
    "reduce_sum_square": 2,
}
"""FLOPs an input element of op types that read everything before they write: counted as the plain algorithm does it
(softmax: maximum, difference, exponential, sum, quotient). They are under 1 % of any model's total."""


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """What each op of a program has to do, counted from shapes. One row an op.

    Attributes
    ----------
    flops
        Floating point operations, 2 per multiply-accumulate; 1 an element for element-wise ops. int64.
    activation_bytes
        Bytes of the activations read and written, each tensor once. int64.
    constant_bytes
        Bytes of the dense constants read (weights, biases). int64.
    traffic_bytes
        The part of `activation_bytes` that moves when element-wise ops ride with their producers. int64.
    stream_bytes
        Dense bytes of the compressible weights that the op brings in; of a look-up table only the rows read. int64.
    state_bytes
        Bytes of states that the op reads: key-value caches, which lie in memory as weights do. No part of
        `traffic_bytes`. int64.
    kind
        Member of `Kind`. int8.
    reduction
        Elements summed for one output: input channels of a group × kernel taps, or the inner dimension. int64.
    channels_in, channels_out
        Channels of one group; rows and columns of the right-hand matrix of a product. 1 for other ops. int64.
    positions
        Places where the same weights are used: batch × output pixels, or rows of the left-hand matrix. int64.
    width
        Columns of a convolution's output; 1 for other ops. int64.
    unknown
        True where the op type is priced as data movement because nothing better is known. bool.
    """

    flops: NDArray[np.int64]
    activation_bytes: NDArray[np.int64]
    constant_bytes: NDArray[np.int64]
    traffic_bytes: NDArray[np.int64]
    stream_bytes: NDArray[np.int64]
    state_bytes: NDArray[np.int64]
    kind: NDArray[np.int8]
    reduction: NDArray[np.int64]
    channels_in: NDArray[np.int64]
    channels_out: NDArray[np.int64]
    positions: NDArray[np.int64]
    width: NDArray[np.int64]
    unknown: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.flops)


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


def count_work(program: Program) -> Work:
    """Count the work of every op.

    Parameters
    ----------
    program
        Of any size; the cost is one pass over the ops, the first time.

    Returns
    -------
    Work
        One row an op. Op types that nothing is known about are counted as data movement and flagged `unknown`.
    """
    if program not in _COUNTED:
        _COUNTED[program] = _count_work(program)
    return _COUNTED[program]


_COUNTED: WeakKeyDictionary[Program, Work] = WeakKeyDictionary()


def _count_work(program: Program) -> Work:
    ops, values = program.ops, program.values
    nbytes = values.nbytes
    producer = values.producer.astype(np.int64)
    activation = producer != NO_OP
    activation[list(program.inputs)] = True
    moved = ops.reads.where(activation[ops.reads.value])
    constant = ops.reads.where(~activation[ops.reads.value])
    brought = ops.reads.where(values.weight[ops.reads.value] >= 0)
    written = ops.sums(ops.writes, nbytes[ops.writes.value])
    moved_bytes = ops.sums(moved, nbytes[moved.value])
    constant_bytes = ops.sums(constant, nbytes[constant.value])
    streamed = nbytes[brought.value]
    looked_up = np.zeros(len(ops), dtype=np.bool_)
    looked_up[ops.rows_of([op_type for op_type in ops.rows_of_type if op_type.startswith("gather")])] = True
    streamed = np.where(looked_up[brought.op], np.minimum(streamed, written[brought.op]), streamed)
    constant_bytes[ops.rows_of(["gather"])] = 0

    products = _products(program, activation)
    kind = products[:, 0]
    states = _state_bytes(program, moved)
    in_part = kind >= Kind.FUSED
    in_part[ops.rows_of([*CHOOSING, "slice_update"])] = True
    states[in_part] = 0
    traffic = moved_bytes + written - states
    for row in ops.rows_of(CHOOSING):
        indices = sum(int(nbytes[value]) for name, value in ops.inputs[row] if name in _INDICES)
        traffic[row] = 2 * written[row] + indices
    for row in ops.rows_of(["slice_update"]):
        updates = [int(nbytes[value]) for name, value in ops.inputs[row] if name == "update"]
        if updates:
            traffic[row] = 2 * sum(updates)  # in place
    _ride(program, moved, written, kind, traffic)
    traffic[kind == Kind.FREE] = 0
    return Work(
        flops=products[:, 1],
        activation_bytes=moved_bytes + written,
        constant_bytes=constant_bytes,
        traffic_bytes=traffic,
        stream_bytes=ops.sums(brought, streamed),
        state_bytes=states,
        kind=kind.astype(np.int8),
        reduction=products[:, 2],
        channels_in=products[:, 3],
        channels_out=products[:, 4],
        positions=products[:, 5],
        width=products[:, 6],
        unknown=products[:, 7].astype(np.bool_),
    )


def _ride(
    program: Program,
    moved: Pairs,
    written: NDArray[np.int64],
    kind: NDArray[np.int64],
    traffic: NDArray[np.int64],
) -> None:
    """Let element-wise ops run with the producer that ends last, for only then all their operands exist.

    Where that is the smaller, broadcast operand (a squeeze-excite gate, a mean), the larger one has to be read again.
    """
    nbytes, producer = program.values.nbytes, program.values.producer
    fused = kind == Kind.FUSED
    computed = moved.where(fused[moved.op] & (producer[moved.value] != NO_OP))
    ridden = np.zeros(len(kind), dtype=np.int64)
    order = np.lexsort((nbytes[computed.value], producer[computed.value]))
    ridden[computed.op[order]] = nbytes[computed.value[order]]  # the last assignment holds
    rides = np.zeros(len(kind), dtype=np.bool_)
    rides[computed.op] = True
    broadcast = rides & (2 * ridden < written)
    reads = np.zeros(len(kind), dtype=np.bool_)
    reads[moved.op] = True
    traffic[rides] -= ridden[rides] + np.where(broadcast, 0, written)[rides]
    kind[broadcast | (fused & ~rides & reads)] = Kind.PASS
    kind[fused & ~reads] = Kind.FREE


def _state_bytes(program: Program, moved: Pairs) -> NDArray[np.int64]:
    """Count the bytes of the states among what each op reads: as read, as filled in part, and as written."""
    ops, held = program.ops, np.zeros(len(program.values.name), dtype=np.bool_)
    for row in ops.rows_of([*_STATE_OPS, "slice_update"]):
        if ops.op_type[row] in _STATE_OPS or held[ops.inputs[row][0][1]]:
            held[list(ops.outputs[row])] = True
    return ops.sums(moved, np.where(held[moved.value], program.values.nbytes[moved.value], 0))


_INDICES = frozenset(["indices"])
_STATE_OPS = frozenset(["read_state", "coreml_update_state"])


def _products(program: Program, activation: NDArray[np.bool_]) -> NDArray[np.int64]:
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
