"""Parametric latency models, and how they are fitted to measured rows and cross-validated."""

from __future__ import annotations

from dataclasses import dataclass, fields
from operator import attrgetter
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import numpy as np

from talaria_nb import latency
from talaria_nb.devices.unit import Unit
from talaria_nb.work import Work

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from talaria_nb.devices.measurements import Row

    Floats: TypeAlias = NDArray[np.float64]

from talaria_nb.devices.measurements import CHIPS_OF, MEASURED, REFERENCE, Rating, bits

ERROR = 0.12
"""Size of an ordinary error of a latency, in log units: what two labs differ by on one model and chip (8 % at the
median, `data/device_latency.csv`). Beyond it, an error counts linearly and no longer by its square."""

RATIO_ERROR = 0.06
"""The same for the ratio of a compressed model to the dense one, measured by one lab on one phone."""

Prior: TypeAlias = "tuple[float, float]"

# The parameters: start value, and how far (in log units) the data may pull it before it costs as much as an ordinary
# error. `utilisation` is held tight, because the rated speed is an upper bound. What a chip has of its own is a
# multiple of what all share, and held near it (partial pooling), because two of four chips have four rows each.
NEURAL_ENGINE: Mapping[str, Prior] = {
    "utilisation": (0.9, 0.1),
    "grouped_efficiency": (0.5, 1.0),
    "depthwise_efficiency": (0.15, 1.0),
    "channel_half": (30.0, 1.0),
    "activation_gbps": (75.0, 1.0),
    "sequence_traffic": (2.0, 0.7),
    "depthwise_traffic": (1.0, 0.5),
    "launch_ms": (0.001, 1.0),
    "product_launch_ms": (0.01, 1.5),
    "stream_gbps": (28.0, 0.3),
    "dispatch_ms": (0.15, 0.7),
    "speed A14": (0.9, 0.15),
    "speed A16": (1.2, 0.15),
    "speed A17 Pro": (1.25, 0.15),
    "int8 A16": (1.5, 0.3),
    "int8 A17 Pro": (2.0, 0.3),
} | {f"dispatch {chip}": (1.0, 0.35) for chip in MEASURED}

GPU: Mapping[str, Prior] = {
    "utilisation": (0.2, 1.0),
    "grouped_efficiency": (0.5, 0.5),
    "small_kernel_speedup": (2.25, 0.5),
    "bandwidth": (0.6, 1.0),
    "launch_ms": (0.03, 1.5),
    "launch Mac": (0.5, 0.7),
    "image_ms": (8.0, 0.7),
    "speed A10": (0.4, 0.5),
}
"""Rates are parts of the rated ones; A10's rate is not in `device_specs.csv`, so it is a multiple of A13's."""

CPU: Mapping[str, Prior] = {
    "compute_tflops": (0.12, 0.5),
    "grouped_efficiency": (0.5, 0.5),
    "small_kernel_speedup": (3.0, 0.2),
    "activation_gbps": (20.0, 1.0),
    "launch_ms": (0.03, 0.7),
    "image_ms": (4.0, 0.7),
    "speed A10": (0.4, 0.5),
    "speed Mac": (2.4, 0.7),
}
"""`speed Mac` starts at twice the performance cores and 1.2 times the clock of A13. It is one number for all Macs: M1
Max has twice the cores of M1 and is no faster in the table."""

MAC_DISPATCH_MS = 0.2
"""What a prediction on a Mac's CPU or GPU is taken to cost before its first op: as on M1's Neural Engine."""

GPU_TFLOPS_OF_ROWS = {"M1 Max": 7.96}
"""The 24-core part that the rows of M1 Max were measured on (`device_specs.csv`, note)."""


