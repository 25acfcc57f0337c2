"""What plans cost as sums over weights: what a linear program needs, and never more than the plan really costs.

Most costs are sums already. Where they are not, the sum here stays below the cost, so that an optimum over it is a
bound for real plans: tensors that several weights share are divided among them, offsets in the program text are taken
at the smallest file, and an op that reads several weights with a choice waits either for its products or for its
weights, whichever is longer under one plan. `cost` is the truth, from the estimate of the plan.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from talaria_nb.estimate import extra_bytes, offset_bytes, price, price_ops
from talaria_nb.stored_tensors import FILE_HEADER_BYTES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from talaria_nb.budgets import Metric
    from talaria_nb.costs import CostTable

_PRICED = {"size": "size_bytes", "latency": "latency_ms", "energy": "energy_mj"}
"""Metric → its attribute of an estimate."""


@dataclass(frozen=True, slots=True, eq=False)
class Additive:
    """A cost as a sum: `fixed`, and one term for every weight and scheme.

    `by_weight` is float64, shape (weights, schemes), 0 where a scheme is not allowed.
    """

    fixed: float
    by_weight: NDArray[np.float64]


def cost(
    table: CostTable,
    metric: Metric,
    columns: NDArray[np.integer],
    counted: NDArray[np.bool_],
    int8: NDArray[np.bool_] | None = None,
) -> float:
    """Return what a plan really costs.

    Parameters
    ----------
    table
        The prices.
    metric
        What is counted.
    columns, int8
        As in `estimate.price`.
    counted
        Of "bits" only: which weights count. bool, shape (weights,).
    """
    if metric == "bits":
        stored = float(table.payload_bytes[np.arange(len(columns)), columns][counted].sum())
        return 8 * stored / max(float(table.elements[counted].sum()), 1.0)
    return float(getattr(price(table, columns, int8), _PRICED[metric]))


def additive(
    table: CostTable,
    metric: Metric,
    allowed: NDArray[np.bool_],
    counted: NDArray[np.bool_],
    at: NDArray[np.integer],
    int8: NDArray[np.bool_] | None = None,
) -> Additive:
    """Write a cost as a sum that is at most the cost of every plan that is allowed.

    Parameters
    ----------
    table, metric, counted, int8
        As in `cost`.
    allowed
        The schemes that each weight may have, one at least. bool, shape (weights, schemes).
    at
        The plan for which ops that read several weights are decided. Columns, int64, shape (weights,).
    """
    if metric == "bits":
        bits = 8 * table.payload_bytes * (allowed & counted[:, None])
        return Additive(0.0, bits / max(float(table.elements[counted].sum()), 1.0))
    if metric == "size":
        return _size(table, allowed, int8)
    return _by_ops(table, metric, allowed, at, int8)


def _size(table: CostTable, allowed: NDArray[np.bool_], int8: NDArray[np.bool_] | None) -> Additive:
    by_weight = table.file_bytes + table.proto_bytes + _shares(table, allowed)
    smallest = np.where(allowed, table.file_bytes, np.inf).min(axis=1, initial=np.inf)
    ends = FILE_HEADER_BYTES + np.concatenate([[0], np.cumsum(smallest)])
    before, sizes = table.fixed_records.T.astype(np.int64)
    records = np.concatenate([[0], np.cumsum(sizes)])
    starts = (ends[:-1] + records[np.searchsorted(before, np.arange(len(allowed)), side="right")])[:, None]
    tensors = table.tensors.astype(np.int64)
    by_weight += (tensors > 0) * extra_bytes(starts)
    by_weight += np.maximum(tensors - 1, 0) * extra_bytes(starts + table.file_bytes)
    if table.last_weight >= 0:
        by_weight[table.last_weight] -= table.tail_bytes.max(axis=1)
    fixed = table.fixed_file_bytes + table.fixed_proto_bytes + int(extra_bytes(ends[before] + records[:-1]).sum())
    fixed += table.rounding_bytes(int8)
    # The lengths of the messages around the ops may take one byte less each.
    fixed -= offset_bytes(table, table.start) + table.build_info_bytes + len(table.enclosing_bytes)
    return Additive(fixed, np.where(allowed, by_weight, 0.0))


def _shares(table: CostTable, allowed: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Divide each shared tensor evenly among all weights that may need it."""
    shares = np.zeros(allowed.shape)
    if not table.shared_file_bytes.size:
        return shares
    needed = np.where(allowed[:, :, None], table.shared, -1).astype(np.int64)
    rows = np.broadcast_to(np.arange(len(allowed))[:, None, None], needed.shape)
    pairs = np.unique(np.stack([needed[needed >= 0], rows[needed >= 0]]), axis=1)
    each = table.shared_file_bytes / np.maximum(np.bincount(pairs[0], minlength=len(table.shared_file_bytes)), 1)
    for slot in range(needed.shape[2]):
        tensor = needed[:, :, slot]
        repeated = (needed[:, :, :slot] == tensor[:, :, None]).any(axis=2)
        shares += np.where((tensor >= 0) & ~repeated, each[tensor], 0.0)
    return shares


def _by_ops(
    table: CostTable,
    metric: Metric,
    allowed: NDArray[np.bool_],
    at: NDArray[np.integer],
    int8: NDArray[np.bool_] | None,
) -> Additive:
    """Add up over ops: an op that reads one weight with a choice costs exactly what it costs under each scheme."""
    read, ops = table.op_weights, np.repeat(np.arange(len(table.launch_ms)), np.diff(table.op_weights_start))
    chooses = allowed.sum(axis=1) > 1
    choices = np.bincount(ops, weights=chooses[read], minlength=len(table.launch_ms))
    by_weight = np.zeros(allowed.shape)
    one = (choices[ops] == 1) & chooses[read]
    for column in range(allowed.shape[1]):
        priced = price_ops(table, np.where(allowed[:, column], column, at), int8)
        spent = priced.op_ms if metric == "latency" else priced.op_mj
        by_weight[:, column] += np.bincount(read[one], weights=spent[ops[one]], minlength=len(allowed))
    priced = price_ops(table, at, int8)
    spent = priced.op_ms if metric == "latency" else priced.op_mj
    several = choices > 1
    fixed = float(spent[choices == 0].sum())
    of_several = several[ops]
    stream = table.op_weights_share[:, None] * table.stream_ms[read]
    moved = table.op_weights_share[:, None] * table.resident_bytes[read]
    compute, activation = table.compute_ms.copy(), table.activation_ms.copy()
    eights = np.zeros(len(table.int8_ops), dtype=np.bool_) if int8 is None else int8[table.int8_ops]
    for part, eight in ((compute, table.int8_ms[0]), (activation, table.int8_ms[1])):
        part[table.int8_ops[eights]] = np.minimum(part[table.int8_ops[eights]], eight[eights])
    streamed = np.bincount(ops, weights=stream[np.arange(len(read)), at[read]], minlength=len(compute))
    waits = several & (activation + streamed >= compute)  # for its weights, not for its products
    least_ms = np.where(several, table.launch_ms + np.where(waits, activation, compute), 0.0)
    stream = np.where(waits[ops][:, None], stream, 0.0)
    if metric == "latency":
        fixed += table.dispatch_ms + float(least_ms.sum())
        terms = stream
    else:
        fixed += table.dispatch_ms * table.main_unit.active_w
        fixed += float((several * table.work_mj + table.active_w * least_ms).sum())
        terms = table.byte_mj[ops][:, None] * moved + table.active_w[ops][:, None] * stream
    np.add.at(by_weight, read[of_several], terms[of_several])
    return Additive(fixed, np.where(allowed, by_weight, 0.0))
