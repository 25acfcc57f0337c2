"""Rewrites of single operators that coremltools cannot convert, as operators that it can; `repairs.py` says which.

Each takes the exported program and the node, and replaces the node by the same values computed otherwise. Beside a
rewrite stands what tells where it is right.
"""

from __future__ import annotations

import itertools
import math
import operator
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Node

from talaria_nb.folding import MAX_FOLDED
from talaria_nb.graph_edits import add_before, add_constant, arguments, is_static, operand, replace_node

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch._ops import OpOverload
    from torch.export import ExportedProgram

aten = torch.ops.aten

_POWERS_OF_TWO = 1 << 30
"""Constants whose bits lie below can be divided by in int32, which is what Core ML computes integers in."""


def drop(_: ExportedProgram, node: Node) -> None:
    """Take out what computes nothing."""
    node.replace_all_uses_with(operand(node))
    node.graph.erase_node(node)


def erase(_: ExportedProgram, node: Node) -> None:
    """Take out what nothing reads."""
    node.graph.erase_node(node)


def new_ones_to_full(_: ExportedProgram, node: Node) -> None:
    """Fill a new tensor with ones."""
    dtype = node.kwargs.get("dtype") or operand(node).meta["val"].dtype
    replace_node(node, aten.full.default, (node.args[1], dtype is torch.bool or 1), {"dtype": dtype})


def logical(boolean: OpOverload, bitwise: OpOverload) -> Callable[[ExportedProgram, Node], None]:
    """Return the rewrite of `&`, `|` or `^`: of truth values, or of the bits of integers."""

    def rewrite(_: ExportedProgram, node: Node) -> None:
        replace_node(node, boolean if node.meta["val"].dtype is torch.bool else bitwise, node.args, {})

    return rewrite


def addcmul(_: ExportedProgram, node: Node) -> None:
    """Add a product, scaled if it is to be."""
    x, left, right = arguments(node)
    product = add_before(node, aten.mul.Tensor, left, right)
    if node.kwargs.get("value", 1) != 1:
        product = add_before(node, aten.mul.Tensor, product, node.kwargs["value"])
    replace_node(node, aten.add.Tensor, (x, product), {})


def fold_columns(exported: ExportedProgram, node: Node) -> None:
    """col2im: a transposed convolution with a kernel of zeros and ones adds up the blocks where they overlap."""
    columns, size, kernel, dilation, padding, stride = arguments(node)
    shape = columns.meta["val"].shape
    blocks = [
        (wanted + 2 * pad - step * (width - 1) - 1) // stride + 1
        for wanted, pad, step, width, stride in zip(size, padding, dilation, kernel, stride, strict=True)
    ]
    count = math.prod(kernel)
    images = math.prod(shape[:-1]) // count
    x = add_before(node, aten.reshape.default, columns, [images, count, *blocks])
    weight = add_constant(exported, node, torch.eye(count).reshape(count, 1, *kernel))
    full = [
        (block - 1) * stride + step * (width - 1) + 1
        for block, stride, step, width in zip(blocks, stride, dilation, kernel, strict=True)
    ]
    x = add_before(node, aten.conv_transpose2d.input, x, weight, None, stride, [0, 0], [0, 0], 1, dilation)
    short = [max(0, wanted + pad - there) for wanted, pad, there in zip(size, padding, full, strict=True)]
    if any(short):
        x = add_before(node, aten.constant_pad_nd.default, x, [0, short[1], 0, short[0]])
    for axis, (wanted, pad, there) in enumerate(zip(size, padding, full, strict=True)):
        if pad or there > wanted:
            x = add_before(node, aten.slice.Tensor, x, axis + 2, pad, pad + wanted)
    replace_node(node, aten.reshape.default, (x, list(node.meta["val"].shape)), {})


def unfold_columns(exported: ExportedProgram, node: Node) -> None:
    """im2col: each image by itself through a convolution with a kernel of zeros and ones."""
    x, kernel, dilation, padding, stride = arguments(node)
    shape = x.meta["val"].shape
    count = math.prod(kernel)
    x = add_before(node, aten.reshape.default, x, [math.prod(shape[:-2]), 1, *shape[-2:]])
    weight = add_constant(exported, node, torch.eye(count).reshape(count, 1, *kernel))
    x = add_before(node, aten.conv2d.default, x, weight, None, stride, padding, dilation)
    replace_node(node, aten.reshape.default, (x, list(node.meta["val"].shape)), {})


