"""Ops leave the Neural Engine where that was observed, say why, and pay for the way."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

import models
import talaria_nb as tnb
from synthetic import Builder
from talaria_nb.devices import UNITS, device, workloads
from talaria_nb.placement import OFF_NEURAL_ENGINE, TINY_ELEMENTS, Placement, placement
from talaria_nb.work import count_work

if TYPE_CHECKING:
    from talaria_nb.program import Program

PHONE = device("iPhone 15 Pro")
SHAPE = (1, 64, 512)
DISPATCH = PHONE.units["neural_engine"].dispatch_ms
WIDTH = 512


def place(program: Program, name: str = "iPhone 15 Pro", compute_unit: str = "all") -> Placement:
    return placement(program, count_work(program), device(name), compute_unit)


def units(program: Program, name: str = "iPhone 15 Pro", compute_unit: str = "all") -> list[str]:
    return [UNITS[code] for code in place(program, name, compute_unit).unit]


def linear(build: Builder, x: int, rows: int = 64) -> int:
    weight = build.weight((WIDTH, WIDTH))
    return build.op("linear", {"x": x, "weight": weight}, (1, rows, WIDTH))


def around(op_type: str, *, dtype: str = "fp16", shape: tuple[int, ...] = SHAPE, **attributes: object) -> Program:
    """Build two large layers around one op."""
    build = Builder()
    x = linear(build, linear(build, build.input(SHAPE)))
    x = build.op(op_type, {"x": x}, shape, dtype=dtype, **attributes)  # type: ignore[arg-type]
    for _ in range(40):
        x = linear(build, x, rows=2048)
    return build.program([x])


@pytest.mark.parametrize("op_type", sorted(OFF_NEURAL_ENGINE))
def test_op_types_that_leave_run_on_the_cpu_and_say_why(op_type: str) -> None:
    found = place(around(op_type))
    assert UNITS[found.unit[2]] == "cpu"
    assert "https://" in found.reason[2]
    assert set(found.unit[:2]) | set(found.unit[3:]) == {UNITS.index("neural_engine")}
    assert not any(found.reason[:2] + found.reason[3:])


@pytest.mark.parametrize(
    ("program", "says"),
    [
        (lambda: around("relu", shape=(1, 1, 1, 1, 64, 512)), "rank 6"),
        (lambda: around("exp", dtype="fp32"), "float32"),
        (lambda: around("add", dtype="int32"), "int32"),
        (lambda: around("pad", mode="reflect"), "reflect"),
        (lambda: around("relu", shape=(1, 1, 1, 70_000)), "70,000 wide"),
    ],
)
def test_other_rules(program, says: str) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001
    found = place(program())
    assert UNITS[found.unit[2]] == "cpu"
    assert says in found.reason[2]


def test_what_is_not_known_stays() -> None:
    for op_type in ("an_op_of_next_year", "relu", "softmax", "transpose"):
        found = place(around(op_type))
        assert not any(found.reason)
        assert found.transfer_ms.sum() == 0


def test_later_chips_run_more() -> None:
    program = around("sin")
    assert units(program, "iPhone 12")[2] == units(program, "MacBook Air (M1)")[2] == "cpu"
    assert units(program, "iPhone 15 Pro")[2] == "neural_engine"
    wide = around("relu", shape=(1, 1, 1, 20_000))
    assert units(wide, "iPhone 13")[2] == "cpu"
    assert units(wide, "iPhone 15 Pro")[2] == "neural_engine"


@pytest.mark.parametrize("compute_unit", ["cpuAndGPU", "cpuOnly"])
def test_on_the_gpu_and_the_cpu_every_op_stays(compute_unit: str) -> None:
    found = place(around("gather"), compute_unit=compute_unit)
    assert len(set(found.unit)) == 1
    assert not any(found.reason)
    assert found.transfer_ms.sum() == 0


def test_a_way_there_and_back_costs_a_dispatch_and_two_copies() -> None:
    program = around("gather")
    transfer = place(program).transfer_ms
    copy = 2 * 64 * 512 * 2 / (PHONE.units["cpu"].activation_gbps * 1e6)
    assert np.flatnonzero(transfer).tolist() == [2, 3]
    assert transfer[2] == pytest.approx(copy)
    assert transfer[3] == pytest.approx(copy + DISPATCH)


def test_look_ups_at_the_start_cost_a_copy_only() -> None:
    build = Builder()
    tokens = build.input((1, 64), "int32")
    mask = build.op("softmax", {"x": build.input((1, 64, 512))}, SHAPE)
    x = build.op("gather", {"x": build.weight((1000, 512)), "indices": tokens}, SHAPE)
    x = build.op("add", {"x": x, "y": mask}, SHAPE)
    found = place(build.program([linear(build, x)]))
    assert [UNITS[code] for code in found.unit] == ["neural_engine", "cpu", "neural_engine", "neural_engine"]
    assert 0 < found.transfer_ms.sum() < DISPATCH / 10


def test_a_short_stretch_between_ops_on_the_cpu_joins_them() -> None:
    build = Builder()
    x = linear(build, build.input(SHAPE))
    for _ in range(40):
        x = linear(build, x, rows=2048)
    x = build.op("gather_nd", {"x": x}, SHAPE)
    x = build.op("softmax", {"x": x}, SHAPE)
    x = build.op("gather_nd", {"x": x}, SHAPE)
    for _ in range(40):
        x = linear(build, x, rows=2048)
    found = place(build.program([x]))
    assert [UNITS[code] for code in found.unit[41:44]] == ["cpu"] * 3
    assert "hop" in found.reason[42]
    assert found.transfer_ms[44] >= DISPATCH
    assert (found.transfer_ms >= DISPATCH).sum() == 1


def test_tiny_programs_are_planned_on_the_cpu() -> None:
    program = models.classifier().program
    assert program.weights.elements.sum() < TINY_ELEMENTS
    assert set(units(program)) == {"cpu"}
    assert set(units(models.minilm().program)) == {"cpu", "neural_engine"}


def test_a_float32_program_runs_on_the_gpu_or_the_cpu() -> None:
    build = Builder()
    x = build.input(SHAPE, "fp32")
    for _ in range(3):
        x = build.op("linear", {"x": x, "weight": build.weight((512, 512), "fp32")}, SHAPE, dtype="fp32")
    program = build.program([x])
    assert set(units(program)) == {"gpu"}
    assert set(units(program, compute_unit="cpuAndNeuralEngine")) == {"cpu"}


def test_free_ops_follow_what_they_read() -> None:
    build = Builder()
    x = build.op("gather_nd", {"x": linear(build, build.input(SHAPE))}, SHAPE)
    x = build.op("reshape", {"x": x}, (64, 512))
    for _ in range(40):
        x = linear(build, x, rows=2048)
    assert units(build.program([x]))[1:4] == ["cpu", "cpu", "neural_engine"]


def test_the_models_of_the_fit_are_priced_as_they_were_fitted() -> None:
    for program in workloads.read().values():
        work = count_work(program)
        found = placement(program, work, PHONE)
        moved = np.array([bool(why) for why in found.reason])
        assert work.flops[moved].sum() <= 1e-4 * work.flops.sum()
        assert found.transfer_ms.sum() < DISPATCH / 5


def test_moved_ops_show_in_the_table_and_cost_their_transfer() -> None:
    plan = tnb.Plan(models.minilm())
    table = plan.table("iPhone 15 Pro")
    gathers = table[table["op_type"] == "gather"]
    assert set(gathers["unit"]) == {"cpu"}
    assert gathers["unit_reason"].str.contains("look-ups").all()
    assert set(table.loc[table["op_type"] == "linear", "unit"]) == {"neural_engine"}
    assert (table["transfer_ms"] <= table["latency_ms"]).all()


def test_only_the_default_size_within_a_range_runs_on_the_neural_engine() -> None:
    program = around("relu")
    ranged = replace(program, range_inputs=program.inputs)
    assert set(units(ranged)) == {"neural_engine"}
    assert set(units(replace(ranged, at_default_shapes=False))) == {"cpu"}
