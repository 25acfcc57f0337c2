"""Plan and Estimate: which weight is stored how, and what that costs."""

from __future__ import annotations

import difflib
import fnmatch
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from math import isnan, log10
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from talaria_nb.costs import CostTable, cost_table, stored_weight
from talaria_nb.devices import UNITS, Device
from talaria_nb.devices import device as find_device
from talaria_nb.energy import ENERGY_FACTOR
from talaria_nb.errors import PlanError, SchemeError
from talaria_nb.frames import shape_text
from talaria_nb.latency import BOUNDS, bound, difference_interval, plan_interval, ratio_interval
from talaria_nb.legality import activation_refusal, refused, starting_schemes, subject
from talaria_nb.lint import COSTS_TIME, SEVERITIES
from talaria_nb.load import Model
from talaria_nb.schemes import LinearQuantize, Scheme
from talaria_nb.storage import FILE_HEADER_BYTES

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import coremltools as ct
    import plotly.graph_objects as go
    from numpy.typing import NDArray

    from talaria_nb.configs import ConfiguredPass, Pass
    from talaria_nb.hardware import Measurement
    from talaria_nb.torch_configs import TorchConfigs

_CAN_BE_COMPRESSED = LinearQuantize("int8", "per_tensor")
"""Legal for every weight that coremltools can compress at all, on every deployment target."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The totals of one plan on one device.

    Attributes
    ----------
    size_bytes
        Whole package on disk as `Plan.compress` writes it, within 0.01 %: the program text is built and counted.
        coremltools' own functions add index arithmetic, some 640 bytes, for each embedding and each pass from iOS17
        on; `Plan.compress` does not.
    weight_file_bytes
        `weight.bin`, exact to the byte.
    bits_per_weight
        Stored bits (tables and scales included) over elements, of all weights. Exact.
    latency_ms
        Estimated time of one prediction.
    latency_interval
        80 % interval of `latency_ms` (low, high), calibrated on published measurements that the fit had not seen;
        wider for a plan that changes the latency.
    peak_memory_bytes
        Memory that a loaded model takes at the fullest moment of a prediction: its weights, as stored where the unit
        reads the format and dense elsewhere, its other constants, states, and the activations alive then. Exact for
        the order in which the program lists its ops and one buffer a tensor; Core ML may reorder and fuse.
    energy_mj
        Energy of one prediction, millijoules: a rough guess (`talaria_nb.energy`).
    energy_interval
        (low, high): `energy_mj` is known to a factor of 2.5 each way.
    device, compute_unit
        What the latency was estimated for.
    weight_error
        Squared error of all weights over the sum of their squares, None where it is not known: `session.estimate` knows
        it after `session.find_errors()`. It grades the weights, not the model's output, which is more sensitive to
        some weights than to others.
    batch
        Items that one prediction takes.
    """

    size_bytes: int
    weight_file_bytes: int
    bits_per_weight: float
    latency_ms: float
    latency_interval: tuple[float, float]
    peak_memory_bytes: int
    energy_mj: float
    energy_interval: tuple[float, float]
    device: str
    compute_unit: str
    weight_error: float | None = None
    batch: int = 1

    @property
    def sqnr_db(self) -> float | None:
        """Signal to quantization noise of all weights, -10·log₁₀(weight_error) in dB; infinite without any error."""
        if self.weight_error is None:
            return None
        return -10 * log10(self.weight_error) if self.weight_error else float("inf")

    @property
    def throughput_per_s(self) -> float:
        """Items a second, one prediction after the other."""
        return 1000 * self.batch / self.latency_ms


