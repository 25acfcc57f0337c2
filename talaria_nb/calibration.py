"""Refit a device from a user's own measurements."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from talaria_nb.devices import COMPUTE_UNITS, Device, Parameter
from talaria_nb.devices import device as find_device
from talaria_nb.devices.fit import NEURAL_ENGINE, Stack
from talaria_nb.devices.fit import Model as LatencyModel
from talaria_nb.errors import DeviceError, LoadError
from talaria_nb.load import Model, load
from talaria_nb.paths import expanded
from talaria_nb.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from talaria_nb.devices import Unit

Measured: TypeAlias = "tuple[Model | Plan, float, str]"
"""What was measured, milliseconds of one prediction, and one of `COMPUTE_UNITS`."""

PRIORS: Mapping[str, float] = {
    "dispatch": NEURAL_ENGINE["dispatch A16"][1],
    "compute": NEURAL_ENGINE["utilisation"][1],
    "activations": NEURAL_ENGINE["speed A16"][1],
    "stream": NEURAL_ENGINE["stream_gbps"][1],
}
"""How far, in log units, measurements may pull each factor of a device before it costs as much as an ordinary error: as
far as in the shared fit."""

IMAGINED_ROWS = 4
"""The old interval counts as much as so many measurements: the report's rule for chips with few rows."""


class _Row(NamedTuple):
    plan: Plan
    latency_ms: float
    compute_unit: str
    where: str


def calibrate(device: str | Device, measurements: str | Path | Iterable[Measured]) -> Device:
    """Refit a device to latencies that you measured, on it or on one like it.

    Parameters
    ----------
    device
        A name from `tnb.devices()`, or a `Device`.
    measurements
        Rows (model or plan, latency in ms, compute unit), or the path of a CSV with the columns model (path of an
        .mlpackage, from the folder of the CSV; "path" will do as well), latency_ms and, if not all are "all",
        compute_unit.

    Returns
    -------
    Device
        The same device with other parameters and intervals, "measured by you"; `Device.to_toml` keeps it.

    Raises
    ------
    DeviceError
        If the device is unknown, or a row is not what it must be; says which row or line.

    Notes
    -----
    Each compute unit is fitted to its own rows by the loss of the shared fit (`devices/fit.py`). One row moves the
    overall speed of its unit alone; several move the speeds of starting, computing, moving activations and streaming
    weights as well, each held near its value by the prior of the shared fit. The interval is that of the device,
    scaled by how far the rows are off afterwards, with the old interval counting as four rows.
    """
    found = device if isinstance(device, Device) else find_device(device)
    rows = (
        _read_csv(expanded(measurements, DeviceError))
        if isinstance(measurements, (str, Path))
        else _checked(measurements)
    )
    by_unit: dict[str, list[_Row]] = {}
    for row in rows:
        try:
            unit = found.unit(row.compute_unit)
        except DeviceError as error:
            message = f"{row.where}: {error}"
            raise DeviceError(message) from error
        by_unit.setdefault(next(name for name in found.units if found.units[name] is unit), []).append(row)
    units = dict(found.units)
    for name, own in by_unit.items():
        units[name] = _fit(found, name, own)
    return replace(found, units=MappingProxyType(units))


def _fit(device: Device, name: str, rows: Sequence[_Row]) -> Unit:
    """Fit one unit's factors to its rows."""
    unit = device.units[name]
    low, high = math.log(unit.interval_low), math.log(unit.interval_high)
    doubt = (high - low) / 2
    priors = {"overall": (1.0, doubt)}
    if len(rows) > 1:
        priors |= {factor: (1.0, width) for factor, width in PRIORS.items()}

    def price(factors: Mapping[str, float], _: Stack) -> NDArray[np.float64]:
        units = MappingProxyType({**device.units, name: _scaled(unit, factors)})
        other = replace(device, units=units)
        return np.array([row.plan.estimate(other, row.compute_unit).latency_ms for row in rows])

    model = LatencyModel(priors, price)
    stack = Stack((), np.log([row.latency_ms for row in rows]))
    point = model.fit(stack)
    residuals = stack.log_ms - np.log(model.predict(point, stack))
    off = float(((residuals / (doubt / _HALF_OF_80)) ** 2).sum())
    width = math.sqrt((IMAGINED_ROWS + off) / (IMAGINED_ROWS + len(rows)))
    fitted = _scaled(unit, model.values(point))
    fitted = replace(fitted, interval_low=math.exp(low * width), interval_high=math.exp(high * width))
    source = f"tnb.calibrate, {len(rows)} measurement{'s' if len(rows) > 1 else ''}"
    changed = {
        key: Parameter(getattr(fitted, key), "measured by you", source)
        for key in unit.provenance
        if getattr(fitted, key) != getattr(unit, key)
    }
    return replace(fitted, provenance=MappingProxyType({**unit.provenance, **changed}))


