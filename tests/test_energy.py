"""Energy and peak memory follow what is moved, computed and kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import models
import talaria_nb as tnb
from synthetic import Builder
from talaria_nb.costs import cost_table
from talaria_nb.devices import device, workloads
from talaria_nb.energy import ENERGY_FACTOR
from talaria_nb.estimate import price
from talaria_nb.memory import liveness

if TYPE_CHECKING:
    from talaria_nb.program import Program

DEVICE = "iPhone 15 Pro"


def vit_b() -> Program:
    """Build what ViT-B/16 multiplies: 12 layers of width 768 on 197 tokens."""
    build = Builder()

    def linear(x: int, into: int, out: int) -> int:
        return build.op("linear", {"x": x, "weight": build.weight((out, into))}, (1, 197, out))

    x = build.input((1, 197, 768))
    for _ in range(12):
        normed = build.op("layer_norm", {"x": x}, (1, 197, 768))
        q, k, v = (linear(normed, 768, 768) for _ in range(3))
        scores = build.op("matmul", {"x": q, "y": k}, (12, 197, 197), transpose_y=True)
        scores = build.op("softmax", {"x": scores}, (12, 197, 197))
        mixed = build.op("matmul", {"x": scores, "y": v}, (1, 197, 768))
        x = build.op("add", {"x": linear(mixed, 768, 768), "y": x}, (1, 197, 768))
        hidden = build.op("gelu", {"x": linear(x, 768, 3072)}, (1, 197, 3072))
        x = build.op("add", {"x": linear(hidden, 3072, 768), "y": x}, (1, 197, 768))
    return build.program([x])


@pytest.mark.parametrize(
    ("name", "unit", "measured_mj"),
    [
        ("ResNet-18", "cpuAndNeuralEngine", 2.6),
        ("ResNet-18", "cpuAndGPU", 22.3),
        ("ViT-B/16", "cpuAndNeuralEngine", 67.9),
        ("ViT-B/16", "cpuAndGPU", 714.3),
    ],
)
def test_measured_models_lie_within_the_interval(name: str, unit: str, measured_mj: float) -> None:
    """Measured on M2: ane-guide.readthedocs.io, part 3, chapter 10."""
    program = vit_b() if name == "ViT-B/16" else workloads.read()["resnet18@1x3x224x224"]
    table = cost_table(program, device("M2"), compute_unit=unit, schemes=())
    low, high = price(table, table.start).energy_interval
    assert low <= measured_mj <= high
    assert high >= 2 * ENERGY_FACTOR * low


def test_fewer_bits_take_less_energy_where_they_are_streamed() -> None:
    plan = tnb.Plan(models.minilm())
    four = plan.set("*", tnb.Palettize(4))
    assert four.estimate(DEVICE).energy_mj < plan.estimate(DEVICE).energy_mj
    cpu = [each.estimate(DEVICE, "cpuOnly").energy_mj for each in (plan, four)]
    assert cpu[0] == pytest.approx(cpu[1]), "the CPU reads them dense"


def test_op_energies_add_up() -> None:
    plan = tnb.Plan(models.minilm()).set("encoder.*", tnb.Palettize(4))
    table, total = plan.table(DEVICE), plan.estimate(DEVICE)
    unit = device(DEVICE).unit("all")
    assert table["energy_mj"].sum() + unit.dispatch_ms * unit.active_w == pytest.approx(total.energy_mj)


def test_peak_memory_is_weights_as_the_unit_keeps_them_and_live_activations() -> None:
    model = models.unet()
    plan = tnb.Plan(model).set("*", tnb.Palettize(4))
    program = model.program
    dense = 2 * int(program.weights.elements.sum())
    stored = int(plan.weight_table()["weight_bytes"].sum())
    fixed = plan.estimate(DEVICE).peak_memory_bytes - stored
    assert fixed >= liveness(program).peak_bytes
    assert plan.estimate(DEVICE, "cpuOnly").peak_memory_bytes == fixed + dense
    assert tnb.Plan(model).estimate(DEVICE).peak_memory_bytes == fixed + dense


def test_states_stay_in_memory() -> None:
    build = Builder()
    x, state = build.input((1, 512)), build.input((1, 4096))
    build.op("read_state", {"input": state}, (1, 4096))
    for _ in range(3):
        x = build.op("relu", {"x": x}, (1, 512))
    assert liveness(build.program([x])).live_bytes[1:].min() >= 2 * 4096


def test_weights_that_two_units_read_are_kept_as_the_poorer_one_needs_them() -> None:
    model = models.tied()
    plan = tnb.Plan(model).set("embedding", tnb.Palettize(4))
    table = plan.cost_table(DEVICE)
    column = table.column[tnb.Palettize(4)]
    row = model.program.weights.shape.index((512, 64))
    assert set(np.unique(table.unit)) <= {0, 2}
    assert table.resident_bytes[row, column] == 2 * 512 * 64
