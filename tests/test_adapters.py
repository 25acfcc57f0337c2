"""LoRA adapters, in a torch module or as functions of a package, are told apart from the base."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import coremltools as ct
import pytest
import torch
from torch import nn
from torch.nn import functional

import talaria_nb as tnb
from talaria_nb.errors import SchemeError
from talaria_nb.frames import COLUMNS
from talaria_nb.quiet import quiet

if TYPE_CHECKING:
    from pathlib import Path

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


LANGUAGES = ("french", "german")


def weight_file(path: Path) -> int:
    return (path / "Data" / "com.apple.CoreML" / "weights" / "weight.bin").stat().st_size


def joined(folder: Path, paths: dict[str, Path]) -> Path:
    together = ct.utils.MultiFunctionDescriptor()
    for name, path in paths.items():
        together.add_function(str(path), "main", name)
    together.default_function_name = LANGUAGES[0]
    both = folder / "both.mlpackage"
    with quiet(progress=False):
        ct.utils.save_multifunction(together, str(both))
    return both


@pytest.fixture(scope="module", params=["float16", "palettized base"])
def languages(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Save packages of one base with an adapter each, and `both` of them as functions of one package."""
    folder = tmp_path_factory.mktemp("languages")
    torch.manual_seed(0)
    module = nn.Sequential(LoRALinear(RANK, merged=False), nn.ReLU(), LoRALinear(RANK, merged=False))
    paths: dict[str, Path] = {}
    for language in LANGUAGES:
        for name, parameter in module.named_parameters():
            if "lora" in name:
                nn.init.normal_(parameter)
        plan = tnb.Plan(load(module))
        if request.param != "float16":
            plan = plan.set("*base_layer*", tnb.Palettize(4))
        paths[language] = folder / f"{language}.mlpackage"
        plan.compress(progress=False).save(str(paths[language]))
    return {**paths, "both": joined(folder, paths)}


def test_adapters_are_what_functions_do_not_share(languages: dict[str, Path]) -> None:
    model = tnb.load(languages["both"], progress=False)
    rows = model.adapters.set_index("adapter")
    assert [*rows.index] == [*LANGUAGES, "base"]
    tables = 2 * 2 * 16 if rows.loc["base", "bits_per_weight"] < 16 else 0
    base = BASE // 2 + tables if tables else 2 * BASE
    assert rows.loc["base", ["weights", "elements", "weight_bytes"]].tolist() == [2, BASE, base]
    assert rows.loc["base", "bits_per_weight"] == pytest.approx(8 * base / BASE)
    for language in LANGUAGES:
        assert rows.loc[language].tolist() == [4, ADAPTER, 2 * ADAPTER, 16, RANK, 0]
    alone = tnb.load(languages["french"], progress=False)
    assert alone.adapters.empty
    assert alone.weights["weight_bytes"].sum() == 2 * ADAPTER + base
    sizes = model.functions["weight_file_bytes"]
    assert sizes["all together"] == weight_file(languages["both"])
    for language in LANGUAGES:
        assert sizes[language] == weight_file(languages[language])


def test_a_plan_counts_the_adapter_of_the_function_that_was_loaded(languages: dict[str, Path]) -> None:
    model = tnb.load(languages["both"], function="german", progress=False)
    plan = tnb.Plan(model)
    small = [
        weight for weight, count in zip(plan.schemes, model.program.weights.elements, strict=True) if count < BASE // 2
    ]
    for weight in small:
        plan = plan.set(weight, tnb.Palettize(4))
    rows = plan.adapters().set_index("adapter")
    assert [*rows.index] == ["german", "base"]
    assert rows.loc["german", "weight_bytes"] == ADAPTER // 2 + 4 * 2 * 16
    assert rows.loc["base"].tolist() == model.adapters.set_index("adapter").loc["base"].tolist()
    assert plan.verify(progress=False)["match"].all()


def test_functions_that_share_nothing_or_all_have_no_adapters(tmp_path: Path) -> None:
    def package(name: str, seed: int) -> Path:
        torch.manual_seed(seed)
        path = tmp_path / f"{name}.mlpackage"
        load(nn.Linear(WIDTH, WIDTH)).mlmodel.save(str(path))
        return path

    for other in (0, 1):
        both = joined(tmp_path, {"french": package("french", 0), "german": package("german", other)})
        model = tnb.load(both, progress=False)
        assert model.functions["shared_bytes"].all() == (other == 0)
        assert model.adapters.empty
