"""Repairs of exported graphs: what coremltools cannot convert, written as what it can.

Four steps, each only where needed:

1. `REPAIRS` rewrites single operators. Each entry names the ATen operator that breaks, why, and the rewrite.
2. What depends on no input and no parameter (masks, position ids) is computed once and becomes a constant; so does what
   depends on parameters only, where coremltools could not compute it (resized position embeddings).
3. Tensors of more than five dimensions become tensors of fewer (`ranks.py`).
4. Operators that coremltools has no translation for, or fails at, are decomposed by torch's own decompositions.

A repaired node keeps the `meta` of the one it replaces, so that it still points at the user's source line, and computes
the same values.
"""

from __future__ import annotations

import itertools
import math
import operator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from coremltools.converters.mil.frontend.torch.torch_op_registry import _TORCH_OPS_REGISTRY
from coremltools.converters.mil.frontend.torch.utils import sanitize_op_kind
from torch._decomp import decomposition_table
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx import Node

from talaria_nb import ranks, translations  # noqa: F401 - importing the second registers them

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from torch.export import ExportedProgram

aten = torch.ops.aten

_MAX_FOLDED = 1 << 22
"""Elements of the largest constant that is computed before conversion: the mask of 2,048 tokens."""
_MAX_ROUNDS = 6
"""How often decompositions are decomposed again; torch's own need two or three."""
_POWERS_OF_TWO = 1 << 30
"""Constants whose bits lie below can be divided by in int32, which is what Core ML computes integers in."""
_FACTORIES = frozenset(["arange", "empty", "full", "ones", "scalar_tensor", "zeros"])
"""ATen names of operators that make a tensor from nothing; alone they are left to coremltools."""


@dataclass(frozen=True, slots=True)
class Repair:
    """One operator that coremltools 9 has no translation for.

    Attributes
    ----------
    why
        What breaks without the repair, in a few words.
    rewrite
        Replaces the node in its graph.
    applies
        Tells where the rewrite is right.
    """

    why: str
    rewrite: Callable[[ExportedProgram, Node], None]
    applies: Callable[[Node], bool] = lambda _: True


def _drop(_: ExportedProgram, node: Node) -> None:
    node.replace_all_uses_with(_operand(node))
    node.graph.erase_node(node)


def _erase(_: ExportedProgram, node: Node) -> None:
    node.graph.erase_node(node)


def _new_ones_to_full(_: ExportedProgram, node: Node) -> None:
    dtype = node.kwargs.get("dtype") or _operand(node).meta["val"].dtype
    _replace(node, aten.full.default, (node.args[1], dtype is torch.bool or 1), {"dtype": dtype})


def _logical(boolean: OpOverload, bitwise: OpOverload) -> Callable[[ExportedProgram, Node], None]:
    def rewrite(_: ExportedProgram, node: Node) -> None:
        _replace(node, boolean if node.meta["val"].dtype is torch.bool else bitwise, node.args, {})

    return rewrite


def _addcmul(_: ExportedProgram, node: Node) -> None:
    x, left, right = ranks.arguments(node)
    product = _before(node, aten.mul.Tensor, left, right)
    if node.kwargs.get("value", 1) != 1:
        product = _before(node, aten.mul.Tensor, product, node.kwargs["value"])
    _replace(node, aten.add.Tensor, (x, product), {})


