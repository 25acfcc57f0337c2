"""Each rule finds what it is about, and nothing in the program beside it that is fine."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

import models
import synthetic
import talaria_nb as tnb
from synthetic import Builder
from talaria_nb.frames import COLUMNS
from talaria_nb.lint import RULES, findings
from talaria_nb.placement import OFF_NEURAL_ENGINE

if TYPE_CHECKING:
    from collections.abc import Callable

    from talaria_nb.lint import Finding
    from talaria_nb.program import Program


def found(program: Program, kind: str) -> list[Finding]:
    assert kind in {rule.kind for rule in RULES}
    return [finding for finding in findings(program) if finding.kind == kind]


def chain(
    *steps: tuple[str, tuple[int, ...], str, dict[str, object]], start: str = "fp16", shared: bool = False
) -> Program:
    """Build ops in a row on a (2, 3, 4) input; with `shared`, the first one's output is read once more."""
    build = Builder()
    value = build.input((2, 3, 4), start)
    values = []
    for op_type, shape, dtype, attributes in steps:
        value = build.op(op_type, {"x": value}, shape, dtype=dtype, **attributes)  # type: ignore[arg-type]
        values.append(value)
    if shared:
        build.op("relu", {"x": values[0]}, (2, 3, 4))
    return build.program([value])


def cast(dtype: str) -> tuple[str, tuple[int, ...], str, dict[str, object]]:
    return "cast", (2, 3, 4), dtype, {}


def transpose(*perm: int) -> tuple[str, tuple[int, ...], str, dict[str, object]]:
    return "transpose", (2, 3, 4), "fp16", {"perm": perm}


def one(op_type: str, shape: tuple[int, ...] = (2, 3, 4), dtype: str = "fp16", **attributes: object) -> Program:
    return chain((op_type, shape, dtype, attributes))


def padded(mode: str) -> Program:
    return one("pad", mode=mode)


def conv(rank: int) -> Program:
    build = Builder()
    x = build.input((1, 4, *(8,) * (rank - 2)))
    weight = build.weight((4, 4, *(3,) * (rank - 2)))
    return build.program([build.op("conv", {"x": x, "weight": weight}, (1, 4, *(6,) * (rank - 2)))])


def weighted(*, shape: tuple[int, ...] = (64, 64), axes: tuple[int, int] | None = (1, 0)) -> Program:
    build = Builder()
    x = build.input((1, shape[1]))
    program = build.program([build.op("linear", {"x": x, "weight": build.weight(shape)}, (1, shape[0]))])
    return replace(program, weights=replace(program.weights, channel_axes=(axes,)))


def with_constant(shape: tuple[int, ...], dtype: str) -> Program:
    build = Builder()
    x = build.input((1, 1))
    return build.program([build.op("add", {"x": x, "y": build.const(shape, dtype)}, shape)])


def with_weights(small: int, large: int) -> Program:
    build = Builder()
    x = build.input((1, 64))
    for _ in range(small):
        build.op("linear", {"x": x, "weight": build.weight((32, 64))}, (1, 32))
    for _ in range(large):
        build.op("linear", {"x": x, "weight": build.weight((1024, 64))}, (1, 1024))
    return build.program()


def ranged(*reads: str) -> Program:
    """Build one op on an input of any size, and one on a fixed input."""
    build = Builder()
    inputs = {"any": build.input((2, 3)), "fixed": build.input((2, 3))}
    outputs = [build.op("relu", {"x": inputs[name]}, (2, 3)) for name in reads]
    return replace(build.program(outputs), range_inputs=(inputs["any"],) if "any" in reads else ())


