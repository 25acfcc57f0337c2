"""Runs of a torch module with some weights as schemes store them, one trial each, wherever an executor runs them.

Results are written down one by one, so that what was done is kept however a run ends, and the next one goes on from it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterable
from concurrent.futures import BrokenExecutor, CancelledError, Executor, as_completed
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import cloudpickle
import numpy as np
import platformdirs
import torch
import torch.utils._pytree as pytree

from talaria_nb.calls import HALF, as_call, describe, named_arguments, to_float32
from talaria_nb.convert import eval_twin
from talaria_nb.distortion import dequantized
from talaria_nb.errors import EvaluationError, LoadError
from talaria_nb.metrics import Metric, counted, loss, name_of
from talaria_nb.package import first_line
from talaria_nb.paths import expanded
from talaria_nb.progress import counting
from talaria_nb.samples import sample
from talaria_nb.torch_weights import find_links, module_with
from talaria_nb.trace import own_buffers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from talaria_nb.load import Model
    from talaria_nb.samples import Sample
    from talaria_nb.schemes import Scheme
    from talaria_nb.torch_weights import Link

Trial: TypeAlias = "tuple[tuple[str, Scheme], ...]"
"""The weights that are compressed, by name and in file order, and how; all others are as they were."""


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What a trial found.

    Attributes
    ----------
    loss
        The mean of the metric over all items.
    change
        How far the sample of the outputs moved, over its largest change; None if none is kept. float16, shape
        (numbers,).
    scale
        That largest change; infinite or NaN if the outputs are.
    """

    loss: float
    change: NDArray[np.float16] | None = None
    scale: float = 0.0