def crop(_: ExportedProgram, node: Node) -> None:
    """Negative padding takes away: a slice, then padding of what is left."""
    x, amounts, *value = arguments(node)
    value = [each for each in value if not isinstance(each, str)]
    shape = x.meta["val"].shape
    for number, (before, after) in enumerate(zip(amounts[::2], amounts[1::2], strict=True)):
        axis = len(shape) - 1 - number
        if min(before, after) < 0:
            x = add_before(node, aten.slice.Tensor, x, axis, max(0, -before), shape[axis] - max(0, -after))
    replace_node(node, aten.constant_pad_nd.default, (x, [max(0, amount) for amount in amounts], *value), {})


def takes_away_constant(node: Node) -> bool:
    """Whether padding with a constant is negative somewhere."""
    return takes_away(node) and (node.args[2:3] or ("constant",)) == ("constant",)


def takes_away(node: Node) -> bool:
    """Whether padding is negative somewhere."""
    return is_static(node) and min(arguments(node)[1]) < 0


def windows(exported: ExportedProgram, node: Node) -> None:
    """Sliding windows along one dimension: their elements are picked, then the dimension is split in two."""
    x, dim, size, step = arguments(node)
    shape = list(x.meta["val"].shape)
    axis = dim % len(shape)
    starts = torch.arange(0, shape[axis] - size + 1, step)
    picked = starts[:, None] + torch.arange(size)
    index = add_constant(exported, node, picked.flatten())
    x = add_before(node, aten.index_select.default, x, axis, index)
    x = add_before(node, aten.reshape.default, x, [*shape[:axis], *picked.shape, *shape[axis + 1 :]])
    rank = len(shape) + 1
    order = [each for each in range(rank) if each != axis + 1] + [axis + 1]
    replace_node(node, aten.permute.default, (x, order), {})


def as_strided(exported: ExportedProgram, node: Node) -> None:
    """Elements of a tensor that lies in order in memory are picked by their position there."""
    x, size, stride, *offset = arguments(node)
    positions = torch.full(tuple(size), offset[0] if offset and offset[0] else 0)
    for axis, (length, step) in enumerate(zip(size, stride, strict=True)):
        positions += (torch.arange(length) * step).reshape([-1] + [1] * (len(size) - axis - 1))
    index = add_constant(exported, node, positions.flatten())
    flat = add_before(node, aten.reshape.default, x, [x.meta["val"].numel()])
    flat = add_before(node, aten.index_select.default, flat, 0, index)
    replace_node(node, aten.reshape.default, (flat, list(size)), {})


def lies_in_order(node: Node) -> bool:
    """Whether a tensor fills its memory in row-major order, so that strides mean positions in it."""
    value = operand(node).meta["val"]
    return bool(
        is_static(node)
        and value.is_contiguous()
        and value.storage_offset() == 0
        and value.untyped_storage().nbytes() == value.numel() * value.element_size()
        and node.meta["val"].numel() <= MAX_FOLDED
    )


def mask_to_where(_: ExportedProgram, node: Node) -> None:
    """Assign one value under a mask: everywhere else stays what was."""
    x, (mask, *_), value = arguments(node)[:3]
    x_value, mask_shape = x.meta["val"], list(mask.meta["val"].shape)
    mask = add_before(node, aten.reshape.default, mask, mask_shape + [1] * (x_value.ndim - len(mask_shape)))
    value = add_before(node, aten.reshape.default, value, [1] * x_value.ndim)
    replace_node(node, aten.where.self, (mask, value, x), {})


def is_masked_assignment(node: Node) -> bool:
    """Whether one value is assigned under one mask."""
    _, indices, value, *accumulate = arguments(node)
    return (
        len(indices) == 1
        and indices[0] is not None
        and indices[0].meta["val"].dtype is torch.bool
        and value.meta["val"].numel() == 1
        and not any(accumulate)
        and is_static(node)
    )


def masked_scatter(_: ExportedProgram, node: Node) -> None:
    """Give the n-th place of a mask the n-th element: counting the places before each tells which."""
    x, mask, source = arguments(node)
    shape = list(node.meta["val"].shape)
    mask = add_before(node, aten.expand.default, mask, shape)
    flat = add_before(node, aten.reshape.default, mask, [-1])
    count = add_before(node, aten.cumsum.default, add_before(node, aten._to_copy.default, flat, dtype=torch.int32), 0)  # noqa: SLF001
    last = source.meta["val"].numel() - 1
    position = add_before(node, aten.clamp.default, add_before(node, aten.sub.Tensor, count, 1), 0, last)
    elements = add_before(node, aten.reshape.default, source, [-1])
    picked = add_before(node, aten.index_select.default, elements, 0, position)
    replace_node(node, aten.where.self, (mask, add_before(node, aten.reshape.default, picked, shape), x), {})


