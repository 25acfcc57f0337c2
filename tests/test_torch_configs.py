"""Configs for torch modules: every compressor runs on them, and what it makes converts to the planned schemes."""

from __future__ import annotations

import copy
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from coremltools.optimize.torch import layerwise_compression, palettization, pruning, quantization
from torch import nn

import models
import talaria_nb as tnb
from talaria_nb.distortion import dequantized
from talaria_nb.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from talaria_nb.schemes import Scheme

# What coremltools' compressors and torch's own quantization warn of.
pytestmark = pytest.mark.filterwarnings("ignore")

IMAGE = torch.zeros(1, 3, 8, 8)


@cache
def model() -> tnb.Model:
    """Layers in a row, as LayerwiseCompressor wants them, with names that are regexes of others."""
    torch.manual_seed(0)
    module = nn.Sequential()
    module.add_module("first", nn.Conv2d(3, 32, 3, padding=1))
    module.add_module("conv+", nn.Conv2d(32, 32, 3, padding=1))
    module.add_module("norm", nn.BatchNorm2d(32))
    module.add_module("convv", nn.Conv2d(32, 32, 3, padding=1))
    module.add_module("gate", nn.Sigmoid())
    module.add_module("pool", nn.AdaptiveAvgPool2d(1))
    module.add_module("flat", nn.Flatten())
    module.add_module("hid-den", nn.Linear(32, 128))
    module.add_module("last", nn.Linear(128, 64))
    module.get_submodule("norm").running_var.uniform_(0.5, 2)
    return tnb.load(module.eval(), IMAGE, progress=False)


def samples() -> list[torch.Tensor]:
    torch.manual_seed(1)
    return [torch.randn(1, 3, 8, 8) for _ in range(2)]


def sensitive(module: nn.Module, config: Any) -> nn.Module:
    def loss(net: nn.Module, data: torch.Tensor) -> torch.Tensor:
        return net(data).square().mean()

    return palettization.SKMPalettizer(module, config).compress(dataloader=samples(), loss_fn=loss)


@torch.no_grad()
def trained(compressor: Any, *prepared: Any) -> nn.Module:
    net = compressor.prepare(*prepared)
    net.train()
    for data in samples():
        net(data.repeat(2, 1, 1, 1))
        compressor.step()
    net.eval()
    return compressor.finalize(inplace=True)


RUNS: dict[str, Callable[[nn.Module, Any], nn.Module]] = {
    "PostTrainingPalettizer": lambda net, config: palettization.PostTrainingPalettizer(net, config).compress(),
    "PostTrainingQuantizer": lambda net, config: quantization.PostTrainingQuantizer(net, config).compress(),
    "SKMPalettizer": sensitive,
    "LayerwiseCompressor": lambda net, config: layerwise_compression.LayerwiseCompressor(net, config).compress(
        samples(), device="cpu"
    ),
    "DKMPalettizer": lambda net, config: trained(palettization.DKMPalettizer(net, config)),
    "LinearQuantizer": lambda net, config: trained(quantization.LinearQuantizer(net, config), (IMAGE,)),
    "MagnitudePruner": lambda net, config: trained(pruning.MagnitudePruner(net, config)),
}


def planned(schemes: Mapping[str, Scheme]) -> tnb.Plan:
    plan = tnb.Plan(model())
    for where, scheme in schemes.items():
        plan = plan.set(where, scheme)
    return plan


def compressed(schemes: Mapping[str, Scheme], compressor: str) -> nn.Module:
    torch_configs = planned(schemes).to_torch_configs(compressor)
    assert not torch_configs.not_covered
    assert set(torch_configs.modules.values()) == schemes.keys()
    return RUNS[compressor](copy.deepcopy(model().module), torch_configs.config).eval()


PALETTE, INTEGERS, UNSIGNED = tnb.Palettize(4), tnb.LinearQuantize("int8"), tnb.LinearQuantize("uint8", mode="linear")
PER_TENSOR = tnb.LinearQuantize("int8", "per_tensor")


