"""Which compute unit runs each op, why it leaves the Neural Engine, and what going from one unit to another costs.

Core ML decides this when it loads a model and documents none of it. The rules here say what was observed, each with
its source; where nothing is known, an op stays on the unit that was asked for. On the GPU and the CPU every op stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from talaria_nb.devices import UNITS
from talaria_nb.latency import op_parts
from talaria_nb.op_types import ELEMENTWISE, Kind
from talaria_nb.program import NO_OP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from talaria_nb.devices import Device
    from talaria_nb.program import Program, Shape
    from talaria_nb.work import Work

MAX_RANK = 5

COMPUTE_PLANS = "https://huggingface.co/SingularityUS/atc-whisperkit/blob/main/small/TextDecoder.mlcomputeplan.json"
MEL_PLAN = "https://huggingface.co/mickekringai/kb-whisper-coreml/blob/main/large/MelSpectrogram.mlcomputeplan.json"
CAPABILITY = "https://ane-guide.readthedocs.io/en/latest/part-1-machine/04-capability-surface.html"
UNSUPPORTED = "https://github.com/hollance/neural-engine/blob/master/docs/unsupported-layers.md"
TYPED_EXECUTION = "https://apple.github.io/coremltools/docs-guides/source/typed-execution.html"
RANK = "https://apple.github.io/coremltools/source/coremltools.converters.mil.mil.passes.defs.html"
"""The pass `expand_high_rank_reshape_and_transpose`: Core ML runs rank 5 at most."""
RANGES = "https://developer.apple.com/forums/thread/724930"
"""An engineer of Apple's: with ranges, only the default shape runs on the Neural Engine; enumerated shapes all can."""
TINY = "https://ask-meridian.uk/blog/apple-neural-engine-eligibility-vs-placement/"
"""An encoder of some 50,000 parameters and 77 ops, all of them eligible, is planned on the CPU whole; one of 10 million
parameters and 217 ops is planned on the Neural Engine whole."""

_NO_PATH = ("no hardware path", CAPABILITY)

OFF_NEURAL_ENGINE: Mapping[str, tuple[str, str]] = {
    "acos": _NO_PATH,
    "asin": _NO_PATH,
    "atan": _NO_PATH,
    "atanh": _NO_PATH,
    "band_part": _NO_PATH,
    "cosh": _NO_PATH,
    "custom_layer": ("custom code has no Neural Engine version", UNSUPPORTED),
    "gather": ("table look-ups are planned on the CPU", COMPUTE_PLANS),
    "gather_along_axis": ("look-ups are planned on the CPU", COMPUTE_PLANS),
    "gather_nd": ("look-ups are planned on the CPU", COMPUTE_PLANS),
    "gru": ("recurrent cells have no hardware path", CAPABILITY),
    "lstm": ("recurrent cells have no hardware path", CAPABILITY),
    "mod": _NO_PATH,
    "non_zero": _NO_PATH,
    "one_hot": _NO_PATH,
    "random_bernoulli": _NO_PATH,
    "random_categorical": _NO_PATH,
    "random_normal": _NO_PATH,
    "reduce_prod": ("products over an axis have no hardware path", CAPABILITY),
    "reverse_sequence": _NO_PATH,
    "rnn": ("recurrent cells have no hardware path", CAPABILITY),
    "scatter": ("scattered writes have no hardware path", CAPABILITY),
    "scatter_along_axis": ("scattered writes have no hardware path", CAPABILITY),
    "scatter_nd": ("scattered writes have no hardware path", CAPABILITY),
    "sinh": _NO_PATH,
    "sliding_windows": _NO_PATH,
    "tan": _NO_PATH,
}
"""Op types that were seen to leave the Neural Engine: why, and where that was observed."""

_FIRST_FAMILIES = ("A12", "A13", "M1")
_SECOND_FAMILIES = (*_FIRST_FAMILIES, "A14", "M2")
_NARROW_FAMILIES = (*_SECOND_FAMILIES, "A15")
_LATER: Mapping[str, tuple[str, ...]] = {
    "affine": _FIRST_FAMILIES,
    "crop_resize": _FIRST_FAMILIES,
    "resample": _FIRST_FAMILIES,
    "cos": _SECOND_FAMILIES,
    "sin": _SECOND_FAMILIES,
}
"""Op type → the first words of the chips that cannot run it yet (`CAPABILITY`: the texture engine came with A14, sine
and cosine with A15; M1 is of A13's kind there, and M2 of A14's)."""

