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

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from talaria_nb import ranks
from talaria_nb import rewrites as by
from talaria_nb.decompositions import decomposition, missing
from talaria_nb.folding import fold, fold_parameters
from talaria_nb.graph_edits import has_static_operand, is_static, tidy

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from torch._ops import OpOverload
    from torch.export import ExportedProgram
    from torch.fx import Node

aten = torch.ops.aten

_MAX_ROUNDS = 6
"""How often decompositions are decomposed again; torch's own need two or three."""


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


def _bit_repairs(name: str) -> dict[OpOverload, Repair]:
    """Return the repairs of one operator on bits, in all spellings."""
    logical = getattr(aten, f"logical_{name}").default
    bitwise = getattr(aten, f"bitwise_{name}")
    dunder = getattr(aten, f"__{name}__")
    spelled = Repair(f"coremltools has no `__{name}__` (transformers' masks)", by.logical(logical, bitwise.Tensor))
    picked = Repair(
        f"coremltools has no `{name}` of integers; with a constant it is arithmetic",
        by.combine_bits(name),
        by.has_few_bits,
    )
    return {dunder.Tensor: spelled, bitwise.Scalar: picked, bitwise.Scalar_Tensor: picked, dunder.Scalar: picked}


REPAIRS: Mapping[OpOverload, Repair] = {
    aten.alias.default: Repair("coremltools has no `alias`; it computes nothing (swin)", by.drop),
    aten._assert_tensor_metadata.default: Repair(  # noqa: SLF001 - its public name
        "a run-time check of dtypes; it computes nothing", by.erase
    ),
    aten.new_ones.default: Repair(
        "coremltools has no `new_ones` (the masks of transformers' BERT)", by.new_ones_to_full
    ),
    **_bit_repairs("and"),
    **_bit_repairs("or"),
    **_bit_repairs("xor"),
    aten.addcmul.default: Repair("coremltools has no `addcmul` (layer scale)", by.addcmul),
    aten.col2im.default: Repair("coremltools folds only blocks that do not overlap (volo)", by.fold_columns, is_static),
    aten.im2col.default: Repair(
        "coremltools unfolds with a kernel of channels² numbers, which would count as a weight (volo)",
        by.unfold_columns,
        is_static,
    ),
    aten.constant_pad_nd.default: Repair(
        "coremltools cannot pad by less than nothing (nasnet)", by.crop, by.takes_away
    ),
    aten.pad.default: Repair("coremltools cannot pad by less than nothing", by.crop, by.takes_away_constant),
    aten.unfold.default: Repair("coremltools has no sliding windows (halonet)", by.windows, is_static),
    aten.as_strided.default: Repair("coremltools has no `as_strided`", by.as_strided, by.lies_in_order),
    aten.index_put.default: Repair(
        "coremltools assigns under a mask through a list of unknown length (`x[mask] = 0`)",
        by.mask_to_where,
        by.is_masked_assignment,
    ),
    aten.masked_scatter.default: Repair("coremltools has no `masked_scatter`", by.masked_scatter, is_static),
    aten.cdist.default: Repair("coremltools has no `cdist`", by.distances, by.is_common_distance),
    aten.cumsum.default: Repair(
        "coremltools counts dimensions from the back only for the last one (mamba2)",
        by.count_from_the_front,
        by.counts_from_the_back,
    ),
    aten.median.dim: Repair("coremltools has no `median`", by.median, has_static_operand),
    aten.lerp.Scalar: Repair("torch's decomposition of `lerp` chooses by a scalar, which coremltools cannot", by.lerp),
    aten.fmod.Tensor: Repair("coremltools has no `fmod`", by.fmod, by.is_float),
    aten.fmod.Scalar: Repair("coremltools has no `fmod`", by.fmod, by.is_float),
    aten.trunc.default: Repair("coremltools has no `trunc`", by.trunc, by.is_float),
    aten.erfc.default: Repair("coremltools has no `erfc`", by.erfc),
    aten.nan_to_num.default: Repair(
        "coremltools replaces through a list of positions of unknown length", by.nan_to_num, by.is_float
    ),
    aten.var_mean.correction: Repair("coremltools has no `var_mean`", by.var_and_mean),
    aten.addmm.default: Repair(
        "coremltools cannot multiply by the integers `alpha`, `beta`", by.scaled_addmm, by.is_scaled
    ),
    aten.diagonal.default: Repair(
        "coremltools takes the main diagonal of the first two dimensions only", by.diagonal, has_static_operand
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
        fold(exported, applied)
        fold_parameters(exported, applied)
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
        tidy(exported)
