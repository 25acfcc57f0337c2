"""CostTable: everything needed to price any plan without touching the model again.

The table carries parts, not totals: an op's latency is launch + max(compute, memory), so it is not linear in bits, and
only the parts let an edit be priced by look-up and sum. The browser prices plans from the same table (`js/src/
estimate.ts`), Python is the authority, and both agree on the fixtures of `tests/fixtures/estimates.json`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from talaria_nb import latency
from talaria_nb.devices import UNITS
from talaria_nb.energy import op_energy
from talaria_nb.errors import SchemeError
from talaria_nb.memory import liveness
from talaria_nb.menu import DEFAULT_MENU
from talaria_nb.placement import placement
from talaria_nb.program import DTYPE_BYTES, NO_OP
from talaria_nb.resize import at_batch, at_context, batch_of
from talaria_nb.roundings import roundings
from talaria_nb.schemes import Float16, LinearQuantize, Scheme
from talaria_nb.subjects import starting_schemes
from talaria_nb.weight_bytes import weight_bytes
from talaria_nb.work import count_work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import NDArray

    from talaria_nb.devices import Device, Unit
    from talaria_nb.placement import Placement
    from talaria_nb.program import Program
    from talaria_nb.roundings import Roundings
    from talaria_nb.weight_bytes import WeightBytes
    from talaria_nb.work import Work


@dataclass(frozen=True, eq=False)
class CostTable:
    """Prices of every weight under every scheme, and of every op, on one device.

    Attributes
    ----------
    device, compute_unit
        What it was priced for.
    schemes
        The columns; `schemes[0]` is always `Float16()`, illegal for a weight that was loaded compressed.
    refusals
        Sentences that say why a scheme is illegal.
    start
        Column of each weight's scheme as the model was loaded, the baseline of every comparison. uint16, (weights,).
    reason
        Row in `refusals` for each weight and scheme, -1 where legal. int16, shape (weights, schemes).
    payload_bytes
        Data, masks, tables and scales. float64, shape (weights, schemes); 0 where illegal, as in the three below.
    file_bytes
        Growth of `weight.bin`, with records and padding.
    shared
        Rows in `shared_file_bytes` of tensors that all weights naming them share, -1 for none. int32, shape (weights,
        schemes, 4).
    shared_file_bytes
        Growth of `weight.bin` if at least one weight needs the shared tensor. float64.
    last_weight
        The weight that ends `weight.bin`, whose last tensor is not padded; -1 if something else does.
    tail_bytes
        That padding under each scheme of it: if its last tensor is its own or not stored by another weight, and if it
        is. float64, shape (schemes, 2).
    tail_shared
        Row in `shared_file_bytes` of that last tensor, -1 if it is the weight's own. int32, shape (schemes,).
    proto_bytes
        Growth of the program proto against the uncompressed program, offsets in `weight.bin` taken as one byte each.
    tensors
        Tensors in `weight.bin`, each of which the proto names by its offset. uint8, shape (weights, schemes).
    fixed_records
        As in `Program`. int32.
    build_info_bytes
        What any compression makes the proto lose.
    enclosing_bytes
        As in `Program`. int32.
    find_roundings
        Finds `roundings`; a plan without int8 activations never asks.
    stream_ms
        Time to bring the stored weight to the compute unit, once for every op that reads it. Of a weight that ops on
        several units read, to the unit of the op that brings in most of it.
    resident_bytes
        Memory that the weight takes while the model is loaded, and what moves when it is brought in: as stored, or
        dense where one of the units that read it cannot read the format. float64, shape (weights, schemes).
    fixed_memory_bytes
        Memory that no plan changes: the activations at the fullest moment, states, and constants that are no weights.
    elements
        float64, shape (weights,).
    signal
        Sum of squared values of each weight, NaN while unknown. float64, shape (weights,).
    squared_error
        What a scheme does to the values, as `talaria_nb.distortion` says; NaN where illegal and while unknown:
        `cost_table` looks at no values. float32, shape (weights, schemes).
    fixed_file_bytes, fixed_proto_bytes
        What no plan changes: of `weight.bin`, and of the package beside it.
    dispatch_ms
        Time of one prediction before its first op.
    main_unit
        The unit where most of the time is spent: its intervals hold.
    unit
        Where each op runs, an index into `talaria_nb.devices.UNITS`. int8, shape (ops,).
    unit_reasons, unit_reason
        Sentences that say why ops leave the Neural Engine, and the one of each op, -1 for none. int16, shape (ops,).
    transfer_ms
        What it costs to hand each op what other units computed, part of its `launch_ms`. float64, shape (ops,).
    launch_ms, compute_ms, activation_ms, products_ms, traffic_ms
        Parts of each op's time, as in `latency.OpTimes`. float64, shape (ops,).
    int8_ops
        Ops that run faster once their activations and all of their weights are int8, which need not be chosen for
        any; in ascending order. int32.
    int8_ms
        `compute_ms`, `activation_ms`, `products_ms` and `traffic_ms` of these ops when all of their weights are int8.
        float64, shape (4, int8 ops).
    int8_schemes
        Which schemes store int8 weights that such an op can multiply as they are. bool, shape (schemes,).
    work_mj, byte_mj, active_w
        Energy of each op, as in `energy.OpEnergy`. float64, shape (ops,).
    op_weights_start, op_weights
        CSR: weights read by op i are `op_weights[op_weights_start[i]:op_weights_start[i + 1]]`. int32.
    op_weights_share
        Part of the weight that the op brings in: 1, or rows read / rows for a gather. float64, as `op_weights`.
    interval
        80 % interval of the total latency as factors (low, high).
    batch
        Items of one prediction.
    """

    device: str
    compute_unit: str
    schemes: tuple[Scheme, ...]
    refusals: tuple[str, ...]
    start: NDArray[np.uint16]
    reason: NDArray[np.int16]
    payload_bytes: NDArray[np.float64]
    file_bytes: NDArray[np.float64]
    shared: NDArray[np.int32]
    shared_file_bytes: NDArray[np.float64]
    last_weight: int
    tail_bytes: NDArray[np.float64]
    tail_shared: NDArray[np.int32]
    proto_bytes: NDArray[np.float64]
    tensors: NDArray[np.uint8]
    fixed_records: NDArray[np.int32]
    build_info_bytes: int
    enclosing_bytes: NDArray[np.int32]
    find_roundings: Callable[[], Roundings]
    stream_ms: NDArray[np.float64]
    resident_bytes: NDArray[np.float64]
    fixed_memory_bytes: int
    elements: NDArray[np.float64]
    signal: NDArray[np.float64]
    squared_error: NDArray[np.float32]
    fixed_file_bytes: int
    fixed_proto_bytes: int
    dispatch_ms: float
    main_unit: Unit
    unit: NDArray[np.int8]
    unit_reasons: tuple[str, ...]
    unit_reason: NDArray[np.int16]
    transfer_ms: NDArray[np.float64]
    launch_ms: NDArray[np.float64]
    compute_ms: NDArray[np.float64]
    activation_ms: NDArray[np.float64]
    products_ms: NDArray[np.float64]
    traffic_ms: NDArray[np.float64]
    int8_ops: NDArray[np.int32]
    int8_ms: NDArray[np.float64]
    int8_schemes: NDArray[np.bool_]
    work_mj: NDArray[np.float64]
    byte_mj: NDArray[np.float64]
    active_w: NDArray[np.float64]
    op_weights_start: NDArray[np.int32]
    op_weights: NDArray[np.int32]
    op_weights_share: NDArray[np.float64]
    interval: tuple[float, float]
    batch: int = 1

    @cached_property
    def column(self) -> Mapping[Scheme, int]:
        """Column of each scheme."""
        return {scheme: column for column, scheme in enumerate(self.schemes)}

    @cached_property
    def roundings(self) -> Roundings:
        """What int8 activations add to the program proto."""
        return self.find_roundings()

    def rounding_bytes(self, int8: NDArray[np.bool_] | None) -> int:
        """Count what int8 activations add to the program proto.

        Parameters
        ----------
        int8
            Whether each op reads int8 activations, shape (ops,). None if none does.
        """
        return 0 if int8 is None or not int8.any() else self.roundings.growth(int8)

    def columns_of(self, schemes: Iterable[Scheme]) -> NDArray[np.int64]:
        """Return the column of each weight's scheme.

        Parameters
        ----------
        schemes
            One a weight, in the order of the program's weights.

        Raises
        ------
        SchemeError
            If a scheme is no column of this table, or illegal for its weight.
        """
        try:
            columns = np.array([self.column[scheme] for scheme in schemes], dtype=np.int64)
        except KeyError as error:
            message = f"{error.args[0]!r} is not in this cost table; build the table with it."
            raise SchemeError(message) from error
        refused = np.flatnonzero(self.reason[np.arange(len(columns)), columns] >= 0)
        if refused.size:
            row = int(refused[0])
            column = int(columns[row])
            message = f"Weight {row} cannot be {self.schemes[column]!r}. {self.refusals[self.reason[row, column]]}"
            raise SchemeError(message)
        return columns


def cost_table(
    program: Program,
    device: Device,
    *,
    compute_unit: str = "all",
    schemes: Iterable[Scheme] = DEFAULT_MENU,
    batch: int | None = None,
    context: int | None = None,
) -> CostTable:
    """Price every weight of a program under every scheme, and every op, on a device.

    Parameters
    ----------
    program
        The model.
    device
        From `tnb.device(name)`.
    compute_unit
        One of `talaria_nb.devices.COMPUTE_UNITS`.
    schemes
        The columns wanted; `Float16()` is put first whether it is among them or not, and schemes that weights were
        loaded with are added last.
    batch, context
        Items of one prediction, and tokens in the key-value caches: what `resize.at_batch` and `resize.at_context`
        make of the program; None for what it was loaded at.

    Returns
    -------
    CostTable

    Raises
    ------
    DeviceError
        If the compute unit is unknown, or nothing is known about it on this device.
    PlanError
        If the program cannot have that batch or context length.
    """
    loaded = starting_schemes(program)
    menu = tuple(dict.fromkeys((Float16(), *schemes, *loaded)))
    weights = program.weights
    column_of = {scheme: column for column, scheme in enumerate(menu)}
    stored = weight_bytes(program, menu)
    dense = weights.elements * np.array([float(DTYPE_BYTES.get(dtype, 2)) for dtype in weights.dtype])
    timed = program if context is None else at_context(program, context)
    timed = timed if batch is None else at_batch(timed, batch)
    work = count_work(timed)
    placed = placement(timed, work, device, compute_unit)
    start, rows_read = program.op_weights
    share = _shares(timed)
    brought_to, read_on = _units_of_weights(timed, placed, share, device.unit_name(compute_unit))
    stream, resident = _arrival(device, menu, stored, dense, brought_to, read_on)
    times = latency.op_times(timed, work, device, compute_unit, units=placed.unit, transfer_ms=placed.transfer_ms)
    int8_ops, int8_ms = _int8_times(timed, work, device, compute_unit, placed)
    energy = op_energy(work, device, placed.unit)
    unit_reasons = tuple(dict.fromkeys(filter(None, placed.reason)))
    return CostTable(
        device=device.name,
        compute_unit=compute_unit,
        schemes=menu,
        refusals=stored.refusals,
        start=np.array([column_of[scheme] for scheme in loaded], dtype=np.uint16),
        reason=stored.reason,
        payload_bytes=stored.payload_bytes,
        file_bytes=stored.file_bytes,
        shared=stored.shared,
        shared_file_bytes=stored.shared_file_bytes,
        last_weight=stored.last_weight,
        tail_bytes=stored.tail_bytes,
        tail_shared=stored.tail_shared,
        proto_bytes=stored.proto_bytes,
        tensors=stored.tensors,
        fixed_records=program.fixed_records.astype(np.int32),
        build_info_bytes=program.build_info_bytes,
        enclosing_bytes=np.array(program.enclosing_bytes, dtype=np.int32),
        find_roundings=partial(roundings, program),
        stream_ms=stream,
        resident_bytes=resident,
        fixed_memory_bytes=_fixed_memory_bytes(timed),
        elements=weights.elements.astype(np.float64),
        signal=np.full(len(weights), np.nan),
        squared_error=np.full(stored.reason.shape, np.nan, dtype=np.float32),
        fixed_file_bytes=program.fixed_file_bytes,
        fixed_proto_bytes=program.fixed_package_bytes,
        dispatch_ms=times.dispatch_ms,
        main_unit=times.main_unit,
        unit=placed.unit,
        unit_reasons=unit_reasons,
        unit_reason=np.array([unit_reasons.index(why) if why else -1 for why in placed.reason], dtype=np.int16),
        transfer_ms=placed.transfer_ms,
        launch_ms=times.launch_ms,
        compute_ms=times.compute_ms,
        activation_ms=times.activation_ms,
        products_ms=times.products_ms,
        traffic_ms=times.traffic_ms,
        int8_ops=int8_ops,
        int8_ms=int8_ms,
        int8_schemes=np.array([isinstance(scheme, LinearQuantize) and scheme.bits == _INT8 for scheme in menu]),
        work_mj=energy.work_mj,
        byte_mj=energy.byte_mj,
        active_w=energy.active_w,
        op_weights_start=start,
        op_weights=rows_read,
        op_weights_share=share,
        interval=times.interval,
        batch=batch_of(timed),
    )


_INT8 = 8


def _arrival(
    device: Device,
    menu: tuple[Scheme, ...],
    stored: WeightBytes,
    dense: NDArray[np.float64],
    brought_to: NDArray[np.int8],
    read_on: NDArray[np.bool_],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Price how weights come to the units that read them: `CostTable.stream_ms` and `CostTable.resident_bytes`."""
    legal = stored.reason < 0
    stream, resident = np.zeros(legal.shape), np.zeros(legal.shape)
    for column, scheme in enumerate(menu):
        rows = np.flatnonzero(legal[:, column])
        payload, tables = stored.payload_bytes[rows, column], stored.tables[rows, column]
        decompressed = np.zeros(len(rows), dtype=np.bool_)
        for code, name in enumerate(UNITS):
            if name in device.units and not latency.streams(device.units[name], scheme):
                decompressed |= read_on[rows, code]
            there = brought_to[rows] == code
            if there.any():
                stream[rows[there], column] = latency.unit_stream_ms(
                    device.units[name], scheme, payload[there], dense_bytes=dense[rows[there]], tables=tables[there]
                )
        resident[rows, column] = np.where(decompressed, dense[rows], payload)
    return stream, resident


