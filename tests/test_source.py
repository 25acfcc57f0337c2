"""Where ops and constants came from, on modules whose right answers are written beside them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

import models
import talaria_nb as tnb
from talaria_nb.quiet import quiet
from talaria_nb.regions import inline_regions
from talaria_nb.source import HANDLE_FILE, package_source_map

if TYPE_CHECKING:
    from collections.abc import Iterable

LINES = Path(__file__).read_text(encoding="utf-8").splitlines()


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x).cos()  # cos


class Everything(nn.Module):
    """Each op type that marks a line occurs once, or in a comment-marked place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.nested = nn.ModuleList([nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 8)]), nn.ModuleList([Head()])])
        self.chain = nn.Sequential(nn.Linear(8, 8), nn.Sequential(nn.Tanh(), nn.Linear(8, 8)))
        self.again = nn.Linear(8, 8)
        self.shared = nn.Linear(8, 8)
        self.alias = nn.Sequential(self.shared, nn.Sigmoid())
        self.function = lambda x: torch.sin(x)  # lambda  # noqa: PLW0108

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.conv(x)))  # conv, relu
        x = x.mean((2, 3))  # reduce_mean
        x = self.nested[0][1](self.nested[0][0](x))  # nested
        x = self.nested[1][0](x)  # head
        x = self.chain(x)  # chain
        x = self.again(x)  # again
        x = nn.functional.gelu(x)  # gelu
        x = self.again(x)  # again
        x = self.shared(x) + torch.exp(x)  # shared, exp, add
        x = self.alias(x)  # alias
        return self.function(x)


RIGHT = [
    # marker of the line, op type, modules that may have made it
    ("conv, relu", "conv", ["conv"]),
    ("conv, relu", "cast", ["conv"]),
    ("conv, relu", "relu", [""]),
    ("reduce_mean", "reduce_mean", [""]),
    ("nested", "linear", ["nested.0.0"]),
    ("nested", "linear", ["nested.0.1"]),
    ("head", "linear", ["nested.1.0.linear"]),
    ("cos", "cos", ["nested.1.0"]),
    ("chain", "linear", ["chain.0"]),
    ("chain", "tanh", ["chain.1.0"]),
    ("chain", "linear", ["chain.1.1"]),
    ("again", "linear", ["again"]),
    ("gelu", "gelu", [""]),
    ("again", "linear", ["again"]),
    ("shared, exp, add", "linear", ["shared", "alias.0"]),
    ("shared, exp, add", "exp", [""]),
    ("shared, exp, add", "add", [""]),
    ("alias", "linear", ["shared", "alias.0"]),
    ("alias", "sigmoid", ["alias.1"]),
    ("lambda", "sin", [""]),
    ("lambda", "cast", [""]),
]


COS = "return self.linear(x).cos()  # cos"
ROADS = ("export", "trace")


@cache
def everything(road: str = "export") -> tnb.Model:
    torch.manual_seed(0)
    module = Everything()
    for tensor in (module.norm.weight, module.norm.bias, module.norm.running_mean, module.norm.running_var):
        assert isinstance(tensor, torch.Tensor)
        nn.init.uniform_(tensor, 0.5, 1.5)
    return load(module, torch.zeros(1, 3, 8, 8), road)


def load(module: nn.Module, example_inputs: object, road: str) -> tnb.Model:
    """Load a module by torch.export, or as if torch.export had failed."""
    with pytest.MonkeyPatch.context() as patch:
        if road == "trace":
            patch.setattr("talaria_nb.convert.inline_regions", lambda _: 1 / 0)
        model = tnb.load(module, example_inputs, progress=False)
    assert model.conversion is not None
    assert model.conversion.road == road
    return model


def frame_lines(model: tnb.Model, op: str) -> list[str]:
    return [LINES[frame.line - 1] for frame in model.source(op) if frame.file == __file__]


@pytest.mark.parametrize("road", ROADS)
def test_every_op_points_at_the_right_module_and_line(road: str) -> None:
    model = everything(road)
    wanted = list(RIGHT)
    for row in model.ops.itertuples():
        lines = frame_lines(model, row.name)
        found = [
            index
            for index, (marker, op_type, modules) in enumerate(wanted)
            if op_type == row.op_type
            and row.module in modules
            and any(line.split("# noqa")[0].rstrip().endswith(f"# {marker}") for line in lines)
        ]
        assert found or row.op_type == "cast", (row.name, row.op_type, row.module, lines)
        if found:
            wanted.pop(found[0])
    assert [entry for entry in wanted if entry[1] != "cast"] == []


@pytest.mark.parametrize("road", ROADS)
def test_source_tells_users_lines_from_torchs(road: str) -> None:
    model = everything(road)
    for op in model.ops["name"]:
        frames = model.source(op)
        assert any(frame.is_user for frame in frames)
        assert all(frame.is_user == (frame.file == __file__) for frame in frames)
    [cos] = model.ops.loc[model.ops["op_type"] == "cos", "name"]
    assert [LINES[frame.line - 1].strip().split("  #")[0] for frame in model.source(cos)] == [
        "x = self.nested[1][0](x)",
        "return self.linear(x).cos()",
    ]
    printed = repr(model.source(cos)).splitlines()
    assert printed[-2:] == [f'File "{__file__}", line {model.source(cos)[-1].line}, in forward', f"    {COS}"]