def _fold_columns(exported: ExportedProgram, node: Node) -> None:
    """col2im: a transposed convolution with a kernel of zeros and ones adds up the blocks where they overlap."""
    columns, size, kernel, dilation, padding, stride = ranks.arguments(node)
    shape = columns.meta["val"].shape
    blocks = [
        (wanted + 2 * pad - step * (width - 1) - 1) // stride + 1
        for wanted, pad, step, width, stride in zip(size, padding, dilation, kernel, stride, strict=True)
    ]
    count = math.prod(kernel)
    images = math.prod(shape[:-1]) // count
    x = _before(node, aten.reshape.default, columns, [images, count, *blocks])
    weight = _constant(exported, node, torch.eye(count).reshape(count, 1, *kernel))
    full = [
        (block - 1) * stride + step * (width - 1) + 1
        for block, stride, step, width in zip(blocks, stride, dilation, kernel, strict=True)
    ]
    x = _before(node, aten.conv_transpose2d.input, x, weight, None, stride, [0, 0], [0, 0], 1, dilation)
    short = [max(0, wanted + pad - there) for wanted, pad, there in zip(size, padding, full, strict=True)]
    if any(short):
        x = _before(node, aten.constant_pad_nd.default, x, [0, short[1], 0, short[0]])
    for axis, (wanted, pad, there) in enumerate(zip(size, padding, full, strict=True)):
        if pad or there > wanted:
            x = _before(node, aten.slice.Tensor, x, axis + 2, pad, pad + wanted)
    _replace(node, aten.reshape.default, (x, list(node.meta["val"].shape)), {})


def _unfold_columns(exported: ExportedProgram, node: Node) -> None:
    """im2col: each image by itself through a convolution with a kernel of zeros and ones."""
    x, kernel, dilation, padding, stride = ranks.arguments(node)
    shape = x.meta["val"].shape
    count = math.prod(kernel)
    x = _before(node, aten.reshape.default, x, [math.prod(shape[:-2]), 1, *shape[-2:]])
    weight = _constant(exported, node, torch.eye(count).reshape(count, 1, *kernel))
    x = _before(node, aten.conv2d.default, x, weight, None, stride, padding, dilation)
    _replace(node, aten.reshape.default, (x, list(node.meta["val"].shape)), {})


def _crop(_: ExportedProgram, node: Node) -> None:
    """Negative padding takes away: a slice, then padding of what is left."""
    x, amounts, *value = ranks.arguments(node)
    value = [each for each in value if not isinstance(each, str)]
    shape = x.meta["val"].shape
    for number, (before, after) in enumerate(zip(amounts[::2], amounts[1::2], strict=True)):
        axis = len(shape) - 1 - number
        if min(before, after) < 0:
            x = _before(node, aten.slice.Tensor, x, axis, max(0, -before), shape[axis] - max(0, -after))
    _replace(node, aten.constant_pad_nd.default, (x, [max(0, amount) for amount in amounts], *value), {})


def _takes_away_constant(node: Node) -> bool:
    return _takes_away(node) and (node.args[2:3] or ("constant",)) == ("constant",)


def _takes_away(node: Node) -> bool:
    return _static(node) and min(ranks.arguments(node)[1]) < 0


def _windows(exported: ExportedProgram, node: Node) -> None:
    """Sliding windows along one dimension: their elements are picked, then the dimension is split in two."""
    x, dim, size, step = ranks.arguments(node)
    shape = list(x.meta["val"].shape)
    axis = dim % len(shape)
    starts = torch.arange(0, shape[axis] - size + 1, step)
    picked = starts[:, None] + torch.arange(size)
    index = _constant(exported, node, picked.flatten())
    x = _before(node, aten.index_select.default, x, axis, index)
    x = _before(node, aten.reshape.default, x, [*shape[:axis], *picked.shape, *shape[axis + 1 :]])
    rank = len(shape) + 1
    order = [each for each in range(rank) if each != axis + 1] + [axis + 1]
    _replace(node, aten.permute.default, (x, order), {})


def _as_strided(exported: ExportedProgram, node: Node) -> None:
    """Elements of a tensor that lies in order in memory are picked by their position there."""
    x, size, stride, *offset = ranks.arguments(node)
    positions = torch.full(tuple(size), offset[0] if offset and offset[0] else 0)
    for axis, (length, step) in enumerate(zip(size, stride, strict=True)):
        positions += (torch.arange(length) * step).reshape([-1] + [1] * (len(size) - axis - 1))
    index = _constant(exported, node, positions.flatten())
    flat = _before(node, aten.reshape.default, x, [x.meta["val"].numel()])
    flat = _before(node, aten.index_select.default, flat, 0, index)
    _replace(node, aten.reshape.default, (flat, list(size)), {})


