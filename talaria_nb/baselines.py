"""What an exploration is compared with: plans kept under a name, and the one that changes are measured against."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import traitlets as t

from talaria_nb import wire
from talaria_nb.errors import PlanError
from talaria_nb.plan import Plan
from talaria_nb.pricing import Priced, of_this_model

if TYPE_CHECKING:
    from collections.abc import Mapping


class Baselines(Priced):
    """The part of a session that keeps plans and compares with one."""

    # What crosses to the browser; `js/src/baseline.ts` is the other side.
    snapshot_state = t.List(t.Dict(), read_only=True).tag(sync=True)
    baseline_state = t.Dict(read_only=True).tag(sync=True)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._snapshots: dict[str, Plan] = {}
        self._baseline: Plan | None = None
        super().__init__(*args, **kwargs)

    @property
    def snapshots(self) -> Mapping[str, Plan]:
        """The plans that were kept under a name by `snapshot`."""
        return MappingProxyType(self._snapshots)

    def snapshot(self, name: str) -> Plan:
        """Keep the current plan under a name in `session.snapshots`, and return it."""
        if not isinstance(name, str) or not name:
            raise PlanError("A snapshot needs a name: session.snapshot('before the head').")
        self._snapshots[name] = self.plan
        self._publish_snapshots()
        return self.plan

    def forget(self, name: str) -> None:
        """Forget a snapshot; nothing happens if there is none of that name."""
        self._snapshots.pop(name, None)
        self._publish_snapshots()

    @property
    def baseline(self) -> Plan | None:
        """The plan that every change on screen is measured against; None for the model as it was loaded.

        Settable with a `Plan`, the name of a snapshot, or None.
        """
        return self._baseline

    @baseline.setter
    def baseline(self, plan: Plan | str | None) -> None:
        if isinstance(plan, str) and plan not in self._snapshots:
            kept = f" There are: {', '.join(self._snapshots)}." if self._snapshots else ""
            raise PlanError(f"No snapshot is named {plan!r}.{kept} session.snapshot(name) keeps the current plan.")
        if isinstance(plan, str):
            self.compare(self._snapshots[plan], plan)
        elif plan is None or isinstance(plan, Plan):
            self.compare(plan, next((name for name, kept in self._snapshots.items() if kept == plan), "another plan"))
        else:
            raise PlanError(f"session.baseline takes a plan, the name of a snapshot or None, not {plan!r}.")

    def compare(self, plan: Plan | None, name: str) -> None:
        """Measure every change on screen against a plan, and call it so there; None for the model as loaded."""
        self._baseline = None if plan is None else of_this_model(plan, self.model)
        kept = None if plan is None else self._pack_kept(name, plan)
        self.set_trait("baseline_state", kept or {})

    def _pack_kept(self, name: str, plan: Plan) -> wire.Wire:
        return wire.pack_kept(name, self._columns_of(plan), plan.int8_mask)

    def _publish_snapshots(self) -> None:
        self.set_trait("snapshot_state", [self._pack_kept(name, plan) for name, plan in self._snapshots.items()])
