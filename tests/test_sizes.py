"""Predicted bytes of whole packages against what coremltools writes, for random plans of everything it can store."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import coremltools as ct
import numpy as np
import pytest
import torch
from torch import nn

import talaria_nb as tnb
from talaria_nb.legality import refused
from talaria_nb.quiet import quiet
from talaria_nb.subjects import subject
from talaria_nb.weight_bytes import weight_file_bytes

if TYPE_CHECKING:
    from talaria_nb.schemes import Scheme

PHONE = "iPhone 15 Pro"
PACKAGE_TOLERANCE = 1e-4
"""Part of the package."""
INT8_TABLES = tnb.LinearQuantize("int8", "per_tensor")
GROUPED = "per_grouped_channel"


def even(nbits: int, *grouping: object, channel_axis: int | None = None) -> tnb.Palettize:
    """Palettize in the mode that is quick to compute: sizes do not depend on it."""
    return tnb.Palettize(nbits, *grouping, channel_axis=channel_axis, mode="uniform")  # type: ignore[arg-type]


SCHEMES: tuple[Scheme, ...] = (
    tnb.Float16(),
    tnb.Palettize(1),
    tnb.Palettize(2),
    *(even(nbits) for nbits in (1, 2, 3, 4, 6, 8)),
    tnb.Palettize(mode="unique"),
    even(2, GROUPED, 8),
    even(4, GROUPED, 16, channel_axis=1),
    tnb.Palettize(2, cluster_dim=2),
    tnb.Palettize(1, GROUPED, 8, cluster_dim=4),
    *(tnb.LinearQuantize(dtype) for dtype in ("int8", "uint8", "int4", "uint4")),
    *(tnb.LinearQuantize(dtype, "per_tensor", mode="linear") for dtype in ("int8", "uint4")),
    tnb.LinearQuantize("uint8", mode="linear"),
    tnb.LinearQuantize("int4", "per_block", 16),
    tnb.LinearQuantize("uint4", "per_block", 8),
    tnb.LinearQuantize("uint8", "per_block", (8, 0)),
    tnb.LinearQuantize("int8", "per_block", (4, 8, 1, 1), mode="linear"),
    tnb.Prune(0.0),
    tnb.Prune(0.5),
    tnb.Prune(0.9),
    tnb.Prune(n_m_ratio=(1, 4)),
    tnb.Prune(n_m_ratio=(2, 3), dim=0),
    tnb.Prune(0.4, block_size=4),
    tnb.Prune(threshold=0.02),
    tnb.Prune(0.5) + even(4),
    tnb.Prune(n_m_ratio=(1, 2)) + even(2, GROUPED, 8),
    tnb.Prune(0.7) + tnb.LinearQuantize("uint4"),
    tnb.Prune(threshold=0.02) + tnb.LinearQuantize("int8", "per_block", 16, "linear"),
    tnb.Prune(0.5) + even(4) + INT8_TABLES,
    even(4) + INT8_TABLES,
    even(4, GROUPED, 8) + tnb.LinearQuantize("uint8", "per_tensor", mode="linear"),
    tnb.LinearQuantize("int8") + tnb.Palettize(1),
    tnb.LinearQuantize("uint8", "per_tensor") + tnb.Palettize(2),
)


class Mixed(nn.Module):
    """Convolutions both ways, groups, a tied weight, a bare matrix, few distinct values, a weight that is too small."""

    def __init__(self, *, embeds: bool) -> None:
        super().__init__()
        self.embeds = embeds
        self.embedding = nn.Embedding(128, 32)
        self.mix = nn.Parameter(torch.randn(32, 128) * 0.1)
        self.wide = nn.Linear(128, 128)
        self.next = nn.Linear(128, 128, bias=False)
        self.conv = nn.Conv1d(128, 32, 3, padding=1)
        self.grouped = nn.Conv1d(32, 64, 5, padding=2, groups=2)
        self.up = nn.ConvTranspose1d(64, 48, 2, stride=2)
        self.small = nn.Linear(48, 8)
        self.levels = nn.Parameter(torch.randint(0, 5, (48, 48)).float())
        self.back = nn.Linear(48, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embedding(x) if self.embeds else torch.relu(x @ self.embedding.weight.T) @ self.embedding.weight
        x = torch.relu(x @ self.mix)
        x = torch.relu(self.next(self.wide(x))).transpose(1, 2)
        x = self.up(torch.relu(self.grouped(torch.relu(self.conv(x))))).transpose(1, 2)
        x = self.back(torch.relu(x @ self.levels)) + self.small(x).sum()
        return x @ self.embedding.weight.T


class Recurrent(nn.Module):
    """A loop, whose weights lie in a block of its own, and an op with four weights."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(32, 48, batch_first=True)
        self.lstm = nn.LSTM(48, 32, batch_first=True, bidirectional=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lstm(self.gru(x)[0])[0]


class Images(nn.Module):
    """Two-dimensional convolutions and equal shapes, the last of which ends the file."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(3, 32, 3)
        self.body = nn.Sequential(nn.Conv2d(32, 128, 3), nn.ReLU(), nn.Conv2d(128, 128, 1), nn.ReLU())
        self.leave = nn.Conv2d(128, 128, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.leave(self.body(torch.relu(self.enter(x))))


def module_and_input(name: str) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    if name == "images":
        return Images().eval(), torch.zeros(1, 3, 16, 16)
    if name == "recurrent":
        return Recurrent().eval(), torch.zeros(1, 8, 32)
    if name == "embeds":
        return Mixed(embeds=True).eval(), torch.zeros(1, 8, dtype=torch.long)
    return Mixed(embeds=False).eval(), torch.zeros(1, 8, 32)


@cache
def loaded(name: str, target: str, precision: str) -> tnb.Model:
    module, example = module_and_input(name)
    if precision == "fp16":
        return tnb.load(module, example, deployment_target=target, progress=False)
    with quiet(progress=False):
        mlmodel = ct.convert(
            torch.export.export(module, (example,)).run_decompositions({}),
            minimum_deployment_target=getattr(ct.target, target),
            compute_precision=ct.precision.FLOAT32,
            skip_model_load=True,
        )
    return tnb.load(mlmodel, progress=False)


CASES = [
    (name, target, precision)
    for target in ("iOS18", "iOS16", "iOS26", "iOS17")
    for precision in ("fp16", "fp32")
    for name in ("mixed", "images", "embeds", "recurrent")
]


def random_plan(model: tnb.Model, rng: np.random.Generator) -> tnb.Plan:
    program = model.program
    chosen = []
    for row in range(len(program.weights)):
        legal = [scheme for scheme in SCHEMES if refused(scheme, subject(program, row)) is None]
        chosen.append(legal[int(rng.integers(len(legal)))])
    return tnb.Plan(model).with_schemes(chosen)


def compare(seed: int) -> tuple[int, int, int]:
    """Return by how many bytes `weight.bin` and the whole package are off, and the package's bytes."""
    model = loaded(*CASES[seed % len(CASES)])
    plan = random_plan(model, np.random.default_rng(seed))
    compressed = plan.compress(progress=False)
    files = {part.name: part.stat().st_size for part in Path(compressed.package_path).rglob("*") if part.is_file()}
    estimate = plan.estimate(PHONE)
    assert estimate.weight_file_bytes == weight_file_bytes(model.program, plan.scheme_of_weight)
    package = sum(files.values())
    return estimate.weight_file_bytes - files["weight.bin"], estimate.size_bytes - package, package


def check(seed: int) -> None:
    off, package_off, package = compare(seed)
    assert off == 0
    assert abs(package_off) <= PACKAGE_TOLERANCE * package


@pytest.mark.parametrize("seed", range(40))
def test_a_random_plan_is_predicted(seed: int) -> None:
    check(seed)


@pytest.mark.sizes
@pytest.mark.parametrize("seed", range(40, 280))
def test_many_random_plans_are_predicted(seed: int) -> None:
    check(seed)


def test_weights_that_come_out_equal_share_one_op() -> None:
    """A weight and its copy with noise that the quantization rounds away."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(64, 64, bias=False), nn.Tanh(), nn.Linear(64, 64, bias=False)).eval()
    with torch.no_grad():
        module[0].weight[:] = torch.randint(-7, 8, (64, 64)) / 8
        module[0].weight[:, 0] = 7 / 8
        module[2].weight.copy_(module[0].weight)
        module[2].weight[0, 1] += 1 / 256
    model = tnb.load(module, torch.zeros(1, 64), progress=False)
    plan = tnb.Plan(model).set("*", tnb.LinearQuantize("int4"))
    compressed = plan.compress(progress=False)
    table = plan.verify(compressed, progress=False)
    assert (table["finding"] == "").all()
    integers, scales, biases = 64 + 64 * 64 // 2, 64 + 2 * 64, 2 * (64 + 2 * 64)  # biases of zeros, which linear needs
    assert table["actual_bytes"].iloc[-1] == 64 + integers + scales + biases


class Alike(nn.Module):
    """Weights whose stored tensors come out equal: copies that lie another way round, multiples, positive ones."""

    def __init__(self) -> None:
        super().__init__()
        weight = torch.round(torch.randn(128, 192) * 256) / 256  # so that float16 holds its double exactly
        self.tied = nn.Parameter(weight)
        self.turned = nn.Parameter(weight.T.clone())
        self.twice = nn.Parameter(weight * 2)
        self.levels = nn.Parameter(torch.randint(-90, 90, (128, 192)) / 64)
        self.same_levels = nn.Parameter(self.levels.flatten()[torch.randperm(128 * 192)].view(192, 128).clone())
        self.positive = nn.Parameter(torch.rand(128, 192))
        self.also_positive = nn.Parameter(torch.rand(128, 192))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for there, back in (
            (self.tied, self.turned),
            (self.twice, self.same_levels),
            (self.levels, self.turned),
            (self.positive, self.turned),
            (self.also_positive, self.turned),
        ):
            x = torch.tanh(torch.tanh(x @ there) @ back)
        return x


@cache
def alike(target: str) -> tnb.Model:
    torch.manual_seed(0)
    return tnb.load(Alike().eval(), torch.zeros(1, 8, 128), deployment_target=target, progress=False)


@pytest.mark.parametrize(
    "scheme",
    [
        tnb.Palettize(8),
        even(8),
        even(4),
        tnb.Palettize(mode="unique"),
        tnb.LinearQuantize("int8"),
        tnb.LinearQuantize("int8", mode="linear"),
        tnb.LinearQuantize("uint4", "per_block", 16, "linear"),
        tnb.LinearQuantize("int8", "per_tensor", mode="linear"),
        tnb.Prune(0.0),
        tnb.Prune(0.5),
        tnb.Prune(n_m_ratio=(1, 4)),
        tnb.Prune(threshold=0.02),
        tnb.LinearQuantize("int8") + even(8),
    ],
    ids=lambda scheme: scheme.key,
)
@pytest.mark.parametrize("target", ["iOS18", "iOS16"])
def test_equal_tensors_of_several_weights_are_counted_once(target: str, scheme: Scheme) -> None:
    model = alike(target)
    weights = range(len(model.program.weights))
    legal = [row for row in weights if refused(scheme, subject(model.program, row)) is None]
    if not legal:
        return
    plan = tnb.Plan(model).with_schemes([scheme if row in legal else tnb.Float16() for row in weights])
    compressed = plan.compress(progress=False)
    estimate = plan.estimate(PHONE)
    written = (Path(compressed.package_path) / "Data/com.apple.CoreML/weights/weight.bin").stat().st_size
    assert (estimate.weight_file_bytes, weight_file_bytes(model.program, plan.scheme_of_weight)) == (written, written)
