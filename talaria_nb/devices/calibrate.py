"""Fit the device files to published latencies: `python -m talaria_nb.devices.calibrate`.

Reads `data/device_latency.csv` and the cached workloads, fits the parameters of the Neural Engine of A14 to A17 Pro and
of the GPUs and CPUs that have rows, cross-validates them by model family, sets the 80 % intervals from the
cross-validation's residuals, lends the parameters to the chips that were not measured, and writes the TOML files and
`calibration_report.md`. It needs scipy, which the package does not, and runs in two minutes,
without converting anything. `--build-workloads` first converts the models that the cache lacks, which needs timm and
torchvision.
"""

from __future__ import annotations

import argparse
import csv
import gc
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from talaria_nb import latency
from talaria_nb.devices import files, report, workloads
from talaria_nb.devices.chips import CHIPS
from talaria_nb.devices.fit import (
    BUILDERS,
    Stack,
    cross_validate,
    flops_model,
    ratio_stacks,
    roofline_model,
    unit_model,
)
from talaria_nb.devices.measurements import (
    CHIPS_OF,
    LATENCIES,
    Row,
    bits,
    group_size,
    ratings,
    read_rows,
)
from talaria_nb.op_types import Kind
from talaria_nb.work import Work, count_work

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from talaria_nb.devices.measurements import Rating
    from talaria_nb.devices.unit import Unit

    Floats: TypeAlias = NDArray[np.float64]


def interval(residuals: Floats, families: Sequence[str], rows_of_chip: int) -> tuple[float, float]:
    """80 % interval as factors of the estimate, from log(measured / cross-validated prediction).

    A user's model is of a family that the fit has not seen, and every family weighs alike. A chip with few rows
    gets a wider interval: n rows leave 1 + 4/n of the variance, and no row twice the width.
    """
    weight = np.array([1 / families.count(family) for family in families])
    order = np.argsort(residuals)
    share = (np.cumsum(weight[order]) - weight[order] / 2) / weight.sum()
    low, high = np.interp([0.1, 0.9], share, residuals[order])
    wider = min(2.0, float(np.sqrt(1 + 4 / rows_of_chip))) if rows_of_chip else 2.0
    return float(np.exp(min(low * wider, -0.05))), float(np.exp(max(high * wider, 0.05)))


def differences(errors: Floats, predicted: Floats) -> tuple[float, float]:
    """Floor and spread of the interval of a ratio, from log(measured / predicted ratio) of pairs.

    The floor covers 80 % of the pairs that hardly differ; with the spread, 80 % of the others are covered, too.
    """
    size, small = np.abs(errors), np.abs(np.log(predicted)) < np.log(1.1)
    floor = float(np.quantile(size[small], 0.8))
    added = np.sqrt(np.maximum(size[~small] ** 2 - floor**2, 0))
    return floor, float(np.quantile(added, 0.8))


def widening(shares: Floats) -> float:
    """How much wider one op's interval is than a program's, in log units.

    Taken as if an op's error were shared by the ops of its kind in the model and independent between kinds: then the
    program's variance is that of one kind times the sum of the squared shares. `shares` has shape (programs, kinds).
    """
    total = shares / shares.sum(axis=1, keepdims=True)
    return float(1 / np.sqrt(np.median((total**2).sum(axis=1))))


def table_time(rows: Sequence[Row], works: Mapping[str, Work], unit: Unit) -> float:
    """Read off the OPT-1.3B table what one look-up table costs on A17 Pro, in microseconds.

    With a table for one or two output channels, time follows the number of tables. All of the time is the start,
    and what else there is to do is then taken off.
    """
    opt = {group_size(row.scheme): row for row in rows if row.family == "opt" and row.scheme.startswith("palettize")}
    work = works[opt[None].key]
    channels = float(work.channels_out[work.kind == Kind.LINEAR].sum())
    found = float(np.sqrt(opt[1].measured_ms / channels * opt[2].measured_ms / (channels / 2))) * 1e3
    for _ in range(5):
        found *= np.sqrt(
            np.prod([opt[size].measured_ms / report.price_row(unit, work, opt[size], found) for size in (1, 2)])
        )
    return float(found)


@dataclass(frozen=True, eq=False)
class Fit:
    """One compute unit's fit with all that its report and its files need."""

    unit: str
    rows: list[Row]
    pairs: list[tuple[Row, Row]]
    unused: list[Row]
    values: dict[str, float]
    units: dict[str, Unit]
    fitted: Floats
    validated: Floats
    other_labs: Floats
    residuals: Floats
    covered: NDArray[np.bool_]
    baselines: dict[str, Floats]
    ratios: Floats
    shares: Floats

    def interval_of(self, chip: str) -> tuple[float, float]:
        """80 % interval of a chip's estimates."""
        return interval(
            self.residuals[0], [row.family for row in self.rows], sum(row.chip == chip for row in self.rows)
        )


