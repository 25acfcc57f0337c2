"""What is known about a device: numbers that say how they are known, compute units, products."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, get_args

from talaria_nb.errors import DeviceError
from talaria_nb.paths import expanded
from talaria_nb.whole_file import reason, write_whole

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

COMPUTE_UNITS = ("all", "cpuAndNeuralEngine", "cpuAndGPU", "cpuOnly")
"""Core ML's `MLComputeUnits`, as coremltools names them."""

UNITS = ("neural_engine", "gpu", "cpu")
"""The compute units themselves: the tables of a device file."""

Certainty = Literal["measured", "measured by you", "fitted", "borrowed", "inferred", "rated", "assumed"]
"""How a number is known: measured on the chip; fitted by `tnb.calibrate` to a user's own measurements; fitted to
measured latencies of whole models; taken over from the nearest chip that has a fit; computed from another published
number; printed by the maker or the press; or a reasonable guess."""

Format = Literal["palette", "grouped_palette", "linear", "blocks", "sparse"]
"""Stored formats that a unit may read as they are, decompressing while it computes: one table a tensor, a table for a
group of channels, integers with a scale a tensor or channel, integers with a scale a block, sparse."""

FORMATS: tuple[Format, ...] = get_args(Format)


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
    launch_ms, product_launch_ms
        Cost of one op that makes a pass of its own, and what a product of two activations (attention's) costs beyond
        it, however small: operands are brought into the layout of a product and no weight is there to wait for.
    compute_tflops
        Sustained rate of float16 products with many channels, in 10¹² FLOPs a second.
    grouped_efficiency, depthwise_efficiency
        Rate of such convolutions as a fraction of `compute_tflops`.
    small_kernel_speedup
        How much faster 3×3 convolutions run than their products say (Winograd's algorithm saves a factor of 2.25 on
        2×2 tiles and 4 on 4×4 tiles); 1 where the unit computes every product.
    channel_half
        Channels of a convolution, of input or output, whichever is more in a group, at which half of the rate is lost.
    channel_step, width_step
        Channels of a group are computed in blocks of this size, and so are the columns of an image under kernels larger
        than 1×1; 1 where it does not matter.
    activation_gbps
        Rate at which activations are read and written, in 10⁹ bytes a second.
    sequence_traffic
        How often the activations of linear layers and matrix products are moved: their (batch, tokens, channels)
        layout is not the Neural Engine's own.
    depthwise_traffic
        The same for depthwise convolutions, which read a window of every channel and share nothing between channels.
    stream_gbps, compressed_stream_gbps
        Rate at which stored weights arrive, dense and compressed, in 10⁹ stored bytes a second.
    table_us
        Time to load one look-up table of a grouped palette, in microseconds.
    int8_speedup
        Rate of products of int8 weights with int8 activations, as a multiple of the float16 rate.
    op_widening
        How much wider the interval of one op is than that of a whole program, as a factor in log units.
    difference_floor, difference_spread
        Half-widths of the 80 % interval of a ratio of two latencies of one model, in log units: where the ratio is
        estimated as 1, and what is added (in quadrature) where it is far from 1.
    seen_conv, seen_grouped, seen_depthwise, seen_linear, seen_matmul, seen_pass
        Largest share of a model's time in each kind of op among the models of the fit.
    interval_low, interval_high
        80 % interval of a program's total, as factors of the estimate.
    flop_pj, byte_pj
        Energy of one FLOP, and of one byte of weights or activations moved, in picojoules.
    active_w
        Power beside that while an op runs, in watts.
    streams
        Stored formats that are read as they are; weights in others are decompressed when the model is loaded.
    provenance
        Certainty and source of each number above, by name.
    """

    dispatch_ms: float
    launch_ms: float
    product_launch_ms: float
    compute_tflops: float
    grouped_efficiency: float
    depthwise_efficiency: float
    small_kernel_speedup: float
    channel_half: float
    channel_step: float
    width_step: float
    activation_gbps: float
    sequence_traffic: float
    depthwise_traffic: float
    stream_gbps: float
    compressed_stream_gbps: float
    table_us: float
    int8_speedup: float
    op_widening: float
    difference_floor: float
    difference_spread: float
    seen_conv: float
    seen_grouped: float
    seen_depthwise: float
    seen_linear: float
    seen_matmul: float
    seen_pass: float
    interval_low: float
    interval_high: float
    flop_pj: float
    byte_pj: float
    active_w: float
    streams: frozenset[Format]
    provenance: Mapping[str, Parameter]

    def __reduce__(self) -> tuple[Callable[..., Unit], tuple[object, ...]]:
        """Pickle it, for processes that take part in the work."""
        return _of, _parts(self)


UNIT_PARAMETERS = tuple(field.name for field in fields(Unit) if field.name not in ("streams", "provenance"))
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
        Compute units by name, of `UNITS`.
    rated
        What maker and press print about the chip, by name: "neural_engine_tflops" (float16), "gpu_tflops" (float16),
        "dram_gbps"; only what is known.
    """

    name: str
    chip: str
    units: Mapping[str, Unit]
    rated: Mapping[str, Parameter]

    def __reduce__(self) -> tuple[Callable[..., Device], tuple[object, ...]]:
        """Pickle it, for processes that take part in the work."""
        return _of, _parts(self)

    @property
    def compute_units(self) -> tuple[str, ...]:
        """The members of `COMPUTE_UNITS` that can be priced on this device."""
        return tuple(unit for unit in COMPUTE_UNITS if _UNIT_OF[unit] in self.units)

    def unit(self, compute_unit: str) -> Unit:
        """Return the parameters of the unit that runs what nothing keeps off it, as `unit_name` names it."""
        return self.units[self.unit_name(compute_unit)]

    def unit_name(self, compute_unit: str) -> str:
        """Return the unit that Core ML runs an op on if it can.

        Parameters
        ----------
        compute_unit
            One of `COMPUTE_UNITS`: the Neural Engine for "all" and "cpuAndNeuralEngine", the GPU for "cpuAndGPU".

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
            message = f"Nothing is known about {compute_unit!r} on {self.name}: use one of {offered}."
            raise DeviceError(message)
        return _UNIT_OF[compute_unit]

    def to_toml(self, path: str | os.PathLike[str]) -> None:
        """Write the device as a file of its own, for `tnb.device(path)`, with certainty and source of every number.

        Parameters
        ----------
        path
            Ends in ".toml", by which `tnb.device` knows it. What is there is replaced, whole or not at all.

        Raises
        ------
        DeviceError
            If it ends in something else, or cannot be written.
        """
        target = expanded(path, DeviceError)
        if target.suffix != ".toml":
            message = f"A device is saved as a .toml, not as {target.name!r}."
            raise DeviceError(message)
        lines = ["schema = 2", f"chip = {_quoted(self.chip)}", f"products = [{_quoted(self.name)}]"]
        for name, parameter in self.rated.items():
            lines += _entry(f"rated.{name}", parameter.value, parameter)
        for name, unit in self.units.items():
            for key, parameter in unit.provenance.items():
                lines += _entry(f"{name}.{key}", getattr(unit, key), parameter)
            formats = Parameter(0.0, "inferred", f"talaria-nb's file of {self.chip}")
            lines += _entry(f"{name}.streams", sorted(unit.streams), formats)
        try:
            write_whole(target, "\n".join(lines) + "\n")
        except OSError as error:
            message = f"{target} could not be saved: {reason(error)}"
            raise DeviceError(message) from error


def _parts(value: Unit | Device) -> tuple[object, ...]:
    """Return the class and the values of the fields, with plain dictionaries for mappings: pickle takes no others."""
    given = {field.name: getattr(value, field.name) for field in fields(value)}
    plain = {name: dict(each) if isinstance(each, MappingProxyType) else each for name, each in given.items()}
    return type(value), plain


def _of(kind: type[Any], plain: Mapping[str, object]) -> Any:
    """Make a value of what `_parts` returns."""
    return kind(**{name: MappingProxyType(each) if isinstance(each, dict) else each for name, each in plain.items()})


def _entry(key: str, value: float | list[str], known: Parameter) -> list[str]:
    """Write one number of a device file."""
    source = _quoted(known.source)
    return [
        "",
        f"[{key}]",
        f"value = {json.dumps(value)}",
        f"certainty = {_quoted(known.certainty)}",
        f"source = {source}",
    ]


def _quoted(text: str) -> str:
    """Write a TOML string: JSON's escapes are TOML's, but for the delete character, which TOML wants escaped too."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


_UNIT_OF = {"all": "neural_engine", "cpuAndNeuralEngine": "neural_engine", "cpuAndGPU": "gpu", "cpuOnly": "cpu"}
