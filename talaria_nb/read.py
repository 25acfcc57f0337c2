"""MIL program → Program.

It copies names, shapes and small constants out of coremltools' program objects, never weights.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from coremltools.converters.mil.backend.mil.load import should_use_weight_file
from coremltools.converters.mil.mil import types
from coremltools.converters.mil.mil.types.symbolic import is_symbolic
from coremltools.optimize._utils import select_input_output_channel_axis

from talaria_nb import compressed, package_layout, recognition, stored_tensors
from talaria_nb.contents import Contents
from talaria_nb.coreml import walk
from talaria_nb.errors import LoadError
from talaria_nb.program import NO_OP, ROOT, Modules, Ops, Program, Values, Weights

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coremltools.converters.mil.mil import Function, Operation, Var
    from coremltools.models import MLModel
    from numpy.typing import NDArray

    from talaria_nb.program import Attribute, Packed, Shape
    from talaria_nb.source import SourceMap

_MAX_ATTRIBUTE_ELEMENTS = 16
"""Scalars and lists up to this size are read as attributes (strides, pads, permutations); all else stays a value."""

_FLOAT_DTYPES = ("fp16", "fp32")


def mil_function(mlmodel: MLModel) -> Function:
    """Return the main function of a model's MIL program, as coremltools holds it in memory.

    It is private there, but the only place where ops, their scopes and their constants can be read without parsing the
    package again.
    """
    program = mlmodel._mil_program  # noqa: SLF001
    return program.functions[program.default_function_name]


@dataclass(slots=True)
class _Columns:
    """The growing columns of `Values`."""

    name: list[str]
    shape: list[Shape]
    dtype: list[str]
    producer: list[int]
    row_of: dict[int, int]

    def add(self, var: Var, producer: int) -> int:
        row = self.row_of.get(id(var))
        if row is None:
            row = len(self.name)
            self.row_of[id(var)] = row
            self.name.append(var.name)
            self.shape.append(_static_shape(var))
            self.dtype.append(_dtype_name(var))
            self.producer.append(producer)
        return row


def read_program(
    function: Function,
    *,
    name: str,
    deployment_target: str,
    specification_version: int,
    source_map: SourceMap,
    fixed_package_bytes: int = 0,
    build_info_bytes: int = 0,
    enclosing_bytes: tuple[int, ...] = (),
    layout: package_layout.Layout | None = None,
) -> Program:
    """Read one function of an MIL program.

    Parameters
    ----------
    function
        As coremltools holds it after conversion, or after loading an .mlpackage; see `mil_function`.
    name, deployment_target, fixed_package_bytes, build_info_bytes, enclosing_bytes
        Copied into the result.
    specification_version
        Of the model spec: decides which constants lie in `weight.bin`.
    source_map
        Where each op came from; gives the module tree.
    layout
        Where the constants lie in `weight.bin`; needed only if some are compressed already.

    Raises
    ------
    LoadError
        If a shape is flexible, or some weights are compressed and no layout is given.
    """
    columns = _Columns([], [], [], [], {})
    inputs = tuple(columns.add(var, NO_OP) for var in function.inputs.values())
    operations = list(walk(function))
    runs = [op for op in operations if op.op_type != "const" and not op.op_type.startswith(compressed.PREFIX)]
    in_file = [
        op
        for op in operations
        if op.op_type == "const" and _in_weight_file(op, specification_version) and not _is_operand(op)
    ]
    constexprs = [op for op in operations if op.op_type.startswith(compressed.PREFIX)]

    op_inputs: list[tuple[tuple[str, int], ...]] = []
    op_outputs: list[tuple[int, ...]] = []
    attributes: list[Mapping[str, Attribute]] = []
    for row, op in enumerate(runs):
        tensors, scalars = _operands(op)
        op_inputs.append(tuple((parameter, columns.add(var, NO_OP)) for parameter, var in tensors))
        op_outputs.append(tuple(columns.add(var, row) for var in op.outputs))
        attributes.append(scalars)

    modules = Modules.from_paths(source_map.class_names)
    module_row = {path: row for row, path in enumerate(modules.path)}
    op_modules = [module_row.get(source_map.module_path(op.name), ROOT) for op in runs]
    shared_bytes, packed, ends_file = _packed(constexprs, in_file, columns, layout, deployment_target)
    last = in_file[-1] if in_file and ends_file else None
    listed = {id(op) for op in in_file} | packed.keys()
    candidates = [op for op in operations if id(op) in listed]
    weights, weight_of_value = _weights(candidates, last, packed, columns, op_inputs)
    return Program(
        name=name,
        deployment_target=deployment_target,
        ops=Ops(
            name=tuple(op.name for op in runs),
            op_type=tuple(op.op_type for op in runs),
            inputs=tuple(op_inputs),
            outputs=tuple(op_outputs),
            attributes=tuple(attributes),
            module=np.array(op_modules, dtype=np.int32),
        ),
        values=Values(
            name=tuple(columns.name),
            shape=tuple(columns.shape),
            dtype=tuple(columns.dtype),
            producer=np.array(columns.producer, dtype=np.int32),
            weight=weight_of_value,
        ),
        weights=weights,
        modules=modules,
        inputs=inputs,
        outputs=tuple(columns.add(var, NO_OP) for var in function.outputs),
        fixed_file_bytes=_fixed_file_bytes(in_file, last, weights) + shared_bytes,
        fixed_records=_fixed_records(in_file, weights),
        build_info_bytes=build_info_bytes,
        enclosing_bytes=enclosing_bytes,
        fixed_package_bytes=fixed_package_bytes,
    )


def _in_weight_file(op: Operation, specification_version: int) -> bool:
    return bool(should_use_weight_file(op.outputs[0].val, specification_version))


def _operands(op: Operation) -> tuple[list[tuple[str, Var]], dict[str, Attribute]]:
    """Split an op's inputs into tensors (computed or large) and attributes (small constants)."""
    tensors: list[tuple[str, Var]] = []
    attributes: dict[str, Attribute] = {}
    for parameter, value in op.inputs.items():
        for var in value if isinstance(value, (list, tuple)) else (value,):
            constant = var.op is not None and var.op.op_type == "const"
            small = constant and np.ndim(var.val) <= 1 and np.size(var.val) <= _MAX_ATTRIBUTE_ELEMENTS
            if small and not isinstance(value, (list, tuple)):
                attributes[parameter] = _attribute(var.val)
            else:
                tensors.append((parameter, var))
    return tensors, attributes


