"""The time that the work of an op takes on a device.

An op's time is `launch + max(compute, activation + Σ stream of its weights)`, and a program's is `dispatch + Σ ops`.
Times come from the parameters of a `Unit`, which are fitted (`talaria_nb.devices.calibrate`), and are only as good as
the interval says.

The model behind it has two workers. One runs the ops in order: a launch, the products, the traffic of activations, one
after the other. The other brings the weights, in the same order and without a pause, from the moment the prediction
starts; an op ends when both are through with it. So a weight costs time only where weights arrive later than the work
before them gets done, which is why compressing a CNN hardly shows and compressing a language model does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from talaria_nb.devices import UNITS
from talaria_nb.op_types import Kind
from talaria_nb.schemes import Float16, LinearQuantize, Palettize, Prune, part

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from talaria_nb.devices import Device, Format, Unit
    from talaria_nb.program import Program
    from talaria_nb.schemes import Scheme
    from talaria_nb.work import Work

BOUNDS = ("launch", "compute", "weight-memory", "activation-memory")
"""What an op can wait for, in the order of `bound`'s codes."""


@dataclass(frozen=True, slots=True, eq=False)
class OpTimes:
    """Times of every op on one device, apart from the streaming of its weights.

    Attributes
    ----------
    launch_ms
        Per op, what it costs to start it. float64.
    compute_ms
        Per op, the products and the activation traffic that does not overlap them. float64.
    activation_ms
        Per op, what to add to the stream of its weights to get the time until they have arrived, counted from when the
        op could start: negative where weights came while earlier ops ran. For ops that mostly move activations it is
        their time. float64.
    products_ms, traffic_ms
        Per op, the two parts of its work: its products, and the reading and writing of activations. float64.
    dispatch_ms
        Once a prediction.
    interval
        80 % interval of a program's total, as factors (low, high) of it.
    op_interval
        The same for the time of one op: wider, because the errors of the ops of a model partly cancel.
    main_unit
        The unit where most of the time is spent.

    Notes
    -----
    An op's time is `launch + max(compute, activation + Σ stream of its weights)`.
    """

    launch_ms: NDArray[np.float64]
    compute_ms: NDArray[np.float64]
    activation_ms: NDArray[np.float64]
    products_ms: NDArray[np.float64]
    traffic_ms: NDArray[np.float64]
    dispatch_ms: float
    interval: tuple[float, float]
    op_interval: tuple[float, float]
    main_unit: Unit


def op_times(
    program: Program,
    work: Work,
    device: Device,
    compute_unit: str = "all",
    *,
    activation_bits: ArrayLike = 16,
    units: NDArray[np.integer] | None = None,
    transfer_ms: ArrayLike = 0.0,
) -> OpTimes:
    """Price the work of every op.

    Parameters
    ----------
    program
        Whose work it is.
    work
        What `count_work(program)` returned.
    device, compute_unit
        See `Device.unit`.
    activation_bits
        16, or 8 where activations and weights are int8 (W8A8); one number, or one an op.
    units, transfer_ms
        Where each op runs and what it costs to hand it what other units computed, as in `placement.Placement`. Without
        them every op runs on the unit asked for.

    Returns
    -------
    OpTimes
        How far weights run ahead is taken from the dense program. A plan that compresses some weights lets the others
        run further ahead than this says, so its time is an upper estimate. The intervals are those of the unit where
        most of the time is spent, wider by the share of the time that is spent on others.
    """
    if len(work) != len(program.ops):
        message = f"The work has {len(work)} ops, but the program {program.name!r} has {len(program.ops)}."
        raise ValueError(message)
    asked = device.unit(compute_unit)
    if units is None:
        units = np.full(len(work), UNITS.index(device.unit_name(compute_unit)))
    parts = _placed_parts(device, units, work, activation_bits)
    parts = parts._replace(launch_ms=parts.launch_ms + np.asarray(transfer_ms, dtype=np.float64))
    busy = parts.compute_ms + parts.traffic_ms
    # When each op could start is a running maximum: T_k - B_k = max(0, max over j <= k of S_j - B_j), where B and S
    # are the running sums of the ops and of the stream of their weights.
    ahead = np.cumsum(parts.launch_ms + busy)
    arrived = np.cumsum(parts.stream_ms + parts.state_ms)  # states come from memory, too, whatever the plan
    ended = ahead + np.maximum.accumulate(np.maximum(arrived - ahead, 0.0))
    started = np.concatenate(([0.0], ended[:-1]))
    waiting = (arrived - parts.stream_ms) - started - parts.launch_ms
    # Where activations are most of the work and no weight to speak of is read, memory is what the op waits for.
    moving = (parts.traffic_ms > parts.compute_ms) & (parts.stream_ms <= _NEGLIGIBLE * busy)
    unit, elsewhere = _main_unit(device, asked, units, parts)
    wider = 1.0 + min(1.0, novelty(unit, work, parts) + elsewhere)
    return OpTimes(
        launch_ms=parts.launch_ms,
        compute_ms=np.where(moving, parts.compute_ms, busy),
        activation_ms=np.where(moving, np.maximum(busy - parts.stream_ms, waiting), waiting),
        products_ms=parts.compute_ms,
        traffic_ms=parts.traffic_ms,
        dispatch_ms=asked.dispatch_ms,
        interval=(unit.interval_low**wider, unit.interval_high**wider),
        op_interval=(
            unit.interval_low ** (wider * unit.op_widening),
            unit.interval_high ** (wider * unit.op_widening),
        ),
        main_unit=unit,
    )


