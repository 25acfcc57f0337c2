"""Language models: the prompt and each further token are priced apart, by the bytes that a step has to read."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import coremltools as ct
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import talaria_nb as tnb
from talaria_nb.devices import device
from talaria_nb.errors import PlanError
from talaria_nb.estimate import price_ops

if TYPE_CHECKING:
    from pathlib import Path

PHONE = "iPhone 15 Pro"
HEADS, WIDTH, CONTEXT, CHUNK = 8, 64, 256, 16
SIZE = HEADS * WIDTH


class Layer(nn.Module):
    """Attention over a cache, then an MLP."""

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step
        self.project = nn.Linear(SIZE, 3 * SIZE)
        self.up, self.down = nn.Linear(SIZE, 4 * SIZE), nn.Linear(4 * SIZE, SIZE)
        self.register_buffer("keys", torch.zeros(1, HEADS, CONTEXT, WIDTH))
        self.register_buffer("values", torch.zeros(1, HEADS, CONTEXT, WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.project(x).unflatten(-1, (3, HEADS, WIDTH)).permute(2, 0, 3, 1, 4)
        self.keys[:, :, 5 : 5 + self.step] = k
        self.values[:, :, 5 : 5 + self.step] = v
        x = x + functional.scaled_dot_product_attention(q, self.keys, self.values).transpose(1, 2).flatten(2)
        return x + self.down(functional.gelu(self.up(x)))


@cache
def decoder(step: int) -> tnb.Plan:
    torch.manual_seed(0)
    module = nn.Sequential(Layer(step), Layer(step)).eval()
    return tnb.Plan(tnb.load(module, torch.zeros(1, step, SIZE), progress=False))


def test_a_prompt_and_an_answer_are_priced_apart() -> None:
    prefill, decode = decoder(CHUNK), decoder(1)
    found = tnb.estimate_generation(prefill, decode, PHONE, prompt=100, generate=50)
    assert (found.context, found.prefill_calls) == (CONTEXT, 7)
    assert found.time_to_first_token_ms == pytest.approx(7 * prefill.estimate(PHONE).latency_ms)
    assert found.tokens_per_s == pytest.approx(1000 / decode.estimate(PHONE).latency_ms)
    assert found.total_ms == pytest.approx(found.time_to_first_token_ms + 49 * 1000 / found.tokens_per_s)
    low, high = found.tokens_per_s_interval
    assert low < found.tokens_per_s < high
    low, high = found.time_to_first_token_interval
    assert low < found.time_to_first_token_ms < high


def test_steps_slow_down_with_the_context_by_what_attention_reads() -> None:
    prefill, decode = decoder(CHUNK), decoder(1)
    times = [
        1000 / tnb.estimate_generation(prefill, decode, PHONE, prompt=8, generate=8, context=context).tokens_per_s
        for context in (CONTEXT, 2 * CONTEXT, 3 * CONTEXT)
    ]
    assert times[0] < times[1] < times[2]
    read_ms = 2 * (2 * 2 * CONTEXT * SIZE) / (device(PHONE).unit("all").stream_gbps * 1e6)
    assert times[2] - times[1] == pytest.approx(read_ms, rel=0.05), "keys and values of two layers, in float16"


def test_decoding_follows_stored_bytes() -> None:
    """A step reads every weight once and computes next to nothing with it."""
    dense = decoder(1)
    small = dense.set("*", tnb.Palettize(4))
    unit = device(PHONE).unit("all")
    streams = []
    for plan in (dense, small):
        table = plan.cost_table(PHONE)
        columns = table.columns_of(plan.scheme_of_weight)
        rows = np.arange(len(columns))
        streams.append((table.payload_bytes[rows, columns].sum(), table.stream_ms[rows, columns].sum()))
    bytes_ratio = streams[1][0] / streams[0][0]
    assert bytes_ratio == pytest.approx(0.25, rel=0.01)
    rates = unit.stream_gbps / unit.compressed_stream_gbps
    assert streams[1][1] / streams[0][1] == pytest.approx(bytes_ratio * rates, rel=1e-6)

    def steps_ms(plan: tnb.Plan) -> float:
        table = plan.cost_table(PHONE)
        return float(price_ops(table, table.columns_of(plan.scheme_of_weight)).op_ms.sum())

    assert steps_ms(dense) == pytest.approx(streams[0][1], rel=0.15), "bound by weights"
    assert steps_ms(small) / steps_ms(dense) < 1.5 * bytes_ratio * rates
    prompt = decoder(CHUNK)
    gained = steps_ms(prompt.set("*", tnb.Palettize(4))) / steps_ms(prompt)
    assert gained >= steps_ms(small) / steps_ms(dense), "a prompt has more to compute, so it gains less"


def test_two_functions_of_one_package_are_priced_as_the_models_they_came_from(tmp_path: Path) -> None:
    plans = {"prefill": decoder(CHUNK), "decode": decoder(1)}
    functions = ct.utils.MultiFunctionDescriptor()
    for name, plan in plans.items():
        plan.model.mlmodel.save(str(tmp_path / f"{name}.mlpackage"))
        functions.add_function(str(tmp_path / f"{name}.mlpackage"), "main", name)
    functions.default_function_name = "decode"
    package = tmp_path / "both.mlpackage"
    ct.utils.save_multifunction(functions, str(package))
    prefill, decode = (tnb.Plan(tnb.load(package, function=name, progress=False)) for name in plans)
    for context in (CONTEXT, 4 * CONTEXT):
        found = tnb.estimate_generation(prefill, decode, PHONE, prompt=100, generate=50, context=context)
        expected = tnb.estimate_generation(*plans.values(), PHONE, prompt=100, generate=50, context=context)
        assert found.prefill_calls == expected.prefill_calls
        assert found.tokens_per_s == pytest.approx(expected.tokens_per_s, rel=0.01)
        assert found.time_to_first_token_ms == pytest.approx(expected.time_to_first_token_ms, rel=0.01)


def test_what_does_not_fit_is_refused() -> None:
    prefill, decode = decoder(CHUNK), decoder(1)
    with pytest.raises(PlanError, match="takes 16 tokens a step"):
        tnb.estimate_generation(prefill, prefill, PHONE)
    with pytest.raises(PlanError, match="A prompt of 250 and an answer of 8 tokens do not fit into a context of 256"):
        tnb.estimate_generation(prefill, decode, PHONE, prompt=250, generate=8)
    with pytest.raises(PlanError, match="A prompt has a whole number of tokens"):
        tnb.estimate_generation(prefill, decode, PHONE, prompt=0)
    plain = tnb.Plan(tnb.load(nn.Linear(SIZE, SIZE), torch.zeros(1, CHUNK, SIZE), progress=False))
    with pytest.raises(PlanError, match="reads 16 tokens and has no key-value cache"):
        tnb.estimate_generation(plain, decode, PHONE, prompt=17, generate=1)
    with pytest.raises(PlanError, match="Linear has no key-value cache"):
        tnb.estimate_generation(prefill, plain, PHONE)
