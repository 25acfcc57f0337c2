"""Opening a Core ML package that may be damaged or hostile.

coremltools trusts a package: it follows the manifest wherever it points, reads weights at any offset, and computes
constants of any size while it reads. Everything that it would trust is checked here first, so that what is wrong with a
package is one sentence of a `LoadError`, found before memory or files outside of the package are touched.
"""

from __future__ import annotations

import json
import os
import struct
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import coremltools as ct
from coremltools.converters.mil.frontend.milproto.load import load as parse_proto
from coremltools.converters.mil.mil import Operation, types

from talaria_nb.errors import LoadError
from talaria_nb.package_layout import BITS, values_of
from talaria_nb.paths import expanded
from talaria_nb.progress import stage
from talaria_nb.quiet import quiet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from coremltools.converters.mil.mil import Program as MILProgram
    from coremltools.proto import MIL_pb2

_MAX_ELEMENTS = 2**40
"""More elements than any device's memory holds: a shape with more is not meant."""

_MAX_FOLDED_ELEMENTS = 2**24
"""Constants up to this size are computed while a program is read; larger ones stay unknown, which prices as well."""

_MAX_MANIFEST_BYTES = 2**20

_RECORD = struct.Struct("<IIQQ")
_SENTINEL = 0xDEADBEEF
_RECORD_BYTES = 64
"""A record of `weight.bin`: sentinel, type, bytes of data, offset of data (coremltools' MIL blob storage format)."""

_INSTEAD = {
    "neuralNetwork": "convert the original model again with convert_to='mlprogram'",
    "neuralNetworkClassifier": "convert the original model again with convert_to='mlprogram'",
    "neuralNetworkRegressor": "convert the original model again with convert_to='mlprogram'",
    "pipeline": "load the ML programs that it is made of one by one",
    "pipelineClassifier": "load the ML programs that it is made of one by one",
    "pipelineRegressor": "load the ML programs that it is made of one by one",
    "serializedModel": "load the .mlpackage that it was made from",
}
_NO_WEIGHTS = "it has no neural network whose weights could be compressed, so there is nothing to load"


def open_package(path: Path, *, progress: bool) -> ct.models.MLModel:
    """Open an .mlpackage, or explain what to do with another Core ML file.

    Raises
    ------
    LoadError
        If there is no package at `path`, or it is damaged or unsafe to read.
    """
    path = expanded(path, LoadError)
    if not os.path.exists(path):  # noqa: PTH110 - Path.exists raises for names that are too long
        message = f"There is no file {str(path)!r}."
        raise LoadError(message)
    if path.suffix == ".mlmodelc":
        message = f"{str(path)!r} is a compiled model; load the .mlpackage that it was compiled from."
        raise LoadError(message)
    if path.suffix == ".mlmodel" and path.is_file():
        _check_kind(_spec_of(path), path.name)
        message = f"{str(path)!r} is an ML program without its weights; load the .mlpackage that it was saved in."
        raise LoadError(message)
    if path.suffix != ".mlpackage" or not (path / "Manifest.json").is_file():
        message = (
            f"{str(path)!r} is not an .mlpackage (a folder with a Manifest.json). Save it with MLModel.save first."
        )
        raise LoadError(message)
    _check_manifest(path)
    stage("Opening the package")
    try:
        with quiet(progress=progress):
            return ct.models.MLModel(str(path), skip_model_load=True)
    except Exception as error:
        message = f"coremltools cannot read {str(path)!r}: {first_line(error)}. Is the package complete?"
        raise LoadError(message) from error


def check(mlmodel: ct.models.MLModel, name: str) -> None:
    """Refuse a model that is no ML program, or whose program points outside of its weights.

    Raises
    ------
    LoadError
        With what is wrong and where.
    """
    spec = mlmodel._spec  # noqa: SLF001 - get_spec() copies it
    _check_kind(spec, name)
    files: dict[str, tuple[Path, int]] = {}
    for op in _operations(spec.mlProgram):
        for output in op.outputs:
            _check_shape(output.type, f"{op.type} {output.name!r}", name)
        for value in values_of(op):
            if value.HasField("blobFileValue"):
                _check_blob(value, mlmodel.weights_dir, files, op, name)
    for function in spec.mlProgram.functions.values():
        for given in function.inputs:
            _check_shape(given.type, f"input {given.name!r}", name)


