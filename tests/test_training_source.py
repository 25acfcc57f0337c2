"""The scripts that train a module for few bits run as they are written, and what they train gets better."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import models
import talaria_nb as tnb
from talaria_nb.errors import ExportError

if TYPE_CHECKING:
    from pathlib import Path

# What coremltools' compressors and torch's own quantization warn of.
pytestmark = pytest.mark.filterwarnings("ignore")


@cache
def small() -> tnb.Model:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(32, 128), nn.ReLU(), nn.Linear(128, 128), nn.Sigmoid(), nn.Linear(128, 32))
    return tnb.load(module.eval(), torch.zeros(1, 32), progress=False)


def vectors() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(32, 32, generator=generator) for _ in range(4)]


def script(plan: tnb.Plan, method: Any, data: list[Any]) -> dict[str, Any]:
    """Run what stands in the script, and fill in what is to be filled in."""
    namespace: dict[str, Any] = {"__name__": "script"}
    exec(compile(plan.training_script(method), "script.py", "exec"), namespace)  # noqa: S102 - that is what is tested
    with pytest.raises(NotImplementedError, match="Return your module here"):
        namespace["module"]()
    with pytest.raises(NotImplementedError, match="Yield your inputs here"):
        namespace["batches"]()
    namespace |= {"module": lambda: plan.model.module, "batches": lambda: data}
    torch.manual_seed(0)
    return namespace


def test_palettes_are_trained_to_what_the_plan_says(tmp_path: Path) -> None:
    scheme = tnb.Palettize(2)
    plan = tnb.Plan(small()).set(["0", "2"], scheme)
    run = script(plan, "dkm", vectors())
    run["STEPS"], run["LEARNING_RATE"] = 16, 1e-2
    student, losses = run["main"](str(tmp_path / "trained.pt"))
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4])
    assert torch.load(tmp_path / "trained.pt", weights_only=True)
    before = plan.model.module.state_dict()["0.weight"]
    assert not torch.equal(student.get_submodule("0").weight, before), "it trains a copy"
    program = tnb.load(student, torch.zeros(1, 32), progress=False).program
    assert [packed.scheme for packed in program.weights.packed.values()] == [scheme] * 2


@pytest.mark.parametrize("behind", [nn.ReLU, nn.GELU])
def test_integers_are_trained_to_what_the_plan_says(tmp_path: Path, behind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(32, 128), behind(), nn.Linear(128, 128), nn.Sigmoid(), nn.Linear(128, 32))
    scheme = tnb.LinearQuantize("int4")
    plan = tnb.Plan(tnb.load(module.eval(), torch.zeros(1, 32), progress=False)).set(["0", "2"], scheme)
    run = script(plan, "qat", vectors())
    assert ("# A layer before a ReLU is fused" in plan.training_script("qat")) == (behind is nn.ReLU)
    run["STEPS"], run["LEARNING_RATE"] = 40, 3e-3
    student, losses = run["main"](str(tmp_path / "trained.pt"))
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4])
    program = tnb.load(student, torch.zeros(1, 32), progress=False).program
    assert [packed.scheme for packed in program.weights.packed.values()] == [scheme] * 2


def test_adapters_win_back_what_minilm_lost(tmp_path: Path) -> None:
    plan = tnb.Plan(models.minilm()).set("encoder.layer.0.*", tnb.Palettize(1))
    generator = torch.Generator().manual_seed(0)
    ones = torch.ones(2, 8, dtype=torch.long)
    data = [{"input_ids": torch.randint(1000, 20000, (2, 8), generator=generator), "attention_mask": ones}]
    run = script(plan, "lora", data)
    assert len(run["LAYERS"]) == 6
    planned = plan.to_module()
    torch.save(planned.state_dict(), tmp_path / "compressed.pt")
    run["STEPS"] = 8
    student, losses = run["main"](str(tmp_path / "compressed.pt"), str(tmp_path / "adapter.safetensors"))
    assert losses[-1] < 0.8 * losses[0]
    assert losses[0] == pytest.approx(distance(run, planned, data), rel=1e-3), "it starts as the plan is"

    adapter = load_file(tmp_path / "adapter.safetensors")
    assert len(adapter) == 12
    again = run["adapted"](plan.model.module, torch.load(tmp_path / "compressed.pt", weights_only=True)).eval()
    again.load_state_dict(adapter, strict=False)
    assert distance(run, again, data) == pytest.approx(distance(run, student, data), rel=1e-6)
    trained = dict(student.named_parameters())
    assert torch.equal(
        trained["encoder.layer.0.output.dense.base.weight"], planned.state_dict()["encoder.layer.0.output.dense.weight"]
    )


@torch.no_grad()
def distance(run: dict[str, Any], module: nn.Module, data: list[Any]) -> float:
    return float(run["distance"](run["run"](module, data[0]), run["run"](models.minilm().module, data[0])))


def test_what_cannot_be_trained_is_said(tmp_path: Path) -> None:
    plan = tnb.Plan(small())
    with pytest.raises(ExportError, match=r"no training 'gptq'. Choose from dkm, qat, lora"):
        plan.training_script("gptq")
    with pytest.raises(ExportError, match=r"nothing that DKMPalettizer trains. It leaves every weight as it is"):
        plan.training_script("dkm")
    with pytest.raises(ExportError, match=r"nothing that LinearQuantizer trains\. .* makes integers"):
        plan.set("*", tnb.Palettize(4)).training_script("qat")
    with pytest.raises(ExportError, match="DKMPalettizer makes k-means palettes"):
        plan.set("*", tnb.LinearQuantize("int8")).training_script("dkm")
    with pytest.raises(ExportError, match="no linear layer"):
        plan.training_script("lora")
    both = plan.set("0", tnb.Palettize(2)).set("2", tnb.LinearQuantize("int8"))
    assert "# p_2_weight_to_fp16 is planned as 8-bit linear" in both.training_script("dkm")
    path = str(tmp_path / "model.mlpackage")
    small().mlmodel.save(path)
    for method in ("dkm", "qat", "lora"):
        with pytest.raises(ExportError, match="not loaded from a torch module"):
            tnb.Plan(tnb.load(path, progress=False)).training_script(method)