@dataclass(frozen=True, eq=False)
class Bench:
    """All that a trial needs; it can be pickled (with cloudpickle, so that modules made in a notebook can be too).

    Attributes
    ----------
    module
        The original.
    items
        Positional and keyword arguments of each call.
    metric
        How outputs are compared with those of the original.
    values
        Weight name → its values as converted.
    channel_axes
        Weight name → as in `Weights`.
    links
        Weight name → its torch parameter.
    threads
        How many threads torch uses: with another number sums round otherwise.
    numbers
        How many numbers of the outputs to keep, about, of every trial of one weight.
    """

    module: torch.nn.Module
    items: tuple[tuple[tuple[Any, ...], dict[str, Any]], ...]
    metric: Metric
    values: Mapping[str, NDArray[np.floating]]
    channel_axes: Mapping[str, tuple[int, int] | None]
    links: Mapping[str, Link]
    threads: int
    numbers: int = 0

    @cached_property
    def references(self) -> list[Any]:
        """What the original returns for each item.

        Raises
        ------
        EvaluationError
            If it cannot run on an item, or returns no finite floating numbers.
        """
        found = []
        for number, (output, inputs) in enumerate(zip(self._outputs(self.module), self._inputs, strict=True)):
            tensors = counted(output, inputs)
            if isinstance(self.metric, str) and not tensors:
                raise EvaluationError(f"{self._name} returns no floating tensors: give a metric of your own.")
            if not all(bool(tensor.isfinite().all()) for tensor in tensors):
                message = (
                    f"{self._name} itself returns infinite values or NaN for item {number} of the data, so no loss can "
                    "be told. Leave that item out, or return logits without -inf masks."
                )
                raise EvaluationError(message)
            found.append(output)
        return found

    def error(self, values: Mapping[str, NDArray[np.floating]]) -> NDArray[np.float64]:
        """Measure the metric on each item, with other values for some weights. float64, shape (items,)."""
        return self.compared_with(module_with(self.module, values, self.links))

    def compared_with(self, planned: torch.nn.Module) -> NDArray[np.float64]:
        """Measure the metric of another module on each item. float64, shape (items,)."""
        return np.array([of_item for of_item, _ in self._compared(planned)])

    def measure(self, trial: Trial) -> Outcome:
        """Measure the mean of the metric over all items, and how far outputs move if that is to be kept."""
        stored = {weight: self._stored(weight, scheme) for weight, scheme in trial}
        planned = module_with(self.module, stored, self.links)
        if not self.keeps(trial):
            return Outcome(float(self.compared_with(planned).mean()))
        losses, outputs = zip(
            *(
                (of_item, self.sample.of(item, counts))
                for item, (of_item, counts) in enumerate(self._compared(planned))
            ),
            strict=True,
        )
        change = np.concatenate(outputs) - self.sampled
        scale = float(np.abs(change).max(initial=0.0))
        relative = change / scale if 0 < scale < np.inf else np.zeros_like(change)
        return Outcome(float(np.mean(losses)), relative.astype(np.float16), scale)

    def keeps(self, trial: Trial) -> bool:
        """Tell whether outputs of a trial are kept."""
        return self.numbers > 0 and len(trial) == 1

    @cached_property
    def sample(self) -> Sample:
        """Which outputs are kept."""
        return sample(self._counted_references, self.numbers)

    @cached_property
    def sampled(self) -> NDArray[np.float64]:
        """What is kept of the original's outputs. Shape (numbers,)."""
        return np.concatenate([self.sample.of(item, each) for item, each in enumerate(self._counted_references)])

    def _stored(self, weight: str, scheme: Scheme) -> NDArray[np.floating]:
        kept = self._kept.get(weight)
        if kept is None or kept[0] != scheme:
            kept = scheme, dequantized(self.values[weight], scheme, channel_axes=self.channel_axes[weight])
            self._kept[weight] = kept
        return kept[1]

    @cached_property
    def _kept(self) -> dict[str, tuple[Scheme, NDArray[np.floating]]]:
        """What weights were last: trials that follow each other differ in few, and one copy of all is enough."""
        return {}

    def _compared(self, planned: torch.nn.Module) -> Iterator[tuple[float, list[torch.Tensor]]]:
        """Yield of each item the metric, and the tensors of the outputs that count."""
        for outputs, reference, inputs in zip(self._outputs(planned), self.references, self._inputs, strict=True):
            yield loss(self.metric, outputs, reference, inputs), counted(outputs, inputs)

    @property
    def _counted_references(self) -> list[list[torch.Tensor]]:
        return [counted(output, inputs) for output, inputs in zip(self.references, self._inputs, strict=True)]

    @property
    def _inputs(self) -> Iterator[Mapping[str, Any]]:
        return (named_arguments(self.module, args, kwargs) for args, kwargs in self.items)

    @property
    def _name(self) -> str:
        return type(self.module).__name__

    def _outputs(self, module: torch.nn.Module) -> Iterator[Any]:
        half = any(parameter.dtype in HALF for parameter in self.module.parameters())
        for number, (args, kwargs) in enumerate(self.items):
            # A copy for each call: buffers that a call changes (a cache) start anew, parameters are shared.
            twin = eval_twin(module)
            own_buffers(twin)
            if half:
                args, kwargs = to_float32(args), to_float32(kwargs)  # noqa: PLW2901
            try:
                with torch.no_grad():
                    yield twin(*args, **kwargs)
            except Exception as error:
                message = (
                    f"{self._name} does not run on item {number} of the data ({describe(args, kwargs)}): "
                    f"{first_line(error)}. Items must be what load() takes as example_inputs."
                )
                raise EvaluationError(message) from error


def bench(model: Model, data: Iterable[Any], metric: Metric) -> Bench:
    """Prepare trials of a model.

    Parameters
    ----------
    model
        A model that came from a torch module.
    data
        Inputs, each as `load` takes `example_inputs`.
    metric
        See `metrics.Metric`.

    Raises
    ------
    EvaluationError
        If the model has no module, or the data are no inputs of it.
    """
    links, _ = find_links(model)
    try:
        items = tuple(as_call(item) for item in listed(data))
    except LoadError as error:
        raise EvaluationError(f"The data hold something that is no input: {error}") from error
    if not items:
        raise EvaluationError("The data are empty: give at least one input.")
    assert model.module is not None  # noqa: S101 - find_links refuses
    weights = model.program.weights
    return Bench(
        model.module,
        items,
        metric,
        {name: model.weight_value(name) for name in links},
        dict(zip(weights.name, weights.channel_axes, strict=True)),
        links,
        torch.get_num_threads(),
    )


