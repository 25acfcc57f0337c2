"""Configs for torch modules: every compressor runs on them, and what it makes converts to the planned schemes."""

from __future__ import annotations

import copy
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
import torch
from coremltools.optimize.torch import layerwise_compression, palettization, quantization
from torch import nn

import models
import talaria_nb as tnb
from talaria_nb.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Callable

    from talaria_nb.schemes import Scheme

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]

IMAGE = torch.zeros(1, 3, 16, 16)


@cache
def model() -> tnb.Model:
    torch.manual_seed(0)
    layers = {
        "a.0": nn.Conv2d(3, 32, 3, padding=1),
        "middle": nn.Conv2d(32, 32, 3, padding=1),
        "pool": nn.AdaptiveAvgPool2d(1),
        "flat": nn.Flatten(),
        "hidden": nn.Linear(32, 128),
        "last": nn.Linear(128, 64),
    }
    module = nn.Sequential()
    for name, layer in layers.items():
        module.add_module(name.replace(".", "_"), layer)
    return tnb.load(module.eval(), IMAGE, progress=False)


def samples() -> list[torch.Tensor]:
    torch.manual_seed(1)
    return [torch.randn(1, 3, 16, 16) for _ in range(4)]


def sensitive(module: nn.Module, config: Any) -> nn.Module:
    def loss(net: nn.Module, data: torch.Tensor) -> torch.Tensor:
        return net(data).square().mean()

    return palettization.SKMPalettizer(module, config).compress(dataloader=samples(), loss_fn=loss)


def trained(compressor: Any, *prepared: Any) -> nn.Module:
    net = compressor.prepare(*prepared)
    net.train()
    for data in samples():
        net(data)
        compressor.step()
    return compressor.finalize()


RUNS: dict[str, Callable[[nn.Module, Any], nn.Module]] = {
    "PostTrainingPalettizer": lambda net, config: palettization.PostTrainingPalettizer(net, config).compress(),
    "PostTrainingQuantizer": lambda net, config: quantization.PostTrainingQuantizer(net, config).compress(),
    "SKMPalettizer": sensitive,
    "LayerwiseCompressor": lambda net, config: layerwise_compression.LayerwiseCompressor(net, config).compress(
        samples(), device="cpu"
    ),
    "DKMPalettizer": lambda net, config: trained(palettization.DKMPalettizer(net, config)),
}

PALETTES = {"middle": tnb.Palettize(4), "last": tnb.Palettize(2)}
INTEGERS = {"middle": tnb.LinearQuantize("int8"), "last": tnb.LinearQuantize("int8")}


@pytest.mark.parametrize(
    ("compressor", "schemes"),
    [
        ("PostTrainingPalettizer", PALETTES | {"last": tnb.Palettize(2, "per_grouped_channel", 8)}),
        ("PostTrainingQuantizer", INTEGERS | {"last": tnb.LinearQuantize("int4", "per_block", 32)}),
        ("SKMPalettizer", PALETTES),
        ("LayerwiseCompressor", {"middle": tnb.LinearQuantize("uint8", mode="linear")}),
        ("LayerwiseCompressor", {"middle": tnb.Prune(0.75)}),
        ("DKMPalettizer", PALETTES),
    ],
)
def test_the_compressed_module_converts_as_planned(compressor: str, schemes: dict[str, Scheme]) -> None:
    plan = tnb.Plan(model())
    for where, scheme in schemes.items():
        plan = plan.set(where, scheme)
    torch_configs = plan.to_torch_configs(compressor)
    assert not torch_configs.not_covered
    assert set(torch_configs.modules.values()) == schemes.keys()
    compressed = RUNS[compressor](copy.deepcopy(model().module), torch_configs.config)
    program = tnb.load(compressed.eval(), IMAGE, progress=False).program
    packed = {row.scheme.family: [] for row in program.weights.packed.values()}
    for row in program.weights.packed.values():
        packed[row.scheme.family].append(row.scheme.bits)
    assert len(program.weights.packed) == len(schemes)
    found = sorted(bits for every in packed.values() for bits in every)
    assert found == pytest.approx(sorted(scheme.bits for scheme in schemes.values()), rel=0.02)


def test_what_is_not_covered_is_named() -> None:
    plan = tnb.Plan(models.tied()).set("*", tnb.Palettize(4))
    reasons = plan.to_torch_configs().not_covered
    assert any("parameter mix" in reason for reason in reasons.values()), reasons
    integers = tnb.Plan(model()).set("*", tnb.LinearQuantize("int8")).to_torch_configs()
    assert integers.config is None
    assert all("k-means" in reason for reason in integers.not_covered.values())


def test_mistakes_are_named(tmp_path: Any) -> None:
    with pytest.raises(ExportError, match="Choose from PostTrainingPalettizer"):
        tnb.Plan(model()).to_torch_configs("Palettizer")
    path = str(tmp_path / "model.mlpackage")
    model().mlmodel.save(path)
    with pytest.raises(ExportError, match="not loaded from a torch module"):
        tnb.Plan(tnb.load(path, progress=False)).to_torch_configs()
