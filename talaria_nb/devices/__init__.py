"""Devices: one TOML a chip, and the loader that turns it into frozen values.

`neural_engine.toml` holds the parameters that all chips' Neural Engines share; a chip's own file overrides them. Every
number says how it is known (`certainty`) and from what (`source`).
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

from talaria_nb.errors import DeviceError

COMPUTE_UNITS = ("all", "cpuAndNeuralEngine", "cpuAndGPU", "cpuOnly")
"""Core ML's `MLComputeUnits`, as coremltools names them."""

Certainty = Literal["measured", "fitted", "borrowed", "rated", "assumed"]
"""How a number is known: measured on the chip; fitted to measured latencies of whole models; taken over from the
nearest chip that has a fit; printed by the maker or the press; or a reasonable guess."""

_FOLDER = Path(__file__).parent
_SHARED = "neural_engine.toml"
_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Parameter:
    """One number of a device file.

    Attributes
    ----------
    value
        In the unit that ends the parameter's name.
    certainty
        One of `Certainty`.
    source
        Paper, document or measurement.
    """

    value: float
    certainty: Certainty
    source: str


@dataclass(frozen=True, slots=True)
class Unit:
    """Parameters of one compute unit.

    Attributes
    ----------
    dispatch_ms
        Cost of one prediction, however small the model.
    launch_ms
        Cost of one op that makes a pass of its own.
    compute_tflops
        Sustained rate of float16 products with many channels, in 10¹² FLOPs a second.
    grouped_efficiency, depthwise_efficiency
        Rate of such convolutions as a fraction of `compute_tflops`.
    channel_half
        Channels of a convolution, of input or output, whichever is fewer in a group, at which half of the rate is lost.
    activation_gbps
        Rate at which activations are read and written, in 10⁹ bytes a second.
    sequence_traffic
        How often the activations of linear layers and matrix products are moved: their (batch, tokens, channels)
        layout is not the Neural Engine's own.
    stream_gbps, compressed_stream_gbps
        Rate at which stored weights arrive, dense and compressed, in 10⁹ stored bytes a second.
    table_us
        Time to load one look-up table of a grouped palette, in microseconds.
    interval_low, interval_high
        80 % interval of a program's total, as factors of the estimate.
    provenance
        Certainty and source of each of the above, by name.
    """

    dispatch_ms: float
    launch_ms: float
    compute_tflops: float
    grouped_efficiency: float
    depthwise_efficiency: float
    channel_half: float
    activation_gbps: float
    sequence_traffic: float
    stream_gbps: float
    compressed_stream_gbps: float
    table_us: float
    interval_low: float
    interval_high: float
    provenance: Mapping[str, Parameter]


UNIT_PARAMETERS = tuple(field.name for field in fields(Unit) if field.name != "provenance")
"""Names of a unit's numbers: the keys of its TOML table."""


@dataclass(frozen=True, slots=True)
class Device:
    """One product: a name people know, its chip, and the compute units that parameters are known for.

    Attributes
    ----------
    name
        "iPhone 15 Pro".
    chip
        "A17 Pro".
    units
        Compute units by name: "neural_engine".
    """

    name: str
    chip: str
    units: Mapping[str, Unit]

    @property
    def compute_units(self) -> tuple[str, ...]:
        """The members of `COMPUTE_UNITS` that can be priced on this device."""
        return tuple(unit for unit in COMPUTE_UNITS if _UNIT_OF.get(unit) in self.units)

    def unit(self, compute_unit: str) -> Unit:
        """Return the parameters that price a program run with `compute_unit`.

        "all" and "cpuAndNeuralEngine" are both priced as if every op ran on the Neural Engine, which is what Core ML
        does with programs that it supports whole.

        Raises
        ------
        DeviceError
            If the name is unknown, or nothing is known about that unit of this device.
        """
        if compute_unit not in COMPUTE_UNITS:
            message = f"Unknown compute unit {compute_unit!r}: use one of {', '.join(COMPUTE_UNITS)}."
            raise DeviceError(message)
        if compute_unit not in self.compute_units:
            offered = ", ".join(self.compute_units)
            message = f"No measurements are known for {compute_unit!r} on {self.name} yet: use one of {offered}."
            raise DeviceError(message)
        return self.units[_UNIT_OF[compute_unit]]


_UNIT_OF = {"all": "neural_engine", "cpuAndNeuralEngine": "neural_engine", "cpuAndGPU": "gpu", "cpuOnly": "cpu"}


def devices() -> list[str]:
    """Return the names of the devices that can be priced, oldest first."""
    return list(_catalog())


def device(name: str) -> Device:
    """Look a device up by the name people know, whatever its case.

    Parameters
    ----------
    name
        Such as "iPhone 15 Pro"; `devices` lists all.

    Raises
    ------
    DeviceError
        If there is none of that name.
    """
    catalog = _catalog()
    if isinstance(name, str):
        wanted = " ".join(name.split()).casefold()
        found = next((known for known in catalog if known.casefold() == wanted), None)
        if found is not None:
            return catalog[found]
    lowered = {known.casefold(): known for known in catalog}
    close = difflib.get_close_matches(str(name).casefold(), lowered, n=1, cutoff=0.5)
    hint = f" Did you mean {lowered[close[0]]!r}?" if close else ""
    message = f"Unknown device {name!r}.{hint} tnb.devices() lists all."
    raise DeviceError(message)


