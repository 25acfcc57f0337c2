"""What is legal where: one table of rules, each with the sentence that is shown to the user.

Every rule is what coremltools 9 does in `optimize/coreml/_quantization_passes.py`, tried out: it raises an error for
old targets, and skips most of the rest without one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING, Any

from talaria_nb.schemes import AsStored, Float16, Joint, LinearQuantize, Palettize, Prune, Scheme, part
from talaria_nb.subjects import (
    Subject,
    Use,
    distinct_values,
    grouped_axis,
    is_unique,
    scale_counts,
    table_counts,
    unique_nbits,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from talaria_nb.contents import Contents
    from talaria_nb.program import Shape

WEIGHT_THRESHOLD = 2048
"""coremltools compresses tensors with more elements than this (`OpPalettizerConfig.weight_threshold`'s default)."""

MIN_FILE_ELEMENTS = 10
"""Tensors with fewer elements are stored in the proto, and coremltools compresses none of those further
(`should_use_weight_file`)."""

CAN_BE_COMPRESSED = LinearQuantize("int8", "per_tensor")
"""Legal for every weight that coremltools can compress at all, on every deployment target."""

_IOS18, _IOS26 = 18, 26
_DENSE = Float16()
_STRUCTURED_READERS = (("conv", "weight"), ("linear", "weight"))
_STRUCTURED_RANKS = range(2, 6)
_MATRIX = 2


@dataclass(frozen=True, slots=True)
class Rule:
    """One reason why a scheme cannot be had.

    Attributes
    ----------
    kind
        What schemes, or parts of joint ones, the rule is about.
    broken
        Whether a part of a scheme breaks it for a weight.
    sentence
        What to tell the user then.
    """

    kind: type[object]
    broken: Callable[[Any, Subject], bool]
    sentence: Callable[[Any, Subject], str]


def _old(what: str) -> Callable[[Any, Subject], str]:
    return lambda _, weight: f"{what} need iOS18; this model targets {weight.deployment_target}."


def _before_ios18(of: Callable[[Any], bool]) -> Callable[[Any, Subject], bool]:
    return lambda scheme, weight: weight.ios < _IOS18 and of(scheme)


def _undecided(scheme: Scheme, weight: Subject) -> bool:
    return weight.channel_axes is None and not isinstance(getattr(scheme, "block_size", None), tuple)


def _uneven_groups(scheme: Palettize, weight: Subject) -> bool:
    return scheme.group_size is not None and weight.shape[grouped_axis(scheme, weight)] % scheme.group_size != 0


def _side(scheme: Palettize, weight: Subject) -> str:
    axis = grouped_axis(scheme, weight)
    sides = dict(zip(weight.channel_axes or (), ("input", "output"), strict=False))
    return f"{weight.shape[axis]:,} {sides.get(axis, f'axis-{axis}')} channels"


def _uneven_vectors(scheme: Palettize, weight: Subject) -> bool:
    axis = grouped_axis(scheme, weight)
    sizes = {weight.shape[axis]}
    for use in weight.uses:  # what coremltools' is_cluster_dim_valid looks at
        if axis == 0 and use.op_type in ("conv", "conv_transpose"):
            sizes.add(weight.shape[0] // use.groups)
    return any(size % scheme.cluster_dim for size in sizes)


def _too_few_vectors(scheme: Palettize, weight: Subject) -> bool:
    if scheme.cluster_dim == 1 or scheme.nbits is None:
        return False
    entries: int = 2**scheme.nbits
    group = weight.elements // prod(table_counts(scheme, weight))
    return group // scheme.cluster_dim < min(entries, group)


def _uneven_blocks(scheme: LinearQuantize, weight: Subject) -> bool:
    if isinstance(scheme.block_size, tuple):
        if len(scheme.block_size) != len(weight.shape):
            return False
        return any(block and size % block for size, block in zip(weight.shape, scheme.block_size, strict=True))
    if scheme.block_size is None or weight.channel_axes is None:
        return False
    return weight.shape[weight.channel_axes[0]] % scheme.block_size != 0


def _blocks_sentence(scheme: LinearQuantize, weight: Subject) -> str:
    if isinstance(scheme.block_size, tuple) or weight.channel_axes is None:
        return f"Its shape {weight.shape} cannot be divided into blocks of {scheme.block_size}."
    channels = weight.shape[weight.channel_axes[0]]
    return f"Its {channels:,} input channels cannot be divided into groups of {scheme.block_size}."


def _few_channels(scheme: Prune, weight: Subject) -> bool:
    together = scheme.block_size if scheme.n_m_ratio is None else scheme.n_m_ratio[1]
    return together is not None and together > weight.shape[scheme.dim or 0] / 2


def _small_tables(scheme: Joint, weight: Subject) -> bool:
    palette = part(scheme, Palettize)
    if palette is None or palette.nbits is None or not scheme.tables_quantized:
        return False
    entries: int = 2**palette.nbits * palette.cluster_dim
    return prod(table_counts(palette, weight)) * entries < MIN_FILE_ELEMENTS


def _crossed(scheme: Joint, weight: Subject) -> bool:
    """Whether a table would need several scales of which none covers it whole."""
    palette, linear = part(scheme, Palettize), part(scheme, LinearQuantize)
    if palette is None or linear is None or scheme.tables_quantized or weight.ios >= _IOS26:
        return False
    pairs = zip(table_counts(palette, weight), scale_counts(linear, weight), strict=True)
    return any(max(tables, scales) % min(tables, scales) for tables, scales in pairs)


def _scaled_behind_tables(scheme: Joint, weight: Subject) -> bool:
    """Whether coremltools moves the scale of the tables behind them, which it does with one of two dimensions."""
    return scheme.tables_quantized and scheme.prune is None and weight.ios >= _IOS26


def _is_vector(scheme: Joint) -> bool:
    palette = part(scheme, Palettize)
    return palette is not None and palette.cluster_dim > 1


def _integers_are_palettized(scheme: Scheme) -> bool:
    return isinstance(scheme, Joint) and isinstance(scheme.parts[0], LinearQuantize)


def _has_infinity(_: Scheme, weight: Subject) -> bool:
    return weight.contents is not None and weight.contents.has_infinity


def _hardly_anything_left(scheme: Joint, weight: Subject) -> bool:
    if scheme.prune is None or weight.contents is None:
        return False
    return weight.contents.pruned(scheme.prune).nonzeros < MIN_FILE_ELEMENTS


RULES: tuple[Rule, ...] = (
    Rule(
        Scheme,
        lambda _, weight: weight.elements <= WEIGHT_THRESHOLD,
        lambda _, weight: (
            f"It has {weight.elements:,} elements; coremltools compresses weights with more than {WEIGHT_THRESHOLD:,}."
        ),
    ),
    *(
        Rule(
            kind,
            _undecided,
            lambda *_: "The ops that read it disagree about its channel axis, so coremltools would skip it.",
        )
        for kind in (Palettize, LinearQuantize)
    ),
    Rule(Joint, _before_ios18(lambda _: True), _old("Joint schemes")),
    Rule(Palettize, _before_ios18(lambda scheme: scheme.group_size is not None), _old("Grouped palettes")),
    Rule(Palettize, _before_ios18(lambda scheme: scheme.cluster_dim > 1), _old("Vector palettes")),
    Rule(Palettize, _before_ios18(lambda scheme: scheme.nbits == 3), _old("3-bit palettes")),
    Rule(LinearQuantize, _before_ios18(lambda scheme: scheme.block_size is not None), _old("Blockwise scales")),
    Rule(LinearQuantize, _before_ios18(lambda scheme: scheme.nbits == 4), _old("4-bit integers")),
    Rule(
        Palettize,
        lambda scheme, weight: scheme.channel_axis is not None and scheme.channel_axis >= len(weight.shape),
        lambda scheme, weight: f"It has {len(weight.shape)} axes and no channel_axis {scheme.channel_axis}.",
    ),
    Rule(
        Palettize,
        _uneven_groups,
        lambda scheme, weight: f"Its {_side(scheme, weight)} cannot be divided into groups of {scheme.group_size}.",
    ),
    Rule(
        Palettize,
        _uneven_vectors,
        lambda scheme, weight: (
            f"Its {_side(scheme, weight)} (in each group of the convolution) cannot be divided into vectors of "
            f"{scheme.cluster_dim}."
        ),
    ),
    Rule(
        Palettize,
        _too_few_vectors,
        lambda scheme, _: f"It has fewer vectors of {scheme.cluster_dim} than a {scheme.nbits}-bit table has entries.",
    ),
    Rule(
        LinearQuantize,
        lambda scheme, weight: isinstance(scheme.block_size, tuple) and len(scheme.block_size) != len(weight.shape),
        lambda scheme, weight: f"The block_size {scheme.block_size} needs one number for each axis of {weight.shape}.",
    ),
    Rule(LinearQuantize, _uneven_blocks, _blocks_sentence),
    Rule(
        Prune,
        lambda scheme, weight: (
            scheme.is_structured
            and (
                any((use.op_type, use.parameter) not in _STRUCTURED_READERS for use in weight.uses)
                or len(weight.shape) not in _STRUCTURED_RANKS
            )
        ),
        lambda *_: "Only weights of conv and linear can be pruned n:m or in blocks.",
    ),
    Rule(
        Prune,
        _few_channels,
        lambda scheme, weight: (
            f"{scheme.block_size or scheme.n_m_ratio[1]} neighbours are more than half of its "
            f"{weight.shape[scheme.dim or 0]:,} channels, so coremltools would skip it."
        ),
    ),
    Rule(
        Joint,
        _small_tables,
        lambda *_: f"Its tables have fewer than {MIN_FILE_ELEMENTS} entries, so coremltools would not quantize them.",
    ),
    Rule(
        Joint,
        _crossed,
        lambda *_: "Its groups and its scales divide the channels differently, so no table could hold both.",
    ),
    Rule(
        Joint,
        lambda scheme, weight: _scaled_behind_tables(scheme, weight) and len(weight.shape) != _MATRIX,
        lambda _, weight: (
            f"It has {len(weight.shape)} dimensions; for iOS26 coremltools writes tables of integers for matrices only."
        ),
    ),
    Rule(
        Joint,
        lambda scheme, weight: _scaled_behind_tables(scheme, weight) and _is_vector(scheme),
        lambda *_: "For iOS26 coremltools 9 cannot write vectors of integers.",
    ),
)
"""In the order in which they are tried; all of them look at shapes, readers and the deployment target alone."""
VALUE_RULES: tuple[Rule, ...] = (
    Rule(
        LinearQuantize,
        _has_infinity,
        lambda *_: "It holds infinite values, so coremltools would not quantize it.",
    ),
    Rule(
        Scheme,
        lambda scheme, weight: (
            is_unique(scheme) and not _integers_are_palettized(scheme) and distinct_values(scheme, weight) > 2**8
        ),
        lambda scheme, weight: (
            f"It has {distinct_values(scheme, weight):,} distinct values; a table without loss holds 256 at most."
        ),
    ),
    Rule(
        Scheme,
        lambda scheme, weight: weight.ios < _IOS18 and is_unique(scheme) and unique_nbits(scheme, weight) == 3,
        _old("3-bit palettes"),
    ),
    Rule(
        Joint,
        _hardly_anything_left,
        lambda *_: f"Pruning leaves fewer than {MIN_FILE_ELEMENTS} elements, so coremltools would stop there.",
    ),
    Rule(
        Joint,
        lambda scheme, weight: (
            scheme.tables_quantized and is_unique(scheme) and 2 ** unique_nbits(scheme, weight) < MIN_FILE_ELEMENTS
        ),
        lambda *_: f"Its tables have fewer than {MIN_FILE_ELEMENTS} entries, so coremltools would not quantize them.",
    ),
)
"""Rules that look at the values of a weight; tried last, and only where the values are at hand."""


def refusal(
    scheme: Scheme,
    *,
    shape: Shape,
    channel_axes: tuple[int, int] | None,
    deployment_target: str,
    uses: tuple[Use, ...] = (),
    start: Scheme = _DENSE,
    contents: Contents | None = None,
) -> str | None:
    """Say why coremltools cannot store a weight under a scheme.

    Parameters
    ----------
    scheme
        The wanted scheme.
    shape, channel_axes, deployment_target, uses, start, contents
        As in `Subject`. A weight that was loaded compressed can only stay as it is: compressing it once more would add
        to its error, and its own values are lost.

    Returns
    -------
    str or None
        One sentence, or None if the scheme is legal.
    """
    return refused(scheme, Subject(shape, channel_axes, deployment_target, uses, start, contents))


def refused(scheme: Scheme, weight: Subject) -> str | None:
    """Say why coremltools cannot store a weight under a scheme; one sentence, or None if it is legal."""
    return refused_by_shape(scheme, weight) or refused_by_values(scheme, weight)


def refused_by_shape(scheme: Scheme, weight: Subject) -> str | None:
    """Say as much of `refused` as does not depend on the values of the weight."""
    if scheme == weight.start:
        return None
    if not isinstance(weight.start, Float16):
        as_loaded = weight.start.label
        return f"The package already holds it as {as_loaded}; load the uncompressed model to choose anything else."
    if part(scheme, AsStored) is not None:
        return "Only a weight that was loaded so can be stored so."
    return None if isinstance(scheme, Float16) else _first_broken(RULES, scheme, weight)


def refused_by_values(scheme: Scheme, weight: Subject) -> str | None:
    """Say the rest of `refused`, for a scheme that the shape allows."""
    if weight.contents is None or scheme == weight.start or isinstance(scheme, Float16):
        return None
    return _first_broken(VALUE_RULES, scheme, weight)


def _first_broken(rules: tuple[Rule, ...], scheme: Scheme, weight: Subject) -> str | None:
    for rule, found in _concerning(rules, scheme):
        if rule.broken(found, weight):
            return rule.sentence(found, weight)
    return None


@lru_cache(maxsize=256)
def _concerning(rules: tuple[Rule, ...], scheme: Scheme) -> tuple[tuple[Rule, Scheme], ...]:
    """List the rules about a scheme or its parts, each with what it is about."""
    about = dict.fromkeys((scheme, *scheme.parts))
    return tuple((rule, found) for rule in rules for found in about if isinstance(found, rule.kind))
