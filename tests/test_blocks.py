"""The module tree over ops and the modules that are built alike."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import models
import synthetic
import talaria_nb as tnb
from talaria_nb.blocks import NO_BLOCK, find_blocks, module_tree
from talaria_nb.frames import COLUMNS
from talaria_nb.wire import pack_program

if TYPE_CHECKING:
    from collections.abc import Callable

    from talaria_nb.program import Ops, Program

LAYERS = 4


def with_ops(program: Program, **columns: object) -> Program:
    ops: Ops = replace(program.ops, **columns)  # type: ignore[arg-type]
    return replace(program, ops=ops)


def layer_blocks(program: Program) -> list[int]:
    blocks = find_blocks(program)
    return [int(blocks.block[program.modules.path.index(f"layers.{layer}")]) for layer in range(LAYERS)]


def test_every_op_is_in_exactly_one_leaf() -> None:
    for program in (models.minilm().program, models.classifier().program, synthetic.transformer(LAYERS)):
        tree = module_tree(program)
        assert sorted(tree.order.tolist()) == list(range(len(program.ops)))
        leaves = [tree.order[a:b] for a, b in zip(tree.start, tree.own, strict=True)]
        assert sum(map(len, leaves)) == len(program.ops)
        for module, leaf in enumerate(leaves):
            assert (tree.module[leaf] == module).all()
        path = program.modules.path
        for module, made_by in zip(tree.module, program.ops.module, strict=True):
            assert path[module] == "" or f"{path[made_by]}.".startswith(f"{path[module]}.")
        for module, (a, b) in enumerate(zip(tree.start, tree.stop, strict=True)):
            inside = {path[tree.module[op]] for op in tree.order[a:b]}
            below = (path[module], path[module] + "." if path[module] else "")
            assert all(each == below[0] or each.startswith(below[1]) for each in inside)
        assert (tree.start[0], tree.stop[0]) == (0, len(program.ops))


def test_the_layers_of_a_transformer_are_one_block() -> None:
    blocks = models.minilm().blocks.set_index("module")
    layers = blocks.loc[[f"encoder.layer.{layer}" for layer in range(6)]]
    assert layers["block"].nunique() == 1
    assert set(layers["count"]) == {6}
    assert set(layers["representative"]) == {"encoder.layer.0"}
    heads = blocks.loc[[f"encoder.layer.{layer}.attention.self.query" for layer in range(6)]]
    assert heads["block"].nunique() == 1
    assert blocks.loc["encoder.layer.0", "block"] != blocks.loc["encoder", "block"]
    assert blocks.loc["", "op_count"] == len(models.minilm().ops)
    assert blocks.loc["", "flops"] == models.minilm().ops["flops"].sum()


def test_ops_stay_in_the_module_that_made_them() -> None:
    for program in (models.minilm().program, models.mobilenet().program, models.unet().program):
        moved = np.flatnonzero(program.blocks.tree.module != program.ops.module)
        assert {program.ops.op_type[op] for op in moved} <= {"cast", "sub", "mul"}
        assert len(moved) <= 5


def test_blocks_hold_documented_columns_only() -> None:
    assert set(models.classifier().blocks.columns) <= COLUMNS.keys()


def test_the_program_carries_its_blocks() -> None:
    program = models.minilm().program
    assert program.blocks is program.blocks
    assert len(program.blocks.block) == len(program.modules.path)


@settings(max_examples=20, deadline=None)
@given(st.permutations(list("abcdefghijklmnopqrstuvwxyz")))
def test_names_do_not_matter(letters: list[str]) -> None:
    program = synthetic.transformer(LAYERS)
    renamed = str.maketrans("abcdefghijklmnopqrstuvwxyz", "".join(letters))
    modules = replace(
        program.modules,
        path=tuple(path.translate(renamed) for path in program.modules.path),
        class_name=tuple(str(row) for row in range(len(program.modules.path))),
    )
    other = with_ops(replace(program, modules=modules), name=tuple(f"op{row}" for row in range(len(program.ops))))
    np.testing.assert_array_equal(find_blocks(other).block, find_blocks(program).block)


def test_equal_layers_are_equal() -> None:
    assert len(set(layer_blocks(synthetic.transformer(LAYERS)))) == 1


def _changed_shape(program: Program, op: int) -> Program:
    value = program.ops.outputs[op][0]
    shapes = list(program.values.shape)
    shapes[value] = (*shapes[value], 1)
    return replace(program, values=replace(program.values, shape=tuple(shapes)))


def _changed_type(program: Program, op: int) -> Program:
    types = list(program.ops.op_type)
    types[op] = "other"
    return with_ops(program, op_type=tuple(types))


def _changed_attribute(program: Program, op: int) -> Program:
    attributes = list(program.ops.attributes)
    attributes[op] = {**attributes[op], "epsilon": 0.5}
    return with_ops(program, attributes=tuple(attributes))


def _changed_dtype(program: Program, op: int) -> Program:
    dtypes = list(program.values.dtype)
    dtypes[program.ops.outputs[op][0]] = "fp32"
    return replace(program, values=replace(program.values, dtype=tuple(dtypes)))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, LAYERS - 1),
    st.integers(0, synthetic.OPS_A_LAYER - 1),
    st.sampled_from([_changed_shape, _changed_type, _changed_attribute, _changed_dtype]),
)
def test_any_change_inside_makes_a_layer_differ(
    layer: int, place: int, change: Callable[[Program, int], Program]
) -> None:
    op = layer * synthetic.OPS_A_LAYER + place
    blocks = layer_blocks(change(synthetic.transformer(LAYERS), op))
    assert blocks.count(blocks[layer]) == 1
    # The next layer reads the changed value where the last op of this one changed; all others are as they were.
    assert len({block for row, block in enumerate(blocks) if row not in (layer, layer + 1)}) == 1


def test_one_moved_edge_makes_a_layer_differ() -> None:
    program = synthetic.transformer(LAYERS)
    inputs = list(program.ops.inputs)
    [add] = [op for op in range(synthetic.OPS_A_LAYER, 2 * synthetic.OPS_A_LAYER) if program.ops.name[op] == "1.add"]
    other = program.ops.outputs[add - 2][0]  # of the same shape as what it read
    (name, before), second = inputs[add]
    assert program.values.shape[before] == program.values.shape[other]
    assert before != other
    inputs[add] = ((name, other), second)
    blocks = layer_blocks(with_ops(program, inputs=tuple(inputs)))
    assert [blocks.count(block) for block in blocks] == [3, 1, 3, 3]


class Pair(nn.Module):
    """Two layers that share a weight, or do not."""

    def __init__(self, *, tied: bool) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(16, 16))
        self.second = nn.Parameter(torch.randn(16, 16))
        self.tied = tied

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x @ self.first) @ (self.first if self.tied else self.second)


class Pairs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = Pair(tied=False), Pair(tied=False), Pair(tied=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.c(self.b(self.a(x)))


def test_sharing_a_weight_is_part_of_the_structure() -> None:
    model = tnb.load(Pairs(), torch.zeros(2, 16), progress=False)
    blocks = model.blocks.set_index("module")["block"]
    assert blocks["a"] == blocks["b"] != blocks["c"]


def test_modules_without_ops_are_no_block() -> None:
    program = synthetic.transformer(1)
    modules = replace(
        program.modules,
        path=(*program.modules.path, "dropout"),
        class_name=(*program.modules.class_name, ""),
        parent=np.append(program.modules.parent, 0).astype(np.int32),
    )
    blocks = find_blocks(replace(program, modules=modules))
    assert (blocks.block[-1], blocks.count[-1]) == (NO_BLOCK, 0)


def test_a_very_deep_tree_is_no_problem() -> None:
    program = synthetic.transformer(1)
    depth = 5_000
    modules = replace(
        program.modules,
        path=tuple(str(row) for row in range(depth)),
        class_name=("",) * depth,
        parent=np.arange(-1, depth - 1, dtype=np.int32),
    )
    module = np.full(len(program.ops), depth - 1, dtype=np.int32)
    blocks = find_blocks(replace(with_ops(program, module=module), modules=modules))
    assert len(set(blocks.block.tolist())) == depth


def test_the_browser_gets_the_tree_and_what_is_built_alike() -> None:
    model = models.minilm()
    sent = pack_program(model)
    modules, tree = sent["modules"], sent["tree"]

    def column(packed: bytes) -> list[int]:
        return np.frombuffer(packed, "<i4").tolist()

    alike, start, stop = (column(modules[key]) for key in ("alike", "start", "stop"))
    order, leaf = column(tree["order"]), column(tree["leaf"])
    rows = [modules["path"].index(f"encoder.layer.{layer}") for layer in range(6)]
    assert {alike[row] for row in rows} == {alike[rows[0]]}
    assert alike.count(alike[rows[0]]) == 6
    kinds = [[model.program.ops.op_type[op] for op in order[start[row] : stop[row]]] for row in rows]
    assert kinds[0]
    assert all(kind == kinds[0] for kind in kinds)
    assert sorted(order) == list(range(len(model.ops)))
    assert modules["path"][leaf[order[start[rows[2]]]]].startswith("encoder.layer.2")
