"""Compressed weights of a program: their values and bytes.

A compressed weight is a `constexpr_*` op, or a chain of them, whose last output the model's ops read. `recognition.py`
names its scheme, `package_layout.py` finds its bytes in the package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from coremltools.converters.mil.mil import Operation
    from numpy.typing import NDArray

PREFIX = "constexpr_"

NOT_DATA = ("shape", "axis", "vector_axis", "output_dtype")
"""Operands of constexpr ops that say how to read the data, and are not counted as payload."""


def chain(op: Operation) -> list[Operation]:
    """List a constexpr op and the constexpr ops that it is made of, innermost first, each once."""
    found: dict[int, Operation] = {}

    def visit(current: Operation) -> None:
        if id(current) not in found:
            for var in current.inputs.values():
                if var is not None and var.op is not None and var.op.op_type.startswith(PREFIX):
                    visit(var.op)
            found[id(current)] = current

    visit(op)
    return [*found.values()]


def payload_bytes(op: Operation) -> int:
    """Count the stored bytes of a compressed weight: packed data, masks, tables, scales and zero points."""
    stored = {
        id(var): var
        for step in chain(op)
        for parameter, var in step.inputs.items()
        if parameter not in NOT_DATA
        and not (parameter == "mask" and step.nonzero_data.op.op_type != "const")  # the same that its data has
        and var is not None
        and var.op is not None
        and var.op.op_type == "const"
    }
    return sum(-(-int(np.size(var.val)) * bits_of(var) // 8) for var in stored.values())


def dense_value(op: Operation) -> NDArray[np.floating]:
    """Decompress a weight to what the device computes with. float16 or float32, the weight's shape."""
    # coremltools does not follow a table that is compressed itself.
    if op.op_type == "constexpr_lut_to_dense" and op.lut.op.op_type.startswith(PREFIX):
        return np.asarray(op.decompress(op.indices.val, dense_value(op.lut.op), op.vector_axis and op.vector_axis.val))
    if op.op_type == "constexpr_sparse_to_dense":
        inner = op.nonzero_data.op
        if inner.op_type == "constexpr_lut_to_sparse" and inner.lut.op.op_type.startswith(PREFIX):
            table = dense_value(inner.lut.op)
            mask, data = inner.decompress(inner.indices_mask.val, inner.indices_nonzero_data.val, table, None)
            return np.asarray(op.decompress(data, mask))
    return np.asarray(op.materialized_val_inference())


def bits_of(var: object) -> int:
    """Return the width of one element of a constant."""
    dtype = var.dtype  # type: ignore[attr-defined]
    return int(dtype.get_bitwidth() if hasattr(dtype, "get_bitwidth") else 8 * np.asarray(var.val).dtype.itemsize)  # type: ignore[attr-defined]
