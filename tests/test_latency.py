"""Work is counted as independent counts do, and times behave as hardware does."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import talaria_nb as tnb
from models import Classifier, UNet
from talaria_nb import latency
from talaria_nb.devices import device
from talaria_nb.program import NO_OP, Modules, Ops, Program, Values, Weights
from talaria_nb.schemes import Float16, LinearQuantize, Palettize
from talaria_nb.work import KNOWN, Kind, Work, count_work

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from talaria_nb.program import Attribute, Shape

PHONE = device("iPhone 15 Pro")
PRODUCTS = (Kind.CONV, Kind.GROUPED, Kind.DEPTHWISE, Kind.LINEAR, Kind.MATMUL)


def program_of(
    ops: Sequence[tuple[str, Mapping[str, str], Shape]],
    *,
    inputs: Mapping[str, Shape],
    constants: Mapping[str, Shape] | None = None,
    attributes: Mapping[int, Mapping[str, Attribute]] | None = None,
) -> Program:
    """Build a program of ops (type, {parameter: value}, output shape); op i makes value `i`."""
    constants = constants or {}
    names = [*inputs, *constants, *map(str, range(len(ops)))]
    shapes = [*inputs.values(), *constants.values(), *(shape for _, _, shape in ops)]
    row = {name: number for number, name in enumerate(names)}
    first = len(inputs) + len(constants)
    weights = [name for name, shape in constants.items() if len(shape) > 1]
    weight = np.full(len(names), -1, dtype=np.int32)
    weight[[row[name] for name in weights]] = np.arange(len(weights))
    readers: dict[str, list[int]] = {name: [] for name in weights}
    for i, (_, operands, _) in enumerate(ops):
        for name in dict.fromkeys(operands.values()):
            if name in readers:
                readers[name].append(i)
    return Program(
        name="made up",
        deployment_target="iOS18",
        ops=Ops(
            name=tuple(f"op{i}" for i in range(len(ops))),
            op_type=tuple(op[0] for op in ops),
            inputs=tuple(
                tuple((parameter.rstrip("0123456789"), row[value]) for parameter, value in op[1].items()) for op in ops
            ),
            outputs=tuple((first + i,) for i in range(len(ops))),
            attributes=tuple((attributes or {}).get(i, {}) for i in range(len(ops))),
            module=np.zeros(len(ops), dtype=np.int32),
        ),
        values=Values(
            name=tuple(names),
            shape=tuple(shapes),
            dtype=("fp16",) * len(names),
            producer=np.array([NO_OP] * first + list(range(len(ops))), dtype=np.int32),
            weight=weight,
        ),
        weights=Weights(
            name=tuple(weights),
            shape=tuple(constants[name] for name in weights),
            dtype=("fp16",) * len(weights),
            value=np.array([row[name] for name in weights], dtype=np.int32),
            channel_axes=((1, 0),) * len(weights),
            readers=tuple(tuple(readers[name]) for name in weights),
            last_in_file=np.zeros(len(weights), dtype=np.bool_),
        ),
        modules=Modules.from_paths({}),
        inputs=tuple(range(len(inputs))),
        outputs=(len(names) - 1,),
        fixed_file_bytes=0,
    )


def one(
    op_type: str,
    inputs: Mapping[str, Shape],
    out: Shape,
    constants: Mapping[str, Shape] | None = None,
    **attributes: Attribute,
) -> Work:
    """Work of a program of one op whose operands are named by their parameters."""
    constants = constants or {}
    operands = {name: name for name in (*inputs, *constants)}
    return count_work(
        program_of([(op_type, operands, out)], inputs=inputs, constants=constants, attributes={0: attributes})
    )


def chain(layers: int, *, rows: int, width: int) -> Program:
    """Linear layers one after the other."""
    ops = [("linear", {"x": "x" if i == 0 else str(i - 1), "weight": f"w{i}"}, (rows, width)) for i in range(layers)]
    return program_of(ops, inputs={"x": (rows, width)}, constants={f"w{i}": (width, width) for i in range(layers)})


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


@pytest.mark.parametrize(
    ("op_type", "inputs", "constants", "out", "attributes", "flops", "kind"),
    [
        # 2 · out pixels · taps · channels in · channels out, by hand
        (
            "conv",
            {"x": (1, 16, 8, 8)},
            {"weight": (32, 16, 3, 3)},
            (1, 32, 8, 8),
            {"groups": 1},
            2 * 64 * 9 * 16 * 32,
            Kind.CONV,
        ),
        ("conv", {"x": (2, 16, 8, 8)}, {"weight": (32, 16, 1, 1)}, (2, 32, 4, 4), {}, 2 * 2 * 16 * 16 * 32, Kind.CONV),
        (
            "conv",
            {"x": (1, 16, 8, 8)},
            {"weight": (16, 1, 3, 3)},
            (1, 16, 8, 8),
            {"groups": 16},
            2 * 64 * 9 * 16,
            Kind.DEPTHWISE,
        ),
        (
            "conv",
            {"x": (1, 16, 8, 8)},
            {"weight": (32, 4, 3, 3)},
            (1, 32, 8, 8),
            {"groups": 4},
            2 * 64 * 9 * 4 * 32,
            Kind.GROUPED,
        ),
        ("conv", {"x": (1, 80, 100)}, {"weight": (64, 80, 3)}, (1, 64, 100), {}, 2 * 100 * 3 * 80 * 64, Kind.CONV),
        (
            "conv",
            {"x": (1, 4, 5, 6, 7)},
            {"weight": (8, 4, 3, 3, 3)},
            (1, 8, 5, 6, 7),
            {},
            2 * 210 * 27 * 32,
            Kind.CONV,
        ),
        # transposed: every input pixel meets every tap
        (
            "conv_transpose",
            {"x": (1, 16, 4, 4)},
            {"weight": (16, 8, 2, 2)},
            (1, 8, 8, 8),
            {},
            2 * 16 * 4 * 16 * 8,
            Kind.CONV,
        ),
        ("linear", {"x": (1, 10, 64)}, {"weight": (48, 64)}, (1, 10, 48), {}, 2 * 10 * 64 * 48, Kind.LINEAR),
        (
            "matmul",
            {"x": (2, 4, 10, 64), "y": (2, 4, 64, 12)},
            {},
            (2, 4, 10, 12),
            {},
            2 * 8 * 10 * 64 * 12,
            Kind.MATMUL,
        ),
        ("matmul", {"x": (10, 64), "y": (12, 64)}, {}, (10, 12), {"transpose_y": True}, 2 * 10 * 64 * 12, Kind.MATMUL),
        ("matmul", {"x": (64, 10), "y": (64, 12)}, {}, (10, 12), {"transpose_x": True}, 2 * 10 * 64 * 12, Kind.MATMUL),
        ("matmul", {"x": (10, 64)}, {"y": (64, 12)}, (10, 12), {}, 2 * 10 * 64 * 12, Kind.LINEAR),
        ("matmul", {"x": (64,), "y": (64,)}, {}, (), {}, 2 * 64, Kind.MATMUL),
        (
            "einsum",
            {"values0": (1, 64, 4, 10), "values1": (1, 12, 4, 64)},
            {},
            (1, 12, 4, 10),
            {"equation": "bchq,bkhc->bkhq"},
            2 * 64 * 4 * 10 * 12,
            Kind.MATMUL,
        ),
        # four gates, each from the input and from the hidden state
        (
            "lstm",
            {"x": (7, 1, 32)},
            {"weight_ih": (64, 32), "weight_hh": (64, 16)},
            (7, 1, 16),
            {},
            2 * 7 * 64 * 48,
            Kind.LINEAR,
        ),
        # three gates
        (
            "gru",
            {"x": (7, 1, 32)},
            {"weight_ih": (48, 32), "weight_hh": (48, 16)},
            (7, 1, 16),
            {},
            2 * 7 * 48 * 48,
            Kind.LINEAR,
        ),
        ("relu", {"x": (1, 16, 8, 8)}, {}, (1, 16, 8, 8), {}, 1024, Kind.PASS),
        ("upsample_bilinear", {"x": (1, 16, 8, 8)}, {}, (1, 16, 16, 16), {}, 0, Kind.PASS),
        ("scatter_nd", {"data": (10, 4), "indices": (2, 1), "updates": (2, 4)}, {}, (10, 4), {}, 0, Kind.PASS),
        ("topk", {"x": (1, 100)}, {}, (1, 5), {}, 0, Kind.PASS),
        ("layer_norm", {"x": (1, 10, 64)}, {}, (1, 10, 64), {}, 8 * 640, Kind.PASS),
        ("read_state", {"input": (1, 8, 64, 64)}, {}, (1, 8, 64, 64), {}, 0, Kind.FREE),
        ("reshape", {"x": (1, 16, 8, 8)}, {}, (1, 1024), {}, 0, Kind.FREE),
        ("transpose", {"x": (16, 8)}, {}, (8, 16), {}, 0, Kind.PASS),
        ("softmax", {"x": (4, 10)}, {}, (4, 10), {}, 200, Kind.PASS),
        ("max_pool", {"x": (1, 8, 8, 8)}, {}, (1, 8, 4, 4), {"kernel_sizes": (3, 3)}, 128 * 9, Kind.PASS),
    ],
)
def test_flops_by_hand(
    op_type: str,
    inputs: Mapping[str, Shape],
    constants: Mapping[str, Shape],
    out: Shape,
    attributes: Mapping[str, Attribute],
    flops: int,
    kind: Kind,
) -> None:
    work = one(op_type, inputs, out, constants, **attributes)
    assert work.flops.tolist() == [flops]
    assert Kind(int(work.kind[0])) is kind
    assert not work.unknown[0]


def test_attention_is_two_products_and_a_softmax() -> None:
    work = one(
        "scaled_dot_product_attention",
        {"query": (1, 8, 20, 64), "key": (1, 8, 30, 64), "value": (1, 8, 30, 32)},
        (1, 8, 20, 32),
    )
    assert work.flops[0] == 8 * 20 * 30 * (2 * 64 + 2 * 32 + 5)


class Attention(nn.Module):
    """Two heads, written out, with a grouped and a depthwise convolution before it."""

    def __init__(self) -> None:
        super().__init__()
        self.grouped = nn.Conv2d(8, 16, 3, padding=1, groups=4)
        self.project = nn.Linear(16, 48)
        self.lift = nn.ConvTranspose2d(16, 8, 2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.grouped(x)
        tokens = x.flatten(2).transpose(1, 2)
        query, key, value = self.project(tokens).chunk(3, dim=2)
        mixed = (query @ key.transpose(1, 2)).softmax(-1) @ value
        return self.lift(mixed.transpose(1, 2).reshape(x.shape))


@pytest.mark.parametrize(
    ("module", "shape"), [(Classifier, (1, 3, 64, 64)), (UNet, (1, 3, 32, 32)), (Attention, (1, 8, 6, 6))]
)
def test_products_agree_with_torchs_own_counter(module: type[nn.Module], shape: Shape) -> None:
    model, example = module().eval(), torch.zeros(shape)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(example)
    work = count_work(tnb.load(model, (example,), progress=False).program)
    assert work.flops[np.isin(work.kind, PRODUCTS)].sum() == counter.get_total_flops()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_100", "convnext_atto", "vit_tiny_patch16_224"])
def test_timm_models_agree_with_torchs_own_counter(name: str) -> None:
    timm = pytest.importorskip("timm")
    model, example = timm.create_model(name).eval(), torch.zeros(1, 3, 224, 224)
    # The counter does not know the fused attention kernel of CPUs.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        model(example)
    work = count_work(tnb.load(model, (example,), progress=False).program)
    # Where attention is one op, its softmax is counted here and not there.
    assert work.flops[np.isin(work.kind, PRODUCTS)].sum() == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_bytes_are_those_of_the_tensors() -> None:
    work = one("linear", {"x": (1, 10, 64)}, (1, 10, 48), {"weight": (48, 64), "bias": (48,)})
    assert work.activation_bytes.tolist() == [2 * (640 + 480)]
    assert work.constant_bytes.tolist() == [2 * (48 * 64 + 48)]
    assert work.stream_bytes.tolist() == [2 * 48 * 64]


def test_a_value_read_twice_moves_once() -> None:
    program = program_of([("mul", {"x": "x", "y": "x"}, (4, 8))], inputs={"x": (4, 8)})
    assert count_work(program).activation_bytes.tolist() == [2 * 2 * 32]


def test_a_lookup_moves_the_rows_it_reads_not_its_table() -> None:
    work = one("gather", {"indices": (1, 16)}, (1, 16, 384), {"x": (30_000, 384)})
    assert work.stream_bytes[0] == 2 * 16 * 384
    assert work.traffic_bytes[0] < 100_000


def test_elementwise_ops_ride_with_their_producer() -> None:
    program = program_of(
        [
            ("conv", {"x": "x", "weight": "w"}, (1, 64, 8, 8)),
            ("relu", {"x": "0"}, (1, 64, 8, 8)),
            ("add", {"x": "1", "y": "x"}, (1, 64, 8, 8)),
            ("reduce_mean", {"x": "2"}, (1, 64, 1, 1)),
            ("mul", {"x": "2", "y": "3"}, (1, 64, 8, 8)),
        ],
        inputs={"x": (1, 64, 8, 8)},
        constants={"w": (64, 64, 1, 1)},
    )
    work = count_work(program)
    tensor = 2 * 64 * 64
    assert work.kind.tolist() == [Kind.CONV, Kind.FUSED, Kind.FUSED, Kind.PASS, Kind.PASS]
    assert work.traffic_bytes.tolist()[:3] == [2 * tensor, 0, tensor]
    # The gate is known only after its tensor was written, so the tensor is read and written again.
    assert work.traffic_bytes[4] == 2 * tensor
    times = latency.op_times(program, work, PHONE)
    assert times.launch_ms[1] == times.compute_ms[1] == 0


def test_unknown_ops_are_data_movement_and_flagged() -> None:
    work = one("made_up_op", {"x": (4, 8)}, (4, 8))
    assert work.unknown.tolist() == [True]
    program = program_of(
        [("relu", {"x": "x"}, (4, 8)), ("made_up_op", {"x": "0"}, (4, 8)), ("made_up_op", {"x": "1"}, (4, 8))],
        inputs={"x": (4, 8)},
    )
    assert count_work(program).unknown.tolist() == [False, True, True]
    times, plain = (latency.op_times(it, count_work(it), PHONE) for it in (program, chain(2, rows=8, width=512)))
    assert times.interval[1] > plain.interval[1], "what is unknown is less certain"
    assert work.traffic_bytes.tolist() == [128]


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


def test_every_op_type_that_coremltools_writes_has_a_rule() -> None:
    from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

    assert len(SSAOpRegistry.core_ops) > 150
    assert set(SSAOpRegistry.core_ops) <= KNOWN


def test_slices_and_updates_move_what_they_touch() -> None:
    assert one("slice_by_index", {"x": (1, 1000, 64)}, (1, 10, 64)).traffic_bytes[0] == 2 * 2 * 640
    update = one("slice_update", {"x": (1, 1000, 64), "update": (1, 1, 64)}, (1, 1000, 64))
    assert update.traffic_bytes[0] == 2 * 2 * 64
    chosen = one("gather_nd", {"x": (1000, 64), "indices": (5, 1)}, (5, 64))
    assert chosen.traffic_bytes[0] == 2 * (2 * 5 * 64) + 2 * 5


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


def test_int8_activations_halve_traffic_and_compute_faster_from_a17_pro_on() -> None:
    program = chain(4, rows=4096, width=1024)
    work = count_work(program)
    gain = {}
    for name in ("iPhone 14 Pro", "iPhone 15 Pro", "Mac mini (M4)"):
        full = latency.op_times(program, work, device(name))
        half = latency.op_times(program, work, device(name), activation_bits=8)
        assert half.traffic_ms.sum() == pytest.approx(full.traffic_ms.sum() / 2)
        gain[name] = full.products_ms.sum() / half.products_ms.sum()
    assert gain == pytest.approx({"iPhone 14 Pro": 1, "iPhone 15 Pro": 2, "Mac mini (M4)": 35.1 / 18.6}, rel=1e-3)


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
