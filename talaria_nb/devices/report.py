"""`calibration_report.md`: every row, predicted and measured, and how good that makes the estimates."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from talaria_nb import latency
from talaria_nb.devices.fit import overlapped
from talaria_nb.devices.measurements import Row, bits, group_size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from talaria_nb.devices.calibrate import Fit
    from talaria_nb.devices.files import Calibrated, Entry
    from talaria_nb.devices.unit import Unit
    from talaria_nb.work import Work

    Floats: TypeAlias = NDArray[np.float64]

REPORT = Path(__file__).parent / "calibration_report.md"

_TITLES = {"neural_engine": "Neural Engine, A14 to A17 Pro", "gpu": "GPU", "cpu": "CPU"}


def write(
    found: Calibrated, every: Sequence[Row], works: Mapping[str, Work], shared: Mapping[str, Sequence[Entry]]
) -> str:
    """Write the report.

    Parameters
    ----------
    found
        What was fitted.
    every
        All usable rows of the Neural Engine, also of chips that took no part in the fit.
    works
        By key.
    shared
        What all chips share, by unit.
    """
    lines = [
        "# Calibration",
        "",
        "Written by `python -m talaria_nb.devices.calibrate`; not edited by hand.",
        "",
        "*Unseen*: predicted by a fit that saw no row of the family; *other lab*: by one that saw none of the source.",
    ]
    for unit, fit in found.fits.items():
        lines += ["", f"## {_TITLES[unit]}", "", *_accuracy(fit)]
        numbers = {entry.name: entry.value for entry in shared[unit] if isinstance(entry.value, float)}
        lines += ["", "| parameter | value |", "| --- | ---: |"]
        lines += [f"| {name} | {value:.4g} |" for name, value in (fit.values | numbers).items()]
    engine = found.fits["neural_engine"]
    lines += _compression(engine, every, works, found.table_us)
    lines += _other_chips(engine, every, works)
    for unit, fit in found.fits.items():
        lines += _rows(unit, fit)
        lines += ["", f"### Rows left out, {unit}", "", "| line | model | chip | scheme | why |"]
        lines += ["| ---: | --- | --- | --- | --- |"]
        lines += [f"| {row.index} | {row.model} | {row.chip} | {row.scheme} | {row.note} |" for row in fit.unused]
    return "\n".join(lines) + "\n"


def summary(predicted: Floats, measured: Floats) -> dict[str, float]:
    """MAPE, median error (both %), and Spearman's rank correlation."""
    from scipy.stats import spearmanr  # type: ignore[import-untyped]  # noqa: PLC0415 - only reporting needs it

    error = np.abs(predicted / measured - 1) * 100
    return {
        "MAPE %": float(error.mean()),
        "median %": float(np.median(error)),
        "p90 %": float(np.quantile(error, 0.9)),
        "Spearman": float(spearmanr(predicted, measured).statistic),
    }


def ceiling(measured: Floats) -> tuple[float, float, float]:
    """Rank correlation that a perfect model would reach on these rows, if labs differ as they do.

    Mean and 80 % interval over 1,000 draws of measurement errors. Two labs differ by 8 % at the median and by 40 % at
    the 90th percentile (`data/README.md`), which normal errors cannot do at once: these have Student's distribution.
    """
    from scipy.stats import spearmanr  # noqa: PLC0415 - as above

    draws = LAB_SCALE * np.random.default_rng(0).standard_t(LAB_FREEDOM, (1000, len(measured)))
    ranks = [spearmanr(measured * np.exp(np.clip(draw, -1, 1)), measured).statistic for draw in draws]
    return float(np.mean(ranks)), float(np.quantile(ranks, 0.1)), float(np.quantile(ranks, 0.9))


LAB_FREEDOM, LAB_SCALE = 1.4, 0.048
"""Student's distribution of one lab's error, in log units: differences of two such errors have the quantiles above."""


