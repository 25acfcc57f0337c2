"""Programs of a few ops, written down op by op."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from talaria_nb.program import NO_OP, Modules, Ops, Program, Values, Weights
from talaria_nb.work import Work, count_work

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from talaria_nb.program import Attribute, Shape


def program_of(
    ops: Sequence[tuple[str, Mapping[str, str], Shape]],
    *,
    inputs: Mapping[str, Shape],
    constants: Mapping[str, Shape] | None = None,
    attributes: Mapping[int, Mapping[str, Attribute]] | None = None,
) -> Program:
    """Build a program of ops (type, {parameter: value}, output shape); op i makes value `i`."""
    constants = constants or {}
    names = [*inputs, *constants, *map(str, range(len(ops)))]
    shapes = [*inputs.values(), *constants.values(), *(shape for _, _, shape in ops)]
    row = {name: number for number, name in enumerate(names)}
    first = len(inputs) + len(constants)
    weights = [name for name, shape in constants.items() if len(shape) > 1]
    weight = np.full(len(names), -1, dtype=np.int32)
    weight[[row[name] for name in weights]] = np.arange(len(weights))
    readers: dict[str, list[int]] = {name: [] for name in weights}
    for i, (_, operands, _) in enumerate(ops):
        for name in dict.fromkeys(operands.values()):
            if name in readers:
                readers[name].append(i)
    return Program(
        name="made up",
        deployment_target="iOS18",
        ops=Ops(
            name=tuple(f"op{i}" for i in range(len(ops))),
            op_type=tuple(op[0] for op in ops),
            inputs=tuple(
                tuple((parameter.rstrip("0123456789"), row[value]) for parameter, value in op[1].items()) for op in ops
            ),
            outputs=tuple((first + i,) for i in range(len(ops))),
            attributes=tuple((attributes or {}).get(i, {}) for i in range(len(ops))),
            module=np.zeros(len(ops), dtype=np.int32),
        ),
        values=Values(
            name=tuple(names),
            shape=tuple(shapes),
            dtype=("fp16",) * len(names),
            producer=np.array([NO_OP] * first + list(range(len(ops))), dtype=np.int32),
            weight=weight,
        ),
        weights=Weights(
            name=tuple(weights),
            shape=tuple(constants[name] for name in weights),
            dtype=("fp16",) * len(weights),
            value=np.array([row[name] for name in weights], dtype=np.int32),
            channel_axes=((1, 0),) * len(weights),
            readers=tuple(tuple(readers[name]) for name in weights),
            last_in_file=np.zeros(len(weights), dtype=np.bool_),
        ),
        modules=Modules.from_paths({}),
        inputs=tuple(range(len(inputs))),
        outputs=(len(names) - 1,),
        fixed_file_bytes=0,
    )


def one(
    op_type: str,
    inputs: Mapping[str, Shape],
    out: Shape,
    constants: Mapping[str, Shape] | None = None,
    **attributes: Attribute,
) -> Work:
    """Work of a program of one op whose operands are named by their parameters."""
    constants = constants or {}
    operands = {name: name for name in (*inputs, *constants)}
    return count_work(
        program_of([(op_type, operands, out)], inputs=inputs, constants=constants, attributes={0: attributes})
    )


def chain(layers: int, *, rows: int, width: int) -> Program:
    """Linear layers one after the other."""
    ops = [("linear", {"x": "x" if i == 0 else str(i - 1), "weight": f"w{i}"}, (rows, width)) for i in range(layers)]
    return program_of(ops, inputs={"x": (rows, width)}, constants={f"w{i}": (width, width) for i in range(layers)})