_HALF_OF_80 = 1.2816
"""Standard deviations from the middle of a normal distribution to the end of its 80 % interval."""


def _scaled(unit: Unit, factors: Mapping[str, float]) -> Unit:
    """Make a unit faster by `overall` in everything, and by the other factors in their part of it."""
    overall = factors["overall"]
    compute, activations, stream = (factors.get(name, 1.0) * overall for name in ("compute", "activations", "stream"))
    return replace(
        unit,
        dispatch_ms=unit.dispatch_ms * factors.get("dispatch", 1.0) / overall,
        launch_ms=unit.launch_ms / activations,
        product_launch_ms=unit.product_launch_ms / activations,
        compute_tflops=unit.compute_tflops * compute,
        activation_gbps=unit.activation_gbps * activations,
        stream_gbps=unit.stream_gbps * stream,
        compressed_stream_gbps=unit.compressed_stream_gbps * stream,
        table_us=unit.table_us / stream,
    )


def _checked(measurements: Iterable[Measured]) -> list[_Row]:
    """Check rows given in Python."""
    if not isinstance(measurements, Iterable):
        message = f"Measurements are rows (model or plan, latency in ms, compute unit), not {measurements!r:.80}."
        raise DeviceError(message)
    rows = []
    for number, entry in enumerate(measurements, start=1):
        where = f"Measurement {number}"
        if not isinstance(entry, tuple) or len(entry) != 3:
            message = f"{where} must be (model or plan, latency in ms, compute unit), not {entry!r:.80}."
            raise DeviceError(message)
        model, latency_ms, compute_unit = entry
        if not isinstance(model, (Model, Plan)):
            message = f"{where} must begin with what tnb.load() returns or a plan of it, not {model!r:.80}."
            raise DeviceError(message)
        plan = model if isinstance(model, Plan) else Plan(model)
        rows.append(_Row(plan, _milliseconds(latency_ms, where), _unit_name(compute_unit, where), where))
    if not rows:
        message = "There is nothing to calibrate with: give at least one measurement."
        raise DeviceError(message)
    return rows


def _read_csv(path: Path) -> list[_Row]:
    """Read rows from a CSV, each package once."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            lines = [(reader.line_num, line) for line in reader]
            columns = reader.fieldnames or []
    except FileNotFoundError as error:
        message = f"There is no file {str(path)!r}."
        raise DeviceError(message) from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        message = f"{path.name}: cannot be read as a CSV ({error})."
        raise DeviceError(message) from error
    key = next((name for name in ("model", "path") if name in columns), None)
    if key is None or "latency_ms" not in columns:
        message = (
            f"{path.name}, line 1: the columns must be model (or path), latency_ms and, if wanted, compute_unit, "
            f"not {', '.join(columns) or 'none'}."
        )
        raise DeviceError(message)
    plans: dict[str, Plan] = {}
    rows: list[Measured] = []
    for number, line in lines:
        where = f"{path.name}, line {number}"
        name, latency_ms = line[key] or "", _milliseconds(line["latency_ms"], where)
        compute_unit = _unit_name(line.get("compute_unit") or "all", where)
        if name not in plans:
            try:
                plans[name] = Plan(load(path.parent / name, progress=False))
            except LoadError as error:
                message = f"{where}: {error}"
                raise DeviceError(message) from error
        rows.append((plans[name], latency_ms, compute_unit))
    return [row._replace(where=f"{path.name}, line {line[0]}") for row, line in zip(_checked(rows), lines, strict=True)]


def _milliseconds(value: object, where: str) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if not 0 < number < math.inf:
        message = f"{where}: the latency must be a number of milliseconds above 0, not {value!r}."
        raise DeviceError(message)
    return number


def _unit_name(value: object, where: str) -> str:
    if value not in COMPUTE_UNITS:
        message = f"{where}: unknown compute unit {value!r}; use one of {', '.join(COMPUTE_UNITS)}."
        raise DeviceError(message)
    return str(value)