@pytest.mark.parametrize("road", ROADS)
def test_ops_know_the_class_of_their_module(road: str) -> None:
    ops = everything(road).ops
    classes = dict(zip(ops["module"], ops["module_class"], strict=True))
    assert classes["nested.1.0"].endswith("test_source.Head")
    assert classes["conv"] == "torch.nn.modules.conv.Conv2d"
    assert all(classes.values())


@pytest.mark.parametrize("road", ROADS)
def test_a_conv_keeps_its_batch_norm_as_second_parent(road: str) -> None:
    model = everything(road)
    [conv] = model.ops.loc[model.ops["op_type"] == "conv", "name"]
    parents = model.source_map.parents(conv)
    assert [parent.module for parent in parents] == ["conv", "norm"]
    assert [parent.frames[-1].file.rsplit("/", 1)[-1] for parent in parents] == ["conv.py", "batchnorm.py"]
    assert model.ops.set_index("name").loc[conv, "parents"] == "conv, norm"


class Patterns(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.drop = nn.Dropout()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.drop(self.first(x))
        return torch.sigmoid(x) * x


@pytest.mark.parametrize("road", ROADS)
def test_fused_activations_keep_their_parts_and_others_gain_none(road: str) -> None:
    model = load(Patterns(), torch.zeros(2, 8), road)
    operators = {
        row.op_type: [parent.operator for parent in model.source_map.parents(row.name)]
        for row in model.ops.itertuples()
        if row.op_type != "cast"
    }
    assert operators == {"linear": ["linear"], "silu": ["mul", "sigmoid"]}


@pytest.mark.parametrize("road", ROADS)
def test_folded_constants_belong_to_the_convs_parameter(road: str) -> None:
    model = everything(road)
    weights = model.weights.set_index("folded_from")
    assert weights.loc["conv.weight", "parameter"] == ""
    held = model.weights[model.weights["parameter"] != ""]
    assert (held["folded_from"] == "").all()
    [conv] = model.ops.loc[model.ops["op_type"] == "conv", "name"]
    names = set(model.source_map.folded.values())
    assert names == {"conv.weight", "norm.bias"}
    assert conv in weights.loc["conv.weight", "readers"]


class Turned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(16, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.table.T


@pytest.mark.parametrize("road", ROADS)
def test_a_transposed_parameter_is_still_held(road: str) -> None:
    model = load(Turned(), torch.zeros(2, 8), road)
    assert (model.weights["parameter"] + model.weights["folded_from"]).tolist() == ["table"]


def test_rows_of_an_embedding_that_no_input_chooses_are_folded_from_it() -> None:
    model = models.minilm()
    folded = model.weights.loc[model.weights["parameter"] == "", "folded_from"]
    assert sorted(folded) == ["embeddings.position_embeddings.weight", "embeddings.token_type_embeddings.weight"]


class Regions(nn.Module):
    """Gradients and autocast switched on and off, inside of each other."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    @torch.no_grad()
    def helper(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = x.sin()  # sin
        return y, y.cos()  # cos

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y, z = self.helper(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = self.linear(y)  # linear
            with torch.no_grad():
                y = y.exp()  # exp
        with torch.autocast("cpu", enabled=False):
            return torch.tanh(y.float()), z  # tanh


def test_ops_inside_of_regions_keep_their_lines() -> None:
    model = tnb.load(Regions(), torch.zeros(2, 8), progress=False)
    computing = [row for row in model.ops.itertuples() if row.op_type != "cast"]
    assert [row.op_type for row in computing] == ["sin", "cos", "linear", "exp", "tanh"]
    for row in computing:
        assert frame_lines(model, row.name)[-1].endswith(f"# {row.op_type}")


def test_regions_are_written_out_without_a_change_of_values() -> None:
    module, x = Regions().eval(), torch.randn(2, 8)
    exported = torch.export.export(module, (x,))
    before = str(exported.graph)
    with quiet(progress=False):
        inlined = inline_regions(exported)
        results = inlined.module()(x)
    assert str(exported.graph) == before
    assert "wrap_with" in before
    assert "wrap_with" not in str(inlined.graph)
    y, z = module.helper(x)
    wanted = module.linear(y).exp().tanh(), z  # without autocast
    torch.testing.assert_close(results, wanted)
    plain = torch.export.export(module.linear, (x,))
    assert inline_regions(plain) is plain


def share_with_user_frame(model: tnb.Model, names: Iterable[str]) -> float:
    return float(np.mean([any(frame.is_user for frame in model.source(name)) for name in names]))


@pytest.mark.parametrize("name", ["minilm", "mobilenet"])
def test_ops_of_real_models_have_a_frame_outside_of_torch(name: str) -> None:
    model: tnb.Model = getattr(models, name)()
    assert share_with_user_frame(model, model.ops["name"]) >= 0.99
    assert ((model.weights["parameter"] + model.weights["folded_from"]) != "").all()


def test_a_package_gives_the_debug_handles_it_carries(tmp_path: Path) -> None:
    trail = [{"Type": "Program"}, {"Type": "Operation", "Operator": "add", "Output": "z"}]
    (tmp_path / HANDLE_FILE).write_text(json.dumps({"version": "9", "mapping": {"7": [trail], "null": [trail]}}))
    assert package_source_map(str(tmp_path)).handles == {"z": 7}


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"mapping": [1]}', '{"mapping": {"1": [[]]}}', "[" * 100_000, "\ud800"]
)
def test_a_damaged_handle_file_says_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / HANDLE_FILE).write_bytes(text.encode(errors="surrogatepass"))
    assert package_source_map(str(tmp_path)).handles == {}
    assert package_source_map(None).handles == {}
