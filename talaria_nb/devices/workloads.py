"""Workloads: the structure of the measured models, cached so that fitting a device needs no conversion.

A workload is a `Program` without names, modules and weights' data: op types, shapes, dtypes and attributes are all that
a latency model reads. The cache is one gzipped JSON file; `python -m talaria_nb.devices.calibrate --build-workloads`
makes what is missing from the models themselves.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from talaria_nb.program import NO_OP, Modules, Ops, Program, Values, Weights

if TYPE_CHECKING:
    from collections.abc import Mapping

CACHE = Path(__file__).parent / "data" / "workloads.json.gz"
"""Where the repository keeps the workloads."""

_FORMAT = 1


def encode(program: Program) -> dict[str, Any]:
    """Reduce a program to JSON values.

    Parameters
    ----------
    program
        As `load` gives it. Names, modules and channel axes are dropped, and a weight that several ops read keeps one
        row, as in the program.
    """
    shapes: dict[tuple[int, ...], int] = {}
    return {
        "values": [
            [shapes.setdefault(shape, len(shapes)), dtype, int(weight >= 0)]
            for shape, dtype, weight in zip(
                program.values.shape, program.values.dtype, program.values.weight, strict=True
            )
        ],
        "shapes": [list(shape) for shape in shapes],
        "ops": [
            [op_type, [list(pair) for pair in inputs], list(outputs), dict(attributes)]
            for op_type, inputs, outputs, attributes in zip(
                program.ops.op_type, program.ops.inputs, program.ops.outputs, program.ops.attributes, strict=True
            )
        ],
        "inputs": list(program.inputs),
        "outputs": list(program.outputs),
        "deployment_target": program.deployment_target,
    }


def decode(name: str, data: Mapping[str, Any]) -> Program:
    """Rebuild the program that `encode` reduced, with made-up names.

    Parameters
    ----------
    name
        Name of the program.
    data
        What `encode` returned.
    """
    shapes = [tuple(shape) for shape in data["shapes"]]
    values = data["values"]
    producer = np.full(len(values), NO_OP, dtype=np.int32)
    readers: dict[int, list[int]] = {}
    for row, (_, inputs, outputs, _) in enumerate(data["ops"]):
        producer[outputs] = row
        for _, value in inputs:
            readers.setdefault(value, []).append(row)
    weight_values = [row for row, value in enumerate(values) if value[2]]
    weight = np.full(len(values), -1, dtype=np.int32)
    weight[weight_values] = np.arange(len(weight_values), dtype=np.int32)
    return Program(
        name=name,
        deployment_target=data["deployment_target"],
        ops=Ops(
            name=tuple(f"op_{row}" for row in range(len(data["ops"]))),
            op_type=tuple(op[0] for op in data["ops"]),
            inputs=tuple(tuple((parameter, value) for parameter, value in op[1]) for op in data["ops"]),
            outputs=tuple(tuple(op[2]) for op in data["ops"]),
            attributes=tuple(
                {key: tuple(value) if isinstance(value, list) else value for key, value in op[3].items()}
                for op in data["ops"]
            ),
            module=np.zeros(len(data["ops"]), dtype=np.int32),
        ),
        values=Values(
            name=tuple(f"value_{row}" for row in range(len(values))),
            shape=tuple(shapes[value[0]] for value in values),
            dtype=tuple(value[1] for value in values),
            producer=producer,
            weight=weight,
        ),
        weights=Weights(
            name=tuple(f"weight_{row}" for row in range(len(weight_values))),
            shape=tuple(shapes[values[row][0]] for row in weight_values),
            dtype=tuple(values[row][1] for row in weight_values),
            value=np.array(weight_values, dtype=np.int32),
            channel_axes=(None,) * len(weight_values),
            readers=tuple(tuple(dict.fromkeys(readers.get(row, ()))) for row in weight_values),
            last_in_file=np.zeros(len(weight_values), dtype=np.bool_),
        ),
        modules=Modules.from_paths({}),
        inputs=tuple(data["inputs"]),
        outputs=tuple(data["outputs"]),
        fixed_file_bytes=0,
    )


def write(workloads: Mapping[str, Mapping[str, Any]], path: Path = CACHE) -> None:
    """Write encoded workloads by key; equal content gives an equal file."""
    text = json.dumps({"format": _FORMAT, "workloads": dict(sorted(workloads.items()))}, separators=(",", ":"))
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def read_encoded(path: Path = CACHE) -> dict[str, dict[str, Any]]:
    """Read the encoded workloads by key; none if there is no file."""
    if not path.exists():
        return {}
    data = json.loads(gzip.decompress(path.read_bytes()))
    return dict(data["workloads"])


def read(path: Path = CACHE) -> dict[str, Program]:
    """Read the cached workloads as programs, by key ("resnet50@1x3x224x224")."""
    return {key: decode(key, data) for key, data in read_encoded(path).items()}
