"""The measured models, built from their published definitions with random weights.

Only `calibrate --build-workloads` uses this file: it needs timm, which is not a dependency of the package. Language
and vision transformers that `device_latency.csv` names by a transformers config are declared here instead: the op
structure is what is needed, and it must not depend on what a transformers release does to attention masks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable


def define_torchvision_schemas() -> torch.library.Library:
    """Let a torchvision without compiled operators be imported (timm imports it).

    Returns
    -------
    torch.library.Library
        Must be kept alive as long as torchvision is used.
    """
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for signature in (
        "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
        "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    ):
        library.define(signature)  # type: ignore[no-untyped-call]
    return library


class _Attention(nn.Module):
    """Multi-head attention from linear layers, matmul and softmax."""

    def __init__(self, dim: int, heads: int, *, causal: bool = False) -> None:
        super().__init__()
        self.heads, self.head_dim, self.causal = heads, dim // heads, causal
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, dim = x.shape
        query, key, value = (
            layer(x).view(batch, tokens, self.heads, self.head_dim).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        scores = (query * self.head_dim**-0.5) @ key.transpose(2, 3)
        if self.causal:
            scores = scores + torch.full((tokens, tokens), -1e4).triu(1)
        mixed = scores.softmax(-1) @ value
        result: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, tokens, dim))
        return result


class _Block(nn.Module):
    """Transformer layer, pre-norm or post-norm."""

    def __init__(
        self,
        dim: int,
        heads: int,
        hidden: int,
        *,
        causal: bool = False,
        pre_norm: bool = True,
        act: type[nn.Module] = nn.GELU,
    ) -> None:
        super().__init__()
        self.pre_norm = pre_norm
        self.attention = _Attention(dim, heads, causal=causal)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), act(), nn.Linear(hidden, dim))

    def forward(self, x: Tensor) -> Tensor:
        if self.pre_norm:
            x = x + self.attention(self.norm1(x))
            x = x + self.mlp(self.norm2(x))
        else:
            x = self.norm1(x + self.attention(x))
            x = self.norm2(x + self.mlp(x))
        return x


class _Encoder(nn.Module):
    """Token and position embeddings, blocks, final norm and head."""

    def __init__(
        self, blocks: list[nn.Module], *, vocabulary: int, tokens: int, dim: int, outputs: int, pool: bool
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, dim)
        self.positions = nn.Parameter(torch.zeros(1, tokens, dim))
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, outputs, bias=False)
        self.pool = pool

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.positions
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        result: Tensor = self.head(x[:, 0] if self.pool else x)
        return result


def clip_text() -> nn.Module:
    """CLIP-B text tower: 12 layers of 512, 77 tokens (MobileCLIP's text encoder, 63.4 M parameters)."""
    blocks: list[nn.Module] = [_Block(512, 8, 2048, causal=True) for _ in range(12)]
    return _Encoder(blocks, vocabulary=49408, tokens=77, dim=512, outputs=512, pool=True)


def distilbert() -> nn.Module:
    """DistilBERT-base classifier as Hugging Face ships it: 6 layers of 768, 128 tokens."""
    blocks: list[nn.Module] = [_Block(768, 12, 3072, pre_norm=False) for _ in range(6)]
    return _Encoder(blocks, vocabulary=30522, tokens=128, dim=768, outputs=2, pool=True)


def opt_1_3b() -> nn.Module:
    """OPT-1.3B with 64 tokens: 24 layers of 2048, feed-forward 8192, vocabulary 50272.

    All layers are one module, so that 1.3 billion random numbers need not exist. The work is the same, because an op
    counts the weights that it reads whether others read them or not.
    """
    block = _Block(2048, 32, 8192, causal=True, act=nn.ReLU)
    return _Encoder([block] * 24, vocabulary=50272, tokens=64, dim=2048, outputs=50272, pool=False)


class _AneAttention(nn.Module):
    """Attention of ml-ane-transformers: (B, C, 1, S) layout, 1×1 convolutions, one einsum a head."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, dim // heads
        self.query, self.key, self.value, self.out = (nn.Conv2d(dim, dim, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        queries = self.query(x).split(self.head_dim, dim=1)
        keys = self.key(x).transpose(1, 3).split(self.head_dim, dim=3)
        values = self.value(x).split(self.head_dim, dim=1)
        mixed = []
        for query, key, value in zip(queries, keys, values, strict=True):
            scores = torch.einsum("bchq,bkhc->bkhq", query, key) * self.head_dim**-0.5
            mixed.append(torch.einsum("bkhq,bchk->bchq", scores.softmax(1), value))
        result: Tensor = self.out(torch.cat(mixed, dim=1))
        return result


class _ChannelNorm(nn.Module):
    """Layer norm over the channels of (B, C, 1, S)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(1, dim, 1, 1)), nn.Parameter(torch.zeros(1, dim, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(1, keepdim=True)
        result: Tensor = centred * ((centred * centred).mean(1, keepdim=True) + 1e-5).rsqrt() * self.weight + self.bias
        return result


class _AneBlock(nn.Module):
    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attention = _AneAttention(dim, heads)
        self.norm1, self.norm2 = _ChannelNorm(dim), _ChannelNorm(dim)
        self.mlp = nn.Sequential(nn.Conv2d(dim, hidden, 1), nn.GELU(), nn.Conv2d(hidden, dim, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x + self.attention(x))
        result: Tensor = self.norm2(x + self.mlp(x))
        return result


class AneDistilBert(nn.Module):
    """DistilBERT after "Deploying Transformers on the Apple Neural Engine" (Apple, 2022)."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(30522, 768)
        self.positions = nn.Parameter(torch.zeros(1, 128, 768))
        self.norm = nn.LayerNorm(768)
        self.blocks = nn.Sequential(*(_AneBlock(768, 12, 3072) for _ in range(6)))
        self.pre, self.head = nn.Conv2d(768, 768, 1), nn.Conv2d(768, 2, 1)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.norm(self.tokens(ids) + self.positions)
        x = self.blocks(x.transpose(1, 2).unsqueeze(2))
        result: Tensor = self.head(self.pre(x[:, :, :, :1]).relu())
        return result


class _DptHead(nn.Module):
    """Depth Anything's DPT neck and head for a ViT of width 384 (`DepthAnythingConfig` of the small model)."""

    def __init__(self, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        widths = (48, 96, 192, 384)
        self.project = nn.ModuleList(nn.Conv2d(384, width, 1) for width in widths)
        self.resize = nn.ModuleList(
            [
                nn.ConvTranspose2d(48, 48, 4, 4),
                nn.ConvTranspose2d(96, 96, 2, 2),
                nn.Identity(),
                nn.Conv2d(384, 384, 3, 2, 1),
            ]
        )
        self.reduce = nn.ModuleList(nn.Conv2d(width, 64, 3, padding=1, bias=False) for width in widths)
        self.residual = nn.ModuleList(
            nn.Sequential(nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1))
            for _ in range(7)
        )
        self.fuse = nn.ModuleList(nn.Conv2d(64, 64, 1) for _ in range(4))
        self.head1, self.head2, self.head3 = (
            nn.Conv2d(64, 32, 3, padding=1),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.Conv2d(32, 1, 1),
        )

    def forward(self, features: list[Tensor]) -> Tensor:
        height, width = self.grid
        maps = []
        for tokens, project, resize, reduce in zip(features, self.project, self.resize, self.reduce, strict=True):
            image = tokens[:, 1:].transpose(1, 2).reshape(tokens.shape[0], 384, height, width)
            maps.append(reduce(resize(project(image))))
        x = maps[3]
        x = x + self.residual[0](x)
        x = self.fuse[0](nn.functional.interpolate(x, size=maps[2].shape[2:], mode="bilinear", align_corners=True))
        for step in range(1, 4):
            skip = maps[3 - step]
            x = x + skip + self.residual[2 * step - 1](skip)
            x = x + self.residual[2 * step](x)
            size = maps[2 - step].shape[2:] if step < 3 else (2 * x.shape[2], 2 * x.shape[3])
            x = self.fuse[step](nn.functional.interpolate(x, size=size, mode="bilinear", align_corners=True))
        x = self.head1(x)
        x = nn.functional.interpolate(x, size=(height * 14, width * 14), mode="bilinear", align_corners=True)
        result: Tensor = self.head3(self.head2(x).relu()).relu()
        return result


class DepthAnythingSmall(nn.Module):
    """Depth-Anything-Small: DINOv2 ViT-S/14 with a DPT head, 396 × 518 pixels (28 × 37 patches)."""

    def __init__(self) -> None:
        super().__init__()
        self.grid = (28, 37)
        self.patch = nn.Conv2d(3, 384, 14, 14)
        self.cls = nn.Parameter(torch.zeros(1, 1, 384))
        self.positions = nn.Parameter(torch.zeros(1, 28 * 37 + 1, 384))
        self.blocks = nn.ModuleList(_Block(384, 6, 1536) for _ in range(12))
        self.norm = nn.LayerNorm(384)
        self.dpt = _DptHead(self.grid)

    def forward(self, image: Tensor) -> Tensor:
        x = torch.cat([self.cls, self.patch(image).flatten(2).transpose(1, 2)], dim=1) + self.positions
        features = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index >= 8:
                features.append(self.norm(x))
        result: Tensor = self.dpt(features)
        return result


def llama_mlp() -> nn.Module:
    """Four Llama-2-7B feed-forward layers as 1×1 convolutions; one set of numbers for all four."""

    class Mlp(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate, self.up = nn.Conv2d(4096, 11008, 1, bias=False), nn.Conv2d(4096, 11008, 1, bias=False)
            self.down = nn.Conv2d(11008, 4096, 1, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.down(nn.functional.silu(self.gate(x)) * self.up(x))
            return result

    return nn.Sequential(*[Mlp()] * 4)


SPECIAL: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "hf:CLIPTextModel 12 layers x 512 (63.4M, CLIP-B text)": (clip_text, lambda: torch.zeros(1, 77, dtype=torch.int32)),
    "hf:distilbert-base-uncased-finetuned-sst-2-english": (distilbert, lambda: torch.zeros(1, 128, dtype=torch.int32)),
    "hf:distilbert-base-uncased-finetuned-sst-2-english (conv1x1 B,C,1,S layout)": (
        AneDistilBert,
        lambda: torch.zeros(1, 128, dtype=torch.int32),
    ),
    "hf:facebook/opt-1.3b (OPTConfig hidden 2048, 24 layers)": (
        opt_1_3b,
        lambda: torch.zeros(1, 64, dtype=torch.int32),
    ),
    "hf:LiheYoung/depth-anything-small-hf (DepthAnythingConfig, Dinov2-small)": (
        DepthAnythingSmall,
        lambda: torch.zeros(1, 3, 392, 518),
    ),
    "custom: LlamaMLP x4 as 1x1 conv": (llama_mlp, lambda: torch.zeros(1, 4096, 8, 8)),
}
"""Name in the CSV → (module, example input) for what timm does not have."""


def can_build(name: str) -> bool:
    """Tell whether `build` knows a name of column `timm_or_hf_name`."""
    return bool(name) and (":" not in name or name.startswith("torchvision:") or name in SPECIAL)


def build(name: str, shape: str) -> tuple[nn.Module, Tensor]:
    """Build a model of `device_latency.csv` in eval mode, reparameterized as papers measure it.

    Parameters
    ----------
    name
        Column `timm_or_hf_name`.
    shape
        Column `input_shape`, such as "1x3x224x224"; only read for timm models.
    """
    if name in SPECIAL:
        make, example = SPECIAL[name]
        return make().eval(), example()
    # timm and torchvision are needed here only, and importing them takes seconds.
    if name.startswith("torchvision:"):
        import torchvision  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415

        found: nn.Module = torchvision.models.get_model(name.removeprefix("torchvision:"), weights=None)
        return found.eval(), torch.zeros(tuple(int(part) for part in shape.split("x")))
    import timm  # noqa: PLC0415
    from timm.utils.model import reparameterize_model  # noqa: PLC0415

    size = tuple(int(part) for part in shape.split("x"))
    arguments: dict[str, Any] = {}
    if size[2] != 224 and name.startswith(("deit", "vit")):
        arguments["img_size"] = size[2:]
    model = timm.create_model(name, pretrained=False, **arguments).eval()
    fused: nn.Module = reparameterize_model(model)
    return fused, torch.zeros(size)