CASES: list[tuple[str, Callable[[], Program], Callable[[], Program]]] = [
    ("redundant cast", lambda: chain(cast("fp16")), lambda: chain(cast("fp32"))),
    ("cast pair", lambda: chain(cast("fp32"), cast("fp16")), lambda: chain(cast("fp16"), cast("fp32"), start="fp32")),
    ("cast pair", lambda: chain(cast("fp32"), cast("int32")), lambda: chain(cast("int32"), cast("fp16"))),
    ("transpose pair", lambda: chain(transpose(0, 2, 1), transpose(0, 2, 1)), lambda: chain(transpose(0, 2, 1))),
    (
        "transpose pair",
        lambda: chain(transpose(1, 2, 0), transpose(1, 2, 0)),
        lambda: chain(transpose(0, 2, 1), ("relu", (2, 3, 4), "fp16", {}), transpose(0, 2, 1)),
    ),
    (
        "reshape pair",
        lambda: chain(("reshape", (24,), "fp16", {}), ("expand_dims", (1, 24), "fp16", {})),
        lambda: chain(("reshape", (24,), "fp16", {}), ("relu", (24,), "fp16", {}), ("reshape", (4, 6), "fp16", {})),
    ),
    ("float32 island", lambda: one("exp", dtype="fp32"), lambda: chain(cast("fp32"))),
    ("off the Neural Engine", lambda: one("lstm"), lambda: one("layer_norm")),
    ("off the Neural Engine: padding", lambda: padded("reflect"), lambda: padded("constant")),
    ("off the Neural Engine: 3-D convolution", lambda: conv(5), lambda: conv(4)),
    ("range of shapes", lambda: ranged("any", "fixed"), lambda: ranged("fixed")),
    ("rank over 5", lambda: one("reshape", (1, 1, 1, 2, 3, 4)), lambda: one("reshape", (1, 1, 2, 3, 4))),
    ("integer arithmetic", lambda: one("mul", dtype="int32"), lambda: one("mul", (), dtype="int32")),
    ("weight cannot be compressed", lambda: weighted(axes=None), weighted),
    ("weight cannot be compressed", lambda: weighted(axes=None), lambda: weighted(shape=(8, 8), axes=None)),
    (
        "constant cannot be compressed",
        lambda: with_constant((1, 4096), "int32"),
        lambda: with_constant((1, 8), "int32"),
    ),
    ("constant cannot be compressed", lambda: with_constant((4096,), "fp16"), weighted),
    ("small weights", lambda: with_weights(1, 1), lambda: with_weights(1, 10)),
    ("unpriced op", lambda: one("no_such_op"), lambda: one("relu")),
]


@pytest.mark.parametrize(("kind", "bad", "good"), CASES, ids=[f"{case[0]} {row}" for row, case in enumerate(CASES)])
def test_a_rule_finds_its_case_and_no_other(kind: str, bad: Callable[[], Program], good: Callable[[], Program]) -> None:
    assert len(found(bad(), kind)) == 1
    assert found(good(), kind) == []


def test_every_rule_has_a_case() -> None:
    assert {case[0] for case in CASES} | {"duplicated weight"} == {rule.kind for rule in RULES}


@pytest.mark.parametrize("op_type", sorted(OFF_NEURAL_ENGINE))
def test_ops_known_to_leave_the_neural_engine_say_who_saw_it(op_type: str) -> None:
    [finding] = found(one(op_type), "off the Neural Engine")
    assert finding.severity == "high"
    assert finding.reference.startswith("https://")
    assert finding.ops == ("lstm_0".replace("lstm", op_type),)


def test_stakes_are_the_bytes_that_the_remedy_saves() -> None:
    tensor = 2 * 3 * 4 * 2  # float16
    [cancel] = found(chain(transpose(0, 2, 1), transpose(0, 2, 1)), "transpose pair")
    assert "cancel" in cancel.what
    assert cancel.bytes == 4 * tensor  # both read and write
    [shared] = found(chain(transpose(0, 2, 1), transpose(0, 2, 1), shared=True), "transpose pair")
    assert shared.bytes == 2 * tensor  # the first is still needed
    [merge] = found(chain(transpose(1, 2, 0), transpose(1, 2, 0)), "transpose pair")
    assert "one could do" in merge.what
    assert merge.bytes == 2 * tensor
    [pair] = found(chain(cast("fp32"), cast("fp16")), "cast pair")
    assert pair.bytes == 2 * (tensor + 2 * tensor)


def test_neighbours_in_float32_are_one_island() -> None:
    exp = ("exp", (2, 3, 4), "fp32", {})
    islands = found(chain(cast("fp32"), exp, exp, cast("fp16"), cast("fp32"), exp), "float32 island")
    assert sorted(len(island.ops) for island in islands) == [1, 2]


