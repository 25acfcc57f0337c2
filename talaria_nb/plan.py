"""Plan: which weight is stored how, and which ops read int8 activations."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from talaria_nb.activation_legality import activation_refusals
from talaria_nb.costs import CostTable, cost_table
from talaria_nb.devices import Device
from talaria_nb.devices import device as find_device
from talaria_nb.errors import PlanError, SchemeError
from talaria_nb.estimate import Comparison, Estimate, compared, price
from talaria_nb.legality import CAN_BE_COMPRESSED, refused
from talaria_nb.load import Model
from talaria_nb.matching import listed, op_rows, unknown_weight, weight_rows
from talaria_nb.schemes import Scheme
from talaria_nb.subjects import starting_schemes, subject

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

    import coremltools as ct
    import pandas as pd
    import plotly.graph_objects as go
    import torch
    from numpy.typing import NDArray

    from talaria_nb.configs import ConfiguredPass, Pass
    from talaria_nb.error_table import ErrorTable
    from talaria_nb.evaluation import Evaluation
    from talaria_nb.graded import GradedError
    from talaria_nb.hardware import Measurement
    from talaria_nb.torch_configs import TorchConfigs
    from talaria_nb.training_source import Training


class Plan:
    """An immutable choice of one scheme for every weight of a model; every edit returns a new plan.

    Parameters
    ----------
    model
        The model; the new plan keeps every weight as it was loaded: `Float16()`, or in a package that is already
        compressed the scheme that it has.

    Raises
    ------
    PlanError
        If `model` is not what `tnb.load` returns.
    """

    __slots__ = ("_activations", "_model", "_schemes")

    def __init__(self, model: Model) -> None:
        if not isinstance(model, Model):  # notebooks are untyped
            message = f"Plan() takes what tnb.load() returns, not a value of type {type(model).__name__}."
            raise PlanError(message)
        self._model = model
        self._schemes: tuple[Scheme, ...] = starting_schemes(model.program)
        self._activations: frozenset[int] = frozenset()

    @property
    def model(self) -> Model:
        """The model that the plan is for."""
        return self._model

    @property
    def schemes(self) -> Mapping[str, Scheme]:
        """Scheme of every weight by name, in file order."""
        return dict(zip(self._model.program.weights.name, self._schemes, strict=True))

    @property
    def scheme_of_weight(self) -> tuple[Scheme, ...]:
        """Scheme of every weight, in file order."""
        return self._schemes

    def __getitem__(self, weight: str) -> Scheme:
        try:
            return self._schemes[self._model.program.weight_row[weight]]
        except KeyError:
            raise unknown_weight(self._model, weight) from None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Plan):
            return NotImplemented
        return self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    @property
    def key(self) -> tuple[str, tuple[Scheme, ...], frozenset[int]]:
        """What makes two plans equal: the model's fingerprint, the schemes, the ops with int8 activations."""
        return self._fingerprint, self._schemes, self._activations

    @property
    def evaluation(self) -> Evaluation | None:
        """What `tnb.evaluate` measured of this plan last, or None."""
        return self._model.evaluations.get(self.key)

    def loss(self, errors: ErrorTable | None = None) -> GradedError:
        """Tell what the plan costs in accuracy, with the grade of that; see `talaria_nb.graded.graded_error`."""
        from talaria_nb.graded import graded_error

        return graded_error(self, errors)

    @property
    def known_loss(self) -> GradedError | None:
        """What is known of that already: what `tnb.evaluate` measured, or a plan was found by; None for nothing."""
        return None if self.evaluation is None else self.loss()

    def __repr__(self) -> str:
        counts = Counter(scheme.label for scheme in self._schemes)
        parts = ", ".join(f"{count} × {label}" for label, count in counts.most_common())
        eight = f", int8 activations of {len(self._activations)} ops" if self._activations else ""
        measured = "" if self.evaluation is None else f"; {self.loss()}"
        return f"<talaria_nb.Plan {self._model.program.name}: {parts or 'no weights'}{eight}{measured}>"

    @property
    def _fingerprint(self) -> str:
        return self._model.program.fingerprint

    def set(self, where: str | Iterable[str] | Iterable[bool], scheme: Scheme) -> Plan:
        """Return a plan in which some weights have another scheme.

        Parameters
        ----------
        where
            A glob over module paths, weight names and torch parameters ("encoder.layer.3", "*query*", "*lora_A*"), a
            list of such globs or names, or a boolean mask over `model.weights`. A module stands for everything inside
            it. A glob that matches no weight is an error; weights that coremltools could not compress at all
            (`model.weights.compressible`) are passed over by a glob that matches others too.
        scheme
            The new scheme.

        Raises
        ------
        PlanError
            If nothing matches.
        SchemeError
            If the scheme is illegal for a matched weight.
        """
        if not isinstance(scheme, Scheme):
            message = f"{scheme!r} is not a scheme. Use tnb.Float16(), tnb.Palettize(4), tnb.LinearQuantize('int8'), …"
            raise SchemeError(message)
        rows, chosen_by_name = weight_rows(self._model, where)
        changed = list(self._schemes)
        passed_over: list[str] = []
        for row in rows:
            reason = self._refusal(row, scheme)
            if reason is None:
                changed[row] = scheme
            elif chosen_by_name or self._refusal(row, CAN_BE_COMPRESSED) is None:
                message = f"{self._model.program.weights.name[row]} cannot be {scheme!r}. {reason}"
                raise SchemeError(message)
            else:
                passed_over.append(f"{self._model.program.weights.name[row]}: {reason}")
        if passed_over and len(passed_over) == len(rows):
            message = f"None of the {len(rows)} matched weights can be {scheme!r}. {passed_over[0]}"
            raise SchemeError(message)
        return self.with_schemes(changed)

    def with_schemes(self, schemes: Sequence[Scheme], int8_ops: Iterable[int] | None = None) -> Plan:
        """Return the plan with the given scheme for every weight, in file order, and int8 ops if given, unchecked."""
        return self._with(tuple(schemes), self._activations if int8_ops is None else frozenset(int8_ops))

    def _with(self, schemes: tuple[Scheme, ...], activations: frozenset[int]) -> Plan:
        plan = Plan.__new__(Plan)
        plan._model = self._model
        plan._schemes = schemes
        plan._activations = activations
        return plan

    @property
    def int8_ops(self) -> frozenset[int]:
        """Rows of the ops that read their activations in int8."""
        return self._activations

    @property
    def int8_mask(self) -> NDArray[np.bool_]:
        """Whether each op reads its activations in int8, shape (ops,)."""
        return np.isin(np.arange(len(self._model.program.ops)), [*self._activations])

    @property
    def activations(self) -> Mapping[str, str]:
        """Dtype in which ops read their activations, by op name; ops that read float are left out."""
        return {self._model.program.ops.name[op]: "int8" for op in sorted(self._activations)}

    def set_activations(self, where: str | Iterable[str], dtype: Literal["int8"] | None) -> Plan:
        """Return a plan in which some ops read their activations in 8 bits (with 8-bit weights: W8A8), or in float.

        The program text grows by some 700 bytes for each tensor that is rounded; `weight.bin` does not. An op gets
        faster where all of its weights are int8 too (`LinearQuantize("int8")`) and its unit multiplies int8 faster: the
        Neural Engine from A16 and M4 on.

        Parameters
        ----------
        where
            A glob over op names and module paths, or a list of them. A module stands for everything inside it. Ops
            whose activations coremltools cannot quantize are passed over by a glob that matches others too.
        dtype
            "int8" (iOS17), or None for float.

        Raises
        ------
        PlanError
            If nothing matches.
        SchemeError
            If coremltools could not do it to an op that is named, or to none that is matched.
        """
        if dtype not in ("int8", None):
            message = f'Activations can be "int8" or None (float), not {dtype!r}.'
            raise SchemeError(message)
        program = self._model.program
        patterns = listed(where, "Ops are chosen by name or glob")
        rows = {op: pattern for pattern in patterns for op in op_rows(self._model, pattern)}
        if dtype is None:
            return self._with(self._schemes, self._activations - rows.keys())
        refusals = activation_refusals(program, rows)
        none_can = all(refusals.values())
        for op, reason in refusals.items():
            named = rows[op] == program.ops.name[op]
            if reason is not None and (named or none_can):
                message = f"The activations of {program.ops.name[op]} cannot be int8. {reason}"
                raise SchemeError(message)
        return self._with(self._schemes, self._activations | {op for op, reason in refusals.items() if reason is None})

    def estimate(
        self,
        device: str | Device,
        compute_unit: str = "all",
        *,
        batch: int | None = None,
        context: int | None = None,
    ) -> Estimate:
        """Price the plan on a device.

        Parameters
        ----------
        device
            A name from `tnb.devices()`, or a `Device`.
        compute_unit
            One of `talaria_nb.devices.COMPUTE_UNITS`; "all" is Core ML's own default.
        batch
            Items that one prediction takes, without converting again; None for the batch that the model was loaded
            at. The first dimension of the inputs is taken to be the batch (`talaria_nb.resize.at_batch`).
        context
            Tokens in the key-value caches, likewise (`talaria_nb.resize.at_context`).

        Raises
        ------
        DeviceError
            If the device or the compute unit is unknown.
        PlanError
            If the model cannot have that batch or context length.
        """
        table = self.cost_table(device, compute_unit, batch=batch, context=context)
        return price(table, table.columns_of(self._schemes), self.int8_mask)

    def compare(
        self,
        other: Plan,
        device: str | Device,
        compute_unit: str = "all",
        *,
        batch: int | None = None,
        context: int | None = None,
        errors: ErrorTable | None = None,
    ) -> Comparison:
        """Compare the plan with another plan of the same model, with the interval of the difference itself.

        Parameters
        ----------
        other
            What to compare with, such as `tnb.Plan(model)`.
        device, compute_unit, batch, context
            As in `estimate`, for both.
        errors
            What to add up where not both were measured, such as a sensitivity; see `talaria_nb.graded.graded_errors`.

        Raises
        ------
        PlanError
            If the other plan is for another model, the errors know nothing of a scheme, or as `estimate`.
        DeviceError
            As `estimate`.
        """
        from talaria_nb.graded import graded_errors

        if checked_plan(other, "compare()")._fingerprint != self._fingerprint:
            message = (
                f"This plan is for {self._model.program.name}, the other for another model, {other.model.program.name}."
            )
            raise PlanError(message)
        table = self.cost_table(device, compute_unit, batch=batch, context=context)
        mine = price(table, table.columns_of(self._schemes), self.int8_mask)
        theirs = other.estimate(device, compute_unit, batch=batch, context=context)
        return compared(table, mine, theirs, graded_errors(self, other, errors))

    def table(
        self,
        device: str | Device,
        compute_unit: str = "all",
        *,
        batch: int | None = None,
        context: int | None = None,
        errors: bool = False,
        measured: Measurement | None = None,
    ) -> pd.DataFrame:
        """Price every op, the plan beside float16.

        Parameters
        ----------
        device, compute_unit, batch, context
            As in `estimate`.
        errors
            Whether to find the error of every op's weights too, which looks at all their values.
        measured
            What `tnb.measure` said of the model; nothing of it was ever tested on hardware.

        Returns
        -------
        pandas.DataFrame
            See `talaria_nb.plan_tables.op_table`.
        """
        from talaria_nb import plan_tables, sqnr
        from talaria_nb.hardware import Measurement

        if measured is not None and not isinstance(measured, Measurement):  # notebooks are untyped
            raise PlanError(f"measured= takes what tnb.measure() returns, not {measured!r:.80}.")
        table = self.cost_table(device, compute_unit, batch=batch, context=context)
        noise = sqnr.weight_noise(self) if errors else None
        return plan_tables.op_table(self, table, noise=noise, measured=measured)

    def roofline(self, device: str | Device, compute_unit: str = "all") -> go.Figure:
        """Draw every op under the roofs of its unit, as a plotly figure; see `talaria_nb.roofline.roofline`."""
        from talaria_nb.roofline import roofline

        return roofline(self, device if isinstance(device, Device) else find_device(device), compute_unit)

    def findings(self, device: str | Device, compute_unit: str = "all") -> pd.DataFrame:
        """List what costs more than it has to, and the time at stake; see `talaria_nb.plan_tables.findings`."""
        from talaria_nb import plan_tables

        return plan_tables.findings(self, device, compute_unit)

    def adapters(self) -> pd.DataFrame:
        """List the LoRA adapters and the base as they are stored; see `talaria_nb.plan_tables.adapters`."""
        from talaria_nb import plan_tables

        return plan_tables.adapters(self)

    def weight_table(self, *, errors: bool = False) -> pd.DataFrame:
        """List what every weight takes on disk, with `errors` also sqnr_db, which looks at all values.

        See `talaria_nb.plan_tables.weight_table`.
        """
        from talaria_nb import plan_tables, sqnr

        return plan_tables.weight_table(self, noise=sqnr.weight_noise(self) if errors else None)

    def cost_table(
        self,
        device: str | Device,
        compute_unit: str = "all",
        *,
        batch: int | None = None,
        context: int | None = None,
    ) -> CostTable:
        """Build the cost table of the plan's own schemes; parameters as in `estimate`."""
        found = device if isinstance(device, Device) else find_device(device)
        return cost_table(
            self._model.program,
            found,
            compute_unit=compute_unit,
            schemes=self._schemes,
            batch=batch,
            context=context,
        )

    def optimization_configs(self, *, explicit: bool = False) -> list[ConfiguredPass]:
        """Write the plan as coremltools configs; see `talaria_nb.configs.optimization_configs`."""
        from talaria_nb import configs

        return configs.optimization_configs(self, explicit=explicit)

    def configs_yaml(self, *, explicit: bool = False) -> list[tuple[Pass, str]]:
        """Write the plan as YAML that coremltools reads; see `talaria_nb.configs.configs_yaml`."""
        from talaria_nb import configs

        return configs.configs_yaml(self, explicit=explicit)

    def to_yaml(self) -> str:
        """Write the plan as YAML of our own, for `Plan.from_yaml`; see `talaria_nb.plan_files.to_yaml`."""
        from talaria_nb import plan_files

        return plan_files.to_yaml(self)

    @classmethod
    def from_yaml(cls, model: Model, text: str) -> Plan:
        """Read a plan that `to_yaml` wrote for the same model; see `talaria_nb.plan_files.from_yaml`."""
        from talaria_nb import plan_files

        return plan_files.from_yaml(model, text)

    def to_python(self, *, explicit: bool = False) -> str:
        """Write the plan as Python source that needs coremltools alone; see `talaria_nb.python_source.to_python`."""
        from talaria_nb import python_source

        return python_source.to_python(self, explicit=explicit)

    def to_torch_configs(self, compressor: str = "PostTrainingPalettizer") -> TorchConfigs:
        """Write the plan for a compressor of torch modules; see `talaria_nb.torch_configs.to_torch_configs`."""
        from talaria_nb import torch_configs

        return torch_configs.to_torch_configs(self, compressor)

    def training_script(self, method: Training) -> str:
        """Write a script that trains the module for the plan; see `talaria_nb.training_source.training_script`."""
        from talaria_nb import training_source

        return training_source.training_script(self, method)

    def to_module(self) -> torch.nn.Module:
        """Copy the torch module with the plan's weights; see `talaria_nb.torch_weights.planned_module`."""
        from talaria_nb import torch_weights

        return torch_weights.planned_module(self)

    def compress(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        own_tables: bool = True,
        sample_data: list[dict[str, NDArray[Any]]] | None = None,
        progress: bool = True,
    ) -> ct.models.MLModel:
        """Compress the model with coremltools, and save it if a path is given; see `talaria_nb.export.compress`."""
        from talaria_nb import export

        return export.compress(self, path, own_tables=own_tables, sample_data=sample_data, progress=progress)

    def verify(
        self, compressed: ct.models.MLModel | str | os.PathLike[str] | None = None, *, progress: bool = True
    ) -> pd.DataFrame:
        """Compare predicted with actual bytes and values; see `talaria_nb.verify.verify`."""
        from talaria_nb import verify

        return verify.verify(self, compressed, progress=progress)

    def _refusal(self, row: int, scheme: Scheme) -> str | None:
        return refused(scheme, subject(self._model.program, row))


def checked_plan(given: object, caller: str) -> Plan:
    """Return what a caller was given if it is a plan, for notebooks are untyped.

    Raises
    ------
    PlanError
        If it is none.
    """
    if not isinstance(given, Plan):
        message = f"{caller} takes a plan, such as tnb.Plan(model), not a value of type {type(given).__name__}."
        raise PlanError(message)
    return given