def _mask_to_where(_: ExportedProgram, node: Node) -> None:
    """Assign one value under a mask: everywhere else stays what was."""
    x, (mask, *_), value = ranks.arguments(node)[:3]
    x_value, mask_shape = x.meta["val"], list(mask.meta["val"].shape)
    mask = _before(node, aten.reshape.default, mask, mask_shape + [1] * (x_value.ndim - len(mask_shape)))
    value = _before(node, aten.reshape.default, value, [1] * x_value.ndim)
    _replace(node, aten.where.self, (mask, value, x), {})


def _is_masked_assignment(node: Node) -> bool:
    _, indices, value, *accumulate = ranks.arguments(node)
    return (
        len(indices) == 1
        and indices[0] is not None
        and indices[0].meta["val"].dtype is torch.bool
        and value.meta["val"].numel() == 1
        and not any(accumulate)
        and _static(node)
    )


def _masked_scatter(_: ExportedProgram, node: Node) -> None:
    """Give the n-th place of a mask the n-th element: counting the places before each tells which."""
    x, mask, source = ranks.arguments(node)
    shape = list(node.meta["val"].shape)
    mask = _before(node, aten.expand.default, mask, shape)
    flat = _before(node, aten.reshape.default, mask, [-1])
    count = _before(node, aten.cumsum.default, _before(node, aten._to_copy.default, flat, dtype=torch.int32), 0)  # noqa: SLF001
    last = source.meta["val"].numel() - 1
    position = _before(node, aten.clamp.default, _before(node, aten.sub.Tensor, count, 1), 0, last)
    elements = _before(node, aten.reshape.default, source, [-1])
    picked = _before(node, aten.index_select.default, elements, 0, position)
    _replace(node, aten.where.self, (mask, _before(node, aten.reshape.default, picked, shape), x), {})


def _distances(_: ExportedProgram, node: Node) -> None:
    left, right, *power = ranks.arguments(node)
    left = _before(node, aten.unsqueeze.default, left, -2)
    right = _before(node, aten.unsqueeze.default, right, -3)
    apart = _before(node, aten.sub.Tensor, left, right)
    if power[:1] == [1.0]:
        _replace(node, aten.sum.dim_IntList, (_before(node, aten.abs.default, apart), [-1]), {})
    else:
        square = _before(node, aten.sum.dim_IntList, _before(node, aten.mul.Tensor, apart, apart), [-1])
        _replace(node, aten.sqrt.default, (square,), {})


def _is_common_distance(node: Node) -> bool:
    return (node.args[2:3] or (2.0,))[0] in {1.0, 2.0} and _static(node)


def _count_from_the_front(_: ExportedProgram, node: Node) -> None:
    x, dim = ranks.arguments(node)[:2]
    node.update_arg(1, dim % x.meta["val"].ndim)


def _counts_from_the_back(node: Node) -> bool:
    return bool(_operand(node).meta["val"].ndim > 0 and ranks.arguments(node)[1] < 0)


def _median(_: ExportedProgram, node: Node) -> None:
    """Sort, then pick the lower one in the middle; its two results are values and positions."""
    x, dim, *keep = ranks.arguments(node)
    middle = (x.meta["val"].shape[dim] - 1) // 2
    ordered = _before(node, aten.sort.default, x, dim)
    for user in list(node.users):
        part = _before(user, operator.getitem, ordered, user.args[1])
        if any(keep):
            _replace(user, aten.slice.Tensor, (part, dim, middle, middle + 1), {})
        else:
            _replace(user, aten.select.int, (part, dim, middle), {})
    node.graph.erase_node(node)


def _static(node: Node) -> bool:
    values = [each.meta["val"] for each in (node, *node.all_input_nodes)]
    return all(isinstance(size, int) for value in values for size in value.shape)


def _lerp(_: ExportedProgram, node: Node) -> None:
    start, end, weight = ranks.arguments(node)
    way = _before(node, aten.mul.Tensor, _before(node, aten.sub.Tensor, end, start), weight)
    _replace(node, aten.add.Tensor, (start, way), {})


