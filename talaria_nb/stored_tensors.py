"""What a compressed weight is made of: the tensors that are stored, what they take, and which are shared."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, NamedTuple

from talaria_nb.legality import MIN_FILE_ELEMENTS

if TYPE_CHECKING:
    from collections.abc import Hashable

    from talaria_nb.contents import Contents, Question
    from talaria_nb.program import Shape


FILE_HEADER_BYTES = 64
RECORD_BYTES = 64
ALIGNMENT = 64
MIN_SHARED_ELEMENTS = 100
"""Equal constants of this size or more are stored once (coremltools' pass `const_deduplication`)."""

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
