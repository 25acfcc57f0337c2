"""CostTable: everything needed to price any plan without touching the model again.

The table carries parts, not totals: an op's latency is launch + max(compute, memory), so it is not linear in bits, and
only the parts let an edit be priced by look-up and sum. The browser prices plans from the same table (`js/src/
estimate.ts`), Python is the authority, and both agree on the fixtures of `tests/fixtures/estimates.json`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from talaria_nb import latency, storage
from talaria_nb.devices import UNITS
from talaria_nb.energy import op_energy
from talaria_nb.errors import SchemeError
from talaria_nb.legality import refused_by_shape, refused_by_values, starting_schemes, subject
from talaria_nb.memory import liveness
from talaria_nb.menu import DEFAULT_MENU
from talaria_nb.placement import placement
from talaria_nb.program import DTYPE_BYTES, NO_OP
from talaria_nb.resize import at_batch, at_context, batch_of
from talaria_nb.schemes import Float16, LinearQuantize, Scheme
from talaria_nb.work import count_work

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from numpy.typing import NDArray

    from talaria_nb.devices import Device, Unit
    from talaria_nb.legality import Subject
    from talaria_nb.placement import Placement
    from talaria_nb.program import Program
    from talaria_nb.work import Work

FLOAT16_COLUMN = 0
"""Column of `Float16()`; illegal for a weight that was loaded compressed."""

_SHARED_SLOTS = 3
"""Tensors of one weight that others could share: integers, scales and zero points; or a mask, values and a table."""


@dataclass(frozen=True, eq=False)
class CostTable:
    """Prices of every weight under every scheme, and of every op, on one device.

    Attributes
    ----------
    device, compute_unit
        What it was priced for.
    schemes
        The columns; `schemes[0]` is always `Float16()`.
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
        Rows in `shared_file_bytes` of tensors that all weights naming them share, -1 for none. int16, shape (weights,
        schemes, 3).
    shared_file_bytes
        Growth of `weight.bin` if at least one weight needs the shared tensor. float64.
    last_weight
        The weight that ends `weight.bin`, whose last tensor is not padded; -1 if something else does.
    tail_bytes
        That padding under each scheme of it: if its last tensor is its own or not stored by another weight, and if it
        is. float64, shape (schemes, 2).
    tail_shared
        Row in `shared_file_bytes` of that last tensor, -1 if it is the weight's own. int16, shape (schemes,).
    proto_bytes
        Growth of the program proto against the uncompressed program, offsets in `weight.bin` taken as one byte each.
    tensors
        Tensors in `weight.bin`, each of which the proto names by its offset. uint8, shape (weights, schemes).
    fixed_records
        As in `Program`. int32.
    build_info_bytes
        What any compression makes the proto lose.
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
        `cost_table` looks at no values. float64, shape (weights, schemes).
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
        Ops whose activations are int8 under the plan that was priced, and that run faster with int8 weights; in
        ascending order. int32.
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
    shared: NDArray[np.int16]
    shared_file_bytes: NDArray[np.float64]
    last_weight: int
    tail_bytes: NDArray[np.float64]
    tail_shared: NDArray[np.int16]
    proto_bytes: NDArray[np.float64]
    tensors: NDArray[np.uint8]
    fixed_records: NDArray[np.int32]
    build_info_bytes: int
    stream_ms: NDArray[np.float64]
    resident_bytes: NDArray[np.float64]
    fixed_memory_bytes: int
    elements: NDArray[np.float64]
    signal: NDArray[np.float64]
    squared_error: NDArray[np.float64]
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
    int8_activations: Collection[int] = (),
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
    int8_activations
        Rows of the ops that read their activations in int8.

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
    reason, refusals = _legality(program, menu, loaded)
    legal = reason < 0
    shape = (len(weights), len(menu))
    payload, in_file, proto, stream, resident = (np.zeros(shape) for _ in range(5))
    kept = {(row, column): stored_weight(program, menu[column], row) for row, column in np.argwhere(legal).tolist()}
    sharing = _sharing(kept, shape)
    dense = weights.elements * np.array([float(DTYPE_BYTES.get(dtype, 2)) for dtype in weights.dtype])
    timed = program if context is None else at_context(program, context)
    timed = timed if batch is None else at_batch(timed, batch)
    work = count_work(timed)
    placed = placement(timed, work, device, compute_unit)
    start, rows_read = program.op_weights
    share = _shares(timed)
    brought_to, read_on = _units_of_weights(timed, placed, share, device.unit_name(compute_unit))
    for column, scheme in enumerate(menu):
        rows = np.flatnonzero(legal[:, column])
        entries = [kept[row, column] for row in rows.tolist()]
        payload[rows, column] = [entry.payload_bytes for entry in entries]
        proto[rows, column] = [entry.proto_bytes for entry in entries]
        tables = np.array([entry.tables for entry in entries], dtype=np.float64)
        decompressed = np.zeros(len(rows), dtype=np.bool_)
        for code, name in enumerate(UNITS):
            if name in device.units and not latency.streams(device.units[name], scheme):
                decompressed |= read_on[rows, code]
            there = brought_to[rows] == code
            if there.any():
                stream[rows[there], column] = latency.unit_stream_ms(
                    device.units[name],
                    scheme,
                    payload[rows[there], column],
                    dense_bytes=dense[rows[there]],
                    tables=tables[there],
                )
        resident[rows, column] = np.where(decompressed, dense[rows], payload[rows, column])
    tensors = np.zeros(shape, dtype=np.uint8)
    for (row, column), entry in kept.items():
        tensors[row, column] = len(entry.tensors)
        in_file[row, column] = entry.read_bytes + sum(
            storage.recorded(nbytes) for nbytes, shared in entry.tensors if shared not in sharing.row_of
        )
    last = int(np.flatnonzero(weights.last_in_file)[0]) if weights.last_in_file.any() else -1
    tail_bytes, tail_shared = _tails(kept, last, sharing, len(menu))
    times = latency.op_times(timed, work, device, compute_unit, units=placed.unit, transfer_ms=placed.transfer_ms)
    int8_ops, int8_ms = _int8_times(timed, work, device, compute_unit, placed, int8_activations)
    energy = op_energy(work, device, placed.unit)
    unit_reasons = tuple(dict.fromkeys(filter(None, placed.reason)))
    return CostTable(
        device=device.name,
        compute_unit=compute_unit,
        schemes=menu,
        refusals=refusals,
        start=np.array([menu.index(scheme) for scheme in loaded], dtype=np.uint16),
        reason=reason,
        payload_bytes=payload,
        file_bytes=in_file,
        shared=sharing.shared,
        shared_file_bytes=np.array(sharing.file_bytes, dtype=np.float64),
        last_weight=last,
        tail_bytes=tail_bytes,
        tail_shared=tail_shared,
        proto_bytes=proto,
        tensors=tensors,
        fixed_records=program.fixed_records.astype(np.int32),
        build_info_bytes=program.build_info_bytes,
        stream_ms=stream,
        resident_bytes=resident,
        fixed_memory_bytes=_fixed_memory_bytes(timed),
        elements=weights.elements.astype(np.float64),
        signal=np.full(len(weights), np.nan),
        squared_error=np.full(shape, np.nan),
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
    int8_activations: Collection[int],
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Price the ops that int8 activations make faster as if all weights of such ops were int8 too."""
    reads = np.diff(program.op_weights[0]) > 0
    faster = [device.units[UNITS[code]].int8_speedup > 1 for code in placed.unit.tolist()]
    ops = [op for op in sorted(int8_activations) if reads[op] and faster[op]]
    if not ops:
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
    return np.array(ops, dtype=np.int32), np.stack([part[ops] for part in parts])


def _fixed_memory_bytes(program: Program) -> int:
    """Count the memory that no plan changes."""
    values = program.values
    given = set(program.inputs)
    constants = sum(
        values.bytes_of(value)
        for value in np.flatnonzero((values.producer == NO_OP) & (values.weight < 0)).tolist()
        if value not in given
    )
    return liveness(program).peak_bytes + constants


def _shares(program: Program) -> NDArray[np.float64]:
    """Part of each weight that each op reading it brings in, in the order of `Program.op_weights`."""
    start, rows = program.op_weights
    share = np.ones(len(rows))
    for op, op_type in enumerate(program.ops.op_type):
        if op_type.startswith("gather"):
            written = sum(prod(program.values.shape[value]) for value in program.ops.outputs[op])
            for read in range(start[op], start[op + 1]):
                share[read] = min(1.0, written / prod(program.weights.shape[rows[read]]))
    return share


class _Sharing(NamedTuple):
    """Which tensors several weights could share, and who needs them."""

    row_of: dict[storage.SharedTensor | None, int]
    file_bytes: list[int]
    shared: NDArray[np.int16]


def _sharing(kept: Mapping[tuple[int, int], storage.Stored], shape: tuple[int, int]) -> _Sharing:
    """Give numbers to the tensors that two weights or more may need; those that one alone needs are its own."""
    sizes: dict[storage.SharedTensor, int] = {}
    owners: dict[storage.SharedTensor, set[int]] = {}
    for (row, _), entry in kept.items():
        for nbytes, shared in entry.tensors:
            if shared is not None:
                sizes[shared] = nbytes
                owners.setdefault(shared, set()).add(row)
    merged = [key for key, rows in owners.items() if len(rows) > 1]
    row_of: dict[storage.SharedTensor | None, int] = {shared: at for at, shared in enumerate(merged)}
    numbers = np.full((*shape, _SHARED_SLOTS), -1, dtype=np.int16)
    for (row, column), entry in kept.items():
        needed = [row_of[shared] for _, shared in entry.tensors if shared in row_of]
        numbers[row, column, : len(needed)] = needed
    return _Sharing(row_of, [storage.recorded(sizes[shared]) for shared in merged], numbers)


def _tails(
    kept: Mapping[tuple[int, int], storage.Stored], last: int, sharing: _Sharing, columns: int
) -> tuple[NDArray[np.float64], NDArray[np.int16]]:
    """Count the padding that the file is spared after its last tensor, for every scheme of the weight that ends it."""
    spared = np.zeros((columns, 2))
    shared = np.full(columns, -1, dtype=np.int16)
    for column in range(columns):
        tensors = kept[last, column].tensors if (last, column) in kept else ()
        if tensors:
            own = [nbytes for nbytes, content in tensors if content not in sharing.row_of]
            ends = (tensors[-1][0], own[-1] if own else tensors[-1][0])
            spared[column] = [storage.padded(nbytes) - nbytes for nbytes in ends]
            shared[column] = sharing.row_of.get(tensors[-1][1], -1)
    return spared, shared


def weight_file_bytes(program: Program, schemes: Iterable[Scheme]) -> int:
    """Predict `weight.bin` under one scheme a weight, in file order; no device needed. Exact for legal schemes."""
    return storage.file_bytes(
        [stored_weight(program, scheme, row) for row, scheme in enumerate(schemes)],
        fixed=program.fixed_file_bytes,
        ends_with_weight=bool(program.weights.last_in_file.any()),
    )


def stored_weight(program: Program, scheme: Scheme, row: int) -> storage.Stored:
    """Count the bytes of the weight in one row of `program.weights` under a scheme; counted once and kept."""
    found = program.stored_bytes.get((row, scheme))
    if found is None:
        found = program.stored_bytes[row, scheme] = _stored_weight(program, scheme, row)
    return found


def _stored_weight(program: Program, scheme: Scheme, row: int) -> storage.Stored:
    weights = program.weights
    packed = weights.packed.get(row)
    if packed is not None:  # no other scheme is legal, and these bytes were read, not predicted
        return storage.Stored((), packed.data_bytes, packed.overhead_bytes, 0, packed.tables, packed.file_bytes)
    value = int(weights.value[row])
    return storage.stored(
        scheme,
        subject(program, row),
        weights.dtype[row],
        name=weights.name[row],
        parameters=[
            parameter for op in weights.readers[row] for parameter, read in program.ops.inputs[op] if read == value
        ],
    )


def _legality(
    program: Program, menu: tuple[Scheme, ...], loaded: tuple[Scheme, ...]
) -> tuple[NDArray[np.int16], tuple[str, ...]]:
    """Ask the rules about shapes once for every distinct kind of weight and scheme, and those about values for each."""
    sentences: dict[str, int] = {}
    reason = np.full((len(loaded), len(menu)), -1, dtype=np.int16)
    subjects = [subject(program, row) for row in range(len(loaded))]
    rows_of: dict[Subject, list[int]] = {}
    for row, found in enumerate(subjects):
        rows_of.setdefault(found, []).append(row)
    for kind, rows in rows_of.items():
        for column, scheme in enumerate(menu):
            answer = refused_by_shape(scheme, kind)
            answers = [answer or refused_by_values(scheme, subjects[row]) for row in rows]
            reason[rows, column] = [
                -1 if said is None else sentences.setdefault(said, len(sentences)) for said in answers
            ]
    return reason, tuple(sentences)