# "conv+" is fused with the batch norm behind it, and its weight has no torch name in the program.
@pytest.mark.parametrize(
    ("compressor", "schemes"),
    [
        ("PostTrainingPalettizer", {"conv+": PALETTE, "last": tnb.Palettize(2, "per_grouped_channel", 8)}),
        ("PostTrainingPalettizer", {"convv": tnb.Palettize(2, cluster_dim=2), "hid-den": PALETTE + PER_TENSOR}),
        ("PostTrainingQuantizer", {"conv+": INTEGERS, "last": tnb.LinearQuantize("int4", "per_block", 32)}),
        ("SKMPalettizer", {"conv+": PALETTE, "last": tnb.Palettize(2, "per_grouped_channel", 8, channel_axis=1)}),
        ("LayerwiseCompressor", {"conv+": UNSIGNED, "hid-den": tnb.LinearQuantize("uint4", "per_block", 16, "linear")}),
        ("LayerwiseCompressor", {"convv": tnb.Prune(0.75), "last": tnb.Prune(0.5) + UNSIGNED}),
        ("DKMPalettizer", {"conv+": tnb.Palettize(2), "last": tnb.Palettize(1, "per_grouped_channel", 16)}),
        ("LinearQuantizer", {"conv+": INTEGERS, "last": tnb.LinearQuantize("int4"), "hid-den": PER_TENSOR}),
        ("LinearQuantizer", {"convv": tnb.LinearQuantize("int8", mode="linear")}),
        ("MagnitudePruner", {"conv+": tnb.Prune(0.75), "last": tnb.Prune(0.5)}),
    ],
)
def test_the_compressed_module_converts_as_planned(compressor: str, schemes: dict[str, Scheme]) -> None:
    program = tnb.load(compressed(schemes, compressor), IMAGE, progress=False).program
    found = {program.weights.elements[row]: packed.scheme for row, packed in program.weights.packed.items()}
    names = dict(model().module.named_parameters())
    assert found == {names[f"{name}.weight"].numel(): scheme for name, scheme in schemes.items()}
    # LinearQuantizer quantizes activations too unless it is told not to.
    assert not [op for op in program.ops.op_type if "quantize" in op]


@pytest.mark.parametrize(
    "scheme", [tnb.Prune(n_m_ratio=(2, 4)), tnb.Prune(n_m_ratio=(1, 2), dim=0), tnb.Prune(0.5, block_size=4)]
)
def test_neighbours_are_pruned_as_planned(scheme: tnb.Prune) -> None:
    net = compressed({"convv": scheme, "last": scheme}, "MagnitudePruner")
    for name in ("convv", "last"):
        before, after = (each.get_submodule(name).weight.detach().numpy() for each in (model().module, net))
        as_planned = dequantized(before, scheme, channel_axes=(1, 0))
        np.testing.assert_array_equal(after != 0, as_planned != 0)


def test_n_m_by_sparse_gpt_is_of_neighbouring_inputs() -> None:
    net = compressed({"last": tnb.Prune(n_m_ratio=(3, 4))}, "LayerwiseCompressor")
    groups = net.get_submodule("last").weight.detach().reshape(64, -1, 4)
    assert ((groups != 0).sum(-1) == 1).all()


