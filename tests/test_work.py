"""Work is counted as independent counts do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import talaria_nb as tnb
from models import Classifier, UNet
from small_programs import one, program_of
from talaria_nb.op_types import Kind
from talaria_nb.products import KNOWN
from talaria_nb.work import count_work

if TYPE_CHECKING:
    from collections.abc import Mapping

    from talaria_nb.program import Attribute, Shape

PRODUCTS = (Kind.CONV, Kind.GROUPED, Kind.DEPTHWISE, Kind.LINEAR, Kind.MATMUL)


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


def test_unknown_ops_are_data_movement_and_flagged() -> None:
    work = one("made_up_op", {"x": (4, 8)}, (4, 8))
    assert work.unknown.tolist() == [True]
    program = program_of(
        [("relu", {"x": "x"}, (4, 8)), ("made_up_op", {"x": "0"}, (4, 8)), ("made_up_op", {"x": "1"}, (4, 8))],
        inputs={"x": (4, 8)},
    )
    assert count_work(program).unknown.tolist() == [False, True, True]
    assert work.traffic_bytes.tolist() == [128]


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
