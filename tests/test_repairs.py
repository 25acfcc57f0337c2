from __future__ import annotations

import dataclasses
import warnings
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import talaria_nb as tnb
from talaria_nb.convert import convert
from talaria_nb.errors import ConversionError
from talaria_nb.quiet import quiet
from talaria_nb.repairs import repair

if TYPE_CHECKING:
    from collections.abc import Callable

X = torch.tensor([[1.0, -2.0, 3.0, 0.5], [0.1, 5.0, -0.2, 2.0]])


class Runs(nn.Module):
    def __init__(self, action: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.action = action

    def forward(self, x: torch.Tensor) -> Any:
        return self.action(x)


BREAKERS: dict[str, Callable[[torch.Tensor], Any]] = {
    "alias": lambda x: torch.ops.aten.alias(x) + 1,
    "new_ones": lambda x: x.new_ones((2, 4)) + x.new_ones((2, 4), dtype=torch.int32) * x,
    "__and__": lambda x: torch.where((x > 0) & (x < 2), x, -x),
    "__or__": lambda x: torch.where((x < 0) | (x > 2), x, -x),
    "__xor__": lambda x: torch.where((x < 0) ^ (x > -1), x, -x),
    "addcmul": lambda x: torch.addcmul(x, x, x + 1, value=0.5),
    "diff": lambda x: torch.diff(x, dim=1),
    "bicubic": lambda x: functional.interpolate(x[None, None], scale_factor=2, mode="bicubic"),
    "constants": lambda x: x.masked_fill(torch.arange(4)[None] > torch.arange(2)[:, None], 0),
}


@pytest.mark.parametrize("name", BREAKERS)
def test_a_repaired_graph_computes_what_it_did(name: str) -> None:
    with quiet(progress=False):
        exported = torch.export.export(Runs(BREAKERS[name]), (X,)).run_decompositions({})
        repaired = repair(exported)
    assert repaired.repairs
    torch.testing.assert_close(repaired.exported.module()(X), BREAKERS[name](X))


@pytest.mark.parametrize("name", BREAKERS)
def test_a_breaker_loads_by_export(name: str) -> None:
    conversion = convert(Runs(BREAKERS[name]), X, "iOS18", progress=False)
    assert conversion.road == "export"
    assert conversion.repairs


@pytest.mark.parametrize("layer", [nn.LSTM(4, 8, 2, bidirectional=True), nn.GRU(4, 8), nn.RNN(4, 8)])
def test_recurrent_layers_stay_whole(layer: nn.Module) -> None:
    model = tnb.load(Runs(lambda x: layer(x[None])[0]), X, progress=False)
    assert model.conversion is not None
    assert model.conversion.road == "export"
    assert len(model.ops) < 60


@dataclasses.dataclass
class Result:
    total: torch.Tensor
    parts: list[torch.Tensor]
    note: str = "not a tensor"


def test_outputs_of_any_shape() -> None:
    for action in (
        lambda x: Result(x.sum(), [x + 1, x * 2]),
        lambda x: {"total": x.sum(), "parts": [x + 1, x * 2]},
        lambda x: (x.sum(), (x + 1, x * 2)),
    ):
        assert len(tnb.load(Runs(action), X, progress=False).program.outputs) == 3


class Add(nn.Module):
    def forward(self, pair: tuple[torch.Tensor, torch.Tensor], *, more: dict[str, torch.Tensor]) -> torch.Tensor:
        return pair[0] + pair[1] * more["scale"]


def test_inputs_in_containers() -> None:
    model = tnb.load(Add(), {"pair": (X, X), "more": {"scale": X}}, progress=False)
    assert len(model.program.inputs) == 3


def test_an_exported_program_is_loaded_and_left_alone() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = torch.export.export(Runs(BREAKERS["__and__"]), (X,))
    before = str(exported.graph)
    model = tnb.load(exported, progress=False)
    assert str(exported.graph) == before
    assert model.repairs


class TwoLinears(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 8)
        self.second = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.first(x)))


def test_what_cannot_be_exported_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        message = "torch.export cannot trace TwoLinears: it is made to fail."
        raise ConversionError(message)

    monkeypatch.setattr("talaria_nb.convert._export", fail)
    model = tnb.load(TwoLinears(), X, progress=False)
    assert model.conversion is not None
    assert model.conversion.road == "trace"
    assert "it is made to fail" in model.repairs[0]
    linear = model.ops[model.ops["op_type"] == "linear"]
    assert linear["module"].tolist() == ["first", "second"]


class Inner(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.svd(x)[1]


def test_an_error_names_the_operator_the_module_and_the_line() -> None:
    with pytest.raises(tnb.TalariaError, match=r"svd.*module 0, .*test_repairs\.py:\d+.*Replace that operation"):
        tnb.load(nn.Sequential(Inner()), X, progress=False)
