"""The constexpr ops that coremltools 9 writes for a weight under a scheme, tensor by tensor."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from talaria_nb.contents import Question
from talaria_nb.schemes import Float16, LinearQuantize, Palettize, Prune, Scheme, part
from talaria_nb.stored_tensors import Origin, Step, Tensor
from talaria_nb.subjects import Subject, grouped_axis, scale_counts, table_counts, unique_nbits

if TYPE_CHECKING:
    from talaria_nb.program import Shape

_IOS18, _IOS26 = 18, 26

_AS_ANSWERED = "as answered"
"""How integers, scales, zero points, masks and what they leave are made: the answers are the tensors themselves."""

_MIDDLE = Origin("middle")
"""A symmetric unsigned range has one middle for all, so the zero points of all weights are equal."""


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
    counts = tables_of_integers(palette, linear, weight)
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


def tables_of_integers(palette: Palettize, linear: LinearQuantize, weight: Subject) -> tuple[int, ...]:
    """Return how many tables palettized integers have along each axis: before iOS26 one for each scale at least."""
    tables = table_counts(palette, weight)
    if weight.ios >= _IOS26:
        return tables
    return tuple(max(pair) for pair in zip(tables, scale_counts(linear, weight), strict=True))
