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
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from talaria_nb.schemes import Float16, Palettize, part
from talaria_nb.work import Kind, Work

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from talaria_nb.devices import Device, Unit
    from talaria_nb.program import Program
    from talaria_nb.schemes import Scheme


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
    dispatch_ms
        Once a prediction.
    interval
        80 % interval of a program's total, as factors (low, high) of it.

    Notes
    -----
    An op's time is `launch + max(compute, activation + Σ stream of its weights)`.
    """

    launch_ms: NDArray[np.float64]
    compute_ms: NDArray[np.float64]
    activation_ms: NDArray[np.float64]
    dispatch_ms: float
    interval: tuple[float, float]


def op_times(program: Program, work: Work, device: Device, compute_unit: str = "all") -> OpTimes:
    """Price the work of every op on one compute unit of a device.

    Parameters
    ----------
    program
        Whose work it is.
    work
        What `count_work(program)` returned.
    device, compute_unit
        See `Device.unit`.

    Returns
    -------
    OpTimes
        How far weights run ahead is taken from the dense program. A plan that compresses some weights lets the others
        run further ahead than this says, so its time is an upper estimate.
    """
    if len(work) != len(program.ops):
        message = f"The work has {len(work)} ops, but the program {program.name!r} has {len(program.ops)}."
        raise ValueError(message)
    unit = device.unit(compute_unit)
    parts = op_parts(unit, work)
    busy = parts.compute_ms + parts.traffic_ms
    # When each op could start is a running maximum: T_k - B_k = max(0, max over j <= k of S_j - B_j), where B and S
    # are the running sums of the ops and of the stream of their weights.
    ahead = np.cumsum(parts.launch_ms + busy)
    arrived = np.cumsum(parts.stream_ms)
    ended = ahead + np.maximum.accumulate(np.maximum(arrived - ahead, 0.0))
    started = np.concatenate(([0.0], ended[:-1]))
    waiting = (arrived - parts.stream_ms) - started - parts.launch_ms
    # Where activations are most of the work and no weight to speak of is read, memory is what the op waits for.
    moving = (parts.traffic_ms > parts.compute_ms) & (parts.stream_ms <= _NEGLIGIBLE * busy)
    return OpTimes(
        launch_ms=parts.launch_ms,
        compute_ms=np.where(moving, parts.compute_ms, busy),
        activation_ms=np.where(moving, np.maximum(busy - parts.stream_ms, waiting), waiting),
        dispatch_ms=unit.dispatch_ms,
        interval=(unit.interval_low, unit.interval_high),
    )


_NEGLIGIBLE = 0.05


class Parts(NamedTuple):
    """Times of every op before they are overlapped; float64, shape (ops,)."""

    launch_ms: NDArray[np.float64]
    compute_ms: NDArray[np.float64]
    traffic_ms: NDArray[np.float64]
    stream_ms: NDArray[np.float64]


def op_parts(unit: Unit, work: Work) -> Parts:
    """Price launch, products, activation traffic and the stream of dense weights of every op, each on its own.

    Parameters
    ----------
    unit
        The compute unit's parameters.
    work
        One row an op.
    """
    rate = np.array(_rates(unit))[work.kind] * 1e9  # FLOPs a ms
    convolution = work.kind <= Kind.GROUPED
    narrow = np.minimum(work.channels_in, work.channels_out)
    idle = np.where(convolution, 1.0 + unit.channel_half / narrow, 1.0)
    sequence = (work.kind == Kind.LINEAR) | (work.kind == Kind.MATMUL)
    return Parts(
        launch_ms=np.where(work.kind < Kind.FUSED, unit.launch_ms, 0.0),
        compute_ms=work.flops * idle / rate,
        traffic_ms=work.traffic_bytes * np.where(sequence, unit.sequence_traffic, 1.0) / (unit.activation_gbps * 1e6),
        stream_ms=work.stream_bytes / (unit.stream_gbps * 1e6),
    )


def _rates(unit: Unit) -> tuple[float, ...]:
    """Sustained TFLOPS of each `Kind`; what only moves data computes for free."""
    rate = unit.compute_tflops
    free = np.inf
    return (rate, rate * unit.grouped_efficiency, rate * unit.depthwise_efficiency, rate, rate, free, free, free)


def stream_ms(
    device: Device,
    compute_unit: str,
    scheme: Scheme,
    payload_bytes: NDArray[np.float64],
    *,
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
    unit = device.unit(compute_unit)
    payload = np.asarray(payload_bytes, dtype=np.float64)
    if isinstance(scheme, Float16):
        return payload / (unit.stream_gbps * 1e6)
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