REFUSED: list[tuple[str, str, Scheme, str]] = [
    ("PostTrainingPalettizer", "last", INTEGERS, "Use PostTrainingQuantizer or LinearQuantizer for it."),
    ("PostTrainingPalettizer", "last", tnb.Palettize(4, mode="uniform"), "Compress it after conversion"),
    ("SKMPalettizer", "last", tnb.Palettize(4, "per_grouped_channel", 8) + PER_TENSOR, "only one table"),
    ("DKMPalettizer", "last", tnb.Palettize(4, "per_grouped_channel", 8, 1), "Use PostTrainingPalettizer or SKM"),
    ("DKMPalettizer", "last", PALETTE + PER_TENSOR, "tables of floats"),
    ("PostTrainingQuantizer", "last", tnb.LinearQuantize("int8", "per_block", 128), "smaller than the axis"),
    ("LayerwiseCompressor", "last", INTEGERS, "unsigned integers"),
    ("LayerwiseCompressor", "last", tnb.LinearQuantize("uint8", "per_tensor"), "unsigned integers per channel"),
    ("LayerwiseCompressor", "convv", tnb.Prune(n_m_ratio=(1, 2)), "Use MagnitudePruner for it."),
    ("LinearQuantizer", "last", tnb.LinearQuantize("int4", "per_block", 32), "Use PostTrainingQuantizer for it."),
    ("MagnitudePruner", "last", tnb.Prune(threshold=0.01), "Compress it after conversion"),
    ("MagnitudePruner", "last", tnb.Prune(0.5, block_size=4, dim=1), "blocks of output channels"),
]


@pytest.mark.parametrize(("compressor", "where", "scheme", "what"), REFUSED)
def test_what_a_compressor_cannot_make_is_said(compressor: str, where: str, scheme: Scheme, what: str) -> None:
    torch_configs = planned({where: scheme}).to_torch_configs(compressor)
    assert torch_configs.config is None
    [sentence] = torch_configs.not_covered.values()
    assert f"p_{where}_weight_to_fp16 is planned as {scheme.label}; {compressor} " in sentence
    assert what in sentence


def test_one_quantization_scheme_counts_for_all_modules() -> None:
    plan = planned({"convv": INTEGERS, "hid-den": INTEGERS, "last": UNSIGNED})
    torch_configs = plan.to_torch_configs("PostTrainingQuantizer")
    assert set(torch_configs.modules.values()) == {"convv", "hid-den"}
    [(weight, reason)] = torch_configs.not_covered.items()
    assert weight in reason
    assert "quantization_scheme 'affine'; PostTrainingQuantizer takes one for all modules, here 'symmetric'" in reason


def test_a_parameter_that_no_module_calls_its_weight_is_named() -> None:
    tied = models.tied()
    torch_configs = tnb.Plan(tied).set("*", PALETTE).to_torch_configs()
    assert set(torch_configs.modules.values()) == {"embedding", "back"}
    [(weight, reason)] = torch_configs.not_covered.items()
    assert reason.startswith(f"{weight} is the parameter mix, not the weight of a module.")


class Shared(nn.Module):
    """Two layers that share a weight, and one of a class of its own."""

    class Own(nn.Linear):
        """A layer that torch.fx looks into."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Linear(64, 64, bias=False)
        self.decode = nn.Linear(64, 64, bias=False)
        self.decode.weight = self.encode.weight
        self.own = self.Own(64, 64)
        self.plain = nn.Linear(64, 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.plain(self.own(self.decode(torch.relu(self.encode(x)))))


def test_tied_weights_and_classes_that_are_passed_over_are_named() -> None:
    plan = tnb.Plan(tnb.load(Shared().eval(), torch.zeros(1, 64), progress=False)).set("*", INTEGERS)
    torch_configs = plan.to_torch_configs("LinearQuantizer")
    assert [*torch_configs.modules.values()] == ["plain"]
    reasons = " ".join(torch_configs.not_covered.values())
    assert "is tied: encode and decode share it" in reasons
    assert "belongs to own, of class Own, which LinearQuantizer does not compress. Use PostTraining" in reasons


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="Choose from PostTrainingPalettizer"):
        tnb.Plan(model()).to_torch_configs("Palettizer")
    path = str(tmp_path / "model.mlpackage")
    model().mlmodel.save(path)
    with pytest.raises(ExportError, match="not loaded from a torch module"):
        tnb.Plan(tnb.load(path, progress=False)).to_torch_configs()
