"""A program at another batch or context length, without converting again: its shapes are rewritten, nothing else.

Names, weights and order stay, so all that is counted from shapes can be counted for another size. What coremltools
would convert differently at that size is not foreseen.
"""

from __future__ import annotations

import dataclasses
from math import prod
from typing import TYPE_CHECKING

from talaria_nb.errors import PlanError
from talaria_nb.op_types import ELEMENTWISE
from talaria_nb.program import NO_OP

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from talaria_nb.program import Program, Shape

_STATE_OPS = frozenset(["read_state", "coreml_update_state", "write_state"])
_RESHAPES = frozenset(["expand_dims", "flatten2d", "reshape", "reshape_like", "squeeze"])


def batch_of(program: Program) -> int:
    """Return the batch that a program was loaded at: the first dimension of its first input that has one, or 1."""
    return next((shape[0] for shape in _input_shapes(program) if shape), 1)


def tokens_of(program: Program) -> int:
    """Return the tokens that a language model was loaded with: the second dimension of its first input, or 1."""
    shape = next(_input_shapes(program), ())
    return shape[1] if len(shape) > 1 else 1


def _input_shapes(program: Program) -> Iterator[Shape]:
    """Return the shapes of the inputs that are no states."""
    states = {
        value
        for op_type, inputs in zip(program.ops.op_type, program.ops.inputs, strict=True)
        if op_type in _STATE_OPS
        for _, value in inputs
    }
    return (program.values.shape[value] for value in program.inputs if value not in states)


