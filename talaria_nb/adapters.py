"""LoRA adapters given as torch modules: which weights are theirs, and what they take beside the base."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

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


_COLUMNS = ("adapter", "weights", "elements", "weight_bytes", "bits_per_weight", "rank", "merged")
