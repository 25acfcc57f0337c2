"""What coremltools' compressors of torch modules can do: a scheme → arguments of one module's config.

Each takes some types of layers and makes some schemes; what it would do otherwise than planned, it is not given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import torch
from coremltools.optimize.torch import layerwise_compression, palettization, pruning, quantization
from coremltools.optimize.torch.quantization._backend_config import _fixed_qparams_modules

from talaria_nb.schemes import LinearQuantize, Palettize, Prune, Scheme, part

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_CONVS = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)
_TRANSPOSED = (torch.nn.ConvTranspose1d, torch.nn.ConvTranspose2d, torch.nn.ConvTranspose3d)
_CLUSTERED = (torch.nn.Conv2d, torch.nn.Linear, torch.nn.Embedding)
"""What coremltools' `KMeansSupportedModulesRegistry` knows; it passes over Conv1d without a word."""

_PROCESSED_TOGETHER = 128
"""Inputs that sparse_gpt looks at together, `processing_group_size` of coremltools 9; n:m begins anew there."""


Arguments: TypeAlias = "dict[str, Any] | None"
"""Of the config of one module, or None where the compressor cannot make the scheme."""


@dataclass(frozen=True, slots=True)
class Compressor:
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
    fuses
        Whether it fuses layers with what is behind them before it looks for their configs.
    shared
        Name of an argument that all modules must agree on.
    rest
        From that argument to what else the config needs, so that modules without one of their own stay as they are.
    asks
        What it asks of the module as a whole, and what to do where that is not so; "" if nothing.
    """

    config_class: Any
    makes: str
    layers: tuple[type[torch.nn.Module], ...]
    arguments: Callable[[Scheme, torch.nn.Module], Arguments]
    exact: bool = False
    by_regex: bool = True
    fuses: bool = False
    shared: str | None = None
    rest: Callable[[Any], dict[str, Any]] | None = None
    asks: str = ""

    def takes(self, layer: torch.nn.Module) -> bool:
        """Tell whether it compresses modules of this type."""
        return type(layer) in self.layers if self.exact else isinstance(layer, self.layers)


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
    ranged = sorted({_named(kind) for kind in _fixed_qparams_modules})
    by_type = dict.fromkeys(("Embedding", "EmbeddingBag")) | dict.fromkeys(ranged, in_float)
    return {"global_config": in_float, "module_type_configs": by_type}


def _named(kind: Any) -> str:
    """Name a class, function or method as coremltools' configs do."""
    if isinstance(kind, str):
        return kind
    name: str = kind.__name__
    return f"torch.{name}" if getattr(torch, name, None) is kind else name


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


COMPRESSORS: Mapping[str, Compressor] = {
    "PostTrainingPalettizer": Compressor(
        palettization.PostTrainingPalettizerConfig,
        "makes k-means palettes; only one table for a whole tensor can be integers, symmetric ones",
        _CLUSTERED,
        _palettes,
    ),
    "PostTrainingQuantizer": Compressor(
        quantization.PostTrainingQuantizerConfig,
        "makes integers, in blocks only where these are smaller than the axis",
        (*_CONVS, *_TRANSPOSED, torch.nn.Linear),
        _integers,
        shared="quantization_scheme",
    ),
    "SKMPalettizer": Compressor(
        palettization.SKMPalettizerConfig,
        "makes k-means palettes; only one table for a whole tensor can be integers, symmetric ones",
        _CLUSTERED,
        _palettes,
    ),
    "LayerwiseCompressor": Compressor(
        layerwise_compression.LayerwiseCompressorConfig,
        "makes unsigned integers per channel or block of input channels (gptq), or prunes by sparsity or, where a "
        "kernel is 1 wide, by n:m of input channels (sparse_gpt), of convolutions without groups",
        (torch.nn.Conv2d, torch.nn.Linear),
        _layerwise,
        asks=(
            "LayerwiseCompressor takes only modules whose layers feed each other in a row: for others take "
            "PostTrainingQuantizer, MagnitudePruner or plan.compress(), or give it a part that is such a row."
        ),
    ),
    "DKMPalettizer": Compressor(
        palettization.DKMPalettizerConfig,
        "makes k-means palettes with tables of floats, for groups of output channels at most",
        (*_CONVS, torch.nn.Linear, torch.nn.Embedding),
        _palettes_training,
        exact=True,
    ),
    "LinearQuantizer": Compressor(
        quantization.LinearQuantizerConfig,
        "makes integers per channel or tensor, of embeddings 8-bit ones per channel",
        (torch.nn.Conv2d, torch.nn.ConvTranspose2d, torch.nn.Linear, torch.nn.Embedding),
        _integers_training,
        exact=True,
        by_regex=False,
        fuses=True,
        shared="quantization_scheme",
        rest=_rest_in_float,
    ),
    "MagnitudePruner": Compressor(
        pruning.MagnitudePrunerConfig,
        "prunes by sparsity, by n:m or by blocks of output channels",
        (*_CONVS, torch.nn.Linear),
        _pruning,
    ),
}
"""By the names of coremltools' classes; `to_torch_configs` knows these."""