def _attribute(value: object) -> Attribute:
    array = np.asarray(value)
    if array.ndim == 0:
        scalar = array.item()
        return scalar if isinstance(scalar, (bool, int, float, str)) else str(scalar)
    return tuple(array.ravel().tolist())


def _is_operand(op: Operation) -> bool:
    """Whether a const is nothing but a part of compressed weights."""
    var = op.outputs[0]
    readers = var.child_ops
    return bool(readers) and not var.consuming_blocks and all(r.op_type.startswith(compressed.PREFIX) for r in readers)


def _packed(
    constexprs: list[Operation],
    in_file: list[Operation],
    columns: _Columns,
    layout: package_layout.Layout | None,
    deployment_target: str,
) -> tuple[int, dict[int, Packed], bool]:
    """Describe the weights that are compressed already.

    Returns
    -------
    tuple of (bytes, dict of int to Packed, bool)
        Bytes of `weight.bin` that belong to several weights or to none that is listed; the weights by the id of their
        op; and whether one of the constants in `in_file` ends the file.
    """
    if not constexprs:
        return 0, {}, True
    if layout is None:
        message = f"Weight {constexprs[0].name!r} is already compressed, and its package is not at hand. Save it first."
        raise LoadError(message)
    plain = {offset for op in in_file for offset in layout.records(op.outputs[0].name)}
    ends_file = not layout.extent or max(layout.extent) in plain
    roots = [op for op in constexprs if id(op.outputs[0]) in columns.row_of and _is_weight(op)]
    records = [layout.records(op.outputs[0].name) for op in roots]
    owners = Counter(offset for found in records for offset in found)
    in_function = {offset for offsets in layout.offsets.values() for offset in offsets}
    own = [{offset for offset in found if owners[offset] == 1 and offset not in plain} for found in records]
    shared = in_function - plain - set().union(*own)
    header = 0 if in_file else stored_tensors.FILE_HEADER_BYTES
    packed = {
        id(op): recognition.packed(op, owned, layout.extent, _channel_axes(op), deployment_target)
        for op, owned in zip(roots, own, strict=True)
    }
    return header + sum(layout.extent[offset] for offset in shared), packed, ends_file


