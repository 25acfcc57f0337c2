"""What lasts of a session: Exploration, as a file that is there whole or not at all, and back."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import platformdirs

from talaria_nb.activation_legality import activation_ops
from talaria_nb.budgets import Budget
from talaria_nb.devices import device as find_device
from talaria_nb.errors import PlanError, TalariaError
from talaria_nb.history import MAX_ENTRIES, Entry, History
from talaria_nb.legality import refused
from talaria_nb.package import first_line
from talaria_nb.plan import Plan
from talaria_nb.plan_files import plain_scheme, scheme_of
from talaria_nb.subjects import subject
from talaria_nb.whole_file import write_whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from talaria_nb.costs import CostTable
    from talaria_nb.load import Model
    from talaria_nb.schemes import Scheme

VERSION = 1


@dataclass(frozen=True, slots=True, eq=False)
class Exploration:
    """One exploration, without what can be found again from the model.

    Attributes
    ----------
    device, compute_unit
        What the plan was priced for.
    schemes
        What the columns of the history mean.
    history
        The plan and the steps that led there.
    budgets
        Metric → the most, in bytes, ms, mJ or bits.
    selection
        Names of the selected ops.
    snapshots
        Plans that were kept under a name.
    baseline
        What changes are measured against: its name and its plan. None for the model as it was loaded.
    """

    device: str
    compute_unit: str
    schemes: tuple[Scheme, ...]
    history: History
    budgets: Mapping[str, float] = field(default_factory=dict)
    selection: tuple[str, ...] = ()
    snapshots: Mapping[str, Plan] = field(default_factory=dict)
    baseline: tuple[str, Plan] | None = None

    def history_in(self, table: CostTable) -> History:
        """Return the history with the columns of a cost table that has all of the schemes."""
        places = np.array([table.column[scheme] for scheme in self.schemes], dtype=np.uint16)
        return replace(
            self.history,
            columns=places[self.history.columns],
            entries=tuple(
                replace(entry, before=places[entry.before], after=places[entry.after]) for entry in self.history.entries
            ),
        )


def kept_at(model: Model) -> Path:
    """Return where explorations of a model are kept: in the user's cache folder, by the model's fingerprint."""
    return Path(platformdirs.user_cache_dir("talaria-nb")) / "explorations" / f"{model.program.fingerprint}.json"


def write(path: Path, model: Model, exploration: Exploration) -> None:
    """Write an exploration; the file that was there is replaced at once, or stays as it is."""
    text = json.dumps(_plain(model, exploration), ensure_ascii=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text)


def read(path: Path, model: Model) -> Exploration | None:
    """Read an exploration of this model; None if there is no such file.

    Raises
    ------
    PlanError
        If the file is of another model, or is none that `write` wrote.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise PlanError(f"The exploration {path} cannot be read: {first_line(error)}. {_REMEDY}") from error
    try:
        return _exploration(document, model)
    except TalariaError as error:
        raise PlanError(f"The exploration {path} does not fit: {error} {_REMEDY}") from error
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise PlanError(f"The exploration {path} is damaged. {_REMEDY}") from error


_REMEDY = "Start anew with tnb.explore(model), which replaces it at the first edit, or name another with resume=."


def _plain(model: Model, exploration: Exploration) -> dict[str, Any]:
    history = exploration.history
    places = {scheme: place for place, scheme in enumerate(exploration.schemes)}

    def kept(name: str, plan: Plan) -> dict[str, Any]:
        for scheme in plan.scheme_of_weight:
            places.setdefault(scheme, len(places))
        columns = [places[scheme] for scheme in plan.scheme_of_weight]
        return {"name": name, "columns": columns, "int8": sorted(plan.int8_ops)}

    document = {
        "talaria_nb_exploration": VERSION,
        "model": {"name": model.program.name, "fingerprint": model.program.fingerprint},
        "device": exploration.device,
        "compute_unit": exploration.compute_unit,
        "budgets": dict(exploration.budgets),
        "columns": history.columns.tolist(),
        "int8": np.flatnonzero(history.int8).tolist(),
        "cursor": history.cursor,
        "history": [
            {
                "label": entry.label,
                "gesture": entry.gesture,
                "weights": entry.weights.tolist(),
                "before": entry.before.tolist(),
                "after": entry.after.tolist(),
                "toggled": entry.toggled.tolist(),
            }
            for entry in history.entries
        ],
        "selection": list(exploration.selection),
        "snapshots": [kept(name, plan) for name, plan in exploration.snapshots.items()],
        "baseline": None if exploration.baseline is None else kept(*exploration.baseline),
    }
    return document | {"schemes": [plain_scheme(scheme) for scheme in places]}


