"""Price a plan from a cost table: a look-up and a sum. The browser does the same in `js/src/estimate.ts`."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isnan, log10
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from talaria_nb.energy import ENERGY_FACTOR
from talaria_nb.latency import BOUNDS, bound, difference_interval, plan_interval, ratio_interval
from talaria_nb.stored_tensors import FILE_HEADER_BYTES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from talaria_nb.costs import CostTable
    from talaria_nb.graded import GradedError


@dataclass(frozen=True, slots=True)
class Estimate:
    """The totals of one plan on one device.

    Attributes
    ----------
    size_bytes
        Whole package on disk as `Plan.compress` writes it, within 0.01 %: the program text is built and counted.
        coremltools' own functions add index arithmetic, some 640 bytes, for each embedding and each pass from iOS17
        on; `Plan.compress` does not. For each tensor that int8 activations round they write some 30 bytes less.
    weight_file_bytes
        `weight.bin`, exact to the byte.
    bits_per_weight
        Stored bits (tables and scales included) over elements, of all weights. Exact.
    latency_ms
        Estimated time of one prediction.
    latency_interval
        80 % interval of `latency_ms` (low, high), calibrated on published measurements that the fit had not seen;
        wider for a plan that changes the latency.
    peak_memory_bytes
        Memory that a loaded model takes at the fullest moment of a prediction: its weights, as stored where the unit
        reads the format and dense elsewhere, its other constants, states, and the activations alive then. Exact for
        the order in which the program lists its ops and one buffer a tensor; Core ML may reorder and fuse.
    energy_mj
        Energy of one prediction, millijoules: a rough guess (`talaria_nb.energy`).
    energy_interval
        (low, high): `energy_mj` is known to a factor of 2.5 each way.
    device, compute_unit
        What the latency was estimated for.
    weight_error
        Squared error of all weights over the sum of their squares, None where it is not known: `session.estimate` knows
        it soon after the Explorer is shown. It grades the weights, not the model's output, which is more sensitive to
        some weights than to others.
    batch
        Items that one prediction takes.
    """

    size_bytes: int
    weight_file_bytes: int
    bits_per_weight: float
    latency_ms: float
    latency_interval: tuple[float, float]
    peak_memory_bytes: int
    energy_mj: float
    energy_interval: tuple[float, float]
    device: str
    compute_unit: str
    weight_error: float | None = None
    batch: int = 1

    @property
    def sqnr_db(self) -> float | None:
        """Signal to quantization noise of all weights, -10·log₁₀(weight_error) in dB; infinite without any error."""
        if self.weight_error is None:
            return None
        return decibels(self.weight_error)

    @property
    def throughput_per_s(self) -> float:
        """Items a second, one prediction after the other."""
        return 1000 * self.batch / self.latency_ms


@dataclass(frozen=True, slots=True, eq=False)
class OpCosts:
    """What each op costs under one plan.

    Attributes
    ----------
    op_ms
        float64, shape (ops,).
    bound
        One of `latency.BOUNDS`. Shape (ops,).
    weight_bytes
        Payload of the weights that the op reads. float64, shape (ops,).
    moved_bytes
        Bytes of weights that the op brings in: as stored or dense, as its unit reads them, and of a look-up table only
        the rows read. float64, shape (ops,).
    op_mj
        Energy, float64, shape (ops,).
    """

    op_ms: NDArray[np.float64]
    bound: NDArray[np.str_]
    weight_bytes: NDArray[np.float64]
    moved_bytes: NDArray[np.float64]
    op_mj: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two plans of one model on one device.

    Attributes
    ----------
    plan, other
        Their estimates, each with its own interval.
    difference_ms
        Latency of the plan - that of the other: negative where the plan is faster.
    difference_interval
        80 % interval of `difference_ms` (low, high). Narrower than the intervals of the two suggest: what is wrong
        about the model or the device is wrong about both and cancels.
    ratio
        Latency of the plan / that of the other.
    ratio_interval
        80 % interval of `ratio`.
    difference_bytes
        Size of the plan - that of the other.
    loss, other_loss
        What each costs in accuracy, with its grade, in one measure; None where that is not known of both.
    """

    plan: Estimate
    other: Estimate
    difference_ms: float
    difference_interval: tuple[float, float]
    ratio: float
    ratio_interval: tuple[float, float]
    difference_bytes: int
    loss: GradedError | None = None
    other_loss: GradedError | None = None