def parse(mlmodel: ct.models.MLModel, name: str, *, only: str | None = None) -> MILProgram:
    """Read the program of a checked model, or one function of it, as coremltools holds it in memory.

    Raises
    ------
    LoadError
        If coremltools cannot.
    """
    spec = mlmodel._spec  # noqa: SLF001 - get_spec() copies it
    if only is not None and len(spec.mlProgram.functions) > 1:
        spec = mlmodel.get_spec()
        for other in list(spec.mlProgram.functions):
            if other != only:
                del spec.mlProgram.functions[other]
    stage("Parsing the program")
    try:
        with quiet(progress=False), _bounded_folding():
            return parse_proto(spec, spec.specificationVersion, mlmodel.weights_dir)
    except Exception as error:
        message = f"The program inside {name} cannot be read: {first_line(error)}. Is the package complete?"
        raise LoadError(message) from error


def first_line(error: BaseException) -> str:
    """Return what an error says in one line without its full stop, or its kind if it says nothing."""
    text = str(error).strip().splitlines()
    line = "".join(character if character.isprintable() else "�" for character in (text[0] if text else ""))
    return (line or type(error).__name__)[:300].rstrip(". ")


def _spec_of(path: Path) -> ct.proto.Model_pb2.Model:
    try:
        return ct.utils.load_spec(str(path))
    except Exception as error:
        message = f"{str(path)!r} is no Core ML model: {first_line(error)}."
        raise LoadError(message) from error


def _check_kind(spec: ct.proto.Model_pb2.Model, name: str) -> None:
    kind = spec.WhichOneof("Type")
    if kind is None:
        message = f"{name} holds no model; save it again with MLModel.save."
        raise LoadError(message)
    if kind != "mlProgram":
        message = f"{name} is a {kind}, not an ML program: {_INSTEAD.get(kind, _NO_WEIGHTS)}."
        raise LoadError(message)


def _check_manifest(path: Path) -> None:
    """Refuse a package whose items do not all lie in it."""
    root, places = _read_manifest(path)
    data = (path / "Data").resolve()
    if not data.is_relative_to(path.resolve()):
        _damaged(path, "its Data folder is a link out of the package")
    for place in places:
        if not _lies_in(data, place):
            _damaged(path, f"its Manifest.json points out of the package, to {place!r:.80}")
    if not os.path.isfile(data / root):  # noqa: PTH113 - Path.is_file raises for names that are too long
        _damaged(path, f"the model that its Manifest.json names, {root!r:.80}, is missing")
    for file in data.rglob("*"):
        if file.is_symlink() and not _lies_in(data, file):
            _damaged(path, f"{file.name!r} is a link out of the package")


