"""A program at another batch or context length is priced as if it had been loaded so."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import talaria_nb as tnb
from models import Classifier
from synthetic import Builder
from talaria_nb.errors import PlanError
from talaria_nb.resize import at_batch, at_context, batch_of, context_of
from talaria_nb.work import Work, count_work

PHONE = "iPhone 15 Pro"
HEADS, WIDTH = 4, 16
SIZE = HEADS * WIDTH
COLUMNS = ("flops", "activation_bytes", "constant_bytes", "traffic_bytes", "stream_bytes")


class Encoder(nn.Module):
    """Tokens, a table of positions, attention and an MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(512, SIZE)
        self.position = nn.Parameter(torch.randn(12, SIZE))
        self.project = nn.Linear(SIZE, 3 * SIZE)
        self.norm = nn.LayerNorm(SIZE)
        self.up, self.down = nn.Linear(SIZE, 4 * SIZE), nn.Linear(4 * SIZE, SIZE)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embedding(tokens) + self.position
        q, k, v = self.project(x).unflatten(-1, (3, HEADS, WIDTH)).permute(2, 0, 3, 1, 4)
        scores = torch.softmax(q @ k.transpose(-1, -2) / WIDTH**0.5, -1)
        x = self.norm(x + (scores @ v).transpose(1, 2).flatten(2))
        return x + self.down(functional.gelu(self.up(x)))


class Decoder(nn.Module):
    """One step of a decoder: caches as states, one of them turned before the product, and a head."""

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, context: int, *, fused: bool = True, step: int = 1, size: int = SIZE) -> None:
        super().__init__()
        self.fused, self.step, self.heads = fused, step, size // WIDTH
        self.project = nn.Linear(size, 3 * size)
        self.head = nn.Linear(size, 4 * size)
        self.register_buffer("keys", torch.zeros(1, self.heads, context, WIDTH))
        self.register_buffer("values", torch.zeros(1, self.heads, context, WIDTH))

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        q, k, v = self.project(x).unflatten(-1, (3, self.heads, WIDTH)).permute(2, 0, 3, 1, 4)
        self.keys[:, :, 5 : 5 + self.step] = k
        self.values[:, :, 5 : 5 + self.step] = v
        if self.fused:
            mixed = functional.scaled_dot_product_attention(q, self.keys, self.values, attn_mask=mask)
        else:
            mixed = torch.softmax(q @ self.keys.transpose(-1, -2) / WIDTH**0.5 + mask, -1) @ self.values
        return self.head(mixed.transpose(1, 2).flatten(2))