def _fmod(_: ExportedProgram, node: Node) -> None:
    x, divisor = ranks.arguments(node)
    whole = _before(node, aten.div.Tensor_mode, x, divisor, rounding_mode="trunc")
    _replace(node, aten.sub.Tensor, (x, _before(node, aten.mul.Tensor, whole, divisor)), {})


def _trunc(_: ExportedProgram, node: Node) -> None:
    x = _operand(node)
    negative = _before(node, aten.lt.Scalar, x, 0)
    rounded = [_before(node, way, x) for way in (aten.ceil.default, aten.floor.default)]
    _replace(node, aten.where.self, (negative, *rounded), {})


def _erfc(_: ExportedProgram, node: Node) -> None:
    _replace(node, aten.rsub.Scalar, (_before(node, aten.erf.default, _operand(node)), 1.0), {})


def _nan_to_num(_: ExportedProgram, node: Node) -> None:
    """Without limits of its own, those of float16: Core ML computes in it, and greater ones would be infinite again."""
    x, *given = ranks.arguments(node)
    limits = torch.finfo(torch.float16)
    defaults = (0.0, limits.max, limits.min)
    nan, high, low = (
        default if value is None else value
        for value, default in itertools.zip_longest((*given, None, None)[:3], defaults)
    )
    result = _before(node, aten.where.ScalarSelf, _before(node, aten.ne.Tensor, x, x), nan, x)
    for extreme, value in ((math.inf, high), (-math.inf, low)):
        result = _before(node, aten.where.ScalarSelf, _before(node, aten.eq.Scalar, x, extreme), value, result)
    node.replace_all_uses_with(result)
    node.graph.erase_node(node)


def _var_and_mean(_: ExportedProgram, node: Node) -> None:
    x, dims, *_rest = (*ranks.arguments(node), None)
    keep = node.kwargs.get("keepdim", False)
    how = {"correction": node.kwargs.get("correction"), "keepdim": keep}
    dims = list(range(x.meta["val"].ndim)) if dims is None else dims
    parts = [
        _before(node, aten.var.correction, x, dims, **how),
        _before(node, aten.mean.dim, x, dims, keep),
    ]
    for user in list(node.users):
        user.replace_all_uses_with(parts[ranks.arguments(user)[1]])
        user.graph.erase_node(user)
    node.graph.erase_node(node)


def _scaled_addmm(_: ExportedProgram, node: Node) -> None:
    """With integers as factors, which coremltools multiplies floats with."""
    bias, left, right = ranks.arguments(node)
    factors: dict[str, Any] = dict(node.kwargs)
    bias = _before(node, aten.mul.Tensor, bias, float(factors.get("beta", 1)))
    product = _before(
        node, aten.mul.Tensor, _before(node, aten.matmul.default, left, right), float(factors.get("alpha", 1))
    )
    _replace(node, aten.add.Tensor, (bias, product), {})


def _is_float(node: Node) -> bool:
    return bool(node.meta["val"].is_floating_point())


def _is_scaled(node: Node) -> bool:
    return bool(node.kwargs) and node.meta["val"].is_floating_point()


def _diagonal(exported: ExportedProgram, node: Node) -> None:
    """Pick the elements of a diagonal by their position among those of each matrix."""
    given = ranks.arguments(node)
    x, offset, first, second = given + (0, 0, 1)[len(given) - 1 :]
    shape = x.meta["val"].shape
    first, second = first % len(shape), second % len(shape)
    others = [axis for axis in range(len(shape)) if axis not in {first, second}]
    x = _before(node, aten.permute.default, x, [*others, first, second])
    positions = torch.arange(shape[first] * shape[second]).reshape(shape[first], shape[second]).diagonal(offset)
    index = _constant(exported, node, positions.clone())
    x = _before(node, aten.reshape.default, x, [*(shape[axis] for axis in others), -1])
    _replace(node, aten.index_select.default, (x, len(others), index), {})


def _static_operand(node: Node) -> bool:
    return all(isinstance(size, int) for size in _operand(node).meta["val"].shape)