def _weights(
    candidates: list[Operation],
    last: Operation | None,
    packed: Mapping[int, Packed],
    columns: _Columns,
    op_inputs: list[tuple[tuple[str, int], ...]],
) -> tuple[Weights, NDArray[np.int32]]:
    """Pick the constants that a plan may compress, and those that came compressed, and link them to their readers."""
    readers: dict[int, dict[int, None]] = {}
    for op, inputs in enumerate(op_inputs):
        for _, value in inputs:
            readers.setdefault(value, {})[op] = None
    chosen = [op for op in candidates if _is_weight(op) and id(op.outputs[0]) in columns.row_of]
    values = [columns.row_of[id(op.outputs[0])] for op in chosen]
    weight_of_value = np.full(len(columns.name), -1, dtype=np.int32)
    weight_of_value[values] = np.arange(len(values), dtype=np.int32)
    weights = Weights(
        name=tuple(op.name for op in chosen),
        shape=tuple(columns.shape[value] for value in values),
        dtype=tuple(columns.dtype[value] for value in values),
        value=np.array(values, dtype=np.int32),
        channel_axes=tuple(_channel_axes(op) for op in chosen),
        readers=tuple(tuple(readers[value]) for value in values),
        last_in_file=np.array([op is last for op in chosen], dtype=np.bool_),
        packed={row: packed[id(op)] for row, op in enumerate(chosen) if id(op) in packed},
        contents=tuple(Contents(partial(_value, op)) for op in chosen),
    )
    return weights, weight_of_value


def _value(op: Operation) -> NDArray[np.floating]:
    return np.asarray(compressed.dense_value(op) if op.op_type.startswith(compressed.PREFIX) else op.outputs[0].val)


def _is_weight(op: Operation) -> bool:
    """Whether coremltools could compress the constant: float, rank 2 or more, read by ops and not an output itself."""
    var = op.outputs[0]
    return var.rank >= 2 and _dtype_name(var) in _FLOAT_DTYPES and bool(var.child_ops) and not var.consuming_blocks


def _channel_axes(op: Operation) -> tuple[int, int] | None:
    input_axis, output_axis = select_input_output_channel_axis(op)
    return None if input_axis is None or output_axis is None else (input_axis, output_axis)


def _fixed_records(in_file: list[Operation], weights: Weights) -> NDArray[np.int64]:
    """List the stored tensors that are no weights: how many weights come before each, and its bytes in the file."""
    names = set(weights.name)
    before, records = 0, []
    for op in in_file:
        if op.name in names:
            before += 1
        else:
            records.append((before, stored_tensors.recorded(int(np.asarray(op.outputs[0].val).nbytes))))
    return np.array(records, dtype=np.int64).reshape(-1, 2)


def _fixed_file_bytes(in_file: list[Operation], last: Operation | None, weights: Weights) -> int:
    """Bytes of `weight.bin` outside the weights: the header and every other stored tensor."""
    if not in_file:
        return 0
    names = set(weights.name)
    total = stored_tensors.FILE_HEADER_BYTES
    for op in in_file:
        if op.name not in names:
            nbytes = int(np.asarray(op.outputs[0].val).nbytes)
            total += stored_tensors.RECORD_BYTES + (nbytes if op is last else stored_tensors.padded(nbytes))
    return total


def _static_shape(var: Var) -> Shape:
    kind = var.sym_type.wrapped_type() if types.is_state(var.sym_type) else var.sym_type
    if not types.is_tensor(kind):
        return ()
    shape = tuple(kind.get_shape())
    if any(is_symbolic(dim) for dim in shape):
        message = (
            f"Value {var.name!r} has the flexible shape {tuple(map(str, shape))}. "
            "Convert the model with fixed input shapes (give example_inputs of the size you want to price)."
        )
        raise LoadError(message)
    return tuple(int(dim) for dim in shape)


def _dtype_name(var: Var) -> str:
    dtype = var.dtype
    return str(types.builtin_to_string(dtype)) if types.is_builtin(dtype) else "str"