class _Group(NamedTuple):
    """The rows of a stack that share a chip and the width of activations, end to end; that width of every op."""

    chip: str
    activation_bits: NDArray[np.int64]
    work: Work
    start: NDArray[np.int64]
    kept: Floats
    rows: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """The work of many rows, grouped so that one call prices all rows of a chip."""

    groups: tuple[_Group, ...]
    log_ms: Floats

    @classmethod
    def of(cls, rows: Sequence[Row], works: Mapping[str, Work]) -> Stack:
        """Stack rows; `kept` is the part of its dense bytes that each row's scheme stores."""
        groups = []
        for chip, width in dict.fromkeys((row.chip, row.activation_bits) for row in rows):
            mine = [number for number, row in enumerate(rows) if (row.chip, row.activation_bits) == (chip, width)]
            parts = [works[rows[number].key] for number in mine]
            length = np.array([len(part) for part in parts], dtype=np.int64)
            columns = {
                field.name: np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Work)
            }
            groups.append(
                _Group(
                    chip,
                    np.where(columns["int8"], width, _FLOAT16_BITS),
                    Work(**columns),
                    np.concatenate(([0], np.cumsum(length)[:-1])),
                    np.repeat([bits(rows[number].scheme) / 16 for number in mine], length),
                    np.array(mine, dtype=np.int64),
                )
            )
        return cls(tuple(groups), np.log([row.measured_ms for row in rows]))

    def __len__(self) -> int:
        return len(self.log_ms)

    def price(self, units: Mapping[str, Unit]) -> Floats:
        """Milliseconds of each row, as `latency.op_times` adds them up."""
        total = np.zeros(len(self))
        for group in self.groups:
            unit = units[group.chip]
            parts = latency.op_parts(unit, group.work, activation_bits=group.activation_bits)
            packed = group.kept * unit.stream_gbps / unit.compressed_stream_gbps
            stream = parts.stream_ms * np.where((group.kept < 1) & bool(unit.streams), packed, 1.0)
            busy = parts.launch_ms + parts.compute_ms + parts.traffic_ms
            total[group.rows] = unit.dispatch_ms + overlapped(busy, stream, group.start)
        return total


def overlapped(busy: Floats, stream: Floats, start: NDArray[np.int64]) -> Floats:
    """Total of each row when its weights stream, in order, beside its ops: what `latency.op_times` adds up to."""
    ends = np.append(start[1:], len(busy))
    totals = np.empty(len(start))
    for row, (first, last) in enumerate(zip(start, ends, strict=True)):
        done, arrived = np.cumsum(busy[first:last]), np.cumsum(stream[first:last])
        totals[row] = done[-1] + max(0.0, float((arrived - done).max()))
    return totals


_FLOAT16_BITS = 16

Ratios: TypeAlias = "tuple[Stack, Stack] | None"


class Model:
    """A parametric latency model: names, start values, and a price for a stack."""

    def __init__(self, parameters: Mapping[str, Prior], price: Callable[[dict[str, float], Stack], Floats]) -> None:
        self.names = tuple(parameters)
        self.start = np.log([value for value, _ in parameters.values()])
        self.width = np.array([width for _, width in parameters.values()])
        self.price = price

    def values(self, point: Floats) -> dict[str, float]:
        """Parameters by name."""
        return dict(zip(self.names, np.exp(point).tolist(), strict=True))

    def predict(self, point: Floats, stack: Stack) -> Floats:
        """Milliseconds of each row of the stack."""
        return self.price(self.values(point), stack)

    def fit(self, stack: Stack, ratios: Ratios = None) -> Floats:
        """Fit to log latencies, and to log ratios of (compressed, dense) stacks, with a robust loss."""
        from scipy.optimize import least_squares  # type: ignore[import-untyped]  # noqa: PLC0415 - only fitting needs it

        def residuals(point: Floats) -> Floats:
            parts = [_soften((np.log(self.predict(point, stack)) - stack.log_ms) / ERROR)]
            if ratios is not None:
                small, dense = ratios
                predicted = np.log(self.predict(point, small) / self.predict(point, dense))
                parts.append(_soften((predicted - (small.log_ms - dense.log_ms)) / RATIO_ERROR))
            return np.concatenate([*parts, (point - self.start) / self.width])

        return np.asarray(least_squares(residuals, self.start, diff_step=1e-3, ftol=1e-5, max_nfev=60).x)


def _soften(errors: Floats) -> Floats:
    """Residuals whose squares grow like the errors themselves where those are large (soft L1)."""
    softened: Floats = np.sign(errors) * np.sqrt(2 * (np.sqrt(1 + errors**2) - 1))
    return softened


