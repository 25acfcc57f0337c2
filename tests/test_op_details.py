from __future__ import annotations

import json
import linecache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from ipykernel.compiler import XCachingCompiler
from torch import nn

import models
import talaria_nb as tnb
from talaria_nb import op_details
from talaria_nb.distortion import dequantized
from talaria_nb.legality import refused
from talaria_nb.levels import levels
from talaria_nb.menu import DEFAULT_MENU
from talaria_nb.subjects import subject
from talaria_nb.weight_bytes import weight_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

HEAD = "head"
MENU = tuple(DEFAULT_MENU)


def ask(model: tnb.Model, what: str, **more: int) -> dict[str, Any]:
    answer = op_details.answer(model, MENU, {"what": what, **more})
    json.dumps(answer, allow_nan=False)  # it crosses as JSON, which has no NaN
    return answer


def weight_of(model: tnb.Model, module: str) -> int:
    return next(row for row, paths in enumerate(model.program.weight_module_paths) if module in paths)


def op_of(model: tnb.Model, module: str) -> int:
    return model.program.weights.readers[weight_of(model, module)][0]


@pytest.fixture(scope="module")
def model() -> tnb.Model:
    return models.classifier()


@pytest.mark.parametrize("module", ["stem", "blocks.0.depthwise", "blocks.1.pointwise", "head"])
def test_levels_are_the_values_that_a_weight_takes_in_the_group_that_is_named(model: tnb.Model, module: str) -> None:
    row = weight_of(model, module)
    weight, values = subject(model.program, row), model.weight_value(model.program.weights.name[row])
    for scheme in MENU:
        if refused(scheme, weight) is not None:
            continue
        found = levels(values, scheme, weight)
        stored = dequantized(values, scheme, channel_axes=weight.channel_axes)
        there = set(np.unique(stored[found.place]).tolist())
        if isinstance(scheme, tnb.LinearQuantize):
            # The grid has a level for every integer, used or not.
            assert len(found.values) == 2**scheme.nbits - (scheme.mode == "linear_symmetric")
            assert there <= set(found.values)
        elif isinstance(scheme, (tnb.Float16, tnb.Prune)):
            assert not len(found.values)
        else:
            assert there == set(found.values), scheme
        if any(isinstance(part, tnb.Prune) for part in scheme.parts):
            assert found.zeros == np.mean(stored == 0)
        else:
            assert np.isnan(found.zeros)


def test_the_group_shown_has_the_median_of_all_largest_magnitudes(model: tnb.Model) -> None:
    row = weight_of(model, "blocks.0.pointwise")
    answer = ask(model, "levels", weight=row, scheme=MENU.index(tnb.Palettize(4, "per_grouped_channel", 16)))
    values = model.weight_value(model.program.weights.name[row])
    largest = np.abs(values.reshape(4, -1)).max(axis=1)
    group = int(np.argsort(largest)[1])
    assert (answer["group"], answer["groups"]) == (group, 4)
    assert answer["place"] == f"output channels {16 * group}–{16 * group + 15}"
    assert len(answer["values"]) == 16


def test_a_histogram_counts_every_value_once(model: tnb.Model) -> None:
    row = weight_of(model, "blocks.0.pointwise")
    values: NDArray[Any] = model.weight_value(model.program.weights.name[row]).astype(np.float64)
    answer = ask(model, "weight", weight=row)
    counts, _ = np.histogram(values, len(answer["counts"]))
    assert answer["counts"] == counts.tolist()
    assert sum(answer["counts"]) == values.size
    assert len(answer["counts"]) <= op_details.MOST_BINS
    expected = [values.min(), values.max(), values.mean(), values.std(), np.mean(values == 0)]
    assert [answer[key] for key in ("min", "max", "mean", "std", "zeros")] == pytest.approx(expected, rel=1e-9)
    assert answer["parameter"] == "blocks.0.pointwise.weight"


def test_overhead_and_tables_are_what_the_cost_table_counts(model: tnb.Model) -> None:
    row = weight_of(model, "blocks.0.pointwise")
    answer = ask(model, "weight", weight=row)
    elements = int(model.program.weights.elements[row])
    payload = weight_bytes(model.program, MENU).payload_bytes[row]
    grouped = tnb.Palettize(4, "per_grouped_channel", 16)
    for scheme, tables in ((tnb.Palettize(4), 1), (grouped, 4), (tnb.LinearQuantize("int4"), 0)):
        column = MENU.index(scheme)
        assert answer["overhead_bytes"][column] == payload[column] - elements * 4 // 8 > 0
        assert answer["tables"][column] == tables


