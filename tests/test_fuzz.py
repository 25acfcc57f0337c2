"""Whatever a package holds, loading it gives a model or one sentence: no crash, no hang, no bare traceback."""

from __future__ import annotations

import json
import os
import resource
import shutil
import struct
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import coremltools as ct
import coremltools.optimize.coreml as cto
import pytest
import torch
from coremltools.proto import MIL_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import talaria_nb as tnb
from talaria_nb.errors import LoadError
from talaria_nb.quiet import quiet

if TYPE_CHECKING:
    from collections.abc import Callable

INNER = Path("Data") / "com.apple.CoreML"
MODEL, WEIGHTS, MANIFEST = INNER / "model.mlmodel", INNER / "weights" / "weight.bin", Path("Manifest.json")
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - Linux; thousands of folders wait for disks
MAX_SECONDS = 10
MAX_GROWTH = 512 * 2**20
QUICK, THOROUGH = 120, 3000

ISOLATION = dict.fromkeys(map(ord, "\u2068\u2069"))
"""Marks around what is written from right to left."""

HTML = "<img src=x onerror=alert(1)>"
CLIMBING = ["../../../../etc/passwd", "/etc/passwd", "com.apple.CoreML/../../../x", "a\0b", "x" * 5000, HTML, ""]


class Small(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(64, 64)
        self.second = torch.nn.Linear(64, 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.first(x))).reshape(2, -1)


@cache
def templates() -> tuple[Path, ...]:
    """Save one plain and one compressed package, which every case damages a copy of."""
    torch.manual_seed(0)
    model = tnb.load(Small().eval(), torch.zeros(1, 64), progress=False)
    config = cto.OptimizationConfig(global_config=cto.OpPalettizerConfig(nbits=4))
    with quiet(progress=False):
        palettized = cto.palettize_weights(model.mlmodel, config)
    folder = Path(tempfile.mkdtemp(prefix="fuzz"))
    paths = (folder / "plain.mlpackage", folder / "palettized.mlpackage")
    for mlmodel, path in zip((model.mlmodel, palettized), paths, strict=True):
        mlmodel.save(str(path))
    return paths


def survives(damage: Callable[[Path], None], template: int = 0) -> str | None:
    """Load a damaged copy; return the error's message, or None if it loaded."""
    with tempfile.TemporaryDirectory(prefix="fuzz", dir=MEMORY) as folder:
        path = Path(folder) / "damaged.mlpackage"
        shutil.copytree(templates()[template], path)
        damage(path)
        began, memory = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            model = tnb.load(path, progress=False)
            tnb.Plan(model).estimate("iPhone 13")
            repr(model.ops), repr(model.weights)
            for name in model.program.weights.name:
                model.weight_value(name)
            message = None
        except LoadError as error:
            message = str(error)
            assert message
            assert message.translate(ISOLATION).isprintable(), message
            assert len(message) < 1000
        assert time.monotonic() - began < MAX_SECONDS
        assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) * 1024 < MAX_GROWTH
        return message


def edit(path: Path, change: Callable[[Any], None]) -> None:
    """Change the proto of a package."""
    spec = ct.proto.Model_pb2.Model()
    spec.ParseFromString((path / MODEL).read_bytes())
    change(spec)
    (path / MODEL).write_bytes(spec.SerializeToString())


def operations(spec: Any) -> list[Any]:
    [function] = spec.mlProgram.functions.values()
    return list(function.block_specializations[function.opset].operations)


def block(spec: Any) -> Any:
    [function] = spec.mlProgram.functions.values()
    return function.block_specializations[function.opset]


def stored(spec: Any) -> list[Any]:
    """List the values that lie in weight.bin."""
    return [value for op in operations(spec) for value in op.attributes.values() if value.HasField("blobFileValue")]


def corrupt(draw: Callable[[Any], Any], file: Path) -> None:
    """Cut a file off, flip some of its bits, or write bytes into it."""
    data = bytearray(file.read_bytes())
    kind = draw(st.sampled_from(["cut", "flip", "write", "insert", "repeat"]))
    at = draw(st.integers(0, len(data) - 1))
    if kind == "cut":
        data = data[:at]
    elif kind == "flip":
        for place in draw(st.lists(st.integers(0, len(data) - 1), min_size=1, max_size=6)):
            data[place] ^= 1 << draw(st.integers(0, 7))
    elif kind == "write":
        new = draw(st.binary(min_size=1, max_size=16))
        data[at : at + len(new)] = new
    elif kind == "insert":
        data[at:at] = draw(st.binary(min_size=1, max_size=16))
    else:
        data[at:at] = data[at : at + draw(st.integers(1, 2000))]
    file.write_bytes(bytes(data))


