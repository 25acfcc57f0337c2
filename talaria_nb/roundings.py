"""The tensors that int8 activations round to 8 bits, and what that adds to the program text.

coremltools 9 puts a `quantize` and a `dequantize` before what an op reads (`insert_prefix_quantize_dequantize_pair`)
and behind what it writes, or behind the activation function that follows (`insert_suffix_quantize_dequantize_pair`).
Pairs that cancel and equal ones are joined after that (`dequantize_quantize_pair_elimination`, `remove_redundant_ops`),
so that a tensor is rounded once. Where the operands and the result of a sum are int8, the operands are dequantized for
it alone, divided by the scale of the second (`distributive_quantized_binary_op_scale_normalization`).

`activations.py` gives these ops names of one length, so that what they add is the same wherever they stand. The browser
counts the same in `js/src/roundings.ts`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np

from talaria_nb.activation_legality import ACTIVATION_FUNCTIONS, activation_ops, parameters_rounded
from talaria_nb.proto import op_bytes, renaming_bytes, small_const_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from talaria_nb.program import Program, Shape

QUANTIZE, DEQUANTIZE = "quantize_{:04}", "dequantize_{:04}"
"""Names of the ops, by their place in the program. Those of their constants have an ending, as coremltools gives it."""
SCALE, DTYPE = "_scale_0", "_output_dtype_0"

_INT8 = "int8"
_SUMS = ("add", "sub")
"""`distributive_quantized_binary_op_scale_normalization.DISTRIBUTIVE_BINARY_OPS`."""


@dataclass(frozen=True, slots=True, eq=False)
class Roundings:
    """What int8 activations of any ops add to the program text.

    Rows of tensors are those that some op could round, and rows of reads the places where these are read.

    Attributes
    ----------
    quantize_bytes, dequantize_bytes
        Bytes of the ops and their constants. float64, shape (tensors,).
    reads_start
        CSR: tensor t is read at rows `reads_start[t]` to `reads_start[t + 1]`, in execution order. int32.
    reader
        The op that reads. int32, shape (reads,).
    rounds
        Whether it rounds what it reads there once its activations are int8. bool, shape (reads,).
    renaming_bytes
        By how much it grows when it reads the rounded tensor. float64, shape (reads,).
    writers, written
        Ops whose activations may be int8, and the row of the tensor that each writes, if anything reads it. int32.
    functions, applied
        Activation functions that read such a tensor, and the row of the tensor that each writes, likewise. int32.
    sums
        Per sum, the rows of its two reads, and of the tensor that it or the relu behind it writes. int32, shape
        (sums, 3).
    """

    quantize_bytes: NDArray[np.float64]
    dequantize_bytes: NDArray[np.float64]
    reads_start: NDArray[np.int32]
    reader: NDArray[np.int32]
    rounds: NDArray[np.bool_]
    renaming_bytes: NDArray[np.float64]
    writers: NDArray[np.int32]
    written: NDArray[np.int32]
    functions: NDArray[np.int32]
    applied: NDArray[np.int32]
    sums: NDArray[np.int32]
    _last: dict[bytes, int] = field(default_factory=dict, init=False, repr=False)

    @property
    def read(self) -> NDArray[np.int64]:
        """Row of the tensor of each read."""
        return np.repeat(np.arange(len(self.quantize_bytes)), np.diff(self.reads_start))

    @property
    def operands(self) -> NDArray[np.int64]:
        """How many tensors each writer rounds."""
        return np.bincount(self.reader[self.rounds], minlength=self.writers.max(initial=0) + 1)[self.writers]

    def growth(self, int8: NDArray[np.bool_]) -> int:
        """Count by how much the program text grows, apart from the lengths of the messages around its ops.

        Parameters
        ----------
        int8
            Whether the activations of each op are int8, shape (ops,).
        """
        if not int8.any() or not len(self.reader):
            return 0
        key = int8.tobytes()
        if key not in self._last:  # who prices many plans changes weights, hardly ever activations
            self._last.clear()
            self._last[key] = self._counted(int8)
        return self._last[key]

    def _counted(self, int8: NDArray[np.bool_]) -> int:
        tensor, reads = self.read, np.diff(self.reads_start)
        wanted = int8[self.reader] & self.rounds
        behind = self._behind(int8, wanted)
        rounded = behind | (np.bincount(tensor, wanted, len(reads)) > 0)
        through = wanted | behind[tensor]
        nbytes = self.quantize_bytes[rounded].sum() + self.renaming_bytes[through].sum()
        plain, first, second = through.copy(), 0.0, set()
        closed = behind | (rounded & (reads == 1))
        for x, y, result in self.sums.tolist():
            if through[x] and through[y] and closed[result]:
                plain[x] = plain[y] = False
                first += self.dequantize_bytes[tensor[x]] * (tensor[x] != tensor[y])
                second.add(int(tensor[y]))
        restored = np.unique(tensor[plain])
        nbytes += self.dequantize_bytes[restored].sum() + first + self.dequantize_bytes[sorted(second)].sum()
        return int(nbytes)

    def _behind(self, int8: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Tell which tensors are rounded where they are written, so that all that read them read the rounded one.

        coremltools looks behind an op once for each operand that was rounded. What it finds there is the first reader
        that stays in float; an activation function behind which it has rounded comes last from then on.
        """
        function = dict(zip(self.functions.tolist(), self.applied.tolist(), strict=True))
        behind = np.zeros(len(self.quantize_bytes), dtype=np.bool_)
        for op, tensor, operands in zip(
            self.writers.tolist(), self.written.tolist(), self.operands.tolist(), strict=True
        ):
            if not int8[op]:
                continue
            places = slice(*self.reads_start[tensor : tensor + 2])
            floats = [reader for reader in self.reader[places].tolist() if not int8[reader]]
            for _ in range(operands):
                result = function.get(floats[0], tensor) if floats else tensor
                behind[result] = True
                own = slice(*self.reads_start[result : result + 2])
                if result == tensor or wanted[own].tolist() == [True] or len(self.reader[places]) == 1:
                    break
                floats = floats[1:]
        return behind