def price(table: CostTable, columns: NDArray[np.integer], int8: NDArray[np.bool_] | None = None) -> Estimate:
    """Price a plan from a cost table: look up and sum.

    Parameters
    ----------
    table
        The prices.
    columns
        Column of each weight's scheme; int64, shape (weights,). Not checked for legality.
    int8
        Whether each op reads int8 activations, shape (ops,). None if none does.
    """
    rows = np.arange(len(columns))
    needed = table.shared[rows, columns]
    shared = np.unique(needed)
    weight_file_bytes = (
        table.fixed_file_bytes
        + float(table.file_bytes[rows, columns].sum())
        + float(table.shared_file_bytes[shared[shared >= 0]].sum())
        - _tail_bytes(table, columns, needed)
    )
    growth = int(table.proto_bytes[rows, columns].sum()) + table.rounding_bytes(int8)
    if growth or (columns != table.start).any():
        growth += _rest_of_growth(table, columns, growth)
    proto_bytes = table.fixed_proto_bytes + growth
    elements = float(table.elements.sum())
    payload = float(table.payload_bytes[rows, columns].sum())
    ops = price_ops(table, columns, int8)
    latency_ms = table.dispatch_ms + float(ops.op_ms.sum())
    before_ms = start_ms(table)
    low, high = plan_interval(table.main_unit, table.interval, latency_ms / before_ms if before_ms else 1.0)
    energy_mj = table.dispatch_ms * table.main_unit.active_w + float(ops.op_mj.sum())
    return Estimate(
        size_bytes=int(weight_file_bytes + proto_bytes),
        weight_file_bytes=int(weight_file_bytes),
        bits_per_weight=8 * payload / elements if elements else 0.0,
        latency_ms=latency_ms,
        latency_interval=(latency_ms * low, latency_ms * high),
        peak_memory_bytes=table.fixed_memory_bytes + int(table.resident_bytes[rows, columns].sum()),
        energy_mj=energy_mj,
        energy_interval=(energy_mj / ENERGY_FACTOR, energy_mj * ENERGY_FACTOR),
        device=table.device,
        compute_unit=table.compute_unit,
        weight_error=_weight_error(table, columns),
        batch=table.batch,
    )


def compared(
    table: CostTable,
    plan: Estimate,
    other: Estimate,
    losses: tuple[GradedError, GradedError] | tuple[None, None] = (None, None),
) -> Comparison:
    """Set two plans of one model side by side, both priced from tables of the device and unit of `table`."""
    ratio = plan.latency_ms / other.latency_ms
    low, high = ratio_interval(table.main_unit, ratio)
    return Comparison(
        plan=plan,
        other=other,
        difference_ms=plan.latency_ms - other.latency_ms,
        difference_interval=difference_interval(table.main_unit, other.latency_ms, plan.latency_ms),
        ratio=ratio,
        ratio_interval=(ratio * low, ratio * high),
        difference_bytes=plan.size_bytes - other.size_bytes,
        loss=losses[0],
        other_loss=losses[1],
    )


def decibels(noise_to_signal: float) -> float:
    """Return a signal to noise in dB, -10·log₁₀ of noise to signal; infinite without any noise."""
    return -10 * log10(noise_to_signal) if noise_to_signal else inf


def offset_bytes(table: CostTable, columns: NDArray[np.integer]) -> int:
    """Count the bytes of all offsets in `weight.bin` that the program proto holds, but one for each.

    The first tensor of a weight is taken to be its largest: the others lie behind it.
    """
    rows = np.arange(len(columns))
    before, sizes = table.fixed_records.T.astype(np.int64)
    ends = np.concatenate([[0], np.cumsum(table.file_bytes[rows, columns])])
    fixed = np.concatenate([[0], np.cumsum(sizes)])
    behind = np.searchsorted(before, rows, side="right")
    starts = FILE_HEADER_BYTES + ends[:-1] + fixed[behind]
    tensors = table.tensors[rows, columns].astype(np.int64)
    others = np.maximum(tensors - 1, 0) * extra_bytes(starts + table.file_bytes[rows, columns])
    first = (tensors > 0) * extra_bytes(starts)
    return int((first + others).sum() + extra_bytes(FILE_HEADER_BYTES + ends[before] + fixed[:-1]).sum())


