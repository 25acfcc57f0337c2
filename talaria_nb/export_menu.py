"""What the Explorer's Export menu does: texts to copy or save, configs for the notebook, the compressed package.

A package is compressed on the kernel's main thread: coremltools keeps the state of a conversion in variables of its
modules, so a cell that converts meanwhile would spoil both. Until it is done no cell runs, but progress crosses weight
by weight, the Explorer prices edits by itself and sends them on afterwards, and the kernel can be interrupted.
"""

from __future__ import annotations

import os
import tempfile
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from IPython.core.getipython import get_ipython

from talaria_nb import progress
from talaria_nb.configs import ACTIVATIONS, Pass
from talaria_nb.errors import ExportError, TalariaError
from talaria_nb.export import checked_path, save
from talaria_nb.torch_compressors import COMPRESSORS
from talaria_nb.whole_file import reason
from talaria_nb.wire import EXPORT_ENDINGS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pandas as pd

    from talaria_nb.plan import Plan

CONFIGS_VARIABLE = "optimization_configs"
TORCH_VARIABLE = "torch_configs"
"""Names under which configs are left in the notebook."""

COMPRESSING, VERIFYING = 0.8, 0.85
"""How much of an export is done when the model is compressed, and when its verification begins; the rest saves it."""

_SHOWN_FINDINGS = 20

Answer = dict[str, Any]


class Text(NamedTuple):
    """A text to copy or save: what to call it on screen, what tells its file from those beside it, and itself."""

    title: str
    suffix: str
    text: str


