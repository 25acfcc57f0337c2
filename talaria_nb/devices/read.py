"""Device files: TOML → `Device`, with errors that name the file, the line and the key."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

from talaria_nb.devices.unit import FORMATS, UNIT_PARAMETERS, UNITS, Certainty, Device, Format, Parameter, Unit
from talaria_nb.errors import DeviceError, did_you_mean

FOLDER = Path(__file__).parent
"""Where the chips' files lie, and one file for each of `UNITS` with what all chips share."""

RATED = ("neural_engine_tflops", "gpu_tflops", "dram_gbps")
"""Keys of the table `rated`."""

_SCHEMA = 2
_MAY_BE_ZERO = frozenset(
    {"dispatch_ms", "launch_ms", "product_launch_ms", "channel_half", "table_us", "difference_spread"}
) | {name for name in UNIT_PARAMETERS if name.startswith("seen_")}


@dataclass(frozen=True, slots=True)
class _File:
    """A TOML file that can say on which line a key stands."""

    name: str
    text: str
    data: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> _File:
        try:
            text = path.read_text(encoding="utf-8")
            return cls(path.name, text, tomllib.loads(text))
        except FileNotFoundError as error:
            message = f"There is no device file {str(path)!r}."
            raise DeviceError(message) from error
        except (OSError, UnicodeDecodeError) as error:
            message = f"{path.name}: cannot be read as text ({error})."
            raise DeviceError(message) from error
        except tomllib.TOMLDecodeError as error:
            message = f"{path.name}: is not TOML: {error}."
            raise DeviceError(message) from error

    def line(self, key: str) -> int:
        """Find the line of a dotted key, or of the innermost table around it; 1 where there is none."""
        table, found, depth = "", 1, 0
        for number, line in enumerate(self.text.splitlines(), start=1):
            stripped = line.strip()
            if stripped.startswith("[") and not table.startswith("[["):
                table = stripped.strip("[]").strip()
                here = table
            else:
                name = stripped.partition("=")[0].strip()
                here = f"{table}.{name}" if table else name
            inside = bool(here) and (key == here or key.startswith(f"{here}."))
            if inside and here.count(".") + 1 > depth:
                found, depth = number, here.count(".") + 1
        return found

    def error(self, key: str, says: str) -> DeviceError:
        return DeviceError(f"{self.name}, line {self.line(key)}: key '{key}' {says}")


def chip_files() -> list[Path]:
    """Return the chips' TOML files, phones before Macs, oldest chip first."""
    files = (path for path in FOLDER.glob("*.toml") if path.stem not in UNITS)
    return sorted(files, key=lambda path: (path.stem[0], int(path.stem.split("_")[0][1:]), path.stem))


def read_chip(path: Path) -> list[Device]:
    """Read one chip's TOML file.

    Parameters
    ----------
    path
        The file. Parameters that it does not give come from the chip that its key `like` names, if it has that key, and
        else from what all chips share (`neural_engine.toml`, `gpu.toml`, `cpu.toml`).

    Returns
    -------
    list of Device
        One for each product with the chip.

    Raises
    ------
    DeviceError
        If the file is not TOML, or misses a key, or has one that means nothing; says the file, the line and the key.
    """
    file = _File.read(path)
    data = file.data
    _check_keys(file, "", data, required={"schema", "chip", "products"}, optional={"like", "rated", *UNITS})
    if data["schema"] != _SCHEMA:
        raise file.error("schema", f"is {data['schema']!r}, but this version reads {_SCHEMA}.")
    chip, products = data["chip"], data["products"]
    if not isinstance(chip, str) or not chip:
        raise file.error("chip", f"must be the chip's name, not {chip!r}.")
    if not isinstance(products, list) or not products or not all(isinstance(name, str) for name in products):
        raise file.error("products", f"must list at least one product name, not {products!r}.")
    like = _like(file)
    units = {
        name: _unit(file, name, like.units.get(name) if like else None)
        for name in UNITS
        if name in data or (like and name in like.units)
    }
    if not units:
        raise file.error("neural_engine", f"is missing: describe at least one of {', '.join(UNITS)}, or say `like`.")
    rated = _parameters(file, "rated", data.get("rated", {}), RATED)
    return [Device(name, chip, MappingProxyType(units), MappingProxyType(rated)) for name in products]


