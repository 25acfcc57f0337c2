"""The command line: `talaria-nb devices`, `talaria-nb lab [MODEL]`, and `talaria-nb estimate MODEL --device …` for CI.

Standard output holds the result and nothing else. Exit status: 0; 1, the model is over budget; 2, bad input, with one
sentence on standard error.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import json
import math
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from talaria_nb.budgets import BITS, BYTES, MILLISECONDS
from talaria_nb.devices import COMPUTE_UNITS, device, devices, listed_device
from talaria_nb.errors import LoadError, PlanError, TalariaError
from talaria_nb.lab import open_lab
from talaria_nb.load import load
from talaria_nb.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from talaria_nb.devices import Device
    from talaria_nb.estimate import Estimate
    from talaria_nb.load import Model

OVER_BUDGET, BAD_INPUT = 1, 2
"""Exit statuses beside 0."""

_PLAIN = {"": 1.0}
_BYTES: Mapping[str, float] = {**_PLAIN, **BYTES}
_BITS: Mapping[str, float] = {**_PLAIN, **BITS}


class Budget(NamedTuple):
    """One limit and what the plan takes of it."""

    name: str
    unit: str
    limit: float
    value: float

    @property
    def over(self) -> float:
        """How much more than the limit the plan takes; 0 where it keeps it."""
        return max(0.0, self.value - self.limit)

    @property
    def sentence(self) -> str:
        """What to say where it does not."""
        share = f" ({self.over / self.limit:.1%})" if self.limit else ""
        value, over, limit = (_number(number, self.unit) for number in (self.value, self.over, self.limit))
        return f"over budget: {self.name} is {value}, {over}{share} more than {limit}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Parameters
    ----------
    arguments
        What follows the command's name; None for those of the process.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        status: int = options.run(options)
    except TalariaError as error:
        print(f"talaria-nb: {' '.join(str(error).split())}", file=sys.stderr)
        return BAD_INPUT
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="talaria-nb", description="What a model costs on an iPhone, iPad or Mac.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    listing = commands.add_parser("devices", help="list the devices that can be priced")
    listing.add_argument("--json", action="store_true", help="with chips and compute units, as JSON")
    listing.set_defaults(run=_devices)
    estimate = commands.add_parser("estimate", help="price a model; exit status 1 if it is over a budget")
    estimate.add_argument(
        "model",
        metavar="MODEL",
        help="an .mlpackage, or package.module:function of a function that returns (module, example_inputs)",
    )
    estimate.add_argument("--device", required=True, help='such as "iPhone 15 Pro", a chip, or a TOML file')
    estimate.add_argument("--compute-unit", default="all", choices=COMPUTE_UNITS)
    estimate.add_argument("--function", help="the function of a package that has several")
    estimate.add_argument("--plan", type=Path, help="a file that plan.to_yaml() wrote; default: as loaded")
    estimate.add_argument("--batch", type=int, help="items of one prediction; default: as loaded")
    estimate.add_argument("--json", action="store_true", help="print JSON instead of a table")
    estimate.add_argument("--max-size", type=_quantity(_BYTES), metavar="SIZE", help="of the package: 4MB, 3.5MiB, …")
    estimate.add_argument(
        "--max-latency", type=_quantity(MILLISECONDS), metavar="TIME", help="of one prediction: 5ms, 800us, …"
    )
    estimate.add_argument("--max-bits", type=_quantity(_BITS), metavar="BITS", help="stored bits a weight: 4.5")
    estimate.set_defaults(run=_estimate)
    lab = commands.add_parser("lab", help="open JupyterLab on a fresh notebook for a model")
    lab.add_argument("model", metavar="MODEL", nargs="?", help="as for estimate; without it, a small example")
    lab.add_argument("--device", default="iPhone 15 Pro", help="what the notebook explores")
    lab.set_defaults(run=lambda options: open_lab(options.model, listed_device(options.device).name))
    return parser


def _quantity(units: Mapping[str, float]) -> Any:
    """Make an argparse type of a number with one of the given units."""

    def parse(text: str) -> float:
        match = re.fullmatch(r"\s*([\d.]+)\s*([^\W\d]*)\s*", text)
        if match is None or match[1].count(".") > 1 or match[1] == "." or match[2] not in units:
            one_of = ", ".join(unit for unit in units if unit)
            message = f"{text!r} is not a number with a unit ({one_of})"
            raise argparse.ArgumentTypeError(message)
        return float(match[1]) * units[match[2]]

    return parse


def _devices(options: argparse.Namespace) -> int:
    found = [device(name) for name in devices()]
    if options.json:
        rows = [{"name": each.name, "chip": each.chip, "compute_units": each.compute_units} for each in found]
        print(json.dumps(rows, indent=2))
    else:
        print(_aligned((each.name, each.chip) for each in found))
    return 0


def _estimate(options: argparse.Namespace) -> int:
    target = device(options.device)
    target.unit(options.compute_unit)  # what is wrong here should not wait for a conversion
    model = _load(options.model, options.function)
    plan = Plan(model) if options.plan is None else Plan.from_yaml(model, _read(options.plan))
    estimate = plan.estimate(target, options.compute_unit, batch=options.batch)
    budgets = _budgets(options, estimate)
    if options.json:
        print(json.dumps(_as_json(plan, target, estimate, budgets), indent=2, ensure_ascii=False))
    else:
        print(_aligned(_as_table(plan, target, estimate, budgets)))
    for budget in budgets:
        if budget.over:
            print(f"talaria-nb: {budget.sentence}", file=sys.stderr)
    return OVER_BUDGET if any(budget.over for budget in budgets) else 0


def _load(source: str, function: str | None) -> Model:
    """Load a package, or what a function makes."""
    module, colon, name = source.rpartition(":")
    with contextlib.redirect_stdout(sys.stderr):  # what a model prints is no result
        if not colon or source.endswith(".mlpackage") or not re.fullmatch(r"[\w.]+", module):
            return load(Path(source), function=function, progress=False)
        made = _call(module, name)
        if not isinstance(made, tuple) or len(made) != 2:
            message = f"{source} must return (module, example_inputs), not a value of type {type(made).__name__}."
            raise LoadError(message)
        return load(*made, function=function, progress=False)


def _call(module: str, name: str) -> object:
    sys.path.insert(0, "")  # as `python -m` does
    try:
        make = getattr(importlib.import_module(module), name)
        return make()
    except Exception as error:
        message = f"{module}:{name} gave no model: {type(error).__name__}: {error}"
        raise LoadError(message) from error
    finally:
        sys.path.remove("")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        message = f"The plan {path} cannot be read: {error}"
        raise PlanError(message) from error


def _budgets(options: argparse.Namespace, estimate: Estimate) -> list[Budget]:
    limits = (
        ("size", "bytes", options.max_size, estimate.size_bytes),
        ("latency", "ms", options.max_latency, estimate.latency_ms),
        ("weights", "bits", options.max_bits, estimate.bits_per_weight),
    )
    return [Budget(name, unit, limit, value) for name, unit, limit, value in limits if limit is not None]


def _as_json(plan: Plan, target: Device, estimate: Estimate, budgets: Sequence[Budget]) -> dict[str, Any]:
    fields = dataclasses.asdict(estimate)
    fields["latency_interval_ms"] = fields.pop("latency_interval")
    certainty, source = _certainty(target, estimate)
    return {
        "model": plan.model.program.name,
        "chip": target.chip,
        **fields,
        "throughput_per_s": estimate.throughput_per_s,
        "certainty": {"size_bytes": "exact to 0.01 %", "weight_file_bytes": "exact", "bits_per_weight": "exact"}
        | {"latency_ms": "estimated", "latency_interval_ms": f"{certainty}: {source}"},
        "budgets": [
            {"name": each.name, "unit": each.unit, "limit": each.limit, "value": each.value, "over": each.over}
            for each in budgets
        ],
    }


def _as_table(
    plan: Plan, target: Device, estimate: Estimate, budgets: Sequence[Budget]
) -> Iterable[tuple[str, str, str]]:
    program = plan.model.program
    low, high = estimate.latency_interval
    yield "model", program.name, f"{len(program.ops):,} ops, {len(program.weights):,} weights"
    yield "device", target.name, f"{target.chip}, {estimate.compute_unit}"
    yield "size", _number(estimate.size_bytes, "bytes"), "exact to 0.01 %"
    yield "weight.bin", _number(estimate.weight_file_bytes, "bytes"), "exact"
    yield "weights", _number(estimate.bits_per_weight, "bits"), "exact, tables and scales included"
    yield "latency", _number(estimate.latency_ms, "ms"), f"estimated; 80 % interval {low:.3g} to {high:.3g} ms"
    yield "", "", "interval {}: {}".format(*_certainty(target, estimate))
    if estimate.batch > 1:
        yield "throughput", f"{estimate.throughput_per_s:,.1f} a second", f"estimated; {estimate.batch} a prediction"
    for budget in budgets:
        kept = "over" if budget.over else "kept"
        unsure = budget.name == "latency" and low <= budget.limit <= high
        yield "budget", f"{budget.name} {_number(budget.limit, budget.unit)}", f"{kept}{', by the estimate' * unsure}"


def _certainty(target: Device, estimate: Estimate) -> tuple[str, str]:
    """Say how the interval of the latency is known."""
    parameter = target.unit(estimate.compute_unit).provenance["interval_high"]
    return parameter.certainty, parameter.source


def _number(value: float, unit: str) -> str:
    if unit == "bytes":
        return f"{math.ceil(value):,} bytes"
    return f"{value:.4g} {unit}"


def _aligned(rows: Iterable[tuple[str, ...]]) -> str:
    """Write rows as columns; the last is as long as it is."""
    table = list(rows)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table
    )


if __name__ == "__main__":
    sys.exit(main())
