"""The measured rows that the calibration uses, and what their scheme names mean."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

_DATA = Path(__file__).parent / "data"
LATENCIES = _DATA / "device_latency.csv"
SPECS = _DATA / "device_specs.csv"

CHIPS: Mapping[str, tuple[str, ...]] = {
    "A14": ("iPhone 12 mini", "iPhone 12", "iPhone 12 Pro", "iPhone 12 Pro Max"),
    "A15": ("iPhone 13 mini", "iPhone 13", "iPhone 13 Pro", "iPhone 13 Pro Max", "iPhone 14", "iPhone 14 Plus"),
    "A16": ("iPhone 14 Pro", "iPhone 14 Pro Max", "iPhone 15", "iPhone 15 Plus"),
    "A17 Pro": ("iPhone 15 Pro", "iPhone 15 Pro Max"),
}
"""Chips that have rows, and the products that have them (Apple's product pages)."""

REFERENCE = "A15"
"""The chip with most rows; the others' activation, launch and stream rates are a multiple of its own."""

FAMILIES = {"resnet50": "resnet"}
"""Families that the CSV names twice."""

LEFT_OUT = {
    "DistilBERT (baseline HF)": "38 of its ops ran on the CPU",
}
"""Models whose rows say nothing about the Neural Engine alone."""

UNUSABLE_SCHEMES = ("int8-linear W8A8", "sparse")
"""Schemes that this model does not price yet: int8 activations, sparsity."""


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


def bits(scheme: str) -> float:
    """Bits of a stored weight under a scheme as the CSV names it."""
    if scheme.startswith("palettize-"):
        return float(scheme.removeprefix("palettize-")[0])
    return 8.0 if scheme.startswith("int8") else 16.0


def group_size(scheme: str) -> int | None:
    """Output channels that share a table under a scheme as the CSV names it; None for one table a tensor."""
    if "gs=" in scheme:
        return int(scheme.rpartition("gs=")[2])
    return 1 if "one LUT per output channel" in scheme else None


def read_rows(keys: set[str]) -> tuple[list[Row], list[Row]]:
    """Read the Neural Engine rows of phones of quality A and B: (usable, left out with the reason in `note`)."""
    used: list[Row] = []
    unused: list[Row] = []
    with LATENCIES.open(encoding="utf-8", newline="") as file:
        for index, line in enumerate(csv.DictReader(file)):
            if line["effective_unit"] != "ane" or line["chip"] not in CHIPS or line["quality"] not in ("A", "B"):
                continue
            if not line["latency_ms"]:
                continue
            key = f"{line['timm_or_hf_name']}@{line['input_shape']}"
            note = LEFT_OUT.get(line["model"], "")
            if key not in keys:
                note = note or "the model is not among the cached workloads"
            if line["weight_scheme"].startswith(UNUSABLE_SCHEMES):
                note = "the scheme is not priced yet"
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
    """What makers and press print about a chip."""

    tflops: float
    """Neural Engine, float16."""
    dram_gbps: float


def ratings() -> dict[str, Rating]:
    """Read the rated speeds of each chip from `device_specs.csv`."""
    with SPECS.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    found = {}
    for chip in CHIPS:
        line = next(line for line in lines if line["chip"].split(" (")[0] == chip)
        found[chip] = Rating(float(line["ane_tflops_fp16"]), float(line["dram_gbps"]))
    return found
