"""What in a program costs more than it has to, or keeps it off the Neural Engine.

Each rule is one function in the table `RULES`, one pass over the ops or weights. What is said about the Neural Engine
comes from the references beside it: Core ML decides where an op runs when it loads a model, and documents none of it,
so these findings say what has been observed, not what must happen; `placement` prices the same ops elsewhere.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from talaria_nb import placement
from talaria_nb.legality import WEIGHT_THRESHOLD
from talaria_nb.program import NO_OP
from talaria_nb.work import Work, count_work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from talaria_nb.placement import Leaving
    from talaria_nb.program import Program

Severity: TypeAlias = Literal["high", "medium", "low"]
"""high: likely off the Neural Engine or a multiple of the work; medium: bytes for nothing; low: good to know."""
SEVERITIES: tuple[Severity, ...] = ("high", "medium", "low")

_SMALL_SHARE = 0.01
"""Weights under the threshold are worth a finding when together they are this share of all weights."""
_SAMPLE = 256

_COMPRESSION = "https://apple.github.io/coremltools/docs-guides/source/opt-overview.html"

_RESHAPES = frozenset(["reshape", "expand_dims", "squeeze", "flatten2d"])
_FLOATS = frozenset(["fp16", "fp32", "fp64"])
_WIDER: Mapping[str, frozenset[str]] = {
    "fp16": frozenset(["fp32", "fp64"]),
    "fp32": frozenset(["fp64"]),
    "bool": frozenset(["int8", "uint8", "int16", "uint16", "int32", "fp16", "fp32"]),
    "int8": frozenset(["int16", "int32", "fp16", "fp32"]),
    "uint8": frozenset(["int16", "uint16", "int32", "fp16", "fp32"]),
    "int16": frozenset(["int32", "fp32"]),
    "uint16": frozenset(["int32", "fp32"]),
}
"""dtype → the dtypes that hold all of its values, so that a cast there and back changes nothing."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One place where a rule applies: rows in `Ops`, what is there, and the bytes at stake."""

    ops: tuple[int, ...]
    what: str
    bytes: int = 0
    reference: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of finding.

    Attributes
    ----------
    kind
        Its name in `Model.findings`.
    severity
        See `Severity`.
    find
        Yields its hits in one pass.
    remedy
        What to change in the model.
    reference
        Where the rule comes from, if a hit does not say.
    costs_time
        False for what only takes space on disk: its remedy makes no op faster.
    """

    kind: str
    severity: Severity
    find: Callable[[Facts], Iterator[Hit]]
    remedy: str
    reference: str = ""
    costs_time: bool = True


@dataclass(frozen=True, slots=True)
class Finding:
    """One row of `Model.findings`; `flops` are those of its ops, once each."""

    kind: str
    severity: Severity
    ops: tuple[str, ...]
    what: str
    bytes: int
    flops: int
    remedy: str
    reference: str


class Facts:
    """A program with what several rules want to know of it.

    Parameters
    ----------
    program
        To look at.
    value_of
        Gives a weight's values by name; without it, weights are not compared.
    """

    def __init__(self, program: Program, value_of: Callable[[str], NDArray[np.generic]] | None = None) -> None:
        self.program = program
        self.value_of = value_of
        self.producer: list[int] = program.values.producer.tolist()
        self.inputs = frozenset(program.inputs)
        self.outputs = frozenset(program.outputs)

    @cached_property
    def work(self) -> Work:
        return count_work(self.program)

    @cached_property
    def readers(self) -> list[int]:
        """How often each value is read, an output of the model counting as one."""
        counts = [int(value in self.outputs) for value in range(len(self.producer))]
        for inputs in self.program.ops.inputs:
            for _, value in inputs:
                counts[value] += 1
        return counts

    def dtype(self, value: int) -> str:
        return self.program.values.dtype[value]

    def nbytes(self, value: int) -> int:
        return self.program.values.bytes_of(value)

    def moved(self, op: int) -> int:
        return int(self.work.activation_bytes[op])

    def chains(self, op_types: frozenset[str]) -> Iterator[tuple[int, int, int]]:
        """Yield (first op, second op, value that the first reads) where one such op reads another's output."""
        ops = self.program.ops
        for second, op_type in enumerate(ops.op_type):
            first = self.producer[ops.inputs[second][0][1]] if op_type in op_types and ops.inputs[second] else NO_OP
            if first != NO_OP and ops.op_type[first] in op_types and ops.inputs[first]:
                yield first, second, ops.inputs[first][0][1]

    def both(self, first: int, second: int) -> int:
        """Bytes that two ops in a row move, the first's only if nobody else reads it."""
        own = self.readers[self.program.ops.outputs[first][0]] == 1
        return self.moved(second) + (self.moved(first) if own else 0)