class TakenError(ExportError):
    """There is a file of that name already; `free` is a name beside it that is not taken."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path.name} exists already in {path.parent.resolve()}.")
        self.free = next(
            str(name)
            for number in count(2)
            if not (name := path.with_name(f"{path.stem}-{number}{path.suffix}")).exists()
        )


def answer(plan: Plan, request: Mapping[str, Any], tell: Callable[[str, float], None]) -> Answer:
    """Do what one item of the menu asks for.

    Parameters
    ----------
    plan
        The plan to export.
    request
        what: a key of `_TEXTS`, "configs", "torch" or "package". path: where to save; texts are only shown without.
        replace: whether what is there may be replaced.
    tell
        Called with the stage and how much is done, 0 to 1.

    Returns
    -------
    dict
        ok, and message in a sentence or two. Where there is something to show: texts (title and text of each), saved
        (paths), report (`report_of`). For a name that is taken: taken, another name that is free.
    """
    try:
        return _do(plan, request, tell)
    except TakenError as error:
        return {"ok": False, "message": str(error), "taken": error.free}
    except TalariaError as error:
        return {"ok": False, "message": str(error)}
    except KeyboardInterrupt:
        return {"ok": False, "message": "The kernel was interrupted. Nothing was saved."}


def _do(plan: Plan, request: Mapping[str, Any], tell: Callable[[str, float], None]) -> Answer:
    what, path, replace = str(request.get("what")), str(request.get("path") or ""), bool(request.get("replace"))
    if what == "package":
        return _package(plan, path, replace=replace, tell=tell)
    if what == "configs":
        return _configs(plan)
    if what == "torch":
        return _torch(plan)
    return _texts(plan, what, path, replace=replace)


def _texts(plan: Plan, what: str, path: str, *, replace: bool) -> Answer:
    title, made = _TEXTS[what]
    texts = made(plan)
    shown = [{"title": text.title, "text": text.text} for text in texts]
    if not path:
        return {"ok": True, "message": "" if texts else _NOTHING, "texts": shown}
    saved = _save_texts(texts, checked_path(path, EXPORT_ENDINGS[what], title), replace=replace)
    return {"ok": True, "message": f"Saved {_listed(saved)}.", "texts": shown, "saved": [str(each) for each in saved]}


_NOTHING = "The plan changes nothing, so there is nothing to configure."


def _python(plan: Plan) -> list[Text]:
    return [Text("Python source, which needs coremltools alone", "", plan.to_python())]


def _coremltools_yaml(plan: Plan) -> list[Text]:
    made = plan.configs_yaml()
    several = len(made) > 1
    return [
        Text(
            f"{f'{number}. for' if several else 'For'} coremltools.optimize.coreml.{_function(name)}",
            f"-{number}-{name}" if several else "",
            text,
        )
        for number, (name, text) in enumerate(made, start=1)
    ]


def _function(name: Pass) -> str:
    return name if name == ACTIVATIONS else f"{name}_weights"


def _plan_yaml(plan: Plan) -> list[Text]:
    return [Text("The plan, for tnb.Plan.from_yaml(model, text)", "", plan.to_yaml())]


_TEXTS: Mapping[str, tuple[str, Callable[[Plan], list[Text]]]] = {
    "python": ("Python source", _python),
    "coremltools": ("A config of coremltools", _coremltools_yaml),
    "plan": ("A plan", _plan_yaml),
}
"""Item of the menu → what it is, and how it is made."""


def _save_texts(texts: Sequence[Text], path: Path, *, replace: bool) -> list[Path]:
    """Save all texts or none: several go beside each other, told apart by their suffixes."""
    if not texts:
        raise ExportError(_NOTHING)
    targets = [path.with_name(f"{path.stem}{text.suffix}{path.suffix}") for text in texts]
    for target in targets:
        _check_free(target, replace=replace)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.stem}-", dir=path.parent) as folder:
            written = [Path(folder) / target.name for target in targets]
            for file, text in zip(written, texts, strict=True):
                file.write_text(text.text, encoding="utf-8")
            for file, target in zip(written, targets, strict=True):
                os.replace(file, target)  # noqa: PTH105 - the same, and Path.replace reads as of strings
    except OSError as error:
        raise ExportError(f"{path} could not be saved: {reason(error)}") from error
    return [target.resolve() for target in targets]


def _configs(plan: Plan) -> Answer:
    configs = plan.optimization_configs()
    if not configs:
        return {"ok": False, "message": _NOTHING}
    passes = " and ".join(name for name, _ in configs)
    given = "mlmodel, sample_data" if plan.activations else "mlmodel"
    usage = f"for step in {CONFIGS_VARIABLE}:\n    mlmodel = step.apply({given})\n"
    return {
        "ok": True,
        "message": f"{_leave(CONFIGS_VARIABLE, configs)}: for {passes}, in this order.",
        "texts": [{"title": "Apply them with", "text": usage}],
    }


def _torch(plan: Plan) -> Answer:
    made = {name: plan.to_torch_configs(name) for name in COMPRESSORS}
    covering = {name: each for name, each in made.items() if each.config is not None}
    reasons = made[next(iter(COMPRESSORS))].not_covered
    left = [weight for weight in reasons if all(weight in each.not_covered for each in made.values())]
    first = reasons[left[0]] if left else ""
    if not covering:
        message = f"No compressor of torch modules does what is planned: {first}" if left else _NOTHING
        return {"ok": False, "message": message}
    counts = ", ".join(f"{name} does {len(each.modules)}" for name, each in covering.items())
    rest = f" No compressor does {len(left)} of them: {first}" if left else ""
    usage = ["from coremltools.optimize import torch as cto", ""]
    for name, each in covering.items():
        package = type(each.config).__module__.split(".")[3]
        usage += [f"# {COMPRESSORS[name].asks}"] if COMPRESSORS[name].asks else []
        usage.append(f'compressor = cto.{package}.{name}(module, {TORCH_VARIABLE}["{name}"].config)')
    return {
        "ok": True,
        "message": f"{_leave(TORCH_VARIABLE, covering)}, keyed by compressor. Of the planned weights {counts}.{rest}",
        "texts": [{"title": "Take one of them", "text": "\n".join([*usage, ""])}],
    }


def _leave(name: str, value: object) -> str:
    """Put a value into the notebook under a name, and say so."""
    shell = get_ipython()
    if shell is None:
        message = (
            f"Only Jupyter's notebooks can be given {name} by this menu. In other hosts, write "
            "session.plan.optimization_configs() or session.plan.to_torch_configs() into a cell."
        )
        raise ExportError(message)
    was = name in shell.user_ns
    shell.user_ns[name] = value
    return f"This notebook has a new {name}" if was else f"This notebook now has {name}"


def _package(plan: Plan, path: str, *, replace: bool, tell: Callable[[str, float], None]) -> Answer:
    target = checked_path(path, EXPORT_ENDINGS["package"], "A compressed model")
    _check_free(target, replace=replace)
    with progress.told(lambda stage, done: tell(stage, COMPRESSING * done)):
        compressed = plan.compress()
    tell("Verifying", VERIFYING)
    found = plan.verify(compressed)
    tell("Saving", 0.95)
    _check_free(target, replace=replace)
    saved = save(compressed, target).resolve()
    return {"ok": True, "message": f"Saved {saved}.", "saved": [str(saved)], "report": report_of(plan, found)}


def _check_free(target: Path, *, replace: bool) -> None:
    if not replace and os.path.exists(target):  # noqa: PTH110 - Path.exists raises for names that are too long
        raise TakenError(target)


def report_of(plan: Plan, found: pd.DataFrame) -> dict[str, Any]:
    """Sum up what `plan.verify` found.

    Returns
    -------
    dict
        verdict in a sentence; ok; weights, and matching, those whose bytes are as predicted; rows of (what, predicted
        bytes, actual bytes); findings of (weight, what is wrong), no more than 20.
    """
    weights, file = found.iloc[: len(plan.schemes)], found.iloc[-1]
    wrong = found[found["finding"] != ""]
    return {
        "verdict": found.attrs["verdict"],
        "ok": wrong.empty,
        "weights": len(weights),
        "matching": int(weights["match"].sum()),
        "rows": [
            ["weights", int(weights["predicted_bytes"].sum()), int(weights["actual_bytes"].sum())],
            ["weight.bin", int(file["predicted_bytes"]), int(file["actual_bytes"])],
            ["whole package", int(found.attrs["predicted_package_bytes"]), int(found.attrs["package_bytes"])],
        ],
        "findings": [[str(name), text] for name, text in wrong["finding"].head(_SHOWN_FINDINGS).items()],
    }


def _listed(paths: Sequence[Path]) -> str:
    return " and ".join(str(path) for path in paths)
