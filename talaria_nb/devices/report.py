"""What a calibration leaves behind: the TOML files and `calibration_report.md`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from talaria_nb import latency
from talaria_nb.devices.measurements import CHIPS, Rating, Row, bits, group_size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from talaria_nb.devices import Unit
    from talaria_nb.work import Work

    Floats: TypeAlias = NDArray[np.float64]

FOLDER = Path(__file__).parent
REPORT = FOLDER / "calibration_report.md"


def overlapped(busy: Floats, stream: Floats, start: NDArray[np.int64]) -> Floats:
    """Total of each row when its weights stream, in order, beside its ops: what `latency.op_times` adds up to."""
    ends = np.append(start[1:], len(busy))
    totals = np.empty(len(start))
    for row, (first, last) in enumerate(zip(start, ends, strict=True)):
        done, arrived = np.cumsum(busy[first:last]), np.cumsum(stream[first:last])
        totals[row] = done[-1] + max(0.0, float((arrived - done).max()))
    return totals


def summary(predicted: Floats, measured: Floats) -> dict[str, float]:
    """MAPE, median error (both %), and Spearman's rank correlation."""
    from scipy.stats import spearmanr  # type: ignore[import-untyped]  # noqa: PLC0415 - as above

    error = np.abs(predicted / measured - 1) * 100
    return {
        "MAPE %": float(error.mean()),
        "median %": float(np.median(error)),
        "p90 %": float(np.quantile(error, 0.9)),
        "Spearman": float(spearmanr(predicted, measured).statistic),
    }