def listed(data: Iterable[Any]) -> tuple[Any, ...]:
    """Return the inputs that data hold, for what goes through them more than once.

    Raises
    ------
    EvaluationError
        If the data are one input, or nothing that holds inputs.
    """
    if isinstance(data, (torch.Tensor, str, dict)) or not isinstance(data, Iterable):
        message = f"data must be an iterable of inputs, such as [x, …], not one {type(data).__name__}."
        raise EvaluationError(message)
    return tuple(data)


def results_file(prepared: Bench, model: Model, purpose: str, cache: str | os.PathLike[str] | None) -> Path:
    """Return where results are kept: a file named after everything that they depend on.

    Parameters
    ----------
    prepared
        The bench.
    model
        Its model.
    purpose
        What is measured.
    cache
        Folder, by default the user's cache folder.
    """
    folder = _folder(cache) if cache is not None else Path(platformdirs.user_cache_dir("talaria-nb"))
    digest = hashlib.sha256()
    metric = prepared.metric
    code = getattr(metric, "__code__", None)
    facts = (
        version("talaria-nb"),
        torch.__version__,
        model.program.fingerprint,
        purpose,
        name_of(metric),
        code and (code.co_code, code.co_consts),
        prepared.threads,
    )
    digest.update(repr(facts).encode())
    state = [*prepared.module.named_parameters(), *prepared.module.named_buffers()]
    for name, leaf in [*state, *(("", leaf) for leaf in pytree.tree_leaves(prepared.items))]:
        digest.update(name.encode())
        if isinstance(leaf, torch.Tensor):
            digest.update(repr((leaf.dtype, leaf.shape)).encode())
            digest.update(leaf.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        else:
            digest.update(repr(leaf).encode())
    return folder / "sensitivity" / f"{digest.hexdigest()[:32]}.jsonl"


def _folder(cache: str | os.PathLike[str]) -> Path:
    if not isinstance(cache, (str, os.PathLike)):
        raise EvaluationError(f"cache= is the path of a folder, not {cache!r}.")
    folder = expanded(cache, EvaluationError)
    if folder.exists() and not folder.is_dir():
        raise EvaluationError(f"cache= is the path of a folder, and {str(cache)!r} is a file.")
    return folder


def run(
    prepared: Bench,
    trials: Sequence[Trial],
    results: Path,
    executor: Executor | None,
    *,
    progress: bool,
    title: str = "Measuring",
) -> dict[Trial, Outcome]:
    """Run trials, or read what an earlier run left of them.

    Parameters
    ----------
    prepared
        The bench.
    trials
        What to measure.
    results
        Where results are kept, from `results_file`.
    executor
        Where to run; None for here. What it starts must see the folder of `results`.
    progress
        Whether to show a bar with the time left.
    title
        What the bar says.

    Returns
    -------
    dict
        What each trial found.

    Raises
    ------
    EvaluationError
        If a worker died; what was finished is kept. If `executor` is none.
    """
    if executor is not None and not isinstance(executor, Executor):
        message = f"executor= is a concurrent.futures executor, not a value of type {type(executor).__name__}."
        raise EvaluationError(message)
    trials = tuple(dict.fromkeys(trials))
    found = {
        trial: outcome
        for trial, outcome in read_results(results, trials).items()
        if not prepared.keeps(trial) or (outcome.change is not None and len(outcome.change) == len(prepared.sampled))
    }
    left = [trial for trial in trials if trial not in found]
    if not left:
        return found
    prepared.references  # noqa: B018 - before any worker: what is wrong with the data is said here
    results.parent.mkdir(parents=True, exist_ok=True)
    with counting(title, len(trials), len(found), shown=progress) as step, results.open("a") as file:
        measured = _here(prepared, left) if executor is None else _elsewhere(prepared, left, results, executor)
        try:
            for trial, outcome in measured:
                found[trial] = outcome
                write_result(file, trial, outcome)
                step()
        except _WorkerError as failure:
            message = (
                f"A worker failed while it measured {failure}. {len(found)} of {len(trials)} trials are done and kept; "
                "call again to go on."
            )
            raise EvaluationError(message) from failure.cause
    return found


def read_results(results: Path, trials: Iterable[Trial]) -> dict[Trial, Outcome]:
    """Read what is known of some trials; a line that was cut off counts as not there."""
    wanted = {_key(trial): trial for trial in trials}
    found: dict[Trial, Outcome] = {}
    for line in results.read_text().splitlines() if results.is_file() else []:
        try:
            key, loss, *change = json.loads(line)
        except ValueError:
            continue
        if key in wanted:
            found[wanted[key]] = Outcome(loss, *(_unpacked(*change) if change else ()))
    return found


def write_result(file: Any, trial: Trial, outcome: Outcome) -> None:
    """Write one result down at once; it begins a line of its own even after one that was cut off."""
    kept = outcome.change
    change = [] if kept is None else [outcome.scale, base64.b64encode(kept.astype("<f2").tobytes()).decode()]
    file.write(f"\n{json.dumps([_key(trial), outcome.loss, *change])}")
    file.flush()


def _unpacked(scale: float, text: str) -> tuple[NDArray[np.float16], float]:
    return np.frombuffer(base64.b64decode(text), dtype="<f2").astype(np.float16), scale


def _key(trial: Trial) -> str:
    return hashlib.sha256(repr(trial).encode()).hexdigest()[:32]


def _here(prepared: Bench, trials: Sequence[Trial]) -> Iterator[tuple[Trial, Outcome]]:
    for trial in trials:
        yield trial, prepared.measure(trial)


def _elsewhere(
    prepared: Bench, trials: Sequence[Trial], results: Path, executor: Executor
) -> Iterator[tuple[Trial, Outcome]]:
    """Yield results as they come; the first worker that fails ends it, after all that had finished by then."""
    payload = results.with_suffix(".bench")
    part = payload.with_suffix(".part")
    part.write_bytes(cloudpickle.dumps(prepared))
    part.replace(payload)
    futures: dict[Future[Outcome], Trial] = {}
    failure: _WorkerError | None = None
    try:
        try:
            for trial in trials:
                futures[executor.submit(_measure, str(payload), trial)] = trial
        except BrokenExecutor as error:
            failure = _WorkerError(trial, error)
        for future in as_completed(futures):
            cause = CancelledError() if future.cancelled() else future.exception()
            if cause is None:
                yield futures[future], future.result()
            elif failure is None:
                failure = _WorkerError(futures[future], cause)
                _cancel(futures)
    finally:
        _cancel(futures)
        payload.unlink(missing_ok=True)
    if failure is not None:
        raise failure


class _WorkerError(Exception):
    def __init__(self, trial: Trial, cause: BaseException) -> None:
        names = [weight for weight, _ in trial] or ["the original"]
        others = f" and {len(names) - 1} other weights" if len(names) > 1 else ""
        super().__init__(f"{names[0]}{others}: {type(cause).__name__}: {first_line(cause)}")
        self.cause = cause


def _cancel(futures: Iterable[Future[Outcome]]) -> None:
    for future in futures:
        future.cancel()


@lru_cache(maxsize=1)
def _loaded(payload: str) -> Bench:
    prepared = cloudpickle.loads(Path(payload).read_bytes())
    assert isinstance(prepared, Bench)  # noqa: S101 - this module wrote it
    return prepared


def _measure(payload: str, trial: Trial) -> Outcome:
    prepared = _loaded(payload)
    torch.set_num_threads(prepared.threads)
    return prepared.measure(trial)
