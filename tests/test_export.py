from __future__ import annotations

import errno
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import coremltools as ct
import coremltools.optimize.coreml as cto
import numpy as np
import pandas as pd
import pytest
import torch
from coremltools.optimize.coreml import _quantization_passes

import models
import talaria_nb as tnb
from packages import dequantized_weights
from talaria_nb import export
from talaria_nb.errors import ExportError, LoadError
from talaria_nb.export import save
from talaria_nb.read import mil_function

if TYPE_CHECKING:
    from collections.abc import Mapping

MIXED: Mapping[str, object] = {
    "enter*": tnb.Float16(),
    "down": tnb.Palettize(4),
    "middle": tnb.LinearQuantize("int4", "per_block", 16),
    "up": tnb.Palettize(2, "per_grouped_channel", 8),
    "leave": tnb.LinearQuantize("int8"),
}


@pytest.fixture(scope="module")
def mixed() -> tnb.Plan:
    plan = tnb.Plan(models.unet())
    for where, scheme in MIXED.items():
        plan = plan.set(where, scheme)  # type: ignore[arg-type]
    return plan


def test_configs_are_keyed_by_const_name_and_disjoint(mixed: tnb.Plan) -> None:
    configs = dict(mixed.optimization_configs(explicit=True))
    assert [*configs] == ["palettize", "linear_quantize"]
    names = [set(config.op_name_configs) for config in configs.values()]
    assert not names[0] & names[1]
    assert names[0] | names[1] == {name for name, scheme in mixed.schemes.items() if scheme != tnb.Float16()}
    assert all(config.global_config is None for config in configs.values())


def test_configs_applied_by_hand_give_the_same_model(mixed: tnb.Plan) -> None:
    mlmodel = mixed.model.mlmodel
    for name, config in mixed.optimization_configs():
        mlmodel = {"palettize": cto.palettize_weights, "linear_quantize": cto.linear_quantize_weights}[name](
            mlmodel, config
        )
    ours, by_hand = dequantized_weights(mixed.compress(own_tables=False)), dequantized_weights(mlmodel)
    assert ours.keys() == by_hand.keys()
    for name, value in ours.items():
        np.testing.assert_array_equal(value, by_hand[name])


def test_python_source_runs_as_it_stands(mixed: tnb.Plan) -> None:
    namespace: dict[str, object] = {}
    exec(mixed.to_python(), namespace)  # noqa: S102 - running it is the test
    compressed = namespace["compress"](mixed.model.mlmodel)  # type: ignore[operator]
    assert mixed.verify(compressed)["match"].all()


def test_python_source_is_a_script(tmp_path: Path) -> None:
    """It finds the weights of the package by name, needs coremltools alone, and saves the package that was planned."""
    plan = (
        tnb.Plan(models.unet()).set("down", tnb.Palettize(4, mode="uniform")).set("leave", tnb.LinearQuantize("int8"))
    )
    script, model, small = tmp_path / "compress.py", tmp_path / "unet.mlpackage", tmp_path / "small.mlpackage"
    script.write_text(plan.to_python(), encoding="utf-8")
    save(plan.model.mlmodel, model)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    alone = "import runpy, sys; sys.modules.update(torch=None, sklearn=None); sys.argv = sys.argv[1:]"
    run = [sys.executable, "-I", "-c", f"{alone}; runpy.run_path(sys.argv[0], run_name='__main__')"]
    subprocess.run([*run, str(script), str(model), str(small)], cwd=elsewhere, check=True)
    assert "exactly as predicted" in plan.verify(small).attrs["verdict"]
    theirs = Path("Data/com.apple.CoreML/weights/weight.bin")
    expected = plan.compress(own_tables=False, progress=False)
    assert (small / theirs).read_bytes() == (Path(expected.package_path) / theirs).read_bytes()


