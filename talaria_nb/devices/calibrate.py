"""Fit the device files to published latencies: `python -m talaria_nb.devices.calibrate`.

Reads `data/device_latency.csv` and the cached workloads, fits the parameters of the Neural Engine of A14 to A17 Pro,
cross-validates them by model family, sets the 80 % interval from the cross-validation's residuals, and writes the TOML
files and `calibration_report.md`. It needs scipy, which the package does not, and runs in a minute, without converting
anything. `--rebuild-workloads` first makes the workloads again, which needs timm and a quarter of an hour.
"""

from __future__ import annotations

import argparse
import csv
import gc
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from talaria_nb import latency
from talaria_nb.devices import Unit, workloads
from talaria_nb.devices.measurements import CHIPS, LATENCIES, Rating, Row, bits, group_size, ratings, read_rows
from talaria_nb.devices.report import REPORT, accuracy, compression, overlapped, write_devices
from talaria_nb.work import Kind, Work, count_work

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

ERROR = 0.12
"""Size of an ordinary error of a latency, in log units: what two labs differ by on one model and chip (8 % at the
median, `data/device_latency.csv`). Beyond it, an error counts linearly and no longer by its square."""

RATIO_ERROR = 0.06
"""The same for the ratio of a compressed model to the dense one, measured by one lab on one phone."""


# The parameters: start value, and how far (in log units) the data may pull it before it costs as much as an ordinary
# error. Only `utilisation` is held tight, because the rated speed is an upper bound.
SHARED: Mapping[str, tuple[float, float]] = {
    "utilisation": (0.9, 0.1),
    "grouped_efficiency": (0.5, 1.0),
    "depthwise_efficiency": (0.1, 1.0),
    "channel_half": (30.0, 1.0),
    "activation_gbps": (75.0, 1.0),
    "sequence_traffic": (2.0, 0.7),
    "launch_ms": (0.001, 1.0),
    "stream_gbps": (30.0, 0.5),
}
SPEED = {"A14": (0.9, 0.3), "A16": (1.1, 0.3), "A17 Pro": (1.2, 0.3)}
DISPATCH_MS = {"A14": (0.2, 0.7), "A15": (0.15, 0.7), "A16": (0.1, 0.7), "A17 Pro": (0.1, 0.7)}


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """The work of many rows end to end, so that one call prices them all."""

    work: Work
    start: NDArray[np.int64]
    chip: NDArray[np.int64]
    op_chip: NDArray[np.int64]
    kept: Floats
    log_ms: Floats

    @classmethod
    def of(cls, rows: Sequence[Row], works: Mapping[str, Work]) -> Stack:
        """Stack rows; `kept` is the part of its dense bytes that each row's scheme stores."""
        parts = [works[row.key] for row in rows]
        length = np.array([len(part) for part in parts], dtype=np.int64)
        chip = np.array([list(CHIPS).index(row.chip) for row in rows], dtype=np.int64)
        columns = {field.name: np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Work)}
        kept = np.repeat([bits(row.scheme) / 16 for row in rows], length)
        return cls(
            Work(**columns),
            np.concatenate(([0], np.cumsum(length)[:-1])),
            chip,
            np.repeat(chip, length),
            kept,
            np.log([row.measured_ms for row in rows]),
        )


