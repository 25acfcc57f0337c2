"""Tensors of more than five dimensions, which Core ML cannot hold, rewritten as tensors of at most five.

Every such tensor of an exported graph is kept as a *carrier*: a tensor of fewer dimensions with the same values in the
same row-major order. Operators that only name dimensions anew (reshape, squeeze) leave a carrier as it is; a
permutation merges the dimensions that move together and, where more than five are left, is done in several steps; what
works along some dimensions sees the others merged; and what works on each element for itself does not see dimensions at
all, but for those it broadcasts over. The results are those of the original operators, element for element.
"""

from __future__ import annotations

import itertools
import math
import operator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch.export import ExportedProgram
    from torch.fx import Graph, Node

aten = torch.ops.aten

MAX_RANK = 5
"""Dimensions of the largest tensor that Core ML holds (checked by coremltools' `Program.validate`)."""


def permute_steps(shape: Sequence[int], order: Sequence[int]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Split a permutation into steps of at most `MAX_RANK` dimensions.

    Parameters
    ----------
    shape
        Of the tensor that is permuted.
    order
        Dimension i of the result is dimension `order[i]` of the tensor.

    Returns
    -------
    list of (shape, order)
        Reshape to `shape`, then permute by `order`, one after the other; empty where the permutation moves nothing.
        The last result holds the permuted tensor's elements in row-major order.
    """
    left = _merged_order(shape, order)
    steps = []
    while len(left[0]) > MAX_RANK:
        rest = {step: _after(*left, step) for step in _block_moves(left[0])}
        step = min(rest, key=lambda step: len(rest[step][0]))
        steps.append(step)
        left = rest[step]
    if len(left[0]) > 1:
        steps.append(left)
    return steps


def _merged_order(shape: Sequence[int], order: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Leave out dimensions of size 1 and merge neighbours that stay neighbours."""
    runs: list[list[int]] = []
    kept = [axis for axis in range(len(shape)) if shape[axis] != 1]
    for axis in (kept.index(axis) for axis in order if shape[axis] != 1):
        if runs and axis == runs[-1][-1] + 1:
            runs[-1].append(axis)
        else:
            runs.append([axis])
    before = sorted(runs)
    return (
        tuple(math.prod(shape[kept[axis]] for axis in run) for run in before),
        tuple(before.index(run) for run in runs),
    )


def _block_moves(sizes: tuple[int, ...]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """List the permutations of `MAX_RANK` blocks of neighbouring dimensions."""
    moves = []
    for cuts in itertools.combinations(range(1, len(sizes)), MAX_RANK - 1):
        blocks = tuple(math.prod(sizes[start:end]) for start, end in itertools.pairwise((0, *cuts, len(sizes))))
        moves += [(blocks, order) for order in itertools.permutations(range(MAX_RANK))]
    return moves


def _after(
    sizes: tuple[int, ...], order: tuple[int, ...], step: tuple[tuple[int, ...], tuple[int, ...]]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return what is left of a permutation after a step of it."""
    blocks, block_order = step
    ends = list(itertools.accumulate(blocks, operator.mul))
    members: list[list[int]] = [[] for _ in blocks]
    for axis, end in enumerate(itertools.accumulate(sizes, operator.mul)):
        members[next(i for i, block_end in enumerate(ends) if end <= block_end)].append(axis)
    moved = [axis for block in block_order for axis in members[block]]
    return _merged_order([sizes[axis] for axis in moved], [moved.index(axis) for axis in order])


def lower(exported: ExportedProgram) -> dict[Any, Node]:
    """Rewrite an exported program so that no tensor has more than `MAX_RANK` dimensions, in place.

    Returns
    -------
    dict of operator to node
        The operators on such tensors that it has no rewrite for, and the first node of each; they stay as they are.
    """
    if not any(_is_high(node) for node in exported.graph.nodes):
        return {}
    lowering = _Lowering(exported.graph)
    nodes = list(exported.graph.nodes)
    for node in nodes:
        if node.target is aten.view.default:
            node.target = aten.reshape.default  # a carrier's memory may lie in another order
        lowering.visit(node)
    for node in reversed(nodes):
        if not node.users and (node in lowering.replaced):
            exported.graph.erase_node(node)  # attention counts as random, and so never as dead code
    tidy(exported)
    return lowering.unknown


def tidy(exported: ExportedProgram) -> None:
    """Make an exported program whole again whose graph was changed: its outputs may be other nodes now."""
    graph = exported.graph
    for spec, result in zip(exported.graph_signature.output_specs, graph.output_node().args[0], strict=True):
        if isinstance(result, torch.fx.Node):
            spec.arg.name = result.name
    graph.eliminate_dead_code()
    graph.lint()
    exported.graph_module.recompile()


def highest(exported: ExportedProgram) -> Node | None:
    """Return the first node whose result has more dimensions than Core ML holds, None where there is none."""
    return next((node for node in exported.graph.nodes if _is_high(node)), None)


def _tensors(node: Node) -> list[torch.Tensor]:
    value = node.meta.get("val")
    values = value if isinstance(value, (list, tuple)) else [value]
    return [each for each in values if isinstance(each, torch.Tensor)]


def _is_high(node: Node) -> bool:
    return any(tensor.ndim > MAX_RANK for tensor in _tensors(node))


def _is_static(node: Node) -> bool:
    return all(isinstance(size, int) for tensor in _tensors(node) for size in tensor.shape)


class _Lowering:
    """The rewriting of one graph, node by node, in order."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.carriers: dict[Node, Node] = {}
        """Nodes of too many dimensions → their values in fewer."""
        self.several: dict[Node, Node] = {}
        """Nodes with several results → what replaces them, with the same number of results."""
        self.replaced: set[Node] = set()
        self.unknown: dict[Any, Node] = {}
        self.current: Node
        self.mode: Any = next(
            tensor.fake_mode for node in graph.nodes for tensor in _tensors(node) if isinstance(tensor, FakeTensor)
        )

    def visit(self, node: Node) -> None:
        concerned = [node, *node.all_input_nodes]
        picked = node.target is operator.getitem and arguments(node)[0] in self.several
        if node.op in {"placeholder", "get_attr"} or not (picked or any(_is_high(each) for each in concerned)):
            return
        self.current = node
        if picked:
            self.replaced.add(node)
            self.replace(node, self.call(operator.getitem, self.several[arguments(node)[0]], arguments(node)[1]))
            return
        rule = None if node.op == "output" else _rule(node.target)
        result = rule(self, node) if rule and all(_is_static(each) for each in concerned) else None
        if result is None:
            self.leave(node)
            return
        self.replaced.add(node)
        if len(_tensors(node)) > 1 or isinstance(node.meta["val"], (list, tuple)):
            self.several[node] = result
        else:
            self.replace(node, result)

    def leave(self, node: Node) -> None:
        """Give an operator that has no rule its operands in the dimensions that it expects."""
        if node.op == "call_function" and node.target is not operator.getitem:
            self.unknown.setdefault(node.target, node)
        for before in node.all_input_nodes:
            if before in self.carriers:
                node.replace_input_with(before, self.shaped(before, before.meta["val"].shape))

    def replace(self, node: Node, result: Node) -> None:
        if _is_high(node):
            self.carriers[node] = result
        else:
            node.replace_all_uses_with(self.shaped(result, node.meta["val"].shape))

    def call(self, target: Any, *args: Any, **kwargs: Any) -> Node:
        """Add an operator before the current node, which it gets its source line from, and compute its shapes."""
        with self.graph.inserting_before(self.current):
            node = self.graph.call_function(target, args, kwargs)
        node.meta = dict(self.current.meta)
        plain_args, plain_kwargs = torch.fx.node.map_arg((args, kwargs), lambda each: each.meta["val"])
        with self.mode, torch.no_grad():
            node.meta["val"] = target(*plain_args, **plain_kwargs)
        return node

    def shaped(self, node: Node, shape: Sequence[int]) -> Node:
        """Return the values of a node in another shape, without reshaping where they have it."""
        carrier = self.carriers.get(node, node)
        if tuple(carrier.meta["val"].shape) == tuple(shape):
            return carrier
        return self.call(aten.reshape.default, carrier, list(shape))

    def permuted(self, node: Node, shape: Sequence[int], order: Sequence[int]) -> Node:
        """Return a carrier of a permuted tensor; `shape` is the tensor's before."""
        carrier = self.carriers.get(node, node)
        for sizes, step in permute_steps(shape, order):
            carrier = self.call(aten.permute.default, self.shaped(carrier, sizes), list(step))
        return self.low(carrier)

    def low(self, node: Node) -> Node:
        """Return a carrier, flat where the values came in too many dimensions (a parameter)."""
        carrier = self.carriers.get(node, node)
        return self.shaped(carrier, [carrier.meta["val"].numel()]) if _is_high(carrier) else carrier

    def expanded(self, node: Node, shape: Sequence[int]) -> Node:
        """Return a carrier of a tensor that is broadcast to a shape."""
        sizes = _aligned(node, len(shape))
        carrier = self.low(node)
        for axis, (size, wanted) in enumerate(zip(sizes, shape, strict=True)):
            if size != wanted:  # everything before this axis is expanded already
                before, after = math.prod(shape[:axis]), math.prod(sizes[axis + 1 :])
                carrier = self.call(
                    aten.expand.default, self.shaped(carrier, [before, 1, after]), [before, wanted, after]
                )
        return carrier


def arguments(node: Node) -> tuple[Any, ...]:
    """Return the arguments of an operator as untyped as FX graphs are."""
    return node.args


def _aligned(node: Node, rank: int) -> tuple[int, ...]:
    shape = tuple(node.meta["val"].shape)
    return (1,) * (rank - len(shape)) + shape


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


def _shape(node: Any) -> tuple[int, ...]:
    return tuple(node.meta["val"].shape)


def _rename(lowering: _Lowering, node: Node) -> Node:
    """Leave the elements where they are: reshape, squeeze, clone."""
    return lowering.low(arguments(node)[0])


def _permute(lowering: _Lowering, node: Node) -> Node:
    x = arguments(node)[0]
    rank = len(_shape(x))
    if node.target is aten.permute.default:
        order = [axis % rank for axis in arguments(node)[1]]
    else:
        order = list(range(rank))
        first, second = (axis % rank for axis in arguments(node)[1:3])
        order[first], order[second] = second, first
    return lowering.permuted(x, _shape(x), order)


def _expand(lowering: _Lowering, node: Node) -> Node:
    return lowering.expanded(arguments(node)[0], _shape(node))


def _repeat(lowering: _Lowering, node: Node) -> Node:
    x, repeats = arguments(node)[0], arguments(node)[1]
    sizes = _aligned(x, len(repeats))
    carrier = lowering.low(x)
    for axis, times in enumerate(repeats):
        if times != 1:
            before, after = math.prod(_shape(node)[:axis]), math.prod(sizes[axis:])
            one = lowering.shaped(carrier, [before, 1, after])
            carrier = lowering.call(aten.expand.default, one, [before, times, after])
    return carrier


def _pointwise(lowering: _Lowering, node: Node) -> Node:
    """Work on each element, with neighbouring dimensions merged over which the same operands are broadcast."""
    shape = _shape(node)
    operands = [each for each in node.all_input_nodes if isinstance(each.meta["val"], torch.Tensor)]
    if all(_shape(each) in {shape, ()} for each in operands):
        common = _shape(next(low for each in operands if _shape(low := lowering.low(each))))
        lowered = {each: lowering.shaped(lowering.low(each), common if _shape(each) else ()) for each in operands}
    else:
        aligned = {each: _aligned(each, len(shape)) for each in operands}
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


def _along(lowering: _Lowering, node: Node) -> Node | None:
    """Work along one dimension, with those before it and those after it merged into one each."""
    given = _argument(node, "tensors") or [_argument(node, "self")]
    shapes = [_shape(each) for each in given]
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


def _several_along(name: str) -> Callable[[_Lowering, Node], Node | None]:
    """Work along several dimensions, one after the other: flip, roll."""

    def rewrite(lowering: _Lowering, node: Node) -> Node | None:
        x = arguments(node)[0]
        shape = _shape(x)
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


def _reduce(lowering: _Lowering, node: Node) -> Node:
    """Reduce (sums, means, extremes) one run of neighbouring dimensions after the other, the last first."""
    x = arguments(node)[0]
    shape = list(_shape(x))
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


def _batched(*names: str) -> Callable[[_Lowering, Node], Node | None]:
    """Products of matrices: everything but the last two dimensions is a batch, and merged into one dimension."""

    def rewrite(lowering: _Lowering, node: Node) -> Node | None:
        operands = {name: operand for name in names if (operand := _argument(node, name)) is not None}
        if any(len(_shape(operand)) < 2 for operand in operands.values()) or _argument(node, "enable_gqa"):
            return None
        batch = np.broadcast_shapes(*(_shape(operand)[:-2] for operand in operands.values()))
        merged, single = (
            ([math.prod(batch)], []) if node.target is aten.matmul.default else ([1, math.prod(batch)], [1, 1])
        )
        changed = {}
        for name, operand in operands.items():
            matrix = _shape(operand)[-2:]
            if math.prod(_shape(operand)[:-2]) == 1:
                changed[name] = lowering.shaped(operand, [*single, *matrix])
            else:
                changed[name] = lowering.shaped(lowering.expanded(operand, [*batch, *matrix]), [*merged, *matrix])
        args, kwargs = _with(node, **changed)
        return lowering.call(node.target, *args, **kwargs)

    return rewrite


def _last(name: str, count: Callable[[Node], int]) -> Callable[[_Lowering, Node], Node | None]:
    """Work on the last dimensions, with those before them merged into one."""

    def rewrite(lowering: _Lowering, node: Node) -> Node | None:
        x = _argument(node, name)
        own = _shape(x)[len(_shape(x)) - count(node) :]
        if len(own) >= MAX_RANK:
            return None
        before = math.prod(_shape(x)) // max(math.prod(own), 1)
        args, kwargs = _with(node, **{name: lowering.shaped(x, [before, *own])})
        return lowering.call(node.target, *args, **kwargs)

    return rewrite


def _pad(lowering: _Lowering, node: Node) -> Node:
    """One dimension after the other, the last first."""
    x, amounts = arguments(node)[0], arguments(node)[1]
    shape = list(_shape(x))
    carrier = lowering.low(x)
    for number, pair in enumerate(zip(amounts[::2], amounts[1::2], strict=True)):
        axis = len(shape) - 1 - number
        if pair != (0, 0):
            carrier = lowering.shaped(carrier, [math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])])
            carrier = lowering.call(aten.constant_pad_nd.default, carrier, [0, 0, *pair], *arguments(node)[2:])
            shape[axis] += sum(pair)
    return carrier


def _full(lowering: _Lowering, node: Node) -> Node:
    return lowering.call(node.target, [math.prod(_shape(node))], *arguments(node)[1:], **node.kwargs)


def _index(lowering: _Lowering, node: Node) -> Node | None:
    """One tensor of indices among full slices picks along one dimension."""
    x, indices = arguments(node)[0], arguments(node)[1]
    given = [(axis, index) for axis, index in enumerate(indices) if index is not None]
    if len(given) != 1 or given[0][1].meta["val"].dtype is torch.bool:
        return None
    ((axis, index),) = given
    shape = _shape(x)
    low = lowering.shaped(x, [math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])])
    flat = lowering.shaped(index, [math.prod(_shape(index))])
    return lowering.call(aten.index.Tensor, low, [None, flat])


def _rule(target: Any) -> Callable[[_Lowering, Node], Node | None] | None:
    if target in _RULES:
        return _RULES[target]
    if isinstance(target, OpOverload) and torch.Tag.pointwise in target.tags:
        return _pointwise
    return None


_RULES: Mapping[Any, Callable[[_Lowering, Node], Node | None]] = {
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
