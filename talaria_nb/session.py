"""Session: one exploration of a model on a device. The store that all views share."""

from __future__ import annotations

import sys
from functools import cached_property
from typing import TYPE_CHECKING, Any

import anywidget
import numpy as np
import traitlets as t

from talaria_nb import wire
from talaria_nb.activation_legality import activation_ops
from talaria_nb.allocate import allocate
from talaria_nb.allocation import Allocation
from talaria_nb.budgets import Budget
from talaria_nb.bundles import SESSION_BUNDLE
from talaria_nb.devices import devices
from talaria_nb.errors import EvaluationError, PlanError, SessionError, did_you_mean
from talaria_nb.estimate import Estimate, price
from talaria_nb.exploration import Exploration
from talaria_nb.goals import Goals
from talaria_nb.history import History, history_frame
from talaria_nb.lasting import Lasting
from talaria_nb.losses import Losses
from talaria_nb.matching import listed
from talaria_nb.measured import Measured, check_unit, measured_ops
from talaria_nb.pareto import pareto
from talaria_nb.plan import Plan
from talaria_nb.refine import Refined, refine
from talaria_nb.refine_menu import Refinement, arguments, step, unavailable
from talaria_nb.requests import respond
from talaria_nb.sqnr import known_noise
from talaria_nb.views import Charts, Details, Explorer, Graph, Sliders, Summary, Table, front_widget, let_go

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    import pandas as pd
    import plotly.graph_objects as go

    from talaria_nb.allocator import Budgets
    from talaria_nb.budgets import Metric
    from talaria_nb.evaluations import PlanKey
    from talaria_nb.hardware import Measurement
    from talaria_nb.load import Model


VIEWS = ("explorer", "summary", "table", "graph", "sliders", "details", "charts")
"""Properties of a session that are made when they are first asked for."""

SETTABLE = (
    "plan",
    "selection",
    "device",
    "compute_unit",
    "budgets",
    "baseline",
    "menu",
    "error",
    "measured",
)
"""What people set on a session."""