def bytes_case(data: st.DataObject) -> None:
    file = data.draw(st.sampled_from([MODEL, MODEL, MODEL, MANIFEST, WEIGHTS]))
    survives(lambda path: corrupt(data.draw, path / file), data.draw(st.integers(0, 1)))


def proto_case(data: st.DataObject) -> None:
    survives(lambda path: edit(path, lambda spec: mutate(spec, data.draw)), data.draw(st.integers(0, 1)))


NUMBERS = st.one_of(st.integers(-3, 70), st.integers(-(2**31), 2**31 - 1), st.sampled_from([2**31 - 1, 64, 128]))
TEXTS = st.one_of(st.sampled_from([*CLIMBING[:3], HTML, "linear", "fill", "const", "while_loop"]), st.text(max_size=9))


def mutate(spec: Any, draw: Callable[[Any], Any]) -> None:
    """Change a few fields anywhere in the program to values of the right type and the wrong meaning."""
    for _ in range(draw(st.integers(1, 4))):
        node: Any = spec
        while node is not None:
            node = _descend(node, draw)


def _descend(node: Any, draw: Callable[[Any], Any]) -> Any:  # noqa: PLR0911 - a field has as many kinds
    """Go one level deeper into a message, or change it and return None."""
    fields = node.ListFields()
    if not fields:
        return None
    field, value = draw(st.sampled_from(fields))
    message = field.message_type
    if message is not None and message.GetOptions().map_entry:
        key = draw(st.sampled_from(sorted(value)))
        if draw(st.integers(0, 9)) == 0:
            del value[key]
            return None
        return value[key] if message.fields_by_name["value"].message_type is not None else None
    if field.is_repeated:
        at = draw(st.integers(0, len(value) - 1))
        if message is None:
            value[at] = _value(field, draw)
            return None
        action = draw(st.sampled_from(["enter"] * 8 + ["delete", "copy"]))
        if action == "delete":
            del value[at]
        elif action == "copy":
            value.add().CopyFrom(value[at])
        return value[at] if action == "enter" else None
    if message is None:
        setattr(node, field.name, _value(field, draw))
        return None
    if draw(st.integers(0, 19)) == 0:
        node.ClearField(field.name)
        return None
    return value


def _value(field: Any, draw: Callable[[Any], Any]) -> Any:
    if field.enum_type is not None:
        return draw(st.sampled_from([value.number for value in field.enum_type.values]))
    if field.cpp_type == field.CPPTYPE_STRING:
        return draw(st.binary(max_size=9)) if field.type == field.TYPE_BYTES else draw(TEXTS)
    if field.cpp_type == field.CPPTYPE_BOOL:
        return draw(st.booleans())
    if field.cpp_type in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        return draw(st.floats(width=32))
    number = draw(NUMBERS)
    unsigned = field.cpp_type in (field.CPPTYPE_UINT32, field.CPPTYPE_UINT64)
    wide = field.cpp_type in (field.CPPTYPE_INT64, field.CPPTYPE_UINT64)
    number = abs(number) if unsigned else number
    return number * 2**31 if wide and draw(st.integers(0, 3)) == 0 else number


quick = settings(max_examples=QUICK, deadline=None, suppress_health_check=list(HealthCheck))
thorough = settings(max_examples=THOROUGH, deadline=None, suppress_health_check=list(HealthCheck))


@quick
@given(data=st.data())
def test_damaged_bytes(data: st.DataObject) -> None:
    bytes_case(data)


@quick
@given(data=st.data())
def test_damaged_meaning(data: st.DataObject) -> None:
    proto_case(data)


@pytest.mark.slow
@thorough
@given(data=st.data())
def test_damaged_bytes_thousands(data: st.DataObject) -> None:
    bytes_case(data)


@pytest.mark.slow
@thorough
@given(data=st.data())
def test_damaged_meaning_thousands(data: st.DataObject) -> None:
    proto_case(data)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.sampled_from(CLIMBING)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)


@quick
@given(content=JSON, where=st.sampled_from(["all", "itemInfoEntries", "rootModelIdentifier", "item", "path"]))
def test_manifest_of_any_shape(content: Any, where: str) -> None:
    def damage(path: Path) -> None:
        manifest = json.loads((path / MANIFEST).read_text())
        if where == "all":
            manifest = content
        elif where == "item":
            manifest["itemInfoEntries"] = dict.fromkeys(manifest["itemInfoEntries"], content)
        elif where == "path":
            for item in manifest["itemInfoEntries"].values():
                item["path"] = content
        else:
            manifest[where] = content
        (path / MANIFEST).write_text(json.dumps(manifest))

    assert survives(damage) is not None