def _read_manifest(path: Path) -> tuple[str, list[object]]:
    """Return the place of the model and the places of all items, below Data."""
    manifest = path / "Manifest.json"
    try:
        if manifest.stat().st_size > _MAX_MANIFEST_BYTES:
            _damaged(path, "its Manifest.json is far too large")
        content = json.loads(manifest.read_text(encoding="utf-8"))
        places = {key: item["path"] for key, item in content["itemInfoEntries"].items()}
        return str(places[content["rootModelIdentifier"]]), list(places.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        _damaged(path, "its Manifest.json cannot be read", error)


def _lies_in(folder: Path, place: object) -> bool:
    try:
        return isinstance(place, (str, Path)) and (folder / place).resolve().is_relative_to(folder)
    except (OSError, ValueError, RuntimeError):  # a NUL, a name too long, a loop of links
        return False


def _damaged(path: Path, what: str, cause: Exception | None = None) -> NoReturn:
    message = f"{str(path)!r} is damaged: {what}. Is the package complete?"
    raise LoadError(message) from cause


def _operations(program: MIL_pb2.Program) -> Iterator[MIL_pb2.Operation]:
    waiting: list[Any] = [block for function in program.functions.values() for block in _blocks(function)]
    while waiting:
        for op in waiting.pop().operations:
            waiting.extend(op.blocks)
            yield op


def _blocks(function: MIL_pb2.Function) -> list[MIL_pb2.Block]:
    return list(function.block_specializations.values())


def _dimensions(value_type: MIL_pb2.ValueType) -> list[int]:
    """List the fixed dimensions of a type; flexible ones count as 1."""
    if value_type.HasField("stateType"):
        value_type = value_type.stateType.wrappedType
    return [dim.constant.size if dim.HasField("constant") else 1 for dim in value_type.tensorType.dimensions]


def _check_shape(value_type: MIL_pb2.ValueType, what: str, name: str) -> None:
    if prod(_dimensions(value_type)) > _MAX_ELEMENTS:
        shape = tuple(_dimensions(value_type))
        message = f"{name} is damaged: {what:.80} has the shape {shape!s:.80}, too large for any device."
        raise LoadError(message)


def _check_blob(
    value: MIL_pb2.Value,
    weights_dir: str | None,
    files: dict[str, tuple[Path, int]],
    op: MIL_pb2.Operation,
    name: str,
) -> None:
    """Refuse a constant whose record is not there, or not of its type and size, or not within the file."""
    blob = value.blobFileValue
    what = f"the values of {op.outputs[0].name if op.outputs else op.type!r:.80}"
    if blob.fileName not in files:
        files[blob.fileName] = _weight_file(blob.fileName, weights_dir, what, name)
    path, size = files[blob.fileName]
    if blob.offset % _RECORD_BYTES or blob.offset + _RECORD_BYTES > size:
        _misplaced(name, what, f"start outside of {path.name!r}")
    with path.open("rb") as file:
        file.seek(blob.offset)
        sentinel, _, nbytes, start = _RECORD.unpack(file.read(_RECORD.size))
    if sentinel != _SENTINEL:
        _misplaced(name, what, f"are not where {path.name!r} holds a tensor")
    if start + nbytes > size or start < blob.offset:
        _misplaced(name, what, f"reach past the end of {path.name!r}")
    tensor = value.type.tensorType
    bits = BITS.get(tensor.dataType)
    if bits is None or -(-prod(_dimensions(value.type)) * bits // 8) != nbytes:
        _misplaced(name, what, f"are {nbytes:,} bytes in {path.name!r}, which is not what their shape needs")


def _weight_file(file_name: str, weights_dir: str | None, what: str, name: str) -> tuple[Path, int]:
    _, slash, base = file_name.rpartition("/")
    if not file_name.startswith("@model_path/weights/") or ".." in file_name or not slash or "\\" in base or not base:
        _misplaced(name, what, f"lie in {file_name!r:.80}, which is not in the package")
    path = Path(weights_dir or "") / base
    if weights_dir is None or "\0" in base or not path.is_file():
        _misplaced(name, what, f"lie in {file_name!r:.80}, which is missing")
    return path, path.stat().st_size


def _misplaced(name: str, what: str, where: str) -> NoReturn:
    message = f"{name} is damaged: {what} {where}. Is the package complete?"
    raise LoadError(message)


@contextmanager
def _bounded_folding() -> Iterator[None]:
    """Keep coremltools from computing constants of any size while it reads a program.

    It evaluates every op whose inputs are constant: a `fill` of a terabyte in a hostile package, too.
    """
    evaluate = Operation._auto_val  # noqa: SLF001 - coremltools has no public switch

    def bounded(self: Operation, output_types: tuple[Any, ...]) -> Any:
        constant = self.op_type == "const" or self.op_type.startswith("constexpr_")
        if not constant and any(_is_large(output) for output in output_types):
            return tuple(None for _ in output_types)
        return evaluate(self, output_types)

    Operation._auto_val = bounded  # noqa: SLF001
    try:
        yield
    finally:
        Operation._auto_val = evaluate  # noqa: SLF001


def _is_large(output: Any) -> bool:
    if not types.is_tensor(output):
        return False
    known = [int(dim) for dim in output.get_shape() if isinstance(dim, int) or hasattr(dim, "__index__")]
    return prod(known) > _MAX_FOLDED_ELEMENTS