def _placed_parts(device: Device, units: NDArray[np.integer], work: Work, activation_bits: ArrayLike) -> Parts:
    """Price every op on its own unit."""
    used = np.unique(units).tolist()
    if len(used) == 1:
        return op_parts(device.units[UNITS[used[0]]], work, activation_bits=activation_bits)
    columns = [np.zeros(len(work)) for _ in Parts._fields]
    for code in used:
        there = units == code
        priced = op_parts(device.units[UNITS[code]], work, activation_bits=activation_bits)
        for column, values in zip(columns, priced, strict=True):
            column[there] = values[there]
    return Parts(*columns)


def _main_unit(device: Device, asked: Unit, units: NDArray[np.integer], parts: Parts) -> tuple[Unit, float]:
    """Return the unit where most of the time is spent, and the share of the time that is spent on others."""
    spent = parts.launch_ms + np.maximum(parts.compute_ms + parts.traffic_ms, parts.stream_ms)
    shares = np.bincount(units, weights=spent, minlength=len(UNITS)) / max(spent.sum(), _TINY)
    if not shares.any():
        return asked, 0.0
    return device.units[UNITS[int(shares.argmax())]], float(1.0 - shares.max())


_NEGLIGIBLE = 0.05


class Parts(NamedTuple):
    """Times of every op before they are overlapped; float64, shape (ops,)."""

    launch_ms: NDArray[np.float64]
    compute_ms: NDArray[np.float64]
    traffic_ms: NDArray[np.float64]
    stream_ms: NDArray[np.float64]
    state_ms: NDArray[np.float64]


def op_parts(unit: Unit, work: Work, *, activation_bits: ArrayLike = 16) -> Parts:
    """Price launch, products, activation traffic and the stream of dense weights of every op, each on its own.

    Parameters
    ----------
    unit
        The compute unit's parameters.
    work
        One row an op.
    activation_bits
        As in `op_times`. The stream is that of float16 weights all the same.
    """
    bits = np.asarray(activation_bits)
    rate = np.array(_rates(unit))[work.kind] * 1e9  # FLOPs a ms
    rate = rate * np.where(bits <= _INT8_BITS, unit.int8_speedup, 1.0)
    return Parts(
        launch_ms=np.where(work.kind < Kind.FUSED, unit.launch_ms, 0.0)
        + np.where(work.kind == Kind.MATMUL, unit.product_launch_ms, 0.0),
        compute_ms=work.flops * _idle(unit, work) / rate,
        traffic_ms=work.traffic_bytes * (bits / 16) * _moved(unit, work) / (unit.activation_gbps * 1e6),
        stream_ms=work.stream_bytes / (unit.stream_gbps * 1e6),
        state_ms=work.state_bytes / (unit.stream_gbps * 1e6),
    )


_INT8_BITS = 8


def _idle(unit: Unit, work: Work) -> NDArray[np.float64]:
    """How much longer convolutions take for their shape: channels and columns that fill no block, 3×3 kernels."""
    dense = work.kind <= Kind.GROUPED
    spatial = (work.kind <= Kind.DEPTHWISE) & (work.reduction > work.channels_in)
    small = dense & (work.reduction == _SMALL_KERNEL * work.channels_in)
    idle = np.where(dense, 1.0 + unit.channel_half / np.maximum(work.channels_in, work.channels_out), 1.0)
    for count, step, concerned in (
        (work.channels_in, unit.channel_step, dense),
        (work.channels_out, unit.channel_step, dense),
        (work.width, unit.width_step, spatial),
    ):
        idle = idle * np.where(concerned, np.ceil(count / step) * step / np.maximum(count, 1), 1.0)
    return idle / np.where(small, unit.small_kernel_speedup, 1.0)


_SMALL_KERNEL = 9


