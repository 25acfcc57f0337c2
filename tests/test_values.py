"""Converted programs compute what the modules compute in torch, run by `reference.py`."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

import talaria_nb as tnb
import zoo
from reference import Run
from talaria_nb.convert import convert, eval_twin
from talaria_nb.errors import ConversionError
from talaria_nb.quiet import quiet
from talaria_nb.trace import convert_traced

if TYPE_CHECKING:
    from collections.abc import Callable


def check(outputs: list[Any], module: nn.Module, *inputs: torch.Tensor) -> None:
    """Compare what a converted program computed in float16 with what the module computes."""
    with torch.no_grad():
        expected = module(*inputs)
    for output, wanted in zip(outputs, expected if isinstance(expected, tuple) else (expected,), strict=True):
        np.testing.assert_allclose(output, wanted.numpy(), atol=2e-2, rtol=2e-2)


class Everything(nn.Module):
    """Returns all results of a recurrent layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        sequence, last = self.layer(inputs[0], *([inputs[1:]] if len(inputs) > 2 else inputs[1:]))
        return (sequence, *last) if isinstance(last, tuple) else (sequence, last)


RECURRENT: dict[str, tuple[nn.Module, int]] = {
    "lstm of two layers, both ways": (nn.LSTM(4, 6, 2, bidirectional=True, batch_first=True), 0),
    "lstm from a state": (nn.LSTM(4, 6, 1), 2),
    "lstm without biases": (nn.LSTM(4, 6, bias=False), 0),
    "lstm with projections": (nn.LSTM(4, 6, proj_size=3), 0),
    "gru of two layers, both ways": (nn.GRU(4, 6, 2, bidirectional=True, batch_first=True), 0),
    "gru from a state": (nn.GRU(4, 6), 1),
    "rnn of two layers": (nn.RNN(4, 6, 2, nonlinearity="relu", batch_first=True), 0),
    "rnn both ways": (nn.RNN(4, 6, bidirectional=True), 0),
}


@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_layers(name: str) -> None:
    torch.manual_seed(0)
    layer, states = RECURRENT[name]
    module = Everything(layer).eval()
    inputs = (torch.randn(3, 3, 4), *(torch.randn(1, 3, 6) for _ in range(states)))
    model = tnb.load(module, inputs, progress=False)
    check(Run(model.mlmodel)(*inputs), module, *inputs)


@pytest.mark.filterwarnings("ignore:.torch.jit.trace:DeprecationWarning")
@pytest.mark.parametrize("name", ["lstm of two layers, both ways", "attention"])
def test_traced_modules(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        message = "It is made to fail."
        raise ConversionError(message)

    torch.manual_seed(0)
    if name == "attention":
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        module, inputs = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False).eval(), (torch.randn(1, 5, 16),)
    else:
        module, inputs = Everything(RECURRENT[name][0]).eval(), (torch.randn(3, 3, 4),)
    monkeypatch.setattr("talaria_nb.convert._export", fail)
    model = tnb.load(module, inputs, progress=False)
    assert model.conversion is not None
    assert model.conversion.road == "trace"
    check(Run(model.mlmodel)(*inputs), module, *inputs)


def add_to_row(x: torch.Tensor) -> torch.Tensor:
    x[0].add_(1)
    return x


def add_to_view(x: torch.Tensor) -> torch.Tensor:
    x.view(-1).mul_(2)
    return x


def assign_columns(x: torch.Tensor) -> torch.Tensor:
    x[:, torch.tensor([0, 2])] = 5.0
    return x


def assign_slice(x: torch.Tensor) -> torch.Tensor:
    x[:, 1:] = x[:, :-1] * 2
    return x


def add(x: torch.Tensor) -> torch.Tensor:
    return x.mul_(2).add_(x)


class InPlace(nn.Module):
    def __init__(self, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.change = change

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.change(x.clone()) * 2


@pytest.mark.filterwarnings("ignore:.torch.jit.trace:DeprecationWarning")
@pytest.mark.parametrize(
    ("change", "traces"),
    [(add_to_row, False), (add_to_view, False), (assign_columns, False), (assign_slice, True), (add, True)],
)
def test_a_change_in_place_is_right_or_refused(change: Callable[[torch.Tensor], torch.Tensor], *, traces: bool) -> None:
    module, x = InPlace(change), torch.randn(2, 4)
    check(Run(convert(module, x, "iOS18", progress=False).mlmodel)(x), module, x)
    with quiet(progress=False), nullcontext() if traces else pytest.raises(ConversionError, match="would lose"):
        traced, _ = convert_traced(eval_twin(module), (x,), {}, "iOS18", lambda out: [out])
        check(Run(traced)(x), module, x)


@pytest.mark.filterwarnings("ignore:.torch.jit.trace:DeprecationWarning")
def test_a_trace_that_would_lose_a_state_is_refused() -> None:
    module, inputs = zoo.CachedDecoder().eval(), (torch.tensor([[5]]), torch.tensor([3]))
    with quiet(progress=False), pytest.raises(ConversionError, match="would lose"):
        convert_traced(eval_twin(module), inputs, {}, "iOS18", lambda out: [out])
