"""What a calibration leaves behind for the loader: `neural_engine.toml`, `gpu.toml`, `cpu.toml` and one TOML a chip."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from talaria_nb.devices.chips import (
    CHIPS,
    DISPATCH_MS,
    INT8_FROM,
    NO_INT8_STREAMING,
    NO_STREAMING,
    UNDISCLOSED,
    Chip,
)
from talaria_nb.devices.measurements import weight_streams
from talaria_nb.devices.read import FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from talaria_nb.devices.calibrate import Fit
    from talaria_nb.devices.measurements import Rating

HEAD = "# Written by `python -m talaria_nb.devices.calibrate`.\n\nschema = 2\n"
SPECS = "data/device_specs.csv"


_GUIDE = "ane-guide.readthedocs.io, part 3, chapter 10"

ENERGY: Mapping[str, tuple[tuple[str, float, str, str], ...]] = {
    "neural_engine": (
        ("flop_pj", 0.4, "measured", f"{_GUIDE}: 2.0 to 2.7 TFLOPS a watt at best on M1, M1 Max, M2 and M5"),
        ("byte_pj", 30.0, "inferred", f"{_GUIDE}: 1.5 mJ for a product that streams 33.5 MB on M2, less active_w"),
        ("active_w", 0.9, "measured", f"{_GUIDE}: power at the dispatch floor on M1 Max"),
    ),
    "gpu": (
        ("flop_pj", 5.0, "measured", f"{_GUIDE}: 173 to 214 GFLOPS a watt on M2"),
        ("byte_pj", 30.0, "assumed", "as on the Neural Engine: it is the same DRAM"),
        ("active_w", 8.0, "inferred", f"{_GUIDE}: 13 to 21 W on M2 and 714 mJ for ViT-B/16, less the products"),
    ),
    "cpu": (
        ("flop_pj", 10.0, "assumed", "twice the GPU's: Horowitz, ISSCC 2014, control costs more than arithmetic"),
        ("byte_pj", 30.0, "assumed", "as on the Neural Engine: it is the same DRAM"),
        ("active_w", 4.0, "assumed", "one performance core; AnandTech's M1 Max review has 8.5 W at the wall for one"),
    ),
}
"""Energy of each unit, the same for all chips: parameter, value, certainty, source. Nothing was measured on phones."""


class Calibrated(NamedTuple):
    """All that was fitted, and the numbers that all chips share."""

    fits: Mapping[str, Fit]
    rated: Mapping[str, Rating]
    table_us: float
    difference_floor: float
    difference_spread: float
    op_widening: float


class Entry(NamedTuple):
    """One table of a device file."""

    name: str
    value: float | list[str]
    certainty: str
    source: str

    def __str__(self) -> str:
        value = json.dumps(self.value) if isinstance(self.value, list) else float(f"{self.value:.4g}")
        return f'\n[{self.name}]\nvalue = {value}\ncertainty = "{self.certainty}"\nsource = "{self.source}"\n'


def fit_source(fit: Fit) -> str:
    """Say what a fitted number was fitted to."""
    return f"calibrate.py, fit to {len(fit.rows)} rows of data/device_latency.csv, {', '.join(fit.units)}"


def write_shared(found: Calibrated) -> dict[str, list[Entry]]:
    """Write what all chips share, one file for each compute unit, and return it."""
    pairs = f"{len(found.fits['neural_engine'].pairs)} pairs of compressed and float16 rows, predicted unseen by family"
    entries = {}
    for unit, fit in found.fits.items():
        any_unit = next(iter(fit.units.values()))
        source = fit_source(fit)
        engine = unit == "neural_engine"
        fitted = [("grouped_efficiency", source)]
        assumed = [("int8_speedup", "no source says that int8 is faster here")]
        if engine:
            fitted += [
                (name, source)
                for name in ("depthwise_efficiency", "channel_half", "sequence_traffic", "depthwise_traffic")
            ]
            fitted += [("product_launch_ms", f"{next(iter(fit.units))}'s, where a chip's file gives none: {source}")]
            fitted += [
                (name, "16 fits the rows better than 8 and 32, and than none")
                for name in ("channel_step", "width_step")
            ]
            assumed = [("small_kernel_speedup", "every product is computed")]
        else:
            fitted += [("small_kernel_speedup", source)]
            assumed += [("depthwise_efficiency", "as grouped_efficiency: no row has depthwise convolutions")]
            assumed += [
                (name, "no shape effect is visible in the rows")
                for name in ("channel_half", "channel_step", "width_step", "sequence_traffic", "depthwise_traffic")
            ]
            assumed += [("product_launch_ms", "no row shows one")]
        own = [Entry(name, getattr(any_unit, name), "fitted", text) for name, text in fitted]
        own += [Entry(name, getattr(any_unit, name), "assumed", text) for name, text in assumed]
        opt = "OPT-1.3B table on A17 Pro (coremltools docs, opt-opt1_3), rows with one and two channels a table"
        own.append(
            Entry("table_us", found.table_us, "fitted", opt)
            if engine
            else Entry("table_us", 0.0, "assumed", "palettes are decompressed when the model is loaded")
        )
        if not engine:
            text = "decompressed at load: only the Neural Engine streams (coremltools guide, opt-palettization-perf)"
            own.append(Entry("streams", [], "assumed", text))
        certainty, borrowed = ("fitted", pairs) if engine else ("borrowed", f"the Neural Engine's: {pairs}")
        own += [
            Entry("difference_floor", found.difference_floor, certainty, borrowed),
            Entry("difference_spread", found.difference_spread, certainty, borrowed),
            Entry("op_widening", found.op_widening, "inferred", "as if errors were shared within a kind of op only"),
        ]
        most = fit.shares.max(axis=0)
        names = ("seen_conv", "seen_grouped", "seen_depthwise", "seen_linear", "seen_matmul", "seen_pass")
        own += [Entry(name, float(value), "fitted", source) for name, value in zip(names, most, strict=True)]
        own += [Entry(name, value, certainty, text) for name, value, certainty, text in ENERGY[unit]]
        (FOLDER / f"{unit}.toml").write_text(HEAD + "".join(map(str, own)), encoding="utf-8")
        entries[unit] = own
    return entries


def write_chip(chip: Chip, found: Calibrated) -> None:
    """Write one chip's file."""
    specs = found.rated[chip.specs]
    entries = [*_rated(chip, specs), *_neural_engine(chip, found)]
    if specs.gpu_tflops is not None:
        entries += _gpu(chip, found, specs.gpu_tflops)
    entries += _cpu(chip, found)
    names = ", ".join(f'"{name}"' for name in chip.products)
    text = f'{HEAD}chip = "{chip.name}"\nproducts = [{names}]\n' + "".join(map(str, entries))
    (FOLDER / f"{chip.stem}.toml").write_text(text, encoding="utf-8")