def _accuracy(fit: Fit) -> list[str]:
    measured = np.array([row.measured_ms for row in fit.rows])
    count = len({row.family for row in fit.rows})
    lines = [
        f"{len(fit.rows)} rows of quality A and B, {count} families, {len(fit.values)} fitted parameters.",
        "",
        "| | MAPE % | median % | 90th percentile % | Spearman |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    table = {"this model, in sample": fit.fitted, "this model, unseen": fit.validated}
    if fit.unit == "neural_engine":
        table["this model, other lab"] = fit.other_labs
    table |= {f"{name}, unseen": predicted for name, predicted in fit.baselines.items()}
    for name, predicted in table.items():
        lines.append(
            f"| {name} | " + " | ".join(f"{value:.3g}" for value in summary(predicted, measured).values()) + " |"
        )
    labs = f" and {100 * np.mean(fit.covered[1]):.0f} % of those unseen by lab" if len(fit.covered) > 1 else ""
    mean, least, most = ceiling(measured)
    lines += [
        "",
        (
            f"The 80 % interval, set without the row's family, covers {100 * np.mean(fit.covered[0]):.0f} % of the "
            f"rows unseen by family{labs}. Two labs differ by 8 % at the median and 40 % at the 90th percentile; with "
            f"such errors in the rows a perfect model would reach a rank correlation of {mean:.2f} on them "
            f"({least:.2f} to {most:.2f} in 80 % of draws)."
        ),
        "",
        "| chip | rows | MAPE % unseen | covered % | interval, × estimate |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    for chip in fit.units:
        mine = np.array([row.chip == chip for row in fit.rows])
        error = (
            summary(fit.validated[mine], measured[mine])["MAPE %"] if mine.sum() > 1 else _error(fit, mine, measured)
        )
        low, high = fit.interval_of(chip)
        lines.append(
            f"| {chip} | {mine.sum()} | {error:.1f} | {100 * np.mean(fit.covered[0, mine]):.0f} "
            f"| {low:.2f} to {high:.2f} |"
        )
    return lines


def _error(fit: Fit, mine: NDArray[np.bool_], measured: Floats) -> float:
    return float(np.abs(fit.validated[mine] / measured[mine] - 1).mean() * 100)


def _rows(unit: str, fit: Fit) -> list[str]:
    lines = [
        "",
        f"## Every row, {_TITLES[unit]}",
        "",
        "| line | model | chip | family | measured ms | in sample | unseen | unseen / measured | in interval |",
        "| ---: | --- | --- | --- | ---: | ---: | ---: | ---: | --- |",
    ]
    chips = list(fit.units)
    rows = fit.rows
    order = sorted(
        range(len(rows)), key=lambda at: (chips.index(rows[at].chip), fit.validated[at] / rows[at].measured_ms)
    )
    for number in order:
        row = rows[number]
        lines.append(
            f"| {row.index} | {row.model} | {row.chip} | {row.family} | {row.measured_ms:.3g} "
            f"| {fit.fitted[number]:.3g} | {fit.validated[number]:.3g} | {fit.validated[number] / row.measured_ms:.2f} "
            f"| {'yes' if fit.covered[0, number] else '**no**'} |"
        )
    return lines


def price_row(unit: Unit, work: Work, row: Row, table_us: float) -> float:
    """Milliseconds of a row's model with all weights under its scheme."""
    parts = latency.op_parts(unit, work, activation_bits=np.where(work.int8, row.activation_bits, 16))
    stream = parts.stream_ms
    if bits(row.scheme) < bits("float16"):
        stream = parts.stream_ms * bits(row.scheme) / 16 * unit.stream_gbps / unit.compressed_stream_gbps
        size = group_size(row.scheme)
        if size is not None:
            stream = np.maximum(stream, work.channels_out * (stream > 0) / size * table_us * 1e-3)
    busy = parts.launch_ms + parts.compute_ms + parts.traffic_ms
    return float(unit.dispatch_ms + overlapped(busy, stream, np.zeros(1, dtype=np.int64))[0])


def _compression(fit: Fit, every: Sequence[Row], works: Mapping[str, Work], table_us: float) -> list[str]:
    unseen = {small.index: float(1 / ratio) for (small, _), ratio in zip(fit.pairs, fit.ratios, strict=True)}
    dense = {(row.key, row.chip): row for row in fit.rows}
    lines = [
        "",
        "## Speed-up of compressed weights over float16",
        "",
        (
            "All weights compressed alike. Ratios took part in the fit (those of grouped palettes did not), absolute "
            "latencies of these rows did not. *Unseen* as above."
        ),
        "",
        "| line | model | chip | scheme | measured | predicted | unseen | predicted / measured |",
        "| ---: | --- | --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for row in every:
        if row.scheme == "float16" or (row.key, row.chip) not in dense:
            continue
        unit, work, base = fit.units[row.chip], works[row.key], dense[row.key, row.chip]
        speed_up = price_row(unit, work, base, table_us) / price_row(unit, work, row, table_us)
        real = base.measured_ms / row.measured_ms
        blind = f"{unseen[row.index]:.2f}" if row.index in unseen else ""
        lines.append(
            f"| {row.index} | {row.model} | {row.chip} | {row.scheme} | {real:.2f} | {speed_up:.2f} | {blind} "
            f"| {speed_up / real:.2f} |"
        )
    return lines


def _other_chips(fit: Fit, every: Sequence[Row], works: Mapping[str, Work]) -> list[str]:
    """Rows of chips that took no part in the fit: what borrowing is worth."""
    from talaria_nb.devices import read_chip  # noqa: PLC0415 - the files were written a moment ago
    from talaria_nb.devices.read import chip_files  # noqa: PLC0415 - as above

    units = {entry.chip: entry.unit("all") for path in chip_files() for entry in read_chip(path)[:1]}
    lines = [
        "",
        "## Chips that took no part in the fit",
        "",
        "Their parameters are borrowed, scaled, and measured only where the chip's file says so.",
        "",
        "| line | model | chip | scheme | measured ms | predicted ms | predicted / measured | in interval |",
        "| ---: | --- | --- | --- | ---: | ---: | ---: | --- |",
    ]
    for row in every:
        if row.chip in fit.units or row.chip not in units:
            continue
        unit = units[row.chip]
        predicted = price_row(unit, works[row.key], row, unit.table_us)
        inside = unit.interval_low <= row.measured_ms / predicted <= unit.interval_high
        lines.append(
            f"| {row.index} | {row.model} | {row.chip} | {row.scheme} | {row.measured_ms:.3g} | {predicted:.3g} "
            f"| {predicted / row.measured_ms:.2f} | {'yes' if inside else '**no**'} |"
        )
    return lines
