"""One function at one size: what is priced of a package that holds several functions or flexible shapes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import coremltools as ct
from coremltools.converters.mil.converter import mil_convert
from coremltools.converters.mil.mil import Program as MILProgram
from coremltools.converters.mil.mil import types
from coremltools.converters.mil.mil.passes.pass_pipeline import PassPipelineManager
from coremltools.converters.mil.mil.types.symbolic import is_symbolic

from talaria_nb import coreml, package, package_layout, stored_tensors
from talaria_nb.errors import LoadError
from talaria_nb.quiet import quiet

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from coremltools.proto import Model_pb2

    from talaria_nb.package_layout import StoredWeight
    from talaria_nb.program import Shape

ALL_TOGETHER = "all together"
_MAIN = "main"
_CHANGES_DTYPES = {"common::add_fp16_cast", "common::add_int16_cast"}
"""Passes of the default pipeline that are for conversion: a float32 package must stay one."""


@dataclass(frozen=True, slots=True)
class FunctionBytes:
    """What the weights of one function take on disk.

    Attributes
    ----------
    name
        The function's name.
    weight_file_bytes
        `weight.bin` of a package that holds this function alone.
    shared_bytes
        The part of it that other functions of the package use too.
    weights
        The weights that its ops read; none for all functions together.
    """

    name: str
    weight_file_bytes: int
    shared_bytes: int
    weights: tuple[StoredWeight, ...] = ()


def function_bytes(mlmodel: ct.models.MLModel) -> tuple[FunctionBytes, ...]:
    """Count the bytes of every function of a package, weights shared between functions in each of them.

    Parameters
    ----------
    mlmodel
        A checked model.

    Returns
    -------
    tuple of FunctionBytes
        Of every function, and of all together, which is the package as it is: weights that functions share once.
    """
    program = mlmodel._spec.mlProgram  # noqa: SLF001 - get_spec() copies it
    layouts = {name: package_layout.layout(program, name, 0) for name in sorted(program.functions)}
    records = {name: found.written for name, found in layouts.items()}
    data_bytes = next(iter(layouts.values())).data_bytes if layouts else {}
    users = Counter(at for own in records.values() for at in set(own))
    records = {**records, ALL_TOGETHER: tuple(sorted(users))}
    return tuple(
        FunctionBytes(
            name,
            _file_of(own, data_bytes),
            sum(stored_tensors.recorded(data_bytes[at]) for at in set(own) if users[at] > 1),
            tuple(package_layout.weights(program, name, layouts[name])) if name in layouts else (),
        )
        for name, own in records.items()
    )


def _file_of(records: Sequence[int], data_bytes: Mapping[int, int]) -> int:
    """Size of a file of these records alone: the last is not padded."""
    if not records:
        return 0
    last = data_bytes[records[-1]]
    padded = sum(stored_tensors.recorded(data_bytes[at]) for at in records)
    return stored_tensors.FILE_HEADER_BYTES + padded - (stored_tensors.padded(last) - last)


def one_function(
    mlmodel: ct.models.MLModel, function: str | None, shapes: Mapping[str, Sequence[int]] | None, name: str
) -> ct.models.MLModel:
    """Return a model of one function with fixed shapes; the model itself if that is what it is.

    Parameters
    ----------
    mlmodel
        A checked model.
    function
        Which function, None for the package's default.
    shapes
        Shapes of inputs whose shape is flexible; the package's default shape for those not named.
    name
        What to call the model in errors.

    Raises
    ------
    LoadError
        If there is no such function or input, or a shape that the model does not take.
    """
    spec = mlmodel._spec  # noqa: SLF001 - get_spec() copies it
    names = sorted(spec.mlProgram.functions)
    wanted_function = chosen(mlmodel, function)
    if wanted_function not in names:
        known = ", ".join(repr(known) for known in names)
        message = f"{name} has no function {wanted_function!r}; there is {known}. Give one as function=…."
        raise LoadError(message)
    converted_here = mlmodel._mil_program if names == [_MAIN] else None  # noqa: SLF001 - not known of packages
    program = converted_here or package.parse(mlmodel, name, only=wanted_function)
    description = _description(spec, wanted_function)
    wanted = _fixed_shapes(program.functions[wanted_function], description, shapes or {}, name)
    if wanted_function == _MAIN and len(names) == 1 and not wanted:
        mlmodel._mil_program = program  # noqa: SLF001 - filled as coremltools itself does after a conversion
        return mlmodel
    if converted_here is not None:  # it is the user's, and fixing its shapes would change it
        program = package.parse(mlmodel, name)
    return _rebuilt(program, wanted_function, wanted, None if wanted else description, spec.specificationVersion, name)


def range_inputs(mlmodel: ct.models.MLModel, function: str | None) -> dict[str, Shape]:
    """Name the inputs of a function (None for the package's default) that take any size within a range.

    Returns
    -------
    dict
        Input → its default shape; of images, the default height and width.
    """
    spec = mlmodel._spec  # noqa: SLF001 - get_spec() copies it
    found: dict[str, Shape] = {}
    for feature in _description(spec, chosen(mlmodel, function)).input:
        image, array = feature.type.imageType, feature.type.multiArrayType
        if image.HasField("imageSizeRange"):
            found[feature.name] = (int(image.height), int(image.width))
        elif any(bounds.lowerBound != bounds.upperBound for bounds in array.shapeRange.sizeRanges):
            found[feature.name] = tuple(map(int, array.shape))
    return found


def chosen(mlmodel: ct.models.MLModel, function: str | None) -> str:
    """Name the function that is meant, None for the package's default."""
    spec = mlmodel._spec  # noqa: SLF001 - get_spec() copies it
    return function if function is not None else spec.description.defaultFunctionName or _MAIN


def _description(spec: Model_pb2.Model, function: str) -> Model_pb2.ModelDescription:
    """Describe one function as if it were the whole model."""
    for found in spec.description.functions:
        if found.name == function:
            return ct.proto.Model_pb2.ModelDescription(
                input=found.input,
                output=found.output,
                state=found.state,
                predictedFeatureName=found.predictedFeatureName,
                predictedProbabilitiesName=found.predictedProbabilitiesName,
            )
    return spec.description


def _fixed_shapes(
    function: Any, description: Model_pb2.ModelDescription, shapes: Mapping[str, Sequence[int]], name: str
) -> dict[str, Shape]:
    """Choose a shape for every flexible input."""
    features = {feature.name: feature for feature in description.input}
    flexible = {
        given: tuple(var.shape)
        for given, var in function.inputs.items()
        if types.is_tensor(var.sym_type) and any(is_symbolic(dim) for dim in var.shape)
    }
    for given in shapes:
        if given not in flexible:
            inputs = ", ".join(map(repr, flexible)) or "none"
            message = f"{name} has no input {given!r} of flexible shape; those with one: {inputs}."
            raise LoadError(message)
    chosen: dict[str, Shape] = {}
    for given, declared in flexible.items():
        shape = _shape_of(shapes[given], given, name) if given in shapes else _default(declared, features.get(given))
        refusal = _shape_refusal(shape, declared, features.get(given))
        if refusal is not None:
            message = (
                f"Input {given!r} of {name} cannot have the shape {shape}: {refusal}. Give shapes={{{given!r}: …}}."
            )
            raise LoadError(message)
        chosen[given] = shape
    return chosen


def _shape_of(shape: object, given: str, name: str) -> Shape:
    if not isinstance(shape, (tuple, list)) or not all(isinstance(dim, int) and dim > 0 for dim in shape):
        message = f"The shape of input {given!r} of {name} must be positive whole numbers, not {shape!r:.80}."
        raise LoadError(message)
    return tuple(shape)


def _default(declared: tuple[Any, ...], feature: Model_pb2.FeatureDescription | None) -> Shape:
    """Return the default shape that the package declares; empty if it declares none."""
    if feature is None:
        return ()
    if feature.type.HasField("imageType"):
        sizes = iter((feature.type.imageType.height, feature.type.imageType.width))
        return tuple(int(next(sizes, 1)) if is_symbolic(dim) else int(dim) for dim in declared)
    return tuple(int(dim) for dim in feature.type.multiArrayType.shape)


def _shape_refusal(shape: Shape, declared: tuple[Any, ...], feature: Model_pb2.FeatureDescription | None) -> str | None:
    if len(shape) != len(declared):
        return f"it has {len(declared)} dimensions"
    for dim, size in zip(declared, shape, strict=True):
        if not is_symbolic(dim) and int(dim) != size:
            return f"its fixed dimensions are {tuple('any' if is_symbolic(d) else int(d) for d in declared)}"
    array = feature.type.multiArrayType if feature is not None else None
    if array is None:
        return None
    allowed = [tuple(int(dim) for dim in one.shape) for one in array.enumeratedShapes.shapes]
    if allowed and shape not in allowed:
        return f"it takes {' or '.join(map(str, allowed))}"
    for size, bounds in zip(shape, array.shapeRange.sizeRanges, strict=False):
        if size < bounds.lowerBound or 0 <= bounds.upperBound < size:
            return f"{size} is not within {bounds.lowerBound} to {bounds.upperBound}"
    return None


def _rebuilt(
    program: MILProgram,
    function: str,
    shapes: dict[str, Shape],
    description: Model_pb2.ModelDescription | None,
    version: int,
    name: str,
) -> ct.models.MLModel:
    alone = MILProgram()
    alone.add_function(_MAIN, program.functions[function])
    try:
        with quiet(progress=False):
            if shapes:
                pipeline = ct.PassPipeline.DEFAULT
                pipeline.remove_passes(_CHANGES_DTYPES)
                pipeline.insert_pass(0, "common::materialize_symbolic_shape_program")
                pipeline.set_options(
                    "common::materialize_symbolic_shape_program",
                    {"function_name_to_materialization_map": {_MAIN: shapes}, "source_function_name": _MAIN},
                )
                PassPipelineManager.apply_pipeline(alone, pipeline)
            alone.skip_all_passes = True
            return coreml.make(
                lambda package_dir: mil_convert(
                    alone,
                    convert_from="milinternal",
                    convert_to="mlprogram",
                    specification_version=version,
                    compute_units=ct.ComputeUnit.CPU_ONLY,
                    model_description=description,
                    package_dir=package_dir,
                    skip_model_load=True,
                )
            )
    except Exception as error:
        at = f" at {shapes}" if shapes else ""
        message = f"coremltools cannot take the function {function!r} of {name} apart{at}: {package.first_line(error)}."
        raise LoadError(message) from error
