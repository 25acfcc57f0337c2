"""What an interruption leaves behind, at every stage of load(): nothing."""

from __future__ import annotations

import gc
import importlib
import logging
import sys
import tempfile
import warnings
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
import torch
from coremltools.converters.mil.mil import block, scope
from coremltools.converters.mil.mil.passes.defs.quantization import FP16ComputePrecision
from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY
from coremltools.models import model as coreml_model
from torch.fx.experimental import proxy_tensor
from tqdm import tqdm

import models
import talaria_nb as tnb

if TYPE_CHECKING:
    from pathlib import Path

STAGES = {
    "copy": ("talaria_nb.convert", "eval_twin"),
    "export": ("torch.export", "export"),
    "repair": ("talaria_nb.convert", "repair"),
    "translation": ("coremltools.converters.mil.frontend.torch.converter", "convert_nodes"),
    "passes": ("coremltools.converters.mil.mil.passes.defs.quantization", "FP16ComputePrecision.transform_op"),
    "weights": ("coremltools.converters.mil.backend.mil.load", "create_immediate_value"),
    "package": ("coremltools.models.model", "_load_spec"),
    "source map": ("talaria_nb.convert", "link"),
    "reading": ("talaria_nb.load", "read_program"),
}


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give temporary files a folder that only the test uses."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@cache
def loaded_before() -> tuple[torch.nn.Module, torch.Tensor, str]:
    """Return a module in a state of its own, inputs, and the fingerprint of what it is converted to."""
    module, inputs = models.Block(8).half().train(), torch.zeros(1, 8, 4, 4, dtype=torch.half)
    module.register_forward_pre_hook(lambda _module, _args: None)
    return module, inputs, tnb.load(module, inputs, progress=False).program.fingerprint


def global_state() -> dict[str, Any]:
    logger = logging.getLogger("coremltools")
    return {
        "streams": (sys.stdout, sys.stderr),
        "logger": (logger.level, list(logger.handlers), logging.root.level),
        "warnings": (warnings.showwarning, list(warnings.filters)),
        "bars": tqdm.__init__,
        "torch": (
            torch.is_grad_enabled(),
            torch.get_default_dtype(),
            torch.is_inference_mode_enabled(),
            torch._C._is_torch_function_enabled(),
            torch.utils._python_dispatch._get_current_dispatch_mode(),
            torch._guards.TracingContext.try_get(),
            torch._C._get_tracing_state(),
            torch.compiler.is_compiling(),
            vars(proxy_tensor._ModuleStackTracer).get("_filter_traceback_frames"),
        ),
        "coremltools": (
            list(block.BLOCK_STACK),
            [stack for stack in scope.SCOPE_STACK.values() if stack],
            list(PASS_REGISTRY["common::add_fp16_cast"]._cache_vars),
            FP16ComputePrecision.fp16_overflow,
        ),
    }


def leftovers(folder: Path) -> list[str]:
    """List a folder, without torch's own cache."""
    return [path.name for path in folder.iterdir() if not path.name.startswith("torchinductor")]


def state_of(module: torch.nn.Module) -> list[Any]:
    return [
        (
            name,
            child.training,
            vars(child).keys(),
            [list(hooks) for key, hooks in vars(child).items() if key.endswith("_hooks")],
            [(id(each), each.dtype, each.requires_grad, each._version) for each in child.parameters(recurse=False)],
            [(id(each), each.dtype, each._version) for each in child.buffers(recurse=False)],
        )
        for name, child in module.named_modules()
    ]


@pytest.mark.parametrize("at", STAGES)
def test_an_interruption_leaves_nothing_behind(at: str, temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, inputs, expected = loaded_before()
    before, was = global_state(), state_of(module)

    place, _, name = STAGES[at][1].rpartition(".")
    owner = importlib.import_module(STAGES[at][0])
    called = []

    def interrupt(*_args: Any, **_kwargs: Any) -> None:
        called.append(at)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(getattr(owner, place) if place else owner, name, interrupt)
        with pytest.raises(KeyboardInterrupt) as caught:  # which keeps the traceback, as notebooks do
            tnb.load(module, inputs)
    assert called
    assert global_state() == before
    assert state_of(module) == was
    assert not leftovers(temporary)
    assert caught.value.__traceback__ is not None
    assert tnb.load(module, inputs, progress=False).program.fingerprint == expected


def test_an_interrupted_trace_leaves_nothing_behind(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = global_state()

    def fail(*_args: Any, **_kwargs: Any) -> None:
        raise RuntimeError

    def interrupt(*_args: Any, **_kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(torch.export, "export", fail)
    monkeypatch.setattr(coreml_model, "_load_spec", interrupt)
    with pytest.raises(KeyboardInterrupt):
        tnb.load(models.Block(8), torch.zeros(1, 8, 4, 4))
    assert global_state() == before
    assert not leftovers(temporary)


def test_a_package_lives_as_long_as_its_model(temporary: Path) -> None:
    model = tnb.load(torch.nn.Linear(8, 8), torch.zeros(1, 8), progress=False)
    mlmodel = model.mlmodel
    del model
    gc.collect()
    mlmodel.save(str(temporary / "kept.mlpackage"))
    del mlmodel
    gc.collect()
    assert leftovers(temporary) == ["kept.mlpackage"]
