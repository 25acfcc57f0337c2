"""Plan → configs for coremltools' compressors of torch modules, keyed by module name.

Those compressors change the torch module before it is converted: after training, with calibration data, or while it is
trained. Their configs are keyed by regexes over module names that must match as a whole, and the first that matches
counts; so names are escaped, and every layer is named.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from coremltools.optimize.torch import layerwise_compression, palettization, quantization

from talaria_nb.errors import ExportError
from talaria_nb.schemes import Float16, LinearQuantize, Palettize, Prune, Scheme

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from talaria_nb.plan import Plan

_CONVS = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)
_LAYERS = (*_CONVS, torch.nn.Linear)
_CLUSTERED = (torch.nn.Conv2d, torch.nn.Linear, torch.nn.Embedding)
"""What coremltools' `KMeansSupportedModulesRegistry` knows; it passes over Conv1d without a word."""


@dataclass(frozen=True, slots=True)
class TorchConfigs:
    """A plan in the terms of one compressor.

    Attributes
    ----------
    config
        For that compressor; None if it covers no weight of the plan.
    modules
        Weight → name of the torch module that is compressed for it.
    not_covered
        Weight → why this compressor does not store it as planned; it stays float16.
    """

    config: Any
    modules: Mapping[str, str]
    not_covered: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Compressor:
    config_class: Any
    layers: tuple[type[torch.nn.Module], ...]
    arguments: Callable[[Scheme], dict[str, Any] | str]


def to_torch_configs(plan: Plan, compressor: str = "PostTrainingPalettizer") -> TorchConfigs:
    """Write a plan as the config of one of coremltools' compressors of torch modules.

    Parameters
    ----------
    plan
        A plan for a model that was loaded from a torch module.
    compressor
        A class of `coremltools.optimize.torch`: "PostTrainingPalettizer", "PostTrainingQuantizer", "SKMPalettizer",
        "LayerwiseCompressor" (gptq for integers, sparse_gpt for pruning), or while training "DKMPalettizer".

    Returns
    -------
    TorchConfigs
        The config, and the weights that it does not cover with the reason: other compressors do those, or none.

    Raises
    ------
    ExportError
        If the model did not come from a torch module, or the compressor is unknown.
    """
    if compressor not in _COMPRESSORS:
        raise ExportError(f"There is no compressor {compressor!r}. Choose from {', '.join(_COMPRESSORS)}.")
    module = plan.model.module
    if module is None:
        raise ExportError(f"{plan.model.program.name} was not loaded from a torch module, so it has no module names.")
    chosen = _COMPRESSORS[compressor]
    layers = dict(module.named_modules(remove_duplicate=False))
    configs: dict[str, Any] = {}
    modules: dict[str, str] = {}
    left: dict[str, str] = {}
    for weight, scheme in plan.schemes.items():
        if isinstance(scheme, Float16):
            continue
        name, reason = _module_name(plan, weight)
        layer = layers.get(name)
        if not reason and not isinstance(layer, chosen.layers):
            reason = f"{compressor} does not compress {type(layer).__name__} ({name or 'the model itself'})."
        given = reason or chosen.arguments(scheme)
        if isinstance(given, str):
            left[weight] = given
        else:
            configs[re.escape(name)] = given
            modules[weight] = name
    for name, layer in layers.items():
        # A module without an entry of its own would get the compressor's default.
        if isinstance(layer, chosen.layers):
            configs.setdefault(re.escape(name), None)
    config = chosen.config_class.from_dict({"module_name_configs": configs}) if modules else None
    return TorchConfigs(config, modules, left)


def _module_name(plan: Plan, weight: str) -> tuple[str, str]:
    """Return the module whose `weight` a weight is, or why there is none."""
    source_map = plan.model.source_map
    parameter = source_map.parameters.get(weight) or source_map.folded.get(weight)
    if parameter is None:
        return "", "No torch parameter is known for it."
    name, _, attribute = parameter.rpartition(".")
    if attribute != "weight":
        return "", f"It is the parameter {parameter}, which is not the weight of a module."
    assert plan.model.module is not None  # noqa: S101 - to_torch_configs refuses
    wanted = plan.model.module.get_submodule(name).weight
    named = plan.model.module.named_modules(remove_duplicate=False)
    owners = [path for path, owner in named if getattr(owner, "weight", None) is wanted]
    if len(owners) > 1:
        return "", f"It is tied: {' and '.join(owners)} share it, and each would be compressed by itself."
    return name, ""


def _palettize(scheme: Scheme) -> dict[str, Any] | str:
    if not isinstance(scheme, Palettize) or scheme.mode != "kmeans":
        return f"It is planned as {scheme.label}; this compressor makes k-means palettes."
    given: dict[str, Any] = {"n_bits": scheme.nbits, "cluster_dim": scheme.cluster_dim}
    if scheme.group_size is not None:
        given |= {"granularity": scheme.granularity, "group_size": scheme.group_size}
        given |= {} if scheme.channel_axis is None else {"channel_axis": scheme.channel_axis}
    return given


def _quantize(scheme: Scheme) -> dict[str, Any] | str:
    if not isinstance(scheme, LinearQuantize):
        return f"It is planned as {scheme.label}; this compressor makes integers."
    mode = "symmetric" if scheme.mode == "linear_symmetric" else "affine"
    given: dict[str, Any] = {"weight_dtype": scheme.dtype, "granularity": scheme.granularity}
    given["quantization_scheme"] = mode
    return given | ({} if scheme.block_size is None else {"block_size": scheme.block_size})


def _layerwise(scheme: Scheme) -> dict[str, Any] | str:
    if isinstance(scheme, Prune):
        if scheme.threshold is not None or scheme.block_size is not None:
            return "sparse_gpt prunes by target_sparsity or n_m_ratio alone."
        name = "target_sparsity" if scheme.n_m_ratio is None else "n_m_ratio"
        return {"algorithm": "sparse_gpt", "weight_dtype": "float32", name: getattr(scheme, name)}
    given = _quantize(scheme)
    if isinstance(given, str) or not str(given["weight_dtype"]).startswith("uint"):
        return f"It is planned as {scheme.label}; gptq makes unsigned integers, sparse_gpt prunes."
    return given | {"algorithm": "gptq"}


_COMPRESSORS: Mapping[str, _Compressor] = {
    "PostTrainingPalettizer": _Compressor(palettization.PostTrainingPalettizerConfig, _CLUSTERED, _palettize),
    "PostTrainingQuantizer": _Compressor(quantization.PostTrainingQuantizerConfig, _LAYERS, _quantize),
    "SKMPalettizer": _Compressor(palettization.SKMPalettizerConfig, _CLUSTERED, _palettize),
    "LayerwiseCompressor": _Compressor(
        layerwise_compression.LayerwiseCompressorConfig, (torch.nn.Conv2d, torch.nn.Linear), _layerwise
    ),
    "DKMPalettizer": _Compressor(palettization.DKMPalettizerConfig, _LAYERS, _palettize),
}

COMPRESSORS = tuple(_COMPRESSORS)
"""The names of coremltools' compressors that `to_torch_configs` knows."""
