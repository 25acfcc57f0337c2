"""How each operator is computed on carriers: one table of rules.

A rule returns a carrier of the result, or None to give up. Operators that only name dimensions anew (reshape, squeeze)
leave a carrier as it is; a permutation merges the dimensions that move together; what works along some dimensions sees
the others merged; and what works on each element for itself does not see dimensions at all, but for those it broadcasts
over.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch._ops import OpOverload

from talaria_nb.carriers import Lowering, Rule, aligned_shape, shape_of
from talaria_nb.graph_edits import arguments
from talaria_nb.permutations import MAX_RANK

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch.fx import Node

aten = torch.ops.aten


def _argument(node: Node, name: str, default: Any = None) -> Any:
    """Return an argument of an operator by the name that its schema gives it."""
    if name in node.kwargs:
        return node.kwargs[name]
    assert isinstance(node.target, OpOverload)  # noqa: S101 - for the type checker
    for position, argument in enumerate(node.target._schema.arguments):  # noqa: SLF001 - the only place that tells
        if argument.name == name:
            return arguments(node)[position] if position < len(arguments(node)) else argument.default_value
    return default


def _with(node: Node, **changed: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of an operator, some of them changed, by the names of its schema."""
    assert isinstance(node.target, OpOverload)  # noqa: S101 - for the type checker
    names = [argument.name for argument in node.target._schema.arguments]  # noqa: SLF001 - as above
    args, kwargs = list(arguments(node)), dict(node.kwargs)
    for name, value in changed.items():
        position = names.index(name)
        if position < len(args):
            args[position] = value
        elif name in kwargs or position != len(args):
            kwargs[name] = value
        else:
            args.append(value)
    return tuple(args), kwargs


def _rename(lowering: Lowering, node: Node) -> Node:
    """Leave the elements where they are: reshape, squeeze, clone."""
    return lowering.low(arguments(node)[0])


def _permute(lowering: Lowering, node: Node) -> Node:
    x = arguments(node)[0]
    rank = len(shape_of(x))
    if node.target is aten.permute.default:
        order = [axis % rank for axis in arguments(node)[1]]
    else:
        order = list(range(rank))
        first, second = (axis % rank for axis in arguments(node)[1:3])
        order[first], order[second] = second, first
    return lowering.permuted(x, shape_of(x), order)


def _expand(lowering: Lowering, node: Node) -> Node:
    return lowering.expanded(arguments(node)[0], shape_of(node))


def _repeat(lowering: Lowering, node: Node) -> Node:
    x, repeats = arguments(node)[0], arguments(node)[1]
    sizes = aligned_shape(x, len(repeats))
    carrier = lowering.low(x)
    for axis, times in enumerate(repeats):
        if times != 1:
            before, after = math.prod(shape_of(node)[:axis]), math.prod(sizes[axis:])
            one = lowering.shaped(carrier, [before, 1, after])
            carrier = lowering.call(aten.expand.default, one, [before, times, after])
    return carrier


def _pointwise(lowering: Lowering, node: Node) -> Node:
    """Work on each element, with neighbouring dimensions merged over which the same operands are broadcast."""
    shape = shape_of(node)
    operands = [each for each in node.all_input_nodes if isinstance(each.meta["val"], torch.Tensor)]
    if all(shape_of(each) in {shape, ()} for each in operands):
        common = shape_of(next(low for each in operands if shape_of(low := lowering.low(each))))
        lowered = {each: lowering.shaped(lowering.low(each), common if shape_of(each) else ()) for each in operands}
    else:
        aligned = {each: aligned_shape(each, len(shape)) for each in operands}
        groups: list[list[int]] = []
        for axis in (axis for axis in range(len(shape)) if shape[axis] != 1):
            if groups and all(
                (sizes[axis] == shape[axis]) == (sizes[groups[-1][0]] == shape[groups[-1][0]])
                for sizes in aligned.values()
            ):
                groups[-1].append(axis)
            else:
                groups.append([axis])
        if len(groups) <= MAX_RANK:
            lowered = {}
            for each, sizes in aligned.items():
                merged = [math.prod(sizes[axis] for axis in group) for group in groups]
                while merged and merged[0] == 1:
                    del merged[0]
                lowered[each] = lowering.shaped(each, merged)
        else:
            flat = [math.prod(shape)]
            lowered = {each: lowering.shaped(lowering.expanded(each, shape), flat) for each in operands}
    args, kwargs = torch.fx.node.map_arg((arguments(node), node.kwargs), lowered.__getitem__)
    return lowering.call(node.target, *args, **kwargs)


