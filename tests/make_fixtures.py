"""Write the fixtures that Python and TypeScript both check: `python tests/make_fixtures.py`.

Python is the authority: `estimates.json` holds what `estimate.price` and `figures.steps_down` say of random cost
tables, `history.json` what `history.History` makes of random edits. `test_parity.py` fails when the code no longer says
what the files say.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from talaria_nb.costs import CostTable
from talaria_nb.devices import device
from talaria_nb.estimate import price, price_ops
from talaria_nb.figures import steps_down
from talaria_nb.history import History
from talaria_nb.menu import DEFAULT_MENU
from talaria_nb.roundings import Roundings
from talaria_nb.schemes import Float16, Palettize
from talaria_nb.wire import pack_costs

INT8_SHARE = 0.4
OPS = 4
"""Of a history; none of its edits looks at what they are."""
FIXTURES = Path(__file__).parent / "fixtures"
_DTYPES = {
    "unit": "u1",
    "unit_reason": "<i2",
    "int8_ops": "<i4",
    "int8_schemes": "u1",
    "start": "<u2",
    "legal": "u1",
    "reason": "<i2",
    "shared": "<i4",
    "enclosing_bytes": "<i4",
    "tensors": "u1",
    "fixed_records": "<i4",
    "squared_error": "<f4",
    "tail_shared": "<i4",
    "tensor_rows": "<i4",
    "read_rows": "<i4",
    "writer_rows": "<i4",
    "function_rows": "<i4",
    "sum_rows": "<i4",
    "op_weights_start": "<i4",
    "op_weights": "<i4",
    "scheme": "<u2",
    "weights": "<i4",
    "before": "<u2",
    "after": "<u2",
    "toggled": "<i4",
    "int8": "u1",
}


def plain(packed: Any, key: str = "") -> Any:
    """Turn a packed value into JSON: bytes become lists of numbers."""
    if isinstance(packed, bytes):
        return np.frombuffer(packed, dtype=_DTYPES.get(key, "<f8")).tolist()
    if isinstance(packed, dict) and "of_width" in packed:
        of = np.frombuffer(packed["of"], dtype=f"<u{packed['of_width']}").tolist()
        return packed | {"rows": plain(packed["rows"], key), "of": of}
    if isinstance(packed, dict):
        return {name: plain(value, name) for name, value in packed.items()}
    if isinstance(packed, list):
        return [plain(value, key) for value in packed]
    return packed


def _records(rng: np.random.Generator, weights: int) -> np.ndarray:
    before = np.sort(rng.integers(0, weights + 1, 5))
    return np.stack([before, 64 * rng.integers(2, 9000, 5)], axis=1).astype(np.int32)


def _roundings(rng: np.random.Generator, ops: int) -> Roundings:
    """Make up tensors that ops round: some are read once, some by activation functions, some by sums."""
    reads = rng.integers(1, 4, ops)
    reader = np.sort(rng.integers(0, ops, int(reads.sum())))
    writers, functions = (np.flatnonzero(rng.random(ops) < share).astype(np.int32) for share in (0.5, 0.2))
    return Roundings(
        quantize_bytes=np.round(rng.uniform(400, 500, ops)),
        dequantize_bytes=np.round(rng.uniform(250, 300, ops)),
        reads_start=np.concatenate([[0], np.cumsum(reads)]).astype(np.int32),
        reader=rng.permutation(reader).astype(np.int32),
        rounds=rng.random(len(reader)) < 0.7,
        renaming_bytes=np.round(rng.uniform(-20, 20, len(reader))),
        writers=writers,
        written=rng.integers(0, ops, len(writers)).astype(np.int32),
        functions=functions,
        applied=rng.integers(0, ops, len(functions)).astype(np.int32),
        sums=np.stack([*rng.integers(0, len(reader), (2, ops)), rng.integers(0, ops, ops)], axis=1).astype(np.int32),
    )


def random_table(rng: np.random.Generator, *, ops: int, weights: int) -> CostTable:
    """Make up a cost table; the last op reads two weights and weight 0 is shared by two ops, if there are any."""
    schemes = (Float16(), *(Palettize(nbits) for nbits in (8, 4, 2)), DEFAULT_MENU[13])
    shape = (weights, len(schemes))
    reason = np.where(rng.random(shape) < 0.2, 0, -1).astype(np.int16)
    reason[:, 0] = -1
    legal = reason < 0
    read = [[] for _ in range(ops)]
    for weight in range(weights):
        read[int(rng.integers(ops))].append(weight)
    if weights:
        read[0] = sorted({*read[0], 0})
        read[-1] = sorted({*read[-1], 0, weights - 1})
    payload = np.round(rng.lognormal(9, 2, shape)) * legal
    signal = rng.lognormal(2, 2, weights)
    squared_error = signal[:, None] * rng.lognormal(-8, 2, shape) * (np.arange(len(schemes)) > 0)
    int8_ops = np.flatnonzero(rng.random(ops) < INT8_SHARE).astype(np.int32)
    return CostTable(
        device="made up",
        compute_unit="all",
        schemes=schemes,
        refusals=("It cannot be.",),
        start=np.zeros(weights, dtype=np.uint16),
        reason=reason,
        payload_bytes=payload,
        file_bytes=(payload + 64) * legal,
        shared=rng.integers(-1, 2, (*shape, 4)).astype(np.int32),
        shared_file_bytes=np.array([448.0, 1088.0]),
        last_weight=weights - 1,
        tail_bytes=rng.integers(0, 64, (len(schemes), 2)).astype(np.float64),
        tail_shared=rng.integers(-1, 2, len(schemes)).astype(np.int32),
        proto_bytes=np.round(rng.uniform(100, 300, shape)) * legal * (np.arange(len(schemes)) > 0),
        tensors=rng.integers(0, 4, shape).astype(np.uint8),
        fixed_records=_records(rng, weights),
        build_info_bytes=int(rng.integers(0, 300)),
        enclosing_bytes=np.cumsum([16_000, *rng.integers(4, 300, 4)]).astype(np.int32),
        find_roundings=partial(replace, _roundings(rng, ops)),
        stream_ms=rng.lognormal(-5, 2, shape) * legal,
        resident_bytes=payload * rng.choice([1, 2], shape),
        fixed_memory_bytes=int(rng.integers(0, 100_000)),
        elements=np.round(rng.lognormal(9, 2, weights)),
        signal=signal,
        squared_error=squared_error.astype(np.float32),
        fixed_file_bytes=int(rng.integers(64, 10_000)),
        fixed_proto_bytes=int(rng.integers(1_000, 100_000)),
        dispatch_ms=float(rng.uniform(0, 0.3)),
        main_unit=device("iPhone 15 Pro").unit("all"),
        unit=rng.integers(0, 3, ops).astype(np.int8),
        unit_reasons=("It cannot be there.",),
        unit_reason=rng.integers(-1, 1, ops).astype(np.int16),
        transfer_ms=np.zeros(ops),
        products_ms=rng.lognormal(-5, 2, ops),
        traffic_ms=rng.lognormal(-5, 2, ops),
        int8_ops=int8_ops,
        int8_ms=rng.lognormal(-6, 2, (4, len(int8_ops))),
        int8_schemes=np.arange(len(schemes)) % 2 == 1,
        work_mj=rng.lognormal(-5, 2, ops),
        byte_mj=rng.lognormal(-17, 1, ops),
        active_w=rng.choice([0.9, 4.0], ops),
        launch_ms=rng.lognormal(-6, 1, ops),
        compute_ms=rng.lognormal(-5, 2, ops),
        activation_ms=rng.lognormal(-6, 2, ops),
        op_weights_start=np.cumsum([0, *map(len, read)]).astype(np.int32),
        op_weights=np.array([weight for weights_read in read for weight in weights_read], dtype=np.int32),
        op_weights_share=rng.choice([1.0, 0.25], sum(map(len, read))),
        interval=(0.8, 1.3),
    )


def estimate_case(name: str, table: CostTable, rng: np.random.Generator) -> dict[str, Any]:
    """Price the float16 plan and five random legal plans of one table, in which some ops read int8."""
    noise = table.squared_error / table.signal[:, None]
    plans = []
    for trial in range(6):
        columns = np.zeros(len(table.elements), dtype=np.int64)
        if trial:
            columns = np.array([rng.choice(np.flatnonzero(row < 0)) for row in table.reason], dtype=np.int64)
        int8 = rng.random(len(table.launch_ms)) < (INT8_SHARE if trial else 0)
        total, ops = price(table, columns, int8), price_ops(table, columns, int8)
        plans.append(
            {
                "scheme": columns.tolist(),
                "int8": int8.astype(int).tolist(),
                "weight_file_bytes": total.weight_file_bytes,
                "size_bytes": total.size_bytes,
                "bits_per_weight": total.bits_per_weight,
                "latency_ms": total.latency_ms,
                "weight_error": total.weight_error,
                "latency_interval": list(total.latency_interval),
                "peak_memory_bytes": total.peak_memory_bytes,
                "energy_mj": total.energy_mj,
                "energy_interval": list(total.energy_interval),
                "op_ms": ops.op_ms.tolist(),
                "bound": ops.bound.tolist(),
                "op_weight_bytes": ops.weight_bytes.tolist(),
                "steps_down": np.stack(steps_down(table, columns, noise)[:2], axis=1).tolist(),
            }
        )
    return {"name": name, "costs": plain(pack_costs(table)), "plans": plans}


def history_case(name: str, rng: np.random.Generator, *, weights: int, steps: int) -> dict[str, Any]:
    """Fold random edits: sets with and without a gesture, empty sets, undos and redos, past both ends."""
    start = rng.integers(0, 3, weights).astype(np.uint16)
    history = History(start, rng.random(OPS) < INT8_SHARE)
    int8 = history.int8.astype(int).tolist()
    edits = []
    for sequence in range(1, steps + 1):
        kind = str(rng.choice(["set", "set", "set", "undo", "redo"]))
        edit = {
            "client": "a",
            "sequence": sequence,
            "kind": kind,
            "gesture": "",
            "label": "",
            "weights": [],
            "schemes": [],
            "ops": [],
            "int8": [],
        }
        if kind == "set":
            rows = rng.permutation(weights)[: int(rng.integers(0, weights + 1))].tolist()
            ops = rng.integers(0, OPS, int(rng.choice([0, 0, 1, 4]))).tolist()
            edit |= {
                "gesture": str(rng.choice(["", "drag 1", "drag 2"])),
                "label": f"step {sequence}",
                "weights": rows,
                "schemes": rng.integers(0, 3, len(rows)).tolist(),
                "ops": ops,
                "int8": rng.integers(0, 2, len(ops)).tolist(),
            }
            history = history.set(
                rows,
                edit["schemes"],
                ops=ops,
                int8=[wanted == 1 for wanted in edit["int8"]],
                label=edit["label"],
                gesture=edit["gesture"],
            )
        else:
            history = history.undo() if kind == "undo" else history.redo()
        edits.append(edit)
    entries = [
        {
            "label": entry.label,
            "gesture": entry.gesture,
            "weights": entry.weights.tolist(),
            "before": entry.before.tolist(),
            "after": entry.after.tolist(),
            "toggled": entry.toggled.tolist(),
        }
        for entry in history.entries
    ]
    expected = {
        "scheme": history.columns.tolist(),
        "int8": history.int8.astype(int).tolist(),
        "cursor": history.cursor,
        "history": entries,
    }
    return {"name": name, "scheme": start.tolist(), "int8": int8, "steps": edits, "expected": expected}


def build() -> dict[str, dict[str, Any]]:
    """Build both fixtures from fixed seeds; file name → content."""
    estimates = [
        estimate_case(f"{ops} ops, {weights} weights", random_table(rng, ops=ops, weights=weights), rng)
        for seed, (ops, weights) in enumerate([(1, 0), (2, 1), (30, 12), (200, 60)])
        for rng in [np.random.default_rng(seed)]
    ]
    histories = [
        history_case(f"seed {seed}", np.random.default_rng(seed), weights=5, steps=steps)
        for seed, steps in enumerate([0, 1, 3, 10, 40, 40, 40, 160])
    ]
    return {"estimates.json": {"cases": estimates}, "history.json": {"cases": histories}}


if __name__ == "__main__":
    FIXTURES.mkdir(exist_ok=True)
    for file, content in build().items():
        (FIXTURES / file).write_text(json.dumps(content, indent=None, separators=(",", ":")) + "\n", encoding="utf-8")
