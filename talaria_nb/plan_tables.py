"""A plan's ops, weights, adapters and findings as DataFrames."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from talaria_nb.devices import UNITS
from talaria_nb.estimate import price_ops
from talaria_nb.frames import shape_text
from talaria_nb.lint import COSTS_TIME, SEVERITIES
from talaria_nb.sqnr import op_sqnr_db, weight_sqnr_db
from talaria_nb.weight_bytes import stored_weight

if TYPE_CHECKING:
    from talaria_nb.costs import CostTable
    from talaria_nb.devices import Device
    from talaria_nb.hardware import Measurement
    from talaria_nb.plan import Plan
    from talaria_nb.sqnr import Noise
    from talaria_nb.stored_tensors import Stored


def op_table(
    plan: Plan, table: CostTable, *, noise: Noise | None = None, measured: Measurement | None = None
) -> pd.DataFrame:
    """Price every op, the plan beside float16.

    Parameters
    ----------
    plan
        Any plan.
    table
        The prices of its schemes, as `Plan.cost_table` makes it.
    noise
        What the plan does to the values of the weights.
    measured
        What `tnb.measure` said of the model; nothing of it was ever tested on hardware.

    Returns
    -------
    pandas.DataFrame
        One row an op: name, op_type, module, scheme, bits, weight_bytes, latency_ms, bound and energy_mj under the
        plan, float16_weight_bytes and float16_latency_ms of the model as it was loaded, and unit, unit_reason and
        transfer_ms of where it runs; units as in `talaria_nb.frames.COLUMNS`. With `noise` sqnr_db as well, NaN for
        ops without weights and where it is not known; with `measured`, measured_ms and measured_unit, empty for ops
        that Core ML says nothing about.
    """
    costs = price_ops(table, table.columns_of(plan.scheme_of_weight), plan.int8_mask)
    dense = price_ops(table, table.start)
    program = plan.model.program
    start, rows = program.op_weights
    read = [[plan.scheme_of_weight[row] for row in rows[a:b]] for a, b in pairwise(start)]
    frame = pd.DataFrame(
        {
            "name": program.ops.name,
            "op_type": program.ops.op_type,
            "module": [program.modules.path[row] for row in program.ops.module],
            "scheme": [", ".join(dict.fromkeys(scheme.label for scheme in schemes)) for schemes in read],
            "bits": [min((scheme.bits for scheme in schemes), default=np.nan) for schemes in read],
            "weight_bytes": costs.weight_bytes.astype(np.int64),
            "float16_weight_bytes": dense.weight_bytes.astype(np.int64),
            "latency_ms": costs.op_ms,
            "float16_latency_ms": dense.op_ms,
            "bound": costs.bound,
            "unit": [UNITS[code] for code in table.unit.tolist()],
            "unit_reason": [table.unit_reasons[row] if row >= 0 else "" for row in table.unit_reason.tolist()],
            "transfer_ms": table.transfer_ms,
            "energy_mj": costs.op_mj,
        }
    )
    if noise is not None:
        frame.insert(list(frame).index("bits") + 1, "sqnr_db", op_sqnr_db(table, noise))
    if measured is not None:
        seen = measured.ops.reindex(program.ops.name)
        frame = frame.assign(
            measured_ms=seen["latency_ms"].to_numpy(dtype=np.float64),
            measured_unit=seen["unit"].fillna("").to_numpy(),
        )
    return frame


def findings(plan: Plan, device: str | Device, compute_unit: str = "all") -> pd.DataFrame:
    """List what costs more than it has to, with the time at stake under the plan.

    Returns
    -------
    pandas.DataFrame
        `Model.findings` with one more column, at_stake_ms: the estimated time of all of the finding's ops, an upper
        bound of what removing them could save; NaN for findings about size alone. The gravest first; among those, the
        most time first.
    """
    table = plan.cost_table(device, compute_unit)
    op_ms = price_ops(table, table.columns_of(plan.scheme_of_weight), plan.int8_mask).op_ms
    found = plan.model.findings
    row = plan.model.program.op_row
    at_stake = [
        float(op_ms[[row[op] for op in ops]].sum()) if kind in COSTS_TIME else np.nan
        for kind, ops in zip(found["kind"], found["ops"], strict=True)
    ]
    found = found.assign(at_stake_ms=pd.Series(at_stake, index=found.index, dtype=np.float64))
    rank = found["severity"].map({severity: place for place, severity in enumerate(SEVERITIES)})
    order = found.assign(rank=rank).sort_values(["rank", "at_stake_ms"], ascending=[True, False], kind="stable")
    return found.loc[order.index].reset_index(drop=True)


def adapters(plan: Plan) -> pd.DataFrame:
    """List the LoRA adapters and the base as `Model.adapters`, with the bytes and bits they have under the plan."""
    return plan.model.adapters_of([each.payload_bytes for each in _stored(plan)])


def weight_table(plan: Plan, *, noise: Noise | None = None) -> pd.DataFrame:
    """List what every weight takes on disk; exact, no device needed.

    Parameters
    ----------
    plan
        Any plan.
    noise
        What the plan does to the values of the weights.

    Returns
    -------
    pandas.DataFrame
        One row a weight, in file order: name, shape, scheme; weight_bytes, of which data_bytes are the elements and
        overhead_bytes masks, tables, scales and zero points; bits_per_weight, overhead included; with `noise` sqnr_db,
        NaN where it is not known. Units as in `talaria_nb.frames.COLUMNS`.
    """
    weights = plan.model.program.weights
    stored = _stored(plan)
    payload = np.array([entry.payload_bytes for entry in stored], dtype=np.int64)
    frame = pd.DataFrame(
        {
            "name": weights.name,
            "shape": [shape_text(shape) for shape in weights.shape],
            "scheme": [scheme.label for scheme in plan.scheme_of_weight],
            "weight_bytes": payload,
            "data_bytes": [entry.data_bytes for entry in stored],
            "overhead_bytes": [entry.overhead_bytes for entry in stored],
            "bits_per_weight": 8 * payload / weights.elements,
        }
    )
    return frame if noise is None else frame.assign(sqnr_db=weight_sqnr_db(noise))


def _stored(plan: Plan) -> list[Stored]:
    return [stored_weight(plan.model.program, scheme, row) for row, scheme in enumerate(plan.scheme_of_weight)]