class Model:
    """A parametric latency model: names, start values, and a price for a stack."""

    def __init__(
        self, parameters: Mapping[str, tuple[float, float]], price: Callable[[dict[str, float], Stack], Floats]
    ) -> None:
        self.names = tuple(parameters)
        self.start = np.log([value for value, _ in parameters.values()])
        self.width = np.array([width for _, width in parameters.values()])
        self.price = price

    def predict(self, point: Floats, stack: Stack) -> Floats:
        """Milliseconds of each row of the stack."""
        return self.price(dict(zip(self.names, np.exp(point).tolist(), strict=True)), stack)

    def fit(self, stack: Stack, ratios: tuple[Stack, Stack] | None = None) -> Floats:
        """Fit to log latencies, and to log ratios of (compressed, dense) stacks, with a robust loss."""
        from scipy.optimize import least_squares  # type: ignore[import-untyped]  # noqa: PLC0415 - only fitting needs it

        def residuals(point: Floats) -> Floats:
            parts = [_soften((np.log(self.predict(point, stack)) - stack.log_ms) / ERROR)]
            if ratios is not None and len(ratios[0].start):
                small, dense = ratios
                predicted = np.log(self.predict(point, small) / self.predict(point, dense))
                parts.append(_soften((predicted - (small.log_ms - dense.log_ms)) / RATIO_ERROR))
            return np.concatenate([*parts, (point - self.start) / self.width])

        return np.asarray(least_squares(residuals, self.start, diff_step=1e-3, max_nfev=100).x)


def _soften(errors: Floats) -> Floats:
    """Residuals whose squares grow like the errors themselves where those are large (soft L1)."""
    softened: Floats = np.sign(errors) * np.sqrt(2 * (np.sqrt(1 + errors**2) - 1))
    return softened


def units(values: Mapping[str, float], rated: Mapping[str, Rating]) -> list[Unit]:
    """Build each chip's `Unit` from the fitted parameters."""
    built = []
    for chip in CHIPS:
        speed = values.get(f"speed {chip}", 1.0)
        built.append(
            Unit(
                dispatch_ms=values[f"dispatch_ms {chip}"],
                launch_ms=values["launch_ms"] / speed,
                compute_tflops=values["utilisation"] * rated[chip].tflops,
                grouped_efficiency=values["grouped_efficiency"],
                depthwise_efficiency=values["depthwise_efficiency"],
                channel_half=values["channel_half"],
                activation_gbps=values["activation_gbps"] * speed,
                sequence_traffic=values["sequence_traffic"],
                stream_gbps=values["stream_gbps"] * speed,
                compressed_stream_gbps=rated[chip].dram_gbps,
                table_us=values["table_us"],
                interval_low=1.0,
                interval_high=1.0,
                provenance={},
            )
        )
    return built


def full_model(rated: Mapping[str, Rating], table_us: float) -> Model:
    """Build the model that the package uses."""
    parameters = dict(SHARED)
    parameters |= {f"speed {chip}": prior for chip, prior in SPEED.items()}
    parameters |= {f"dispatch_ms {chip}": prior for chip, prior in DISPATCH_MS.items()}

    def price(values: dict[str, float], stack: Stack) -> Floats:
        total = np.zeros(len(stack.start))
        busy, stream = np.zeros(len(stack.work)), np.zeros(len(stack.work))
        for number, unit in enumerate(units({**values, "table_us": table_us}, rated)):
            mine = stack.op_chip == number
            if not mine.any():
                continue
            parts = latency.op_parts(unit, stack.work)
            busy[mine] = (parts.launch_ms + parts.compute_ms + parts.traffic_ms)[mine]
            packed = stack.kept * unit.stream_gbps / unit.compressed_stream_gbps
            stream[mine] = (parts.stream_ms * np.where(stack.kept < 1, packed, 1.0))[mine]
            total[stack.chip == number] = unit.dispatch_ms
        return total + overlapped(busy, stream, stack.start)

    return Model(parameters, price)


def flops_model() -> Model:
    """Build the first baseline: latency proportional to FLOPs, one rate a chip."""
    parameters = {f"tflops {chip}": (2.0, 2.0) for chip in CHIPS}

    def price(values: dict[str, float], stack: Stack) -> Floats:
        rate = np.array([values[f"tflops {chip}"] for chip in CHIPS])[stack.chip]
        flops: Floats = np.add.reduceat(stack.work.flops.astype(np.float64), stack.start)
        return flops / (rate * 1e9)

    return Model(parameters, price)


