from __future__ import annotations

import copy
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import models
import talaria_nb as tnb
from talaria_nb.errors import ConversionError, LoadError
from talaria_nb.frames import COLUMNS


def test_every_op_points_at_its_module_and_line() -> None:
    ops = models.classifier().ops.set_index("name")
    lines = Path(models.__file__).read_text(encoding="utf-8").splitlines()
    convs = ops[ops["op_type"] == "conv"]
    assert len(convs) == 7
    for source in ops["source"]:
        file, line = source.split(":")
        assert file == "models.py"
        assert lines[int(line) - 1].strip()
    head = ops[ops["op_type"] == "linear"].iloc[0]
    assert head["module"] == "head"
    assert "self.head(" in lines[int(head["source"].split(":")[1]) - 1]
    assert {f"blocks.{i}.pointwise" for i in range(3)} <= set(ops["module"])


def test_a_conv_fused_with_its_batch_norm_is_still_the_conv() -> None:
    ops = models.classifier().ops
    modules = ops.loc[ops["op_type"] == "conv", "module"].tolist()
    assert modules == ["stem", *(f"blocks.{i}.{part}" for i in range(3) for part in ("depthwise", "pointwise"))]


def test_source_lists_frames_outermost_first() -> None:
    model = models.classifier()
    [name] = model.ops.loc[model.ops["op_type"] == "linear", "name"]
    frames = model.source(name)
    assert frames[0].file == models.__file__
    assert frames[0].code == "return self.head(x.mean((2, 3)))"
    assert "torch" in frames[-1].file


def test_frames_hold_documented_columns_only() -> None:
    model = models.tied()
    assert set(model.ops.columns) | set(model.weights.columns) <= COLUMNS.keys()


def test_a_tied_weight_is_one_weight_with_two_readers() -> None:
    weights = models.tied().program.weights
    [row] = [row for row, shape in enumerate(weights.shape) if shape == (512, 64)]
    assert len(weights.readers[row]) == 2


def test_a_weight_names_its_torch_parameter() -> None:
    module = models.minilm_module()
    model = models.minilm()
    weights = model.weights.set_index("name")["parameter"]
    linked = weights[weights != ""]
    assert len(linked) == 37  # all but the two tables that were folded into what they give for these inputs
    for name, parameter in linked.items():
        expected = module.get_parameter(parameter).detach().half().numpy()
        np.testing.assert_array_equal(model.weight_value(name), expected)


def test_a_tiny_weight_is_still_a_weight() -> None:
    model = tnb.load(nn.Linear(4, 4).eval(), torch.zeros(2, 4), progress=False)
    [linear] = model.ops[model.ops["op_type"] == "linear"].to_dict("records")
    assert linear["flops"] == pytest.approx(2 * 2 * 4 * 4, rel=0.3)  # some count the bias too
    assert linear["weight_bytes"] == 2 * 4 * 4


def test_flops_of_known_layers() -> None:
    ops = models.classifier().ops
    stem = ops[(ops["module"] == "stem") & (ops["op_type"] == "conv")].iloc[0]
    assert stem["flops"] == pytest.approx(2 * 64 * 16 * 16 * 3 * 9, rel=0.06)  # some count the bias too
    assert stem["weight_bytes"] == 2 * 64 * 3 * 9


def test_package_on_disk_reads_like_the_model_it_was_saved_from(tmp_path: Path) -> None:
    model = models.classifier()
    path = tmp_path / "classifier.mlpackage"
    model.mlmodel.save(str(path))
    again = tnb.load(path, progress=False)
    assert again.program.fingerprint == model.program.fingerprint
    assert again.program.edges.tolist() == model.program.edges.tolist()
    name = again.program.weights.name[0]
    np.testing.assert_array_equal(again.weight_value(name), model.weight_value(name))
    on_disk = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    assert tnb.Plan(again).estimate("iPhone 13").size_bytes == on_disk


def test_the_users_module_is_left_as_it_was() -> None:
    module = models.Classifier().half().train()
    module.blocks[1].eval()
    state = copy.deepcopy(module.state_dict())
    flags = [child.training for child in module.modules()]
    model = tnb.load(module, torch.zeros(1, 3, 32, 32, dtype=torch.half), progress=False)
    assert [child.training for child in module.modules()] == flags
    for name, tensor in module.state_dict().items():
        assert tensor.dtype == state[name].dtype
        assert torch.equal(tensor, state[name])
    assert "dropout" not in set(model.ops["op_type"])
    assert set(model.weights["dtype"]) == {"fp16"}