_PLAIN = {field.name: 1.0 for field in fields(Unit) if field.name not in ("streams", "provenance")} | {
    "channel_half": 0.0,
    "product_launch_ms": 0.0,
    "op_widening": 1.0,
    "difference_floor": 0.05,
    "difference_spread": 0.1,
}


def plain_unit(**values: float) -> Unit:
    """Make a unit without shape effects, streaming or an interval, apart from what is given."""
    return Unit(**{**_PLAIN, **values}, streams=frozenset(), provenance={})


def neural_engines(values: Mapping[str, float], rated: Mapping[str, Rating]) -> dict[str, Unit]:
    """Build each measured chip's Neural Engine from the fitted parameters."""
    built = {}
    for chip in MEASURED:
        speed = values.get(f"speed {chip}", 1.0)
        specs = rated["A15 (4-core GPU)" if chip == REFERENCE else chip]
        built[chip] = Unit(
            **{
                **_PLAIN,
                "dispatch_ms": values["dispatch_ms"] * values[f"dispatch {chip}"],
                "launch_ms": values["launch_ms"] / speed,
                "product_launch_ms": values["product_launch_ms"] / speed,
                "compute_tflops": values["utilisation"] * (specs.neural_engine_tflops or 0.0),
                "grouped_efficiency": values["grouped_efficiency"],
                "depthwise_efficiency": values["depthwise_efficiency"],
                "channel_half": values["channel_half"],
                "channel_step": BLOCK,
                "width_step": BLOCK,
                "activation_gbps": values["activation_gbps"] * speed,
                "sequence_traffic": values["sequence_traffic"],
                "depthwise_traffic": values["depthwise_traffic"],
                "stream_gbps": values["stream_gbps"] * speed,
                "compressed_stream_gbps": specs.dram_gbps or 0.0,
                "int8_speedup": values.get(f"int8 {chip}", 1.0),
            },
            streams=frozenset(["palette", "grouped_palette", "linear", "sparse"]),
            provenance={},
        )
    return built


BLOCK = 16.0
"""Channels and columns that the Neural Engine computes together: images 7 and 14 pixels wide cost as if they were 16
wide under kernels larger than 1×1. 8 or 32 instead of 16 fit the measured rows worse; 1×1 kernels see only a run
of pixels, and reach the rated speed on images of 8×8 (the Llama MLP on M1 Max, `data/device_latency.csv` line 233)."""


def gpus(values: Mapping[str, float], rated: Mapping[str, Rating]) -> dict[str, Unit]:
    """Build each measured chip's GPU from the fitted parameters."""
    built = {}
    for chip in CHIPS_OF["gpu"]:
        slow = values["speed A10"] if chip == "A10" else 1.0
        specs = rated["A13" if chip == "A10" else chip]
        tflops = GPU_TFLOPS_OF_ROWS.get(chip, specs.gpu_tflops or 0.0) * slow
        bandwidth = values["bandwidth"] * (specs.dram_gbps or 0.0) * slow
        mac = chip.startswith("M")
        built[chip] = plain_unit(
            dispatch_ms=MAC_DISPATCH_MS if mac else values["image_ms"] / slow,
            launch_ms=values["launch_ms"] * (values["launch Mac"] if mac else 1.0) / slow,
            compute_tflops=values["utilisation"] * tflops,
            grouped_efficiency=values["grouped_efficiency"],
            depthwise_efficiency=values["grouped_efficiency"],
            small_kernel_speedup=values["small_kernel_speedup"],
            activation_gbps=bandwidth,
            stream_gbps=bandwidth,
            compressed_stream_gbps=bandwidth,
        )
    return built


def cpus(values: Mapping[str, float], rated: Mapping[str, Rating]) -> dict[str, Unit]:
    """Build each measured chip's CPU from the fitted parameters."""
    del rated  # nothing is printed about CPUs
    built = {}
    for chip in CHIPS_OF["cpu"]:
        mac = chip.startswith("M")
        speed = values["speed Mac"] if mac else values["speed A10"] if chip == "A10" else 1.0
        built[chip] = plain_unit(
            dispatch_ms=MAC_DISPATCH_MS if mac else values["image_ms"] / speed,
            launch_ms=values["launch_ms"] / speed,
            compute_tflops=values["compute_tflops"] * speed,
            grouped_efficiency=values["grouped_efficiency"],
            depthwise_efficiency=values["grouped_efficiency"],
            small_kernel_speedup=values["small_kernel_speedup"],
            activation_gbps=values["activation_gbps"] * speed,
            stream_gbps=values["activation_gbps"] * speed,
            compressed_stream_gbps=values["activation_gbps"] * speed,
        )
    return built


