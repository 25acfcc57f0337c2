"""LoRA adapters: which weights of a torch module or of a package's functions are theirs, and what they take."""

from __future__ import annotations

import re
from math import prod
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from talaria_nb.functions import FunctionBytes
    from talaria_nb.program import Program

BASE = "base"
_LORA = re.compile(r"(?:^|\.)lora_(?:embedding_)?(?P<side>[AB])(?:\.(?P<adapter>\w+))??(?:\.weight)?$")
"""Parameter names as peft writes them (`q.lora_A.default.weight`), and plain ones (`q.lora_A`, `q.lora_A.weight`)."""


def adapters_frame(
    program: Program, parameters: Mapping[str, str], payload_bytes: Sequence[int], in_module: Iterable[str]
) -> pd.DataFrame:
    """Build `Model.adapters` and `Plan.adapters`: one row an adapter, then one for the base.

    Parameters
    ----------
    program
        The program.
    parameters
        Weight name → torch parameter.
    payload_bytes
        Bytes of each weight's data, tables and scales.
    in_module
        All parameter names of the torch module; empty where there is none.

    Returns
    -------
    pandas.DataFrame
        Columns as in `talaria_nb.frames.COLUMNS`. Empty for a model without adapters.
    """
    weights = program.weights
    lora = {name: match for name in (*in_module, *parameters.values()) if (match := _LORA.search(name))}
    if not lora:
        return pd.DataFrame(columns=_COLUMNS)
    adapter_of = {name: match["adapter"] or "default" for name, match in lora.items()}
    owners = [adapter_of.get(parameters.get(name, ""), BASE) for name in weights.name]
    held = {parameters.get(name, "") for name in weights.name}
    rows: list[tuple[str, int, int, int, float, int, int]] = []
    for adapter in (*dict.fromkeys(adapter_of.values()), BASE):
        own = [row for row, owner in enumerate(owners) if owner == adapter]
        elements, nbytes = int(weights.elements[own].sum()), sum(payload_bytes[row] for row in own)
        ranks = [min(weights.shape[row]) for row in own] if adapter != BASE else []
        merged = sum(owner == adapter and name not in held for name, owner in adapter_of.items())
        bits = 8 * nbytes / elements if elements else 0.0
        rows.append((adapter, len(own), elements, nbytes, bits, max(ranks, default=0), merged))
    return pd.DataFrame(rows, columns=_COLUMNS)


def function_adapters_frame(
    functions: Sequence[FunctionBytes], planned: tuple[str, Mapping[str, int]] | None = None
) -> pd.DataFrame:
    """Build `Model.adapters` and `Plan.adapters` of a package with a function for each adapter.

    The weights that all functions share are the base; what a function has besides is its adapter. A weight that some
    functions share, but not all, counts in each of them.

    Parameters
    ----------
    functions
        Of the whole package.
    planned
        One of the functions and the bytes of its weights by name, to count that function and the base only.

    Returns
    -------
    pandas.DataFrame
        Columns as in `talaria_nb.frames.COLUMNS`. Empty where the functions share no weight, or all.
    """
    owned = {each.name: {weight.records: weight for weight in each.weights} for each in functions if each.weights}
    shared = set.intersection(*map(set, owned.values())) if len(owned) > 1 else set()
    if not shared or all(own.keys() == shared for own in owned.values()):
        return pd.DataFrame(columns=_COLUMNS)
    function, payload = planned or (next(iter(owned)), {})
    parts = {name: own.keys() - shared for name, own in owned.items() if planned is None or name == function}
    rows: list[tuple[str, int, int, int, float, int, int]] = []
    for name, records in (*parts.items(), (BASE, shared)):
        held = [owned[name if name in parts else function][at] for at in records]
        elements = sum(prod(weight.shape) for weight in held)
        nbytes = sum(payload.get(weight.name, weight.payload_bytes) for weight in held)
        rank = max((min(weight.shape[:2]) for weight in held), default=0) if name in parts else 0
        rows.append((name, len(held), elements, nbytes, 8 * nbytes / elements if elements else 0.0, rank, 0))
    return pd.DataFrame(rows, columns=_COLUMNS)


_COLUMNS = ("adapter", "weights", "elements", "weight_bytes", "bits_per_weight", "rank", "merged")