def test_the_gravest_come_first() -> None:
    grave = {"high": 0, "medium": 1, "low": 2}
    kinds = findings(chain(("no_such_op", (2, 3, 4), "fp16", {}), cast("fp16"), ("lstm", (2, 3, 4), "fp32", {})))
    severities = [grave[finding.severity] for finding in kinds]
    assert severities == sorted(severities)
    assert len(set(severities)) == 3


def test_a_range_of_shapes_concerns_all_that_depends_on_it() -> None:
    build = Builder()
    free, fixed = build.input((2, 3)), build.input((2, 3))
    first = build.op("relu", {"x": free}, (2, 3))
    beside = build.op("relu", {"x": fixed}, (2, 3))
    last = build.op("add", {"x": first, "y": beside}, (2, 3))
    program = replace(build.program([last]), range_inputs=(free,))
    [finding] = found(program, "range of shapes")
    assert finding.ops == (program.ops.name[0], program.ops.name[2])
    assert "EnumeratedShapes" in finding.remedy


def test_an_equal_weight_is_found_by_its_values() -> None:
    program = with_weights(0, 4)
    values = [np.full((1024, 64), 1, np.float16) for _ in range(4)]
    values[2][0, 0] = 2  # differs in the sample
    values[3][-1, -1] = 2  # differs after it
    by_name = dict(zip(program.weights.name, values, strict=True))
    [finding] = [each for each in findings(program, by_name.__getitem__) if each.kind == "duplicated weight"]
    assert finding.bytes == 1024 * 64 * 2
    assert finding.ops == (program.ops.name[0], program.ops.name[1])


def test_clean_programs_have_no_findings() -> None:
    assert findings(synthetic.transformer(2)) == []
    kinds = set(models.mobilenet().findings["kind"])
    assert kinds <= {"float32 island", "small weights"}


class Careless(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(64, 64)
        self.cell = nn.LSTM(64, 64, batch_first=True)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.cell(self.table(tokens))[0]


def test_a_models_findings_name_its_ops() -> None:
    model = tnb.load(Careless(), torch.zeros(1, 4, dtype=torch.long), progress=False)
    off = model.findings[model.findings["kind"] == "off the Neural Engine"]
    names = [name for ops in off["ops"] for name in ops]
    assert set(names) <= set(model.ops["name"])
    assert {"gather", "lstm"} <= set(model.ops.set_index("name").loc[names, "op_type"])
    assert set(model.findings.columns) <= COLUMNS.keys()
    assert set(models.unet().findings.columns) <= COLUMNS.keys()
    assert set(tnb.Plan(model).findings("iPhone 13").columns) <= COLUMNS.keys()


def test_a_models_findings_say_where() -> None:
    model = models.minilm()
    table = model.findings[model.findings["kind"] == "off the Neural Engine"]
    [gather] = [row for row in table.itertuples() if row.what.startswith("gather:")]
    assert gather.module == "embeddings.word_embeddings"
    assert gather.source.startswith("modeling_bert.py:")


def test_time_at_stake_is_that_of_the_ops() -> None:
    model = tnb.load(Careless(), torch.zeros(1, 4, dtype=torch.long), progress=False)
    plan = tnb.Plan(model)
    priced = plan.table("iPhone 13").set_index("name")["latency_ms"]
    off = plan.findings("iPhone 13")
    assert sorted(off["what"]) == sorted(model.findings["what"])
    for row in off.itertuples():
        assert row.at_stake_ms == pytest.approx(priced[list(row.ops)].sum())
    grave = off.loc[off["severity"] == "high", "at_stake_ms"]
    assert len(grave) > 1
    assert grave.is_monotonic_decreasing


def test_findings_about_size_have_no_time_at_stake() -> None:
    model = tnb.load(nn.Linear(8, 8), torch.zeros(1, 8), progress=False)
    found = tnb.Plan(model).findings("iPhone 13")
    assert found["kind"].tolist() == ["small weights"]
    assert found["at_stake_ms"].isna().all()
