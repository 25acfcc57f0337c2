"""Attention is one op where Core ML has one, and means what it means in torch."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import models
import talaria_nb as tnb

HEADS, TOKENS, WIDTH = 8, 6, 16


class Attention(nn.Module):
    """Attention over projections of the input."""

    def __init__(self, *, key_heads: int = HEADS, rank: int = 4, **options: Any) -> None:
        super().__init__()
        self.key_heads, self.rank, self.options = key_heads, rank, options
        self.project = nn.Linear(32, (HEADS + 2 * key_heads) * WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        heads = self.project(x).view(1, TOKENS, HEADS + 2 * self.key_heads, WIDTH).transpose(1, 2)
        parts = heads.split([HEADS, self.key_heads, self.key_heads], 1)
        query, key, value = (part[(0,) * (4 - self.rank)] for part in parts)
        return functional.scaled_dot_product_attention(query, key, value, **self.options)


def op_types(deployment_target: str, **options: Any) -> list[str]:
    module = Attention(**options).eval()
    model = tnb.load(module, torch.zeros(1, TOKENS, 32), deployment_target=deployment_target, progress=False)
    assert (model.ops["source"] != "").all()
    return model.ops["op_type"].tolist()


BOOLEAN = torch.ones(TOKENS, TOKENS, dtype=torch.bool).tril()


@pytest.mark.parametrize(
    ("options", "before"),
    [
        ({}, 0),
        ({"is_causal": True}, 0),
        ({"dropout_p": 0.1}, 0),
        ({"scale": WIDTH**-0.5}, 0),
        ({"scale": 0.5}, 1),
        ({"key_heads": 2, "enable_gqa": True}, 0),
        ({"rank": 3}, 0),
        ({"rank": 2}, 0),
        ({"attn_mask": BOOLEAN}, 0),
        ({"attn_mask": BOOLEAN.float(), "rank": 3}, 0),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, dict) else "",
)
def test_attention_is_one_op(options: dict[str, Any], before: int) -> None:
    types = op_types("iOS18", **options)
    assert types.count("scaled_dot_product_attention") == 1
    assert not {"matmul", "softmax"} & {*types}
    assert types.count("mul") == before  # a scale of its own that is not 1 / √width


def test_attention_is_decomposed_where_core_ml_lacks_it() -> None:
    types = op_types("iOS17", scale=0.5, key_heads=2, enable_gqa=True)
    assert types.count("matmul") == 2
    assert types.count("softmax") == 1
    assert "scaled_dot_product_attention" not in types


class Constant(nn.Module):
    """Attention over constants, which coremltools computes while it converts."""

    def __init__(self, key_heads: int, **options: Any) -> None:
        super().__init__()
        self.options = options
        for name, heads in (("query", HEADS), ("key", key_heads), ("value", key_heads)):
            self.register_buffer(name, torch.randn(1, heads, TOKENS, WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + functional.scaled_dot_product_attention(self.query, self.key, self.value, **self.options)


@pytest.mark.parametrize("deployment_target", ["iOS17", "iOS18"])
@pytest.mark.parametrize(
    "make",
    [
        partial(Constant, HEADS),
        partial(Constant, HEADS, scale=0.7),
        partial(Constant, 2, enable_gqa=True),
        partial(Constant, 1, enable_gqa=True, scale=1.0, is_causal=True),
        partial(Constant, HEADS, scale=0.3, attn_mask=BOOLEAN),
    ],
    ids=lambda make: ", ".join(make.keywords) or "plain",
)
def test_attention_computes_what_torch_does(make: partial[Constant], deployment_target: str) -> None:
    torch.manual_seed(0)
    module = make().eval()
    x = torch.zeros(1, HEADS, TOKENS, WIDTH)
    model = tnb.load(module, x, deployment_target=deployment_target, progress=False)
    assert model.ops["op_type"].tolist().count("add") == 1
    [name] = model.weights["name"]
    np.testing.assert_allclose(model.weight_value(name).astype(np.float32), module(x).numpy(), atol=2e-3)


def test_a_sentence_encoder_keeps_its_attention() -> None:
    model = models.minilm()
    ops = model.ops[model.ops["op_type"] == "scaled_dot_product_attention"]
    assert ops["module"].tolist() == [f"encoder.layer.{layer}.attention.self" for layer in range(6)]
    before = tnb.load(models.minilm_module(), models.minilm_inputs(), deployment_target="iOS17", progress=False)
    assert "scaled_dot_product_attention" not in set(before.ops["op_type"])
    # The rest is what the two count differently: the scale of the queries and the mask.
    assert model.ops["flops"].sum() == pytest.approx(before.ops["flops"].sum(), rel=1e-3)