def at_batch(program: Program, batch: int) -> Program:
    """Rewrite a program's shapes for another batch.

    Parameters
    ----------
    program
        At the batch that it was loaded at.
    batch
        Items that one prediction takes.

    Raises
    ------
    PlanError
        If the batch is no whole number of at least 1.

    Notes
    -----
    The first dimension of the inputs is taken to be the batch. Inputs and states that have another one there hold no
    batch, and neither does what is computed without the others. Everything else grows with the batch, in the first
    dimension that is a multiple of the loaded batch.
    """
    _check(batch, "A batch")
    loaded = batch_of(program)
    if batch == loaded:
        return program
    shapes = program.values.shape
    grown = {value for value in program.inputs if shapes[value] and shapes[value][0] == loaded}
    for op_type, inputs, outputs in _ops(program):
        if op_type != "shape" and not grown.isdisjoint(inputs.values()):
            grown.update(outputs)
    changed = {}
    for value in grown:
        shape = shapes[value]
        axis = next((axis for axis, size in enumerate(shape) if size % loaded == 0), None)
        if axis is not None:
            changed[value] = (*shape[:axis], shape[axis] // loaded * batch, *shape[axis + 1 :])
    return _with_shapes(program, changed)


def context_of(program: Program) -> int:
    """Return the context length that a program was loaded at: the length of its key-value caches.

    Raises
    ------
    PlanError
        If it has no cache, or caches of several lengths.
    """
    lengths = {program.values.shape[value][axis] for value, axis in caches(program).items()}
    if not lengths:
        message = (
            f"{program.name} has no key-value cache: no state that a slice_update fills in part, and no input that a "
            "concat makes longer. Load a module that keeps its cache in buffers, or the package of one."
        )
        raise PlanError(message)
    if len(lengths) > 1:
        message = f"The caches of {program.name} have several lengths ({', '.join(map(str, sorted(lengths)))})."
        raise PlanError(message)
    return lengths.pop()


def at_context(program: Program, context: int) -> Program:
    """Rewrite a program's shapes for key-value caches of another length.

    Parameters
    ----------
    program
        At the context length that it was loaded at.
    context
        Tokens that the caches hold.

    Raises
    ------
    PlanError
        If the length is no whole number of at least 1, or the program has no cache of one length.

    Notes
    -----
    A cache is a state that is filled in part by a `slice_update`, or an input that a `concat` makes longer; the axis
    along which that happens is its length. The length is followed from there through every op that keeps it, until a
    product sums over it, as attention does. Masks grow where they meet it; constants stay as they are.
    """
    _check(context, "A context length")
    more = context - context_of(program)
    if not more:
        return program
    axis_of = _follow(program, caches(program))
    shapes = program.values.shape
    changed = {}
    for value, axis in axis_of.items():
        shape = shapes[value]
        changed[value] = (*shape[:axis], shape[axis] + more, *shape[axis + 1 :])
    return _with_shapes(program, changed)


def _check(count: int, what: str) -> None:
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        message = f"{what} must be a whole number of at least 1, not {count!r}."
        raise PlanError(message)


def _ops(program: Program) -> list[tuple[str, dict[str, int], tuple[int, ...]]]:
    """List each op as (type, {parameter: value}, outputs); a list parameter is numbered."""
    listed = []
    for op_type, inputs, outputs in zip(program.ops.op_type, program.ops.inputs, program.ops.outputs, strict=True):
        names: dict[str, int] = {}
        for place, (parameter, value) in enumerate(inputs):
            names[f"{parameter} {place}" if parameter in names else parameter] = value
        listed.append((op_type, names, outputs))
    return listed


def _with_shapes(program: Program, changed: Mapping[int, Shape]) -> Program:
    shapes = tuple(changed.get(value, shape) for value, shape in enumerate(program.values.shape))
    return dataclasses.replace(program, values=dataclasses.replace(program.values, shape=shapes))


def caches(program: Program) -> dict[int, int]:
    """Find the key-value caches among a program's inputs and states.

    Returns
    -------
    dict
        Row in `Program.values` → axis of the cache's length; empty for a program without caches.
    """
    shapes, producer = program.values.shape, program.values.producer
    origin = {value: value for value in program.inputs}
    found: dict[int, int] = {}
    for op_type, read, outputs in _ops(program):
        if op_type in ("read_state", "cast"):
            given = next(iter(read.values()))
            if given in origin:
                origin.update(dict.fromkeys(outputs, origin[given]))
        elif op_type == "slice_update" and read["x"] in origin and "update" in read:
            _note(found, origin[read["x"]], shapes[read["x"]], shapes[read["update"]])
        elif op_type == "concat" and any(producer[value] != NO_OP and value not in origin for value in read.values()):
            for value in read.values():
                if value in origin:
                    _note(found, origin[value], shapes[value], shapes[outputs[0]])
    return found


def _note(found: dict[int, int], cache: int, shape: Shape, other: Shape) -> None:
    """Note a cache whose shape differs from another one along one axis."""
    axes = [axis for axis, sizes in enumerate(zip(shape, other, strict=False)) if sizes[0] != sizes[1]]
    if len(shape) == len(other) and len(axes) == 1:
        found[cache] = axes[0]


def _follow(program: Program, cached: Mapping[int, int]) -> dict[int, int]:
    """Follow the length of caches through the program: the axis of it of every value that has it."""
    shapes, attributes = program.values.shape, program.ops.attributes
    axis_of = dict(cached)
    for row, (op_type, read, outputs) in enumerate(_ops(program)):
        for parameter, value in read.items():
            if value not in axis_of or (op_type == "slice_update" and parameter != "x"):
                continue
            for output in outputs:
                axis = _axis_after(op_type, parameter, axis_of[value], shapes[value], shapes[output], attributes[row])
                if axis is not None:
                    axis_of[output] = axis
                    if op_type in ELEMENTWISE:
                        _grow_back(program, axis_of, read.values(), axis - len(shapes[output]), shapes[output][axis])
        if op_type == "scaled_dot_product_attention" and read["key"] in axis_of and "attn_mask" in read:
            _grow_back(program, axis_of, [read["attn_mask"]], -1, shapes[read["key"]][-2])
    return axis_of


def _grow_back(program: Program, axis_of: dict[int, int], values: Iterable[int], from_end: int, length: int) -> None:
    """Grow what an op combines with something as long as the caches (a mask), and what that was made from."""
    for value in values:
        shape, producer = program.values.shape[value], int(program.values.producer[value])
        variable = producer != NO_OP or value in program.inputs
        if value in axis_of or not variable or len(shape) < -from_end or shape[from_end] != length:
            continue
        axis_of[value] = len(shape) + from_end
        if producer != NO_OP and program.ops.op_type[producer] in ELEMENTWISE:
            made_from = [operand for _, operand in program.ops.inputs[producer]]
            _grow_back(program, axis_of, made_from, from_end, length)


def _axis_after(
    op_type: str, parameter: str, axis: int, before: Shape, after: Shape, attributes: Mapping[str, object]
) -> int | None:
    """Return the axis of an op's output that is as long as one axis of its input, or None where it ends there."""
    length, from_end = before[axis], axis - len(before)
    kept: int | None = len(after) + from_end
    if op_type == "transpose":
        order = attributes.get("perm")
        kept = [place % len(before) for place in order].index(axis) if isinstance(order, tuple) else None
    elif op_type == "matmul":
        kept = _axis_of_product(parameter, from_end, len(after), transposed=attributes.get(f"transpose_{parameter}"))
    elif op_type == "scaled_dot_product_attention":
        kept = axis if parameter == "query" else None
    elif op_type in _RESHAPES:
        inner = prod(before[axis + 1 :])
        same = (place for place, size in enumerate(after) if size == length and prod(after[place + 1 :]) == inner)
        kept = next(same, None)
    elif op_type != "concat":
        summed = op_type == "linear" and from_end == -1
        kept = None if summed or len(after) < -from_end or after[from_end] != length else kept
    return kept


def _axis_of_product(parameter: str, from_end: int, rank: int, *, transposed: object) -> int | None:
    """Return where an axis of one operand of a matmul ends up, or None if the product sums over it."""
    rows_and_columns = (-1, -2) if transposed else (-2, -1)
    if from_end not in rows_and_columns:
        return rank + from_end
    is_row = rows_and_columns.index(from_end) == 0
    if is_row != (parameter == "x"):
        return None
    return rank - 2 if is_row else rank - 1
