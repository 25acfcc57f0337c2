"""Schemes: how one weight is stored.

A scheme is a value: immutable, hashable, ordered by its key. Simple schemes join with `+`, in the order in which
coremltools applies them: `Prune(0.5) + Palettize(4)`. What is legal where is said in `legality.py`.
"""

from talaria_nb.schemes.base import AsStored, Float16, Scheme
from talaria_nb.schemes.joint import Joint, is_determined, part
from talaria_nb.schemes.linear import LinearDtype, LinearGranularity, LinearMode, LinearQuantize
from talaria_nb.schemes.palettes import PaletteGranularity, PaletteMode, Palettize
from talaria_nb.schemes.pruning import Prune

__all__ = [
    "AsStored",
    "Float16",
    "Joint",
    "LinearDtype",
    "LinearGranularity",
    "LinearMode",
    "LinearQuantize",
    "PaletteGranularity",
    "PaletteMode",
    "Palettize",
    "Prune",
    "Scheme",
    "is_determined",
    "part",
]