def _moved(unit: Unit, work: Work) -> NDArray[np.float64]:
    """Return how often the activations of each op are moved."""
    times = np.ones(len(Kind))
    times[[Kind.LINEAR, Kind.MATMUL]] = unit.sequence_traffic
    times[Kind.DEPTHWISE] = unit.depthwise_traffic
    return times[work.kind]


def _rates(unit: Unit) -> tuple[float, ...]:
    """Sustained TFLOPS of each `Kind`; what only moves data computes for free."""
    rate = unit.compute_tflops
    free = np.inf
    return (rate, rate * unit.grouped_efficiency, rate * unit.depthwise_efficiency, rate, rate, free, free, free)


def time_shares(work: Work, parts: Parts) -> NDArray[np.float64]:
    """Share of each of the first six kinds of `Kind` in the time of a program's ops. float64, shape (6,)."""
    spent = parts.launch_ms + np.maximum(parts.compute_ms + parts.traffic_ms, parts.stream_ms)
    shares = np.bincount(work.kind, weights=spent, minlength=len(Kind))[: Kind.FUSED]
    return np.asarray(shares / max(spent.sum(), _TINY))


_TINY = 1e-12


def novelty(unit: Unit, work: Work, parts: Parts) -> float:
    """Return how unlike the models of the fit a program's mix of ops is: 0, alike, to 1, nothing in common.

    Parameters
    ----------
    unit
        Whose `seen_…` say the largest share of each kind of op among the models of the fit.
    work, parts
        Of the program.

    Notes
    -----
    It is the share of the time that is spent in a kind of op beyond the largest share that the fit has seen, and in op
    types that nothing is known about. An interval grows by as much, in log units: to twice its width for a program that
    has nothing in common with the fit. That is an assumption; no measurement says how fast errors grow there.
    """
    seen = (
        unit.seen_conv,
        unit.seen_grouped,
        unit.seen_depthwise,
        unit.seen_linear,
        unit.seen_matmul,
        unit.seen_pass,
    )
    beyond = np.maximum(time_shares(work, parts) - np.array(seen), 0.0).sum()
    spent = parts.launch_ms + parts.compute_ms + parts.traffic_ms
    unknown = spent[work.unknown].sum() / max(spent.sum(), _TINY)
    return float(min(1.0, beyond + unknown))


def bound(times: Times, memory_ms: NDArray[np.float64]) -> NDArray[np.int8]:
    """Say what each op waits for.

    Parameters
    ----------
    times
        Of the ops.
    memory_ms
        `times.activation_ms` plus the stream of each op's weights under a plan. float64, shape (ops,).

    Returns
    -------
    numpy.ndarray
        Index into `BOUNDS`, int8, shape (ops,).
    """
    work_ms = times.products_ms + times.traffic_ms
    # An op that mostly moves activations has their time in `activation_ms`, and so has an op that waits for weights.
    by_weights = memory_ms > work_ms * (1 + ROUNDING)
    code = np.where(by_weights, 2, np.where(times.traffic_ms > times.products_ms, 3, 1))
    return np.where(times.launch_ms >= np.maximum(times.compute_ms, memory_ms), 0, code).astype(np.int8)


ROUNDING = 1e-9
"""Sums that stand for the same time may differ by so much of it."""


class Times(Protocol):
    """Times of ops: `OpTimes`, or those of a cost table."""

    @property
    def launch_ms(self) -> NDArray[np.float64]: ...
    @property
    def compute_ms(self) -> NDArray[np.float64]: ...
    @property
    def products_ms(self) -> NDArray[np.float64]: ...
    @property
    def traffic_ms(self) -> NDArray[np.float64]: ...


def ratio_interval(unit: Unit, ratio: float) -> tuple[float, float]:
    """80 % interval of the ratio of two latencies of one model on one device, as factors of the estimated ratio.

    Parameters
    ----------
    unit
        The compute unit.
    ratio
        Estimated latency of one plan / that of the other.

    Notes
    -----
    What is wrong about a model or a device is wrong about both plans and cancels, so this is narrower than the interval
    of either. Calibrated on pairs of published rows: the same model on the same phone by the same lab, compressed and
    float16.
    """
    half = np.hypot(unit.difference_floor, _changed(unit, ratio))
    return float(np.exp(-half)), float(np.exp(half))


def _changed(unit: Unit, ratio: float) -> float:
    """Half-width, in log units, of what a plan adds by changing the latency: all of it from a change of a fifth."""
    return unit.difference_spread * min(1.0, abs(float(np.log(ratio))) / LARGE_CHANGE)


LARGE_CHANGE = float(np.log(1.2))
"""A change of the latency, in log units, from which on its interval grows no more."""


