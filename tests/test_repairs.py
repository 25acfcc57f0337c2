from __future__ import annotations

import dataclasses
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

import talaria_nb as tnb
from reference import Run
from talaria_nb.convert import convert
from talaria_nb.errors import ConversionError
from talaria_nb.permutations import MAX_RANK, permute_steps
from talaria_nb.quiet import quiet
from talaria_nb.ranks import highest
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


def assigned(x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    x = x.clone()
    x[x > 0.3 if mask is None else mask] = -1.0
    return x


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
    "overlapping fold": lambda x: functional.fold(x.reshape(1, 4, 2), (3, 2), (2, 2), stride=1),
    "unfold": lambda x: functional.unfold(x[None, None], (2, 2), padding=1, stride=2),
    "windows": lambda x: x.unfold(1, 3, 1) * 2,
    "as_strided": lambda x: (x + 1).as_strided((3, 2), (2, 1), 1) * 2,
    "negative padding": lambda x: functional.pad(x, (-1, 2), value=0.5),
    "bits": lambda x: (x.int() & 5) + (x.int() | -4) + (x.int() ^ 6),
    "assignment under a mask": assigned,
    "assignment under a mask of rows": lambda x: assigned(x, x[:, 0] > 0.5),
    "masked_scatter": lambda x: x.masked_scatter(x > 0.3, x.flip(0, 1)),
    "cdist": lambda x: torch.cdist(x[None], x[None] + 1) + torch.cdist(x, x * 2, p=1.0),
    "cumsum from the back": lambda x: x[None].cumsum(-2),
    "median": lambda x: x.median(1).values + x.median(1, keepdim=True).indices,
    "fmod": lambda x: torch.fmod(x, 2.0) + x.trunc(),
    "lerp": lambda x: torch.lerp(x, x + 1, 0.3),
    "erfc": torch.erfc,
    "nan_to_num": lambda x: (x / (x > 0.3)).nan_to_num(5.0, posinf=6.0, neginf=-7.0),
    "var_mean": lambda x: torch.stack(torch.var_mean(x, 1)),
    "addmm": lambda x: torch.addmm(x, x[:, :2], x, beta=2, alpha=3),
    "diagonal": lambda x: x.reshape(2, 2, 2).diagonal(1, 1, 2) + x.reshape(2, 2, 2).diagonal(),
    "ranks": lambda x: x.reshape(1, 2, 1, 2, 1, 2).permute(5, 0, 3, 2, 1, 4).reshape(2, 4) + 1,
}


@pytest.mark.parametrize("name", BREAKERS)
def test_a_repaired_graph_computes_what_it_did(name: str) -> None:
    with quiet(progress=False):
        exported = torch.export.export(Runs(BREAKERS[name]), (X,)).run_decompositions({})
        repaired = repair(exported)
    assert repaired.repairs
    torch.testing.assert_close(repaired.exported.module()(X), BREAKERS[name](X))


def test_infinities_become_numbers_that_float16_has() -> None:
    conversion = convert(Runs(lambda x: (x / (x - 1)).nan_to_num()), X, "iOS18", progress=False)
    [output] = Run(conversion.mlmodel)(X)
    assert output[0, 0] == np.finfo(np.float16).max


def repaired_values(action: Callable[[torch.Tensor], Any], x: torch.Tensor) -> Any:
    with quiet(progress=False):
        repaired = repair(torch.export.export(Runs(action), (x,)).run_decompositions({}))
    assert highest(repaired.exported) is None
    return repaired.exported.module()(x)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation"),
    [((3, 3), 1, 1, 1), ((3, 2), (2, 1), (1, 0), (1, 2)), ((3, 3), 2, 1, 1), ((2, 3), (3, 4), (0, 1), 1)],
)
def test_blocks_are_taken_apart_and_added_up(kernel: Any, stride: Any, padding: Any, dilation: Any) -> None:
    image = torch.rand(2, 3, 8, 9)
    how = {"kernel_size": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    blocks = functional.unfold(image, **how)
    torch.testing.assert_close(repaired_values(lambda x: functional.unfold(x, **how), image), blocks)
    summed = functional.fold(blocks, (8, 9), **how)
    torch.testing.assert_close(repaired_values(lambda x: functional.fold(x, (8, 9), **how), blocks), summed)


@pytest.mark.parametrize("constant", [0, 1, 7, 0xF0, 0x5A5A5A, -1, -8, -123457, (1 << 30) - 1])
def test_bits_of_every_integer(constant: int) -> None:
    extremes = torch.tensor([0, 1, -1, 2**31 - 1, -(2**31)], dtype=torch.int32)
    x = torch.cat([extremes, torch.randint(-(2**31), 2**31 - 1, (99,), dtype=torch.int32)])

    def every(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x & constant, x | constant, x ^ constant, constant & x])

    assert torch.equal(repaired_values(every, x), every(x))


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.integers(1, 3), min_size=1, max_size=8).flatmap(
        lambda s: st.tuples(st.just(s), st.permutations(range(len(s))))
    )
)
def test_a_permutation_in_steps_is_the_permutation(case: tuple[list[int], list[int]]) -> None:
    shape, order = case
    x = y = torch.arange(torch.Size(shape).numel()).reshape(shape)
    for sizes, step in permute_steps(shape, order):
        assert len(sizes) <= MAX_RANK
        y = y.reshape(sizes).permute(step)
    assert torch.equal(y.flatten(), x.permute(order).flatten())


