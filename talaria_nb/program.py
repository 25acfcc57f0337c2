"""Program: a converted model as an immutable, columnar value.

Nothing here knows coremltools or torch. One row of `Ops` is one MIL operation that runs; constants are not ops, they
are `Values` without a producer, and those of them that could be compressed are `Weights`. All columns of one table
have the same length and the row index is the identity that every other table refers to.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from math import prod
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from talaria_nb.blocks import Blocks, find_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from talaria_nb.contents import Contents
    from talaria_nb.schemes import Scheme

Shape: TypeAlias = tuple[int, ...]
Attribute: TypeAlias = bool | int | float | str | tuple[int, ...] | tuple[float, ...] | tuple[bool, ...]

ROOT = 0
"""Row of the root module, whose path is the empty string."""

NO_OP = -1
"""Producer of a value that no op computes: a model input or a constant."""

DTYPE_BYTES: Mapping[str, float] = {
    "fp16": 2,
    "fp32": 4,
    "fp64": 8,
    "int8": 1,
    "uint8": 1,
    "int16": 2,
    "uint16": 2,
    "int32": 4,
    "uint32": 4,
    "int64": 8,
    "uint64": 8,
    "bool": 1,
    "int4": 0.5,
    "uint4": 0.5,
    "str": 0,
}
"""Bytes of one element of each MIL dtype, by MIL's own name for it."""


class Pairs(NamedTuple):
    """Distinct pairs of an op and a value, in the order of the ops: rows in `Ops` and in `Values`, int64."""

    op: NDArray[np.int64]
    value: NDArray[np.int64]

    @classmethod
    def from_lists(cls, values: Sequence[Sequence[int]]) -> Pairs:
        """Pair every op with its values, given one list an op; what a list repeats is counted once."""
        op = np.repeat(np.arange(len(values)), [len(each) for each in values])
        value = np.fromiter(chain.from_iterable(values), np.int64, len(op))
        return cls(op, value).where(_first_of_each(op, value))

    def where(self, chosen: NDArray[np.integer] | NDArray[np.bool_]) -> Pairs:
        """Return some of the pairs."""
        return Pairs(self.op[chosen], self.value[chosen])


