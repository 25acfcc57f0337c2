"""load(): the one door in."""

from __future__ import annotations

import os
import traceback
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import coremltools as ct
import torch

from talaria_nb import adapters, compressed, coreml, frames, functions, lint, package, package_layout, proto
from talaria_nb.convert import Conversion, convert, convert_program
from talaria_nb.coreml import walk
from talaria_nb.errors import LoadError
from talaria_nb.evaluations import Evaluations
from talaria_nb.progress import bar, stage
from talaria_nb.quiet import quiet
from talaria_nb.read import mil_function, read_program
from talaria_nb.source import SourceMap, Stack, package_source_map
from talaria_nb.subjects import ios_version

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import pandas as pd
    from coremltools.converters.mil.mil import Operation
    from coremltools.proto import Model_pb2
    from numpy.typing import NDArray

    from talaria_nb.functions import FunctionBytes
    from talaria_nb.program import Program, Shape
    from talaria_nb.states import States

_OLDEST_TARGET = 16


@dataclass(frozen=True, eq=False)
class Model:
    """What `load` returns: a program with its weights, source map, coremltools model and, where there is one, module.

    Attributes
    ----------
    program
        The converted program.
    mlmodel
        The coremltools model, uncompressed unless it was loaded compressed. Treat it as read-only.
    source_map
        Where each op came from.
    module
        The torch module that was given to `load`, or None.
    conversion
        For models that came from torch: the road taken ("export" or "trace") and what was repaired; else None.
    function_bytes
        What the weights of every function of the package take; see `functions`.
    function
        Which function of the package was loaded; "" for what came from torch.
    evaluations
        What `evaluate` measured, by `Plan.key`.
    """

    program: Program
    mlmodel: ct.models.MLModel
    source_map: SourceMap
    module: torch.nn.Module | None = None
    conversion: Conversion | None = None
    function_bytes: tuple[FunctionBytes, ...] = ()
    function: str = ""
    evaluations: Evaluations = field(default_factory=Evaluations, repr=False)

    def __repr__(self) -> str:
        program = self.program
        return (
            f"<talaria_nb.Model {program.name}: {len(program.ops):,} ops, {len(program.weights):,} weights, "
            f"{program.deployment_target}>"
        )

    @property
    def repairs(self) -> tuple[str, ...]:
        """What was repaired for coremltools during conversion, one sentence each."""
        return self.conversion.repairs if self.conversion else ()

    @cached_property
    def ops(self) -> pd.DataFrame:
        """One row an op; the columns are described in `talaria_nb.frames.COLUMNS`."""
        return frames.ops_frame(self.program, self.source_map)

    @cached_property
    def weights(self) -> pd.DataFrame:
        """One row a weight; the columns are described in `talaria_nb.frames.COLUMNS`."""
        return frames.weights_frame(self.program, self.source_map)

    @cached_property
    def blocks(self) -> pd.DataFrame:
        """One row a module that has ops: which modules are built alike. See `talaria_nb.frames.COLUMNS`."""
        return frames.blocks_frame(self.program, self.source_map)

    @cached_property
    def states(self) -> pd.DataFrame:
        """One row a state that the app keeps between predictions. See `talaria_nb.frames.COLUMNS`."""
        return frames.states_frame(self.program)

    @cached_property
    def adapters(self) -> pd.DataFrame:
        """One row a LoRA adapter, then the base. See `talaria_nb.frames.COLUMNS`.

        Adapters are parameters of the torch module, or what functions of a package have besides what all share.
        """
        if self._has_functions:
            return adapters.function_adapters_frame(self.function_bytes)
        return self.adapters_of(frames.loaded_bytes(self.program))

    def adapters_of(self, payload_bytes: Sequence[int]) -> pd.DataFrame:
        """Build `adapters` for weights that take `payload_bytes`, in file order; of functions, the loaded one."""
        if self._has_functions:
            planned = dict(zip(self.program.weights.name, payload_bytes, strict=True))
            return adapters.function_adapters_frame(self.function_bytes, (self.function, planned))
        names = [name for name, _ in self.module.named_parameters()] if self.module is not None else []
        return adapters.adapters_frame(self.program, self.source_map.parameters, payload_bytes, names)

    @property
    def _has_functions(self) -> bool:
        return sum(bool(each.weights) for each in self.function_bytes) > 1

    @cached_property
    def functions(self) -> pd.DataFrame:
        """One row a function of the package, and one for all together.

        Index: function names, then "all together". Columns, in bytes: weight_file_bytes, `weight.bin` of a package of
        that function alone; shared_bytes, the part of it that other functions use too, which is stored once.
        """
        return frames.functions_frame(self.function_bytes or functions.function_bytes(self.mlmodel))

    @cached_property
    def findings(self) -> pd.DataFrame:
        """One row a finding: what costs more than it has to. See `talaria_nb.lint` and `talaria_nb.frames.COLUMNS`."""
        found = lint.findings(self.program, self.weight_value)
        return frames.findings_frame(found, self.program, self.source_map)

    def source(self, op_name: str) -> Stack:
        """Return the lines of source code that made an op, outermost first; empty where unknown.

        It is a tuple of frames that prints like a traceback.

        Raises
        ------
        LoadError
            If the model has no op of that name.
        """
        if op_name not in self.program.op_row:
            message = f"{self.program.name} has no op named {op_name!r}. model.ops lists them all."
            raise LoadError(message)
        return Stack(self.source_map.frames(op_name))

    def weight_value(self, name: str) -> NDArray[np.floating]:
        """Return the values of a weight as converted, without copying, or decompressed. Float, the weight's shape.

        Raises
        ------
        LoadError
            If the model has no such weight, or its compressed data contradict each other.
        """
        op = self._weight_ops.get(name)
        if op is None:
            message = f"{self.program.name} has no weight named {name!r}. model.weights lists them all."
            raise LoadError(message)
        if not op.op_type.startswith(compressed.PREFIX):
            values: NDArray[np.floating] = op.outputs[0].val
            return values
        try:
            return compressed.dense_value(op)
        except Exception as error:
            message = f"Weight {name!r} cannot be decompressed: {package.first_line(error)}. Is the package complete?"
            raise LoadError(message) from error

    @cached_property
    def _weight_ops(self) -> dict[str, Operation]:
        wanted = self.program.weight_row
        return {op.name: op for op in walk(mil_function(self.mlmodel)) if op.name in wanted}