@pytest.mark.parametrize("place", CLIMBING)
def test_a_manifest_that_climbs_out_is_refused(place: str) -> None:
    def damage(path: Path) -> None:
        manifest = json.loads((path / MANIFEST).read_text())
        manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"] = place
        (path / MANIFEST).write_text(json.dumps(manifest))

    message = survives(damage)
    assert message is not None
    assert "points out of the package" in message or "is missing" in message


@pytest.mark.parametrize("place", [*CLIMBING, "@model_path/weights/../model.mlmodel", "@model_path/weights/other.bin"])
def test_weights_that_lie_elsewhere_are_refused(place: str) -> None:
    def change(spec: Any) -> None:
        stored(spec)[0].blobFileValue.fileName = place

    message = survives(lambda path: edit(path, change))
    assert message is not None
    assert "which is not in the package" in message or "which is missing" in message


@pytest.mark.parametrize("offset", [0, 63, 128, 2**20, 2**62, 2**64 - 64])
def test_wrong_offsets_are_refused(offset: int) -> None:
    def change(spec: Any) -> None:
        stored(spec)[-1].blobFileValue.offset = offset

    message = survives(lambda path: edit(path, change))
    assert message is not None
    assert "is damaged: the values of" in message


def test_a_link_out_of_the_package_is_refused() -> None:
    def damage(path: Path) -> None:
        (path / WEIGHTS).unlink()
        (path / WEIGHTS).symlink_to("/etc/passwd")

    message = survives(damage)
    assert message is not None
    assert "is a link out of the package" in message


def test_a_record_that_reaches_past_the_end_is_refused() -> None:
    def damage(path: Path) -> None:
        data = bytearray((path / WEIGHTS).read_bytes())
        struct.pack_into("<Q", data, 64 + 8, 2**50)
        (path / WEIGHTS).write_bytes(bytes(data))

    message = survives(damage)
    assert message is not None
    assert "reach past the end" in message


@pytest.mark.parametrize("size", [2**20, 2**40, 2**63 - 1])
def test_huge_declared_shapes_are_refused(size: int) -> None:
    def change(spec: Any) -> None:
        for op in operations(spec):
            for output in op.outputs:
                for dim in output.type.tensorType.dimensions:
                    dim.constant.size = size

    message = survives(lambda path: edit(path, change))
    assert message is not None


def test_a_constant_of_a_terabyte_is_not_computed() -> None:
    """A `fill` of a constant shape: coremltools would compute it while it reads the program."""

    def change(spec: Any) -> None:
        def typed(value_type: Any, data_type: int, shape: list[int]) -> None:
            value_type.tensorType.dataType = data_type
            value_type.tensorType.rank = len(shape)
            for size in shape:
                value_type.tensorType.dimensions.add().constant.size = size

        for name, data_type, shape in (("how", MIL_pb2.INT32, [2]), ("what", MIL_pb2.FLOAT32, [])):
            op = block(spec).operations.add(type="const")
            output = op.outputs.add(name=name)
            typed(output.type, data_type, shape)
            value = op.attributes["val"]
            typed(value.type, data_type, shape)
            if shape:
                value.immediateValue.tensor.ints.values.extend([2**19, 2**19])
            else:
                value.immediateValue.tensor.floats.values.append(1.0)
        op = block(spec).operations.add(type="fill")
        op.inputs["shape"].arguments.add(name="how")
        op.inputs["value"].arguments.add(name="what")
        output = op.outputs.add(name="terabyte")
        typed(output.type, MIL_pb2.FLOAT32, [2**19, 2**19])

    assert survives(lambda path: edit(path, change)) is None


def test_names_with_html_stay_text() -> None:
    def change(spec: Any) -> None:
        for op in operations(spec):
            if op.type == "linear":
                op.attributes["name"].immediateValue.tensor.strings.values[0] = HTML
                break

    assert survives(lambda path: edit(path, change)) is None


@pytest.mark.parametrize("field", ["inputs", "outputs"])
def test_cycles_and_dangling_names_are_refused(field: str) -> None:
    """An op that reads what a later op makes, or what none does."""

    def change(spec: Any) -> None:
        last = operations(spec)[-1]
        first = next(op for op in operations(spec) if op.type == "linear")
        if field == "inputs":
            first.inputs["x"].arguments[0].name = last.outputs[0].name
        else:
            last.outputs[0].name = "nobody reads this"

    assert survives(lambda path: edit(path, change)) is not None