_NARROW, _WIDE = 16_384, 65_536
"""Largest width and height of a tensor up to A15, and from A16 on (`CAPABILITY`, per-chip shape limits)."""

TINY_ELEMENTS = 50_000
TINY_FLOPS = 20_000_000
"""Most weight elements and FLOPs of a program that is planned on the CPU whole. The elements are those of the model in
`TINY`; the FLOPs keep out small weights that are used often, and are an assumption: 200 uses of each weight."""

_WIDE_INTEGERS = frozenset(["int32", "uint32", "int64", "uint64"])


class Leaving(NamedTuple):
    """One op that leaves the Neural Engine: its row, why, and where that comes from."""

    op: int
    why: str
    reference: str


@dataclass(frozen=True, slots=True, eq=False)
class Placement:
    """Where each op runs.

    Attributes
    ----------
    unit
        Per op, index into `talaria_nb.devices.UNITS`. int8, shape (ops,).
    reason
        Per op, why it left the Neural Engine, with the source; "" where it did not.
    transfer_ms
        Per op, what it costs to hand it what other units computed. float64, shape (ops,).
    """

    unit: NDArray[np.int8]
    reason: tuple[str, ...]
    transfer_ms: NDArray[np.float64]


def placement(program: Program, work: Work, device: Device, compute_unit: str = "all") -> Placement:
    """Say where each op runs.

    Parameters
    ----------
    program, work
        The program and `count_work` of it.
    device, compute_unit
        As in `Device.unit`. With "all" and "cpuAndNeuralEngine", what leaves the Neural Engine runs on the CPU; a
        program that computes in float32 throughout runs on the GPU with "all".

    Returns
    -------
    Placement

    Raises
    ------
    DeviceError
        As `Device.unit`.

    Notes
    -----
    Going from the CPU to the Neural Engine and back costs the dispatch of one more program there, and a copy of the
    tensors that cross, read once and written once by the CPU. The first such entry is part of every prediction's own
    dispatch, so ops that only read the model's inputs (look-ups of embeddings) and ops after which nothing returns to
    the Neural Engine leave at the price of the copy. That dispatches were measured at 0.1 to 0.2 ms and memory is
    shared is known; that a hop inside of a model costs as much is an assumption.

    A stretch of ops between two hops stays on the Neural Engine only if it is faster there by more than the hop.
    """
    asked = UNITS.index(device.unit_name(compute_unit))
    unit = np.full(len(program.ops), asked, dtype=np.int8)
    reason = [""] * len(program.ops)
    if UNITS[asked] == "neural_engine" and "cpu" in device.units:
        for op, why, reference in leaving(program, work, device.chip):
            unit[op] = UNITS.index("cpu")
            reason[op] = reason[op] or f"{why} ({reference})"
        if any(reason):
            if compute_unit == "all" and "gpu" in device.units and _all_float32(program, work):
                unit[:] = UNITS.index("gpu")
            else:
                _merge_islands(program, work, device, unit, reason)
            _let_free_ops_follow(program, work, unit, reason)
    return Placement(unit, tuple(reason), _transfers(program, work, device, unit))


def leaving(program: Program, work: Work, chip: str) -> Iterator[Leaving]:
    """Yield the ops that cannot run on a chip's Neural Engine; an op may come more than once."""
    if is_tiny(program, work):
        for op in range(len(program.ops)):
            yield Leaving(op, "a program this small is planned on the CPU", TINY)
        return
    for rule in RULES:
        yield from rule(program)
    yield from too_wide(program, chip)
    yield from not_yet(program, chip)


def is_tiny(program: Program, work: Work) -> bool:
    """Say whether a program is so small that Core ML was seen to plan it on the CPU."""
    return int(program.weights.elements.sum()) <= TINY_ELEMENTS and int(work.flops.sum()) <= TINY_FLOPS


def known_to_leave(program: Program) -> Iterator[Leaving]:
    """Yield ops of the types in `OFF_NEURAL_ENGINE`."""
    for op in program.ops.rows_of(OFF_NEURAL_ENGINE):
        op_type = program.ops.op_type[op]
        why, reference = OFF_NEURAL_ENGINE[op_type]
        yield Leaving(op, f"{op_type}: {why}", reference)