def _rated(chip: Chip, specs: Rating) -> Iterable[Entry]:
    source = f"{SPECS}, {chip.specs}: {specs.source}".replace('"', "'")
    for name, value in (
        ("neural_engine_tflops", specs.neural_engine_tflops),
        ("gpu_tflops", specs.gpu_tflops),
        ("dram_gbps", specs.dram_gbps),
    ):
        if value is not None:
            yield Entry(f"rated.{name}", value, "rated", source)


def _engine_tflops(chip: Chip, found: Calibrated) -> tuple[float, str, str]:
    """Return the Neural Engine's rate for one model: (TFLOPS, certainty of what is computed from it, how known)."""
    rate = found.rated[chip.specs].neural_engine_tflops
    if rate is None:
        other = UNDISCLOSED[chip.name]
        return found.rated[other].neural_engine_tflops or 0.0, "borrowed", f"{other}'s, as {chip.name}'s is undisclosed"
    if chip.name.endswith("Ultra"):
        return (
            rate / 2,
            "inferred",
            f"half of the rated {rate:g} TFLOPS in {SPECS}, as one model uses one of two engines",
        )
    return rate, "inferred", f"the rated {rate:g} TFLOPS in {SPECS}"


def _neural_engine(chip: Chip, found: Calibrated) -> list[Entry]:
    fit = found.fits["neural_engine"]
    measured = chip.name in fit.units
    unit = fit.units[chip.neural_engine]
    lender = next(other for other in CHIPS if other.name == chip.neural_engine)
    rate, inferred, known = _engine_tflops(chip, found)
    faster = rate / _engine_tflops(lender, found)[0]
    count = sum(row.chip == chip.name for row in fit.rows)
    certainty, source = (
        ("fitted", f"{fit_source(fit)}; {count} rows are this chip's")
        if measured
        else ("borrowed", f"{chip.neural_engine}'s, scaled by {faster:.3g}, the ratio of the rates")
    )
    low, high = fit.interval_of(chip.name)
    residual = (
        f"10 % and 90 % quantiles of cross-validation residuals by family; {count} rows of this chip"
        if count
        else "twice the 10 % and 90 % quantiles of cross-validation residuals: nothing was measured on this chip"
    )
    utilisation = fit.values["utilisation"]
    entries = [
        _dispatch(chip, found, unit.dispatch_ms, certainty),
        Entry("launch_ms", unit.launch_ms / faster, certainty, source),
        Entry("product_launch_ms", unit.product_launch_ms / faster, certainty, source),
        Entry(
            "compute_tflops",
            utilisation * rate,
            "fitted" if measured else inferred,
            f"{utilisation:.2f} (fitted) of {known}",
        ),
        Entry("activation_gbps", unit.activation_gbps * faster, certainty, source),
        *_streams(chip, found),
        _int8(chip, fit),
        Entry("interval_low", low, "fitted" if count else "assumed", residual),
        Entry("interval_high", high, "fitted" if count else "assumed", residual),
        _formats(chip),
    ]
    return [entry._replace(name=f"neural_engine.{entry.name}") for entry in entries]


