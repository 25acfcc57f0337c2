"""Conversion by coremltools: lean, and told on one bar."""

from __future__ import annotations

import re
import tracemalloc
from typing import TYPE_CHECKING

import coremltools as ct
import numpy as np
import pytest
import torch
from coremltools.converters.mil import Builder
from coremltools.converters.mil.mil.passes.defs.quantization import FP16ComputePrecision

import models
import talaria_nb as tnb
from talaria_nb import coreml
from talaria_nb.progress import STAGES

if TYPE_CHECKING:
    from coremltools.converters.mil.mil import Operation


def addition(values: np.ndarray) -> Operation:
    @Builder.program(input_specs=[Builder.TensorSpec(shape=values.shape)], opset_version=ct.target.iOS18)
    def program(x: object) -> object:
        return Builder.add(x=x, y=values)

    [op] = [op for op in program.functions["main"].operations if op.op_type == "add"]
    return op


@pytest.mark.parametrize(
    "extreme", [0.0, 65504.0, -65504.0, 65505.0, -70000.0, 1e37, -1e38, np.inf, -np.inf, np.nan, [np.nan, 1e6]]
)
def test_float16_overflow_is_found_as_coremltools_finds_it(extreme: object) -> None:
    values = np.linspace(-1, 1, 600, dtype=np.float32)
    values[7 : 7 + np.size(extreme)] = extreme
    op = addition(values)
    expected = FP16ComputePrecision.fp16_overflow(op)
    with coreml._lean_casts():
        assert FP16ComputePrecision.fp16_overflow(op) == expected


def test_a_weight_is_not_copied_to_see_whether_it_fits_float16() -> None:
    op = addition(np.zeros((1024, 1024), dtype=np.float32))
    with coreml._lean_casts():
        tracemalloc.start()
        assert not FP16ComputePrecision.fp16_overflow(op)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 2**20


def test_one_bar_shows_every_stage_and_is_gone_afterwards(capsys: pytest.CaptureFixture[str]) -> None:
    tnb.load(models.Block(8), torch.zeros(1, 8, 4, 4))
    shown = capsys.readouterr().err
    names = [line.partition(":")[0] for line in re.split(r"[\r\n]+", shown) if ":" in line]
    stages = [name for name in dict.fromkeys(names) if name in STAGES]
    torch_stages = ["Exporting", "Decomposing", "Repairing", "Translating", "Optimizing", "Writing the package"]
    assert stages == [*torch_stages, "Reading the program"]
    assert "Running MIL" not in shown
    assert not shown.rstrip("\r\n").rpartition("\r")[2].strip()


def test_no_bar_is_shown_where_none_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    tnb.load(models.Block(8), torch.zeros(1, 8, 4, 4), progress=False)
    assert capsys.readouterr() == ("", "")


def test_names_do_not_depend_on_what_a_failed_conversion_left_behind() -> None:
    module, inputs = models.Block(8).eval(), torch.zeros(1, 8, 4, 4)
    expected = tnb.load(module, inputs, progress=False).program.ops.name
    Builder.name_count["cast"] = 7  # coremltools numbers ops from here, and goes on where it stopped
    assert tnb.load(module, inputs, progress=False).program.ops.name == expected