def chip_files() -> list[Path]:
    """Return the chips' TOML files, oldest chip first."""
    files = (path for path in _FOLDER.glob("*.toml") if path.name != _SHARED)
    return sorted(files, key=lambda path: (path.stem[0], len(path.stem.split("_")[0]), path.stem))


@cache
def _catalog() -> Mapping[str, Device]:
    catalog: dict[str, Device] = {}
    for path in chip_files():
        for entry in read_chip(path):
            catalog[entry.name] = entry
    return MappingProxyType(catalog)


def read_chip(path: Path) -> list[Device]:
    """Read one chip's TOML file.

    Parameters
    ----------
    path
        The file. Parameters that it does not give come from `neural_engine.toml`.

    Returns
    -------
    list of Device
        One for each product with the chip.

    Raises
    ------
    DeviceError
        If the file is not TOML, or misses a key, or has one that means nothing; says the file and the key.
    """
    data = _read_toml(path)
    _check_keys(path, "", data, required={"schema", "chip", "products", "neural_engine"}, optional=set())
    if data["schema"] != _SCHEMA:
        message = f"{path.name}: key 'schema' is {data['schema']!r}, but this version reads {_SCHEMA}."
        raise DeviceError(message)
    chip, products = data["chip"], data["products"]
    if not isinstance(chip, str) or not chip:
        message = f"{path.name}: key 'chip' must be the chip's name, not {chip!r}."
        raise DeviceError(message)
    if not isinstance(products, list) or not products or not all(isinstance(name, str) for name in products):
        message = f"{path.name}: key 'products' must list at least one product name, not {products!r}."
        raise DeviceError(message)
    parameters = _parameters(_FOLDER / _SHARED, "", _shared()) | _parameters(
        path, "neural_engine.", data["neural_engine"]
    )
    missing = [name for name in UNIT_PARAMETERS if name not in parameters]
    if missing:
        message = f"{path.name}: key 'neural_engine.{missing[0]}' is missing, and {_SHARED} does not give it either."
        raise DeviceError(message)
    if not parameters["interval_low"].value <= 1 <= parameters["interval_high"].value:
        message = f"{path.name}: keys 'neural_engine.interval_low' and 'interval_high' must enclose 1."
        raise DeviceError(message)
    numbers = {name: parameters[name].value for name in UNIT_PARAMETERS}
    unit = Unit(**numbers, provenance=MappingProxyType(parameters))
    return [Device(name, chip, MappingProxyType({"neural_engine": unit})) for name in products]


def _shared() -> Mapping[str, Any]:
    data = dict(_read_toml(_FOLDER / _SHARED))
    data.pop("schema", None)
    return data


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        message = f"{path.name}: cannot be read as text ({error})."
        raise DeviceError(message) from error
    except tomllib.TOMLDecodeError as error:
        message = f"{path.name}: is not TOML: {error}."
        raise DeviceError(message) from error


def _parameters(path: Path, prefix: str, table: object) -> dict[str, Parameter]:
    """Read the tables `{value, certainty, source}` of one unit."""
    if not isinstance(table, Mapping):
        message = f"{path.name}: key '{prefix.rstrip('.')}' must be a table."
        raise DeviceError(message)
    _check_keys(path, prefix, table, required=set(), optional=set(UNIT_PARAMETERS))
    parameters = {}
    for name, entry in table.items():
        key = f"{prefix}{name}"
        if not isinstance(entry, Mapping):
            message = f"{path.name}: key '{key}' must be a table with value, certainty and source, not {entry!r}."
            raise DeviceError(message)
        _check_keys(path, f"{key}.", entry, required={"value", "certainty", "source"}, optional=set())
        value, certainty, source = entry["value"], entry["certainty"], entry["source"]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
            message = f"{path.name}: key '{key}.value' must be a number of at least 0, not {value!r}."
            raise DeviceError(message)
        if value == 0 and name not in _MAY_BE_ZERO:
            message = f"{path.name}: key '{key}.value' must be above 0."
            raise DeviceError(message)
        if certainty not in get_args(Certainty):
            allowed = ", ".join(get_args(Certainty))
            message = f"{path.name}: key '{key}.certainty' is {certainty!r}, not one of {allowed}."
            raise DeviceError(message)
        if not isinstance(source, str) or not source.strip():
            message = f"{path.name}: key '{key}.source' must say where the number comes from."
            raise DeviceError(message)
        parameters[name] = Parameter(float(value), certainty, source)
    return parameters


_MAY_BE_ZERO = frozenset({"dispatch_ms", "launch_ms", "channel_half", "table_us"})


def _check_keys(path: Path, prefix: str, table: Mapping[str, Any], *, required: set[str], optional: set[str]) -> None:
    missing = sorted(required - table.keys())
    if missing:
        message = f"{path.name}: key '{prefix}{missing[0]}' is missing."
        raise DeviceError(message)
    unknown = sorted(table.keys() - required - optional)
    if unknown:
        close = difflib.get_close_matches(unknown[0], required | optional, n=1)
        hint = f" Did you mean '{prefix}{close[0]}'?" if close else ""
        message = f"{path.name}: key '{prefix}{unknown[0]}' is unknown.{hint}"
        raise DeviceError(message)