def _exploration(document: dict[str, Any], model: Model) -> Exploration:
    if document["talaria_nb_exploration"] != VERSION:
        raise PlanError(f"It has version {document['talaria_nb_exploration']!r}; this talaria-nb reads {VERSION}.")
    program = model.program
    if document["model"]["fingerprint"] != program.fingerprint:
        raise PlanError(f"It is of another model, {document['model']['name']}, than {program.name}.")
    device, compute_unit = str(document["device"]), str(document["compute_unit"])
    find_device(device).unit(compute_unit)  # says what is wrong with them
    budgets = [Budget(metric, float(most)) for metric, most in document["budgets"].items()]
    reader = _Reader(model, tuple(scheme_of(plain) for plain in document["schemes"]))
    columns = reader.columns(document["columns"])
    entries = tuple(reader.entry(plain) for plain in document["history"][-MAX_ENTRIES:])
    cursor = int(document["cursor"])
    if not 0 <= cursor <= len(entries):
        raise PlanError("Its history does not hold the step it is at.")
    history = History(columns, reader.int8(document["int8"]), entries, cursor)
    reader.check_walk(history)
    return Exploration(
        device=device,
        compute_unit=compute_unit,
        budgets={budget.metric: budget.most for budget in budgets},
        schemes=reader.schemes,
        history=history,
        selection=tuple(name for name in document["selection"] if name in program.op_row),
        snapshots={str(plain["name"]): reader.plan(plain) for plain in document["snapshots"]},
        baseline=None
        if document["baseline"] is None
        else (str(document["baseline"]["name"]), reader.plan(document["baseline"])),
    )


class _Reader:
    """Reads rows and columns of one model, and refuses what is not there or not legal."""

    def __init__(self, model: Model, schemes: tuple[Scheme, ...]) -> None:
        self.model = model
        self.schemes = schemes
        self._start = Plan(model)
        self._legal: dict[tuple[int, int], bool] = {}
        self._can_read_int8 = frozenset(activation_ops(model.program))

    def columns(self, plain: Sequence[int]) -> NDArray[np.uint16]:
        if len(plain) != len(self._start.scheme_of_weight):
            raise PlanError("It has another number of weights.")
        return self._columns(range(len(plain)), plain)

    def int8(self, rows: Sequence[int]) -> NDArray[np.bool_]:
        if not self._can_read_int8.issuperset(rows):
            raise PlanError("It has int8 activations where they are not legal.")
        return np.isin(np.arange(len(self.model.program.ops)), rows)

    def entry(self, plain: Mapping[str, Any]) -> Entry:
        rows = plain["weights"]
        if not {*rows} <= {*range(len(self._start.scheme_of_weight))}:
            raise PlanError("It has weights that are not there.")
        self.int8(plain["toggled"])
        return Entry(
            str(plain["label"]),
            str(plain["gesture"]),
            np.array(rows, dtype=np.int32),
            self._columns(rows, plain["before"]),
            self._columns(rows, plain["after"]),
            np.array(plain["toggled"], dtype=np.int32),
        )

    def plan(self, plain: Mapping[str, Any]) -> Plan:
        chosen = [self.schemes[column] for column in self.columns(plain["columns"])]
        return self._start.with_schemes(chosen, np.flatnonzero(self.int8(plain["int8"])).tolist())

    def check_walk(self, history: History) -> None:
        """Refuse a history whose steps do not lead to its plan."""
        columns = history.columns.copy()
        for entry in reversed(history.entries[: history.cursor]):
            if not np.array_equal(columns[entry.weights], entry.after):
                raise PlanError("Its steps do not lead to its plan.")
            columns[entry.weights] = entry.before

    def _columns(self, rows: Iterable[int], columns: Sequence[int]) -> NDArray[np.uint16]:
        for row, column in zip(rows, columns, strict=True):
            if column not in range(len(self.schemes)):
                raise PlanError("It has schemes that it does not list.")
            if not self._is_legal(row, column):
                weight = self.model.program.weights.name[row]
                raise PlanError(f"{weight} cannot be {self.schemes[column]!r}.")
        return np.array(columns, dtype=np.uint16)

    def _is_legal(self, row: int, column: int) -> bool:
        if (row, column) not in self._legal:
            scheme = self.schemes[column]
            starts_so = scheme == self._start.scheme_of_weight[row]
            legal = starts_so or refused(scheme, subject(self.model.program, row)) is None
            self._legal[row, column] = legal
        return self._legal[row, column]