def difference_interval(unit: Unit, before_ms: float, after_ms: float) -> tuple[float, float]:
    """80 % interval of `after - before`, two plans on one model and device, in ms.

    Parameters
    ----------
    unit
        The compute unit.
    before_ms, after_ms
        The two estimates.
    """
    low, high = ratio_interval(unit, after_ms / before_ms)
    return before_ms * (after_ms / before_ms * low - 1), before_ms * (after_ms / before_ms * high - 1)


def plan_interval(unit: Unit, interval: tuple[float, float], ratio: float) -> tuple[float, float]:
    """80 % interval of a plan's total, as factors of it: the float16 program's, wider by what the plan changes.

    Parameters
    ----------
    unit
        The compute unit.
    interval
        Of the float16 program (`OpTimes.interval`).
    ratio
        Estimated latency of the plan / that of the float16 program.

    Notes
    -----
    The errors of the float16 estimate and of the ratio are taken as independent.
    """
    added = _changed(unit, ratio)
    low, high = np.log(interval)
    return float(np.exp(-np.hypot(low, added))), float(np.exp(np.hypot(high, added)))


def stored_formats(scheme: Scheme) -> frozenset[Format]:
    """Return the formats that a unit has to read to stream a weight stored under a scheme; none for float16.

    Tables of integers (a palette that is quantized) are read as tables.
    """
    formats: set[Format] = set()
    palette, linear = part(scheme, Palettize), part(scheme, LinearQuantize)
    if palette is not None:
        formats.add("palette" if palette.group_size is None else "grouped_palette")
    elif linear is not None:
        formats.add("linear" if linear.block_size is None else "blocks")
    if part(scheme, Prune) is not None:
        formats.add("sparse")
    return frozenset(formats)


def stream_ms(
    device: Device,
    compute_unit: str,
    scheme: Scheme,
    payload_bytes: NDArray[np.float64],
    *,
    dense_bytes: NDArray[np.float64],
    tables: NDArray[np.float64] | float | None = None,
) -> NDArray[np.float64]:
    """Time to bring weights stored under one scheme to the compute unit.

    Parameters
    ----------
    device, compute_unit
        See `Device.unit`.
    scheme
        How every one of the weights is stored.
    payload_bytes
        Stored bytes of each weight: indices or values, tables, scales. float64, shape (weights,).
    dense_bytes
        Bytes of each weight uncompressed: what a unit reads that does not stream the scheme's format, because then
        weights are decompressed when the model is loaded. float64, shape (weights,).
    tables
        Look-up tables of each weight, for a palette with groups: output channels / group size. Where it is not given,
        a weight is taken to have 1,024 elements an output channel, the middle of what real layers have.

    Returns
    -------
    numpy.ndarray
        Milliseconds, float64, shape (weights,).

    Notes
    -----
    Decoding runs beside the transfer, so the slower of the two counts. A palette's decoder loads one table after the
    other, which is what makes narrow groups slow: OPT-1.3B on A17 Pro takes 30.7 ms with a table for two channels and
    59.1 ms, twice that, with a table a channel (coremltools' `opt-opt1_3` page). Pruned and joint schemes are taken to
    decode as fast as their stored bytes arrive, masks included, and vectors and tables of integers as fast as plain
    tables: no published measurement says otherwise, or anything at all.
    """
    return unit_stream_ms(device.unit(compute_unit), scheme, payload_bytes, dense_bytes=dense_bytes, tables=tables)


def streams(unit: Unit, scheme: Scheme) -> bool:
    """Say whether a unit reads weights stored under a scheme as they are, not decompressed when the model is loaded."""
    return isinstance(scheme, Float16) or (bool(unit.streams) and stored_formats(scheme) <= unit.streams)


def unit_stream_ms(
    unit: Unit,
    scheme: Scheme,
    payload_bytes: NDArray[np.float64],
    *,
    dense_bytes: NDArray[np.float64],
    tables: NDArray[np.float64] | float | None = None,
) -> NDArray[np.float64]:
    """`stream_ms` for a compute unit itself."""
    payload = np.asarray(payload_bytes, dtype=np.float64)
    if isinstance(scheme, Float16):
        return payload / (unit.stream_gbps * 1e6)
    if not streams(unit, scheme):
        return np.asarray(dense_bytes, dtype=np.float64) / (unit.stream_gbps * 1e6)
    moved = payload / (unit.compressed_stream_gbps * 1e6)
    palette = part(scheme, Palettize)
    if palette is not None and tables is None and palette.group_size is not None:
        nbits = palette.nbits or 8
        tables = payload * 8 / (nbits * palette.group_size * _ELEMENTS_A_CHANNEL + 16 * 2**nbits)
    if palette is not None and tables is not None:
        tables = np.where(np.asarray(tables) > 1, tables, 0)
        return np.maximum(moved, np.asarray(tables, dtype=np.float64) * unit.table_us * 1e-3)
    return moved


_ELEMENTS_A_CHANNEL = 1024
