"""What is read from packages: weights that are compressed already, and kinds of model that are refused."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import coremltools.optimize.coreml as cto
import numpy as np
import pytest

import models
import talaria_nb as tnb
from packages import saved
from talaria_nb import storage
from talaria_nb.costs import cost_table
from talaria_nb.errors import LoadError
from talaria_nb.menu import DEFAULT_MENU
from talaria_nb.quiet import quiet
from talaria_nb.schemes import AsStored
from talaria_nb.subjects import subject
from talaria_nb.weight_bytes import weight_file_bytes

if TYPE_CHECKING:
    from pathlib import Path

    import coremltools as ct

    from talaria_nb.schemes import Scheme

PHONE = "iPhone 15 Pro"


def everywhere(config: Any) -> cto.OptimizationConfig:
    return cto.OptimizationConfig(global_config=config)


PALETTE = everywhere(cto.OpPalettizerConfig(nbits=4))
INT8 = everywhere(cto.OpLinearQuantizerConfig(dtype="int8"))
INT8_TABLES = everywhere(cto.OpLinearQuantizerConfig(dtype="int8", granularity="per_tensor"))
INT4_TABLES = everywhere(cto.OpLinearQuantizerConfig(dtype="int4", granularity="per_tensor"))
UINT8 = everywhere(cto.OpLinearQuantizerConfig(dtype="uint8", mode="linear"))
HALF = everywhere(cto.OpMagnitudePrunerConfig(target_sparsity=0.5))
VECTORS = everywhere(cto.OpPalettizerConfig(nbits=4, cluster_dim=4))


@cache
def compressed(how: str, target: str) -> ct.models.MLModel:
    mlmodel = models.unet(target).mlmodel
    with quiet(progress=False):
        for step in how.split("+"):
            joint = "+" in how
            if step == "palette":
                mlmodel = cto.palettize_weights(mlmodel, PALETTE, joint_compression=joint and mlmodel is not None)
            elif step == "vectors":
                mlmodel = cto.palettize_weights(mlmodel, VECTORS)
            elif step == "int8":
                config = INT8_TABLES if how.startswith("palette") else INT8
                mlmodel = cto.linear_quantize_weights(mlmodel, config, joint_compression=joint)
            elif step == "int4":
                mlmodel = cto.linear_quantize_weights(mlmodel, INT4_TABLES, joint_compression=True)
            elif step == "uint8":
                mlmodel = cto.linear_quantize_weights(mlmodel, UINT8)
            else:
                mlmodel = cto.prune_weights(mlmodel, HALF)
    return mlmodel


BEFORE_IOS18 = (
    *(tnb.Palettize(nbits) for nbits in (8, 6, 4, 2, 1)),
    *(tnb.LinearQuantize("int8", granularity) for granularity in ("per_channel", "per_tensor")),
    tnb.LinearQuantize("uint8"),
    tnb.Prune(0.5),
)
INT8_TABLE = tnb.LinearQuantize("int8", "per_tensor")
ONLY_IOS18 = (
    tnb.Palettize(4, cluster_dim=2),
    tnb.Palettize(2, "per_grouped_channel", 16, channel_axis=1),
    tnb.LinearQuantize("uint4", "per_block", (16, 16, 0, 0)),
    tnb.LinearQuantize("int4", "per_channel", mode="linear"),
    tnb.Prune(0.5) + tnb.LinearQuantize("int8"),
    tnb.Prune(0.5) + tnb.Palettize(4) + INT8_TABLE,
    tnb.LinearQuantize("uint8") + tnb.Palettize(4),
)
STORED = [
    *((scheme, "iOS18") for scheme in DEFAULT_MENU[1:]),
    *((scheme, "iOS18") for scheme in ONLY_IOS18),
    *((scheme, target) for target in ("iOS16", "iOS17") for scheme in BEFORE_IOS18),
]


@pytest.mark.parametrize(("scheme", "target"), STORED, ids=lambda value: getattr(value, "key", str(value)))
def test_a_weight_starts_at_the_scheme_that_it_was_saved_with(tmp_path: Path, scheme: Scheme, target: str) -> None:
    """Whatever a plan can say is recognised when its compressed package is loaded again."""
    plan = tnb.Plan(models.unet(target))
    names = [name for name in plan.schemes if plan._refusal(plan.model.program.weight_row[name], scheme) is None]
    assert names
    plan = plan.set(names, scheme)
    again = tnb.load(saved(plan.compress(progress=False), tmp_path), progress=False)
    start = tnb.Plan(again)
    for row, (got, wanted) in enumerate(zip(start.scheme_of_weight, plan.scheme_of_weight, strict=True)):
        if got != wanted:  # one block over all input channels is a scale a channel; an axis may be named or not
            weight = subject(plan.model.program, row)
            assert [(each.dtype, each.shape) for each in storage.tensors(got, weight, "fp16")] == [
                (each.dtype, each.shape) for each in storage.tensors(wanted, weight, "fp16")
            ]
    assert [*again.program.weights.shape] == [*plan.model.program.weights.shape]
    assert start.estimate(PHONE).weight_file_bytes == plan.estimate(PHONE).weight_file_bytes
    assert start.estimate(PHONE).bits_per_weight == plan.estimate(PHONE).bits_per_weight
    assert start.estimate(PHONE).latency_ms == pytest.approx(plan.estimate(PHONE).latency_ms)


@pytest.mark.parametrize(
    ("how", "target", "label"),
    [
        ("prune", "iOS16", "50 % pruned"),
        ("prune", "iOS18", "50 % pruned"),
        ("prune+palette", "iOS18", "50 % pruned + 4-bit palettize"),
        ("prune+int8", "iOS18", "50 % pruned + 8-bit linear, per-channel"),
        ("palette+int8", "iOS18", "4-bit palettize + int8 tables"),
        ("palette+int4", "iOS18", "4-bit palette + linear, as stored"),
        ("vectors", "iOS18", "4-bit palettize, vectors of 4"),
        ("uint8", "iOS16", "8-bit linear, per-channel, asymmetric, unsigned"),
        ("uint8", "iOS18", "8-bit linear, per-channel, asymmetric, unsigned"),
    ],
)
def test_what_was_compressed_elsewhere_is_kept_as_it_is_stored(
    tmp_path: Path, how: str, target: str, label: str
) -> None:
    path = saved(compressed(how, target), tmp_path)
    model = tnb.load(path, progress=False)
    plan = tnb.Plan(model)
    file = path / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"
    assert weight_file_bytes(model.program, plan.scheme_of_weight) == file.stat().st_size
    assert plan.estimate(PHONE).size_bytes == sum(part.stat().st_size for part in path.rglob("*") if part.is_file())
    kept = [scheme for scheme in plan.schemes.values() if scheme != tnb.Float16()]
    assert len(kept) == 4
    assert {scheme.label for scheme in kept} == {label}
    assert any(isinstance(scheme, AsStored) for scheme in kept) == ("stored" in label)
    table = plan.verify(progress=False)
    assert table["match"].all()
    assert np.isinf(table["sqnr_db"].drop("weight.bin")).all()


def test_nothing_else_can_be_chosen_for_a_weight_that_is_compressed(tmp_path: Path) -> None:
    model = tnb.load(saved(compressed("palette", "iOS18"), tmp_path), progress=False)
    plan = tnb.Plan(model)
    assert [*plan.schemes.values()] == [tnb.Float16()] + 4 * [tnb.Palettize(4)]
    [*names] = (name for name, scheme in plan.schemes.items() if scheme != tnb.Float16())
    assert plan.set(names, tnb.Palettize(4)) == plan
    for other in (tnb.Float16(), tnb.Palettize(2), tnb.LinearQuantize("int8")):
        with pytest.raises(tnb.TalariaError, match=r"already holds it as 4-bit palettize; load the uncompressed model"):
            plan.set(names[0], other)
    assert plan.optimization_configs() == []
    assert plan.compress(progress=False) is model.mlmodel
    assert model.weights["compressible"].sum() == 0
    namespace: dict[str, Any] = {}
    exec(plan.to_python(), namespace)  # noqa: S102 - running it is the test
    assert namespace["compress"](model.mlmodel) is model.mlmodel


def test_a_half_compressed_package_can_be_compressed_further(tmp_path: Path) -> None:
    """A weight that is float16 in the package is as free as in any model; the others stay as they are."""
    first = tnb.Plan(models.unet()).set("down", tnb.Palettize(4)).set("leave", tnb.LinearQuantize("int4"))
    model = tnb.load(saved(first.compress(progress=False), tmp_path), progress=False)
    plan = tnb.Plan(model).set("*middle*", tnb.LinearQuantize("int8"))
    table = plan.verify(progress=False)
    assert table["match"].all(), table
    assert sum(scheme != tnb.Float16() for scheme in plan.schemes.values()) == 3
    assert np.isfinite(table["sqnr_db"]).sum() == 1


def test_the_baseline_of_a_compressed_package_is_the_package(tmp_path: Path) -> None:
    """Float16 stays the first column and is refused where the package holds something else."""
    from talaria_nb.devices import device
    from talaria_nb.wire import pack_costs

    model = tnb.load(saved(compressed("palette", "iOS18"), tmp_path), progress=False)
    plan = tnb.Plan(model)
    table = cost_table(model.program, device(PHONE))
    assert table.schemes[0] == tnb.Float16()
    assert (table.reason[1:, 0] >= 0).all()
    assert table.columns_of(plan.scheme_of_weight).tolist() == table.start.tolist()
    assert np.frombuffer(pack_costs(table)["start"], "<u2").tolist() == table.start.tolist()
    priced = plan.table(PHONE)
    assert priced["latency_ms"].tolist() == priced["float16_latency_ms"].tolist()
    assert priced["weight_bytes"].tolist() == model.ops["weight_bytes"].tolist()
    assert tnb.explore(model, PHONE).plan == plan


def test_a_compressed_weight_reads_back_as_coremltools_would(tmp_path: Path) -> None:
    plan = tnb.Plan(models.unet()).set("down", tnb.Palettize(4))
    small = plan.compress(progress=False)
    again = tnb.load(saved(small, tmp_path), progress=False)
    [name] = (name for name, scheme in tnb.Plan(again).schemes.items() if scheme != tnb.Float16())
    from packages import dequantized_weights

    [expected] = dequantized_weights(small).values()
    np.testing.assert_array_equal(again.weight_value(name), expected)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("neuralNetwork", "convert the original model again with convert_to='mlprogram'"),
        ("neuralNetworkClassifier", "convert the original model again with convert_to='mlprogram'"),
        ("pipeline", "load the ML programs that it is made of one by one"),
        ("pipelineClassifier", "load the ML programs that it is made of one by one"),
        ("treeEnsembleRegressor", "it has no neural network whose weights could be compressed"),
        ("scaler", "it has no neural network whose weights could be compressed"),
    ],
)
def test_other_kinds_of_model_are_answered_with_what_to_do(tmp_path: Path, kind: str, says: str) -> None:
    import coremltools as ct

    spec = ct.proto.Model_pb2.Model(specificationVersion=7)
    getattr(spec, kind).SetInParent()
    path = tmp_path / "other.mlmodel"
    path.write_bytes(spec.SerializeToString())
    with pytest.raises(LoadError, match=rf"other\.mlmodel is a {kind}, not an ML program: {says}"):
        tnb.load(path)
    package = tmp_path / "other.mlpackage"
    models.unet().mlmodel.save(str(package))
    (package / "Data" / "com.apple.CoreML" / "model.mlmodel").write_bytes(spec.SerializeToString())
    with pytest.raises(LoadError, match=rf"other is a {kind}, not an ML program: {says}"):
        tnb.load(package, progress=False)


def test_compiled_and_torn_off_programs_are_answered_with_what_to_do(tmp_path: Path) -> None:
    compiled = tmp_path / "model.mlmodelc"
    compiled.mkdir()
    with pytest.raises(LoadError, match="is a compiled model; load"):
        tnb.load(compiled)
    lone = tmp_path / "model.mlmodel"
    lone.write_bytes(models.unet().mlmodel.get_spec().SerializeToString())
    with pytest.raises(LoadError, match="is an ML program without its weights"):
        tnb.load(lone)
    lone.write_bytes(b"no model at all")
    with pytest.raises(LoadError, match="is no Core ML model"):
        tnb.load(lone)


def test_masks_that_contradict_their_data_are_refused(tmp_path: Path) -> None:
    """What only shows when a weight is decompressed is one sentence, too."""
    path = saved(compressed("prune", "iOS18"), tmp_path)
    model = tnb.load(path, progress=False)
    name = next(name for name, scheme in tnb.Plan(model).schemes.items() if scheme != tnb.Float16())
    mask = model._weight_ops[name].mask
    mask._sym_val.val = np.zeros_like(mask.val)
    with pytest.raises(LoadError, match="cannot be decompressed"):
        model.weight_value(name)
    with pytest.raises(LoadError, match="has no weight named 'nothing'"):
        model.weight_value("nothing")
