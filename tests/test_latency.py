"""Times behave as hardware does."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

import talaria_nb as tnb
from models import Classifier
from small_programs import chain, one, program_of
from talaria_nb import latency
from talaria_nb.devices import device
from talaria_nb.schemes import Float16, LinearQuantize, Palettize
from talaria_nb.work import count_work

if TYPE_CHECKING:
    from talaria_nb.program import Program

PHONE = device("iPhone 15 Pro")


def total(
    program: Program,
    scheme: tnb.Scheme,
    bits: float,
    phone: tnb.Device | None = None,
    tables: float = 1,
    unit: str = "all",
) -> float:
    """Price a program as the cost table does, every weight under one scheme."""
    phone = phone or PHONE
    times = latency.op_times(program, count_work(program), phone, unit)
    payload = program.weights.elements * bits / 8
    dense = 2.0 * program.weights.elements
    stream = latency.stream_ms(phone, unit, scheme, payload, dense_bytes=dense, tables=tables)
    start, rows = program.op_weights
    ops = np.repeat(np.arange(len(program.ops)), np.diff(start))
    memory = times.activation_ms + np.bincount(ops, weights=stream[rows], minlength=len(program.ops))
    return times.dispatch_ms + float((times.launch_ms + np.maximum(times.compute_ms, memory)).sum())


def test_what_rides_with_its_producer_takes_no_launch_and_no_compute() -> None:
    program = program_of(
        [("conv", {"x": "x", "weight": "w"}, (1, 64, 8, 8)), ("relu", {"x": "0"}, (1, 64, 8, 8))],
        inputs={"x": (1, 64, 8, 8)},
        constants={"w": (64, 64, 1, 1)},
    )
    times = latency.op_times(program, count_work(program), PHONE)
    assert times.launch_ms[0] > 0
    assert times.launch_ms[1] == times.compute_ms[1] == 0


def test_unknown_ops_are_less_certain() -> None:
    ops = [("relu", {"x": "x"}, (4, 8)), ("made_up_op", {"x": "0"}, (4, 8)), ("made_up_op", {"x": "1"}, (4, 8))]
    program = program_of(ops, inputs={"x": (4, 8)})
    times, plain = (latency.op_times(it, count_work(it), PHONE) for it in (program, chain(2, rows=8, width=512)))
    assert times.interval[1] > plain.interval[1]


def test_a_program_without_ops_costs_the_dispatch() -> None:
    program = program_of([], inputs={"x": (1,)})
    times = latency.op_times(program, count_work(program), PHONE)
    assert times.dispatch_ms > 0
    assert len(times.launch_ms) == 0


def test_every_number_is_finite_and_times_are_not_negative() -> None:
    program = tnb.load(Classifier(), (torch.zeros(1, 3, 64, 64),), progress=False).program
    times = latency.op_times(program, count_work(program), PHONE)
    for column in (times.launch_ms, times.compute_ms, times.activation_ms):
        assert np.isfinite(column).all()
    assert (times.launch_ms >= 0).all()
    assert (times.compute_ms >= 0).all()
    assert times.interval[0] < 1 < times.interval[1]


def test_one_token_follows_stored_bytes() -> None:
    program = chain(24, rows=1, width=2048)
    dense = total(program, Float16(), 16)
    eight, four, two = (total(program, Palettize(bits), bits) for bits in (8, 4, 2))
    assert dense > eight > four > two
    overhead = PHONE.unit("all").dispatch_ms
    assert (eight - overhead) / (four - overhead) == pytest.approx(2, rel=0.1)


def test_many_tokens_are_bound_by_compute() -> None:
    program = chain(24, rows=2048, width=2048)
    assert total(program, Palettize(4), 4) == pytest.approx(total(program, Float16(), 16), rel=0.02)


def test_compression_never_costs_time_except_through_tables() -> None:
    program = chain(8, rows=64, width=1024)
    dense = total(program, Float16(), 16)
    for scheme, bits in (
        (Palettize(8), 8),
        (Palettize(1), 1),
        (LinearQuantize("int8"), 8),
        (LinearQuantize("int4"), 4),
    ):
        assert total(program, scheme, bits) <= dense * (1 + 1e-12)


def test_more_tables_cost_more_time() -> None:
    payload = np.array([2048 * 2048 / 2])
    dense = payload * 4
    one_table = latency.stream_ms(PHONE, "all", Palettize(4), payload, dense_bytes=dense)
    times = [
        float(
            latency.stream_ms(
                PHONE, "all", Palettize(4, "per_grouped_channel", size), payload, dense_bytes=dense, tables=2048 / size
            )[0]
        )
        for size in (1, 2, 4, 8, 16)
    ]
    assert times == sorted(times, reverse=True)
    assert times[0] == pytest.approx(2 * times[1])
    assert times[-1] == pytest.approx(one_table[0])
    # Without the number of tables, a middling layer is assumed.
    assumed = latency.stream_ms(PHONE, "all", Palettize(4, "per_grouped_channel", 1), payload, dense_bytes=dense)
    assert assumed[0] > one_table[0]


def test_streams_are_one_a_weight() -> None:
    payload = np.array([1e6, 0.0, 3e6])
    stream = latency.stream_ms(PHONE, "cpuAndNeuralEngine", LinearQuantize("int8"), payload, dense_bytes=2 * payload)
    assert stream.shape == (3,)
    assert stream[1] == 0
    assert stream[2] == pytest.approx(3 * stream[0])


def test_weights_arrive_while_earlier_ops_run() -> None:
    """The stream of a late weight hides behind the compute before it; that of an early one cannot."""
    big, small = (4096, 4096), (64, 64, 3, 3)
    conv = ("conv", {"x": "x", "weight": "small"}, (1, 64, 512, 512))
    inputs, constants = {"x": (1, 64, 512, 512), "y": (1, 4096)}, {"small": small, "big": big}
    late = program_of([conv, ("linear", {"x": "y", "weight": "big"}, (1, 4096))], inputs=inputs, constants=constants)
    early = program_of([("linear", {"x": "y", "weight": "big"}, (1, 4096)), conv], inputs=inputs, constants=constants)
    assert total(late, Float16(), 16) < total(early, Float16(), 16)
    assert total(late, Palettize(4), 4) == pytest.approx(total(late, Float16(), 16), rel=0.01)
    assert total(early, Palettize(4), 4) < 0.95 * total(early, Float16(), 16)


def test_work_of_another_program_is_refused() -> None:
    with pytest.raises(ValueError, match="has 3 ops"):
        latency.op_times(chain(2, rows=1, width=8), count_work(chain(3, rows=1, width=8)), PHONE)


def test_ten_thousand_ops_are_priced_at_once() -> None:
    program = chain(10_000, rows=8, width=64)
    work = count_work(program)
    program.op_weights  # noqa: B018 - cached with the program, not part of pricing
    best = min(_timed(lambda: latency.op_times(program, work, PHONE)) for _ in range(5))
    assert best < 0.05


def conv_ms(
    channels: tuple[int, int], size: int, kernel: int = 3, groups: int = 1, device_name: str = "iPhone 15 Pro"
) -> float:
    """Time of the products of one convolution."""
    shape = (1, channels[0], size, size)
    work = one(
        "conv",
        {"x": shape},
        (1, channels[1], size, size),
        {"weight": (channels[1], channels[0] // groups, kernel, kernel)},
        groups=groups,
    )
    return float(latency.op_parts(device(device_name).unit("all"), work).compute_ms[0])


def test_shapes_that_fill_no_block_waste_the_rest() -> None:
    assert conv_ms((64, 17), 32) == pytest.approx(conv_ms((64, 32), 32), rel=1e-9)
    assert conv_ms((64, 64), 14) / conv_ms((64, 64), 16) == pytest.approx(14 / 16)
    # a 1×1 kernel sees only a run of pixels
    assert conv_ms((64, 64), 8, kernel=1) / conv_ms((64, 64), 16, kernel=1) == pytest.approx(1 / 4)


def test_few_channels_and_groups_use_less_of_the_rate() -> None:
    def per_flop(channels: int, groups: int = 1) -> float:
        return conv_ms((channels, channels), 32, groups=groups) * groups / channels**2

    assert per_flop(32) > per_flop(256)
    assert per_flop(256, 8) > 1.3 * per_flop(256)
    assert per_flop(256, 256) > 4 * per_flop(256)


def test_int8_activations_halve_traffic_and_compute_faster_from_a16_on() -> None:
    program = chain(4, rows=4096, width=1024)
    work = count_work(program)
    gain = {}
    for name in ("iPhone 14", "iPhone 14 Pro", "iPhone 15 Pro", "Mac mini (M4)"):
        full = latency.op_times(program, work, device(name))
        half = latency.op_times(program, work, device(name), activation_bits=8)
        assert half.traffic_ms.sum() == pytest.approx(full.traffic_ms.sum() / 2)
        gain[name] = full.products_ms.sum() / half.products_ms.sum()
    assert gain["iPhone 14"] == pytest.approx(1)  # A15
    assert 1 < gain["iPhone 14 Pro"] < gain["iPhone 15 Pro"] < 2  # fitted
    assert gain["Mac mini (M4)"] == pytest.approx(35.1 / 18.6, rel=1e-3)  # measured


def test_a_small_product_of_activations_costs_its_launch() -> None:
    engine = PHONE.units["neural_engine"]
    operands = {"x": (1, 3, 16, 16), "y": (1, 3, 16, 16)}
    small, linear = (
        one("matmul", operands, (1, 3, 16, 16)),
        one("linear", {"x": (16, 16)}, (16, 16), {"weight": (16, 16)}),
    )
    product, other = latency.op_parts(engine, small), latency.op_parts(engine, linear)
    assert product.launch_ms.sum() == pytest.approx(other.launch_ms.sum() + engine.product_launch_ms)
    assert product.launch_ms.sum() > 3 * (product.compute_ms + product.traffic_ms).sum()


def test_depthwise_convolutions_move_their_activations_more_often() -> None:
    engine = PHONE.units["neural_engine"]
    image = {"x": (1, 64, 32, 32)}
    dense, depthwise = (
        one("conv", image, (1, 64, 32, 32), {"weight": weight}, pad=(1, 1, 1, 1), groups=groups)
        for weight, groups in (((64, 64, 3, 3), 1), ((64, 1, 3, 3), 64))
    )
    often = latency.op_parts(engine, depthwise).traffic_ms / latency.op_parts(engine, dense).traffic_ms
    assert often == pytest.approx(engine.depthwise_traffic)


@pytest.mark.parametrize("unit", ["cpuAndGPU", "cpuOnly"])
def test_gpu_and_cpu_decompress_at_load(unit: str) -> None:
    program = chain(8, rows=1, width=8192)
    dense = total(program, Float16(), 16, unit=unit)
    for scheme, bits in ((Palettize(4), 4), (LinearQuantize("int8"), 8), (LinearQuantize("int4", "per_block", 32), 4)):
        assert total(program, scheme, bits, unit=unit) == pytest.approx(dense)
    # The exception: blocks of integers on the GPU of a Mac.
    mac = device("Mac mini (M4)")
    blocks = LinearQuantize("int4", "per_block", 32)
    gain = total(program, Float16(), 16, mac, unit=unit) / total(program, blocks, 4.5, mac, unit=unit)
    assert gain > 1.8 if unit == "cpuAndGPU" else gain == pytest.approx(1)


def test_only_what_a_chip_streams_saves_time() -> None:
    program = chain(8, rows=1, width=2048)
    oldest, m1, m2 = device("iPhone XS"), device("M1"), device("M2")
    assert total(program, Palettize(4), 4, oldest) == pytest.approx(total(program, Float16(), 16, oldest))
    int8 = LinearQuantize("int8")
    assert total(program, int8, 8, m1) == pytest.approx(total(program, Float16(), 16, m1))
    assert total(program, int8, 8, m2) < 0.7 * total(program, Float16(), 16, m2)
    assert total(program, Palettize(8), 8, m1) < 0.7 * total(program, Float16(), 16, m1)


def test_units_differ() -> None:
    program = chain(8, rows=256, width=1024)
    engine, gpu, cpu = (
        total(program, Float16(), 16, unit=unit) for unit in ("cpuAndNeuralEngine", "cpuAndGPU", "cpuOnly")
    )
    assert engine < gpu < cpu


def test_every_op_waits_for_one_of_four_things() -> None:
    program = program_of(
        [
            ("conv", {"x": "x", "weight": "w"}, (1, 512, 64, 64)),
            ("softmax", {"x": "0"}, (1, 512, 64, 64)),
            ("linear", {"x": "y", "weight": "v"}, (1, 8192)),
            ("softmax", {"x": "y"}, (1, 8192)),
        ],
        inputs={"x": (1, 512, 64, 64), "y": (1, 8192)},
        constants={"w": (512, 512, 3, 3), "v": (8192, 8192)},
    )
    times = latency.op_times(program, count_work(program), PHONE)
    stream = np.array([0.0, 0.0, 8192 * 8192 * 2 / (PHONE.unit("all").stream_gbps * 1e6), 0.0])
    stream[0] = 512 * 512 * 9 * 2 / (PHONE.unit("all").stream_gbps * 1e6)
    codes = latency.bound(times, times.activation_ms + stream)
    assert [latency.BOUNDS[code] for code in codes[:3]] == ["compute", "activation-memory", "weight-memory"]
    tiny = program_of([("softmax", {"x": "x"}, (1, 8))], inputs={"x": (1, 8)})
    times = latency.op_times(tiny, count_work(tiny), PHONE)
    assert [latency.BOUNDS[code] for code in latency.bound(times, times.activation_ms)] == ["launch"]


def test_one_op_is_less_certain_than_the_program() -> None:
    program = chain(4, rows=64, width=256)
    times = latency.op_times(program, count_work(program), PHONE)
    assert times.op_interval[0] < times.interval[0] < 1 < times.interval[1] < times.op_interval[1]


def test_an_unseen_mix_of_ops_is_less_certain() -> None:
    moves = program_of([("softmax", {"x": "x"}, (1, 512, 64, 64))] * 4, inputs={"x": (1, 512, 64, 64)})
    odd = latency.op_times(moves, count_work(moves), PHONE).interval
    unit = PHONE.unit("all")
    assert odd[0] < unit.interval_low
    assert odd[1] > unit.interval_high
    familiar = count_work(chain(4, rows=1, width=2048))
    assert latency.novelty(unit, familiar, latency.op_parts(unit, familiar)) < 0.1


def test_a_difference_is_surer_than_either_plan() -> None:
    unit = PHONE.unit("all")
    low, high = latency.difference_interval(unit, 10.0, 9.9)
    assert low < -0.1 < high
    assert high - low < 9.9 * (unit.interval_high - unit.interval_low) / 2
    assert latency.difference_interval(unit, 10.0, 2.0)[1] < 0, "a plan five times as fast is faster"
    same, changed = latency.ratio_interval(unit, 1.0), latency.ratio_interval(unit, 0.2)
    assert changed[0] < same[0] < 1 < same[1] < changed[1]


def test_a_compressed_plan_is_less_certain_than_the_float16_program() -> None:
    unit = PHONE.unit("all")
    dense = (unit.interval_low, unit.interval_high)
    assert latency.plan_interval(unit, dense, 1.0) == pytest.approx(dense)
    low, high = latency.plan_interval(unit, dense, 0.2)
    assert low < dense[0] < dense[1] < high


def _timed(call: object) -> float:
    begin = time.perf_counter()
    call()  # type: ignore[operator]
    return time.perf_counter() - begin
