"""Devices: one TOML a chip, and the loader that turns it into frozen values.

`neural_engine.toml`, `gpu.toml` and `cpu.toml` hold the parameters that all chips share; a chip's own file overrides
them. Every number says how it is known (`certainty`) and from what (`source`).
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from talaria_nb.devices.read import chip_files, read_chip
from talaria_nb.devices.unit import (
    COMPUTE_UNITS,
    FORMATS,
    UNIT_PARAMETERS,
    UNITS,
    Certainty,
    Device,
    Format,
    Parameter,
    Unit,
)
from talaria_nb.errors import DeviceError, nearest
from talaria_nb.paths import expanded

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "COMPUTE_UNITS",
    "FORMATS",
    "UNITS",
    "UNIT_PARAMETERS",
    "Certainty",
    "Device",
    "Format",
    "Parameter",
    "Unit",
    "chip_files",
    "device",
    "devices",
    "listed_device",
    "read_chip",
]


def devices() -> list[str]:
    """Return the names of the devices that can be priced: iPhones and iPads, then Macs, oldest chip first."""
    return list(_catalog())


def device(name: str | Path) -> Device:
    """Look a device up by the name people know, whatever its case, by its chip, or in a file of your own.

    Parameters
    ----------
    name
        A product, such as "iPhone 15 Pro" (`devices` lists all), a chip, such as "M2 Max", or the path of a TOML file
        that ends in ".toml"; a file that lists several products gives the first.

    Raises
    ------
    DeviceError
        If there is none of that name, or the file is not a device file.
    """
    if isinstance(name, Path) or (isinstance(name, str) and name.endswith(".toml")):
        return read_chip(expanded(name, DeviceError))[0]
    catalog = {known.casefold(): entry for known, entry in (*_chips().items(), *_catalog().items())}
    wanted = " ".join(str(name).split()).casefold()
    if wanted in catalog:
        return catalog[wanted]
    near = nearest(wanted, catalog)
    hint = "" if near is None else f" Did you mean {catalog[near].name!r}?"
    message = f"Unknown device {name!r}.{hint} tnb.devices() lists all."
    raise DeviceError(message)


def listed_device(name: str) -> Device:
    """Look up a device for what keeps its name alone, as sessions and browsers do: not one in a file of your own.

    Raises
    ------
    DeviceError
        If there is none of that name, or it is such a file.
    """
    if not isinstance(name, str) or name.endswith(".toml"):
        message = (
            f"A session prices devices that tnb.devices() lists, not {name!r:.80}. "
            "For a device of your own there are plan.estimate, plan.table and tnb.allocate."
        )
        raise DeviceError(message)
    return device(name)


@cache
def _catalog() -> Mapping[str, Device]:
    return MappingProxyType({entry.name: entry for path in chip_files() for entry in read_chip(path)})


@cache
def _chips() -> Mapping[str, Device]:
    """Devices that stand for a whole chip, under its name; of chips with several files, the first."""
    chips: dict[str, Device] = {}
    for entry in _catalog().values():
        chips.setdefault(entry.chip, replace(entry, name=entry.chip))
    return MappingProxyType(chips)
