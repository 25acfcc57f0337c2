"""How much the outputs of a model change with each weight and scheme, on calibration data.

Four ways, from quick to thorough: second derivatives of the loss ("fisher"), every weight by itself at one width
("one_width"), at several widths and sparsities ("widths"), under every scheme ("full"). Losses of weights are added up,
which holds within some 10 % while they are small, but not when they are large. "widths" keeps what the weights do to
outputs as well, and composes that (`talaria_nb.effects`); `evaluate` measures a whole plan.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from talaria_nb import loss_curves
from talaria_nb.calls import named_arguments, to_float32
from talaria_nb.convert import eval_twin
from talaria_nb.distortion import dequantized
from talaria_nb.effects import effects, numbers_kept
from talaria_nb.error_table import ErrorTable, weight_errors
from talaria_nb.errors import EvaluationError
from talaria_nb.legality import refused
from talaria_nb.menu import Menu
from talaria_nb.metrics import counted, name_of, named
from talaria_nb.plan import checked_plan
from talaria_nb.schemes import Palettize
from talaria_nb.subjects import subject
from talaria_nb.trials import Outcome, bench, listed, read_results, results_file, run, write_result

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence
    from concurrent.futures import Executor
    from pathlib import Path

    from numpy.typing import NDArray

    from talaria_nb.effects import Effects
    from talaria_nb.load import Model
    from talaria_nb.metrics import Metric
    from talaria_nb.plan import Plan
    from talaria_nb.schemes import Scheme
    from talaria_nb.trials import Bench, Trial

Method = Literal["widths", "one_width", "fisher", "full"]


@dataclass(frozen=True, slots=True, eq=False)
class Sensitivity(ErrorTable):
    """The loss that each scheme of each weight is expected to add; `allocate(error=…)` takes it.

    The grade is "estimated", because that of a plan is told from what single weights do. NaN where a scheme is illegal
    for a weight, nothing is known of it because the weight has no torch parameter (`allocate` leaves such weights as
    they are), or it makes the outputs infinite or NaN (`allocate` does not take it).

    Attributes
    ----------
    weights
        Names of the rows, in file order.
    metric
        Name of the metric; its unit is that of `error`.
    method
        How it was found.
    fingerprint
        Of the program that it is for.
    effects
        What each weight does to the outputs; None where only losses were measured: by the other methods, and by metrics
        without a gradient.
    data
        The inputs that it was found on, and
    measured_by
        the metric as it was given: with them a session refines plans.
    """

    weights: tuple[str, ...]
    metric: str
    method: Method
    fingerprint: str
    effects: Effects | None = field(default=None, repr=False)
    data: tuple[Any, ...] = field(default=(), repr=False)
    measured_by: Metric = field(default="mse", repr=False)

    @property
    def frame(self) -> pd.DataFrame:
        """`error` with weight names as index and schemes' labels as columns."""
        labels = [scheme.label for scheme in self.schemes]
        return pd.DataFrame(self.error, index=pd.Index(self.weights, name="weight"), columns=labels)

    @property
    def composes(self) -> bool:
        """Whether `of_plan` is closer than the sum of `error`."""
        return self.effects is not None

    @property
    def what_of_plan(self) -> str:
        """What `of_plan` is, in words."""
        return f"{self.what}, composed" if self.composes else self.what

    def of_plan(self, plan: Plan) -> float:
        """Return `total` of a plan for this model; NaN where it has schemes that were not looked at."""
        added = float(self.of_weights(plan).sum())
        if self.effects is None or np.isnan(added):
            return added
        place = {scheme: index for index, scheme in enumerate(self.schemes)}
        return self.effects.loss([place[scheme] for scheme in plan.scheme_of_weight])

    def total(self, plan: Plan) -> float:
        """Estimate the loss of a plan, as `plan.loss(sensitivity)` and views do.

        By what the weights do to outputs one after the other, if that was measured, which is closer than the sum of
        `error`, that `allocate` minimises; else that sum. What int8 activations do is not in it.

        Raises
        ------
        EvaluationError
            If the plan is for another model, or has schemes that were not looked at.
        """
        if checked_plan(plan, "total()").model.program.fingerprint != self.fingerprint:
            raise EvaluationError("The sensitivity is of another model than the plan.")
        place = {scheme: index for index, scheme in enumerate(self.schemes)}
        for row, scheme in enumerate(plan.scheme_of_weight):
            if np.isnan(self.error[row, place[scheme]] if scheme in place else np.nan):
                message = (
                    f"The sensitivity knows nothing of {self.weights[row]} as {scheme!r}. Give sensitivity() that "
                    "scheme among schemes=, or keep the weight at tnb.Float16()."
                )
                raise EvaluationError(message)
        return self.of_plan(plan)


