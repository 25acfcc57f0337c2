"""LowRank: what weights as products of two thin matrices would cost, and the torch module that has them so.

No scheme stores such a weight: it is another model, with two layers in place of one. What it costs is counted
beforehand, on a program that is rewritten so; `rewrite` makes the module, to be trained a little and loaded again.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from talaria_nb.costs import cost_table
from talaria_nb.devices import Device
from talaria_nb.devices import device as find_device
from talaria_nb.errors import PlanError
from talaria_nb.estimate import compared, decibels, price, price_ops
from talaria_nb.factored import factor, refusal, rewritten
from talaria_nb.legality import refused
from talaria_nb.matching import weight_rows
from talaria_nb.plan import Plan
from talaria_nb.schemes import Float16
from talaria_nb.subjects import subject
from talaria_nb.torch_weights import find_links
from talaria_nb.work import count_work

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from talaria_nb.factored import Factors
    from talaria_nb.load import Model
    from talaria_nb.program import Program
    from talaria_nb.schemes import Scheme

MODEL = "model"
"""Index of the row for the whole model."""

_CONVS = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)


@dataclass(frozen=True, slots=True)
class LowRank:
    """Weights of linear layers and of 1×1 convolutions as products of two, with `rank` channels in between.

    Parameters
    ----------
    rank
        At least 1. It saves where it is below inputs · outputs / (inputs + outputs).

    Raises
    ------
    PlanError
        If it is no whole number of at least 1.
    """

    rank: int

    def __post_init__(self) -> None:
        if isinstance(self.rank, bool) or not isinstance(self.rank, int) or self.rank < 1:
            raise PlanError(f"A rank is a whole number of at least 1, not {self.rank!r}.")

    def what_if(
        self,
        model_or_plan: Model | Plan,
        where: str | Iterable[str],
        device: str | Device,
        compute_unit: str = "all",
    ) -> pd.DataFrame:
        """Price the model with some weights as products, beside the model as it is.

        Parameters
        ----------
        model_or_plan
            What `tnb.load` returns, or a plan for it. Both factors are stored as the plan stores the weight if that is
            legal for them, else as float16.
        where
            As in `Plan.set`. A glob that matches other weights too passes over what cannot be a product of that rank.
        device, compute_unit
            As in `Plan.estimate`.

        Returns
        -------
        pandas.DataFrame
            One row a weight, by name, then `MODEL`. bytes and bytes_after: data, tables and scales of the weight; of
            the model `weight.bin`, to the byte. flops, flops_after, latency_ms and latency_ms_after: of the op that
            reads the weight, or of the two; of the model all. change_ms, change_low_ms, change_high_ms: change of the
            model's latency with its 80 % interval. noise_to_signal and sqnr_db: of the weight, or of all these weights
            together; exact, for the best product leaves out the smallest singular values (Eckart and Young, 1936),
            and without what rounding or compressing the factors adds.

        Raises
        ------
        PlanError
            If nothing matches, or nothing that is named can be such a product.
        DeviceError
            If the device or the compute unit is unknown.
        """
        plan = model_or_plan if isinstance(model_or_plan, Plan) else Plan(model_or_plan)
        chip = device if isinstance(device, Device) else find_device(device)
        old = plan.model.program
        factors = self._factors(plan.model, where)
        new, row_of, op_of = rewritten(old, factors)
        schemes = _schemes(plan, new, factors, row_of)
        before = plan.cost_table(chip, compute_unit)
        after = cost_table(new, chip, compute_unit=compute_unit, schemes=schemes)
        columns, columns_after = before.columns_of(plan.scheme_of_weight), after.columns_of(schemes)
        op_ms, op_ms_after = price_ops(before, columns).op_ms, price_ops(after, columns_after).op_ms
        flops, flops_after = count_work(old).flops, count_work(new).flops
        payload = before.payload_bytes[np.arange(len(columns)), columns]
        payload_after = after.payload_bytes[np.arange(len(columns_after)), columns_after]
        now, then = price(before, columns), price(after, columns_after)
        change = compared(before, then, now)
        rows = {}
        for row, each in factors.items():
            op = old.weights.readers[row][0]
            both, weights = slice(op_of[op], op_of[op] + 2), slice(row_of[row], row_of[row] + 2)
            rows[old.weights.name[row]] = {
                "bytes": int(payload[row]),
                "bytes_after": int(payload_after[weights].sum()),
                "flops": int(flops[op]),
                "flops_after": int(flops_after[both].sum()),
                "latency_ms": float(op_ms[op]),
                "latency_ms_after": float(op_ms_after[both].sum()),
                "noise_to_signal": each.squared_error / each.signal,
            }
        rows[MODEL] = {
            "bytes": now.weight_file_bytes,
            "bytes_after": then.weight_file_bytes,
            "flops": int(flops.sum()),
            "flops_after": int(flops_after.sum()),
            "latency_ms": now.latency_ms,
            "latency_ms_after": then.latency_ms,
            "change_ms": change.difference_ms,
            "change_low_ms": change.difference_interval[0],
            "change_high_ms": change.difference_interval[1],
            "noise_to_signal": sum(each.squared_error for each in factors.values())
            / sum(each.signal for each in factors.values()),
        }
        frame = pd.DataFrame.from_dict(rows, orient="index", columns=_COLUMNS)
        return frame.assign(sqnr_db=frame["noise_to_signal"].map(decibels))

    def rewrite(self, model: Model, where: str | Iterable[str]) -> torch.nn.Module:
        """Copy the model's torch module with two layers in place of each of some.

        Parameters
        ----------
        model
            A model that was loaded from a torch module.
        where
            As in `what_if`.

        Returns
        -------
        torch.nn.Module
            In eval mode. `torch.nn.Sequential` of two layers stands where a layer was, its factors the best for the
            converted weight: a batch norm that conversion folds into it counts. `tnb.load` gives it the bytes that
            `what_if` says.

        Raises
        ------
        PlanError
            As `what_if`, or if a layer is of a kind that cannot be replaced.
        EvaluationError
            If the model did not come from a torch module.
        """
        links, missing = find_links(model)
        factors = self._factors(model, where)
        assert model.module is not None  # noqa: S101 - find_links refuses
        module = copy.deepcopy(model.module).eval()
        for row, each in factors.items():
            name = model.program.weights.name[row]
            if name not in links:
                raise PlanError(f"{name} cannot be found in the torch module: {missing[name]}.")
            link = links[name]
            path, _, attribute = link.parameter.rpartition(".")
            layer = module.get_submodule(path) if path else module
            scale = np.ones(1) if link.scale is None else link.scale
            of_outputs = scale.size in (1, scale.shape[0]) and scale.all()
            if attribute != "weight" or link.turned or link.rows is not None or not of_outputs or not path:
                raise PlanError(f"{name} is computed from the parameter {link.parameter}: {_ONLY_LAYERS}")
            second = (each.second / scale).astype(np.float32)
            module.set_submodule(path, _two_layers(name, path, layer, each.first.astype(np.float32), second))
        return module

    def _factors(self, model: Model, where: str | Iterable[str]) -> Mapping[int, Factors]:
        """Take the weights that are meant apart, by row in `model.weights`."""
        rows, outright = weight_rows(model, where)
        refusals = {row: refusal(model.program, row, self.rank) for row in rows}
        for row, reason in refusals.items():
            if reason is not None and (outright or all(refusals.values())):
                name = model.program.weights.name[row]
                raise PlanError(f"{name} cannot be a product of rank {self.rank}: {reason}")
        names = model.program.weights.name
        return {
            row: factor(model.weight_value(names[row]), self.rank)
            for row, reason in sorted(refusals.items())
            if reason is None
        }


_COLUMNS = [
    "bytes",
    "bytes_after",
    "flops",
    "flops_after",
    "latency_ms",
    "latency_ms_after",
    "change_ms",
    "change_low_ms",
    "change_high_ms",
    "noise_to_signal",
]
_ONLY_LAYERS = "only weights of torch.nn.Linear and of convolutions can be replaced."


def _schemes(plan: Plan, program: Program, factors: Iterable[int], row_of: NDArray[np.int64]) -> list[Scheme]:
    """Return the scheme of every weight of the rewritten program."""
    schemes: list[Scheme] = [Float16()] * len(program.weights)
    for row, scheme in enumerate(plan.scheme_of_weight):
        places = [int(row_of[row]) + last for last in range(1 + (row in factors))]
        if len(places) == 1 or all(refused(scheme, subject(program, place)) is None for place in places):
            for place in places:
                schemes[place] = scheme
    return schemes


def _two_layers(
    name: str, path: str, layer: Any, first: NDArray[np.float32], second: NDArray[np.float32]
) -> torch.nn.Sequential:
    rank, (outputs, inputs, *_) = len(first), (len(second), *first.shape[1:])
    given: dict[str, Any] = {"device": layer.weight.device, "dtype": layer.weight.dtype}
    with_bias = getattr(layer, "bias", None) is not None
    layers: tuple[Any, Any]
    if type(layer) is torch.nn.Linear:
        layers = (
            torch.nn.Linear(inputs, rank, bias=False, **given),
            torch.nn.Linear(rank, outputs, bias=with_bias, **given),
        )
    elif type(layer) in _CONVS:
        kind = type(layer)
        there = {"stride": layer.stride, "padding": layer.padding, "padding_mode": layer.padding_mode}
        layers = (kind(inputs, rank, 1, bias=False, **there, **given), kind(rank, outputs, 1, bias=with_bias, **given))
    else:
        raise PlanError(f"{name} belongs to {path}, of class {type(layer).__name__}: {_ONLY_LAYERS}")
    with torch.no_grad():
        for each, values in zip(layers, (first, second), strict=True):
            each.weight.copy_(torch.from_numpy(values).reshape(each.weight.shape))
        if with_bias:
            layers[1].bias.copy_(layer.bias)
    return torch.nn.Sequential(*layers).eval()
