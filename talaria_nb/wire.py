"""What crosses to the browser: programs and cost tables as JSON with binary columns.

The receiving side is `js/src/protocol.ts`. Columns of numbers travel as little-endian bytes, texts as lists. Most rows
of most columns are like many others, for models are made of equal layers: those travel as their distinct rows and which
of them each one is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from talaria_nb.activation_legality import activation_refusals
from talaria_nb.budgets import UNITS_OF
from talaria_nb.devices import COMPUTE_UNITS, UNITS
from talaria_nb.energy import ENERGY_FACTOR
from talaria_nb.estimate import start_ms
from talaria_nb.frames import COLUMNS, COMPUTE_UNIT_TITLES, TABLE_COLUMNS, UNIT_TITLES, shape_text, source_text
from talaria_nb.latency import LARGE_CHANGE, ROUNDING
from talaria_nb.schemes import is_determined
from talaria_nb.work import count_work

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike, NDArray

    from talaria_nb.allocation import BudgetSteps
    from talaria_nb.costs import CostTable
    from talaria_nb.error_table import ErrorTable
    from talaria_nb.evaluation import Evaluation
    from talaria_nb.history import History
    from talaria_nb.load import Model
    from talaria_nb.measured import Measured
    from talaria_nb.menu import Menu
    from talaria_nb.pareto import Front
    from talaria_nb.roundings import Roundings

    Columns = NDArray[np.integer]

Wire = dict[str, Any]

_NO_UNIT = 255

EXPORT_ENDINGS = {"python": ".py", "coremltools": ".yaml", "plan": ".yaml", "package": ".mlpackage"}
"""Item of the Export menu that is saved → the ending of its file."""


def pack_program(model: Model) -> Wire:
    """Pack what the views show of a model and no edit changes."""
    program = model.program
    ops, values, weights, modules = program.ops, program.values, program.weights, program.modules
    work, blocks = count_work(program), program.blocks
    return {
        "name": program.name,
        "deployment_target": program.deployment_target,
        "from_torch": model.module is not None,
        "export_endings": dict(EXPORT_ENDINGS),
        "compute_units": [{"key": unit, "title": COMPUTE_UNIT_TITLES[unit]} for unit in COMPUTE_UNITS],
        "budget_units": {metric: dict(units) for metric, units in UNITS_OF.items()},
        "columns": [
            {
                "key": key,
                "title": column.title,
                "unit": column.unit,
                "description": column.description,
                "certainty": column.certainty,
                "numeric": column.numeric,
            }
            for key, column in ((key, COLUMNS[key]) for key in TABLE_COLUMNS)
        ],
        "ops": {
            "name": list(ops.name),
            "op_type": _pack_texts(ops.op_type),
            "module": _pack(ops.module, "<i4"),
            "source": _pack_texts(source_text(model.source_map, name) for name in ops.name),
            "output": _pack_texts(shape_text(values.shape[outputs[0]]) if outputs else "" for outputs in ops.outputs),
            "flops": _pack_rows(work.flops, "<f8"),
            "activation_bytes": _pack_rows(work.activation_bytes, "<f8"),
            "int8_refusal": _pack_texts(why or "" for why in activation_refusals(program, range(len(ops))).values()),
        },
        "edges": _pack(program.edges, "<i4"),
        "modules": {
            "path": list(modules.path),
            "class_name": _pack_texts(modules.class_name),
            "parent": _pack(modules.parent, "<i4"),
            "alike": _pack(blocks.block, "<i4"),
            "start": _pack(blocks.tree.start, "<i4"),
            "stop": _pack(blocks.tree.stop, "<i4"),
        },
        "tree": {"leaf": _pack(blocks.tree.module, "<i4"), "order": _pack(blocks.tree.order, "<i4")},
        "weights": {
            "name": list(weights.name),
            "shape": _pack_texts(map(shape_text, weights.shape)),
            "elements": _pack_rows(weights.elements, "<f8"),
            "module": _pack([int(ops.module[readers[0]]) for readers in weights.readers], "<i4"),
        },
    }


def pack_costs(table: CostTable) -> Wire:
    """Pack a cost table."""
    families = dict.fromkeys((scheme.family, scheme.family_label) for scheme in table.schemes)
    return {
        "device": table.device,
        "compute_unit": table.compute_unit,
        "schemes": [
            {
                "key": scheme.key,
                "label": scheme.label,
                "family": scheme.family,
                "family_label": scheme.family_label,
                "nbits": scheme.bits,
            }
            for scheme in table.schemes
        ],
        "families": [{"key": key, "label": label} for key, label in families],
        "start": _pack(table.start, "<u2"),
        "legal": _pack_rows(table.reason < 0, "u1"),
        "reason": _pack_rows(table.reason, "<i2"),
        "reasons": list(table.refusals),
        "payload_bytes": _pack_rows(table.payload_bytes, "<f8"),
        "file_bytes": _pack_rows(table.file_bytes, "<f8"),
        "shared": _pack_rows(table.shared, "<i4"),
        "shared_file_bytes": _pack(table.shared_file_bytes, "<f8"),
        "last_weight": table.last_weight,
        "tail_bytes": _pack(table.tail_bytes, "<f8"),
        "tail_shared": _pack(table.tail_shared, "<i4"),
        "proto_bytes": _pack_rows(table.proto_bytes, "<f8"),
        "tensors": _pack_rows(table.tensors, "u1"),
        "fixed_records": _pack(table.fixed_records, "<i4"),
        "build_info_bytes": table.build_info_bytes,
        "enclosing_bytes": _pack(table.enclosing_bytes, "<i4"),
        "roundings": _pack_roundings(table.roundings),
        "stream_ms": _pack_rows(table.stream_ms, "<f8"),
        "resident_bytes": _pack_rows(table.resident_bytes, "<f8"),
        "fixed_memory_bytes": table.fixed_memory_bytes,
        "elements": _pack_rows(table.elements, "<f8"),
        "signal": _pack(table.signal, "<f8"),
        "squared_error": _pack_rows(table.squared_error, "<f4"),
        "fixed_file_bytes": table.fixed_file_bytes,
        "fixed_proto_bytes": table.fixed_proto_bytes,
        "dispatch_ms": table.dispatch_ms,
        "units": [UNIT_TITLES[unit] for unit in UNITS],
        "unit": _pack(table.unit, "u1"),
        "unit_reasons": list(table.unit_reasons),
        "unit_reason": _pack(table.unit_reason, "<i2"),
        "launch_ms": _pack_rows(table.launch_ms, "<f8"),
        "compute_ms": _pack_rows(table.compute_ms, "<f8"),
        "activation_ms": _pack_rows(table.activation_ms, "<f8"),
        "products_ms": _pack_rows(table.products_ms, "<f8"),
        "traffic_ms": _pack_rows(table.traffic_ms, "<f8"),
        "int8_ops": _pack(table.int8_ops, "<i4"),
        "int8_ms": _pack_rows(table.int8_ms.reshape(-1), "<f8"),
        "int8_schemes": _pack(table.int8_schemes, "u1"),
        "work_mj": _pack_rows(table.work_mj, "<f8"),
        "byte_mj": _pack_rows(table.byte_mj, "<f8"),
        "active_w": _pack_rows(table.active_w, "<f8"),
        "dispatch_mj": table.dispatch_ms * table.main_unit.active_w,
        "energy_factor": ENERGY_FACTOR,
        "op_weights_start": _pack(table.op_weights_start, "<i4"),
        "op_weights": _pack(table.op_weights, "<i4"),
        "op_weights_share": _pack_rows(table.op_weights_share, "<f8"),
        "interval": list(table.interval),
        "start_ms": start_ms(table),
        "spread": table.main_unit.difference_spread,
        "large_change": LARGE_CHANGE,
        "rounding": ROUNDING,
    }


def _pack_roundings(found: Roundings) -> Wire:
    """Pack what int8 activations add; rows of other tables as steps from one to the next, which are often alike."""
    return {
        "tensor_rows": _pack_columns(found.quantize_bytes, found.dequantize_bytes, np.diff(found.reads_start)),
        "read_rows": _pack_columns(_steps(found.reader), found.rounds, found.renaming_bytes),
        "writer_rows": _pack_columns(_steps(found.writers), _steps(found.written)),
        "function_rows": _pack_columns(_steps(found.functions), _steps(found.applied)),
        "sum_rows": _pack_columns(*map(_steps, found.sums.T)),
    }


def pack_menu(table: CostTable, menu: Menu, compute_units: Iterable[str]) -> Wire:
    """Pack which schemes of a cost table are offered, the others being there for the weights that have them.

    Beside it, which schemes' errors are exact, and which compute units the device can be priced for.
    """
    offered = set(menu)
    return {
        "offered_units": list(compute_units),
        "offered": _pack([scheme in offered for scheme in table.schemes], "u1"),
        "exact_error": _pack([is_determined(scheme) for scheme in table.schemes], "u1"),
    }


def pack_measured(measured: Measured, table: CostTable) -> Wire:
    """Pack what was measured of a plan on the machine that a device stands for."""
    seen = measured.measurement.ops.reindex(measured.plan.model.program.ops.name)
    return {
        "machine": measured.measurement.machine,
        "device": measured.device,
        "compute_unit": measured.measurement.compute_unit,
        "latency_ms": measured.measurement.latency_ms,
        "scheme": _pack(table.columns_of(measured.plan.scheme_of_weight), "<u2"),
        "op_ms": _pack(seen["latency_ms"], "<f8"),
        "unit": _pack([UNITS.index(unit) if unit in UNITS else _NO_UNIT for unit in seen["unit"]], "u1"),
    }


def pack_history(history: History, *, revision: int, acknowledged: dict[str, int]) -> Wire:
    """Pack the current plan with its history, and which of the browsers' edits it contains."""
    return {
        "revision": revision,
        "scheme": _pack(history.columns, "<u2"),
        "int8": _pack(history.int8, "u1"),
        "cursor": history.cursor,
        "history": [
            {
                "label": entry.label,
                "gesture": entry.gesture,
                "weights": _pack(entry.weights, "<i4"),
                "before": _pack(entry.before, "<u2"),
                "after": _pack(entry.after, "<u2"),
                "toggled": _pack(entry.toggled, "<i4"),
            }
            for entry in history.entries
        ],
        "acknowledged": dict(acknowledged),
    }