def _like(file: _File) -> Device | None:
    chip = file.data.get("like")
    if chip is None:
        return None
    known = {str(_File.read(path).data["chip"]): path for path in chip_files()}
    if not isinstance(chip, str) or chip not in known:
        raise file.error("like", f"must name a chip that is known, not {chip!r}.{did_you_mean(chip, known)}")
    return read_chip(known[chip])[0]


def _unit(file: _File, name: str, like: Unit | None) -> Unit:
    """Read one unit's table over what it builds on."""
    table = file.data.get(name, {})
    if not isinstance(table, Mapping):
        raise file.error(name, "must be a table.")
    own = dict(table)
    streams = own.pop("streams", None)
    base = _shared(name) if like is None else (like.provenance, like.streams)
    parameters = {**base[0], **_parameters(file, name, own, UNIT_PARAMETERS)}
    missing = [key for key in UNIT_PARAMETERS if key not in parameters]
    if missing:
        raise file.error(f"{name}.{missing[0]}", f"is missing, and {name}.toml does not give it either.")
    if not parameters["interval_low"].value <= 1 <= parameters["interval_high"].value:
        raise file.error(f"{name}.interval_low", "and 'interval_high' must enclose 1.")
    numbers = {key: parameters[key].value for key in UNIT_PARAMETERS}
    formats = base[1] if streams is None else _formats(file, f"{name}.streams", streams)
    return Unit(**numbers, streams=formats, provenance=MappingProxyType(parameters))


@cache
def _shared(name: str) -> tuple[Mapping[str, Parameter], frozenset[Format]]:
    file = _File.read(FOLDER / f"{name}.toml")
    own = dict(file.data)
    own.pop("schema", None)
    streams = own.pop("streams", None)
    formats = frozenset[Format]() if streams is None else _formats(file, "streams", streams)
    return _parameters(file, "", own, UNIT_PARAMETERS), formats


def _formats(file: _File, key: str, entry: object) -> frozenset[Format]:
    """Read the table `{value, certainty, source}` of the formats that a unit streams."""
    value, _, _ = _entry(file, key, entry)
    if not isinstance(value, list) or not all(name in FORMATS for name in value):
        raise file.error(f"{key}.value", f"must be a list of {', '.join(FORMATS)}, not {value!r}.")
    return frozenset(value)


def _parameters(file: _File, prefix: str, table: object, names: tuple[str, ...]) -> dict[str, Parameter]:
    """Read the tables `{value, certainty, source}` of one unit."""
    if not isinstance(table, Mapping):
        raise file.error(prefix, "must be a table.")
    dot = f"{prefix}." if prefix else ""
    _check_keys(file, dot, table, required=set(), optional=set(names))
    parameters = {}
    for name, entry in table.items():
        key = f"{dot}{name}"
        value, certainty, source = _entry(file, key, entry)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
            raise file.error(f"{key}.value", f"must be a number of at least 0, not {value!r}.")
        if value == 0 and name not in _MAY_BE_ZERO:
            raise file.error(f"{key}.value", "must be above 0.")
        parameters[name] = Parameter(float(value), certainty, source)
    return parameters


def _entry(file: _File, key: str, entry: object) -> tuple[object, Certainty, str]:
    if not isinstance(entry, Mapping):
        raise file.error(key, f"must be a table with value, certainty and source, not {entry!r}.")
    _check_keys(file, f"{key}.", entry, required={"value", "certainty", "source"}, optional=set())
    certainty, source = entry["certainty"], entry["source"]
    if certainty not in get_args(Certainty):
        raise file.error(f"{key}.certainty", f"is {certainty!r}, not one of {', '.join(get_args(Certainty))}.")
    if not isinstance(source, str) or not source.strip():
        raise file.error(f"{key}.source", "must say where the number comes from.")
    return entry["value"], certainty, source


def _check_keys(file: _File, prefix: str, table: Mapping[str, Any], *, required: set[str], optional: set[str]) -> None:
    missing = sorted(required - table.keys())
    if missing:
        raise file.error(f"{prefix}{missing[0]}", "is missing.")
    unknown = sorted(table.keys() - required - optional)
    if unknown:
        hint = did_you_mean(unknown[0], sorted(required | optional), prefix=prefix)
        raise file.error(f"{prefix}{unknown[0]}", f"is unknown.{hint}")