def _int8(chip: Chip, fit: Fit) -> Entry:
    """How much faster products of int8 are."""
    if chip.name == "M4":
        return Entry("int8_speedup", 35.1 / 18.6, "measured", f"{SPECS}, M4: W8A8 35.1 TOPS, float16 18.6 TFLOPS")
    if f"int8 {chip.name}" in fit.values:
        text = f"calibrate.py, fit to the rows of int8 activations of data/device_latency.csv, {chip.name}"
        return Entry("int8_speedup", fit.units[chip.name].int8_speedup, "fitted", text)
    if chip.name in INT8_FROM:
        return Entry("int8_speedup", fit.units["A17 Pro"].int8_speedup, "borrowed", "A17 Pro's")
    text = "coremltools guide, What's new: W8A8 is accelerated from A17 Pro and M4; no row says so of this chip"
    return Entry("int8_speedup", 1.0, "assumed", text)


def _dispatch(chip: Chip, found: Calibrated, lent_ms: float, certainty: str) -> Entry:
    if not chip.name.startswith("M"):
        source = fit_source(found.fits["neural_engine"]) if certainty == "fitted" else f"{chip.neural_engine}'s"
        return Entry("dispatch_ms", lent_ms, certainty, source)
    if chip.name in DISPATCH_MS:
        value, words = DISPATCH_MS[chip.name]
        return Entry("dispatch_ms", value, "measured", f"{SPECS}, {chip.name}: {words}")
    nearest = "M4" if chip.name.startswith(("M4", "M5")) else "M1"
    return Entry("dispatch_ms", DISPATCH_MS[nearest][0], "borrowed", f"{nearest}'s")


_M5_PRO_STREAM = (145.0, f"{SPECS}, M5 Pro: weight stream 145 GB/s (github.com/sbryngelson/ane-guide)")


def _streams(chip: Chip, found: Calibrated) -> tuple[Entry, Entry]:
    """Rates of dense and of compressed weights."""
    known = {**weight_streams(), "M5 Pro": _M5_PRO_STREAM}
    near = chip.name.split()[0]
    if chip.name.startswith("M"):
        rate, source = known.get(chip.name) or known[near]
        certainty = "measured" if chip.name in known else "borrowed"
        text = source if chip.name in known else f"{near}'s: {source}"
        return (
            Entry("stream_gbps", rate, certainty, text),
            Entry("compressed_stream_gbps", rate, certainty, f"{text}; whether dense or compressed is not said there"),
        )
    fit = found.fits["neural_engine"]
    unit = fit.units[chip.neural_engine]
    lender = next(other for other in CHIPS if other.name == chip.neural_engine)
    theirs, ours = found.rated[lender.specs].dram_gbps, found.rated[chip.specs].dram_gbps
    if chip.name in fit.units:
        dense = Entry("stream_gbps", unit.stream_gbps, "fitted", fit_source(fit))
    elif ours is None or theirs is None:
        dense = Entry("stream_gbps", unit.stream_gbps, "borrowed", f"{lender.name}'s")
    else:
        text = f"{lender.name}'s, scaled by {ours / theirs:.3g}, the ratio of the rated DRAM bandwidths"
        dense = Entry("stream_gbps", unit.stream_gbps * ours / theirs, "borrowed", text)
    text = f"rated DRAM bandwidth in {SPECS}; OPT-1.3B at 4 bits on A17 Pro needs at least 44.6 GB/s"
    packed = (
        Entry("compressed_stream_gbps", ours, "rated", text)
        if ours is not None
        else Entry("compressed_stream_gbps", unit.compressed_stream_gbps, "borrowed", f"{lender.name}'s")
    )
    return dense, packed


