"""Bytes on disk of a weight under a scheme, exact.

`weight.bin` is a 64-byte file header followed by the stored tensors; each is padded to a 64-byte boundary and has a
64-byte record before its data, and the last is not padded. Tensors with fewer than 10 elements are kept in the program
proto instead, and equal ones of 100 elements or more are stored once. Read in coremltools 9:
`converters/mil/backend/mil/load.py` (`should_use_weight_file`), the MIL blob storage format and the pass
`const_deduplication`; verified to the byte by `tests/test_storage.py` and `test_sizes.py`. `contents.py` tells which
stored tensors are equal. Not foreseen is equality in corners: indices of palettes of constants and of odd multiples,
quantized tables of multiples, grouped tables, what is joint with pruning but masks and float tables, and floats that
differ by less than 6e-8, which coremltools takes to be equal.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from talaria_nb import proto
from talaria_nb.contents import Question
from talaria_nb.legality import MIN_FILE_ELEMENTS
from talaria_nb.schemes import Float16, LinearQuantize, Palettize, Prune, Scheme, part
from talaria_nb.subjects import Subject, grouped_axis, scale_counts, table_counts, unique_nbits

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    from talaria_nb.contents import Contents
    from talaria_nb.program import Shape

FILE_HEADER_BYTES = 64
RECORD_BYTES = 64
ALIGNMENT = 64
MIN_SHARED_ELEMENTS = 100
"""Equal constants of this size or more are stored once (coremltools' pass `const_deduplication`)."""

_IOS18, _IOS26 = 18, 26
_BITS = {"fp16": 16, "fp32": 32, "int8": 8, "uint8": 8, "int32": 32, "uint32": 32}


class Origin(NamedTuple):
    """What a tensor is made from, and how: two that are made alike are equal where the weights answer alike.

    Attributes
    ----------
    how
        How it is made.
    question
        From what of the weight's values; None if from none.
    """

    how: Hashable
    question: Question | None = None


_AS_ANSWERED = "as answered"
"""How integers, scales, zero points, masks and what they leave are made: the answers are the tensors themselves."""
_MIDDLE = Origin("middle")
"""A symmetric unsigned range has one middle for all, so the zero points of all weights are equal."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One constant that a compressed weight is made of.

    Attributes
    ----------
    dtype
        MIL dtype name: "fp16", "uint4", …
    shape
        Its shape.
    origin
        What it is made from, where equal tensors can be foreseen: they are stored once if they are large.
    is_data
        False for operands that only say how to read the others (shapes, axes).
    """

    dtype: str
    shape: Shape
    origin: Origin | None = None
    is_data: bool = True

    @property
    def elements(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of its data."""
        bits = _BITS[self.dtype] if self.dtype in _BITS else int(self.dtype.removeprefix("u").removeprefix("int"))
        return -(-self.elements * bits // 8)

    @property
    def in_file(self) -> bool:
        """Whether it lies in `weight.bin`, not in the proto."""
        return self.elements >= MIN_FILE_ELEMENTS

    @property
    def shareable(self) -> Shareable | None:
        """What others it would be merged with, or None."""
        if self.origin is None or self.elements < MIN_SHARED_ELEMENTS:
            return None
        questions = () if self.origin.question is None else (self.origin.question,)
        return Shareable(self.dtype, self.shape, self.origin.how, questions)


class Shareable(NamedTuple):
    """A tensor that is stored once for all weights that have one like it and answer its questions alike.

    Attributes
    ----------
    dtype, shape
        As in `Tensor`.
    how
        As in `Origin`; of all tensors of the weight, where they are shared together or not at all.
    questions
        What decides about equality; none where nothing of the weight's values does.
    """

    dtype: str
    shape: Shape
    how: Hashable
    questions: tuple[Question, ...]

    @property
    def likeness(self) -> tuple[str, Shape, Hashable]:
        """What two of them must have in common to be equal, whatever the questions."""
        return self.dtype, self.shape, self.how

    def answered(self, contents: Contents | None) -> Hashable:
        """Return what tells it from those of other weights; None where that cannot be known."""
        if not self.questions:
            return self.likeness, ()
        return None if contents is None else (self.likeness, tuple(map(contents.answer, self.questions)))


@dataclass(frozen=True, slots=True)
class Step:
    """One constexpr op of a compressed weight.

    Attributes
    ----------
    op_type
        MIL op type.
    suffix
        What coremltools appends to the weight's name to get the op's.
    operands
        By parameter, in MIL's order: a constant, or the name (after the weight's) of another step's output.
    outputs
        Names (after the weight's), dtypes and shapes.
    """

    op_type: str
    suffix: str
    operands: tuple[tuple[str, Tensor | str], ...]
    outputs: tuple[tuple[str, str, Shape], ...]


@dataclass(frozen=True, slots=True)
class Stored:
    """What one weight takes on disk under one scheme.

    Attributes
    ----------
    tensors
        Its tensors in `weight.bin`, in file order, as (bytes of data, as what it may be shared).
    data_bytes
        The elements themselves: values, indices, integers.
    overhead_bytes
        Masks, tables, scales and zero points.
    proto_bytes
        Growth of the program proto against the dense weight, offsets in `weight.bin` taken as one byte each.
    tables
        Look-up tables; 0 for schemes without any.
    read_bytes
        Bytes of `weight.bin`, records and padding included, that were read from a package and not counted here: of a
        weight that was loaded compressed, which has no `tensors`.
    """

    tensors: tuple[tuple[int, Shareable | None], ...]
    data_bytes: int
    overhead_bytes: int
    proto_bytes: int
    tables: int
    read_bytes: int = 0

    @property
    def payload_bytes(self) -> int:
        """Everything but records and padding, wherever it is stored, and as if nothing was shared."""
        return self.data_bytes + self.overhead_bytes


def padded(nbytes: int) -> int:
    """Round up to the alignment of `weight.bin`."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def recorded(nbytes: int) -> int:
    """Return the bytes that one stored tensor adds to `weight.bin`: its record, its data and the padding."""
    return RECORD_BYTES + padded(nbytes)


def file_bytes(stored: Iterable[tuple[Stored, Contents | None]], *, fixed: int, ends_with_weight: bool) -> int:
    """Add up `weight.bin`.

    Parameters
    ----------
    stored
        One a weight, in file order, with its values where they are at hand.
    fixed
        Bytes of the header and of everything that is no weight.
    ends_with_weight
        Whether the last weight ends the file: the last tensor is not padded.
    """
    total, last = fixed, 0
    seen: set[Hashable] = set()
    for weight, contents in stored:
        total += weight.read_bytes
        for nbytes, shareable in weight.tensors:
            shared = None if shareable is None else shareable.answered(contents)
            if shared is None or shared not in seen:
                total += recorded(nbytes)
                last = nbytes
            if shared is not None:
                seen.add(shared)
    return total - (padded(last) - last if ends_with_weight else 0)


def steps(scheme: Scheme, weight: Subject, dtype: str) -> tuple[Step, ...]:
    """List the constexpr ops that coremltools writes for a weight, in program order.

    Parameters
    ----------
    scheme
        A legal one; illegal ones give steps that mean nothing.
    weight
        The weight. Without its contents, pruning is taken to leave as much as it says.
    dtype
        The weight's own, "fp16" or "fp32".

    Returns
    -------
    tuple of Step
        Empty for a dense weight. The last step's first output replaces the weight.
    """
    prune, palette, linear = part(scheme, Prune), part(scheme, Palettize), part(scheme, LinearQuantize)
    if palette is not None and linear is not None and prune is None and isinstance(scheme.parts[0], LinearQuantize):
        return _palettized_integers(scheme, palette, linear, weight, dtype)
    if prune is not None:
        return _sparse(scheme, prune, weight, dtype)
    if palette is not None:
        return _palettized(scheme, palette, linear, weight, dtype)
    if linear is not None:
        return _quantized(linear, weight, dtype)
    if isinstance(scheme, Float16):
        return ()
    message = f"No storage rule for {scheme!r}."
    raise TypeError(message)


def _nbits(scheme: Scheme, palette: Palettize, weight: Subject) -> int:
    if palette.nbits is not None:
        return palette.nbits
    return unique_nbits(scheme, weight) if weight.contents is not None else 8


def _table(palette: Palettize, nbits: int, weight: Subject) -> Shape:
    return (*table_counts(palette, weight), 2**nbits, palette.cluster_dim)


def _indices(palette: Palettize, nbits: int, weight: Subject) -> Tensor:
    shape = list(weight.shape)
    if palette.cluster_dim > 1:
        shape[grouped_axis(palette, weight)] //= palette.cluster_dim
    return Tensor(f"uint{nbits}", tuple(shape))


Operands: TypeAlias = "tuple[tuple[str, Tensor | str], ...]"


def _palettized(
    scheme: Scheme, palette: Palettize, tables: LinearQuantize | None, weight: Subject, dtype: str
) -> tuple[Step, ...]:
    nbits = _nbits(scheme, palette, weight)
    name = "_palettized"
    output = ((name, dtype, weight.shape),)
    table = _table_origin(palette)
    indexed = Origin(palette, Question("proportions"))
    if weight.ios < _IOS18:
        packed = Tensor("uint8", (-(-weight.elements * nbits // 8),), indexed)
        operands: Operands = (("indices", packed), ("lut", Tensor(dtype, (2**nbits,), table)), _shape_operand(weight))
        return (Step("constexpr_lut_to_dense", name, operands, output),)
    before, lut = _lut(tables, _table(palette, nbits, weight), dtype, f"{name}_lut_0", table)
    axis = Tensor("int32", (), is_data=False)
    vector = (("vector_axis", axis),) if palette.cluster_dim > 1 else ()
    indices = replace(_indices(palette, nbits, weight), origin=indexed)
    if tables is not None and weight.ios >= _IOS26:
        integers = Tensor(tables.dtype, _table(palette, nbits, weight), table)
        return _scaled_last(tables, indices, integers, (1, 1), f"{name}_lut_0_quantized", name, weight, dtype)
    return (*before, Step("constexpr_lut_to_dense", name, (("indices", indices), ("lut", lut), *vector), output))


def _scaled_last(
    linear: LinearQuantize,
    indices: Tensor,
    table: Tensor,
    scales: Shape,
    inner: str,
    name: str,
    weight: Subject,
    dtype: str,
    *others: Origin,
) -> tuple[Step, ...]:
    """List the steps of a palette of integers from iOS26 on: what comes out of the table is scaled, not the table."""
    found = ((inner, linear.dtype, weight.shape),)
    return (
        Step("constexpr_lut_to_dense", inner, (("indices", indices), ("lut", table)), found),
        Step(
            "constexpr_blockwise_shift_scale",
            name,
            (("data", inner), *_scales(linear, scales, dtype, *others)),
            ((name, dtype, weight.shape),),
        ),
    )


def _table_origin(palette: Palettize, before: Prune | None = None) -> Origin | None:
    """Say what a table is made from: the copies of a tied weight that lie another way round share one of 8 bits."""
    if palette.group_size is not None or palette.cluster_dim > 1:
        return None
    if palette.mode == "uniform":
        return None if before is not None else Origin("even", Question("extent"))
    return Origin((palette.mode, before), Question("population"))


def _lut(
    linear: LinearQuantize | None, shape: Shape, dtype: str, name: str, origin: Origin | None
) -> tuple[tuple[Step, ...], Tensor | str]:
    """Return a table as a constant, or the step that makes it from integers and that step's output."""
    if linear is None:
        return (), Tensor(dtype, shape, origin)
    step = _shift_scale(linear, shape, (1,) * len(shape), dtype, f"{name}_quantized", origin)
    return (step,), step.outputs[0][0]


def _shift_scale(
    linear: LinearQuantize,
    shape: Shape,
    scales: Shape,
    dtype: str,
    name: str,
    origin: Origin | None,
    *others: Origin,
) -> Step:
    operands: Operands = (
        ("data", Tensor(linear.dtype, shape, origin)),
        *_scales(linear, scales, dtype, *others),
    )
    return Step("constexpr_blockwise_shift_scale", name, operands, ((name, dtype, shape),))


def _scales(
    linear: LinearQuantize, shape: Shape, dtype: str, origin: Origin | None = None, zero_points: Origin | None = None
) -> tuple[tuple[str, Tensor], ...]:
    scale = ("scale", Tensor(dtype, shape, origin))
    middle = _MIDDLE if linear.mode == "linear_symmetric" else zero_points
    return (scale, ("offset", Tensor(linear.dtype, shape, middle))) if linear.has_zero_point else (scale,)


def _integer_origins(linear: LinearQuantize, scales: Shape) -> tuple[Origin, Origin, Origin]:
    """Return the origins of data, scale and zero point."""
    return (
        Origin(_AS_ANSWERED, Question("data", linear, scales)),
        Origin(_AS_ANSWERED, Question("scale", linear, scales)),
        Origin(_AS_ANSWERED, Question("zero_point", linear, scales)),
    )


def _quantized(linear: LinearQuantize, weight: Subject, dtype: str) -> tuple[Step, ...]:
    scales = scale_counts(linear, weight)
    data, scale, offset = _integer_origins(linear, scales)
    if weight.ios >= _IOS18:
        return (_shift_scale(linear, weight.shape, scales, dtype, "_quantized", data, scale, offset),)
    squeezed = tuple(count for count in scales if count > 1)
    operands: Operands = (
        ("quantized_data", Tensor(linear.dtype, weight.shape, data)),
        ("zero_point", Tensor(linear.dtype, squeezed, _MIDDLE if linear.mode == "linear_symmetric" else offset)),
        ("scale", Tensor(dtype, squeezed, scale)),
        ("axis", Tensor("int32", (), is_data=False)),
    )
    return (Step("constexpr_affine_dequantize", "_quantized", operands, (("_quantized", dtype, weight.shape),)),)


def _palettized_integers(
    scheme: Scheme, palette: Palettize, linear: LinearQuantize, weight: Subject, dtype: str
) -> tuple[Step, ...]:
    """List the steps of palettized integers: before iOS26 it is the tables that are scaled, one for each scale."""
    nbits = _nbits(scheme, palette, weight)
    scales = scale_counts(linear, weight)
    counts = _tables_of_integers(palette, linear, weight)
    name = "_quantized_data_0_palettized"
    even = palette.mode == "uniform" and palette.group_size is None
    table = Origin("even", Question("extent", linear, scales)) if even else None
    _, *others = _integer_origins(linear, scales)
    indexed = Origin(palette, Question("data", linear, scales))
    indices = replace(_indices(palette, nbits, weight), origin=indexed)
    if weight.ios >= _IOS26:
        integers = Tensor(linear.dtype, (*counts, 2**nbits, 1), table)
        return _scaled_last(linear, indices, integers, scales, name, "_quantized", weight, dtype, *others)
    tables = _shift_scale(linear, (*counts, 2**nbits, 1), (*scales, 1, 1), dtype, name, table, *others)
    operands: Operands = (("indices", indices), ("lut", name))
    return (tables, Step("constexpr_lut_to_dense", "_quantized", operands, (("_quantized", dtype, weight.shape),)))


def _nonzeros(prune: Prune, weight: Subject) -> int:
    if weight.contents is not None:
        return weight.contents.pruned(prune).nonzeros
    return round(weight.elements * prune.kept)


def _sparse(scheme: Scheme, prune: Prune, weight: Subject, dtype: str) -> tuple[Step, ...]:
    nonzeros = _nonzeros(prune, weight)
    where = Origin(_AS_ANSWERED, Question("mask", prune))
    values = Origin(_AS_ANSWERED, Question("values", prune))
    name = "_sparsified"
    output = ((name, dtype, weight.shape),)
    if weight.ios < _IOS18:
        mask = Tensor("uint8", (-(-weight.elements // 8),), where)
        kept = ("nonzero_data", Tensor(dtype, (nonzeros,), values))
        operands: Operands = (kept, ("mask", mask), _shape_operand(weight))
        return (Step("constexpr_sparse_to_dense", name, operands, output),)
    mask = Tensor("uint1", weight.shape, where)
    palette, linear = part(scheme, Palettize), part(scheme, LinearQuantize)
    if palette is not None:
        nbits = _nbits(scheme, palette, weight)
        inner = f"{name}_nonzero_data_0_palettized"
        table = _table_origin(palette, prune)
        before, lut = _lut(linear, _table(palette, nbits, weight), dtype, f"{inner}_lut_0", table)
        indices = Tensor(f"uint{nbits}", (nonzeros,))
        operands = (("indices_mask", mask), ("indices_nonzero_data", indices), ("lut", lut))
        decoded = Step("constexpr_lut_to_sparse", inner, operands, _sparse_outputs(inner, nonzeros, weight, dtype))
        last: Operands = (("nonzero_data", f"{inner}_1"), ("mask", f"{inner}_0"))
        return (*before, decoded, Step("constexpr_sparse_to_dense", name, last, output))
    if linear is not None:
        inner = f"{name}_nonzero_data_0_quantized"
        data = Tensor(linear.dtype, (nonzeros,))
        scales = _scales(linear, scale_counts(linear, weight), dtype)
        operands = (("data_mask", mask), ("nonzero_data", data), *scales)
        outputs = _sparse_outputs(inner, nonzeros, weight, dtype)
        decoded = Step("constexpr_sparse_blockwise_shift_scale", inner, operands, outputs)
        last = (("nonzero_data", f"{inner}_1"), ("mask", mask))
        return (decoded, Step("constexpr_sparse_to_dense", name, last, output))
    operands = (("nonzero_data", Tensor(dtype, (nonzeros,), values)), ("mask", mask))
    return (Step("constexpr_sparse_to_dense", name, operands, output),)


def _sparse_outputs(name: str, nonzeros: int, weight: Subject, dtype: str) -> tuple[tuple[str, str, Shape], ...]:
    return ((f"{name}_0", "uint1", weight.shape), (f"{name}_1", dtype, (nonzeros,)))


def _shape_operand(weight: Subject) -> tuple[str, Tensor]:
    return ("shape", Tensor("uint32", (len(weight.shape),), is_data=False))


_ELEMENTS = ("indices", "indices_nonzero_data", "quantized_data", "nonzero_data", "data")


def tensors(scheme: Scheme, weight: Subject, dtype: str) -> list[Tensor]:
    """List the tensors that a weight is stored as, in file order, without shapes and axes."""
    return _tensors(steps(scheme, weight, dtype), weight, dtype)


def _tensors(made: Sequence[Step], weight: Subject, dtype: str) -> list[Tensor]:
    if not made:
        return [Tensor(dtype, weight.shape)]
    operands = [operand for step in made for _, operand in step.operands]
    found = [operand for operand in operands if isinstance(operand, Tensor) and operand.is_data]
    return [tensor for at, tensor in enumerate(found) if not any(tensor is other for other in found[:at])]


def stored(
    scheme: Scheme, weight: Subject, dtype: str, *, name_bytes: int = 0, parameters: Sequence[str] = ()
) -> Stored:
    """Count the bytes of one weight under one scheme.

    Parameters
    ----------
    scheme, weight, dtype
        As in `steps`.
    name_bytes
        Length of its name.
    parameters
        As what the ops read it, once for every place.
    """
    made = steps(scheme, weight, dtype)
    found = _tensors(made, weight, dtype)
    total = sum(tensor.nbytes for tensor in found)
    data = _data_bytes(made, weight, dtype)
    return Stored(
        tensors=tuple(
            (tensor.nbytes, tensor.shareable or _shared_with_all(at, found, weight))
            for at, tensor in enumerate(found)
            if tensor.in_file
        ),
        data_bytes=data,
        overhead_bytes=total - data,
        proto_bytes=_proto_growth(made, weight, dtype, name_bytes, parameters),
        tables=_tables(scheme, weight),
    )


def _shared_with_all(place: int, found: Sequence[Tensor], weight: Subject) -> Shareable | None:
    """Say what a small tensor is shared as: weights of which everything comes out equal share one op and its parts."""
    origins = tuple(tensor.origin for tensor in found if tensor.origin is not None)
    if len(origins) < len(found):
        return None
    looks = tuple((tensor.dtype, tensor.shape, origin.how) for tensor, origin in zip(found, origins, strict=True))
    how = (place, weight.shape, weight.channel_axes, looks)
    questions = tuple(origin.question for origin in origins if origin.question is not None)
    return Shareable(found[place].dtype, found[place].shape, how, questions)


def _tables(scheme: Scheme, weight: Subject) -> int:
    palette, linear = part(scheme, Palettize), part(scheme, LinearQuantize)
    if palette is None:
        return 0
    if linear is not None and scheme.parts[-1] is palette:
        return prod(_tables_of_integers(palette, linear, weight))
    return prod(table_counts(palette, weight))


def _tables_of_integers(palette: Palettize, linear: LinearQuantize, weight: Subject) -> tuple[int, ...]:
    tables = table_counts(palette, weight)
    if weight.ios >= _IOS26:
        return tables
    return tuple(max(pair) for pair in zip(tables, scale_counts(linear, weight), strict=True))


def _data_bytes(made: Sequence[Step], weight: Subject, dtype: str) -> int:
    """Count the bytes of the elements: of the first constant operand that holds them, in the last step that has one."""
    for step in reversed(made):
        for parameter, operand in step.operands:
            if parameter in _ELEMENTS and isinstance(operand, Tensor):
                return operand.nbytes
    return Tensor(dtype, weight.shape).nbytes


def _proto_growth(made: Sequence[Step], weight: Subject, dtype: str, name_bytes: int, parameters: Sequence[str]) -> int:
    """Count by how much the program text grows when a weight is no longer dense; see `Stored.proto_bytes`."""
    if not made:
        return 0
    written = sum(proto.step_bytes(step, name_bytes, weight.ios) for step in made)
    dense = proto.dense_op_bytes(name_bytes, weight.shape, dtype)
    renamed = proto.renaming_bytes(name_bytes, name_bytes + len(made[-1].outputs[0][0]), parameters)
    return written - dense + renamed