def accuracy(
    rows: Sequence[Row],
    measured: Floats,
    fitted: Floats,
    validated: Floats,
    other_labs: Floats,
    covered: NDArray[np.bool_],
    baselines: Mapping[str, Floats],
    values: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float]],
    unused: Sequence[Row],
) -> str:
    """Write the float16 part of the report."""
    count = len({row.family for row in rows})
    lines = [
        "# Calibration of the Neural Engine, A14 to A17 Pro",
        "",
        "Written by `python -m talaria_nb.devices.calibrate`; not edited by hand.",
        "",
        (
            f"{len(rows)} float16 rows of quality A and B, {count} families, {len(values)} fitted "
            "parameters. *Unseen* means predicted by a fit that saw no row of the family, *other lab* by one that "
            "saw none of the source."
        ),
        "",
        "| | MAPE % | median % | 90th percentile % | Spearman |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    table = {"this model, in sample": fitted, "this model, unseen": validated}
    table["this model, other lab"] = other_labs
    table |= {f"{name}, unseen": predicted for name, predicted in baselines.items()}
    for name, predicted in table.items():
        figures = summary(predicted, measured)
        lines.append(f"| {name} | " + " | ".join(f"{figure:.3g}" for figure in figures.values()) + " |")
    lines += [
        "",
        (
            f"The 80 % interval, set without the row's family, covers {100 * np.mean(covered[0]):.0f} % of the rows "
            f"unseen by family and {100 * np.mean(covered[1]):.0f} % of those unseen by lab."
        ),
        "",
        "| chip | rows | MAPE % unseen | covered % | interval, × estimate |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    for chip, (low, high) in intervals.items():
        mine = np.array([row.chip == chip for row in rows])
        error = summary(validated[mine], measured[mine])["MAPE %"]
        lines.append(
            f"| {chip} | {mine.sum()} | {error:.1f} | {100 * np.mean(covered[0, mine]):.0f} | {low:.2f} to {high:.2f} |"
        )
    lines += ["", "| parameter | value |", "| --- | ---: |"]
    lines += [f"| {name} | {value:.4g} |" for name, value in values.items()]
    lines += [
        "",
        "## Every float16 row",
        "",
        "| line | model | chip | family | measured ms | in sample | unseen | unseen / measured | in interval |",
        "| ---: | --- | --- | --- | ---: | ---: | ---: | ---: | --- |",
    ]
    chips = list(CHIPS)
    for number in sorted(range(len(rows)), key=lambda at: (chips.index(rows[at].chip), validated[at] / measured[at])):
        row = rows[number]
        lines.append(
            f"| {row.index} | {row.model} | {row.chip} | {row.family} | {measured[number]:.3g} | {fitted[number]:.3g} "
            f"| {validated[number]:.3g} | {validated[number] / measured[number]:.2f} "
            f"| {'yes' if covered[0, number] else '**no**'} |"
        )
    lines += ["", "## Rows left out", "", "| line | model | chip | scheme | why |", "| ---: | --- | --- | --- | --- |"]
    lines += [f"| {row.index} | {row.model} | {row.chip} | {row.scheme} | {row.note} |" for row in unused]
    return "\n".join(lines) + "\n"


def compression(
    rows: Sequence[Row], dense: Mapping[tuple[str, str], Row], works: Mapping[str, Work], found: Sequence[Unit]
) -> str:
    """Write the compressed part of the report: measured and predicted speed-up over float16."""
    lines = [
        "",
        "## Speed-up of compressed weights over float16",
        "",
        "All weights compressed alike. Ratios took part in the fit, absolute latencies of these rows did not.",
        "",
        "| line | model | chip | scheme | measured | predicted | predicted / measured |",
        "| ---: | --- | --- | --- | ---: | ---: | ---: |",
    ]
    for row in rows:
        unit = found[list(CHIPS).index(row.chip)]
        work = works[row.key]
        parts = latency.op_parts(unit, work)
        busy = parts.launch_ms + parts.compute_ms + parts.traffic_ms
        packed = parts.stream_ms * bits(row.scheme) / 16 * unit.stream_gbps / unit.compressed_stream_gbps
        size = group_size(row.scheme)
        if size is not None:
            packed = np.maximum(packed, work.channels_out * (packed > 0) / size * unit.table_us * 1e-3)
        once = np.zeros(1, dtype=np.int64)
        before = unit.dispatch_ms + overlapped(busy, parts.stream_ms, once)[0]
        after = unit.dispatch_ms + overlapped(busy, packed, once)[0]
        real = dense[row.key, row.chip].measured_ms / row.measured_ms
        lines.append(
            f"| {row.index} | {row.model} | {row.chip} | {row.scheme} | {real:.2f} | {before / after:.2f} "
            f"| {before / after / real:.2f} |"
        )
    return "\n".join(lines) + "\n"


def write_devices(
    found: Sequence[Unit],
    intervals: Mapping[str, tuple[float, float]],
    rows: Sequence[Row],
    utilisation: float,
    rated: Mapping[str, Rating],
) -> None:
    """Write the shared TOML file and one for each chip."""
    fit = f"calibrate.py, fit to {len(rows)} float16 rows of data/device_latency.csv, A14 to A17 Pro"
    opt = "OPT-1.3B table on A17 Pro (coremltools docs, opt-opt1_3)"
    shared = {
        "grouped_efficiency": fit,
        "depthwise_efficiency": fit,
        "channel_half": fit,
        "sequence_traffic": fit,
        "table_us": f"{opt}, rows with one and two channels a table",
    }
    head = "# Written by `python -m talaria_nb.devices.calibrate`.\n\nschema = 1\n"
    text = head + "".join(_entry(name, getattr(found[0], name), "fitted", source) for name, source in shared.items())
    (FOLDER / "neural_engine.toml").write_text(text, encoding="utf-8")
    for (chip, products), unit in zip(CHIPS.items(), found, strict=True):
        count = sum(row.chip == chip for row in rows)
        own = f"{fit}; {count} rows are this chip's"
        low, high = intervals[chip]
        residual = (
            f"10 % and 90 % quantiles of cross-validation residuals (by family, by lab); {count} rows of this chip"
        )
        stream = "rated DRAM bandwidth in data/device_specs.csv; OPT-1.3B at 4 bits on A17 Pro needs at least 44.6 GB/s"
        entries = (
            ("dispatch_ms", unit.dispatch_ms, "fitted", own),
            ("launch_ms", unit.launch_ms, "fitted", own),
            (
                "compute_tflops",
                unit.compute_tflops,
                "fitted",
                f"{utilisation:.2f} (fitted) of the rated {rated[chip].tflops:g} TFLOPS in data/device_specs.csv",
            ),
            ("activation_gbps", unit.activation_gbps, "fitted", own),
            ("stream_gbps", unit.stream_gbps, "fitted", own),
            (
                "compressed_stream_gbps",
                unit.compressed_stream_gbps,
                "rated",
                stream,
            ),
            ("interval_low", low, "fitted", residual),
            ("interval_high", high, "fitted", residual),
        )
        names = ", ".join(f'"{name}"' for name in products)
        text = f'{head}chip = "{chip}"\nproducts = [{names}]\n'
        text += "".join(
            _entry(f"neural_engine.{name}", value, certainty, source) for name, value, certainty, source in entries
        )
        (FOLDER / f"{chip.lower().replace(' ', '_')}.toml").write_text(text, encoding="utf-8")


def _entry(name: str, value: float, certainty: str, source: str) -> str:
    return f'\n[{name}]\nvalue = {float(f"{value:.4g}")}\ncertainty = "{certainty}"\nsource = "{source}"\n'