def load(
    source: torch.nn.Module | torch.export.ExportedProgram | ct.models.MLModel | str | os.PathLike[str],
    example_inputs: object = None,
    *,
    deployment_target: str = "iOS18",
    function: str | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    states: States | None = None,
    progress: bool = True,
) -> Model:
    """Load a PyTorch module or a Core ML package, ready to explore.

    Parameters
    ----------
    source
        A `torch.nn.Module` (converted as it would run in eval mode; never changed), an `ExportedProgram`, a
        coremltools `MLModel`, or the path of an .mlpackage with an ML program of iOS16 or newer.
    example_inputs
        For a module: one tensor, a tuple of positional inputs, or a mapping of keyword inputs.
    deployment_target
        For a module: "iOS16", "iOS17", "iOS18" or newer. A package keeps its own.
    function
        For a package with several functions: which to load, by default the package's own default. It is loaded as a
        package of its own, so sizes are of that function alone; `model.functions` has them all. A plan compresses
        that function, and the package that comes out has no other, because coremltools compresses no package of
        several. Compress each function, save each, and join them with `coremltools.utils.MultiFunctionDescriptor` and
        `save_multifunction`: weights that they share are stored once again, if all plans give them the same scheme.
    shapes
        For a package or an exported program with flexible input shapes: the size to price, such as
        {"x": (1, 3, 256, 256)}; by default the size that the package declares as its default, which for an exported
        program is the smallest. The model that is loaded is fixed at that size; the configs of a plan fit the flexible
        package as well.
    states
        For a module or an exported program: the buffers that it changes as it runs (a key-value cache), by name or as
        `ct.StateType`. By default every buffer that changes becomes a Core ML state; naming them makes sure that it is
        these and no others. A state has its buffer's shape and its name, with "_" for "." (after a trace, and "module_"
        before it), and is float16, whatever the buffer was:
        Core ML has no other, so a counter is exact up to 2,048 only. Needs iOS18. A package has its own.
    progress
        Whether to show a bar with the stage that is running.

    Returns
    -------
    Model

    Raises
    ------
    LoadError
        If the source is no model, or the inputs do not fit it.
    ConversionError
        If the module runs but cannot be converted.
    """
    try:
        with bar(shown=progress):
            return _load(source, example_inputs, deployment_target, function, shapes, states, progress=progress)
    except KeyboardInterrupt as interrupt:
        _let_go(interrupt)
        raise


def _let_go(error: BaseException) -> None:
    """Free what an error's tracebacks hold, for notebooks keep the last one: weights, temporary folders."""
    cause: BaseException | None = error
    while cause is not None:
        traceback.clear_frames(cause.__traceback__)
        cause = cause.__context__


def _load(
    source: object,
    example_inputs: object,
    deployment_target: str,
    function: str | None,
    shapes: Mapping[str, Sequence[int]] | None,
    states: States | None,
    *,
    progress: bool,
) -> Model:
    if isinstance(source, torch.nn.Module):
        if function is not None or shapes is not None:
            message = "function= and shapes= are for packages; a torch module is loaded at the size of example_inputs."
            raise LoadError(message)
        return _load_module(source, example_inputs, _checked_target(deployment_target), states, progress=progress)
    if isinstance(source, torch.export.ExportedProgram):
        return _load_exported(source, _checked_target(deployment_target), shapes, states, progress=progress)
    if states is not None:
        message = "states= is for torch modules and exported programs; model.states lists those that a package has."
        raise LoadError(message)
    if isinstance(source, ct.models.MLModel):
        return _load_mlmodel(source, function, shapes, name="model")
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        return _load_mlmodel(package.open_package(path, progress=progress), function, shapes, name=path.stem)
    kind = type(source).__name__
    message = (
        f"load() cannot read a value of type {kind}. "
        "Give a torch.nn.Module, an ExportedProgram, a coremltools MLModel, or the path of an .mlpackage."
    )
    raise LoadError(message)