def test_verify_reads_a_package(mixed: tnb.Plan, tmp_path: Path) -> None:
    path = tmp_path / "small.mlpackage"
    in_memory = mixed.verify(mixed.compress(path))
    opened = ct.models.MLModel(str(path), skip_model_load=True)
    for given in (opened, path, str(path)):
        found = mixed.verify(given)
        pd.testing.assert_frame_equal(found, in_memory)
        assert found.attrs["verdict"] == in_memory.attrs["verdict"]
    assert dequantized_weights(ct.models.MLModel(str(path), skip_model_load=True)).keys() == {
        weight for weight, scheme in mixed.schemes.items() if scheme != tnb.Float16()
    }
    with pytest.raises(LoadError, match="There is no file"):
        mixed.verify(tmp_path / "none.mlpackage")
    (path / "Data/com.apple.CoreML/weights/weight.bin").write_bytes(b"")
    with pytest.raises(LoadError, match=r"small\.mlpackage is damaged"):
        mixed.verify(ct.models.MLModel(str(path), skip_model_load=True))


def test_python_source_of_the_float16_plan_changes_nothing() -> None:
    plan = tnb.Plan(models.unet())
    namespace: dict[str, object] = {}
    exec(plan.to_python(), namespace)  # noqa: S102 - running it is the test
    assert namespace["compress"](plan.model.mlmodel) is plan.model.mlmodel  # type: ignore[operator]
    assert plan.optimization_configs() == []


def test_verify_compares_every_weight_and_the_file(mixed: tnb.Plan) -> None:
    table = mixed.verify(progress=False)
    assert [*table.index] == [*mixed.schemes, "weight.bin"]
    assert table["match"].all()
    assert "exactly as predicted" in table.attrs["verdict"]
    quality = table["sqnr_db"].drop("weight.bin")
    changed = np.array([scheme != tnb.Float16() for scheme in mixed.schemes.values()])
    assert np.isinf(quality[~changed]).all()
    assert quality[changed].between(3, 80).all()


def test_verify_notices_a_weight_that_was_skipped(mixed: tnb.Plan) -> None:
    table = mixed.verify(mixed.model.mlmodel, progress=False)
    wrong = table.index[~table["match"]]
    assert set(wrong) == {name for name, scheme in mixed.schemes.items() if scheme != tnb.Float16()} | {"weight.bin"}
    assert "differ from the prediction" in table.attrs["verdict"]


def test_compress_leaves_the_model_alone(mixed: tnb.Plan) -> None:
    before = mixed.model.mlmodel.get_spec().SerializeToString()
    mixed.compress(progress=False)
    assert mixed.model.mlmodel.get_spec().SerializeToString() == before


def test_a_silent_skip_is_an_error(monkeypatch: pytest.MonkeyPatch, mixed: tnb.Plan) -> None:
    monkeypatch.setattr(_quantization_passes.palettize_weights, "transform_op", lambda *_: None)
    with pytest.raises(ExportError, match="skipped 2 weights"):
        mixed.compress(progress=False)


def test_own_tables_are_as_good_as_those_of_coremltools() -> None:
    plan = tnb.Plan(models.unet()).set("*", tnb.Palettize(4)).set("up", tnb.Palettize(3, "per_grouped_channel", 8))
    plan = plan.set("leave", tnb.Prune(0.5) + tnb.Palettize(4))
    ours, theirs = plan.verify(plan.compress()), plan.verify(plan.compress(own_tables=False))
    assert ours["match"].all()
    assert "exactly as predicted" in ours.attrs["verdict"]
    assert "exactly as predicted" in theirs.attrs["verdict"]
    ratio = 10 ** ((theirs["sqnr_db"] - ours["sqnr_db"]).drop(["p_enter_weight_to_fp16", "weight.bin"]) / 10)
    assert (ratio <= 1 + 1e-9).all()


def test_verify_finds_a_corrupted_weight_and_a_dropped_config(mixed: tnb.Plan) -> None:
    configured = mixed.optimization_configs(explicit=True)
    _, palettes = configured[0]
    del palettes.op_name_configs["p_up_weight_to_fp16"]
    mlmodel = mixed.model.mlmodel
    for step in configured:
        mlmodel = step.apply(mlmodel)
    operations = {op.name: op for op in mil_function(mlmodel).operations}
    scale = operations["p_leave_weight_to_fp16_quantized"].scale.val
    scale[3] *= 1.5
    table = mixed.verify(mlmodel)
    found = table["finding"][table["finding"] != ""]
    assert set(found.index) == {"p_up_weight_to_fp16", "p_leave_weight_to_fp16", "weight.bin"}
    assert found["p_up_weight_to_fp16"] == "It was not compressed."
    assert "A value is off by" in found["p_leave_weight_to_fp16"]
    assert table.attrs["verdict"].startswith("3 of 6 differ from the prediction")


