"""Plan → configs for coremltools' compressors of torch modules, keyed by module name.

Those compressors change the torch module before it is converted: after training, with calibration data, or while it is
trained. A module that its config does not name stays as it is.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

import torch
from coremltools.optimize.torch import layerwise_compression, palettization, pruning, quantization
from coremltools.optimize.torch.quantization._backend_config import _fixed_qparams_modules

from talaria_nb.errors import ExportError
from talaria_nb.schemes import Float16, LinearQuantize, Palettize, Prune, Scheme, part

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from talaria_nb.plan import Plan

_CONVS = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)
_TRANSPOSED = (torch.nn.ConvTranspose1d, torch.nn.ConvTranspose2d, torch.nn.ConvTranspose3d)
_CLUSTERED = (torch.nn.Conv2d, torch.nn.Linear, torch.nn.Embedding)
"""What coremltools' `KMeansSupportedModulesRegistry` knows; it passes over Conv1d without a word."""

_PROCESSED_TOGETHER = 128
"""Inputs that sparse_gpt looks at together, `processing_group_size` of coremltools 9; n:m begins anew there."""


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


Arguments: TypeAlias = "dict[str, Any] | None"
"""Of the config of one module, or None where the compressor cannot make the scheme."""


@dataclass(frozen=True, slots=True)
class _Compressor:
    """What a compressor can do.

    Attributes
    ----------
    config_class
        Of coremltools.
    makes
        The schemes in words.
    layers
        The modules it compresses.
    arguments
        From a scheme and the module it is for.
    exact
        Whether it passes over subclasses of these modules.
    by_regex
        Whether its module names are regexes that match as a whole, where the first that matches counts.
    shared
        Name of an argument that all modules must agree on.
    rest
        From that argument to what else the config needs, so that modules without one of their own stay as they are.
    """

    config_class: Any
    makes: str
    layers: tuple[type[torch.nn.Module], ...]
    arguments: Callable[[Scheme, torch.nn.Module], Arguments]
    exact: bool = False
    by_regex: bool = True
    shared: str | None = None
    rest: Callable[[Any], dict[str, Any]] | None = None

    def takes(self, layer: torch.nn.Module) -> bool:
        """Tell whether it compresses modules of this type."""
        return type(layer) in self.layers if self.exact else isinstance(layer, self.layers)


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

    Raises
    ------
    ExportError
        If the model did not come from a torch module, or the compressor is unknown.
    """
    found = torch_modules(plan, compressor)
    config = _COMPRESSORS[compressor].config_class.from_dict(found.document) if found.modules else None
    return TorchConfigs(config, found.modules, found.not_covered)


class TorchModules(NamedTuple):
    """The same as plain values: what `from_dict` of the compressor's config class takes, and `TorchConfigs`' rest."""

    document: dict[str, Any]
    modules: Mapping[str, str]
    not_covered: Mapping[str, str]


def torch_modules(plan: Plan, compressor: str) -> TorchModules:
    """Say in plain values what `to_torch_configs` says."""
    if compressor not in _COMPRESSORS:
        raise ExportError(f"There is no compressor {compressor!r}. Choose from {', '.join(_COMPRESSORS)}.")
    module = plan.model.module
    if module is None:
        raise ExportError(f"{plan.model.program.name} was not loaded from a torch module, so it has no module names.")
    chosen = _COMPRESSORS[compressor]
    configs: dict[str, dict[str, Any]] = {}
    modules: dict[str, str] = {}
    left: dict[str, str] = {}
    for weight, scheme in plan.schemes.items():
        if isinstance(scheme, Float16):
            continue
        try:
            name = _module_name(plan, module, weight)
            configs[name] = _arguments(weight, scheme, compressor, name, module.get_submodule(name))
            modules[weight] = name
        except _NotCoveredError as reason:
            left[weight] = str(reason)
    shared = _agree(configs, modules, left, compressor, chosen.shared) if chosen.shared and configs else None
    keyed = {re.escape(name) if chosen.by_regex else name: given for name, given in configs.items()}
    document = {"module_name_configs": keyed} | (chosen.rest(shared) if chosen.rest else {})
    return TorchModules(document, modules, left)


class _NotCoveredError(Exception):
    """Why a weight is not covered."""


def _module_name(plan: Plan, module: torch.nn.Module, weight: str) -> str:
    """Return the module whose `weight` a weight is."""
    source_map = plan.model.source_map
    parameter = source_map.parameters.get(weight) or source_map.folded.get(weight)
    if parameter is None:
        raise _NotCoveredError(f"{weight} holds no known torch parameter. {_AFTER_CONVERSION}")
    name, _, attribute = parameter.rpartition(".")
    if attribute != "weight":
        message = f"{weight} is the parameter {parameter}, not the weight of a module. {_AFTER_CONVERSION}"
        raise _NotCoveredError(message)
    wanted = module.get_submodule(name).weight
    named = module.named_modules(remove_duplicate=False)
    owners = [path for path, owner in named if getattr(owner, "weight", None) is wanted]
    if len(owners) > 1:
        raise _NotCoveredError(
            f"{weight} is tied: {' and '.join(owners)} share it, and each would be compressed by itself. "
            f"{_AFTER_CONVERSION}"
        )
    return name


def _arguments(weight: str, scheme: Scheme, compressor: str, name: str, layer: torch.nn.Module) -> dict[str, Any]:
    able = [other for other, each in _COMPRESSORS.items() if each.takes(layer) and each.arguments(scheme, layer)]
    remedy = f"Use {' or '.join(able)} for it." if able else _AFTER_CONVERSION
    chosen = _COMPRESSORS[compressor]
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


def _palettes(scheme: Scheme, _layer: torch.nn.Module) -> Arguments:
    palette, tables = part(scheme, Palettize), part(scheme, LinearQuantize)
    if palette is None or palette.mode != "kmeans" or palette.channel_axis not in (None, 0, 1):
        return None
    given: dict[str, Any] = {"n_bits": palette.nbits, "cluster_dim": palette.cluster_dim}
    if palette.group_size is not None:
        given |= {"granularity": palette.granularity, "group_size": palette.group_size}
        given |= {} if palette.channel_axis is None else {"channel_axis": palette.channel_axis}
    if scheme.parts == (palette,):
        return given
    # Each group's table would get a scale of its own.
    symmetric = tables is not None and tables.mode == "linear_symmetric"
    if scheme.parts == (palette, tables) and tables is not None and symmetric and palette.group_size is None:
        return given | {"lut_dtype": tables.dtype}
    return None


def _palettes_training(scheme: Scheme, layer: torch.nn.Module) -> Arguments:
    given = _palettes(scheme, layer)
    return None if given is None or "lut_dtype" in given or given.get("channel_axis", 0) else given


def _integers(scheme: Scheme, layer: torch.nn.Module) -> Arguments:
    if not isinstance(scheme, LinearQuantize) or not _blocks_are_parts(scheme.block_size, layer):
        return None
    given = {"weight_dtype": scheme.dtype, "granularity": scheme.granularity, "quantization_scheme": _mode(scheme)}
    return given | ({} if scheme.block_size is None else {"block_size": scheme.block_size})


def _blocks_are_parts(block_size: int | tuple[int, ...] | None, layer: torch.nn.Module) -> bool:
    """Tell whether blocks are smaller than the axes they divide; PostTrainingQuantizer skips others without a word."""
    outputs, inputs, *kernel = cast("torch.Tensor", layer.weight).shape
    transposed = isinstance(layer, _TRANSPOSED)
    if isinstance(block_size, tuple):
        of_outputs, of_inputs, *others = block_size
        return not transposed and 0 < of_outputs < outputs and 0 < of_inputs < inputs and others == [0] * len(kernel)
    return block_size is None or block_size < (outputs if transposed else inputs)


def _integers_training(scheme: Scheme, layer: torch.nn.Module) -> Arguments:
    if not isinstance(scheme, LinearQuantize) or scheme.granularity == "per_block":
        return None
    if isinstance(layer, torch.nn.Embedding) and (scheme.nbits, scheme.granularity) != (8, "per_channel"):
        return None
    return {
        "weight_dtype": f"q{scheme.dtype}",
        "activation_dtype": "float32",
        "weight_per_channel": scheme.granularity == "per_channel",
        "quantization_scheme": _mode(scheme),
    }


def _rest_in_float(quantization_scheme: str) -> dict[str, Any]:
    """Turn off what LinearQuantizer does by default: it quantizes activations, and all modules that have no config.

    An embedding must have no config at all then, and functions of a fixed range, like sigmoid, have one by default.
    """
    in_float = {
        "weight_dtype": "float32",
        "activation_dtype": "float32",
        "quantization_scheme": quantization_scheme,
    }
    by_type = dict.fromkeys((torch.nn.Embedding, torch.nn.EmbeddingBag)) | dict.fromkeys(
        _fixed_qparams_modules, in_float
    )
    return {"global_config": in_float, "module_type_configs": by_type}


def _mode(scheme: LinearQuantize) -> str:
    return "symmetric" if scheme.mode == "linear_symmetric" else "affine"


def _layerwise(scheme: Scheme, layer: torch.nn.Module) -> Arguments:
    pruned, integers = part(scheme, Prune), part(scheme, LinearQuantize)
    grouped = isinstance(layer, torch.nn.Conv2d) and layer.groups > 1
    if grouped or scheme.parts not in ((pruned,), (integers,), (pruned, integers)):
        return None
    quantized: dict[str, Any] = {"weight_dtype": "float32"}
    if integers is not None:
        # It would make signed ones unsigned, and store the scale of a whole tensor once for each channel.
        if integers.signed or integers.granularity == "per_tensor" or isinstance(integers.block_size, tuple):
            return None
        quantized = {"weight_dtype": integers.dtype, "quantization_scheme": _mode(integers)}
    if pruned is not None:
        chosen = _sparse_gpt(pruned, layer)
        blocks = integers is not None and integers.block_size is not None
        return None if chosen is None or blocks else {"algorithm": "sparse_gpt"} | chosen | quantized
    given = {"algorithm": "gptq"} | quantized
    if integers is not None and integers.block_size is not None:
        given |= {"granularity": "per_block", "block_size": integers.block_size}
    return given


def _sparse_gpt(scheme: Prune, layer: torch.nn.Module) -> Arguments:
    if scheme.target_sparsity is not None and scheme.block_size is None:
        return {"target_sparsity": scheme.target_sparsity}
    if scheme.n_m_ratio is not None and scheme.dim == 1 and _in_whole_groups(layer, scheme.n_m_ratio[1]):
        return {"n_m_ratio": scheme.n_m_ratio}
    return None


def _in_whole_groups(layer: torch.nn.Module, size: int) -> bool:
    """Tell whether sparse_gpt's groups of inputs are those of the scheme: it counts the taps of a kernel as inputs."""
    _, inputs, *kernel = cast("torch.Tensor", layer.weight).shape
    return all(width == 1 for width in kernel) and inputs % size == 0 and _PROCESSED_TOGETHER % size == 0