def _lies_in_order(node: Node) -> bool:
    """Whether a tensor fills its memory in row-major order, so that strides mean positions in it."""
    value = _operand(node).meta["val"]
    return bool(
        _static(node)
        and value.is_contiguous()
        and value.storage_offset() == 0
        and value.untyped_storage().nbytes() == value.numel() * value.element_size()
        and node.meta["val"].numel() <= _MAX_FOLDED
    )


def _combine_bits(combine: str) -> Callable[[ExportedProgram, Node], None]:
    """Bits of an integer and a constant: what the constant picks is a difference of floor remainders a run of ones.

    `x mod 2^k` is the lowest k bits of a two's complement, also of negative numbers. No step leaves the int32 range.
    """

    def rewrite(_: ExportedProgram, node: Node) -> None:
        x, constant = _integer_and_constant(node)
        if combine == "and":
            result = _picked(node, x, constant)
        else:
            result = _before(node, aten.add.Tensor, _picked(node, x, ~constant), constant)
            if combine == "xor":
                result = _before(node, aten.sub.Tensor, result, _picked(node, x, constant))
        node.replace_all_uses_with(result)
        node.graph.erase_node(node)

    return rewrite


def _picked(node: Node, x: Node, bits: int) -> Node:
    """Return the bits of an integer that a constant has."""
    if bits < 0:
        return _before(node, aten.sub.Tensor, x, _picked(node, x, ~bits))
    total = None
    low = 0
    while bits >> low:
        low += ((bits >> low) & -(bits >> low)).bit_length() - 1
        high = low + ((~bits >> low) & -(~bits >> low)).bit_length() - 1
        run = _before(node, aten.remainder.Scalar, x, 1 << high)
        if low:
            run = _before(node, aten.sub.Tensor, run, _before(node, aten.remainder.Scalar, x, 1 << low))
        total = run if total is None else _before(node, aten.add.Tensor, total, run)
        low = high
    return total or _before(node, aten.mul.Tensor, x, 0)


def _integer_and_constant(node: Node) -> tuple[Any, Any]:
    left, right = ranks.arguments(node)
    return (left, right) if isinstance(left, Node) else (right, left)


def _has_few_bits(node: Node) -> bool:
    """Whether one operand is a constant whose bits, or whose missing bits, all lie below 2^30."""
    x, constant = _integer_and_constant(node)
    integer = node.meta["val"].dtype in {torch.int32, torch.int64} and x.meta["val"].dtype is node.meta["val"].dtype
    return integer and isinstance(constant, int) and min(constant, ~constant) >= -_POWERS_OF_TWO


def _before(node: Node, target: Callable[..., Any], *args: Any, **kwargs: Any) -> Node:
    """Add an operator before a node that it helps to replace, with its shapes."""
    with node.graph.inserting_before(node):
        new = node.graph.call_function(target, args, kwargs)
    new.meta = dict(node.meta)
    values = torch.fx.node.map_arg(args, lambda each: each.meta["val"])
    results = node.meta["val"]
    with (results[0] if isinstance(results, (list, tuple)) else results).fake_mode, torch.no_grad():
        new.meta["val"] = target(*values, **kwargs)
    return new


def _operand(node: Node) -> Node:
    """Return the tensor that an operator works on, which is its first argument."""
    operand = node.args[0]
    assert isinstance(operand, Node)  # noqa: S101 - for the type checker: these operators take a tensor first
    return operand