class Growing(nn.Module):
    """One step of a decoder whose caches go in and come out longer."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(SIZE, 3 * SIZE)

    def forward(self, x: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        q, k, v = self.project(x).unflatten(-1, (3, HEADS, WIDTH)).permute(2, 0, 3, 1, 4)
        keys, values = torch.cat([keys, k], 2), torch.cat([values, v], 2)
        mixed = torch.softmax(q @ keys.transpose(-1, -2), -1) @ values
        return mixed.transpose(1, 2).flatten(2), keys, values


def load(module: nn.Module, *inputs: torch.Tensor) -> tnb.Model:
    return tnb.load(module.eval(), inputs, progress=False)


@cache
def decoder(context: int, *, fused: bool = True, step: int = 1, size: int = SIZE) -> tnb.Model:
    module = Decoder(context, fused=fused, step=step, size=size)
    return load(module, torch.zeros(1, step, size), torch.zeros(1, 1, step, context))


def growing(context: int) -> tnb.Model:
    return load(Growing(), torch.zeros(1, 1, SIZE), *(torch.zeros(1, HEADS, context, WIDTH) for _ in "kv"))


def totals(work: Work) -> list[int]:
    return [int(getattr(work, column).sum()) for column in COLUMNS]


@pytest.mark.parametrize(
    ("module", "one", "many"),
    [
        (Classifier(), torch.zeros(1, 3, 32, 32), torch.zeros(8, 3, 32, 32)),
        (Encoder(), torch.zeros(1, 12, dtype=torch.long), torch.zeros(8, 12, dtype=torch.long)),
    ],
    ids=["cnn", "transformer"],
)
def test_a_batch_costs_what_the_model_loaded_with_it_costs(
    module: nn.Module, one: torch.Tensor, many: torch.Tensor
) -> None:
    single, eight = load(module, one), load(module, many)
    assert (batch_of(single.program), batch_of(eight.program)) == (1, 8)
    real = totals(count_work(eight.program))
    assert totals(count_work(at_batch(single.program, 8))) == pytest.approx(real, rel=1e-3)
    assert totals(count_work(at_batch(eight.program, 1))) == pytest.approx(totals(count_work(single.program)), rel=1e-3)
    loaded, rescaled = tnb.Plan(eight).estimate(PHONE), tnb.Plan(single).estimate(PHONE, batch=8)
    assert rescaled.latency_ms == pytest.approx(loaded.latency_ms, rel=1e-3)
    assert (loaded.batch, rescaled.batch) == (8, 8)
    online = tnb.Plan(single).estimate(PHONE)
    assert online.throughput_per_s == pytest.approx(1000 / online.latency_ms)
    assert online.throughput_per_s < rescaled.throughput_per_s, "starts and weights are shared"
    assert rescaled.size_bytes == online.size_bytes


def test_what_the_inputs_do_not_reach_keeps_its_size() -> None:
    build = Builder()
    x, table = build.input((1, 4, 8)), build.const((1, 4, 8))
    fixed = build.op("tanh", {"x": table}, (1, 4, 8))
    build.op("add", {"x": x, "y": fixed}, (1, 4, 8))
    program = build.program()
    one, eight = count_work(program), count_work(at_batch(program, 8))
    assert (eight.flops / one.flops).tolist() == [1, 8]


def test_a_loaded_batch_is_found_in_any_dimension() -> None:
    build = Builder()
    x = build.input((4, 7, 3))
    build.op("transpose", {"x": x}, (7, 4, 3), perm=(1, 0, 2))
    resized = at_batch(build.program(), 6)
    assert resized.values.shape == ((6, 7, 3), (7, 6, 3))


@pytest.mark.parametrize("count", [0, -1, 2.5, True])
def test_sizes_that_cannot_be_are_refused(count: int) -> None:
    with pytest.raises(PlanError, match="A batch must be a whole number of at least 1"):
        at_batch(decoder(24).program, count)
    with pytest.raises(PlanError, match="A context length must be a whole number of at least 1"):
        at_context(decoder(24).program, count)


@pytest.mark.parametrize("fused", [True, False], ids=["attention", "products"])
def test_a_context_length_costs_what_the_model_loaded_with_it_costs(fused: bool) -> None:  # noqa: FBT001 - a case
    short, long = decoder(24, fused=fused).program, decoder(96, fused=fused).program
    assert (context_of(short), context_of(long)) == (24, 96)
    resized = count_work(at_context(short, 96))
    for column in COLUMNS:
        assert np.array_equal(getattr(resized, column), getattr(count_work(long), column)), column


def test_caches_that_are_inputs_grow_too() -> None:
    short, long = growing(24).program, growing(96).program
    assert context_of(short) == 24
    assert totals(count_work(at_context(short, 96))) == totals(count_work(long))


def test_a_context_as_long_as_the_model_is_wide_is_followed_by_its_axis() -> None:
    same, long = decoder(SIZE, fused=False).program, decoder(2 * SIZE, fused=False).program
    assert totals(count_work(at_context(same, 2 * SIZE))) == totals(count_work(long))


def test_a_model_without_a_cache_has_no_context() -> None:
    model = load(Encoder(), torch.zeros(1, 12, dtype=torch.long))
    with pytest.raises(PlanError, match="Encoder has no key-value cache"):
        tnb.Plan(model).estimate(PHONE, context=512)
