"""What was measured of one plan on one machine, and for which ops of another plan it still holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from talaria_nb.errors import DeviceError, PlanError
from talaria_nb.estimate import sum_by_op
from talaria_nb.hardware import Measurement
from talaria_nb.plan_tables import op_table

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from talaria_nb.costs import CostTable
    from talaria_nb.plan import Plan
    from talaria_nb.sqnr import Noise


@dataclass(frozen=True, slots=True)
class Measured:
    """A measurement, the plan that was measured, and the device that stands for the machine.

    Raises
    ------
    PlanError
        If no op of the plan's model was measured.
    """

    measurement: Measurement
    plan: Plan
    device: str

    def __post_init__(self) -> None:
        program = self.plan.model.program
        if not self.measurement.ops.index.isin(program.op_row).any():
            message = f"No op of {program.name} is among those that were measured: it was another model."
            raise PlanError(message)

    def holds_for(self, plan: Plan, table: CostTable) -> NDArray[np.bool_]:
        """Tell which ops of another plan, priced by a table, are stored as they were measured. Shape (ops,)."""
        target = (self.device, self.measurement.compute_unit)
        if target != (table.device, table.compute_unit) or self.plan.int8_ops != plan.int8_ops:
            return np.zeros(len(table.launch_ms), dtype=bool)
        then = table.columns_of(self.plan.scheme_of_weight)
        read, now = table.op_weights, table.columns_of(plan.scheme_of_weight)
        changed = sum_by_op(table, then[read] != now[read])
        return np.equal(changed, 0)


def check_unit(measurement: Measurement, table: CostTable) -> None:
    """Refuse a measurement on other compute units than those that a table prices, or none, with a `DeviceError`."""
    if not isinstance(measurement, Measurement):  # notebooks are untyped
        message = f"session.measured takes what tnb.measure() returns, not {measurement!r:.80}."
        raise DeviceError(message)
    if measurement.compute_unit != table.compute_unit:
        message = (
            f"This was measured with compute_unit={measurement.compute_unit!r}, but the session prices "
            f"{table.compute_unit!r}. Measure with that."
        )
        raise DeviceError(message)


def measured_ops(plan: Plan, table: CostTable, noise: Noise, measured: Measured | None) -> pd.DataFrame:
    """Build the table of a plan's ops, with what was measured where it holds; see `plan_tables.op_table`."""
    frame = op_table(plan, table, noise=noise, measured=None if measured is None else measured.measurement)
    if measured is not None:
        changed = ~measured.holds_for(plan, table)
        frame.loc[changed, "measured_ms"] = np.nan
        frame.loc[changed, "measured_unit"] = ""
    return frame