def pack_error(
    errors: ErrorTable, model: Model, table: CostTable, *, revision: int, anchors: Iterable[tuple[Columns, float]]
) -> Wire:
    """Pack errors of weights × schemes in a cost table's columns, and where they compose, the losses of some plans.

    The revision is another number for other errors.
    """
    return {
        "revision": revision,
        "anchors": _pack_losses(anchors),
        "grade": errors.grade,
        "what": errors.what,
        "composes": errors.composes,
        "metric": getattr(errors, "metric", ""),  # sensitivities have one
        "error": _pack(errors.of(model, table.schemes), "<f8"),
    }


def pack_losses(losses: Iterable[tuple[Columns, float]], *, revision: int) -> Wire:
    """Pack losses that were composed of whole plans, given the columns of each, by errors of that revision."""
    return {"revision": revision, "plans": _pack_losses(losses)}


def _pack_losses(losses: Iterable[tuple[Columns, float]]) -> list[Wire]:
    return [{"scheme": _pack(columns, "<u2"), "loss": loss} for columns, loss in losses if not np.isnan(loss)]


def pack_evaluation(evaluation: Evaluation, columns: NDArray[np.integer], int8_ops: Iterable[int]) -> Wire:
    """Pack what was measured of one plan."""
    return {
        "metric": evaluation.metric,
        "value": evaluation.value,
        "values": dict(evaluation.values),
        "is_loss": evaluation.is_loss,
        "scheme": _pack(columns, "<u2"),
        "int8_ops": _pack(sorted(int8_ops), "<i4"),
    }


