"""U-Nets built as diffusers builds them: residual blocks that know the time, attention to a prompt, resampling."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional


def timestep_embedding(timestep: torch.Tensor, width: int) -> torch.Tensor:
    """Return the sines and cosines of a time step, (batch, width)."""
    frequencies = torch.exp(-math.log(10_000) * torch.arange(width // 2) / (width // 2))
    angles = timestep[:, None].float() * frequencies[None]
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class ResnetBlock(nn.Module):
    """Two convolutions; the time shifts (and may scale) what lies between them, and the block may resample."""

    def __init__(self, inside: int, outside: int, time: int, *, scales: bool = False, resample: str = "") -> None:
        super().__init__()
        self.scales, self.resample = scales, resample
        self.norm1 = nn.GroupNorm(8, inside)
        self.conv1 = nn.Conv2d(inside, outside, 3, padding=1)
        self.time_emb_proj = nn.Linear(time, outside * (2 if scales else 1))
        self.norm2 = nn.GroupNorm(8, outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, padding=1)
        self.shortcut = nn.Conv2d(inside, outside, 1) if inside != outside else nn.Identity()

    def resampled(self, x: torch.Tensor) -> torch.Tensor:
        if self.resample == "up":
            return functional.interpolate(x, scale_factor=2.0, mode="nearest")
        return functional.avg_pool2d(x, 2) if self.resample == "down" else x

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        y = self.conv1(self.resampled(functional.silu(self.norm1(x))))
        time = self.time_emb_proj(functional.silu(time))[:, :, None, None]
        if self.scales:
            scale, shift = time.chunk(2, dim=1)
            y = self.norm2(y) * (1 + scale) + shift
        else:
            y = self.norm2(y + time)
        return self.shortcut(self.resampled(x)) + self.conv2(functional.silu(y))


class Attention(nn.Module):
    """Attention to itself or to a prompt."""

    def __init__(self, width: int, context: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(context, width, bias=False)
        self.to_v = nn.Linear(context, width, bias=False)
        self.to_out = nn.Linear(width, width)

    def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        parts = (self.to_q(x), self.to_k(context), self.to_v(context))
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        return self.to_out(functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class Transformer2D(nn.Module):
    """Pixels as tokens: attention to each other, to the prompt, then a gated feed-forward."""

    def __init__(self, width: int, context: int, heads: int = 2) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, width, eps=1e-6)
        self.proj_in = nn.Conv2d(width, width, 1)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.attn1 = Attention(width, width, heads)
        self.attn2 = Attention(width, context, heads)
        self.gate = nn.Linear(width, 8 * width)
        self.out = nn.Linear(4 * width, width)
        self.proj_out = nn.Conv2d(width, width, 1)

    def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        batch, width, rows, columns = x.shape
        tokens = self.proj_in(self.norm(x)).permute(0, 2, 3, 1).reshape(batch, rows * columns, width)
        own = self.norms[0](tokens)
        tokens = tokens + self.attn1(own, own)
        tokens = tokens + self.attn2(self.norms[1](tokens), context)
        value, gate = self.gate(self.norms[2](tokens)).chunk(2, dim=-1)
        tokens = tokens + self.out(value * functional.gelu(gate))
        return x + self.proj_out(tokens.reshape(batch, rows, columns, width).permute(0, 3, 1, 2))


class ConditionedUNet(nn.Module):
    """A latent image, a time step and a prompt in, noise out (as Stable Diffusion's)."""

    def __init__(self, widths: tuple[int, ...] = (16, 32, 32), context: int = 24) -> None:
        super().__init__()
        time = 4 * widths[0]
        self.width = widths[0]
        self.time_embedding = nn.Sequential(nn.Linear(widths[0], time), nn.SiLU(), nn.Linear(time, time))
        self.conv_in = nn.Conv2d(4, widths[0], 3, padding=1)
        self.down_resnets, self.down_attentions, self.downsamplers = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        before = widths[0]
        for width in widths:
            self.down_resnets.append(ResnetBlock(before, width, time))
            self.down_attentions.append(Transformer2D(width, context))
            self.downsamplers.append(nn.Conv2d(width, width, 3, stride=2, padding=1))
            before = width
        self.mid_resnets = nn.ModuleList(ResnetBlock(before, before, time) for _ in range(2))
        self.mid_attention = Transformer2D(before, context)
        self.upsamplers, self.up_resnets, self.up_attentions = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for width in reversed(widths):
            self.upsamplers.append(nn.Conv2d(before, before, 3, padding=1))
            self.up_resnets.append(ResnetBlock(before + width, width, time))
            self.up_attentions.append(Transformer2D(width, context))
            before = width
        self.norm_out = nn.GroupNorm(8, before)
        self.conv_out = nn.Conv2d(before, 4, 3, padding=1)

    def forward(
        self, sample: torch.Tensor, timestep: torch.Tensor, encoder_hidden_states: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        time = self.time_embedding(timestep_embedding(timestep, self.width))
        x, skips = self.conv_in(sample), []
        for resnet, attention, down in zip(self.down_resnets, self.down_attentions, self.downsamplers, strict=True):
            x = attention(resnet(x, time), encoder_hidden_states)
            skips.append(x)
            x = down(x)
        x = self.mid_resnets[0](x, time)
        x = self.mid_resnets[1](self.mid_attention(x, encoder_hidden_states), time)
        for up, resnet, attention in zip(self.upsamplers, self.up_resnets, self.up_attentions, strict=True):
            skip = skips.pop()
            x = up(functional.interpolate(x, size=skip.shape[2:], mode="nearest"))
            x = attention(resnet(torch.cat([x, skip], dim=1), time), encoder_hidden_states)
        return {"sample": self.conv_out(functional.silu(self.norm_out(x)))}


class ResamplingUNet(nn.Module):
    """An image, a time step and a class in, noise out: residual blocks resample, the time scales (as ADM's)."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        time = 4 * width
        self.width = width
        self.time_embedding = nn.Sequential(nn.Linear(width, time), nn.SiLU(), nn.Linear(time, time))
        self.class_embedding = nn.Embedding(10, time)
        self.conv_in = nn.Conv2d(3, width, 3, padding=1)
        self.down = nn.ModuleList(
            ResnetBlock(width, width, time, scales=True, resample=how) for how in ("", "down", "", "down")
        )
        self.middle = nn.MultiheadAttention(width, 2, batch_first=True)
        self.up = nn.ModuleList(
            ResnetBlock(2 * width, width, time, scales=True, resample=how) for how in ("up", "", "up", "")
        )
        self.out = nn.Sequential(nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, 3, 3, padding=1))

    def forward(
        self, sample: torch.Tensor, timestep: torch.Tensor, class_labels: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        time = self.time_embedding(timestep_embedding(timestep, self.width)) + self.class_embedding(class_labels)
        x, skips = self.conv_in(sample), []
        for block in self.down:
            x = block(x, time)
            skips.append(x)
        tokens = x.flatten(2).transpose(1, 2)
        x = x + self.middle(tokens, tokens, tokens, need_weights=False)[0].transpose(1, 2).reshape(x.shape)
        for block in self.up:
            x = block(torch.cat([x, skips.pop()], dim=1), time)
        return {"sample": self.out(x)}