def reflecting_pads(program: Program) -> Iterator[Leaving]:
    """Yield pads that repeat the image instead of a constant."""
    for op in program.ops.rows_of(["pad"]):
        mode = program.ops.attributes[op].get("mode", "constant")
        if mode != "constant":
            yield Leaving(op, f"pad by {mode} is planned on the CPU", MEL_PLAN)


def volumetric_convs(program: Program) -> Iterator[Leaving]:
    """Yield convolutions over three dimensions."""
    ops, shapes = program.ops, program.values.shape
    for op in ops.rows_of(["conv", "conv_transpose"]):
        if len(shapes[ops.outputs[op][0]]) == MAX_RANK:
            yield Leaving(op, f"{ops.op_type[op]} over three dimensions", CAPABILITY)


def high_ranks(program: Program) -> Iterator[Leaving]:
    """Yield ops that read or write a tensor of more than `MAX_RANK` dimensions."""
    ops = program.ops
    rank = program.values.measured(lambda shape, _: len(shape))
    largest = np.maximum(*(ops.largest(pairs, rank[pairs.value]) for pairs in (ops.reads, ops.writes)))
    for op in np.flatnonzero(largest > MAX_RANK).tolist():
        yield Leaving(op, f"a tensor of rank {largest[op]}", RANK)


def integer_arithmetic(program: Program) -> Iterator[Leaving]:
    """Yield element-wise ops on tensors of wide integers."""
    dtype = program.values.dtype
    for op, value in _first_written(program, lambda shape, dtype: dtype in _WIDE_INTEGERS and shape != ()):
        op_type = program.ops.op_type[op]
        if op_type in ELEMENTWISE and op_type != "cast":
            yield Leaving(op, f"{op_type} in {dtype[value]}", TYPED_EXECUTION)


def in_float32(program: Program) -> Iterator[Leaving]:
    """Yield ops that compute in float32."""
    for op, _ in _first_written(program, lambda _, dtype: dtype == "fp32"):
        if program.ops.op_type[op] != "cast":
            yield Leaving(op, "computes in float32", TYPED_EXECUTION)


def _first_written(program: Program, concerned: Callable[[Shape, str], bool]) -> Iterator[tuple[int, int]]:
    """Yield the ops that write values of some shapes and dtypes, each with the first of them."""
    written = program.ops.writes
    found = written.where(program.values.measured(concerned)[written.value] > 0)
    ops, first = np.unique(found.op, return_index=True)
    yield from zip(ops.tolist(), found.value[first].tolist(), strict=True)


def off_default_shapes(program: Program) -> Iterator[Leaving]:
    """Yield ops after inputs whose size is within a range and not the package's default."""
    if not program.at_default_shapes:
        for op in reached_by_ranges(program):
            yield Leaving(op, "an input within a range is not of its default size", RANGES)


def reached_by_ranges(program: Program) -> list[int]:
    """Return the ops that depend on an input of any size within a range."""
    reached = set(program.range_inputs)
    found: list[int] = []
    for op, inputs in enumerate(program.ops.inputs if reached else ()):
        if any(value in reached for _, value in inputs):
            found.append(op)
            reached.update(program.ops.outputs[op])
    return found


RULES: tuple[Callable[[Program], Iterator[Leaving]], ...] = (
    known_to_leave,
    in_float32,
    high_ranks,
    volumetric_convs,
    reflecting_pads,
    integer_arithmetic,
    off_default_shapes,
)
"""What holds on every chip; `talaria_nb.lint` reports the same ops."""


def too_wide(program: Program, chip: str) -> Iterator[Leaving]:
    """Yield ops with an activation wider or higher than the chip's Neural Engine can address."""
    ops, values = program.ops, program.values
    limit = _NARROW if chip.split(maxsplit=1)[0] in _NARROW_FAMILIES else _WIDE
    width = values.measured(lambda shape, _: max(shape[-2:], default=0))
    computed = ops.reads.where(values.producer[ops.reads.value] != NO_OP)
    widest = np.maximum(*(ops.largest(pairs, width[pairs.value]) for pairs in (computed, ops.writes)))
    for op in np.flatnonzero(widest > limit).tolist():
        yield Leaving(op, f"a tensor {widest[op]:,} wide, over {limit:,}", CAPABILITY)