class Session(Losses, Goals, anywidget.AnyWidget):
    """One exploration: a model, a device, the history of plans and the selection.

    Made by `tnb.explore`. All views of a session show the same state; edits in the browser arrive here debounced, and
    edits made here reach every view.

    Attributes
    ----------
    plan : Plan
        The current plan; settable. This and the next four are traits: `session.observe(hear, "plan")` calls `hear` with
        every change, wherever it was made, and `traitlets.link` ties them to other widgets.
    selection : tuple of str
        Names of the selected ops; settable with an op's name or any iterable of them.
    device : str
        Name of the device that latency is estimated for; settable with any name of `tnb.devices()`.
    compute_unit : str
        One of `talaria_nb.devices.COMPUTE_UNITS`: where the app lets Core ML run the model; settable.
    budgets : tuple of Budget
        The most that the plan should take; settable with "4 MB", ["4 MB", "5 ms"], {"size_bytes": 4e6} or None.
    baseline : Plan or None
        What every change on screen is measured against; settable, with the name of a snapshot, too.
    menu : Menu
        The schemes offered for every weight; settable.
    error : ErrorTable or None
        Errors of outputs: their sum is minimised, and what they say of a plan as a whole is shown; settable with what
        `tnb.sensitivity` returns.
    measured : Measurement or None
        What was measured of the plan; settable with what `tnb.measure` returns.
    """

    _esm = SESSION_BUNDLE

    selection: t.TraitType[Any, Any] = t.TraitType(())

    # What crosses to the browser; `js/src/protocol.ts` is the other side.
    name = t.Unicode(read_only=True).tag(sync=True)
    devices = t.List(t.Unicode(), read_only=True).tag(sync=True)
    program = t.Dict(read_only=True).tag(sync=True)
    measured_state = t.Dict(read_only=True).tag(sync=True)
    plan_state = t.Dict(read_only=True).tag(sync=True)
    selected_ops = t.List(t.Int()).tag(sync=True)
    edits = t.List(t.Dict()).tag(sync=True)
    request = t.Dict().tag(sync=True)
    response = t.Dict(read_only=True).tag(sync=True)
    progress = t.Dict(read_only=True).tag(sync=True)
    refine_state = t.Dict(read_only=True).tag(sync=True)
    still_class = t.Unicode(read_only=True).tag(sync=True)
    resume_call = t.Unicode(read_only=True).tag(sync=True)

    def __init__(self, model_or_plan: Model | Plan, device: str, compute_unit: str = "all") -> None:
        plan = model_or_plan if isinstance(model_or_plan, Plan) else Plan(model_or_plan)
        super().__init__(plan, device, compute_unit)
        self._history = History(self._columns_of(plan), plan.int8_mask)
        self._can_read_int8 = frozenset(activation_ops(self._model.program))
        self._acknowledged: dict[str, int] = {}
        self._answered: set[object] = set()
        self._measured: Measured | None = None
        self._lasting: Lasting | None = None
        self._fronts: list[go.FigureWidget] = []
        self._budgets_of: dict[PlanKey, tuple[Budget, ...]] = {}
        self._refinement = Refinement(self)
        with self.hold_sync():
            self.set_trait("name", self._model.program.name)
            self.set_trait("devices", devices())
            self.set_trait("program", wire.pack_program(self._model))
            self._publish_costs()
            self._publish_history()

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse what a session does not have: a misspelt name would change nothing, without a word."""
        if not name.startswith("_") and not hasattr(type(self), name):
            hint = did_you_mean(name, SETTABLE)
            raise SessionError(f"A session has no {name!r}.{hint} What can be set is {', '.join(SETTABLE)}.")
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        return f"<talaria_nb.Session {self._model.program.name} on {self.device}: {self.plan!r}>"

    def _repr_mimebundle_(self, **_kwargs: object) -> tuple[dict[str, Any], dict[str, Any]]:
        """Show as text: what is drawn is `session.explorer` and the other views."""
        return {"text/plain": repr(self)}, {}

    @property
    def estimate(self) -> Estimate:
        """Totals of the current plan on the current device."""
        self._adopt_errors()
        return price(self._table, self._history.columns, self._history.int8)

    @property
    def ops(self) -> pd.DataFrame:
        """Every op under the current plan on the current device, as `Plan.table`.

        sqnr_db is NaN for what `find_errors` has not found yet. Where `measured` is given, measured_ms and
        measured_unit are empty for ops whose weights are stored otherwise than when it was measured.
        """
        self._adopt_errors()
        return measured_ops(self.plan, self._table, known_noise(self._table, self._history.columns), self._measured)

    @property
    def measured(self) -> Measurement | None:
        """What was measured of the plan, shown with a dot in place of estimates; settable with what `tnb.measure` says.

        Set it while `plan` is what was measured and `device` the machine: `session.measured = tnb.measure(compressed)`.
        It stands for that plan on that device; of other plans, for the ops whose weights are stored as they were then.
        Nothing of it was ever tested on hardware.
        """
        return None if self._measured is None else self._measured.measurement

    @measured.setter
    def measured(self, measurement: Measurement | None) -> None:
        if measurement is not None:
            check_unit(measurement, self._table)
        self._measured = None if measurement is None else Measured(measurement, self.plan, self.device)
        self._publish_measured()

    @property
    def refinement(self) -> Refinement:
        """The runs of `refine` from the Optimize menu."""
        return self._refinement

    @cached_property
    def explorer(self) -> Explorer:
        """The view of everything at once."""
        return Explorer(self)

    @cached_property
    def summary(self) -> Summary:
        """The view of the totals."""
        return Summary(self)

    @cached_property
    def table(self) -> Table:
        """The view of the ops."""
        return Table(self)

    @cached_property
    def graph(self) -> Graph:
        """The view of the computation graph."""
        return Graph(self)

    @cached_property
    def details(self) -> Details:
        """The view of everything that is known about the selected op, with its weights' values and its source."""
        return Details(self)

    @cached_property
    def sliders(self) -> Sliders:
        """The view with one scheme and one slider for the selected ops, or for all weights."""
        return Sliders(self)

    @cached_property
    def charts(self) -> Charts:
        """Plotly figures that follow the plan and share the selection, such as `session.charts.roofline`."""
        return Charts(self)

    def close(self) -> None:
        """Close all views in the browser, write what is to be kept, and end the work in the background."""
        if hasattr(self, "_refinement"):  # else its model or device was refused, and Python closes what there is of it
            self._end()
        super().close()

    def _end(self) -> None:
        self._sweep.stop()
        self._refinement.cancel()
        if not sys.is_finalizing():  # ipywidgets closes what is left then, and the file is written before
            if self._lasting is not None:
                self._lasting.stop()
            made = [self.__dict__.pop(name) for name in VIEWS if name in self.__dict__]
            for view in made:
                view.close()
            for figure in self._fronts:
                let_go(figure)
            self._fronts.clear()
            self.unobserve_all()

    def allocate(self, budget: Budgets | None = None, **options: Any) -> Allocation:
        """Find the plan of least error within a budget and take it, as one step that undo takes back.

        Parameters
        ----------
        budget, options
            As in `tnb.allocate`, on the session's device. Unless schemes are given, or a preset, it is the session's
            menu that weights may be; unless error is given, it is `session.error` that is minimised. No budget means
            `session.budgets`.

        Raises
        ------
        TalariaError
            As `tnb.allocate`; the plan stays as it is.
        """
        if options.get("preset") is None:
            options.setdefault("schemes", self._menu)
            options.setdefault("error", self.error)
            budget = budget or self.budgets or None
        priced = {"device": self.device, "compute_unit": self.compute_unit, "table": self._table}
        found = allocate(self.plan, budget, **{**priced, **options})
        label = " and ".join(each.text for each in found.spent) or "a preset"
        self.take(found, f"best plan for {label}")
        return found

    @property
    def plan_budgets(self) -> tuple[Budget, ...]:
        """The budgets that the current plan was found for; that of any other plan is its size."""
        return self._budgets_of.get(self.plan.key) or (Budget("size", self.estimate.size_bytes),)

    def refine(self, data: Iterable[Any] | None = None, **options: Any) -> Refined:
        """Make the current plan better by measuring plans whole, and take it, as one step that undo takes back.

        Parameters
        ----------
        data, options
            As in `tnb.refine`, on the session's device, with its menu and error. Unless given, data and metric are
            those of the sensitivity that is `session.error`, and the budget is `plan_budgets`.

        Raises
        ------
        TalariaError
            As `tnb.refine`, or if there are no data; the plan stays as it is.
        """
        given = arguments(self) | ({} if data is None else {"data": data}) | options
        if "data" not in given:
            raise EvaluationError(unavailable(self))
        found = refine(self.plan, **given)
        self.take(found, step(found, given))
        return found

    def take(self, plan: Plan, label: str, gesture: str = "") -> None:
        """Make a plan the current one, as a step of the history that is called so.

        Steps of one gesture, if it has a name, are one.
        """
        if isinstance(plan, Allocation):
            self._budgets_of[plan.key] = tuple(plan.spent)
        columns, int8 = self._columns_of(plan), plan.int8_mask
        history = self._history.set(
            range(len(columns)),
            columns.tolist(),
            ops=range(len(int8)),
            int8=int8.tolist(),
            label=label,
            gesture=gesture,
        )
        if history is not self._history:
            self._adopt(history)

    def pareto(self, along: Metric = "bits", **options: Any) -> go.FigureWidget:
        """Draw the best plans over a range of budgets on the session's device; a click on one takes it.

        Parameters
        ----------
        along, options
            As in `tnb.pareto`. Unless schemes are given, it is the session's menu that weights may be; unless error is
            given, it is `session.error` that is minimised.

        Returns
        -------
        plotly.graph_objects.FigureWidget
            With a marker that follows the session's plan. It stays with the device that the session had.
        """
        options.setdefault("schemes", self._menu)
        options.setdefault("error", self.error)
        priced = {"device": self.device, "compute_unit": self.compute_unit}
        figure = front_widget(pareto(self.plan, along=along, **{**priced, **options}), self)
        self._fronts.append(figure)
        return figure

    def undo(self) -> None:
        """Take the last step back; nothing happens if there is none."""
        self._adopt(self._history.undo())

    def redo(self) -> None:
        """Take the last undone step again; nothing happens if there is none."""
        self._adopt(self._history.redo())

    def go_to(self, step: int) -> None:
        """Undo or redo until so many steps of `session.history` are applied."""
        self._adopt(self._history.at(step))

    @property
    def history(self) -> pd.DataFrame:
        """The steps so far, indexed from 0, the start: label, size_bytes, latency_ms and bits_per_weight after each.

        Undone steps are among them, until another takes their place.
        """
        return history_frame(self._history, self._table)

    @property
    def exploration(self) -> Exploration:
        """What lasts of this session: all but what can be found again from the model."""
        return Exploration(
            device=self.device,
            compute_unit=self.compute_unit,
            schemes=self._table.schemes,
            history=self._history,
            budgets=dict(self.budget_state),
            selection=tuple(self.selection),
            snapshots=dict(self._snapshots),
            baseline=None if self._baseline is None else (str(self.baseline_state["name"]), self._baseline),
        )

    def take_up(self, exploration: Exploration) -> None:
        """Go on where another session on this model ended, with all of its history."""
        self.device, self.compute_unit = exploration.device, exploration.compute_unit
        self._reprice((*self._table.schemes, *exploration.schemes))
        self.budget_state = dict(exploration.budgets)
        self._adopt(exploration.history_in(self._table))
        self._snapshots = dict(exploration.snapshots)
        self._publish_snapshots()
        name, plan = exploration.baseline or ("", None)
        self.compare(plan, name)
        self.selection = exploration.selection

    def keep(self, path: Path, call: str, *, is_kept: bool) -> None:
        """Keep the exploration in a file from its next change on, and a still picture of it in the notebook.

        The call that goes on from that file is what every view says once the kernel has ended, if anything is kept.
        """
        self.set_trait("resume_call", call if is_kept else "")
        self._lasting = Lasting(self, path, call)
        self.set_trait("still_class", self._lasting.still_class)

    @t.validate("selection")
    def _known_ops(self, proposal: t.Bunch) -> tuple[str, ...]:
        names = tuple(listed(proposal["value"], "Ops are selected by name"))
        unknown = [name for name in names if name not in self._model.program.op_row]
        if unknown:
            message = f"{self._model.program.name} has no op named {unknown[0]!r}. model.ops lists them all."
            raise PlanError(message)
        return names

    @t.observe("plan")
    def _on_plan(self, change: t.Bunch) -> None:
        if change["old"] is t.Undefined or change["old"] is None:
            return
        self.take(change["new"], "set in Python")

    @t.observe("selection")
    def _on_selection(self, change: t.Bunch) -> None:
        rows = [self._model.program.op_row[name] for name in change["new"]]
        if rows != self.selected_ops:
            self.selected_ops = rows

    @t.observe("selected_ops")
    def _on_selected_ops(self, change: t.Bunch) -> None:
        names = self._model.program.ops.name
        self.selection = tuple(names[row] for row in change["new"] if 0 <= row < len(names))

    @t.observe("edits")
    def _on_edits(self, change: t.Bunch) -> None:
        """Apply what browsers did while Python was busy, each edit once, in order."""
        history = self._history
        for edit in change["new"]:
            client, sequence = str(edit["client"]), int(edit["sequence"])
            if sequence > self._acknowledged.get(client, 0):
                self._acknowledged[client] = sequence
                history = self._apply(history, edit)
        self._adopt(history)

    @t.observe("request")
    def _on_request(self, change: t.Bunch) -> None:
        respond(self, change["new"], self._answered)

    def _apply(self, history: History, edit: Mapping[str, Any]) -> History:
        if edit["kind"] == "undo":
            return history.undo()
        if edit["kind"] == "redo":
            return history.redo()
        rows, columns = np.asarray(edit["weights"], dtype=int), np.asarray(edit["schemes"], dtype=int)
        known = (rows >= 0) & (rows < len(self._table.reason))
        known &= (columns >= 0) & (columns < len(self._table.schemes))
        legal = known & (self._table.reason[np.where(known, rows, 0), np.where(known, columns, 0)] < 0)
        chosen = zip(edit.get("ops", ()), edit.get("int8", ()), strict=True)
        int8 = {int(op): bool(wanted) for op, wanted in chosen if int(op) in self._can_read_int8}
        return history.set(
            rows[legal].tolist(),
            columns[legal].tolist(),
            ops=[*int8],
            int8=[*int8.values()],
            label=edit.get("label", ""),
            gesture=edit.get("gesture", ""),
        )

    def _adopt(self, history: History) -> None:
        """Make a history the current one, here and in every browser."""
        toggled = not np.array_equal(history.int8, self._history.int8)
        self._history = history
        schemes = [self._table.schemes[column] for column in history.columns]
        self.plan = self.plan.with_schemes(schemes, np.flatnonzero(history.int8).tolist())
        if toggled:
            self._publish_measured()
        self._publish_history()

    def _publish_measured(self) -> None:
        shown = self._measured
        if shown is not None and shown.plan.int8_ops == self.plan.int8_ops:
            self.set_trait("measured_state", wire.pack_measured(shown, self._table))
        else:
            self.set_trait("measured_state", {})

    def _publish_history(self) -> None:
        revision = self.plan_state.get("revision", 0) + 1
        self.set_trait(
            "plan_state", wire.pack_history(self._history, revision=revision, acknowledged=self._acknowledged)
        )
