"""Work of an op: FLOPs and bytes, counted from shapes, and exact."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from math import prod
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from talaria_nb.program import DTYPE_BYTES, NO_OP

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from talaria_nb.program import Attribute, Program, Shape


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
    values, ops = program.values, program.ops
    nbytes = [
        int(prod(shape) * DTYPE_BYTES.get(dtype, 2)) for shape, dtype in zip(values.shape, values.dtype, strict=True)
    ]
    producer, weight = values.producer.tolist(), values.weight.tolist()  # lists are read faster one by one
    activation = [row != NO_OP for row in producer]
    for value in program.inputs:
        activation[value] = True
    columns: list[tuple[int, ...]] = []
    held = _state_values(program)
    for row, op_type in enumerate(ops.op_type):
        operands = ops.inputs[row]
        read = dict.fromkeys(value for _, value in operands)
        op = _Op(
            op_type,
            {parameter: values.shape[value] for parameter, value in operands},
            tuple(values.shape[value] for _, value in operands),
            frozenset(parameter for parameter, value in operands if not activation[value]),
            tuple(values.shape[value] for value in ops.outputs[row]),
            ops.attributes[row],
        )
        product = _product(op)
        written = sum(nbytes[value] for value in ops.outputs[row])
        moved = [value for value in read if activation[value]]
        kind = product.kind
        in_part = op_type in CHOOSING or op_type == "slice_update" or kind >= Kind.FUSED
        states = 0 if in_part else sum(nbytes[value] for value in held.intersection(moved))
        traffic = sum(nbytes[value] for value in moved) + written - states
        if op_type in CHOOSING:
            traffic = 2 * written + sum(nbytes[value] for name, value in operands if name in _INDICES)
        elif op_type == "slice_update" and "update" in op.inputs:
            traffic = 2 * sum(nbytes[value] for name, value in operands if name == "update")  # in place
        if kind is Kind.FUSED:
            producers = [value for value in moved if producer[value] != NO_OP]
            if producers:
                # It runs with the producer that ends last, for only then all its operands exist. Where that is the
                # smaller, broadcast operand (a squeeze-excite gate, a mean), the larger one has to be read again.
                ridden = max(producers, key=lambda value: (producer[value], nbytes[value]))
                traffic = sum(nbytes[value] for value in moved if value != ridden)
                if 2 * nbytes[ridden] < written:
                    kind, traffic = Kind.PASS, traffic + written
            elif not moved:
                kind, traffic = Kind.FREE, 0
            else:
                kind = Kind.PASS
        elif kind is Kind.FREE:
            traffic = 0
        columns.append(
            (
                int(product.flops),
                sum(nbytes[value] for value in moved) + written,
                0 if op_type == "gather" else sum(nbytes[value] for value in read if not activation[value]),
                traffic,
                sum(
                    min(nbytes[value], written) if op_type.startswith("gather") else nbytes[value]
                    for value in read
                    if weight[value] >= 0
                ),
                states,
                int(kind),
                product.reduction,
                product.channels_in,
                product.channels_out,
                product.positions,
                product.width,
                int(product.unknown),
            )
        )
    table = np.array(columns, dtype=np.int64).reshape(-1, 13)
    return Work(
        flops=table[:, 0],
        activation_bytes=table[:, 1],
        constant_bytes=table[:, 2],
        traffic_bytes=table[:, 3],
        stream_bytes=table[:, 4],
        state_bytes=table[:, 5],
        kind=table[:, 6].astype(np.int8),
        reduction=table[:, 7],
        channels_in=table[:, 8],
        channels_out=table[:, 9],
        positions=table[:, 10],
        width=table[:, 11],
        unknown=table[:, 12].astype(np.bool_),
    )


def _state_values(program: Program) -> set[int]:
    """Values that are a state: as read, as filled in part, and as written."""
    held: set[int] = set()
    for op_type, inputs, outputs in zip(program.ops.op_type, program.ops.inputs, program.ops.outputs, strict=True):
        if op_type in _STATE_OPS or (op_type == "slice_update" and inputs[0][1] in held):
            held.update(outputs)
    return held


_INDICES = frozenset(["indices"])
_STATE_OPS = frozenset(["read_state", "coreml_update_state"])


def _product(op: _Op) -> _Product:
    """Count one op's FLOPs and describe the product it computes."""
    elements = sum(prod(shape) for shape in op.outputs)
    if op.type in ELEMENTWISE:
        return _Product(Kind.FUSED, 2 * elements if op.type == "batch_norm" else elements)
    if op.type in FREE:
        return _Product(Kind.FREE, 0)
    counter = _COUNTERS.get(op.type)
    if counter is not None:
        return counter(op)
    if op.type in PASS_FLOPS:
        read = max((prod(shape) for shape in op.inputs.values()), default=0)
        return _Product(Kind.PASS, PASS_FLOPS[op.type] * read)
    return _Product(Kind.PASS, 0, unknown=op.type not in MOVEMENT)


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
