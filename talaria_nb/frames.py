"""The DataFrames users see, and what every column means.

`COLUMNS` is the one place where a column is described; the same text is the tooltip of the table in the browser.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from itertools import pairwise, takewhile
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from talaria_nb.legality import WEIGHT_THRESHOLD
from talaria_nb.lint import Finding
from talaria_nb.memory import STATE_PARAMETERS
from talaria_nb.source import cell_name
from talaria_nb.work import count_work

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from talaria_nb.functions import FunctionBytes
    from talaria_nb.program import Program
    from talaria_nb.source import SourceMap


@dataclass(frozen=True, slots=True)
class Column:
    """What one column holds.

    Attributes
    ----------
    title
        Header on screen.
    unit
        Unit of the numbers, "" for text and counts.
    certainty
        "exact" (counted or read), "measured" (on a device), "estimated" (from a model of the device), or "text".
    description
        One or two sentences.
    numeric
        Whether it holds numbers.
    """

    title: str
    unit: str
    certainty: Literal["exact", "measured", "estimated", "text"]
    description: str
    numeric: bool = False


COLUMNS: dict[str, Column] = {
    "name": Column(
        "name", "", "text", "Name of the op or weight in the Core ML program, as coremltools and Xcode show it."
    ),
    "op_type": Column("op", "", "text", "MIL operation type."),
    "module": Column(
        "module",
        "",
        "text",
        "Path of the PyTorch module whose code made the op, or which the row is about; of a finding, the "
        "innermost around all of its ops.",
    ),
    "module_class": Column("class", "", "text", "Qualified class name of the module whose code made the op."),
    "parents": Column(
        "fused from",
        "",
        "text",
        "Modules of everything that was fused into the op, its own first: a conv and its batch norm, for example.",
    ),
    "source": Column(
        "source", "", "text", "File and line of the user's code that made the op, or the first op of a finding."
    ),
    "output": Column("output", "", "text", "Shape of the op's first output."),
    "output_dtype": Column("dtype", "", "text", "MIL dtype of the op's first output."),
    "input_shapes": Column("inputs", "", "text", "Shapes of the tensors that the op reads, without small constants."),
    "flops": Column(
        "FLOPs",
        "FLOPs",
        "exact",
        "Floating point operations, 2 per multiply-accumulate, counted from shapes.",
        numeric=True,
    ),
    "weight_bytes": Column(
        "size",
        "bytes",
        "exact",
        "Bytes of the weights that the op reads, with tables and scales, as stored.",
        numeric=True,
    ),
    "data_bytes": Column(
        "data", "bytes", "exact", "Bytes of the weight's elements: values, indices or integers.", numeric=True
    ),
    "overhead_bytes": Column(
        "overhead", "bytes", "exact", "Bytes of the weight's masks, tables, scales and zero points.", numeric=True
    ),
    "activation_bytes": Column(
        "activations",
        "bytes",
        "exact",
        "Bytes of the activations that the op reads and writes once each.",
        numeric=True,
    ),
    "scheme": Column("scheme", "", "text", "How the op's weights are stored under the plan."),
    "bits": Column("bits", "bits", "exact", "Width of one stored weight, without tables and scales.", numeric=True),
    "sqnr_db": Column(
        "error",
        "dB",
        "estimated",
        "Signal to quantization noise of the op's weights or of one weight: squares of its values over the squares of "
        "what compression changes in them, in decibels; more is better, infinite where nothing changes. Exact for "
        "integers and pruning; for k-means palettes that of our own tables, and coremltools' may be 0.3 dB worse. It "
        "grades the weights, not the model's output, which is more sensitive to some weights than to others.",
        numeric=True,
    ),
    "latency_ms": Column(
        "latency",
        "ms",
        "estimated",
        "Time of the op on the device: launch + max(compute, memory). See the model's interval for how sure it is.",
        numeric=True,
    ),
    "bound": Column(
        "bound",
        "",
        "estimated",
        "What the op waits for: its products (compute), its weights (weight-memory), the reading and writing of "
        "activations (activation-memory), or its launch.",
    ),
    "unit": Column(
        "unit",
        "",
        "estimated",
        "Compute unit that the op is expected to run on, by rules that were observed; Core ML decides when it loads.",
    ),
    "unit_reason": Column("why there", "", "text", "Why the op leaves the Neural Engine, with the source."),
    "transfer_ms": Column(
        "transfer",
        "ms",
        "estimated",
        "Time to hand the op what other units computed, part of its latency.",
        numeric=True,
    ),
    "energy_mj": Column(
        "energy",
        "mJ",
        "estimated",
        "Energy of the op, from published energies of FLOPs and bytes and measured powers: known to a factor of 2.5.",
        numeric=True,
    ),
    "measured_ms": Column(
        "measured",
        "ms",
        "measured",
        "Time of the op where the model was measured: the median prediction times the share that Core ML gives the op.",
        numeric=True,
    ),
    "measured_unit": Column("measured unit", "", "measured", "Compute unit on which Core ML prefers to run the op."),
    "shape": Column("shape", "", "text", "Shape of the weight."),
    "dtype": Column("dtype", "", "text", "MIL dtype of the weight as converted."),
    "elements": Column("elements", "", "exact", "Number of elements of the weight.", numeric=True),
    "parameter": Column(
        "parameter",
        "",
        "text",
        "Name of the torch parameter that the weight holds; empty if it was computed from others.",
    ),
    "folded_from": Column(
        "folded from",
        "",
        "text",
        "Torch parameter from which the weight was computed, such as a conv's weight scaled by its batch norm; empty "
        "if it holds the parameter itself.",
    ),
    "block": Column("block", "", "exact", "Number of the block: equal for modules that are built alike.", numeric=True),
    "representative": Column("built like", "", "text", "Path of the first module that is built alike."),
    "count": Column("count", "", "exact", "How many modules are built alike, this one included.", numeric=True),
    "op_count": Column("ops", "", "exact", "Ops of the module and of all modules inside it.", numeric=True),
    "kind": Column("kind", "", "text", "What was found; `talaria_nb.lint.RULES` holds all kinds."),
    "severity": Column(
        "severity",
        "",
        "text",
        "high: likely off the Neural Engine; medium: bytes for nothing; low: good to know.",
    ),
    "ops": Column("ops", "", "text", "Names of the ops that the finding is about."),
    "what": Column("what", "", "text", "What is there."),
    "bytes": Column(
        "at stake", "bytes", "exact", "Bytes moved or stored that the remedy would save, at most.", numeric=True
    ),
    "at_stake_ms": Column(
        "time at stake",
        "ms",
        "estimated",
        "Time of all of the finding's ops where they run: an upper bound of what removing them could save, and the "
        "remedy may save less. The way back to the Neural Engine is part of the op after them. Empty for findings "
        "about size alone.",
        numeric=True,
    ),
    "remedy": Column("remedy", "", "text", "What to change in the model."),
    "reference": Column("reference", "", "text", "Where the rule comes from."),
    "state_bytes": Column(
        "size", "bytes", "exact", "Bytes of memory that the state takes; it is no part of the package.", numeric=True
    ),
    "adapter": Column("adapter", "", "text", "Name of the LoRA adapter; base is every other weight."),
    "weights": Column("weights", "", "exact", "How many weights of the program.", numeric=True),
    "bits_per_weight": Column(
        "bits", "bits", "exact", "Stored bits over elements, tables and scales included.", numeric=True
    ),
    "rank": Column("rank", "", "exact", "Largest rank of the adapter; 0 for the base.", numeric=True),
    "merged": Column(
        "merged",
        "",
        "exact",
        "Torch parameters of the adapter that the program does not hold: they were merged into the base's weights.",
        numeric=True,
    ),
    "read_by": Column("read by", "", "text", "Ops that read the state."),
    "written_by": Column("written by", "", "text", "Ops that write the state."),
    "readers": Column("readers", "", "text", "Ops that read the weight; a tied weight has several."),
    "modules": Column("modules", "", "text", "Modules whose ops read the weight."),
    "compressible": Column(
        "compressible",
        "",
        "exact",
        f"Whether coremltools compresses it: more than {WEIGHT_THRESHOLD:,} elements, an unambiguous channel axis, "
        "and not compressed already.",
    ),
}


UNIT_TITLES = {"neural_engine": "Neural Engine", "gpu": "GPU", "cpu": "CPU"}
"""How `talaria_nb.devices.UNITS` are called on screen."""

COMPUTE_UNIT_TITLES = {
    "all": "all units",
    "cpuAndNeuralEngine": "Neural Engine",
    "cpuAndGPU": "GPU",
    "cpuOnly": "CPU only",
}
"""How `talaria_nb.devices.COMPUTE_UNITS` are called on screen."""

TABLE_COLUMNS = (
    "name",
    "op_type",
    "module",
    "output",
    "scheme",
    "bits",
    "weight_bytes",
    "sqnr_db",
    "latency_ms",
    "bound",
    "unit",
    "flops",
    "activation_bytes",
    "source",
)
"""Columns of the table in the browser."""


def shape_text(shape: tuple[int, ...]) -> str:
    """Write a shape as people read it: (1, 384, 12) → "1×384×12"."""
    return "×".join(map(str, shape)) or "scalar"


def ops_frame(program: Program, source_map: SourceMap) -> pd.DataFrame:
    """Build `Model.ops`: one row an op, in execution order, of the program as it was loaded."""
    work = count_work(program)
    values, ops = program.values, program.ops
    start, rows = program.op_weights
    loaded = np.array(loaded_bytes(program), dtype=np.int64)
    first = [outputs[0] if outputs else None for outputs in ops.outputs]
    return pd.DataFrame(
        {
            "name": ops.name,
            "op_type": ops.op_type,
            "module": [program.modules.path[row] for row in ops.module],
            "module_class": [source_map.class_name(name) for name in ops.name],
            "parents": [", ".join(parent_modules(source_map, name)) for name in ops.name],
            "source": [source_text(source_map, name) for name in ops.name],
            "input_shapes": [", ".join(shape_text(values.shape[row]) for _, row in inputs) for inputs in ops.inputs],
            "output": ["" if row is None else shape_text(values.shape[row]) for row in first],
            "output_dtype": ["" if row is None else values.dtype[row] for row in first],
            "flops": work.flops,
            "weight_bytes": [int(loaded[rows[a:b]].sum()) for a, b in pairwise(start)],
            "activation_bytes": work.activation_bytes,
        }
    )


def weights_frame(program: Program, source_map: SourceMap) -> pd.DataFrame:
    """Build `Model.weights`: one row a weight, in file order, of the program as it was loaded."""
    weights = program.weights
    elements = weights.elements
    return pd.DataFrame(
        {
            "name": weights.name,
            "shape": [shape_text(shape) for shape in weights.shape],
            "dtype": weights.dtype,
            "elements": elements,
            "weight_bytes": loaded_bytes(program),
            "parameter": [source_map.parameters.get(name, "") for name in weights.name],
            "folded_from": [source_map.folded.get(name, "") for name in weights.name],
            "modules": [", ".join(paths) for paths in program.weight_module_paths],
            "readers": [", ".join(program.ops.name[op] for op in readers) for readers in weights.readers],
            "compressible": (elements > WEIGHT_THRESHOLD)
            & np.array(
                [axes is not None and row not in weights.packed for row, axes in enumerate(weights.channel_axes)],
                dtype=np.bool_,
            ),
        }
    )


def blocks_frame(program: Program, source_map: SourceMap) -> pd.DataFrame:
    """Build `Model.blocks`: one row a module that has ops, parents before children."""
    blocks, modules = program.blocks, program.modules
    tree = blocks.tree
    rows = tree.preorder[tree.stop[tree.preorder] > tree.start[tree.preorder]]
    flops = np.concatenate([[0], np.cumsum(count_work(program).flops[tree.order])])
    return pd.DataFrame(
        {
            "module": [modules.path[row] for row in rows],
            "module_class": [source_map.class_names.get(modules.path[row], "") for row in rows],
            "block": blocks.block[rows],
            "representative": [modules.path[row] for row in blocks.representative[rows]],
            "count": blocks.count[rows],
            "op_count": tree.stop[rows] - tree.start[rows],
            "flops": flops[tree.stop[rows]] - flops[tree.start[rows]],
        }
    )


def states_frame(program: Program) -> pd.DataFrame:
    """Build `Model.states`: one row a state, in the order of the program's inputs."""
    values, ops = program.values, program.ops
    touching: dict[int, tuple[list[str], list[str]]] = {}
    for name, op_type, inputs in zip(ops.name, ops.op_type, ops.inputs, strict=True):
        for parameter, value in inputs:
            if op_type in STATE_PARAMETERS and parameter == STATE_PARAMETERS[op_type]:
                touching.setdefault(value, ([], []))[op_type != "read_state"].append(name)
    rows = [row for row in program.inputs if row in touching]
    return pd.DataFrame(
        {
            "name": [values.name[row] for row in rows],
            "shape": [shape_text(values.shape[row]) for row in rows],
            "dtype": [values.dtype[row] for row in rows],
            "state_bytes": [values.bytes_of(row) for row in rows],
            "read_by": [", ".join(touching[row][0]) for row in rows],
            "written_by": [", ".join(touching[row][1]) for row in rows],
        }
    )


