"""What a session's plan and its alternatives cost: the cost table on its device, and the errors of weights in it."""

from __future__ import annotations

import asyncio
import weakref
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import traitlets as t

from talaria_nb import wire
from talaria_nb.costs import CostTable, cost_table
from talaria_nb.devices import device as find_device
from talaria_nb.devices import listed_device
from talaria_nb.errors import PlanError, SchemeError
from talaria_nb.menu import Menu
from talaria_nb.plan import Plan
from talaria_nb.sweep import Sweep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from talaria_nb.load import Model
    from talaria_nb.schemes import Scheme


def of_this_model(plan: Plan, model: Model) -> Plan:
    """Return the plan if it is one of this model.

    Raises
    ------
    PlanError
        If it is not.
    """
    if plan.model.program.fingerprint != model.program.fingerprint:
        message = (
            f"This plan is for {plan.model.program.name}, which is another model than this session's "
            f"{model.program.name}. Start a session for it with tnb.explore(plan)."
        )
        raise PlanError(message)
    return plan


class Priced(t.HasTraits):
    """The part of a session that prices every weight under every scheme on a device.

    Attributes
    ----------
    device
        Name of the device that latency is estimated for, one of `tnb.devices()` or a chip; settable.
    compute_unit
        One of `talaria_nb.devices.COMPUTE_UNITS`: where the app lets Core ML run the model; settable.
    plan
        The current `Plan`; settable.
    """

    device = t.Unicode().tag(sync=True)
    compute_unit = t.Unicode().tag(sync=True)
    plan = t.Instance(Plan)

    # What crosses to the browser; `js/src/protocol.ts` is the other side.
    costs = t.Dict(read_only=True).tag(sync=True)
    sweep_state = t.Dict(read_only=True).tag(sync=True)

    def __init__(self, plan: Plan, device: str, compute_unit: str) -> None:
        self._model = plan.model
        self._menu = Menu.default()
        self._table = _cost_table(plan, device, compute_unit, self._menu)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sweep = Sweep(self._model, partial(call_living, weakref.WeakMethod(self._have_news_shown)))
        self._shown = self._sweep.found
        super().__init__(device=self._table.device, compute_unit=compute_unit, plan=plan)

    @property
    def model(self) -> Model:
        """The model under exploration."""
        return self._model

    @property
    def menu(self) -> Menu:
        """The schemes offered for every weight; settable: `session.menu = session.menu.add(tnb.Prune(0.9))`.

        A scheme that is removed stays with the weights that have it, and is offered to no other.
        """
        return self._menu

    @menu.setter
    def menu(self, menu: Menu) -> None:
        if not isinstance(menu, Menu):
            message = f"session.menu takes a tnb.Menu, not {menu!r}. Start from tnb.Menu.default()."
            raise SchemeError(message)
        self._menu = menu
        # Columns keep their place, for browsers may be sending edits that name them.
        self._reprice((*self._table.schemes, *menu))

    @property
    def cost_table(self) -> CostTable:
        """Prices of every weight under every scheme on the device, with what is known of errors by now."""
        return self._table

    def find_errors(self, *, wait: bool = True) -> None:
        """Find what every scheme offered does to the values of every weight, and show it.

        `tnb.explore` begins with this in the background; from then on, schemes that are added are looked at too.

        Parameters
        ----------
        wait
            Whether to return when all errors are known, rather than at once.

        Raises
        ------
        TalariaError
            If the values of a weight cannot be read.
        """
        with suppress(RuntimeError):  # a script has no loop
            self._loop = asyncio.get_running_loop()
        try:
            self._sweep.ask(self._table.schemes)
            if wait:
                self._publish_sweep()
                self._sweep.wait()
                self._show_errors()
        finally:
            self._publish_sweep()

    @t.validate("device")
    def _known_device(self, proposal: t.Bunch) -> str:
        return listed_device(proposal["value"]).name

    @t.validate("compute_unit")
    def _known_unit(self, proposal: t.Bunch) -> str:
        unit: str = proposal["value"]
        find_device(self._table.device).unit(unit)
        return unit

    @t.observe("device", "compute_unit")
    def _on_target(self, _change: t.Bunch) -> None:
        if self.compute_unit not in find_device(self.device).compute_units:
            self.compute_unit = "all"
        elif (self.device, self.compute_unit) != (self._table.device, self._table.compute_unit):
            self._reprice(self._table.schemes)

    @t.validate("plan")
    def _plan_for_this_model(self, proposal: t.Bunch) -> Plan:
        return of_this_model(proposal["value"], self._model)

    def _columns_of(self, plan: Plan) -> NDArray[np.uint16]:
        """Return the plan's columns, after widening the cost table if it lacks one of the plan's schemes."""
        if not set(plan.scheme_of_weight) <= self._table.column.keys():
            self._reprice((*self._table.schemes, *plan.scheme_of_weight))
        return self._table.columns_of(plan.scheme_of_weight).astype(np.uint16)

    def _reprice(self, schemes: Iterable[Scheme]) -> None:
        self._table = _cost_table(self.plan, self.device, self.compute_unit, schemes)
        self._show_errors()
        if self._sweep.is_asked:
            self._sweep.ask(self._table.schemes)
            self._publish_sweep()

    def _adopt_errors(self) -> None:
        """Show errors that came in a script, which has no loop to show them on."""
        if self._shown is not self._sweep.found:
            self._show_errors()

    def _show_errors(self) -> None:
        """Put the errors that are known into the cost table, and publish it."""
        self._shown = self._sweep.found
        unknown = np.full(len(self._shown.signal), np.nan)
        columns = [self._shown.squared_error.get(scheme, unknown) for scheme in self._table.schemes]
        self._table = replace(
            self._table, signal=self._shown.signal, squared_error=np.stack(columns, axis=1, dtype=np.float32)
        )
        self._publish_costs()

    def _have_news_shown(self) -> None:
        """Have news shown on the kernel's own thread, for widgets are not made for others; called on the sweep's."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(call_living, weakref.WeakMethod(self._show_news))

    def _show_news(self) -> None:
        self._adopt_errors()
        self._publish_sweep()

    def _publish_sweep(self) -> None:
        """Say whether errors are being found, and why they cannot be."""
        self.set_trait("sweep_state", {"running": self._sweep.is_running, "refusal": self._sweep.refusal})

    def _publish_costs(self) -> None:
        units = find_device(self._table.device).compute_units
        self.set_trait("costs", wire.pack_costs(self._table) | wire.pack_menu(self._table, self._menu, units))


def call_living(method: weakref.WeakMethod[Callable[[], None]]) -> None:
    """Call a method of an object that may be gone."""
    living = method()
    if living is not None:
        living()


def _cost_table(plan: Plan, device: str, compute_unit: str, menu: Iterable[Scheme]) -> CostTable:
    """Price the menu, widened by the plan's own schemes; columns that were there keep their place."""
    return cost_table(
        plan.model.program,
        listed_device(device),
        compute_unit=compute_unit,
        schemes=(*menu, *plan.scheme_of_weight),
    )