def _replace(node: Node, target: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    with node.graph.inserting_before(node):
        new = node.graph.call_function(target, args, kwargs)
    new.meta = dict(node.meta)
    node.replace_all_uses_with(new)
    node.graph.erase_node(node)


def _constant(exported: ExportedProgram, node: Node, tensor: torch.Tensor) -> Node:
    """Put a tensor into a program as a constant, before a node that it helps to replace."""
    name = next(
        name for number in itertools.count() if (name := f"folded_{node.name}_{number}") not in exported.constants
    )
    exported.graph_module.register_buffer(name, tensor)
    exported.constants[name] = tensor
    with node.graph.inserting_before(node):
        constant = node.graph.get_attr(name)
    mode = next(value for value in [node.meta["val"]] if isinstance(value, FakeTensor)).fake_mode
    constant.meta = {**node.meta, "val": mode.from_tensor(tensor, static_shapes=True)}
    return constant


def _bit_repairs(name: str) -> dict[OpOverload, Repair]:
    """Return the repairs of one operator on bits, in all spellings."""
    logical = getattr(aten, f"logical_{name}").default
    bitwise = getattr(aten, f"bitwise_{name}")
    dunder = getattr(aten, f"__{name}__")
    spelled = Repair(f"coremltools has no `__{name}__` (transformers' masks)", _logical(logical, bitwise.Tensor))
    picked = Repair(
        f"coremltools has no `{name}` of integers; with a constant it is arithmetic", _combine_bits(name), _has_few_bits
    )
    return {dunder.Tensor: spelled, bitwise.Scalar: picked, bitwise.Scalar_Tensor: picked, dunder.Scalar: picked}


REPAIRS: Mapping[OpOverload, Repair] = {
    aten.alias.default: Repair("coremltools has no `alias`; it computes nothing (swin)", _drop),
    aten._assert_tensor_metadata.default: Repair(  # noqa: SLF001 - its public name
        "a run-time check of dtypes; it computes nothing", _erase
    ),
    aten.new_ones.default: Repair("coremltools has no `new_ones` (the masks of transformers' BERT)", _new_ones_to_full),
    **_bit_repairs("and"),
    **_bit_repairs("or"),
    **_bit_repairs("xor"),
    aten.addcmul.default: Repair("coremltools has no `addcmul` (layer scale)", _addcmul),
    aten.col2im.default: Repair("coremltools folds only blocks that do not overlap (volo)", _fold_columns, _static),
    aten.im2col.default: Repair(
        "coremltools unfolds with a kernel of channels² numbers, which would count as a weight (volo)",
        _unfold_columns,
        _static,
    ),
    aten.constant_pad_nd.default: Repair("coremltools cannot pad by less than nothing (nasnet)", _crop, _takes_away),
    aten.pad.default: Repair("coremltools cannot pad by less than nothing", _crop, _takes_away_constant),
    aten.unfold.default: Repair("coremltools has no sliding windows (halonet)", _windows, _static),
    aten.as_strided.default: Repair("coremltools has no `as_strided`", _as_strided, _lies_in_order),
    aten.index_put.default: Repair(
        "coremltools assigns under a mask through a list of unknown length (`x[mask] = 0`)",
        _mask_to_where,
        _is_masked_assignment,
    ),
    aten.masked_scatter.default: Repair("coremltools has no `masked_scatter`", _masked_scatter, _static),
    aten.cdist.default: Repair("coremltools has no `cdist`", _distances, _is_common_distance),
    aten.cumsum.default: Repair(
        "coremltools counts dimensions from the back only for the last one (mamba2)",
        _count_from_the_front,
        _counts_from_the_back,
    ),
    aten.median.dim: Repair("coremltools has no `median`", _median, _static_operand),
    aten.lerp.Scalar: Repair("torch's decomposition of `lerp` chooses by a scalar, which coremltools cannot", _lerp),
    aten.fmod.Tensor: Repair("coremltools has no `fmod`", _fmod, _is_float),
    aten.fmod.Scalar: Repair("coremltools has no `fmod`", _fmod, _is_float),
    aten.trunc.default: Repair("coremltools has no `trunc`", _trunc, _is_float),
    aten.erfc.default: Repair("coremltools has no `erfc`", _erfc),
    aten.nan_to_num.default: Repair(
        "coremltools replaces through a list of positions of unknown length", _nan_to_num, _is_float
    ),
    aten.var_mean.correction: Repair("coremltools has no `var_mean`", _var_and_mean),
    aten.addmm.default: Repair(
        "coremltools cannot multiply by the integers `alpha`, `beta`", _scaled_addmm, _is_scaled
    ),
    aten.diagonal.default: Repair(
        "coremltools takes the main diagonal of the first two dimensions only", _diagonal, _static_operand
    ),
}


@dataclass(frozen=True, slots=True)
class Repaired:
    """An exported program that coremltools can convert, as far as that can be told beforehand.

    Attributes
    ----------
    exported
        The program.
    repairs
        What was repaired, one sentence each.
    """

    exported: ExportedProgram
    repairs: tuple[str, ...]


def repair(exported: ExportedProgram, decompose: Collection[OpOverload] = ()) -> Repaired:
    """Rewrite an exported program so that coremltools can convert it.

    Parameters
    ----------
    exported
        Without in-place operators (`run_decompositions({})`). Changed in place.
    decompose
        Operators that coremltools translates by name, but failed at in this program.
    """
    applied: dict[str, None] = {}
    wanted = set(decompose)
    for _ in range(_MAX_ROUNDS):
        _rewrite(exported, applied)
        _fold(exported, applied)
        _fold_parameters(exported, applied)
        found = {node.target for node in exported.graph.nodes if node.op == "call_function"}
        unknown = _lower(exported, applied)
        wanted_here = found & wanted | missing(exported).keys() | unknown.keys()
        table = {op: how for op in wanted_here if (how := decomposition(op))}
        if not table:
            break
        exported = exported.run_decompositions(table)
        for op in table:
            why = (
                "coremltools fails at it here"
                if op in wanted | unknown.keys()
                else "coremltools has no translation for it"
            )
            applied[f"{op}: decomposed by torch, because {why}"] = None
    return Repaired(exported, tuple(applied))


def _lower(exported: ExportedProgram, applied: dict[str, None]) -> dict[Any, Node]:
    high = ranks.highest(exported)
    unknown = ranks.lower(exported)
    if high is not None:
        applied["ranks: Core ML holds at most 5 dimensions; tensors of more are computed in fewer (swin)"] = None
    return unknown


def missing(exported: ExportedProgram) -> dict[Any, Node]:
    """Find the operators that coremltools has no translation for, and the first node of each."""
    found: dict[Any, Node] = {}
    for node in exported.graph.nodes:
        if node.op == "call_function" and node.target not in found and not _translated(node):
            found[node.target] = node
    return found


def decomposition(op: object) -> Callable[..., Any] | None:
    """Return torch's own decomposition of an operator into others, None where it has none."""
    if not isinstance(op, OpOverload) or (torch.Tag.core in op.tags and _has_translation(op)):
        return None  # torch would decompose most of its core operators only into those of its own compiler
    return _composites().get(op) or decomposition_table.get(op)  # the second leads into operators of torch's compiler


@cache
def _composites() -> dict[Any, Callable[..., Any]]:
    """Return the decompositions of operators that torch itself writes in terms of others (`diff`)."""
    return dict(torch.export.default_decompositions().items())  # type: ignore[no-untyped-call]


def _translated(node: Node) -> bool:
    return _has_translation(node.target)


def _has_translation(op: object) -> bool:
    # coremltools' own look-up: it cleans the name once when it reads the graph, and refuses what is not found then.
    return sanitize_op_kind(getattr(op, "__name__", "")) in _TORCH_OPS_REGISTRY.name_to_func_mapping


def _rewrite(exported: ExportedProgram, applied: dict[str, None]) -> None:
    graph = exported.graph
    changed = False
    for node in list(graph.nodes):
        entry = REPAIRS.get(node.target) if node.op == "call_function" else None
        if entry is not None and entry.applies(node):
            entry.rewrite(exported, node)
            applied[f"{node.target}: {entry.why}"] = None
            changed = True
    if changed:
        ranks.tidy(exported)


def _fold(exported: ExportedProgram, applied: dict[str, None]) -> None:
    """Compute what depends on no input and no parameter, and put the results into the program as constants."""
    graph = exported.graph
    values = _known(exported)
    computed = _compute(graph.nodes, values)
    edge = [
        node
        for node in graph.nodes
        if node in computed
        and isinstance(values[node], torch.Tensor)
        and (node.all_input_nodes or not _translated(node))
        and any(user not in computed for user in node.users)
    ]
    if edge:
        _put_constants(exported, edge, values)
        applied["constants: what depends on no input and no parameter was computed beforehand"] = None


def _fold_parameters(exported: ExportedProgram, applied: dict[str, None]) -> None:
    """Compute operators that coremltools lacks where they depend on parameters only (resized position embeddings)."""
    lacking = [node for node in exported.graph.nodes if node.op == "call_function" and not _translated(node)]
    # Weights that training quantized would become float; by a trace they stay as they are.
    if not lacking or any(node.target is torch.ops.aten.dequantize.self for node in lacking):
        return
    leading = set(lacking)
    for node in reversed(exported.graph.nodes):
        if node in leading:
            leading.update(node.all_input_nodes)
    values = _known(exported, parameters=True)
    _compute([node for node in exported.graph.nodes if node in leading], values)
    edge = [node for node in lacking if isinstance(values.get(node), torch.Tensor)]
    if edge:
        _put_constants(exported, edge, values)
        for node in edge:
            applied[f"{node.target}: computed beforehand, because it depends on parameters only"] = None


def _compute(nodes: Iterable[Node], values: dict[Node, Any]) -> set[Node]:
    """Compute the nodes, given in order, that depend on known values only; the results join the known values."""
    computed: set[Node] = set()
    for node in nodes:
        if node not in values and _foldable(node, values):
            args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
            with torch.no_grad():
                values[node] = node.target(*args, **kwargs)  # type: ignore[operator]
            computed.add(node)
    return computed


def _put_constants(exported: ExportedProgram, nodes: Iterable[Node], values: Mapping[Node, Any]) -> None:
    for node in nodes:
        constant = _constant(exported, node, values[node].detach().contiguous().clone())
        node.replace_all_uses_with(constant, delete_user_cb=lambda user: user.op != "output")
    ranks.tidy(exported)


def _known(exported: ExportedProgram, *, parameters: bool = False) -> dict[Node, Any]:
    """Return the values of the constants and of the integer buffers (position ids) that the program never changes.

    With `parameters` also those of the parameters and of all other buffers that it never changes.
    """
    signature = exported.graph_signature
    changed = set(signature.buffers_to_mutate.values())
    known: dict[Node, Any] = {}
    for node in exported.graph.nodes:
        value = None
        if node.op == "get_attr":
            value = getattr(exported.graph_module, node.target, None)
        elif node.op == "placeholder":
            target = signature.inputs_to_lifted_tensor_constants.get(node.name)
            buffer = signature.inputs_to_buffers.get(node.name)
            parameter = signature.inputs_to_parameters.get(node.name)
            if parameter is not None and parameters:
                value = exported.state_dict[parameter]
            elif buffer is not None and buffer not in changed:
                value = exported.state_dict.get(buffer, exported.constants.get(buffer))
                integer = isinstance(value, torch.Tensor) and not value.is_floating_point()
                value = value if integer or parameters else None
            elif target is not None:
                value = exported.constants.get(target)
        if isinstance(value, torch.Tensor) and type(value).__name__ != "FakeTensor":
            known[node] = value
    return known


def _foldable(node: Node, values: Mapping[Node, Any]) -> bool:
    if node.op != "call_function" or any(before not in values for before in node.all_input_nodes):
        return False
    if not isinstance(node.target, OpOverload):
        return bool(node.all_input_nodes) and node.target is operator.getitem
    schema = node.target._schema  # noqa: SLF001 - the only place that tells
    if schema.is_mutable or torch.Tag.nondeterministic_seeded in node.target.tags:
        return False
    name = node.target.__name__.split(".", 1)[0]
    if not node.all_input_nodes and name not in _FACTORIES:
        return False
    results = node.meta.get("val")
    tensors = results if isinstance(results, (list, tuple)) else [results]
    return all(
        isinstance(each, torch.Tensor)
        and all(isinstance(size, int) for size in each.shape)
        and each.numel() <= _MAX_FOLDED
        for each in tensors
    )
