"""What plans that were found are worth, measured on trained models: `make accuracy`, or this file with names of models.

Half of the inputs calibrate, the other half measures; no sentence, photo or voice is in both. At the bytes of palettes
of one width everywhere, with a table a weight or one for 16 channels, whichever loses less, stands the plan that
`allocate` finds with a sensitivity: from palettes of a table a weight alone, and from the default menu; and what
`refine` makes of the latter on the calibrating half. For 3.5 bits, which no palette has, the other side is half of the
weights at 3 bits and half at 4, the mean of three draws. The interval of a ratio is a 95 % bootstrap over the inputs of
both sides together. Then, how well the sensitivity ranks 100 random plans, half of them with any width for any weight,
half with widths around one that differs from plan to plan, and the half of all that lose least; beside that, how well
losses that were measured on the calibrating half rank them, which no estimate from that half can hope to beat, and how
well one half of the measuring inputs ranks them as the other does.

What was measured is kept in the folder of `--cache`, and a run that was cut off goes on from there.
"""

from __future__ import annotations

import hashlib
import json
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import platformdirs
import torch
from scipy.stats import spearmanr

sys.path.insert(0, str(Path(__file__).parents[1]))

import talaria_nb as tnb
import trained
from talaria_nb.distortion import dequantized
from talaria_nb.legality import refused
from talaria_nb.subjects import subject
from talaria_nb.trials import bench

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from talaria_nb.schemes import Scheme

DEVICE = "iPhone 15 Pro"
WIDTHS = (8, 6, 4, 3, 2)
PALETTES = [tnb.Palettize(nbits) for nbits in (8, 6, 4, 3, 2, 1)]
OFFERED = {"palettes mixed": PALETTES, "default menu": tnb.Menu.default()}
PLANS = 100
RESAMPLES = 10_000


class Measured:
    """Losses of plans on inputs, each measured once and kept."""

    def __init__(self, model: tnb.Model, items: list[object], metric: str, file: Path) -> None:
        self._bench = bench(model, items, metric)
        self._values: dict[tuple[str, Scheme], NDArray[np.floating]] = {}
        self._file = file
        self._known: dict[str, list[float]] = {}
        if file.is_file():
            self._known = dict(json.loads(line) for line in file.read_text().splitlines())

    def losses(self, plan: tnb.Plan) -> NDArray[np.float64]:
        key = hashlib.sha256(repr(plan.schemes).encode()).hexdigest()[:16]
        if key not in self._known:
            changed = {weight: scheme for weight, scheme in plan.schemes.items() if scheme != tnb.Float16()}
            error = self._bench.error({weight: self._stored(weight, scheme) for weight, scheme in changed.items()})
            self._known[key] = error.tolist()
            with self._file.open("a") as file:
                file.write(json.dumps([key, self._known[key]]) + "\n")
        return np.array(self._known[key])

    def _stored(self, weight: str, scheme: Scheme) -> NDArray[np.floating]:
        if (weight, scheme) not in self._values:
            axes = self._bench.channel_axes[weight]
            self._values[weight, scheme] = dequantized(self._bench.values[weight], scheme, channel_axes=axes)
        return self._values[weight, scheme]


def everywhere(model: tnb.Model, *schemes: Scheme) -> tnb.Plan:
    """Give every weight the first of some schemes that is legal for it."""
    chosen = []
    for row, loaded in enumerate(tnb.Plan(model).scheme_of_weight):
        legal = (scheme for scheme in schemes if refused(scheme, subject(model.program, row)) is None)
        chosen.append(next(legal, loaded))
    return tnb.Plan(model).with_schemes(chosen)


def uniform_plans(model: tnb.Model, bits: float) -> dict[str, list[tnb.Plan]]:
    """Return what is compared with: plans of one width, by what they are called."""
    if bits != 3.5:
        scheme = tnb.Palettize(int(bits))
        grouped = tnb.Palettize(int(bits), "per_grouped_channel", 16)
        return {"a table a weight": [everywhere(model, scheme)], "groups of 16": [everywhere(model, grouped, scheme)]}
    names = model.weights.loc[model.weights["compressible"], "name"].to_numpy()
    draws = [np.random.default_rng(seed).permutation(names).tolist() for seed in range(3)]
    half = len(names) // 2
    three = everywhere(model, tnb.Palettize(3))
    return {"half 3, half 4 bits": [three.set(draw[:half], tnb.Palettize(4)) for draw in draws]}