def _checked_target(deployment_target: str) -> str:
    known = [target.name for target in ct.target if ios_version(target.name) >= _OLDEST_TARGET]
    if deployment_target not in known:
        message = f"Unknown deployment_target {deployment_target!r}: use one of {', '.join(known)}."
        raise LoadError(message)
    return deployment_target


def _load_module(
    module: torch.nn.Module,
    example_inputs: object,
    deployment_target: str,
    states: States | None,
    *,
    progress: bool,
) -> Model:
    conversion = convert(module, example_inputs, deployment_target, states=states, progress=progress)
    program = _read(conversion.mlmodel, conversion.source_map, type(module).__name__)
    return Model(program, conversion.mlmodel, conversion.source_map, module, conversion)


def _load_exported(
    exported: torch.export.ExportedProgram,
    deployment_target: str,
    shapes: Mapping[str, Sequence[int]] | None,
    states: States | None,
    *,
    progress: bool,
) -> Model:
    conversion = convert_program(exported, deployment_target, states=states, progress=progress)
    mlmodel = functions.one_function(conversion.mlmodel, None, shapes, "the exported program")
    program = _read(mlmodel, conversion.source_map, "exported program")
    program = _with_ranges(program, functions.range_inputs(conversion.mlmodel, None))
    return Model(program, mlmodel, conversion.source_map, None, conversion)


def _load_mlmodel(
    mlmodel: ct.models.MLModel, function: str | None, shapes: Mapping[str, Sequence[int]] | None, *, name: str
) -> Model:
    package.check(mlmodel, name)
    version = mlmodel._spec.specificationVersion  # noqa: SLF001 - get_spec() copies it
    _target_of(version, name)
    source = mlmodel
    mlmodel = functions.one_function(source, function, shapes, name)
    source_map = package_source_map(source.package_path)
    try:
        program = _read(mlmodel, source_map, name)
    except LoadError:
        raise
    except Exception as error:
        message = f"The program inside {name} cannot be read: {package.first_line(error)}. Is the package complete?"
        raise LoadError(message) from error
    program = _with_ranges(program, functions.range_inputs(source, function))
    return Model(
        program,
        mlmodel,
        source_map,
        function_bytes=functions.function_bytes(source),
        function=functions.chosen(source, function),
    )


def _target_of(specification_version: int, name: str) -> str:
    """Return the iOS target of a spec version."""
    for target in ct.target:
        if target.value == specification_version and ios_version(target.name) >= _OLDEST_TARGET:
            return str(target.name)
    message = f"{name} is not for iOS16 or newer, so its weights cannot be compressed. Convert the original again."
    raise LoadError(message)


def _read(mlmodel: ct.models.MLModel, source_map: SourceMap, name: str) -> Program:
    stage("Reading the program")
    spec = mlmodel.get_spec()
    version = spec.specificationVersion
    file = Path(mlmodel.weights_dir or "") / "weight.bin"
    return read_program(
        mil_function(mlmodel),
        name=name,
        deployment_target=_target_of(version, name),
        specification_version=version,
        source_map=source_map,
        fixed_package_bytes=_package_bytes_outside_weights(mlmodel),
        build_info_bytes=_lost_on_rewriting(mlmodel, spec),
        enclosing_bytes=proto.enclosing_bytes(spec.mlProgram, "main"),
        layout=package_layout.layout(spec.mlProgram, "main", file.stat().st_size if file.is_file() else 0),
    )


def _lost_on_rewriting(mlmodel: ct.models.MLModel, spec: Model_pb2.Model) -> int:
    """Count the bytes that the program text loses when coremltools writes it again, whatever is compressed."""
    if not any(op.blocks for op in mil_function(mlmodel).operations):
        return proto.attributes_bytes(spec.mlProgram)
    with quiet(progress=False):  # what loops carry gets another name each time
        again = coreml.make(partial(coreml.rewritten, mlmodel, []))
    return int(spec.ByteSize() - again.get_spec().ByteSize())


def _with_ranges(program: Program, defaults: Mapping[str, Shape]) -> Program:
    """Note which inputs have a range of sizes, and whether they are of their default sizes."""
    values = program.values
    rows = tuple(row for row in program.inputs if values.name[row] in defaults)
    sizes = [(values.shape[row], defaults[values.name[row]]) for row in rows]
    at_default = all(not default or shape[-len(default) :] == default for shape, default in sizes)
    return replace(program, range_inputs=rows, at_default_shapes=at_default)


def _package_bytes_outside_weights(mlmodel: ct.models.MLModel) -> int:
    """Bytes of the program proto and of the manifest: what a saved package holds beside `weight.bin`."""
    manifest = Path(mlmodel.package_path) / "Manifest.json"
    return int(mlmodel.get_spec().ByteSize()) + manifest.stat().st_size