@dataclass(frozen=True, slots=True, eq=False)
class OpCosts:
    """What each op costs under one plan.

    Attributes
    ----------
    op_ms
        float64, shape (ops,).
    bound
        One of `latency.BOUNDS`. Shape (ops,).
    weight_bytes
        Payload of the weights that the op reads. float64, shape (ops,).
    moved_bytes
        Bytes of weights that the op brings in: as stored or dense, as its unit reads them, and of a look-up table only
        the rows read. float64, shape (ops,).
    op_mj
        Energy, float64, shape (ops,).
    """

    op_ms: NDArray[np.float64]
    bound: NDArray[np.str_]
    weight_bytes: NDArray[np.float64]
    moved_bytes: NDArray[np.float64]
    op_mj: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two plans of one model on one device.

    Attributes
    ----------
    plan, other
        Their estimates, each with its own interval.
    difference_ms
        Latency of the plan - that of the other: negative where the plan is faster.
    difference_interval
        80 % interval of `difference_ms` (low, high). Narrower than the intervals of the two suggest: what is wrong
        about the model or the device is wrong about both and cancels.
    ratio
        Latency of the plan / that of the other.
    ratio_interval
        80 % interval of `ratio`.
    difference_bytes
        Size of the plan - that of the other.
    """

    plan: Estimate
    other: Estimate
    difference_ms: float
    difference_interval: tuple[float, float]
    ratio: float
    ratio_interval: tuple[float, float]
    difference_bytes: int


def price(table: CostTable, columns: NDArray[np.integer]) -> Estimate:
    """Price a plan from a cost table: look up and sum.

    Parameters
    ----------
    table
        The prices.
    columns
        Column of each weight's scheme; int64, shape (weights,). Not checked for legality.
    """
    rows = np.arange(len(columns))
    needed = table.shared[rows, columns]
    shared = np.unique(needed)
    weight_file_bytes = (
        table.fixed_file_bytes
        + float(table.file_bytes[rows, columns].sum())
        + float(table.shared_file_bytes[shared[shared >= 0]].sum())
        - _tail_bytes(table, columns, needed)
    )
    proto_bytes = table.fixed_proto_bytes + float(table.proto_bytes[rows, columns].sum())
    if (columns != table.start).any():
        proto_bytes += offset_bytes(table, columns) - offset_bytes(table, table.start) - table.build_info_bytes
    elements = float(table.elements.sum())
    payload = float(table.payload_bytes[rows, columns].sum())
    ops = price_ops(table, columns)
    latency_ms = table.dispatch_ms + float(ops.op_ms.sum())
    before_ms = start_ms(table)
    low, high = plan_interval(table.main_unit, table.interval, latency_ms / before_ms if before_ms else 1.0)
    energy_mj = table.dispatch_ms * table.main_unit.active_w + float(ops.op_mj.sum())
    return Estimate(
        size_bytes=int(weight_file_bytes + proto_bytes),
        weight_file_bytes=int(weight_file_bytes),
        bits_per_weight=8 * payload / elements if elements else 0.0,
        latency_ms=latency_ms,
        latency_interval=(latency_ms * low, latency_ms * high),
        peak_memory_bytes=table.fixed_memory_bytes + int(table.resident_bytes[rows, columns].sum()),
        energy_mj=energy_mj,
        energy_interval=(energy_mj / ENERGY_FACTOR, energy_mj * ENERGY_FACTOR),
        device=table.device,
        compute_unit=table.compute_unit,
        weight_error=_weight_error(table, columns),
        batch=table.batch,
    )


def offset_bytes(table: CostTable, columns: NDArray[np.integer]) -> int:
    """Count the bytes of all offsets in `weight.bin` that the program proto holds, but one for each.

    The first tensor of a weight is taken to be its largest: the others lie behind it.
    """
    rows = np.arange(len(columns))
    before, sizes = table.fixed_records.T.astype(np.int64)
    ends = np.concatenate([[0], np.cumsum(table.file_bytes[rows, columns])])
    fixed = np.concatenate([[0], np.cumsum(sizes)])
    behind = np.searchsorted(before, rows, side="right")
    starts = FILE_HEADER_BYTES + ends[:-1] + fixed[behind]
    tensors = table.tensors[rows, columns].astype(np.int64)
    others = np.maximum(tensors - 1, 0) * _extra_bytes(starts + table.file_bytes[rows, columns])
    first = (tensors > 0) * _extra_bytes(starts)
    return int((first + others).sum() + _extra_bytes(FILE_HEADER_BYTES + ends[before] + fixed[:-1]).sum())


def _extra_bytes(offsets: NDArray[np.float64]) -> NDArray[np.int64]:
    """Count the bytes of whole numbers in a proto beyond the first: seven bits go into each."""
    return np.searchsorted([2**7, 2**14, 2**21, 2**28, 2**35], offsets, side="right")


def _weight_error(table: CostTable, columns: NDArray[np.integer]) -> float | None:
    error = float(table.squared_error[np.arange(len(columns)), columns].sum())
    signal = float(table.signal.sum())
    if isnan(error) or isnan(signal):
        return None
    return error / signal if error else 0.0


def _tail_bytes(table: CostTable, columns: NDArray[np.integer], needed: NDArray[np.int16]) -> float:
    """Return the padding that `weight.bin` is spared after its last tensor."""
    if table.last_weight < 0:
        return 0.0
    column = columns[table.last_weight]
    shared = table.tail_shared[column]
    others = np.delete(needed, table.last_weight, axis=0)
    return float(table.tail_bytes[column, int(shared >= 0 and bool((others == shared).any()))])


def start_ms(table: CostTable) -> float:
    """Estimate the latency of the model as it was loaded."""
    return table.dispatch_ms + float(price_ops(table, table.start).op_ms.sum())


def price_ops(table: CostTable, columns: NDArray[np.integer]) -> OpCosts:
    """Price every op under a plan; parameters as in `price`."""
    read = table.op_weights
    times = _times(table, columns)
    memory_ms = times.activation_ms + _sum_by_op(table, table.op_weights_share * table.stream_ms[read, columns[read]])
    op_ms = times.launch_ms + np.maximum(times.compute_ms, memory_ms)
    moved_bytes = _sum_by_op(table, table.op_weights_share * table.resident_bytes[read, columns[read]])
    return OpCosts(
        op_ms=op_ms,
        bound=np.array(BOUNDS)[bound(times, memory_ms)],
        weight_bytes=_sum_by_op(table, table.payload_bytes[read, columns[read]]),
        moved_bytes=moved_bytes,
        op_mj=table.work_mj + table.byte_mj * moved_bytes + table.active_w * op_ms,
    )


class _Times(NamedTuple):
    """Parts of each op's time under one plan, as in `latency.OpTimes`."""

    launch_ms: NDArray[np.float64]
    compute_ms: NDArray[np.float64]
    activation_ms: NDArray[np.float64]
    products_ms: NDArray[np.float64]
    traffic_ms: NDArray[np.float64]