def roofline_model() -> Model:
    """Build the second baseline: dispatch + Σ max(FLOPs / rate, bytes / bandwidth), one speed a chip."""
    parameters = {"tflops": (5.0, 1.0), "gbps": (50.0, 1.0)}
    parameters |= {f"speed {chip}": prior for chip, prior in SPEED.items()}
    parameters |= {f"dispatch_ms {chip}": prior for chip, prior in DISPATCH_MS.items()}

    def price(values: dict[str, float], stack: Stack) -> Floats:
        work = stack.work
        nbytes = work.activation_bytes + work.constant_bytes
        op_ms = np.maximum(work.flops / (values["tflops"] * 1e9), nbytes / (values["gbps"] * 1e6))
        speed = np.array([values.get(f"speed {chip}", 1.0) for chip in CHIPS])[stack.chip]
        dispatch = np.array([values[f"dispatch_ms {chip}"] for chip in CHIPS])[stack.chip]
        total: Floats = dispatch + np.add.reduceat(op_ms, stack.start) / speed
        return total

    return Model(parameters, price)


def cross_validate(
    model: Model,
    rows: Sequence[Row],
    works: Mapping[str, Work],
    pairs: Sequence[tuple[Row, Row]],
    by: Literal["family", "source"] = "family",
) -> Floats:
    """Predict each family, or each lab, by a fit that has seen no row of it. Milliseconds, one a row."""
    group = attrgetter(by)
    predicted = np.zeros(len(rows))
    for held_out in sorted({group(row) for row in rows}):
        inside = np.array([group(row) == held_out for row in rows])
        seen = Stack.of([row for row in rows if group(row) != held_out], works)
        ratios = ratio_stacks([pair for pair in pairs if group(pair[0]) != held_out], works)
        unseen = Stack.of([row for row in rows if group(row) == held_out], works)
        predicted[inside] = model.predict(model.fit(seen, ratios), unseen)
    return predicted


def ratio_stacks(pairs: Sequence[tuple[Row, Row]], works: Mapping[str, Work]) -> tuple[Stack, Stack] | None:
    """Stack (compressed, dense) pairs."""
    if not pairs:
        return None
    return Stack.of([small for small, _ in pairs], works), Stack.of([dense for _, dense in pairs], works)


def interval(residuals: Floats, families: Sequence[str], rows_of_chip: int) -> tuple[float, float]:
    """80 % interval as factors of the estimate, from log(measured / cross-validated prediction).

    A user's model is of a family that the fit has not seen, and a user's phone is a lab that it has not seen. So the
    residuals of both cross-validations count, `residuals` has a row for each, and every family weighs alike. A chip
    with few rows gets a wider interval: half as wide again with eight rows, twice as wide with four.
    """
    weight = np.tile([1 / families.count(family) for family in families], len(residuals))
    residuals = residuals.ravel()
    order = np.argsort(residuals)
    share = (np.cumsum(weight[order]) - weight[order] / 2) / weight.sum()
    low, high = np.interp([0.1, 0.9], share, residuals[order])
    wider = 1 + 4 / rows_of_chip
    return float(np.exp(min(low * wider, -0.05))), float(np.exp(max(high * wider, 0.05)))


def table_time(rows: Sequence[Row], works: Mapping[str, Work]) -> float:
    """Read off the OPT-1.3B table what one look-up table costs on A17 Pro, in microseconds.

    With a table for one or two output channels, time follows the number of tables.
    """
    opt = {group_size(row.scheme): row for row in rows if row.family == "opt" and row.scheme.startswith("palettize")}
    work = works[opt[None].key]
    channels = float(work.channels_out[work.kind == Kind.LINEAR].sum())
    return float(np.sqrt(opt[1].measured_ms / channels * opt[2].measured_ms / (channels / 2))) * 1e3


