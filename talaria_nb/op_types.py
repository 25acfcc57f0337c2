"""What each op type does to a compute unit: multiplies, moves data, rides along, or nothing."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


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
