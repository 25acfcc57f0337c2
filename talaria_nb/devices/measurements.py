"""The measured rows that the calibration uses, what their scheme names mean, and what is printed about chips."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

_DATA = Path(__file__).parent / "data"
LATENCIES = _DATA / "device_latency.csv"
SPECS = _DATA / "device_specs.csv"

MEASURED = ("A14", "A15", "A16", "A17 Pro")
"""Chips with rows of whole models on the Neural Engine of a phone, which the fit uses."""

REFERENCE = "A15"
"""The chip with most rows; the others' activation, launch and stream rates are a multiple of its own."""

CHIPS_OF = {"neural_engine": MEASURED, "gpu": ("A10", "A13", "M1", "M1 Max", "M2 Max")}
CHIPS_OF["cpu"] = CHIPS_OF["gpu"]

FAMILIES = {"resnet50": "resnet"}
"""Families that the CSV names twice."""

LEFT_OUT = {
    "DistilBERT (baseline HF)": "38 of its ops ran on the CPU",
}
"""Models whose rows say nothing about the Neural Engine alone."""

_UNIT = {"neural_engine": "ane", "gpu": "gpu", "cpu": "cpu"}


@dataclass(frozen=True, slots=True)
class Row:
    """One measured latency with its workload."""

    index: int
    model: str
    key: str
    chip: str
    family: str
    scheme: str
    measured_ms: float
    source: str
    note: str = ""

    @property
    def activation_bits(self) -> int:
        """8 where activations are int8, too."""
        return 8 if self.scheme.endswith("A8") else 16


def bits(scheme: str) -> float:
    """Bits of a stored weight under a scheme as the CSV names it; of a sparse one with its mask."""
    if scheme.startswith("palettize-"):
        return float(scheme.removeprefix("palettize-")[0])
    if scheme.startswith("sparse-"):
        return 16 * (1 - float(scheme.removeprefix("sparse-")) / 100) + 1
    return 8.0 if scheme.startswith("int8") else 16.0


def group_size(scheme: str) -> int | None:
    """Output channels that share a table under a scheme as the CSV names it; None for one table a tensor."""
    if "gs=" in scheme:
        return int(scheme.rpartition("gs=")[2])
    return 1 if "one LUT per output channel" in scheme else None


def read_rows(keys: set[str], unit: str = "neural_engine") -> tuple[list[Row], list[Row]]:
    """Read the rows of quality A and B of one unit: (usable, left out with the reason in `note`).

    Of the Neural Engine, the rows of all chips; those of `MEASURED` are the ones that are fitted.
    """
    used: list[Row] = []
    unused: list[Row] = []
    with LATENCIES.open(encoding="utf-8", newline="") as file:
        for index, line in enumerate(csv.DictReader(file)):
            if line["effective_unit"] != _UNIT[unit] or line["quality"] not in ("A", "B") or not line["latency_ms"]:
                continue
            key = f"{line['timm_or_hf_name']}@{line['input_shape']}"
            note = LEFT_OUT.get(line["model"], "")
            if key not in keys:
                note = note or "the model is not among the cached workloads"
            row = Row(
                index + 2,
                line["model"],
                key,
                line["chip"],
                FAMILIES.get(line["family"], line["family"]),
                "float16" if line["weight_scheme"].startswith("float") else line["weight_scheme"],
                float(line["latency_ms"]),
                line["source_id"],
                note,
            )
            (unused if note else used).append(row)
    return used, unused


class Rating(NamedTuple):
    """What makers and press print about a chip; None where nothing is printed."""

    neural_engine_tflops: float | None
    """float16; of the chips before A14 the printed TOPS, which are the same then."""
    gpu_tflops: float | None
    """float32."""
    dram_gbps: float | None
    source: str
    note: str


def ratings() -> dict[str, Rating]:
    """Read the rated speeds of each line of `device_specs.csv`."""
    with SPECS.open(encoding="utf-8", newline="") as file:
        return {
            line["chip"]: Rating(
                _number(line["ane_tflops_fp16"] or line["ane_tops_int8"]),
                _number(line["gpu_tflops_fp32"]),
                _number(line["dram_gbps"]),
                line["source"],
                line["notes"],
            )
            for line in csv.DictReader(file)
        }


def weight_streams() -> dict[str, tuple[float, str]]:
    """Read the Neural Engine's measured weight bandwidth of each chip: (GB/s, source)."""
    found = {}
    with LATENCIES.open(encoding="utf-8", newline="") as file:
        for index, line in enumerate(csv.DictReader(file)):
            printed = re.search(r"effective ANE weight stream ([\d.]+) GB/s", line["notes"])
            if printed:
                source = f"language model head, data/device_latency.csv line {index + 2} ({line['source_id']})"
                found[line["chip"]] = (float(printed[1]), source)
    return found


def _number(text: str) -> float | None:
    return float(text) if text else None