def pack_steps(steps: BudgetSteps) -> Wire:
    """Pack the steps that a slider of budgets takes."""
    return {
        "scheme": _pack(steps.columns, "<u2"),
        "least": steps.least,
        "most": steps.most,
        "group": _pack(steps.group, "<i4"),
        "step_group": _pack(steps.step_group, "<i4"),
        "step_column": _pack(steps.step_column, "<u2"),
        "step_cost": _pack(steps.step_cost, "<f8"),
    }


def pack_front(front: Front, columns: NDArray[np.integer]) -> Wire:
    """Pack a front; columns of its plans in the cost table, shape (plans, weights). Their error is the loss in all."""
    frame = front.frame
    return {
        "along": front.along,
        "grade": front.allocator.errors.grade,
        "what": front.allocator.errors.what_of_plan,
        "uniform": list(frame["scheme"]),
        "amount": _pack(frame[front.column], "<f8"),
        "error": _pack(frame["loss"], "<f8"),
        "scheme": _pack(columns, "<u2"),
    }


def pack_kept(name: str, columns: NDArray[np.uint16], int8: NDArray[np.bool_]) -> Wire:
    """Pack a plan that is kept under a name."""
    return {"name": name, "scheme": _pack(columns, "<u2"), "int8": _pack(int8, "u1")}


def _pack(column: ArrayLike, dtype: str) -> bytes:
    return np.ascontiguousarray(column, dtype=dtype).tobytes()


def _pack_rows(column: ArrayLike, dtype: str) -> Wire:
    """Pack the distinct rows of an array, and which of them each row is."""
    rows: dict[bytes, int] = {}
    of = [rows.setdefault(row.tobytes(), len(rows)) for row in np.ascontiguousarray(column, dtype=dtype)]
    return {"rows": b"".join(rows), **_pack_places(of, len(rows))}


def _pack_columns(*columns: ArrayLike) -> Wire:
    """Pack columns of whole numbers as one table."""
    return _pack_rows(np.stack([np.asarray(column, dtype=np.int32) for column in columns], axis=1), "<i4")


def _steps(rows: NDArray[np.integer]) -> NDArray[np.integer]:
    return np.diff(rows, prepend=0)


def _pack_texts(texts: Iterable[str]) -> Wire:
    """Pack distinct texts, and which of them each one is."""
    rows: dict[str, int] = {}
    of = [rows.setdefault(text, len(rows)) for text in texts]
    return {"rows": list(rows), **_pack_places(of, len(rows))}


def _pack_places(of: list[int], count: int) -> Wire:
    width = next(width for width in (1, 2, 4) if count <= 1 << 8 * width)
    return {"of": _pack(of, f"<u{width}"), "of_width": width}