def six(x: torch.Tensor) -> torch.Tensor:
    return x.reshape(2, 3, 2, 4, 3, 3)


SIX: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "softmax": lambda x: six(x).softmax(3),
    "sum": lambda x: six(x).sum((1, 3)),
    "mean": lambda x: six(x).mean((0, 2, 4)),
    "amax": lambda x: six(x).amax(3),
    "argmax": lambda x: six(x).argmax(3),
    "max": lambda x: six(x).max(2).values,
    "topk": lambda x: six(x).topk(2, 3)[0],
    "cat": lambda x: torch.cat([six(x), six(x) * 2], 2),
    "stack": lambda x: torch.stack([six(x), six(x)], 6),
    "unbind": lambda x: six(x).unbind(3)[1],
    "broadcast": lambda x: six(x) + torch.arange(4.0)[:, None, None] * six(x)[:1],
    "broadcast over alternate dimensions": lambda x: six(x)[:, :1, :, :1] + six(x)[:1, :, :1, :, :1],
    "matmul": lambda x: six(x) @ six(x).transpose(-1, -2)[:, :1],
    "matmul of a weight": lambda x: six(x) @ torch.ones(3, 5),
    "linear": lambda x: functional.linear(six(x), torch.ones(5, 3), torch.ones(5)),
    "layer norm": lambda x: functional.layer_norm(six(x), (3, 3)),
    "attention": lambda x: functional.scaled_dot_product_attention(six(x), six(x), six(x)),
    "einsum": lambda x: torch.einsum("abcdef,abcdgf->abcdeg", six(x), six(x)),
    "select": lambda x: six(x)[:, :, 1],
    "slice": lambda x: six(x)[:, :, :, 1:3],
    "index": lambda x: six(x)[:, :, :, torch.tensor([2, 0])],
    "flip": lambda x: six(x).flip(1, 3),
    "roll": lambda x: six(x).roll((1, 2), (1, 3)),
    "pad": lambda x: functional.pad(six(x), (1, 0, 0, 2)),
    "repeat": lambda x: six(x).repeat(1, 2, 1, 1, 3, 1),
    "expand": lambda x: x[:, :, None, :, None, :].expand(-1, -1, 2, -1, 2, -1),
    "where": lambda x: torch.where(six(x) > 0.5, six(x), 0.0),
}


@pytest.mark.parametrize("name", SIX)
def test_six_dimensions_are_computed_in_five(name: str) -> None:
    x = torch.rand(2, 3, 8, 9)

    def flat(x: torch.Tensor) -> torch.Tensor:
        return SIX[name](x).flatten()

    torch.testing.assert_close(repaired_values(flat, x), flat(x))


class ResizedEmbedding(nn.Module):
    """A position embedding that coremltools cannot resize, but that no input changes (SAM)."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.rand(1, 2, 4, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        size = (x.shape[-2], x.shape[-1])
        return x + functional.interpolate(self.embedding, size=size, mode="bicubic", antialias=True)


def test_what_depends_on_parameters_only_is_computed_where_it_cannot_be_converted() -> None:
    module, x = ResizedEmbedding().eval(), torch.rand(1, 2, 6, 6)
    with quiet(progress=False):
        repaired = repair(torch.export.export(module, (x,)).run_decompositions({}))
    torch.testing.assert_close(repaired.exported.module()(x), module(x))
    assert convert(module, x, "iOS18", progress=False).road == "export"


@pytest.mark.parametrize("name", BREAKERS)
def test_a_breaker_loads_by_export(name: str) -> None:
    conversion = convert(Runs(BREAKERS[name]), X, "iOS18", progress=False)
    assert conversion.road == "export"
    assert conversion.repairs
    [output] = Run(conversion.mlmodel)(X)
    np.testing.assert_allclose(output, BREAKERS[name](X).numpy(), atol=2e-2, rtol=2e-2)


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerDecoderLayer(4, 2, 8, batch_first=True)
        self.decoder = nn.TransformerDecoder(self.layer, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(2)
        return self.decoder(x[None], x[None], tgt_mask=mask)


@pytest.mark.parametrize(
    "module",
    [
        Masked(),
        Runs(lambda x: x.prod(1) * x.prod()),
        Runs(lambda x: functional.grid_sample(x[None, None], x.reshape(1, 2, 2, 2), "bicubic", align_corners=False)),
    ],
    ids=["masked decoder", "prod", "grid_sample"],
)
def test_what_coremltools_fails_at_later_loads_by_export(module: nn.Module) -> None:
    model = tnb.load(module, X, progress=False)
    assert model.conversion is not None
    assert model.conversion.road == "export"
    assert (model.ops["source"] != "").all()


@pytest.mark.filterwarnings("ignore:.torch.jit.trace:DeprecationWarning")
def test_a_scripted_module_is_traced() -> None:
    traced = torch.jit.trace(TwoLinears().eval(), X)  # type: ignore[no-untyped-call]
    model = tnb.load(traced, X, progress=False)
    assert model.conversion is not None
    assert model.conversion.road == "trace"
    assert (model.ops["op_type"] == "linear").sum() == 2


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
