"""The tree of modules over ops, and which of its subtrees are built alike.

Two modules are the same block if their ops, shapes, attributes, weights' shapes and inner edges agree, whatever they
are called: the 24 equal layers of a transformer are one block with a count of 24. Subtrees are compared by interning,
from the leaves up: an op belongs to the module that made it, and an edge to the smallest module that holds both of its
ends, so that each is looked at once and the whole takes a sort more than linear time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from numpy.typing import NDArray

    from talaria_nb.program import Program

NO_BLOCK = -1
"""Block of a module without ops."""

_NEVER = 1 << 30

_Link: TypeAlias = "tuple[int, int, int]"


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """The ops in the order of the module tree: those of a module and of everything in it are one slice.

    An op is in the leaf of exactly one module; inner modules have such a leaf of their own. That is the module that
    made it, but for what belongs to no single one: casts of the model's inputs and outputs are in the root's leaf, and
    what coremltools computes once for several modules (attention's arithmetic on the mask) in that of the module around
    them.

    Attributes
    ----------
    module
        Per op, the module in whose leaf it is. int32.
    order
        Rows in `Ops`: a module's own ops in execution order, then its children's, children in the order in which they
        run first. int32, shape (ops,).
    start, own, stop
        Per module: its subtree is `order[start:stop]`, its own leaf `order[start:own]`. int32.
    children
        Per module, its children that have ops, in the order in which they run first.
    preorder
        Rows in `Modules`, every module before its children. int32.
    """

    module: NDArray[np.int32]
    order: NDArray[np.int32]
    start: NDArray[np.int32]
    own: NDArray[np.int32]
    stop: NDArray[np.int32]
    children: tuple[tuple[int, ...], ...]
    preorder: NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """Which modules are built alike.

    Attributes
    ----------
    tree
        The module tree over ops.
    block
        Per module, equal for modules that are built alike; `NO_BLOCK` where there are no ops. Numbered from 0 in the
        order of modules. int32.
    representative
        Per module, the first module of its block, or itself where there are no ops. int32.
    count
        Per module, the number of modules in its block; 0 where there are no ops. int32.
    """

    tree: Tree
    block: NDArray[np.int32]
    representative: NDArray[np.int32]
    count: NDArray[np.int32]


def module_tree(program: Program) -> Tree:
    """Order the ops of a program by its module tree."""
    parent = program.modules.parent
    modules, ops = len(parent), len(program.ops)
    leaf: list[list[int]] = [[] for _ in range(modules)]
    first = [ops] * modules
    module_of = _leaves(program)
    for op, module in enumerate(module_of):
        leaf[module].append(op)
        first[module] = min(first[module], op)
    children: list[list[int]] = [[] for _ in range(modules)]
    for module in range(modules - 1, 0, -1):  # children come after their parents
        above = int(parent[module])
        first[above] = min(first[above], first[module])
        if first[module] < ops:
            children[above].append(module)
    for siblings in children:
        siblings.sort(key=first.__getitem__)
    start, own, stop = (np.zeros(modules, dtype=np.int32) for _ in range(3))
    order: list[int] = []
    preorder: list[int] = []
    waiting = [0]
    while waiting:  # not recursive: a hostile module path may be deeper than Python's stack
        module = waiting.pop()
        preorder.append(module)
        start[module] = len(order)
        order.extend(leaf[module])
        own[module] = stop[module] = len(order)
        waiting.extend(reversed(children[module]))
    for module in reversed(preorder):
        if children[module]:
            stop[module] = stop[children[module][-1]]
    return Tree(
        np.array(module_of, dtype=np.int32),
        np.array(order, dtype=np.int32),
        start,
        own,
        stop,
        tuple(map(tuple, children)),
        np.array(preorder, dtype=np.int32),
    )


class _Forest:
    """The module tree as it is climbed: plain lists, which Python indexes faster than arrays."""

    def __init__(self, parent: list[int]) -> None:
        self.parent = parent
        self.depth = [0] * len(parent)
        for module in range(1, len(parent)):
            self.depth[module] = self.depth[parent[module]] + 1

    def around(self, a: int, b: int) -> int:
        """Return the smallest module around two."""
        parent, depth = self.parent, self.depth
        while a != b:
            if depth[a] >= depth[b]:
                a = parent[a]
            else:
                b = parent[b]
        return a

    def ancestor(self, module: int, depth: int) -> int:
        """Return the module around another at a depth, or itself where it is not deeper."""
        while self.depth[module] > depth:
            module = self.parent[module]
        return module


def _leaves(program: Program) -> list[int]:
    """Choose, per op, the module in whose leaf it is."""
    forest = _Forest(program.modules.parent.tolist())
    made_by: list[int] = program.ops.module.tolist()
    readers: list[list[int]] = [[] for _ in made_by]
    producer = program.values.producer.tolist()
    for op, inputs in enumerate(program.ops.inputs):
        for _, value in inputs:
            if producer[value] >= 0:
                readers[producer[value]].append(op)
    free = _free_depths(program, forest)
    leaf = list(made_by)
    for op in reversed(range(len(made_by))):
        if _is_interface(program, op):
            leaf[op] = 0
        elif readers[op] and free[op] <= forest.depth[made_by[op]]:
            target = leaf[readers[op][0]]
            for reader in readers[op]:
                target = forest.around(target, leaf[reader])
            below = forest.depth[target] + 1
            child = forest.ancestor(made_by[op], below)
            leaves = forest.parent[child] == target and free[op] <= below
            if leaves and any(forest.ancestor(made_by[reader], below) == child for reader in readers[op]):
                leaf[op] = target
    return leaf


def _is_interface(program: Program, op: int) -> bool:
    """Whether an op converts an input or an output of the model."""
    return program.ops.op_type[op] == "cast" and (
        all(value in program.inputs for _, value in program.ops.inputs[op])
        or all(value in program.outputs for value in program.ops.outputs[op])
    )


def _free_depths(program: Program, forest: _Forest) -> list[int]:
    """Give the depth of the largest module that each op could leave, as nothing with weights leads to it inside."""
    producer, weight = program.values.producer.tolist(), program.values.weight.tolist()
    module = program.ops.module.tolist()
    free: list[int] = []
    for op, inputs in enumerate(program.ops.inputs):
        least = 1
        for _, value in inputs:
            before = producer[value]
            if weight[value] >= 0:
                least = _NEVER
            elif before >= 0:
                outside = forest.depth[forest.around(module[op], module[before])] + 1
                least = max(least, min(outside, free[before]))
        free.append(least)
    return free


def find_blocks(program: Program) -> Blocks:
    """Find the modules that are built alike.

    Parameters
    ----------
    program
        Of any size: the time grows with its ops, edges and modules, times the depth of the tree for far edges.
    """
    tree = module_tree(program)
    modules = len(program.modules.path)
    links = _links(program, tree)
    kinds: dict[Hashable, int] = {}
    kind_of_op = [kinds.setdefault(key, len(kinds)) for key in _op_keys(program)]
    shapes: dict[Hashable, int] = {}
    shape_of = [NO_BLOCK] * modules
    order = tree.order.tolist()
    for module in reversed(tree.preorder.tolist()):
        start, own, stop = int(tree.start[module]), int(tree.own[module]), int(tree.stop[module])
        if start == stop:
            continue
        key = (
            tuple(kind_of_op[op] for op in order[start:own]),
            tuple(shape_of[child] for child in tree.children[module]),
            tuple(sorted((a - start, b - start, role) for a, b, role in links[module])),
        )
        shape_of[module] = shapes.setdefault(key, len(shapes))
    members: dict[int, list[int]] = {}
    for module, shape in enumerate(shape_of):
        if shape != NO_BLOCK:
            members.setdefault(shape, []).append(module)
    block = np.full(modules, NO_BLOCK, dtype=np.int32)
    representative = np.arange(modules, dtype=np.int32)
    count = np.zeros(modules, dtype=np.int32)
    for number, alike in enumerate(members.values()):
        block[alike] = number
        representative[alike] = alike[0]
        count[alike] = len(alike)
    return Blocks(tree, block, representative, count)


def _op_keys(program: Program) -> Iterator[Hashable]:
    """Yield what an op is by itself: its type, attributes, and what it reads and writes, without names."""
    values, ops = program.values, program.ops
    for row, op_type in enumerate(ops.op_type):
        yield (
            op_type,
            # repr: True == 1 == 1.0, and NaN is not itself
            tuple(sorted((name, repr(value)) for name, value in ops.attributes[row].items())),
            tuple(
                (name, values.shape[value], values.dtype[value], bool(values.weight[value] >= 0))
                for name, value in ops.inputs[row]
            ),
            tuple((values.shape[value], values.dtype[value]) for value in ops.outputs[row]),
        )


def _links(program: Program, tree: Tree) -> list[list[_Link]]:
    """List, per module, the links between two of its ops that no smaller module holds.

    A link is (position, position, role). It stands for an edge, or for two ops that read the same value. The readers of
    a value are linked in the order of the tree, in a chain: those within one module are neighbours in it, so that each
    module sees all it needs to tell which of its ops share an input or a weight.
    """
    roles: dict[tuple[int, int], int] = {}
    position = np.empty(len(tree.order), dtype=np.int64)
    position[tree.order] = np.arange(len(tree.order))
    place = position.tolist()
    last_reader: dict[int, tuple[int, int]] = {}
    output_index = {value: index for outputs in program.ops.outputs for index, value in enumerate(outputs)}
    producer = program.values.producer.tolist()
    found: list[_Link] = []
    for op in tree.order.tolist():
        for slot, (_, value) in enumerate(program.ops.inputs[op]):
            if producer[value] >= 0:
                role = roles.setdefault((slot, output_index[value]), len(roles))
                found.append((place[producer[value]], place[op], 2 * role))
            if value in last_reader:
                before, its_slot = last_reader[value]
                found.append((before, place[op], 2 * roles.setdefault((its_slot, slot), len(roles)) + 1))
            last_reader[value] = (place[op], slot)
    holders = _holders(program, tree, found)
    links: list[list[_Link]] = [[] for _ in program.modules.path]
    for holder, link in zip(holders, found, strict=True):
        links[holder].append(link)
    return links


def _holders(program: Program, tree: Tree, links: list[_Link]) -> list[int]:
    """Find the smallest module that holds both ends of each link, for all links at once."""
    if not links:
        return []
    ends = np.array(links, dtype=np.int64)[:, :2]
    module = tree.module[tree.order]
    holder = module[ends[:, 0]].astype(np.int64)
    other = ends[:, 1]
    outside = np.flatnonzero((other < tree.start[holder]) | (other >= tree.stop[holder]))
    while len(outside):
        holder[outside] = program.modules.parent[holder[outside]]
        above = holder[outside]
        still = (other[outside] < tree.start[above]) | (other[outside] >= tree.stop[above])
        outside = outside[still]
    found: list[int] = holder.tolist()
    return found