def _along(lowering: Lowering, node: Node) -> Node | None:
    """Work along one dimension, with those before it and those after it merged into one each."""
    given = _argument(node, "tensors") or [_argument(node, "self")]
    shapes = [shape_of(each) for each in given]
    dim = _argument(node, "dim")
    if not isinstance(dim, int):
        return None
    rank = len(shapes[0])
    dim %= rank + (node.target is aten.stack.default)
    after_dim = dim if node.target is aten.stack.default else dim + 1
    low = []
    for each, shape in zip(given, shapes, strict=True):
        before, after = math.prod(shape[:dim]), math.prod(shape[after_dim:])
        low.append(lowering.shaped(each, [before, *shape[dim:after_dim], after]))
    changed: dict[str, Any] = {"dim": 1}
    if _argument(node, "tensors"):
        changed["tensors"] = low
    else:
        changed["self"] = low[0]
    args, kwargs = _with(node, **changed)
    return lowering.call(node.target, *args, **kwargs)


def _several_along(name: str) -> Rule:
    """Work along several dimensions, one after the other: flip, roll."""

    def rewrite(lowering: Lowering, node: Node) -> Node | None:
        x = arguments(node)[0]
        shape = shape_of(x)
        dims = _argument(node, "dims")
        values = _argument(node, name) if name else [None] * len(dims)
        if not dims:
            return None
        carrier = lowering.low(x)
        for dim, value in zip(dims, values, strict=True):
            axis = dim % len(shape)
            carrier = lowering.shaped(carrier, [math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])])
            carrier = lowering.call(node.target, carrier, *([[value]] if name else []), [1])
        return carrier

    return rewrite


def _reduce(lowering: Lowering, node: Node) -> Node:
    """Reduce (sums, means, extremes) one run of neighbouring dimensions after the other, the last first."""
    x = arguments(node)[0]
    shape = list(shape_of(x))
    dims = _argument(node, "dim")
    axes = {axis % len(shape) for axis in ([dims] if isinstance(dims, int) else dims or range(len(shape)))}
    carrier = lowering.low(x)
    while axes:
        end = max(axes)
        start = next(axis for axis in range(end, -1, -1) if axis - 1 not in axes)
        low = [math.prod(shape[:start]), math.prod(shape[start : end + 1]), math.prod(shape[end + 1 :])]
        args, kwargs = _with(node, self=lowering.shaped(carrier, low), dim=1 if isinstance(dims, int) else [1])
        position = [argument.name for argument in node.target._schema.arguments].index("keepdim")  # type: ignore[union-attr]  # noqa: SLF001
        args, kwargs = args[:position], {**kwargs, "keepdim": False}
        carrier = lowering.call(node.target, *args, **kwargs)
        shape[start : end + 1] = [1] * (end + 1 - start)
        axes -= set(range(start, end + 1))
    return carrier


def _batched(*names: str) -> Rule:
    """Products of matrices: everything but the last two dimensions is a batch, and merged into one dimension."""

    def rewrite(lowering: Lowering, node: Node) -> Node | None:
        operands = {name: operand for name in names if (operand := _argument(node, name)) is not None}
        if any(len(shape_of(operand)) < 2 for operand in operands.values()) or _argument(node, "enable_gqa"):
            return None
        batch = np.broadcast_shapes(*(shape_of(operand)[:-2] for operand in operands.values()))
        merged, single = (
            ([math.prod(batch)], []) if node.target is aten.matmul.default else ([1, math.prod(batch)], [1, 1])
        )
        changed = {}
        for name, operand in operands.items():
            matrix = shape_of(operand)[-2:]
            if math.prod(shape_of(operand)[:-2]) == 1:
                changed[name] = lowering.shaped(operand, [*single, *matrix])
            else:
                changed[name] = lowering.shaped(lowering.expanded(operand, [*batch, *matrix]), [*merged, *matrix])
        args, kwargs = _with(node, **changed)
        return lowering.call(node.target, *args, **kwargs)

    return rewrite


def _last(name: str, count: Callable[[Node], int]) -> Rule:
    """Work on the last dimensions, with those before them merged into one."""

    def rewrite(lowering: Lowering, node: Node) -> Node | None:
        x = _argument(node, name)
        own = shape_of(x)[len(shape_of(x)) - count(node) :]
        if len(own) >= MAX_RANK:
            return None
        before = math.prod(shape_of(x)) // max(math.prod(own), 1)
        args, kwargs = _with(node, **{name: lowering.shaped(x, [before, *own])})
        return lowering.call(node.target, *args, **kwargs)

    return rewrite