@pytest.mark.parametrize("weight", ["p_enter_weight_to_fp16", "p_down_weight_to_fp16"])
def test_verify_finds_values_that_changed(mixed: tnb.Plan, weight: str) -> None:
    mlmodel = mixed.compress()
    operations = {op.name: op for op in mil_function(mlmodel).operations}
    if weight in operations:
        operations[weight].outputs[0].val[0, 0, 0, 0] += 1
    else:
        operations[f"{weight}_palettized"].lut.val[..., 5, 0] = 9
    table = mixed.verify(mlmodel)
    assert [*table.index[table["finding"] != ""]] == [weight]
    assert table["max_error"][weight] >= 0.5


@pytest.mark.parametrize("own_tables", [True, False])
@pytest.mark.parametrize("scheme", [tnb.Palettize(4), tnb.Palettize(8), tnb.Palettize(2, "per_grouped_channel", 16)])
def test_verify_finds_a_single_index_that_changed(scheme: tnb.Scheme, *, own_tables: bool) -> None:
    plan = tnb.Plan(models.unet()).set("middle", scheme)
    mlmodel = plan.compress(own_tables=own_tables)
    assert "exactly as predicted" in plan.verify(mlmodel).attrs["verdict"]
    operations = {op.name: op for op in mil_function(mlmodel).operations}
    indices = operations["p_middle_weight_to_fp16_palettized"].indices.val
    indices[5, 7, 1, 2] ^= 1
    finding = plan.verify(mlmodel)["finding"]["p_middle_weight_to_fp16"]
    assert finding == "1 of its values are not stored as the nearest entry of their table."


@pytest.mark.parametrize(
    "scheme",
    [
        tnb.Palettize(4, cluster_dim=2),
        tnb.Palettize(3, "per_grouped_channel", 16, channel_axis=1, cluster_dim=4),
        tnb.Palettize(4) + tnb.LinearQuantize("int8", "per_tensor"),
        tnb.Prune(0.5) + tnb.Palettize(4),
    ],
)
def test_verify_finds_a_changed_index_of_vectors_and_joints(scheme: tnb.Scheme) -> None:
    plan = tnb.Plan(models.unet()).set("middle", scheme)
    mlmodel = plan.compress()
    assert "exactly as predicted" in plan.verify(mlmodel).attrs["verdict"]
    for op in mil_function(mlmodel).operations:
        for name in ("indices", "indices_nonzero_data"):
            if name in op.inputs and op.op_type.startswith("constexpr_lut"):
                indices = op.inputs[name].val
                indices[tuple(np.argwhere(indices)[0])] = 0
    finding = plan.verify(mlmodel)["finding"]["p_middle_weight_to_fp16"]
    assert finding == "1 of its values are not stored as the nearest entry of their table."


@pytest.mark.parametrize("wide", [1, 8])
def test_tables_of_integers_that_share_a_scale_are_as_predicted(wide: int) -> None:
    # The step of all tables is that of the widest, which is far coarser than what the narrow ones need.
    torch.manual_seed(0)
    layer = torch.nn.Linear(256, 64)
    with torch.no_grad():
        layer.weight[:16] *= wide
    plan = tnb.Plan(tnb.load(layer, torch.zeros(1, 256), progress=False))
    plan = plan.set("*", tnb.Palettize(4, "per_grouped_channel", 16) + tnb.LinearQuantize("int8", "per_tensor"))
    mlmodel = plan.compress()
    assert "exactly as predicted" in plan.verify(mlmodel).attrs["verdict"]
    [palette] = [op for op in mil_function(mlmodel).operations if op.op_type.startswith("constexpr_lut")]
    palette.indices.val[tuple(np.argwhere(palette.indices.val)[0])] = 0
    assert "not stored as the nearest entry" in plan.verify(mlmodel).attrs["verdict"]


