"""What is read from packages: weights that are compressed already, functions, flexible shapes, states."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import coremltools.optimize.coreml as cto
import numpy as np
import pytest
import torch
from torch import nn

import models
import talaria_nb as tnb
from talaria_nb import storage
from talaria_nb.costs import cost_table
from talaria_nb.errors import LoadError
from talaria_nb.legality import subject
from talaria_nb.menu import DEFAULT_MENU
from talaria_nb.quiet import quiet
from talaria_nb.schemes import AsStored
from talaria_nb.weight_bytes import weight_file_bytes

if TYPE_CHECKING:
    import coremltools as ct

    from talaria_nb.schemes import Scheme

PHONE = "iPhone 15 Pro"


def actual_bytes(mlmodel: ct.models.MLModel) -> int:
    return (Path(mlmodel.weights_dir) / "weight.bin").stat().st_size


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


def saved(mlmodel: ct.models.MLModel, folder: Path) -> Path:
    path = folder / "compressed.mlpackage"
    mlmodel.save(str(path))
    return path


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
    from talaria_nb.verify import dequantized_weights

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


class Adapted(nn.Module):
    """A head of its own behind a base that others share."""

    def __init__(self, base: nn.Module, width: int) -> None:
        super().__init__()
        self.base = base
        self.own = nn.Linear(64, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.own(torch.relu(self.base(x)))


@pytest.fixture(scope="module")
def two_functions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import coremltools as ct

    folder = tmp_path_factory.mktemp("functions")
    torch.manual_seed(0)
    base = nn.Linear(64, 64)
    together = ct.utils.MultiFunctionDescriptor()
    for name, width in (("narrow", 100), ("wide", 200)):
        path = folder / f"{name}.mlpackage"
        tnb.load(Adapted(base, width).eval(), torch.zeros(1, 64), progress=False).mlmodel.save(str(path))
        together.add_function(str(path), "main", name)
    together.default_function_name = "wide"
    with quiet(progress=False):
        ct.utils.save_multifunction(together, str(folder / "both.mlpackage"))
    return folder


def weight_file(path: Path) -> int:
    return (path / "Data" / "com.apple.CoreML" / "weights" / "weight.bin").stat().st_size


def test_functions_are_counted_alone_and_together(two_functions: Path) -> None:
    model = tnb.load(two_functions / "both.mlpackage", progress=False)
    sizes = model.functions["weight_file_bytes"]
    assert sizes["narrow"] == weight_file(two_functions / "narrow.mlpackage")
    assert sizes["wide"] == weight_file(two_functions / "wide.mlpackage")
    assert sizes["all together"] == weight_file(two_functions / "both.mlpackage")
    shared = model.functions["shared_bytes"]
    assert shared.nunique() == 1
    assert sizes["narrow"] + sizes["wide"] - sizes["all together"] == pytest.approx(shared["narrow"], abs=64 + 64)
    assert shared["narrow"] == (64 + 2 * 64 * 64) + (64 + 2 * 64)  # the base's weight and bias


@pytest.mark.parametrize(
    "scheme",
    [
        tnb.Palettize(4),
        tnb.LinearQuantize("uint8"),
        tnb.LinearQuantize("int4", "per_block", 16, "linear"),
        tnb.Prune(0.5) + tnb.Palettize(4, mode="uniform"),
    ],
    ids=lambda scheme: scheme.key,
)
def test_compressed_functions_are_counted_alone_and_together(
    two_functions: Path, tmp_path: Path, scheme: tnb.Scheme
) -> None:
    """Zero points of 64 channels are equal, and stored once only where there are several functions."""
    import coremltools as ct

    together = ct.utils.MultiFunctionDescriptor()
    alone = {}
    for name, base in (("narrow", scheme), ("wide", scheme), ("other", tnb.Palettize(2))):
        path = tmp_path / f"{name}.mlpackage"
        model = tnb.load(two_functions / "both.mlpackage", function=name if base == scheme else "wide", progress=False)
        plan = tnb.Plan(model).set("*own*", scheme).set("*base*", base)
        plan.compress(path, progress=False)
        together.add_function(str(path), "main", name)
        alone[name] = plan.estimate(PHONE).weight_file_bytes
        assert alone[name] == weight_file(path)
    together.default_function_name = "wide"
    both = tmp_path / "together.mlpackage"
    with quiet(progress=False):
        ct.utils.save_multifunction(together, str(both))
    sizes = tnb.load(both, progress=False).functions["weight_file_bytes"]
    assert {name: sizes[name] for name in alone} == alone
    assert sizes["all together"] == weight_file(both)


@pytest.mark.parametrize(("function", "width"), [("narrow", 100), ("wide", 200), (None, 200)])
def test_a_function_is_loaded_as_a_package_of_its_own(two_functions: Path, function: str | None, width: int) -> None:
    model = tnb.load(two_functions / "both.mlpackage", function=function, progress=False)
    assert [*model.program.weights.shape] == [(64, 64), (width, 64)]
    plan = tnb.Plan(model)
    alone = two_functions / f"{function or 'wide'}.mlpackage"
    assert plan.estimate(PHONE).weight_file_bytes == weight_file(alone)
    table = plan.set("*", tnb.LinearQuantize("int8")).verify(progress=False)
    assert table["match"].all()


def test_an_unknown_function_is_answered_with_those_there_are(two_functions: Path) -> None:
    with pytest.raises(LoadError, match=r"both has no function 'tall'; there is 'narrow', 'wide'\."):
        tnb.load(two_functions / "both.mlpackage", function="tall", progress=False)
    with pytest.raises(LoadError, match=r"narrow has no function 'tall'; there is 'main'\."):
        tnb.load(two_functions / "narrow.mlpackage", function="tall", progress=False)


def test_a_package_of_one_function_counts_it(two_functions: Path) -> None:
    model = tnb.load(two_functions / "narrow.mlpackage", progress=False)
    assert model.functions["weight_file_bytes"].tolist() == 2 * [weight_file(two_functions / "narrow.mlpackage")]
    assert model.functions["shared_bytes"].tolist() == [0, 0]


class AnySize(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.second = nn.Conv2d(16, 32, 3, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.first(x))).flatten(2).mean(2)


@cache
def flexible(kind: str, *, float32: bool = False) -> ct.models.MLModel:
    import coremltools as ct

    torch.manual_seed(0)
    shape: Any
    if kind == "range":
        shape = ct.Shape((1, 3, ct.RangeDim(32, 256, 64), ct.RangeDim(32, 256, 64)))
    else:
        shape = ct.EnumeratedShapes([(1, 3, 64, 64), (1, 3, 128, 128)], default=(1, 3, 128, 128))
    with quiet(progress=False):
        return ct.convert(
            torch.jit.trace(AnySize().eval(), torch.zeros(1, 3, 64, 64)),
            inputs=[ct.ImageType("x", shape=shape) if kind == "image" else ct.TensorType("x", shape=shape)],
            minimum_deployment_target=ct.target.iOS18,
            compute_precision=ct.precision.FLOAT32 if float32 else ct.precision.FLOAT16,
            skip_model_load=True,
        )


@pytest.mark.parametrize(("kind", "wanted"), [("range", True), ("enumerated", False)])
def test_a_range_of_sizes_is_a_finding_and_a_choice_of_sizes_is_none(kind: str, *, wanted: bool) -> None:
    model = tnb.load(flexible(kind), progress=False)
    found = model.findings[model.findings["kind"] == "range of shapes"]
    assert len(found) == wanted
    for ops in found["ops"]:
        assert set(ops) == set(model.ops["name"])


def input_shape(model: tnb.Model) -> tuple[int, ...]:
    [row] = model.program.inputs
    return model.program.values.shape[row]


@pytest.mark.parametrize(
    ("kind", "default"), [("range", (1, 3, 64, 64)), ("enumerated", (1, 3, 128, 128)), ("image", (1, 3, 128, 128))]
)
def test_flexible_shapes_are_priced_at_the_default_size_or_the_one_asked_for(
    tmp_path: Path, kind: str, default: tuple[int, ...]
) -> None:
    path = saved(flexible(kind), tmp_path)
    model = tnb.load(path, progress=False)
    assert input_shape(model) == default
    other = tnb.load(path, shapes={"x": (1, 3, 64, 64)}, progress=False)
    conv = other.ops[other.ops["op_type"] == "conv"].iloc[0]
    assert conv["output"] == "1×16×64×64"
    assert conv["flops"] == pytest.approx(2 * 16 * 64 * 64 * 27, rel=0.05)
    fixed = tnb.load(AnySize().eval(), torch.zeros(default), progress=False)
    flops = [ops.loc[ops["op_type"] == "conv", "flops"].tolist() for ops in (model.ops, fixed.ops)]
    assert flops[0] == flops[1]
    assert tnb.Plan(model).set("*", tnb.LinearQuantize("int8")).verify(progress=False)["match"].all()


def test_configs_of_a_fixed_size_fit_the_flexible_package(tmp_path: Path) -> None:
    path = saved(flexible("range"), tmp_path)
    plan = tnb.Plan(tnb.load(path, progress=False)).set("*", tnb.LinearQuantize("int8"))
    [(_, config)] = plan.optimization_configs()
    with quiet(progress=False):
        small = cto.linear_quantize_weights(flexible("range"), config)
    assert actual_bytes(small) == plan.estimate(PHONE).weight_file_bytes


def test_a_flexible_model_is_left_as_it_was() -> None:
    mlmodel = flexible("range")
    before = str(mlmodel._mil_program)
    assert input_shape(tnb.load(mlmodel, shapes={"x": (1, 3, 96, 96)}, progress=False)) == (1, 3, 96, 96)
    assert str(mlmodel._mil_program) == before


def test_sizes_of_a_torch_module_come_from_its_inputs() -> None:
    with pytest.raises(LoadError, match="function= and shapes= are for packages"):
        tnb.load(AnySize(), torch.zeros(1, 3, 64, 64), shapes={"x": (1, 3, 32, 32)})


def test_a_float32_package_stays_one_at_a_fixed_size(tmp_path: Path) -> None:
    model = tnb.load(saved(flexible("range", float32=True), tmp_path), progress=False)
    assert set(model.weights["dtype"]) == {"fp32"}


@pytest.mark.parametrize(
    ("kind", "shapes", "says"),
    [
        ("range", {"x": (1, 3, 512, 64)}, "512 is not within 32 to 256"),
        ("range", {"x": (1, 4, 64, 64)}, r"its fixed dimensions are \(1, 3, 'any', 'any'\)"),
        ("range", {"x": (3, 64, 64)}, "it has 4 dimensions"),
        ("range", {"x": (1, 3, 64, -1)}, "must be positive whole numbers"),
        ("range", {"y": (1, 3, 64, 64)}, "has no input 'y' of flexible shape; those with one: 'x'"),
        ("enumerated", {"x": (1, 3, 96, 96)}, r"it takes \(1, 3, 128, 128\) or \(1, 3, 64, 64\)"),
    ],
)
def test_a_size_that_the_package_does_not_take_is_refused(
    tmp_path: Path, kind: str, shapes: dict[str, tuple[int, ...]], says: str
) -> None:
    path = saved(flexible(kind), tmp_path)
    with pytest.raises(LoadError, match=says) as caught:
        tnb.load(path, shapes=shapes, progress=False)
    assert str(caught.value).isprintable()


class Cached(nn.Module):
    """One step of attention over a cache that stays in the model."""

    cache: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(64, 64)
        self.key = nn.Linear(64, 64)
        self.register_buffer("cache", torch.zeros(1, 16, 64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.cache[:, 3:4] = self.key(x)
        return torch.softmax(self.query(x) @ self.cache.transpose(1, 2), -1) @ self.cache


@cache
def stateful() -> tnb.Model:
    return tnb.load(Cached().eval(), torch.zeros(1, 1, 64), progress=False)


@pytest.mark.parametrize("saved_first", [False, True])
def test_a_buffer_that_the_module_changes_becomes_a_state(tmp_path: Path, *, saved_first: bool) -> None:
    model = stateful()
    assert [state.name for state in model.mlmodel._spec.description.state] == ["cache"]
    if saved_first:
        model = tnb.load(saved(model.mlmodel, tmp_path), progress=False)
    values = model.program.values
    [row] = [row for row in model.program.inputs if values.name[row] == "cache"]
    assert values.shape[row] == (1, 16, 64)
    ops = model.ops.set_index("op_type")
    cache_bytes = 2 * 16 * 64
    assert ops.loc["read_state", "activation_bytes"] == 2 * cache_bytes  # the state, and what is read
    assert ops.loc["coreml_update_state", "activation_bytes"] == 3 * cache_bytes  # the value, the state, what is read
    assert "cache" not in {name.split("_")[0] for name in model.weights["name"]}
    assert tnb.Plan(model).set("*", tnb.LinearQuantize("int8")).verify(progress=False)["match"].all()


def test_the_users_cache_is_left_as_it_was() -> None:
    module = Cached().eval()
    tnb.load(module, torch.ones(1, 1, 64), progress=False)
    assert not module.cache.any()


def test_states_need_ios18() -> None:
    """Without states the cache would be lost silently from one prediction to the next."""
    with pytest.raises(LoadError, match=r"Cached changes its buffer 'cache' as it runs, .* iOS18"):
        tnb.load(Cached().eval(), torch.zeros(1, 1, 64), deployment_target="iOS17", progress=False)


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


def test_an_exported_program_of_any_size_is_priced_at_the_one_asked_for() -> None:
    sizes = {2: torch.export.Dim("height", min=32, max=256), 3: torch.export.Dim("width", min=32, max=256)}
    with quiet(progress=False):
        exported = torch.export.export(AnySize().eval(), (torch.zeros(1, 3, 64, 64),), dynamic_shapes={"x": sizes})
    before = str(exported.graph)
    model = tnb.load(exported, shapes={"x": (1, 3, 96, 96)}, progress=False)
    assert input_shape(model) == (1, 3, 96, 96)
    assert str(exported.graph) == before
    convs = model.ops[model.ops["op_type"] == "conv"]
    assert convs["module"].tolist() == ["first", "second"]
    assert all(source.startswith("test_packages.py:") for source in convs["source"])
    with pytest.raises(LoadError, match="512 is not within 32 to 256"):
        tnb.load(exported, shapes={"x": (1, 3, 512, 96)}, progress=False)