def _rest_of_growth(table: CostTable, columns: NDArray[np.integer], ops: int) -> int:
    """Count by how much the program proto grows apart from the ops: offsets, build information, lengths of messages."""
    offsets = offset_bytes(table, columns) - offset_bytes(table, table.start)
    growth = offsets + ops
    lengths, messages = 0, table.enclosing_bytes.tolist()
    for number, before in enumerate(messages, start=1):
        lost = table.build_info_bytes if number == len(messages) else 0  # it lies in the outermost
        now, then = extra_bytes(np.array([before + growth + lengths - lost, before], dtype=np.float64)).tolist()
        lengths += now - then
    return offsets + lengths - table.build_info_bytes


def extra_bytes(offsets: NDArray[np.float64]) -> NDArray[np.int64]:
    """Count the bytes of whole numbers in a proto beyond the first: seven bits go into each."""
    return np.searchsorted([2**7, 2**14, 2**21, 2**28, 2**35], offsets, side="right")


def _weight_error(table: CostTable, columns: NDArray[np.integer]) -> float | None:
    error = float(table.squared_error[np.arange(len(columns)), columns].sum(dtype=np.float64))
    signal = float(table.signal.sum())
    if isnan(error) or isnan(signal):
        return None
    return error / signal if error else 0.0


def _tail_bytes(table: CostTable, columns: NDArray[np.integer], needed: NDArray[np.int32]) -> float:
    """Return the padding that `weight.bin` is spared after its last tensor."""
    if table.last_weight < 0:
        return 0.0
    column = columns[table.last_weight]
    shared = table.tail_shared[column]
    others = np.delete(needed, table.last_weight, axis=0)
    return float(table.tail_bytes[column, int(shared >= 0 and bool((others == shared).any()))])


def start_ms(table: CostTable) -> float:
    """Estimate the latency of the model as it was loaded."""
    return table.dispatch_ms + float(price_ops(table, table.start).op_ms.sum())


def price_ops(table: CostTable, columns: NDArray[np.integer], int8: NDArray[np.bool_] | None = None) -> OpCosts:
    """Price every op under a plan; parameters as in `price`."""
    read = table.op_weights
    times = _times(table, columns, int8)
    memory_ms = times.activation_ms + sum_by_op(table, table.op_weights_share * table.stream_ms[read, columns[read]])
    op_ms = times.launch_ms + np.maximum(times.compute_ms, memory_ms)
    moved_bytes = sum_by_op(table, table.op_weights_share * table.resident_bytes[read, columns[read]])
    return OpCosts(
        op_ms=op_ms,
        bound=np.array(BOUNDS)[bound(times, memory_ms)],
        weight_bytes=sum_by_op(table, table.payload_bytes[read, columns[read]]),
        moved_bytes=moved_bytes,
        op_mj=table.work_mj + table.byte_mj * moved_bytes + table.active_w * op_ms,
    )


class _Times(NamedTuple):
    """Parts of each op's time under one plan, as in `latency.OpTimes`."""

    launch_ms: NDArray[np.float64]
    compute_ms: NDArray[np.float64]
    activation_ms: NDArray[np.float64]
    products_ms: NDArray[np.float64]
    traffic_ms: NDArray[np.float64]


def _times(table: CostTable, columns: NDArray[np.integer], int8: NDArray[np.bool_] | None) -> _Times:
    """Look up the parts of each op's time: those of W8A8 where an op's activations and all of its weights are int8."""
    parts = [table.compute_ms, table.activation_ms, table.products_ms, table.traffic_ms]
    if int8 is not None and int8[table.int8_ops].any():
        others = sum_by_op(table, ~table.int8_schemes[columns[table.op_weights]])
        both = int8[table.int8_ops] & (others[table.int8_ops] == 0)
        parts = [part.copy() for part in parts]
        for part, eight in zip(parts, table.int8_ms, strict=True):
            part[table.int8_ops[both]] = eight[both]
    return _Times(table.launch_ms, *parts)


def sum_by_op(table: CostTable, per_read: NDArray[np.generic]) -> NDArray[np.float64]:
    """Add up what is known of each weight that an op reads (as `table.op_weights` lists them), op by op."""
    ops = np.repeat(np.arange(len(table.launch_ms)), np.diff(table.op_weights_start))
    return np.bincount(ops, weights=per_read, minlength=len(table.launch_ms)).astype(np.float64, copy=False)