def sensitivity(
    model: Model,
    data: Iterable[Any],
    *,
    metric: Metric = "mse",
    method: Method = "widths",
    schemes: Iterable[Scheme] | None = None,
    reference: Scheme | None = None,
    executor: Executor | None = None,
    cache: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> Sensitivity:
    """Find how much the outputs change with each weight and scheme.

    Parameters
    ----------
    model
        A model that was loaded from a torch module; of a package only the errors of the weights are known.
    data
        Calibration inputs, each as `load` takes `example_inputs`, of any batch size; a few hundred samples are plenty.
        Held in memory, with the module's outputs for them, and kept with the result.
    metric
        "mse", "cosine", "kl" or "top1" of the outputs (`talaria_nb.metrics.METRICS`), or a function
        `metric(outputs, reference)` that returns a number, 0 for no change and lower for better. Items count alike.
        Positions that an input named attention_mask masks do not count, but in your own function.
    method
        "widths": every weight is compressed by itself to palettes of 1, 2, 3, 4 and 6 bits, as far down as the schemes
        go, and pruned as they prune it, and left out where all others have 2, 3, 4 or 6 bits; other schemes lie in
        between by their errors in the weight (`talaria_nb.loss_curves`). With the default schemes twelve passes over
        the data for each weight. "one_width":
        it is compressed to `reference` alone, and other schemes are taken to be as much worse or better as their
        errors in the weight. One pass for each; it does not see that 1 or 2 bits can be far worse than that. "fisher":
        half the second derivatives of the loss, diagonal (Gauss-Newton with random signs, one backward pass an item),
        times the squared changes of the weight. Not for metrics without a gradient ("top1", your own), and no better
        than "one_width" at few bits. "full": one pass for each weight and scheme.
    schemes
        The columns, by default those of `Menu.default()`.
    reference
        For "one_width"; by default `Palettize(3)`, from iOS18 on, and `Palettize(4)` before.
    executor
        Any `concurrent.futures.Executor` to run the passes in, but those of "fisher"; results are the same to the
        bit on machines of one kind. Processes get the module through a file in `cache`, which they must all see, and
        use as many threads as torch uses here: `torch.set_num_threads(1)` before, where each core has a worker.
    cache
        Folder in which results are kept, by default the user's cache folder. A run that was cut off goes on from there;
        one with the same module, data and metric is read.
    progress
        Whether to show a bar with the time left.

    Returns
    -------
    Sensitivity

    Raises
    ------
    EvaluationError
        If the model did not come from torch, the data do not fit it, its outputs are infinite or do not depend on the
        weights, or a worker died. What was measured until then is kept.
    """
    if method not in get_args(Method):
        raise EvaluationError(f"There is no method {method!r}. Use one of {', '.join(get_args(Method))}.")
    inputs = listed(data)
    prepared = bench(model, inputs, metric)
    program = model.program
    columns = (Menu.default() if schemes is None else Menu(tuple(schemes))).schemes
    trials = _trials(prepared, model, columns[1:])
    known = None
    if method == "widths":
        error, known = _by_widths(prepared, model, columns, executor, cache, progress=progress)
    elif method == "one_width":
        chosen = reference or _default_reference(model)
        error = _by_one_width(prepared, model, columns, chosen, executor, cache, progress=progress)
    else:
        error = np.full((len(program.weights), len(columns)), np.nan)
        results = results_file(prepared, model, method if method == "fisher" else "trial", cache)
        if method == "full":
            found = run(prepared, trials, results, executor, progress=progress)
        else:
            found = _by_fisher(prepared, trials, results, progress=progress)
        for ((name, scheme),), outcome in found.items():
            error[program.weight_row[name], columns.index(scheme)] = outcome.loss
    error[~np.isfinite(error)] = np.nan
    error[:, 0] = 0.0
    if trials and not np.nansum(np.abs(error)):
        message = (
            f"No weight changes the outputs of {program.name} by this metric: they are constant on these data, or the "
            "metric does not look at them."
        )
        raise EvaluationError(message)
    name = name_of(metric)
    return Sensitivity(
        columns,
        error,
        "estimated",
        f"{name} of the outputs",
        program.weights.name,
        name,
        method,
        program.fingerprint,
        known,
        inputs,
        metric,
    )


def _trials(prepared: Bench, model: Model, schemes: Sequence[Scheme]) -> list[Trial]:
    program = model.program
    return [
        ((name, scheme),)
        for row, name in enumerate(program.weights.name)
        for scheme in schemes
        if name in prepared.links and refused(scheme, subject(program, row)) is None
    ]


def _default_reference(model: Model) -> Scheme:
    three = Palettize(3)
    program = model.program
    legal = all(
        refused(three, subject(program, row)) is None for row in model.weights.index[model.weights.compressible]
    )
    return three if legal else Palettize(4)


def _by_one_width(
    prepared: Bench,
    model: Model,
    columns: Sequence[Scheme],
    reference: Scheme,
    executor: Executor | None,
    cache: str | os.PathLike[str] | None,
    *,
    progress: bool,
) -> NDArray[np.float64]:
    program = model.program
    trials = _trials(prepared, model, [reference])
    measured = run(prepared, trials, results_file(prepared, model, "trial", cache), executor, progress=progress)
    squared = weight_errors(model, columns).squared_error
    at_reference = weight_errors(model, [reference]).squared_error[:, 0]
    gain = np.full(len(program.weights), np.nan)
    for ((name, _),), outcome in measured.items():
        row = program.weight_row[name]
        gain[row] = outcome.loss / at_reference[row] if at_reference[row] else 0.0
    return gain[:, None] * squared


def _by_widths(
    prepared: Bench,
    model: Model,
    columns: Sequence[Scheme],
    executor: Executor | None,
    cache: str | os.PathLike[str] | None,
    *,
    progress: bool,
) -> tuple[NDArray[np.float64], Effects | None]:
    """Return the arrays error and effects of a `Sensitivity`."""
    program = model.program
    known = loss_curves.anchors(columns)
    trials = _trials(prepared, model, known)
    if isinstance(prepared.metric, str) and named(prepared.metric).direction is not None:
        prepared = replace(prepared, numbers=numbers_kept(len(trials)))
    results = results_file(prepared, model, "trial", cache)
    found = run(prepared, trials, results, executor, progress=progress)
    company = {
        scheme: [name for name in prepared.links if ((name, scheme),) in found]
        for scheme in known
        if isinstance(scheme, Palettize) and scheme.nbits in loss_curves.COMPANY
    }
    together = run(
        prepared,
        [_company(names, scheme, left_out) for scheme, names in company.items() for left_out in (_NONE, *names)],
        results,
        executor,
        progress=progress,
    )
    measured: dict[str, dict[Scheme, float]] = {name: {} for name in prepared.links}
    added: dict[str, dict[Scheme, float]] = {name: {} for name in prepared.links}
    of_row: dict[int, list[Outcome]] = {}
    for ((name, scheme),), outcome in found.items():
        measured[name][scheme] = outcome.loss
        of_row.setdefault(program.weight_row[name], []).append(outcome)
        if scheme in company:
            names = company[scheme]
            extra = together[_company(names, scheme, _NONE)].loss - together[_company(names, scheme, name)].loss
            if np.isfinite(extra):
                added[name][scheme] = extra
    asked = tuple(dict.fromkeys((*columns, *known)))
    squared = weight_errors(model, asked).squared_error
    error, alone = (np.full((len(program.weights), len(columns)), np.nan) for _ in range(2))
    for name, losses in measured.items():
        row = program.weight_row[name]
        of_weight = dict(zip(asked, squared[row].tolist(), strict=True))
        error[row] = loss_curves.losses(columns, of_weight, loss_curves.shares(losses, added[name], of_weight))
        alone[row] = loss_curves.losses(columns, of_weight, losses)
    if not prepared.numbers:
        return error, None
    in_order = sorted(of_row, key=lambda row: min(program.weights.readers[row], default=0))
    return error, effects(prepared, alone, {row: of_row[row] for row in in_order})


def _company(names: Iterable[str], scheme: Scheme, left_out: str) -> Trial:
    return tuple((name, scheme) for name in names if name != left_out)


_NONE = ""
"""The weight that is left out, where none is."""


def _by_fisher(prepared: Bench, trials: Sequence[Trial], results: Path, *, progress: bool) -> dict[Trial, Outcome]:
    found = read_results(results, trials)
    left = [trial for trial in trials if trial not in found]
    if not left:
        return found
    curvature = _curvature(prepared, progress=progress)

    def error(trial: Trial) -> float:
        ((name, scheme),) = trial
        values = prepared.values[name]
        stored = dequantized(values, scheme, channel_axes=prepared.channel_axes[name])
        squared = np.subtract(stored, values, dtype=np.float64).reshape(-1) ** 2
        return float(curvature[name].reshape(-1) @ squared) / 2

    results.parent.mkdir(parents=True, exist_ok=True)
    with results.open("a") as file, ThreadPoolExecutor(prepared.threads) as pool:
        steps = tqdm(
            zip(left, pool.map(error, left), strict=True), total=len(left), desc="Weighing", disable=not progress
        )
        for trial, value in steps:
            found[trial] = Outcome(value)
            write_result(file, trial, found[trial])
    return found


def _curvature(prepared: Bench, *, progress: bool) -> dict[str, NDArray[np.floating]]:
    """Return the diagonal second derivatives of the mean loss by each weight, in its parameter's layout."""
    if not isinstance(prepared.metric, str) or named(prepared.metric).direction is None:
        message = (
            f'The metric {name_of(prepared.metric)} has no gradient, which method="fisher" needs. Use '
            'method="one_width", or the metric "kl".'
        )
        raise EvaluationError(message)
    direction = named(prepared.metric).direction
    assert direction is not None  # noqa: S101 - checked above
    prepared.references  # noqa: B018 - says what is wrong with the data
    tensors = dict(prepared.module.named_parameters(remove_duplicate=False))
    wanted = {link.parameter for link in prepared.links.values() if link.parameter in tensors}
    watched = {id(tensors[name]): torch.nn.Parameter(tensors[name].detach().float()) for name in wanted}
    squares = {key: torch.zeros_like(parameter) for key, parameter in watched.items()}
    generator = torch.Generator().manual_seed(0)
    for args, kwargs in tqdm(prepared.items, desc="Backward passes", disable=not progress):
        twin = eval_twin(prepared.module, watched)
        outputs = counted(twin(*to_float32(args), **to_float32(kwargs)), named_arguments(twin, args, kwargs))
        scalar = sum(direction(output, generator) for output in outputs) / len(outputs) ** 0.5
        gradients = torch.autograd.grad(scalar, list(watched.values()), allow_unused=True)
        for key, gradient in zip(squares, gradients, strict=True):
            if gradient is not None:
                squares[key] += gradient.detach().to_dense().square() / len(prepared.items)
    arrays = {name: squares[id(tensors[name])].cpu().numpy() for name in wanted}
    return {
        weight: link.curvature(arrays[link.parameter])
        for weight, link in prepared.links.items()
        if link.parameter in arrays
    }