_FOUND: WeakKeyDictionary[Program, Roundings] = WeakKeyDictionary()


def roundings(program: Program) -> Roundings:
    """Find what int8 activations add to a program's text; found once and kept."""
    if program not in _FOUND:
        _FOUND[program] = _roundings(program)
    return _FOUND[program]


def _roundings(program: Program) -> Roundings:
    ops, values = program.ops, program.values
    writers = activation_ops(program)
    readers = ops.readers
    written = {op: ops.outputs[op][0] for op in writers if ops.outputs[op][0] in readers}
    applied = {
        op: ops.outputs[op][0]
        for value in written.values()
        for op, _ in readers[value]
        if ops.op_type[op] in ACTIVATION_FUNCTIONS and ops.outputs[op][0] in readers
    }
    could = set(writers)
    read = [value for op in writers for parameter, value in ops.inputs[op] if _rounds(program, could, op, parameter)]
    row = {value: number for number, value in enumerate(sorted({*read, *written.values(), *applied.values()}))}
    places = [(value, op, parameter) for value in row for op, parameter in readers[value]]
    counts = [len(readers[value]) for value in row]
    return Roundings(
        quantize_bytes=_bytes(
            _quantize_bytes(len(values.name[value].encode()), values.shape[value], values.dtype[value]) for value in row
        ),
        dequantize_bytes=_bytes(_dequantize_bytes(values.shape[value], values.dtype[value]) for value in row),
        reads_start=_rows(np.cumsum([0, *counts])),
        reader=_rows(op for _, op, _ in places),
        rounds=np.array([_rounds(program, could, op, parameter) for _, op, parameter in places], dtype=np.bool_),
        renaming_bytes=_bytes(
            _renaming_bytes(len(values.name[value].encode()), parameter) for value, _, parameter in places
        ),
        writers=_rows(written),
        written=_rows(row[value] for value in written.values()),
        functions=_rows(applied),
        applied=_rows(row[value] for value in applied.values()),
        sums=_sums(program, row, {place: number for number, place in enumerate(places)}),
    )


def _rounds(program: Program, could: set[int], op: int, parameter: str) -> bool:
    return op in could and parameter in parameters_rounded(program.ops.op_type[op])


def _sums(program: Program, row: dict[int, int], place: dict[tuple[int, int, str], int]) -> NDArray[np.int32]:
    """Find the sums whose operands and result could all be int8."""
    ops = program.ops
    found = []
    for op in ops.rows_of(_SUMS):
        inputs, result = dict(ops.inputs[op]), ops.outputs[op][0]
        behind = ops.readers.get(result, ())
        if [ops.op_type[reader] for reader, _ in behind] == ["relu"]:
            result = ops.outputs[behind[0][0]][0]
        x, y = (place.get((inputs.get(parameter, -1), op, parameter), -1) for parameter in ("x", "y"))
        if x >= 0 and y >= 0 and result in row and not {ops.outputs[op][0], result} & {*program.outputs}:
            found.append((x, y, row[result]))
    return np.array(found, dtype=np.int32).reshape(-1, 3)


@lru_cache(maxsize=4096)
def _quantize_bytes(name_bytes: int, shape: Shape, dtype: str) -> int:
    own = len(QUANTIZE.format(0))
    scale, kind = own + len(SCALE), own + len(DTYPE)
    return (
        small_const_bytes(scale, dtype)
        + small_const_bytes(kind, "string", len(_INT8))
        + op_bytes("quantize", own, {"input": name_bytes, "scale": scale, "output_dtype": kind}, _INT8, shape)
    )


@lru_cache(maxsize=4096)
def _dequantize_bytes(shape: Shape, dtype: str) -> int:
    own = len(DEQUANTIZE.format(0))
    scale = own + len(SCALE)
    return small_const_bytes(scale, dtype) + op_bytes(
        "dequantize", own, {"input": len(QUANTIZE.format(0)), "scale": scale}, dtype, shape
    )


@lru_cache(maxsize=4096)
def _renaming_bytes(name_bytes: int, parameter: str) -> int:
    return renaming_bytes(name_bytes, len(DEQUANTIZE.format(0)), [parameter])


def _bytes(counts: Iterable[float]) -> NDArray[np.float64]:
    return np.array([*counts], dtype=np.float64)


def _rows(rows: Iterable[int]) -> NDArray[np.int32]:
    return np.array([*rows], dtype=np.int32)