def calibrate() -> str:
    """Fit, write the TOML files and the report, and return the report."""
    works = {key: count_work(program) for key, program in workloads.read().items()}
    rows, unused = read_rows(set(works))
    dense = [row for row in rows if row.scheme == "float16"]
    packed = [row for row in rows if row.scheme != "float16"]
    of_model = {(row.key, row.chip): row for row in dense}
    pairs = [(row, of_model[row.key, row.chip]) for row in packed if group_size(row.scheme) is None]
    table_us = table_time(rows, works)
    rated = ratings()
    model = full_model(rated, table_us)

    stack = Stack.of(dense, works)
    point = model.fit(stack, ratio_stacks(pairs, works))
    fitted = model.predict(point, stack)
    validated = cross_validate(model, dense, works, pairs)
    measured = np.exp(stack.log_ms)
    families = [row.family for row in dense]
    other_labs = cross_validate(model, dense, works, pairs, by="source")
    residuals = np.log(measured / np.array([validated, other_labs]))

    intervals = {chip: interval(residuals, families, sum(row.chip == chip for row in dense)) for chip in CHIPS}
    covered = np.zeros(residuals.shape, dtype=np.bool_)
    for number, row in enumerate(dense):
        others = np.array([family != row.family for family in families])
        low, high = interval(
            residuals[:, others],
            [family for family in families if family != row.family],
            sum(other.chip == row.chip for other in dense),
        )
        factor = np.exp(residuals[:, number])
        covered[:, number] = (low <= factor) & (factor <= high)

    baselines = {
        "FLOPs only": cross_validate(flops_model(), dense, works, []),
        "plain roofline": cross_validate(roofline_model(), dense, works, []),
    }
    values = dict(zip(model.names, np.exp(point).tolist(), strict=True))
    found = units({**values, "table_us": table_us}, rated)
    write_devices(found, intervals, dense, values["utilisation"], rated)
    text = accuracy(dense, measured, fitted, validated, other_labs, covered, baselines, values, intervals, unused)
    text += compression(packed, of_model, works, found)
    REPORT.write_text(text, encoding="utf-8")
    return text


def rebuild_workloads() -> None:
    """Convert every model of the CSV that can be built, and write the cache anew. Says what failed, and why."""
    # Converting needs torch and coremltools, which fitting should not wait for.
    import torch  # noqa: PLC0415
    from tqdm.auto import tqdm  # noqa: PLC0415

    from talaria_nb.devices import reference_models  # noqa: PLC0415
    from talaria_nb.load import load  # noqa: PLC0415

    library = reference_models.define_torchvision_schemas()

    with LATENCIES.open(encoding="utf-8", newline="") as file:
        wanted = dict.fromkeys(
            (line["timm_or_hf_name"], line["input_shape"])
            for line in csv.DictReader(file)
            if line["effective_unit"] == "ane"
            and line["timm_or_hf_name"]
            and (":" not in line["timm_or_hf_name"] or line["timm_or_hf_name"] in reference_models.SPECIAL)
        )
    encoded = {}
    for name, shape in tqdm(wanted, desc="workloads", unit="model"):
        torch.manual_seed(0)
        try:
            module, example = reference_models.build(name, shape)
            program = load(module, (example,), progress=False).program
        except Exception as error:  # noqa: BLE001 - one model that fails must not cost the others
            tqdm.write(f"{name}@{shape}: {type(error).__name__}: {error}")
            continue
        encoded[f"{name}@{shape}"] = workloads.encode(program)
        del module, program
        gc.collect()
    workloads.write(encoded)
    del library


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m talaria_nb.devices.calibrate", description=__doc__.split("\n")[0])
    parser.add_argument("--rebuild-workloads", action="store_true", help="convert the models again first (needs timm)")
    if parser.parse_args(arguments).rebuild_workloads:
        rebuild_workloads()
    print(calibrate())  # noqa: T201 - the report is what the command is for


if __name__ == "__main__":
    main()