def _pruning(scheme: Scheme, _layer: torch.nn.Module) -> Arguments:
    if not isinstance(scheme, Prune) or scheme.threshold is not None:
        return None
    if scheme.n_m_ratio is not None:
        return {"n_m_ratio": scheme.n_m_ratio, "dim": scheme.dim} if scheme.kept else None
    if scheme.block_size is None:
        return {"target_sparsity": scheme.target_sparsity}
    return {"target_sparsity": scheme.target_sparsity, "block_size": scheme.block_size} if scheme.dim == 0 else None


_COMPRESSORS: Mapping[str, _Compressor] = {
    "PostTrainingPalettizer": _Compressor(
        palettization.PostTrainingPalettizerConfig,
        "makes k-means palettes; only one table for a whole tensor can be integers, symmetric ones",
        _CLUSTERED,
        _palettes,
    ),
    "PostTrainingQuantizer": _Compressor(
        quantization.PostTrainingQuantizerConfig,
        "makes integers, in blocks only where these are smaller than the axis",
        (*_CONVS, *_TRANSPOSED, torch.nn.Linear),
        _integers,
        shared="quantization_scheme",
    ),
    "SKMPalettizer": _Compressor(
        palettization.SKMPalettizerConfig,
        "makes k-means palettes; only one table for a whole tensor can be integers, symmetric ones",
        _CLUSTERED,
        _palettes,
    ),
    "LayerwiseCompressor": _Compressor(
        layerwise_compression.LayerwiseCompressorConfig,
        "makes unsigned integers per channel or block of input channels (gptq), or prunes by sparsity or, where a "
        "kernel is 1 wide, by n:m of input channels (sparse_gpt), of convolutions without groups",
        (torch.nn.Conv2d, torch.nn.Linear),
        _layerwise,
    ),
    "DKMPalettizer": _Compressor(
        palettization.DKMPalettizerConfig,
        "makes k-means palettes with tables of floats, for groups of output channels at most",
        (*_CONVS, torch.nn.Linear, torch.nn.Embedding),
        _palettes_training,
        exact=True,
    ),
    "LinearQuantizer": _Compressor(
        quantization.LinearQuantizerConfig,
        "makes integers per channel or tensor, of embeddings 8-bit ones per channel",
        (torch.nn.Conv2d, torch.nn.ConvTranspose2d, torch.nn.Linear, torch.nn.Embedding),
        _integers_training,
        exact=True,
        by_regex=False,
        shared="quantization_scheme",
        rest=_rest_in_float,
    ),
    "MagnitudePruner": _Compressor(
        pruning.MagnitudePrunerConfig,
        "prunes by sparsity, by n:m or by blocks of output channels",
        (*_CONVS, torch.nn.Linear),
        _pruning,
    ),
}

COMPRESSORS = tuple(_COMPRESSORS)
"""The names of coremltools' compressors that `to_torch_configs` knows."""