class Counting(nn.Module):
    """Counts its calls in a buffer, and as asked in a plain tensor and in its input."""

    steps: torch.Tensor

    def __init__(self, action: str = "") -> None:
        super().__init__()
        self.action = action
        self.register_buffer("steps", torch.zeros(1))
        self.plain = torch.zeros(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.steps += 1
        if self.action:
            if torch.compiler.is_exporting():
                message = "it is made to fail"
                raise RuntimeError(message)
            x.mul_(2)
        if self.action == "plain":
            self.plain.add_(1)
        return torch.linalg.svd(x)[1] if self.action == "fail" else x + self.steps


@pytest.mark.parametrize("action", ["", "trace", "fail", "plain"])
def test_a_module_that_changes_itself_is_left_as_it_was(action: str) -> None:
    module, x = Counting(action), torch.ones(3, 3)
    if action == "fail":
        with pytest.raises(ConversionError):
            tnb.load(module, x, progress=False)
    elif action == "plain":
        with pytest.raises(LoadError, match=r"Counting changes its tensor 'plain' .* register_buffer"):
            tnb.load(module, x, progress=False)
    else:
        model = tnb.load(module, x, progress=False)
        assert model.conversion is not None
        assert model.conversion.road == (action or "export")
        assert model.states["name"].str.endswith("steps").tolist() == [True]
    assert not module.steps.any()
    assert not module.plain.any()
    assert torch.equal(x, torch.ones(3, 3))


def test_training_mode_is_converted_as_eval() -> None:
    module = models.Classifier()
    module.eval()
    expected = tnb.load(module, torch.zeros(1, 3, 32, 32), progress=False)
    trained = tnb.load(module.train(), torch.zeros(1, 3, 32, 32), progress=False)
    assert trained.program.fingerprint == expected.program.fingerprint


def test_repairs_are_reported() -> None:
    assert any("new_ones" in repair for repair in models.minilm().repairs)
    assert models.classifier().repairs == ()


class Unconvertible(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.svd(x)[1]


class Locked(nn.Linear):
    def __init__(self) -> None:
        super().__init__(3, 3)
        self.lock = threading.Lock()


class Boundless(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize(
    ("source", "inputs", "error", "says"),
    [
        (3, None, LoadError, "cannot read a value of type int"),
        ("missing.mlpackage", None, LoadError, "no file"),
        (__file__, None, LoadError, "not an .mlpackage"),
        (nn.Linear(2, 2), None, LoadError, "needs example_inputs"),
        (nn.Linear(2, 2), 5, LoadError, "example_inputs is of type int"),
        (nn.Linear(2, 2), torch.zeros(1, 3), LoadError, r"does not run on these example_inputs \(\(1, 3\) float32\)"),
        (Unconvertible(), torch.zeros(3, 3), ConversionError, "cannot convert Unconvertible"),
        (Locked(), torch.zeros(3, 3), ConversionError, "Locked cannot be copied"),
        (Boundless(), torch.zeros(3), LoadError, "Boundless decides by the values of its tensors"),
    ],
)
def test_bad_input_is_answered_in_one_sentence(
    source: object, inputs: object, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says) as caught:
        tnb.load(source, inputs, progress=False)  # type: ignore[arg-type]
    assert isinstance(caught.value, tnb.TalariaError)
    assert "\n" not in str(caught.value)


def test_unknown_target_is_refused() -> None:
    with pytest.raises(LoadError, match="Unknown deployment_target 'iOS9'"):
        tnb.load(nn.Linear(2, 2), torch.zeros(1, 2), deployment_target="iOS9")


@pytest.mark.parametrize("damage", ["manifest", "proto", "weights", "empty"])
def test_a_damaged_package_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "damaged.mlpackage"
    models.classifier().mlmodel.save(str(path))
    proto = path / "Data" / "com.apple.CoreML" / "model.mlmodel"
    weights = path / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"
    if damage == "manifest":
        (path / "Manifest.json").write_text("{")
    elif damage == "proto":
        proto.write_bytes(proto.read_bytes()[: proto.stat().st_size // 2])
    elif damage == "weights":
        weights.unlink()
    else:
        (path / "Manifest.json").unlink()
    with pytest.raises(LoadError, match="damaged"):
        tnb.load(path, progress=False)


def test_a_neural_network_is_refused(tmp_path: Path) -> None:
    import coremltools as ct
    from coremltools.models.neural_network import NeuralNetworkBuilder

    builder = NeuralNetworkBuilder(
        [("x", ct.models.datatypes.Array(3))], [("y", None)], disable_rank5_shape_mapping=True
    )
    builder.add_activation("relu", "RELU", "x", "y")
    path = tmp_path / "old.mlmodel"
    ct.models.MLModel(builder.spec, skip_model_load=True).save(str(path))
    with pytest.raises(LoadError, match=r"old\.mlmodel is a neuralNetwork, .*convert_to='mlprogram'"):
        tnb.load(path)
    with pytest.raises(LoadError, match="is a neuralNetwork, not an ML program"):
        tnb.load(ct.models.MLModel(builder.spec, skip_model_load=True))