def findings(program: Program, value_of: Callable[[str], NDArray[np.generic]] | None = None) -> list[Finding]:
    """Apply all rules to a program.

    Parameters
    ----------
    program
        Of any size: every rule takes linear time.
    value_of
        Gives a weight's values by name; without it, duplicated weights are not looked for.

    Returns
    -------
    list of Finding
        The gravest first; among those, the most bytes first.
    """
    facts = Facts(program, value_of)
    found = [
        Finding(
            rule.kind,
            rule.severity,
            tuple(program.ops.name[op] for op in hit.ops),
            hit.what,
            hit.bytes,
            int(facts.work.flops[list(hit.ops)].sum()),
            rule.remedy,
            hit.reference or rule.reference,
        )
        for rule in RULES
        for hit in rule.find(facts)
    ]
    return sorted(found, key=lambda finding: (SEVERITIES.index(finding.severity), -finding.bytes))


def _redundant_casts(facts: Facts) -> Iterator[Hit]:
    ops = facts.program.ops
    for op, op_type in enumerate(ops.op_type):
        if op_type == "cast" and facts.dtype(ops.inputs[op][0][1]) == facts.dtype(ops.outputs[op][0]):
            yield Hit((op,), f"casts {facts.dtype(ops.outputs[op][0])} to itself", facts.moved(op))


def _cast_pairs(facts: Facts) -> Iterator[Hit]:
    outputs = facts.program.ops.outputs
    for first, second, value in facts.chains(frozenset(["cast"])):
        start, middle, end = (facts.dtype(each) for each in (value, outputs[first][0], outputs[second][0]))
        if start != middle != end and middle in _WIDER.get(start, ()):
            what = f"casts {start} to {middle} and on to {end}" + (", where it came from" if start == end else "")
            yield Hit((first, second), what, facts.both(first, second))


def _transpose_pairs(facts: Facts) -> Iterator[Hit]:
    attributes = facts.program.ops.attributes
    for first, second, _ in facts.chains(frozenset(["transpose"])):
        inner, outer = attributes[first].get("perm"), attributes[second].get("perm")
        if not (isinstance(inner, tuple) and isinstance(outer, tuple) and len(inner) == len(outer)):
            continue
        rank = len(inner)
        cancels = [int(inner[int(axis)]) % rank for axis in outer] == list(range(rank))
        what = "two transposes that cancel" if cancels else "two transposes in a row that one could do"
        yield Hit((first, second), what, facts.both(first, second) if cancels else facts.moved(second))


def _reshape_pairs(facts: Facts) -> Iterator[Hit]:
    shapes, outputs = facts.program.values.shape, facts.program.ops.outputs
    for first, second, value in facts.chains(_RESHAPES):
        back = shapes[value] == shapes[outputs[second][0]]
        what = "two reshapes that cancel" if back else "two reshapes in a row that one could do"
        yield Hit((first, second), what)