def _first_of_each(left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where each distinct pair of numbers comes first, in order."""
    _, first = np.unique(left * (right.max(initial=0) + 1) + right, return_index=True)
    return np.sort(first)


@dataclass(frozen=True, eq=False)
class Values:
    """Every tensor of the program: model inputs, constants and op outputs.

    Attributes
    ----------
    name
        SSA name.
    shape
        Static shape; scalars are `()`.
    dtype
        MIL dtype name, a key of `DTYPE_BYTES`.
    producer
        Row in `Ops`, or `NO_OP`. int32.
    weight
        Row in `Weights` for a constant that is one, else -1. int32.
    """

    name: tuple[str, ...]
    shape: tuple[Shape, ...]
    dtype: tuple[str, ...]
    producer: NDArray[np.int32]
    weight: NDArray[np.int32]

    def bytes_of(self, row: int) -> int:
        """Return the bytes of one value held dense in memory."""
        return int(self.nbytes[row])

    @cached_property
    def nbytes(self) -> NDArray[np.int64]:
        """Bytes of each value held dense in memory; two an element where the dtype is unknown. int64."""
        return self.measured(lambda shape, dtype: int(prod(shape) * DTYPE_BYTES.get(dtype, 2)))

    @cached_property
    def elements(self) -> NDArray[np.int64]:
        """Number of elements of each value. int64."""
        return self.measured(lambda shape, _: prod(shape))

    @cached_property
    def kind(self) -> NDArray[np.int64]:
        """A number for each value, the same for values of one shape and dtype: a row in `kinds`. int64."""
        row_of = {kind: row for row, kind in enumerate(self.kinds)}
        return np.array([row_of[kind] for kind in zip(self.shape, self.dtype, strict=True)], dtype=np.int64)

    @cached_property
    def kinds(self) -> tuple[tuple[Shape, str], ...]:
        """The distinct pairs of a shape and a dtype."""
        return tuple(dict.fromkeys(zip(self.shape, self.dtype, strict=True)))

    def measured(self, measure: Callable[[Shape, str], int]) -> NDArray[np.int64]:
        """Measure each value by its shape and dtype, asking once for each distinct pair. int64, shape (values,)."""
        return np.array([measure(*kind) for kind in self.kinds], dtype=np.int64)[self.kind]


@dataclass(frozen=True, eq=False)
class Ops:
    """Every MIL operation that runs, in execution order.

    Attributes
    ----------
    name
        The proto's `name` attribute: what coremltools' configs and Xcode show.
    op_type
        MIL op type, such as "conv".
    inputs
        Per op, pairs of parameter name and row in `Values`; a list parameter (`concat`'s values) repeats its name.
    outputs
        Per op, rows in `Values`.
    attributes
        Per op, the small constant parameters by name (strides, groups, transpose_y, …).
    module
        Row in `Modules` of the module whose code made the op. int32.
    """

    name: tuple[str, ...]
    op_type: tuple[str, ...]
    inputs: tuple[tuple[tuple[str, int], ...], ...]
    outputs: tuple[tuple[int, ...], ...]
    attributes: tuple[Mapping[str, Attribute], ...]
    module: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.name)

    @cached_property
    def reads(self) -> Pairs:
        """What each op reads."""
        return Pairs.from_lists([[value for _, value in inputs] for inputs in self.inputs])

    @cached_property
    def writes(self) -> Pairs:
        """What each op writes."""
        return Pairs.from_lists(self.outputs)

    @cached_property
    def readers(self) -> Mapping[int, tuple[tuple[int, str], ...]]:
        """Value → the ops that read it and as what parameter, in execution order, once for every place."""
        found: dict[int, list[tuple[int, str]]] = {}
        for op, inputs in enumerate(self.inputs):
            for parameter, value in inputs:
                found.setdefault(value, []).append((op, parameter))
        return {value: tuple(places) for value, places in found.items()}

    @cached_property
    def rows_of_type(self) -> Mapping[str, NDArray[np.int64]]:
        """Rows of the ops of each type that occurs, in execution order."""
        rows: dict[str, list[int]] = {}
        for row, op_type in enumerate(self.op_type):
            rows.setdefault(op_type, []).append(row)
        return {op_type: np.array(found, dtype=np.int64) for op_type, found in rows.items()}

    def rows_of(self, op_types: Collection[str]) -> list[int]:
        """Return the rows of the ops of some types, in execution order."""
        found = [rows for op_type, rows in self.rows_of_type.items() if op_type in op_types]
        return sorted(np.concatenate(found).tolist()) if found else []

    def sums(self, pairs: Pairs, amounts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Add up an amount a pair for every op. int64, shape (ops,)."""
        total = np.zeros(len(self), dtype=np.int64)
        np.add.at(total, pairs.op, amounts)
        return total

    def largest(self, pairs: Pairs, amounts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the largest amount among the pairs of every op, 0 where it has none. int64, shape (ops,)."""
        found = np.zeros(len(self), dtype=np.int64)
        np.maximum.at(found, pairs.op, amounts)
        return found


@dataclass(frozen=True, slots=True)
class Packed:
    """A weight that the package already holds compressed.

    Attributes
    ----------
    scheme
        How it is stored.
    data_bytes
        Its elements: values, indices, integers.
    overhead_bytes
        Its masks, tables, scales and zero points.
    file_bytes
        Its part of `weight.bin`, records and padding included, without what it shares with other constants.
    tables
        Look-up tables; 0 for schemes without any.
    """

    scheme: Scheme
    data_bytes: int
    overhead_bytes: int
    file_bytes: int
    tables: int

    @property
    def payload_bytes(self) -> int:
        """Everything but records and padding."""
        return self.data_bytes + self.overhead_bytes


@dataclass(frozen=True, eq=False)
class Weights:
    """Every float constant of rank 2 or more that lies in `weight.bin`: the tensors that a plan may compress.

    Attributes
    ----------
    name
        Const name, by which coremltools' configs find it.
    shape, dtype
        As in `Values`; dtype is "fp16" or "fp32".
    value
        Row in `Values`. int32.
    channel_axes
        Per weight, (input axis, output axis) as coremltools infers them from the consuming ops
        (`select_input_output_channel_axis`), or None where the consumers disagree.
    readers
        Per weight, rows in `Ops` that read it, in execution order.
    last_in_file
        True for the one weight whose data ends `weight.bin` and hence is not padded there.
    packed
        Row → what is known of a weight that the package already holds compressed. Empty for most models.
    contents
        Per weight, its values for what depends on them; empty for a program made by hand.
    """

    name: tuple[str, ...]
    shape: tuple[Shape, ...]
    dtype: tuple[str, ...]
    value: NDArray[np.int32]
    channel_axes: tuple[tuple[int, int] | None, ...]
    readers: tuple[tuple[int, ...], ...]
    last_in_file: NDArray[np.bool_]
    packed: Mapping[int, Packed] = field(default_factory=dict)
    contents: tuple[Contents, ...] = ()

    def __len__(self) -> int:
        return len(self.name)

    @cached_property
    def elements(self) -> NDArray[np.int64]:
        """Number of elements of each weight. int64, shape (weights,)."""
        return np.array([prod(shape) for shape in self.shape], dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Modules:
    """The tree of modules; parents come before children and row `ROOT` is the model itself.

    Attributes
    ----------
    path
        Dotted path as in `torch.nn.Module.named_modules`; "" for the root.
    class_name
        Qualified class name, or "" where unknown.
    parent
        Row of the parent, -1 for the root. int32.
    """

    path: tuple[str, ...]
    class_name: tuple[str, ...]
    parent: NDArray[np.int32]

    @classmethod
    def from_paths(cls, class_names: Mapping[str, str]) -> Modules:
        """Build the tree that holds the given paths and all their ancestors.

        Parameters
        ----------
        class_names
            Dotted module path → qualified class name. Ancestors that are missing (module lists never run, so no op
            names them) are added with an empty class name. The order of first appearance is kept.
        """
        rows: dict[str, int] = {"": ROOT}
        names = [class_names.get("", "")]
        parents = [-1]
        for path in class_names:
            parts = path.split(".") if path else []
            for depth in range(1, len(parts) + 1):
                ancestor = ".".join(parts[:depth])
                if ancestor not in rows:
                    rows[ancestor] = len(names)
                    names.append(class_names.get(ancestor, ""))
                    parents.append(rows[".".join(parts[: depth - 1])])
        return cls(tuple(rows), tuple(names), np.array(parents, dtype=np.int32))


@dataclass(frozen=True, eq=False)
class Program:
    """A converted model: its ops, values, weights and module tree.

    Attributes
    ----------
    name
        What to call the model on screen.
    deployment_target
        "iOS16" … as coremltools names it.
    inputs, outputs
        Rows in `values` of the model's inputs and outputs.
    fixed_file_bytes
        Bytes of `weight.bin` that no plan changes: its header and every stored tensor that is not a weight.
    fixed_package_bytes
        Bytes of the uncompressed package outside `weight.bin` (the program proto and the manifest).
    range_inputs
        Rows in `values` of the inputs that take any size within a range in the package, fixed here at one.
    at_default_shapes
        False if one of them is fixed at another size than the package's default.
    build_info_bytes
        The part of them that coremltools drops when it compresses anything.
    enclosing_bytes
        Bytes of the messages around the ops in the program proto, innermost first (`proto.enclosing_bytes`).
    fixed_records
        Per stored tensor that is no weight, in file order, how many weights come before it and its bytes in
        `weight.bin`, record and padding included. int64, shape (tensors, 2).
    """

    name: str
    deployment_target: str
    ops: Ops
    values: Values
    weights: Weights
    modules: Modules
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    fixed_file_bytes: int
    fixed_package_bytes: int = field(default=0)
    range_inputs: tuple[int, ...] = ()
    at_default_shapes: bool = True
    build_info_bytes: int = 0
    enclosing_bytes: tuple[int, ...] = ()
    fixed_records: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 2), dtype=np.int64))

    @cached_property
    def edges(self) -> NDArray[np.int32]:
        """Pairs (producer op, consumer op), one a distinct pair, in execution order. int32, shape (edges, 2)."""
        reads = self.ops.reads
        producer = self.values.producer[reads.value].astype(np.int64)
        computed = producer != NO_OP
        edges = np.stack([producer[computed], reads.op[computed]], axis=1)
        return edges[_first_of_each(edges[:, 1], edges[:, 0])].astype(np.int32)

    @cached_property
    def op_weights(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Weights read by each op in CSR form: `weights[start[op]:start[op + 1]]`. Two int32 arrays."""
        weight = self.values.weight[self.ops.reads.value]
        counts = np.bincount(self.ops.reads.op[weight >= 0], minlength=len(self.ops))
        start = np.concatenate(([0], np.cumsum(counts)))
        return start.astype(np.int32), weight[weight >= 0].astype(np.int32)

    @cached_property
    def op_row(self) -> Mapping[str, int]:
        """Row of each op by name."""
        return {name: row for row, name in enumerate(self.ops.name)}

    @cached_property
    def weight_row(self) -> Mapping[str, int]:
        """Row of each weight by name."""
        return {name: row for row, name in enumerate(self.weights.name)}

    @cached_property
    def weight_module_paths(self) -> tuple[tuple[str, ...], ...]:
        """Per weight, the paths of the modules whose ops read it, without the modules around them."""
        return tuple(
            tuple(dict.fromkeys(self.modules.path[self.ops.module[op]] for op in readers))
            for readers in self.weights.readers
        )

    @cached_property
    def blocks(self) -> Blocks:
        """The tree of modules over ops, and which modules are built alike."""
        return find_blocks(self)

    @cached_property
    def fingerprint(self) -> str:
        """Hex digest of the structure (op names and types, weight names and shapes): equal for the same model."""
        digest = hashlib.sha256()
        lines: Sequence[tuple[object, ...]] = (
            *zip(self.ops.name, self.ops.op_type, strict=True),
            *zip(self.weights.name, self.weights.shape, self.weights.dtype, strict=True),
        )
        for line in lines:
            digest.update(repr(line).encode())
        return digest.hexdigest()[:16]
