"""Plan → configs for coremltools' compressors of torch modules, keyed by module name.

Those compressors change the torch module before it is converted: after training, with calibration data, or while it is
trained. A module that its config does not name stays as it is.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from talaria_nb.errors import ExportError
from talaria_nb.schemes import Float16
from talaria_nb.torch_compressors import COMPRESSORS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import torch

    from talaria_nb.plan import Plan
    from talaria_nb.schemes import Scheme


@dataclass(frozen=True, slots=True)
class TorchConfigs:
    """A plan in the terms of one compressor.

    Attributes
    ----------
    config
        For that compressor; None if it covers no weight of the plan. Do not pass None on: without a config,
        coremltools' compressors choose one that compresses every module.
    modules
        Weight → name of the torch module that is compressed for it.
    not_covered
        Weight → why this compressor does not store it as planned, and what to do; it stays float16.
    """

    config: Any
    modules: Mapping[str, str]
    not_covered: Mapping[str, str]


def to_torch_configs(plan: Plan, compressor: str = "PostTrainingPalettizer") -> TorchConfigs:
    """Write a plan as the config of one of coremltools' compressors of torch modules.

    Parameters
    ----------
    plan
        A plan for a model that was loaded from a torch module.
    compressor
        A class of `coremltools.optimize.torch`: "PostTrainingPalettizer", "PostTrainingQuantizer", "SKMPalettizer",
        "LayerwiseCompressor" (gptq for integers, sparse_gpt for pruning), or while training "DKMPalettizer",
        "LinearQuantizer" or "MagnitudePruner".

    Returns
    -------
    TorchConfigs
        The config, and the weights that it does not cover with the reason: other compressors do those, or none.
        Load the compressed module with `talaria_nb.load` to convert it and to see what its weights take.
        LinearQuantizer fuses a layer with the ReLU behind it, and then looks for the config of NAME.0, of which it
        warns that there is no such module: that can be ignored. LayerwiseCompressor takes only modules whose layers
        feed each other in a row; for others take PostTrainingQuantizer, MagnitudePruner or `plan.compress()`.

    Raises
    ------
    ExportError
        If the model did not come from a torch module, or the compressor is unknown.
    """
    found = torch_modules(plan, compressor)
    config = COMPRESSORS[compressor].config_class.from_dict(found.document) if found.modules else None
    return TorchConfigs(config, found.modules, found.not_covered)


class TorchModules(NamedTuple):
    """The same as plain values: what `from_dict` of the compressor's config class takes, and `TorchConfigs`' rest.

    `fused` are names of modules that are there only after the compressor has fused layers.
    """

    document: dict[str, Any]
    modules: Mapping[str, str]
    not_covered: Mapping[str, str]
    fused: tuple[str, ...]


def torch_modules(plan: Plan, compressor: str) -> TorchModules:
    """Say in plain values what `to_torch_configs` says."""
    if compressor not in COMPRESSORS:
        raise ExportError(f"There is no compressor {compressor!r}. Choose from {', '.join(COMPRESSORS)}.")
    module = plan.model.module
    if module is None:
        raise ExportError(f"{plan.model.program.name} was not loaded from a torch module, so it has no module names.")
    chosen = COMPRESSORS[compressor]
    configs: dict[str, dict[str, Any]] = {}
    modules: dict[str, str] = {}
    left: dict[str, str] = {}
    owners = _owners(module)
    for weight, scheme in plan.schemes.items():
        if isinstance(scheme, Float16):
            continue
        try:
            name = _module_name(plan, module, weight, owners)
            configs[name] = _arguments(weight, scheme, compressor, name, module.get_submodule(name))
            modules[weight] = name
        except _NotCoveredError as reason:
            left[weight] = str(reason)
    shared = _agree(configs, modules, left, compressor, chosen.shared) if chosen.shared and configs else None
    keyed = {re.escape(name) if chosen.by_regex else name: given for name, given in configs.items()}
    fused = {
        f"{modules[weight]}.0": modules[weight] for weight in (_before_relu(plan, modules) if chosen.fuses else ())
    }
    keyed |= {inner: configs[name] for inner, name in fused.items()}
    document = {"module_name_configs": keyed} | (chosen.rest(shared) if chosen.rest else {})
    return TorchModules(document, modules, left, tuple(fused))


def _before_relu(plan: Plan, weights: Collection[str]) -> list[str]:
    """List the weights with whose layer torch fuses the ReLU behind it: the layer is "0" of the two from then on."""
    program = plan.model.program
    ops = program.ops
    rectified = {value for row in ops.rows_of(["relu"]) for _, value in ops.inputs[row]}
    return [
        weight
        for weight in weights
        if any(rectified.intersection(ops.outputs[op]) for op in program.weights.readers[program.weight_row[weight]])
    ]


class _NotCoveredError(Exception):
    """Why a weight is not covered."""


def _owners(module: torch.nn.Module) -> dict[int, list[str]]:
    """List the modules that have each parameter or buffer as their `weight`, by its id."""
    owners: dict[int, list[str]] = {}
    tensors = (module.named_parameters(remove_duplicate=False), module.named_buffers(remove_duplicate=False))
    for name, tensor in chain(*tensors):
        path, _, attribute = name.rpartition(".")
        if attribute == "weight":
            owners.setdefault(id(tensor), []).append(path)
    return owners


def _module_name(plan: Plan, module: torch.nn.Module, weight: str, owners_of: Mapping[int, list[str]]) -> str:
    """Return the module whose `weight` a weight is."""
    source_map = plan.model.source_map
    parameter = source_map.parameters.get(weight) or source_map.folded.get(weight)
    if parameter is None:
        raise _NotCoveredError(f"{weight} holds no known torch parameter. {_AFTER_CONVERSION}")
    name, _, attribute = parameter.rpartition(".")
    if attribute != "weight":
        message = f"{weight} is the parameter {parameter}, not the weight of a module. {_AFTER_CONVERSION}"
        raise _NotCoveredError(message)
    owners = owners_of.get(id(module.get_submodule(name).weight), [])
    if len(owners) > 1:
        raise _NotCoveredError(
            f"{weight} is tied: {' and '.join(owners)} share it, and each would be compressed by itself. "
            f"{_AFTER_CONVERSION}"
        )
    return name


def _arguments(weight: str, scheme: Scheme, compressor: str, name: str, layer: torch.nn.Module) -> dict[str, Any]:
    able = [other for other, each in COMPRESSORS.items() if each.takes(layer) and each.arguments(scheme, layer)]
    remedy = f"Use {' or '.join(able)} for it." if able else _AFTER_CONVERSION
    chosen = COMPRESSORS[compressor]
    if not chosen.takes(layer):
        kind = f"{name or 'the model itself'}, of class {type(layer).__name__}"
        raise _NotCoveredError(f"{weight} belongs to {kind}, which {compressor} does not compress. {remedy}")
    given = chosen.arguments(scheme, layer)
    if given is None:
        raise _NotCoveredError(f"{weight} is planned as {scheme.label}; {compressor} {chosen.makes}. {remedy}")
    return given


_AFTER_CONVERSION = "Compress it after conversion, as plan.compress() does."


def _agree(
    configs: dict[str, dict[str, Any]], modules: dict[str, str], left: dict[str, str], compressor: str, shared: str
) -> Any:
    """Leave out the weights that differ from most in an argument that must be the same everywhere, and return it."""
    [(usual, _)] = Counter(given[shared] for given in configs.values()).most_common(1)
    for weight, name in list(modules.items()):
        own = configs[name][shared]
        if own != usual:
            left[weight] = (
                f"{weight} is planned with {shared} {own!r}; {compressor} takes one for all modules, here {usual!r}. "
                f"Plan it like the others, or compress it with a second {compressor}."
            )
            del configs[name], modules[weight]
    return usual
