"""LoRA adapters in a torch module are told apart from the base."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import nn
from torch.nn import functional

import talaria_nb as tnb
from talaria_nb.errors import SchemeError
from talaria_nb.frames import COLUMNS

WIDTH, RANK = 256, 16
BASE, ADAPTER = 2 * WIDTH * WIDTH, 4 * WIDTH * RANK


class LoRALinear(nn.Module):
    """A linear layer with an adapter, named as peft names it."""

    def __init__(self, rank: int, *, merged: bool) -> None:
        super().__init__()
        self.merged = merged
        self.base_layer = nn.Linear(WIDTH, WIDTH)
        self.lora_A = nn.ModuleDict({"french": nn.Linear(WIDTH, rank, bias=False)})
        self.lora_B = nn.ModuleDict({"french": nn.Linear(rank, WIDTH, bias=False)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        down, up = self.lora_A["french"], self.lora_B["french"]
        if self.merged:
            return functional.linear(x, self.base_layer.weight + up.weight @ down.weight, self.base_layer.bias)
        return self.base_layer(x) + 2 * up(down(x))


class Plain(nn.Module):
    """An adapter of bare parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(WIDTH, WIDTH)
        self.lora_A = nn.Parameter(torch.randn(RANK, WIDTH))
        self.lora_B = nn.Parameter(torch.randn(WIDTH, RANK))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + functional.linear(functional.linear(x, self.lora_A), self.lora_B)


def load(module: nn.Module) -> tnb.Model:
    return tnb.load(module.eval(), torch.zeros(1, 8, WIDTH), progress=False)


@cache
def adapted(rank: int = RANK, *, merged: bool = False) -> tnb.Model:
    return load(nn.Sequential(LoRALinear(rank, merged=merged), nn.ReLU(), LoRALinear(rank, merged=merged)))


def test_an_adapter_stands_beside_its_base() -> None:
    model = adapted()
    assert model.adapters.columns.isin([*COLUMNS]).all()
    rows = model.adapters.set_index("adapter")
    assert rows.loc["french"].to_dict() == {
        "weights": 4,
        "elements": ADAPTER,
        "weight_bytes": 2 * ADAPTER,
        "bits_per_weight": 16,
        "rank": RANK,
        "merged": 0,
    }
    assert rows.loc["base", ["weights", "elements", "weight_bytes"]].tolist() == [2, BASE, 2 * BASE]


def test_a_plan_counts_and_chooses_adapters_of_their_own() -> None:
    plan = tnb.Plan(adapted()).set("*lora_A*", tnb.Palettize(4)).set("*base_layer*", tnb.LinearQuantize("int8"))
    rows = plan.adapters().set_index("adapter")
    tables = 2 * 2 * 16
    assert rows.loc["french", "weight_bytes"] == ADAPTER // 2 // 2 + ADAPTER // 2 * 2 + tables
    assert rows.loc["base", "bits_per_weight"] == pytest.approx(8 + 16 / WIDTH)
    bare = load(Plain())
    assert bare.adapters["adapter"].tolist() == ["default", "base"]
    chosen = tnb.Plan(bare).set("*lora_A*", tnb.Palettize(4)).schemes
    assert sum(scheme == tnb.Palettize(4) for scheme in chosen.values()) == 1


def test_a_small_adapter_says_why_it_stays() -> None:
    with pytest.raises(SchemeError, match="2,048"):
        tnb.Plan(adapted(8)).set("*lora_A*", tnb.Palettize(4))


def test_merged_adapters_are_said_to_be_merged() -> None:
    rows = adapted(merged=True).adapters.set_index("adapter")
    assert rows.loc["french", ["weights", "weight_bytes", "merged"]].tolist() == [0, 0, 4]
    assert rows.loc["base", "weights"] == 2


def test_a_model_without_adapters_lists_none() -> None:
    assert load(nn.Linear(WIDTH, WIDTH)).adapters.empty