def _formats(chip: Chip) -> Entry:
    """List the stored formats that the Neural Engine reads as they are."""
    if chip.name in NO_STREAMING:
        return Entry("streams", [], "assumed", "no measurement on this chip or an older one shows streaming")
    formats = ["palette", "grouped_palette", "linear", "sparse"]
    text = "compressed rows of data/device_latency.csv on A16 and A17 Pro; blocks: nothing known, so not"
    if chip.name in NO_INT8_STREAMING:
        formats.remove("linear")
        text = f"palettes on M1 Max (data/device_latency.csv, line 233); linear weights stream from M2 on ({SPECS})"
    return Entry("streams", formats, "fitted" if chip.name in ("A16", "A17 Pro") else "borrowed", text)


def _gpu(chip: Chip, found: Calibrated, tflops: float) -> list[Entry]:
    fit = found.fits["gpu"]
    unit = fit.units[chip.gpu]
    utilisation, bandwidth = fit.values["utilisation"], fit.values["bandwidth"]
    dram = found.rated[chip.specs].dram_gbps or found.rated[chip.gpu].dram_gbps or 0.0
    certainty = "fitted" if chip.name == chip.gpu else "borrowed"
    source = fit_source(fit) if certainty == "fitted" else f"{chip.gpu}'s: {fit_source(fit)}"
    part = f"{bandwidth:.2f} (fitted) of the rated DRAM bandwidth, {dram:g} GB/s in {SPECS}"
    entries = [
        _host_dispatch(chip.gpu, unit.dispatch_ms, certainty, source),
        Entry("launch_ms", unit.launch_ms, certainty, source),
        Entry(
            "compute_tflops",
            utilisation * tflops,
            "fitted" if certainty == "fitted" else "inferred",
            f"{utilisation:.2f} (fitted) of the rated {tflops:g} TFLOPS in {SPECS}",
        ),
        Entry("activation_gbps", bandwidth * dram, "inferred", part),
        Entry("stream_gbps", bandwidth * dram, "inferred", part),
        Entry("compressed_stream_gbps", bandwidth * dram, "inferred", part),
        *_host_interval(chip, fit),
    ]
    if chip.name.startswith("M"):
        text = "block-wise int4 decode on a Mac's GPU is about twice as fast as float16 (data/README.md)"
        entries.append(Entry("streams", ["blocks"], "measured", text))
    return [entry._replace(name=f"gpu.{entry.name}") for entry in entries]


def _cpu(chip: Chip, found: Calibrated) -> list[Entry]:
    fit = found.fits["cpu"]
    unit = fit.units[chip.cpu]
    certainty = "fitted" if chip.name == chip.cpu else "borrowed"
    source = fit_source(fit) if certainty == "fitted" else f"{chip.cpu}'s: {fit_source(fit)}"
    names = ("launch_ms", "compute_tflops", "activation_gbps", "stream_gbps", "compressed_stream_gbps")
    entries = [
        _host_dispatch(chip.cpu, unit.dispatch_ms, certainty, source),
        *(Entry(name, getattr(unit, name), certainty, source) for name in names),
        *_host_interval(chip, fit),
    ]
    return [entry._replace(name=f"cpu.{entry.name}") for entry in entries]


def _host_dispatch(lender: str, lent_ms: float, certainty: str, source: str) -> Entry:
    if lender.startswith("M"):
        return Entry("dispatch_ms", lent_ms, "assumed", "as on M1's Neural Engine: 0.2 ms")
    return Entry("dispatch_ms", lent_ms, certainty, f"{source}; includes the conversion of the input image")


def _host_interval(chip: Chip, fit: Fit) -> tuple[Entry, Entry]:
    low, high = fit.interval_of(chip.name)
    count = sum(row.chip == chip.name for row in fit.rows)
    certainty = "fitted" if count else "assumed"
    text = (
        f"10 % and 90 % quantiles of cross-validation residuals by family; {count} rows of this chip"
        if count
        else "twice the 10 % and 90 % quantiles of cross-validation residuals: nothing was measured on this chip"
    )
    return Entry("interval_low", low, certainty, text), Entry("interval_high", high, certainty, text)