def ratio(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> str:
    """Return the ratio of mean losses with its interval."""
    picks = np.random.default_rng(0).integers(len(ours), size=(RESAMPLES, len(ours)))
    low, high = np.percentile(ours[picks].mean(axis=1) / theirs[picks].mean(axis=1), [2.5, 97.5])
    return f"{ours.mean() / theirs.mean():.2f} ({low:.2f} to {high:.2f})"


def agreement(losses: NDArray[np.float64]) -> float:
    """Return how well one half of the inputs ranks plans as the other does, the mean of 50 draws."""
    rng = np.random.default_rng(0)
    ranks = []
    for _ in range(50):
        order = rng.permutation(losses.shape[1])
        halves = np.array_split(order, 2)
        ranks.append(spearmanr(*(losses[:, half].mean(axis=1) for half in halves)).statistic)
    return float(np.mean(ranks))


def random_plans(model: tnb.Model) -> list[tnb.Plan]:
    rng = np.random.default_rng(1)
    plans = []
    for number in range(PLANS):
        centre = rng.uniform(0, len(WIDTHS) - 1)
        chosen = []
        for row, loaded in enumerate(tnb.Plan(model).scheme_of_weight):
            near = np.clip(round(rng.normal(centre, 0.8)), 0, len(WIDTHS) - 1)
            scheme = tnb.Palettize(WIDTHS[int(rng.integers(len(WIDTHS)) if number % 2 else near)])
            chosen.append(scheme if refused(scheme, subject(model.program, row)) is None else loaded)
        plans.append(tnb.Plan(model).with_schemes(chosen))
    return plans


def show(line: str) -> None:
    print(line, flush=True)  # noqa: T201


def report(name: str, cache: Path, method: str, rounds: int) -> None:
    """Print the tables of one model."""
    case = trained.MODELS[name]()
    model = tnb.load(case.module, case.example, progress=False)
    sensitivity = tnb.sensitivity(
        model, case.calibration, metric=case.metric, method=method, cache=cache, progress=False
    )
    measured = Measured(model, case.test, case.metric, cache / f"{name}.jsonl")
    show(f"\n{name}: {case.metric}, {len(case.test)} inputs\n")
    heads = ["bits", "bytes of", "size", "loss there"]
    heads += [cell for called in (*OFFERED, "refined") for cell in (f"loss, {called}", "ratio")]
    show(f"| {' | '.join(heads)} |")
    show(f"|{' --- |' * len(heads)}")
    refinements = []
    for bits in (2, 3, 3.5, 4, 6):
        compared = uniform_plans(model, bits)
        losses_of = {
            called: np.mean([measured.losses(plan) for plan in plans], axis=0) for called, plans in compared.items()
        }
        called = min(losses_of, key=lambda each: losses_of[each].mean())
        theirs = losses_of[called]
        size = min(plan.estimate(DEVICE).size_bytes for plan in compared[called])
        cells = [f"{bits}", called, f"{size / 1e6:.2f} MB", f"{theirs.mean():.3g}"]
        given = {"error": sensitivity, "progress": False}
        plans_found = {
            offered: tnb.allocate(model, f"{size} B", schemes=schemes, **given) for offered, schemes in OFFERED.items()
        }
        refined = tnb.refine(
            plans_found["default menu"], case.calibration, metric=case.metric, rounds=rounds, cache=cache, **given
        )
        for found in (*plans_found.values(), refined):
            ours = measured.losses(found)
            cells += [f"{ours.mean():.3g}", ratio(ours, theirs)]
        over = ratio(measured.losses(refined), measured.losses(plans_found["default menu"]))
        path = " > ".join(f"{loss:.3g}" for loss in refined.losses)
        refinements.append(f"{bits} bits, {called}: {path}, from {refined.start}; over found {over}")
        show(f"| {' | '.join(cells)} |")
    show("\nLoss on the calibrating half, refined round by round; then what refining changed on the other half:\n")
    for line in refinements:
        show(line)
    show("")
    rank(model, sensitivity, measured, Measured(model, case.calibration, case.metric, cache / f"{name}-known.jsonl"))


def rank(model: tnb.Model, sensitivity: tnb.Sensitivity, measured: Measured, known: Measured) -> None:
    """Print how losses on the test half rank random plans as estimates do, and as losses on the calibrating half do."""
    plans = random_plans(model)
    estimated = np.array([sensitivity.total(plan) for plan in plans])
    calibrated = np.array([known.losses(plan).mean() for plan in plans])
    losses = np.array([measured.losses(plan) for plan in plans])
    means = losses.mean(axis=1)
    for kind, part in {
        "all": slice(None),
        "around one width": slice(0, None, 2),
        "any width": slice(1, None, 2),
        "the better half": means < np.median(means),
    }.items():
        of_estimate, of_calibrated = (
            float(spearmanr(each[part], means[part]).statistic) for each in (estimated, calibrated)
        )
        low, middle, high = np.percentile(means[part], [0, 50, 100])
        show(
            f"Spearman, estimated and measured, {kind}: {of_estimate:.3f}; measured on the calibrating half "
            f"{of_calibrated:.3f}; of halves of the test inputs {agreement(losses[part]):.3f}; losses {low:.3g} to "
            f"{high:.3g}, median {middle:.3g}"
        )
        low, middle, high = np.percentile(means[part] / estimated[part], [0, 50, 100])
        show(f"measured over estimated: {low:.2f} to {high:.2f}, median {middle:.2f}")


def main() -> None:
    parser = ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="*", default=list(trained.MODELS), metavar="MODEL")
    parser.add_argument("--cache", type=Path, default=Path(platformdirs.user_cache_dir("talaria-nb")) / "accuracy")
    parser.add_argument("--method", default="widths")
    parser.add_argument("--rounds", type=int, default=4)
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.cache.mkdir(parents=True, exist_ok=True)
    for name in given.models:
        report(name, given.cache, given.method, given.rounds)


if __name__ == "__main__":
    main()