def _pad(lowering: Lowering, node: Node) -> Node:
    """One dimension after the other, the last first."""
    x, amounts = arguments(node)[0], arguments(node)[1]
    shape = list(shape_of(x))
    carrier = lowering.low(x)
    for number, pair in enumerate(zip(amounts[::2], amounts[1::2], strict=True)):
        axis = len(shape) - 1 - number
        if pair != (0, 0):
            carrier = lowering.shaped(carrier, [math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])])
            carrier = lowering.call(aten.constant_pad_nd.default, carrier, [0, 0, *pair], *arguments(node)[2:])
            shape[axis] += sum(pair)
    return carrier


def _full(lowering: Lowering, node: Node) -> Node:
    return lowering.call(node.target, [math.prod(shape_of(node))], *arguments(node)[1:], **node.kwargs)


def _index(lowering: Lowering, node: Node) -> Node | None:
    """One tensor of indices among full slices picks along one dimension."""
    x, indices = arguments(node)[0], arguments(node)[1]
    given = [(axis, index) for axis, index in enumerate(indices) if index is not None]
    if len(given) != 1 or given[0][1].meta["val"].dtype is torch.bool:
        return None
    ((axis, index),) = given
    shape = shape_of(x)
    low = lowering.shaped(x, [math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])])
    flat = lowering.shaped(index, [math.prod(shape_of(index))])
    return lowering.call(aten.index.Tensor, low, [None, flat])


def rule_of(target: Any) -> Rule | None:
    """Return how an operator is computed on carriers, None where nothing says how."""
    if target in _RULES:
        return _RULES[target]
    if isinstance(target, OpOverload) and torch.Tag.pointwise in target.tags:
        return _pointwise
    return None


_RULES: Mapping[Any, Rule] = {
    **dict.fromkeys(
        [
            aten.view.default,
            aten._unsafe_view.default,  # noqa: SLF001 - its public name
            aten.reshape.default,
            aten.flatten.using_ints,
            aten.unflatten.int,
            aten.squeeze.default,
            aten.squeeze.dim,
            aten.squeeze.dims,
            aten.unsqueeze.default,
            aten.clone.default,
            aten.contiguous.default,
        ],
        _rename,
    ),
    **dict.fromkeys([aten.permute.default, aten.transpose.int], _permute),
    aten.expand.default: _expand,
    aten.repeat.default: _repeat,
    **dict.fromkeys(
        [
            aten._to_copy.default,  # noqa: SLF001 - its public name
            aten.dropout.default,
            aten.full_like.default,
            aten.masked_fill.Scalar,
            aten.masked_fill.Tensor,
            aten.ones_like.default,
            aten.to.dtype,
            aten.where.self,
            aten.zeros_like.default,
        ],
        _pointwise,
    ),
    **dict.fromkeys(
        [
            aten.amax.default,
            aten.amin.default,
            aten.any.dim,
            aten.all.dim,
            aten.mean.dim,
            aten.sum.dim_IntList,
        ],
        _reduce,
    ),
    **dict.fromkeys(
        [
            aten._log_softmax.default,  # noqa: SLF001 - its public name
            aten._softmax.default,  # noqa: SLF001 - its public name
            aten.argmax.default,
            aten.argmin.default,
            aten.cat.default,
            aten.chunk.default,
            aten.cumsum.default,
            aten.glu.default,
            aten.index_select.default,
            aten.log_softmax.int,
            aten.max.dim,
            aten.min.dim,
            aten.narrow.default,
            aten.select.int,
            aten.slice.Tensor,
            aten.softmax.int,
            aten.sort.default,
            aten.split.Tensor,
            aten.split_with_sizes.default,
            aten.stack.default,
            aten.topk.default,
            aten.unbind.int,
        ],
        _along,
    ),
    aten.flip.default: _several_along(""),
    aten.roll.default: _several_along("shifts"),
    aten.matmul.default: _batched("self", "other"),
    aten.scaled_dot_product_attention.default: _batched("query", "key", "value", "attn_mask"),
    aten.linear.default: _last("input", lambda _: 1),
    aten.layer_norm.default: _last("input", lambda node: len(arguments(node)[1])),
    aten.constant_pad_nd.default: _pad,
    aten.index.Tensor: _index,
    **dict.fromkeys([aten.full.default, aten.ones.default, aten.zeros.default], _full),
}
"""Operator → rewrite with operands in fewer dimensions; it returns a carrier of the result, or None to give up."""