def distances(_: ExportedProgram, node: Node) -> None:
    """Differences of all pairs, then their norms."""
    left, right, *power = arguments(node)
    left = add_before(node, aten.unsqueeze.default, left, -2)
    right = add_before(node, aten.unsqueeze.default, right, -3)
    apart = add_before(node, aten.sub.Tensor, left, right)
    if power[:1] == [1.0]:
        replace_node(node, aten.sum.dim_IntList, (add_before(node, aten.abs.default, apart), [-1]), {})
    else:
        square = add_before(node, aten.sum.dim_IntList, add_before(node, aten.mul.Tensor, apart, apart), [-1])
        replace_node(node, aten.sqrt.default, (square,), {})


def is_common_distance(node: Node) -> bool:
    """Whether distances are sums of absolute values or Euclidean."""
    return (node.args[2:3] or (2.0,))[0] in {1.0, 2.0} and is_static(node)


def count_from_the_front(_: ExportedProgram, node: Node) -> None:
    """Name the dimension by its number from the front."""
    x, dim = arguments(node)[:2]
    node.update_arg(1, dim % x.meta["val"].ndim)


def counts_from_the_back(node: Node) -> bool:
    """Whether the dimension is named by its number from the back."""
    return bool(operand(node).meta["val"].ndim > 0 and arguments(node)[1] < 0)


def median(_: ExportedProgram, node: Node) -> None:
    """Sort, then pick the lower one in the middle; its two results are values and positions."""
    x, dim, *keep = arguments(node)
    middle = (x.meta["val"].shape[dim] - 1) // 2
    ordered = add_before(node, aten.sort.default, x, dim)
    for user in list(node.users):
        part = add_before(user, operator.getitem, ordered, user.args[1])
        if any(keep):
            replace_node(user, aten.slice.Tensor, (part, dim, middle, middle + 1), {})
        else:
            replace_node(user, aten.select.int, (part, dim, middle), {})
    node.graph.erase_node(node)


def lerp(_: ExportedProgram, node: Node) -> None:
    """Go part of the way from start to end."""
    start, end, weight = arguments(node)
    way = add_before(node, aten.mul.Tensor, add_before(node, aten.sub.Tensor, end, start), weight)
    replace_node(node, aten.add.Tensor, (start, way), {})


def fmod(_: ExportedProgram, node: Node) -> None:
    """Subtract what the divisor goes into x, rounded towards zero."""
    x, divisor = arguments(node)
    whole = add_before(node, aten.div.Tensor_mode, x, divisor, rounding_mode="trunc")
    replace_node(node, aten.sub.Tensor, (x, add_before(node, aten.mul.Tensor, whole, divisor)), {})


def trunc(_: ExportedProgram, node: Node) -> None:
    """Round up below zero, down above."""
    x = operand(node)
    negative = add_before(node, aten.lt.Scalar, x, 0)
    rounded = [add_before(node, way, x) for way in (aten.ceil.default, aten.floor.default)]
    replace_node(node, aten.where.self, (negative, *rounded), {})


def erfc(_: ExportedProgram, node: Node) -> None:
    """Compute what `erf` lacks of one."""
    replace_node(node, aten.rsub.Scalar, (add_before(node, aten.erf.default, operand(node)), 1.0), {})


def nan_to_num(_: ExportedProgram, node: Node) -> None:
    """Without limits of its own, those of float16: Core ML computes in it, and greater ones would be infinite again."""
    x, *given = arguments(node)
    limits = torch.finfo(torch.float16)
    defaults = (0.0, limits.max, limits.min)
    nan, high, low = (
        default if value is None else value
        for value, default in itertools.zip_longest((*given, None, None)[:3], defaults)
    )
    result = add_before(node, aten.where.ScalarSelf, add_before(node, aten.ne.Tensor, x, x), nan, x)
    for extreme, value in ((math.inf, high), (-math.inf, low)):
        result = add_before(node, aten.where.ScalarSelf, add_before(node, aten.eq.Scalar, x, extreme), value, result)
    node.replace_all_uses_with(result)
    node.graph.erase_node(node)