def test_a_weight_with_infinite_values_is_drawn_without_them() -> None:
    layer = nn.Linear(64, 64)
    with torch.no_grad():
        layer.weight[0, 0] = torch.inf
        layer.weight[1, 1] = 100.0
    model = tnb.load(layer, torch.zeros(1, 64), progress=False)
    answer = ask(model, "weight", weight=0)
    assert (answer["max"], answer["not_finite"], sum(answer["counts"])) == (100.0, 1, 64 * 64 - 1)
    with pytest.raises(tnb.TalariaError, match="infinite"):
        ask(model, "levels", weight=0, scheme=MENU.index(tnb.Palettize(4)))


def test_an_op_names_its_tensors_and_why_its_activations_stay_float(model: tnb.Model) -> None:
    head, relu = ask(model, "op", op=op_of(model, HEAD)), ask(model, "op", op=model.program.ops.op_type.index("relu"))
    assert head["int8"] == ""
    assert relu["int8"].startswith("It is a relu")
    by_parameter = {each["parameter"]: each for each in head["inputs"]}
    assert by_parameter["weight"] == {
        **by_parameter["weight"],
        "shape": "100×64",
        "dtype": "fp16",
        "bytes": 12_800,
        "weight": weight_of(model, HEAD),
        "producer": -1,
    }
    assert by_parameter["x"]["producer"] >= 0
    assert [each["shape"] for each in head["outputs"]] == ["1×100"]


def test_the_line_that_made_an_op_comes_first_with_the_code_around_it(model: tnb.Model) -> None:
    frames = ask(model, "op", op=op_of(model, HEAD))["frames"]
    first = frames[0]
    assert first["file"] == models.__file__
    assert first["lines"][first["line"] - first["first"]].strip() == "return self.head(x.mean((2, 3)))"
    assert len(first["lines"]) > 1
    assert first["function"] == "forward"


def test_a_file_that_changed_or_is_gone_leaves_the_line_that_was_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "net.py"
    code = "class Net(torch.nn.Module):\n    def forward(self, x):\n        return torch.relu(x) * 2\n"
    file.write_text(code)
    scope: dict[str, Any] = {"torch": torch}
    exec(compile(code, str(file), "exec"), scope)  # noqa: S102 - the code above
    model = tnb.load(scope["Net"](), torch.zeros(1, 4), progress=False)

    def shown() -> dict[str, Any]:
        monkeypatch.delitem(linecache.cache, str(file), raising=False)
        return dict(ask(model, "op", op=0)["frames"][0])

    assert shown()["lines"] == code.splitlines()
    file.write_text("# a new first line\n" + code)
    assert shown()["lines"] == ["return torch.relu(x) * 2"]
    file.unlink()
    assert (shown()["lines"], shown()["line"]) == (["return torch.relu(x) * 2"], 3)


def test_code_of_a_notebook_is_known_by_its_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = XCachingCompiler()
    monkeypatch.setattr("talaria_nb.source.get_ipython", lambda: SimpleNamespace(compile=compiler))
    code = "class Net(torch.nn.Module):\n    def forward(self, x):\n        return torch.relu(x) * 2\n"
    scope: dict[str, Any] = {"torch": torch}
    exec(compile(code, compiler.cache(code, 7), "exec"), scope)  # noqa: S102 - the code above
    model = tnb.load(scope["Net"](), torch.zeros(1, 4), progress=False)
    assert {*model.ops["source"]} == {"In[7]:3"}
    [first] = ask(model, "op", op=0)["frames"]
    assert (first["file"], first["line"], first["lines"]) == ("In[7]", 3, code.splitlines())


def test_rows_that_are_not_there_are_refused_in_a_sentence(model: tnb.Model) -> None:
    for what, row in (("op", 10**6), ("weight", -1)):
        with pytest.raises(tnb.TalariaError, match=f"no {what} number {row}"):
            ask(model, what, **{what: row})


def test_a_request_that_another_replaced_is_answered_with_it(model: tnb.Model) -> None:
    session = tnb.Session(model, "iPhone 15 Pro")
    answers: list[dict[str, Any]] = []
    session.observe(lambda change: answers.append(change["new"]), "response")
    first = {"id": "a", "action": "details", "what": "op", "op": 0}
    session.request = {"id": "b", "action": "details", "what": "weight", "weight": 0, "earlier": [first]}
    session.request = {"id": "c", "action": "details", "what": "op", "op": 1, "earlier": [first]}
    assert [each["id"] for each in answers] == ["a", "b", "c"]
    assert all(each["ok"] for each in answers)