def test_the_verdict_judges_the_package() -> None:
    plan = tnb.Plan(models.unet()).set("middle", tnb.Palettize(4))
    mlmodel = plan.compress()
    assert plan.verify(mlmodel).attrs["verdict"].endswith("as predicted within 0.01 %.")
    (Path(mlmodel.package_path) / "more").write_bytes(bytes(1000))
    found = plan.verify(mlmodel)
    assert found.attrs["verdict"].endswith(
        f"not the {found.attrs['predicted_package_bytes']:,.0f} that were predicted."
    )


def test_a_plan_that_changes_nothing_is_as_predicted_before_it_is_saved_and_after(tmp_path: Path) -> None:
    model = tnb.load(torch.nn.Linear(64, 64).eval(), torch.zeros(1, 64), progress=False)
    plan = tnb.Plan(model)
    plan.compress(tmp_path / "same.mlpackage")
    for found in (plan.verify(), plan.verify(tmp_path / "same.mlpackage")):
        assert "as predicted within 0.01 %" in found.attrs["verdict"]


def test_a_package_is_saved_whole(mixed: tnb.Plan, tmp_path: Path) -> None:
    target = tmp_path / "small.mlpackage"
    mixed.compress(target)
    first = tnb.load(target, progress=False)
    assert first.program.weights.packed.keys() == {1, 2, 3, 4}
    mixed.set("*", tnb.Palettize(8)).compress(tmp_path / "small")
    assert [*tmp_path.iterdir()] == [target]
    second = tnb.load(target, progress=False)
    assert second.program.weights.packed[4].scheme == tnb.Palettize(8)


def test_a_tilde_is_the_home_folder_in_saving_and_in_loading(
    mixed: tnb.Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    save(mixed.model.mlmodel, "~/model")
    assert [each.name for each in tmp_path.iterdir()] == ["model.mlpackage"]
    assert tnb.load("~/model.mlpackage", progress=False).program.name == "model"
    with pytest.raises(LoadError, match=r"There is no file '~nobody\.mlpackage'"):
        tnb.load("~nobody.mlpackage")


@pytest.mark.parametrize("fails", ["copytree", "rename"])
def test_a_full_disk_leaves_what_was_there(
    mixed: tnb.Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    target = tmp_path / "small.mlpackage"
    mixed.compress(target)
    before = {path.relative_to(tmp_path): path.read_bytes() for path in target.rglob("*") if path.is_file()}
    compressed = mixed.set("*", tnb.Palettize(8)).compress()
    rename = Path.rename

    def full(source: str, to: str) -> None:
        Path(to).mkdir()
        (Path(to) / "Manifest.json").write_bytes(b"half")
        raise shutil.Error([(source, to, "[Errno 28] No space left on device")])

    def refuse(self: Path, to: Path) -> Path:
        if self.name == target.name and to == target:
            raise OSError(errno.ENOSPC, "No space left on device")
        return rename(self, to)

    if fails == "copytree":
        monkeypatch.setattr(shutil, "copytree", full)
    else:
        monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(ExportError, match=r"the disk is full. Nothing was changed there"):
        save(compressed, target)
    assert [*tmp_path.iterdir()] == [target]
    assert {path.relative_to(tmp_path): path.read_bytes() for path in target.rglob("*") if path.is_file()} == before


def test_a_target_that_cannot_be_is_refused(mixed: tnb.Plan, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"as a \.mlpackage"):
        save(mixed.model.mlmodel, tmp_path / "model.mlmodel")
    with pytest.raises(ExportError, match="does not exist"):
        save(mixed.model.mlmodel, tmp_path / "nowhere" / "model.mlpackage")
    assert [*tmp_path.iterdir()] == []


def test_an_interrupted_compression_leaves_nothing(
    mixed: tnb.Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed.model.weights  # noqa: B018 - what is cached lies in the model
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = mixed.model.mlmodel.get_spec().SerializeToString()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(export, "_best_table", interrupt)
    with pytest.raises(KeyboardInterrupt):
        mixed.compress(tmp_path / "model.mlpackage")
    assert [*tmp_path.iterdir()] == []
    assert mixed.model.mlmodel.get_spec().SerializeToString() == before
    monkeypatch.undo()
    assert mixed.verify()["match"].all()


def test_a_tied_weight_is_compressed_once() -> None:
    plan = tnb.Plan(models.tied()).set("embedding", tnb.Palettize(4))
    assert plan.verify(progress=False)["match"].all()