def functions_frame(functions: Sequence[FunctionBytes]) -> pd.DataFrame:
    """Build `Model.functions`."""
    index = pd.Index([entry.name for entry in functions], name="function")
    rows = [(entry.weight_file_bytes, entry.shared_bytes) for entry in functions]
    return pd.DataFrame(rows, index=index, columns=("weight_file_bytes", "shared_bytes"))


def findings_frame(found: Sequence[Finding], program: Program, source_map: SourceMap) -> pd.DataFrame:
    """Build `Model.findings`: one row a finding, the gravest first."""
    columns = [field.name for field in fields(Finding)]
    frame = pd.DataFrame([asdict(finding) for finding in found], columns=columns)
    paths = [[program.modules.path[program.ops.module[program.op_row[op]]] for op in each.ops] for each in found]
    place = columns.index("what") + 1
    frame.insert(place, "module", [_around(each) for each in paths])
    sources = [next(filter(None, (source_text(source_map, op) for op in each.ops)), "") for each in found]
    frame.insert(place + 1, "source", sources)
    return frame


def _around(paths: Iterable[str]) -> str:
    """Return the innermost module that holds all of the given ones."""
    levels = takewhile(lambda names: len(set(names)) == 1, zip(*(path.split(".") for path in paths), strict=False))
    return ".".join(names[0] for names in levels)


def loaded_bytes(program: Program) -> list[int]:
    """Bytes of each weight as it was loaded."""
    weights = program.weights
    return [
        weights.packed[row].payload_bytes if row in weights.packed else program.values.bytes_of(int(value))
        for row, value in enumerate(weights.value)
    ]


def source_text(source_map: SourceMap, op_name: str) -> str:
    """Write where an op came from as "modeling_bert.py:412", or "In[3]:12" for a notebook's cell; "" where unknown."""
    frame = source_map.user_frame(op_name)
    if frame is None:
        return ""
    return f"{cell_name(frame.file) or frame.file.replace(chr(92), '/').rsplit('/', 1)[-1]}:{frame.line}"


def parent_modules(source_map: SourceMap, op_name: str) -> tuple[str, ...]:
    """List the modules of everything that was fused into an op, its own first, each once."""
    return tuple(dict.fromkeys(parent.module for parent in source_map.parents(op_name)))