def _times(table: CostTable, columns: NDArray[np.integer]) -> _Times:
    """Look up the parts of each op's time: those of W8A8 where an op's activations and all of its weights are int8."""
    parts = [table.compute_ms, table.activation_ms, table.products_ms, table.traffic_ms]
    if table.int8_ops.size:
        others = _sum_by_op(table, ~table.int8_schemes[columns[table.op_weights]])
        both = others[table.int8_ops] == 0
        parts = [part.copy() for part in parts]
        for part, eight in zip(parts, table.int8_ms, strict=True):
            part[table.int8_ops[both]] = eight[both]
    return _Times(table.launch_ms, *parts)


def _sum_by_op(table: CostTable, per_read: NDArray[np.generic]) -> NDArray[np.float64]:
    ops = np.repeat(np.arange(len(table.launch_ms)), np.diff(table.op_weights_start))
    return np.bincount(ops, weights=per_read, minlength=len(table.launch_ms)).astype(np.float64, copy=False)


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
            raise PlanError(self._unknown(weight)) from None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Plan):
            return NotImplemented
        return self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    @property
    def _value(self) -> tuple[str, tuple[Scheme, ...], frozenset[int]]:
        return self._fingerprint, self._schemes, self._activations

    def __repr__(self) -> str:
        counts = Counter(scheme.label for scheme in self._schemes)
        parts = ", ".join(f"{count} × {label}" for label, count in counts.most_common())
        eight = f", int8 activations of {len(self._activations)} ops" if self._activations else ""
        return f"<talaria_nb.Plan {self._model.program.name}: {parts or 'no weights'}{eight}>"

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
        rows, chosen_by_name = self._rows(where)
        changed = list(self._schemes)
        passed_over: list[str] = []
        for row in rows:
            reason = self._refusal(row, scheme)
            if reason is None:
                changed[row] = scheme
            elif chosen_by_name or self._refusal(row, _CAN_BE_COMPRESSED) is None:
                message = f"{self._model.program.weights.name[row]} cannot be {scheme!r}. {reason}"
                raise SchemeError(message)
            else:
                passed_over.append(f"{self._model.program.weights.name[row]}: {reason}")
        if passed_over and len(passed_over) == len(rows):
            message = f"None of the {len(rows)} matched weights can be {scheme!r}. {passed_over[0]}"
            raise SchemeError(message)
        return self.with_schemes(changed)

    def with_schemes(self, schemes: Sequence[Scheme]) -> Plan:
        """Return the plan with the given scheme for every weight, in file order, unchecked."""
        return self._with(tuple(schemes), self._activations)

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
    def activations(self) -> Mapping[str, str]:
        """Dtype in which ops read their activations, by op name; ops that read float are left out."""
        return {self._model.program.ops.name[op]: "int8" for op in sorted(self._activations)}

    def set_activations(self, where: str | Iterable[str], dtype: Literal["int8"] | None) -> Plan:
        """Return a plan in which some ops read their activations in 8 bits (with 8-bit weights: W8A8), or in float.

        Size is not affected. An op gets faster where all of its weights are int8 too (`LinearQuantize("int8")`) and its
        unit multiplies int8 faster: the Neural Engine from A17 Pro and M4 on.

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
        patterns = [where] if isinstance(where, str) else list(where)
        rows = {op: pattern for pattern in patterns for op in self._match_ops(pattern)}
        if dtype is None:
            return self._with(self._schemes, self._activations - rows.keys())
        refusals = {op: activation_refusal(program, op) for op in rows}
        for op, reason in refusals.items():
            named = rows[op] == program.ops.name[op]
            if reason is not None and (named or all(refusals.values())):
                message = f"The activations of {program.ops.name[op]} cannot be int8. {reason}"
                raise SchemeError(message)
        return self._with(self._schemes, self._activations | {op for op, reason in refusals.items() if reason is None})

    def _match_ops(self, pattern: str) -> list[int]:
        program = self._model.program
        if not isinstance(pattern, str):
            message = f"Ops are chosen by name or glob, not by {pattern!r}."
            raise PlanError(message)
        paths = [program.modules.path[row] for row in program.ops.module]
        found = [
            op
            for op, (name, path) in enumerate(zip(program.ops.name, paths, strict=True))
            if any(fnmatch.fnmatchcase(candidate, pattern) for candidate in (name, *_with_ancestors((path,))))
        ]
        if not found:
            near = difflib.get_close_matches(pattern, [*program.ops.name, *dict.fromkeys(paths)], n=1, cutoff=0.5)
            hint = f" Did you mean {near[0]!r}?" if near else " model.ops lists them all."
            message = f"No op or module of {program.name} matches {pattern!r}.{hint}"
            raise PlanError(message)
        return found

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
        return price(table, table.columns_of(self._schemes))

    def compare(self, other: Plan, device: str | Device, compute_unit: str = "all") -> Comparison:
        """Compare the plan with another plan of the same model, with the interval of the difference itself.

        Parameters
        ----------
        other
            What to compare with, such as `tnb.Plan(model)`.
        device, compute_unit
            As in `estimate`.

        Raises
        ------
        PlanError
            If the other plan is for another model.
        DeviceError
            As `estimate`.
        """
        if other._fingerprint != self._fingerprint:
            message = f"This plan is for {self._model.program.name}, the other for another {other.model.program.name}."
            raise PlanError(message)
        table = self.cost_table(device, compute_unit)
        mine, theirs = price(table, table.columns_of(self._schemes)), other.estimate(device, compute_unit)
        ratio = mine.latency_ms / theirs.latency_ms
        low, high = ratio_interval(table.main_unit, ratio)
        return Comparison(
            plan=mine,
            other=theirs,
            difference_ms=mine.latency_ms - theirs.latency_ms,
            difference_interval=difference_interval(table.main_unit, theirs.latency_ms, mine.latency_ms),
            ratio=ratio,
            ratio_interval=(ratio * low, ratio * high),
            difference_bytes=mine.size_bytes - theirs.size_bytes,
        )

    def table(
        self, device: str | Device, compute_unit: str = "all", *, measured: Measurement | None = None
    ) -> pd.DataFrame:
        """Price every op, the plan beside float16.

        Parameters
        ----------
        device, compute_unit
            As in `estimate`.
        measured
            What `tnb.measure` said of the model; nothing of it was ever tested on hardware.

        Returns
        -------
        pandas.DataFrame
            One row an op: name, op_type, module, scheme, bits, weight_bytes, latency_ms, bound and energy_mj under the
            plan, float16_weight_bytes and float16_latency_ms of the model as it was loaded, and unit, unit_reason and
            transfer_ms of where it runs; units as in `talaria_nb.frames.COLUMNS`. With
            `measured`, measured_ms and measured_unit as well, empty for ops that Core ML says nothing about.
        """
        table = self.cost_table(device, compute_unit)
        costs = price_ops(table, table.columns_of(self._schemes))
        dense = price_ops(table, table.start)
        program = self._model.program
        start, rows = program.op_weights
        read = [[self._schemes[row] for row in rows[a:b]] for a, b in pairwise(start)]
        frame = pd.DataFrame(
            {
                "name": program.ops.name,
                "op_type": program.ops.op_type,
                "module": [program.modules.path[row] for row in program.ops.module],
                "scheme": [", ".join(dict.fromkeys(scheme.label for scheme in schemes)) for schemes in read],
                "bits": [min((scheme.bits for scheme in schemes), default=np.nan) for schemes in read],
                "weight_bytes": costs.weight_bytes.astype(np.int64),
                "float16_weight_bytes": dense.weight_bytes.astype(np.int64),
                "latency_ms": costs.op_ms,
                "float16_latency_ms": dense.op_ms,
                "bound": costs.bound,
                "unit": [UNITS[code] for code in table.unit.tolist()],
                "unit_reason": [table.unit_reasons[row] if row >= 0 else "" for row in table.unit_reason.tolist()],
                "transfer_ms": table.transfer_ms,
                "energy_mj": costs.op_mj,
            }
        )
        if measured is not None:
            seen = measured.ops.reindex(program.ops.name)
            frame = frame.assign(
                measured_ms=seen["latency_ms"].to_numpy(dtype=np.float64),
                measured_unit=seen["unit"].fillna("").to_numpy(),
            )
        return frame

    def roofline(self, device: str | Device, compute_unit: str = "all") -> go.Figure:
        """Draw every op under the roofs of its unit, as a plotly figure; see `talaria_nb.roofline.roofline`."""
        from talaria_nb.roofline import roofline

        return roofline(self, device if isinstance(device, Device) else find_device(device), compute_unit)

    def findings(self, device: str | Device, compute_unit: str = "all") -> pd.DataFrame:
        """List what costs more than it has to, with the time at stake under the plan.

        Returns
        -------
        pandas.DataFrame
            `Model.findings` with one more column, at_stake_ms: the estimated time of the finding's ops, NaN for
            findings about size alone. The gravest first; among those, the most time first.
        """
        table = self.cost_table(device, compute_unit)
        op_ms = price_ops(table, table.columns_of(self._schemes)).op_ms
        found = self._model.findings
        row = self._model.program.op_row
        at_stake = [
            float(op_ms[[row[op] for op in ops]].sum()) if kind in COSTS_TIME else np.nan
            for kind, ops in zip(found["kind"], found["ops"], strict=True)
        ]
        found = found.assign(at_stake_ms=pd.Series(at_stake, index=found.index, dtype=np.float64))
        rank = found["severity"].map({severity: place for place, severity in enumerate(SEVERITIES)})
        order = found.assign(rank=rank).sort_values(["rank", "at_stake_ms"], ascending=[True, False], kind="stable")
        return found.loc[order.index].reset_index(drop=True)

    def adapters(self) -> pd.DataFrame:
        """List the LoRA adapters and the base as `Model.adapters`, with the bytes and bits they have under the plan."""
        program = self._model.program
        stored = [stored_weight(program, scheme, row) for row, scheme in enumerate(self._schemes)]
        return self._model.adapters_of([each.payload_bytes for each in stored])

    def weight_table(self) -> pd.DataFrame:
        """List what every weight takes on disk; exact, no device needed.

        Returns
        -------
        pandas.DataFrame
            One row a weight, in file order: name, shape, scheme; weight_bytes, of which data_bytes are the elements and
            overhead_bytes masks, tables, scales and zero points; bits_per_weight, overhead included. Units as in
            `talaria_nb.frames.COLUMNS`.
        """
        program = self._model.program
        stored = [stored_weight(program, scheme, row) for row, scheme in enumerate(self._schemes)]
        payload = np.array([entry.payload_bytes for entry in stored], dtype=np.int64)
        return pd.DataFrame(
            {
                "name": program.weights.name,
                "shape": [shape_text(shape) for shape in program.weights.shape],
                "scheme": [scheme.label for scheme in self._schemes],
                "weight_bytes": payload,
                "data_bytes": [entry.data_bytes for entry in stored],
                "overhead_bytes": [entry.overhead_bytes for entry in stored],
                "bits_per_weight": 8 * payload / program.weights.elements,
            }
        )

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
            int8_activations=self._activations,
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

    def verify(self, compressed: ct.models.MLModel | None = None, *, progress: bool = True) -> pd.DataFrame:
        """Compare predicted with actual bytes and values; see `talaria_nb.export.verify`."""
        from talaria_nb import export

        return export.verify(self, compressed, progress=progress)

    def _rows(self, where: str | Iterable[str] | Iterable[bool]) -> tuple[list[int], bool]:
        """Resolve `where` to weight rows, and say whether each of them was named outright."""
        weights = self._model.program.weights
        if isinstance(where, str):
            where = [where]
        chosen = list(where)
        if chosen and all(isinstance(item, (bool, np.bool_)) for item in chosen):
            if len(chosen) != len(weights):
                message = f"The mask has {len(chosen)} entries; the model has {len(weights)} weights."
                raise PlanError(message)
            return [row for row, wanted in enumerate(chosen) if wanted], True
        rows: dict[int, None] = {}
        outright = True
        for pattern in chosen:
            if not isinstance(pattern, str):
                message = f"Weights are chosen by name, glob or mask, not by {pattern!r}."
                raise PlanError(message)
            matched = self._match(pattern)
            if not matched:
                raise PlanError(self._unknown(pattern))
            outright = outright and pattern in self._model.program.weight_row
            rows.update(dict.fromkeys(matched))
        return list(rows), outright

    def _match(self, pattern: str) -> list[int]:
        program = self._model.program
        exact = program.weight_row.get(pattern)
        if exact is not None:
            return [exact]
        parameters = self._model.source_map.parameters  # coremltools writes its const names in lower case
        return [
            row
            for row, (name, paths) in enumerate(zip(program.weights.name, program.weight_module_paths, strict=True))
            for candidates in [(name, parameters.get(name, name), *_with_ancestors(paths))]
            if any(fnmatch.fnmatchcase(candidate, pattern) for candidate in candidates)
        ]

    def _refusal(self, row: int, scheme: Scheme) -> str | None:
        return refused(scheme, subject(self._model.program, row))

    def _unknown(self, pattern: str) -> str:
        program = self._model.program
        paths = _with_ancestors(path for paths in program.weight_module_paths for path in paths)
        names = [*program.weights.name, *dict.fromkeys(paths)]
        near = difflib.get_close_matches(pattern, names, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]!r}?" if near else " model.weights lists them all."
        return f"No weight or module of {program.name} matches {pattern!r}.{hint}"


def _with_ancestors(paths: Iterable[str]) -> Iterator[str]:
    """Yield module paths and the paths of all modules around them, but for the root."""
    for path in paths:
        parts = path.split(".")
        yield from (".".join(parts[:depth]) for depth in range(len(parts), 0, -1))