def _float32_islands(facts: Facts) -> Iterator[Hit]:
    ops = facts.program.ops
    inside = [False] * len(ops)
    for found in placement.in_float32(facts.program):
        inside[found.op] = True
    island = list(range(len(ops)))

    def root(op: int) -> int:
        while island[op] != op:
            island[op] = island[island[op]]
            op = island[op]
        return op

    for op, inputs in enumerate(ops.inputs):
        for _, value in inputs:
            before = facts.producer[value]
            if before != NO_OP and inside[op] and inside[before]:
                island[root(op)] = root(before)
    members: dict[int, list[int]] = {}
    for op in np.flatnonzero(inside).tolist():
        members.setdefault(root(op), []).append(op)
    for rows in members.values():
        number = f"{len(rows):,} ops compute" if len(rows) > 1 else "1 op computes"
        yield Hit(tuple(rows), f"{number} in float32", sum(map(facts.moved, rows)) // 2)


def _leaving(find: Callable[[Program], Iterator[Leaving]]) -> Callable[[Facts], Iterator[Hit]]:
    """Turn a rule of placement into one of findings."""

    def hits(facts: Facts) -> Iterator[Hit]:
        for op, why, reference in find(facts.program):
            yield Hit((op,), why, facts.moved(op), reference)

    return hits


def _range_shapes(facts: Facts) -> Iterator[Hit]:
    program = facts.program
    found = placement.reached_by_ranges(program)
    if not found:
        return
    names = ", ".join(program.values.name[value] for value in program.range_inputs)
    what = (
        f"{names} may have any size within a range; at other sizes than the default, Core ML leaves the Neural Engine"
    )
    yield Hit(tuple(found), what, sum(map(facts.moved, found)))


def _ineligible_weights(facts: Facts) -> Iterator[Hit]:
    weights = facts.program.weights
    elements = weights.elements
    for row in np.flatnonzero(elements > WEIGHT_THRESHOLD).tolist():
        if weights.channel_axes[row] is None and row not in weights.packed:
            what = f"{weights.name[row]} has readers that disagree on which of its axes are channels"
            yield Hit(weights.readers[row], what, facts.nbytes(int(weights.value[row])))


def _plain_constants(facts: Facts) -> Iterator[Hit]:
    program = facts.program
    large: dict[int, list[int]] = {
        value: []
        for value, shape in enumerate(program.values.shape)
        if facts.producer[value] == NO_OP
        and value not in facts.inputs
        and program.values.weight[value] < 0
        and int(np.prod(shape, dtype=np.int64)) > WEIGHT_THRESHOLD
    }
    for op, inputs in enumerate(program.ops.inputs if large else ()):
        for value in dict.fromkeys(value for _, value in inputs):
            if value in large:
                large[value].append(op)
    for value, readers in large.items():
        dtype, rank = facts.dtype(value), len(program.values.shape[value])
        why = f"of rank {rank}" if dtype in _FLOATS else f"of {dtype}"
        what = f"constant {program.values.name[value]} is {why}, which coremltools does not compress"
        yield Hit(tuple(readers), what, facts.nbytes(value))


def _small_weights(facts: Facts) -> Iterator[Hit]:
    weights = facts.program.weights
    nbytes = np.array([facts.nbytes(int(value)) for value in weights.value], dtype=np.int64)
    small = np.flatnonzero(weights.elements <= WEIGHT_THRESHOLD)
    if len(small) and nbytes[small].sum() >= _SMALL_SHARE * nbytes.sum():
        readers = dict.fromkeys(op for row in small.tolist() for op in weights.readers[row])
        share = nbytes[small].sum() / nbytes.sum()
        what = f"{len(small):,} weights of at most {WEIGHT_THRESHOLD:,} elements are {share:.0%} of all weights"
        yield Hit(tuple(readers), what, int(nbytes[small].sum()))


def _duplicated_weights(facts: Facts) -> Iterator[Hit]:
    if facts.value_of is None:
        return
    weights = facts.program.weights
    alike: dict[object, list[int]] = {}
    for row in np.flatnonzero(weights.elements > WEIGHT_THRESHOLD).tolist():
        if row not in weights.packed:
            alike.setdefault((weights.shape[row], weights.dtype[row]), []).append(row)
    for key in (_sample, _digest):  # all of a weight is read only if its first values are another's too
        groups = [rows for rows in alike.values() if len(rows) > 1]
        alike = {}
        for number, rows in enumerate(groups):
            for row in rows:
                alike.setdefault((number, key(facts.value_of(weights.name[row]))), []).append(row)
    for rows in alike.values():
        if len(rows) > 1:
            readers = dict.fromkeys(op for row in rows for op in weights.readers[row])
            what = f"{', '.join(weights.name[row] for row in rows)} hold the same values"
            yield Hit(tuple(readers), what, (len(rows) - 1) * facts.nbytes(int(weights.value[rows[0]])))


def _sample(value: NDArray[np.generic]) -> bytes:
    return value.reshape(-1)[:_SAMPLE].tobytes()


def _digest(value: NDArray[np.generic]) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(value).data).digest()


