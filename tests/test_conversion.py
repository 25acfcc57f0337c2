"""What conversion does where coremltools' own translations fail, or numpy has left them behind."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from coremltools.converters.mil.frontend.torch.torch_op_registry import _TORCH_OPS_REGISTRY
from torch import nn

import talaria_nb as tnb
from talaria_nb import convert
from talaria_nb.errors import ConversionError

X = torch.linspace(-4, 4, 12).view(1, 3, 2, 2)


class Bent(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.hardswish(x) + 1


def _fails(_context: Any, node: Any) -> None:
    message = f"{node.name} does not work today"
    raise ValueError(message)


def test_an_operator_that_coremltools_fails_at_is_decomposed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_TORCH_OPS_REGISTRY.name_to_func_mapping, "hardswish", _fails)
    model = tnb.load(Bent(), X, progress=False)
    assert model.conversion is not None
    assert model.conversion.road == "export"
    assert "aten.hardswish.default: decomposed by torch, because coremltools fails at it here" in model.repairs
    assert {"clip", "mul"} <= {*model.ops["op_type"]}
    assert (model.ops["source"] != "").all()


def test_an_operator_that_nobody_can_write_otherwise_is_named_with_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_TORCH_OPS_REGISTRY.name_to_func_mapping, "hardswish", _fails)
    monkeypatch.setattr(convert, "decomposition", lambda _operator: None)
    with pytest.raises(ConversionError, match=r"operator aten\.hardswish\.default .*test_conversion\.py:\d+.*today"):
        tnb.load(Bent(), X, progress=False)


class Counted(nn.Module):
    """Slices by a number that TorchScript casts from a constant of one element."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kept", torch.tensor([2]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, : int(self.kept)] * float(bool(self.kept))


def test_constants_of_one_element_become_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_exported(*_: Any) -> None:  # which refuses them rather than keep what they are now
        message = "not by export"
        raise ConversionError(message)

    monkeypatch.setattr(convert, "_export", not_exported)
    model = tnb.load(Counted(), X, progress=False)
    assert model.conversion is not None
    assert model.conversion.road == "trace"
    [output] = model.program.outputs
    assert model.program.values.shape[output] == (1, 2, 2, 2)
