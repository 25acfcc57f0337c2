"""Presets: recipes that Apple published, by name, each with its source."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from talaria_nb.budgets import Budget
from talaria_nb.errors import PlanError, did_you_mean
from talaria_nb.legality import CAN_BE_COMPRESSED, refused
from talaria_nb.schemes import LinearQuantize, Palettize, Scheme
from talaria_nb.subjects import subject

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from talaria_nb.choices import Pin, Where
    from talaria_nb.load import Model

WORKFLOW = "https://apple.github.io/coremltools/docs-guides/source/opt-workflow.html"
"""coremltools' guide, "Optimization Workflow", "Post-training data-free compression"."""
AFM = "https://arxiv.org/abs/2407.21075"
"""Apple Intelligence Foundation Language Models (2024), "Model Quantization": 16 columns or rows of a projection share
a table, embeddings have 8 bits per channel, some layers have 2 bits and others 4: 3.5 bits a weight on average without
significant loss, 3.7 in production."""

_GROUP = 16
_AFM_BITS = 3.6


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a preset means for one model: the arguments of `allocate`."""

    schemes: tuple[Scheme, ...]
    pins: Mapping[Where, Pin] = field(default_factory=dict)
    budget: Budget | None = None


@dataclass(frozen=True, slots=True)
class Preset:
    """A recipe that was published.

    Attributes
    ----------
    name
        What to call it.
    says
        What it does, in a sentence.
    source
        Where it was published.
    recipe
        Makes the arguments of `allocate` for a model.
    """

    name: str
    says: str
    source: str
    recipe: Callable[[Model], Recipe]


def presets() -> list[str]:
    """Return the names of all presets."""
    return list(PRESETS)


def preset(name: str | Preset) -> Preset:
    """Find a preset by name, in upper or lower case.

    Raises
    ------
    PlanError
        If there is none of that name.
    """
    if isinstance(name, Preset):
        return name
    found = {known.lower(): each for known, each in PRESETS.items()}.get(str(name).lower())
    if found is None:
        hint = did_you_mean(name, PRESETS) or f" There are: {', '.join(PRESETS)}."
        raise PlanError(f"There is no preset named {name!r}.{hint}")
    return found


def afm(bits: float = _AFM_BITS) -> Preset:
    """Return the recipe of Apple's on-device language model.

    Parameters
    ----------
    bits
        Stored bits a weight, tables included, of all weights but the embeddings. Of the whole model it would be out of
        reach where embeddings are a large part of it.
    """

    def recipe(model: Model) -> Recipe:
        embeddings, grouped, others = _kinds(model)
        pins: dict[Where, Pin] = {
            embeddings: LinearQuantize("int8", "per_channel"),
            grouped: [Palettize(nbits, "per_grouped_channel", _GROUP) for nbits in (4, 2)],
            others: [Palettize(4), Palettize(2)],
        }
        projections = (*grouped, *others)
        return Recipe(
            schemes=(LinearQuantize("int8", "per_channel"),),
            pins={where: pin for where, pin in pins.items() if where},
            budget=Budget("bits", bits, projections) if projections else None,
        )

    return Preset(
        "AFM",
        f"Projections as palettes of 2 and 4 bits, {_GROUP} channels a table, {bits:g} bits on average; embeddings as "
        "int8 per channel.",
        AFM,
        recipe,
    )


def _kinds(model: Model) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Name the embeddings, the weights whose channels divide into groups, and what else can be compressed."""
    program = model.program
    embeddings: list[str] = []
    grouped: list[str] = []
    others: list[str] = []
    for row, name in enumerate(program.weights.name):
        weight = subject(program, row)
        if refused(CAN_BE_COMPRESSED, weight) is not None:
            continue
        if any(program.ops.op_type[op].startswith("gather") for op in program.weights.readers[row]):
            embeddings.append(name)
        elif refused(Palettize(4, "per_grouped_channel", _GROUP), weight) is None:
            grouped.append(name)
        else:
            others.append(name)
    return tuple(embeddings), tuple(grouped), tuple(others)


def _uniform(name: str, says: str, scheme: Scheme) -> Preset:
    return Preset(name, says, WORKFLOW, lambda _model: Recipe(schemes=(scheme,)))


_HALF = "Half of float16 and less with minimal loss for most models"
_QUARTER = "Up to a quarter of float16, without much loss for many models"

PRESETS: Mapping[str, Preset] = {
    each.name: each
    for each in (
        *(_uniform(f"{nbits}-bit palettes", f"{_HALF}.", Palettize(nbits)) for nbits in (8, 6)),
        _uniform("int8", f"{_HALF}.", LinearQuantize("int8", "per_channel")),
        *(
            _uniform(
                f"4-bit palettes in groups of {size}",
                f"{_QUARTER}; the smaller the groups, the closer and the larger.",
                Palettize(4, "per_grouped_channel", size),
            )
            for size in (32, 16, 8)
        ),
        *(
            _uniform(
                f"int4 in blocks of {size}",
                f"{_QUARTER}; the smaller the blocks, the closer and the larger.",
                LinearQuantize("int4", "per_block", size),
            )
            for size in (64, 32, 16)
        ),
        afm(),
    )
}
"""By name: the ladder of coremltools' guide, from safe to small, and AFM's recipe. Weights that cannot be so stay as
loaded."""