def fit_unit(unit: str, works: Mapping[str, Work], rated: Mapping[str, Rating]) -> Fit:
    """Fit and cross-validate one of `UNITS`."""
    chips = CHIPS_OF[unit]
    every, unused = read_rows(set(works), unit)
    usable = [row for row in every if row.chip in chips]
    rows = [row for row in usable if row.scheme == "float16"]
    of_model = {(row.key, row.chip): row for row in rows}
    pairs = [
        (row, of_model[row.key, row.chip])
        for row in usable
        if row.scheme != "float16"
        and group_size(row.scheme) is None
        and (unit == "neural_engine" or row.activation_bits == bits("float16"))
    ]
    model = unit_model(unit, rated)
    stack = Stack.of(rows, works)
    point = model.fit(stack, ratio_stacks(pairs, works))
    unseen = cross_validate(model, rows, works, pairs)
    # The GPU and CPU rows come from two labs with one model in common: leaving one out leaves no fit.
    other = cross_validate(model, rows, works, pairs, by="source") if unit == "neural_engine" else unseen
    measured = np.exp(stack.log_ms)
    kinds = {"neural_engine": [unseen.latency_ms, other.latency_ms]}.get(unit, [unseen.latency_ms])
    residuals = np.log(measured / np.array(kinds))
    values = model.values(point)
    units = BUILDERS[unit](values, rated)
    return Fit(
        unit=unit,
        rows=rows,
        pairs=pairs,
        unused=unused,
        values=values,
        units=units,
        fitted=model.predict(point, stack),
        validated=unseen.latency_ms,
        other_labs=other.latency_ms,
        residuals=residuals,
        covered=_covered(residuals, rows),
        baselines={
            "FLOPs only": cross_validate(flops_model(chips), rows, works, []).latency_ms,
            "plain roofline": cross_validate(roofline_model(chips), rows, works, []).latency_ms,
        },
        ratios=unseen.ratio,
        shares=np.array(
            [latency.time_shares(works[row.key], latency.op_parts(units[row.chip], works[row.key])) for row in rows]
        ),
    )


def _covered(residuals: Floats, rows: Sequence[Row]) -> NDArray[np.bool_]:
    """Tell which rows lie in an interval that was set without their family."""
    covered = np.zeros(residuals.shape, dtype=np.bool_)
    families = [row.family for row in rows]
    for number, row in enumerate(rows):
        others = np.array([family != row.family for family in families])
        low, high = interval(
            residuals[0, others],
            [family for family in families if family != row.family],
            sum(other.chip == row.chip for other in rows),
        )
        factor = np.exp(residuals[:, number])
        covered[:, number] = (low <= factor) & (factor <= high)
    return covered


def calibrate() -> str:
    """Fit, write the TOML files and the report, and return the report."""
    works = {key: count_work(program) for key, program in workloads.read().items()}
    rated = ratings()
    fits = {unit: fit_unit(unit, works, rated) for unit in BUILDERS}
    engine = fits["neural_engine"]
    every = read_rows(set(works))[0]
    floor, spread = differences(
        np.log([dense.measured_ms / small.measured_ms for small, dense in engine.pairs]) + np.log(engine.ratios),
        engine.ratios,
    )
    calibrated = files.Calibrated(
        fits=fits,
        rated=rated,
        table_us=table_time(every, works, engine.units["A17 Pro"]),
        difference_floor=floor,
        difference_spread=spread,
        op_widening=widening(engine.shares),
    )
    shared = files.write_shared(calibrated)
    for chip in CHIPS:
        files.write_chip(chip, calibrated)
    text = report.write(calibrated, every, works, shared)
    report.REPORT.write_text(text, encoding="utf-8")
    return text


def build_workloads() -> None:
    """Convert every model of the CSV that the cache lacks and that can be built. Says what failed, and why."""
    # Converting needs torch and coremltools, which fitting should not wait for.
    import torch  # noqa: PLC0415
    from tqdm.auto import tqdm  # noqa: PLC0415

    from talaria_nb.devices import reference_models  # noqa: PLC0415
    from talaria_nb.load import load  # noqa: PLC0415

    library = reference_models.define_torchvision_schemas()
    encoded = workloads.read_encoded()
    with LATENCIES.open(encoding="utf-8", newline="") as file:
        wanted = dict.fromkeys(
            (line["timm_or_hf_name"], line["input_shape"])
            for line in csv.DictReader(file)
            if line["latency_ms"] and reference_models.can_build(line["timm_or_hf_name"])
        )
    missing = [(name, shape) for name, shape in wanted if f"{name}@{shape}" not in encoded]
    for name, shape in tqdm(missing, desc="workloads", unit="model"):
        torch.manual_seed(0)
        try:
            module, example = reference_models.build(name, shape)
            program = load(module, (example,), progress=False).program
        except Exception as error:  # noqa: BLE001 - one model that fails must not cost the others
            tqdm.write(f"{name}@{shape}: {type(error).__name__}: {error}")
            continue
        encoded[f"{name}@{shape}"] = workloads.encode(program)
        workloads.write(encoded)
        del module, program
        gc.collect()
    del library


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m talaria_nb.devices.calibrate", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--build-workloads", action="store_true", help="convert the models that the cache lacks first (needs timm)"
    )
    if parser.parse_args(arguments).build_workloads:
        build_workloads()
    print(calibrate())  # noqa: T201 - the report is what the command is for


if __name__ == "__main__":
    main()