def var_and_mean(_: ExportedProgram, node: Node) -> None:
    """Compute each of the two by itself."""
    x, dims, *_rest = (*arguments(node), None)
    keep = node.kwargs.get("keepdim", False)
    how = {"correction": node.kwargs.get("correction"), "keepdim": keep}
    dims = list(range(x.meta["val"].ndim)) if dims is None else dims
    parts = [
        add_before(node, aten.var.correction, x, dims, **how),
        add_before(node, aten.mean.dim, x, dims, keep),
    ]
    for user in list(node.users):
        user.replace_all_uses_with(parts[arguments(user)[1]])
        user.graph.erase_node(user)
    node.graph.erase_node(node)


def scaled_addmm(_: ExportedProgram, node: Node) -> None:
    """With integers as factors, which coremltools multiplies floats with."""
    bias, left, right = arguments(node)
    factors: dict[str, Any] = dict(node.kwargs)
    bias = add_before(node, aten.mul.Tensor, bias, float(factors.get("beta", 1)))
    product = add_before(
        node, aten.mul.Tensor, add_before(node, aten.matmul.default, left, right), float(factors.get("alpha", 1))
    )
    replace_node(node, aten.add.Tensor, (bias, product), {})


def is_float(node: Node) -> bool:
    """Whether the result is of floating point."""
    return bool(node.meta["val"].is_floating_point())


def is_scaled(node: Node) -> bool:
    """Whether a product of floats has factors."""
    return bool(node.kwargs) and node.meta["val"].is_floating_point()


def diagonal(exported: ExportedProgram, node: Node) -> None:
    """Pick the elements of a diagonal by their position among those of each matrix."""
    given = arguments(node)
    x, offset, first, second = given + (0, 0, 1)[len(given) - 1 :]
    shape = x.meta["val"].shape
    first, second = first % len(shape), second % len(shape)
    others = [axis for axis in range(len(shape)) if axis not in {first, second}]
    x = add_before(node, aten.permute.default, x, [*others, first, second])
    positions = torch.arange(shape[first] * shape[second]).reshape(shape[first], shape[second]).diagonal(offset)
    index = add_constant(exported, node, positions.clone())
    x = add_before(node, aten.reshape.default, x, [*(shape[axis] for axis in others), -1])
    replace_node(node, aten.index_select.default, (x, len(others), index), {})


def combine_bits(combine: str) -> Callable[[ExportedProgram, Node], None]:
    """Bits of an integer and a constant: what the constant picks is a difference of floor remainders a run of ones.

    `x mod 2^k` is the lowest k bits of a two's complement, also of negative numbers. No step leaves the int32 range.
    """

    def rewrite(_: ExportedProgram, node: Node) -> None:
        x, constant = _integer_and_constant(node)
        if combine == "and":
            result = _picked(node, x, constant)
        else:
            result = add_before(node, aten.add.Tensor, _picked(node, x, ~constant), constant)
            if combine == "xor":
                result = add_before(node, aten.sub.Tensor, result, _picked(node, x, constant))
        node.replace_all_uses_with(result)
        node.graph.erase_node(node)

    return rewrite


def _picked(node: Node, x: Node, bits: int) -> Node:
    """Return the bits of an integer that a constant has."""
    if bits < 0:
        return add_before(node, aten.sub.Tensor, x, _picked(node, x, ~bits))
    total = None
    low = 0
    while bits >> low:
        low += ((bits >> low) & -(bits >> low)).bit_length() - 1
        high = low + ((~bits >> low) & -(~bits >> low)).bit_length() - 1
        run = add_before(node, aten.remainder.Scalar, x, 1 << high)
        if low:
            run = add_before(node, aten.sub.Tensor, run, add_before(node, aten.remainder.Scalar, x, 1 << low))
        total = run if total is None else add_before(node, aten.add.Tensor, total, run)
        low = high
    return total or add_before(node, aten.mul.Tensor, x, 0)


def _integer_and_constant(node: Node) -> tuple[Any, Any]:
    left, right = arguments(node)
    return (left, right) if isinstance(left, Node) else (right, left)


def has_few_bits(node: Node) -> bool:
    """Whether one operand is a constant whose bits, or whose missing bits, all lie below 2^30."""
    x, constant = _integer_and_constant(node)
    integer = node.meta["val"].dtype in {torch.int32, torch.int64} and x.meta["val"].dtype is node.meta["val"].dtype
    return integer and isinstance(constant, int) and min(constant, ~constant) >= -_POWERS_OF_TWO