BUILDERS = {"neural_engine": neural_engines, "gpu": gpus, "cpu": cpus}
PARAMETERS = {"neural_engine": NEURAL_ENGINE, "gpu": GPU, "cpu": CPU}


def unit_model(unit: str, rated: Mapping[str, Rating]) -> Model:
    """Build the model that the package uses for one of `UNITS`."""
    build = BUILDERS[unit]
    return Model(PARAMETERS[unit], lambda values, stack: stack.price(build(values, rated)))


def flops_model(chips: Sequence[str]) -> Model:
    """Build the first baseline: latency proportional to FLOPs, one rate a chip."""

    def price(values: dict[str, float], stack: Stack) -> Floats:
        total = np.zeros(len(stack))
        for group in stack.groups:
            flops = np.add.reduceat(group.work.flops.astype(np.float64), group.start)
            total[group.rows] = flops / (values[f"tflops {group.chip}"] * 1e9)
        return total

    return Model({f"tflops {chip}": (2.0, 2.0) for chip in chips}, price)


def roofline_model(chips: Sequence[str]) -> Model:
    """Build the second baseline: dispatch + Σ max(FLOPs / rate, bytes / bandwidth), one speed a chip."""
    parameters = {"tflops": (5.0, 1.0), "gbps": (50.0, 1.0)}
    parameters |= {f"speed {chip}": (1.0, 0.5) for chip in chips}
    parameters |= {f"dispatch_ms {chip}": (0.15, 0.7) for chip in chips}

    def price(values: dict[str, float], stack: Stack) -> Floats:
        total = np.zeros(len(stack))
        for group in stack.groups:
            work, speed = group.work, values[f"speed {group.chip}"]
            nbytes = work.activation_bytes + work.constant_bytes
            op_ms = np.maximum(work.flops / (values["tflops"] * 1e9), nbytes / (values["gbps"] * 1e6))
            total[group.rows] = values[f"dispatch_ms {group.chip}"] + np.add.reduceat(op_ms, group.start) / speed
        return total

    return Model(parameters, price)


class Validated(NamedTuple):
    """Predictions by fits that had not seen the row's group."""

    latency_ms: Floats
    ratio: Floats
    """One for each pair of (compressed, dense)."""


def cross_validate(
    model: Model,
    rows: Sequence[Row],
    works: Mapping[str, Work],
    pairs: Sequence[tuple[Row, Row]],
    by: Literal["family", "source", "chip"] = "family",
) -> Validated:
    """Predict each family, lab or chip by a fit that has seen no row of it."""
    group = attrgetter(by)
    predicted, ratio = np.zeros(len(rows)), np.ones(len(pairs))
    for held_out in sorted({group(row) for row in rows}):
        inside = np.array([group(row) == held_out for row in rows])
        pair_inside = np.array([group(small) == held_out for small, _ in pairs], dtype=np.bool_)
        seen = Stack.of([row for row in rows if group(row) != held_out], works)
        known = ratio_stacks([pair for pair in pairs if group(pair[0]) != held_out], works)
        point = model.fit(seen, known)
        predicted[inside] = model.predict(point, Stack.of([row for row in rows if group(row) == held_out], works))
        unseen = ratio_stacks([pair for pair in pairs if group(pair[0]) == held_out], works)
        if unseen is not None:
            ratio[pair_inside] = model.predict(point, unseen[0]) / model.predict(point, unseen[1])
    return Validated(predicted, ratio)


def ratio_stacks(pairs: Sequence[tuple[Row, Row]], works: Mapping[str, Work]) -> Ratios:
    """Stack (compressed, dense) pairs."""
    if not pairs:
        return None
    return Stack.of([small for small, _ in pairs], works), Stack.of([dense for _, dense in pairs], works)