def not_yet(program: Program, chip: str) -> Iterator[Leaving]:
    """Yield ops of types that came with a later chip."""
    family = chip.split(maxsplit=1)[0]
    for op in program.ops.rows_of([op_type for op_type, families in _LATER.items() if family in families]):
        yield Leaving(op, f"{program.ops.op_type[op]} runs there on later chips only", CAPABILITY)


def _all_float32(program: Program, work: Work) -> bool:
    priced = work.kind < Kind.FREE
    floats = {found.op for found in in_float32(program)}
    return any(priced) and all(
        op in floats or program.ops.op_type[op] == "cast" for op in np.flatnonzero(priced).tolist()
    )


def _phases(program: Program, unit: NDArray[np.int8]) -> NDArray[np.int64]:
    """Return how many times what each op reads has gone from unit to unit, starting with the CPU; its own unit last."""
    phase = [int(code != UNITS.index("cpu")) for code in unit.tolist()]
    hops = (unit[program.edges[:, 0]] != unit[program.edges[:, 1]]).tolist()
    for (maker, op), hop in zip(program.edges.tolist(), hops, strict=True):
        phase[op] = max(phase[op], phase[maker] + hop)
    return np.array(phase, dtype=np.int64)


def _merge_islands(program: Program, work: Work, device: Device, unit: NDArray[np.int8], reason: list[str]) -> None:
    """Take stretches off the Neural Engine that are not worth the hop there."""
    engine, cpu = UNITS.index("neural_engine"), UNITS.index("cpu")
    phase = np.where((unit == engine) & (work.kind < Kind.FREE), _phases(program, unit), 0)
    stretches = np.unique(phase[phase > 0])
    if len(stretches) <= 1:
        return
    there, here = (_busy_ms(device, name, work) for name in ("neural_engine", "cpu"))
    hop = device.units["neural_engine"].dispatch_ms
    gain = {stretch: float((here - there)[phase == stretch].sum()) - hop for stretch in stretches.tolist()}
    best = max(gain, key=lambda stretch: gain[stretch])  # its dispatch is paid for anyway
    for stretch in stretches.tolist():
        if gain[stretch] <= 0 and stretch != best:
            members = np.flatnonzero(phase == stretch)
            unit[members] = cpu
            for op in members.tolist():
                reason[op] = "too short between ops on the CPU to be worth the hop (assumed)"


def _busy_ms(device: Device, name: str, work: Work) -> NDArray[np.float64]:
    parts = op_parts(device.units[name], work)
    busy: NDArray[np.float64] = parts.launch_ms + np.maximum(parts.compute_ms + parts.traffic_ms, parts.stream_ms)
    return busy


def _let_free_ops_follow(program: Program, work: Work, unit: NDArray[np.int8], reason: list[str]) -> None:
    """Run ops that only change how a tensor is addressed where their input was made; they cost nothing anywhere."""
    producer = program.values.producer.tolist()
    for op in np.flatnonzero(work.kind == Kind.FREE).tolist():
        made = [producer[value] for _, value in program.ops.inputs[op] if producer[value] != NO_OP]
        if made:
            unit[op] = unit[made[0]]
            reason[op] = reason[made[0]]


def _transfers(program: Program, work: Work, device: Device, unit: NDArray[np.int8]) -> NDArray[np.float64]:
    """Charge each hop back to an accelerator to the first op there, and each copied tensor to its first reader."""
    transfer = np.zeros(len(unit))
    if len(np.unique(unit)) <= 1:
        return transfer
    cpu = UNITS.index("cpu")
    phase = np.where((unit != cpu) & (work.kind < Kind.FREE), _phases(program, unit), 0)
    entered, first = np.unique(phase, return_index=True)
    later = first[entered > min(phase[phase > 0], default=0)]
    transfer[later] = [device.units[UNITS[unit[op]]].dispatch_ms for op in later.tolist()]
    a_byte = 2 / (device.units["cpu"].activation_gbps * 1e6)
    reads, producer = program.ops.reads, program.values.producer
    crossing = reads.where((producer[reads.value] != NO_OP) & (unit[producer[reads.value]] != unit[reads.op]))
    copied: set[tuple[int, int]] = set()
    for op, value in zip(crossing.op.tolist(), crossing.value.tolist(), strict=True):
        if (value, int(unit[op])) not in copied:
            copied.add((value, int(unit[op])))
            transfer[op] += program.values.bytes_of(value) * a_byte
    return transfer