def _unpriced(facts: Facts) -> Iterator[Hit]:
    by_type: dict[str, list[int]] = {}
    for op in np.flatnonzero(facts.work.unknown).tolist():
        by_type.setdefault(facts.program.ops.op_type[op], []).append(op)
    for op_type, ops in by_type.items():
        yield Hit(tuple(ops), f"{op_type} is priced as data movement only", sum(map(facts.moved, ops)))


RULES: tuple[Rule, ...] = (
    Rule("redundant cast", "medium", _redundant_casts, "Remove the .to() or .float() call there."),
    Rule("cast pair", "medium", _cast_pairs, "Stay in one dtype: remove the conversion there and back."),
    Rule("transpose pair", "medium", _transpose_pairs, "Permute once, or keep the layout that is needed next."),
    Rule("reshape pair", "low", _reshape_pairs, "Reshape once."),
    Rule(
        "float32 island",
        "high",
        _float32_islands,
        "The Neural Engine computes in float16 only. Keep these ops in float16, scaling values that would overflow.",
        placement.TYPED_EXECUTION,
    ),
    Rule(
        "off the Neural Engine",
        "high",
        _leaving(placement.known_to_leave),
        "Compute it outside of the model, or by ops that run there; at the start or end of a model it costs least.",
    ),
    Rule(
        "off the Neural Engine: padding",
        "high",
        _leaving(placement.reflecting_pads),
        "Pad with zeros, or before the model.",
    ),
    Rule(
        "off the Neural Engine: 3-D convolution",
        "high",
        _leaving(placement.volumetric_convs),
        "Split it into 2-D convolutions over slices.",
    ),
    Rule(
        "range of shapes",
        "high",
        _range_shapes,
        "Convert with ct.EnumeratedShapes of the sizes that are needed, or with one fixed size.",
        placement.RANGES,
    ),
    Rule("rank over 5", "high", _leaving(placement.high_ranks), "Merge axes: Core ML runs tensors of rank 5 at most."),
    Rule(
        "integer arithmetic",
        "low",
        _leaving(placement.integer_arithmetic),
        "Compute index tensors once and pass them in, or compute in float16 where values stay below 2,048.",
        placement.TYPED_EXECUTION,
    ),
    Rule(
        "weight cannot be compressed",
        "medium",
        _ineligible_weights,
        "Give each reader a weight of its own, or the same orientation.",
        _COMPRESSION,
        costs_time=False,
    ),
    Rule(
        "constant cannot be compressed",
        "medium",
        _plain_constants,
        "Compute it in the model, store it with fewer elements, or give it a second axis.",
        _COMPRESSION,
        costs_time=False,
    ),
    Rule(
        "small weights",
        "low",
        _small_weights,
        "Merge them into fewer, larger weights (grouped or batched ops), or take them as the floor of the size.",
        _COMPRESSION,
        costs_time=False,
    ),
    Rule(
        "duplicated weight",
        "medium",
        _duplicated_weights,
        "Share one parameter between the modules.",
        costs_time=False,
    ),
    Rule("unpriced op", "low", _unpriced, "Read its latency as a lower bound."),
)

COSTS_TIME = frozenset(rule.kind for rule in RULES if rule.costs_time)
"""Kinds of findings whose remedy would make a prediction faster, not only the package smaller."""