def _units_of_weights(
    program: Program, placed: Placement, share: NDArray[np.float64], asked: str
) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
    """Return the unit that most of each weight is brought to, and on which units it is read, shape (weights, units)."""
    start, rows = program.op_weights
    units = np.repeat(placed.unit, np.diff(start))
    brought_to = np.full(len(program.weights), UNITS.index(asked), dtype=np.int8)
    order = np.argsort(share, kind="stable")  # the last assignment holds
    brought_to[rows[order]] = units[order]
    read_on = np.zeros((len(program.weights), len(UNITS)), dtype=np.bool_)
    read_on[rows, units] = True
    return brought_to, read_on


def _int8_times(
    program: Program,
    work: Work,
    device: Device,
    compute_unit: str,
    placed: Placement,
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Price the ops that int8 activations make faster as if all weights of such ops were int8 too.

    How far weights run ahead of them is taken from the program in which all of them are, as for the others from the
    dense one.
    """
    faster = np.array([name in device.units and device.units[name].int8_speedup > 1 for name in UNITS])
    ops = np.flatnonzero(work.int8 & faster[placed.unit])
    if not len(ops):
        return np.zeros(0, dtype=np.int32), np.zeros((4, 0))
    bits = np.full(len(work), 2 * _INT8)
    bits[ops] = _INT8
    times = latency.op_times(
        program,
        replace(work, stream_bytes=work.stream_bytes * bits // (2 * _INT8)),
        device,
        compute_unit,
        activation_bits=bits,
        units=placed.unit,
        transfer_ms=placed.transfer_ms,
    )
    parts = (times.compute_ms, times.activation_ms, times.products_ms, times.traffic_ms)
    return ops.astype(np.int32), np.stack([part[ops] for part in parts])


def _fixed_memory_bytes(program: Program) -> int:
    """Count the memory that no plan changes."""
    values = program.values
    constant = (values.producer == NO_OP) & (values.weight < 0)
    constant[list(program.inputs)] = False
    return liveness(program).peak_bytes + int(values.nbytes[constant].sum())


def _shares(program: Program) -> NDArray[np.float64]:
    """Part of each weight that each op reading it brings in, in the order of `Program.op_weights`."""
    start, rows = program.op_weights
    share = np.ones(len(rows))
    for op in program.ops.rows_of([op_type for op_type in program.ops.rows_of_type if op_type.startswith("gather")]):
        written = sum(prod(program.values.shape[value]) for value in program.ops.outputs[op])
        for read in range(start[op], start[op + 1]):
            share[read] = min(1.0, written / prod(program.weights.shape[rows[read]]))
    return share
