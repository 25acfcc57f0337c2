"""Bare coremltools on the architectures of `zoo.py`: what converts without `talaria_nb`.

This runs in a process of its own, because importing `talaria_nb` registers translations with coremltools. Conversion
ends at MIL, without any graph pass: what fails, fails in the front ends, and before.
"""

from __future__ import annotations

import logging
import warnings
from functools import partialmethod
from typing import TYPE_CHECKING, Any

import coremltools as ct
import numpy as np
import torch
from tqdm import tqdm

import vision  # noqa: F401 - it finds timm
import zoo

if TYPE_CHECKING:
    from collections.abc import Callable

_DTYPES = {torch.int64: np.int32, torch.int32: np.int32, torch.bool: np.bool_}


def be_quiet() -> None:
    """Silence this process."""
    logging.getLogger("coremltools").setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore")
    tqdm.__init__ = partialmethod(tqdm.__init__, disable=True)


def convert(name: str) -> tuple[str, str]:
    """Tell why an architecture does not convert by export and by trace; empty texts where it does."""
    return _reason(_by_export, name), _reason(_by_trace, name)


def _reason(road: Callable[[torch.nn.Module, tuple[Any, ...], dict[str, Any]], None], name: str) -> str:
    try:
        module, inputs = zoo.build(name)
        config = getattr(module, "config", None)
        if config is not None:  # what everybody does first
            config.return_dict = config.use_cache = False
        args, kwargs = ((), inputs) if isinstance(inputs, dict) else (inputs, {})
        with torch.no_grad():
            road(module, args if isinstance(args, tuple) else (args,), kwargs)
    except Exception as error:  # noqa: BLE001 - every failure counts, whatever it is
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return lines[0][:120]
    return ""


def _by_export(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    _to_mil(torch.export.export(module, args, kwargs).run_decompositions({}))


def _by_trace(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    given: dict[str, Any] = {"example_kwarg_inputs": kwargs} if kwargs else {"example_inputs": args}
    traced = torch.jit.trace(module, **given, check_trace=False, strict=False)  # type: ignore[no-untyped-call]
    inputs = [
        ct.TensorType(shape=tensor.shape, dtype=_DTYPES.get(tensor.dtype, np.float32))
        for tensor in (*args, *kwargs.values())
    ]
    states = [
        ct.StateType(ct.TensorType(shape=buffer.shape, dtype=np.float16), name=state)
        for state, buffer in module.named_buffers()
        if state.endswith(zoo.CACHES)
    ]
    _to_mil(traced, inputs=inputs, states=states or None)


def _to_mil(source: object, **options: object) -> None:
    ct.convert(
        source,
        convert_to="milinternal",
        minimum_deployment_target=ct.target.iOS18,
        pass_pipeline=ct.PassPipeline.EMPTY,
        **options,
    )
