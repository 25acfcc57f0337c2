"""How much of `zoo.py` loads, and how much bare coremltools converts: `make test-models` prints a table."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

import bare
import talaria_nb as tnb
import zoo

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.mark.parametrize("name", zoo.FAST)
def test_a_common_architecture_loads(name: str) -> None:
    module, inputs = zoo.build(name)
    model = tnb.load(module, inputs, progress=False)
    assert len(model.program.weights) > 0
    assert model.conversion is not None
    assert model.conversion.road == "export"


@dataclass
class Row:
    """What became of one architecture: the road of ours, the share of ops with a source line, why bare ones fail."""

    name: str
    road: str = ""
    sourced: float = 0.0
    export: str = ""
    trace: str = ""

    def __str__(self) -> str:
        bare = {"export": self.export, "trace": self.trace}
        outcomes = "".join(f"{'fails' if reason else 'converts':10}" for reason in bare.values())
        why = "; ".join(f"{road}: {reason}" for road, reason in bare.items() if reason)
        return f"{self.name:42}{self.road or 'FAILS':8}{outcomes}{self.sourced:7.1%}  {why}"


class Survey:
    """The rows so far, each printed as it comes."""

    def __init__(self, capture: pytest.CaptureManager, bare_process: ProcessPoolExecutor) -> None:
        self.rows: list[Row] = []
        self.capture = capture
        self.bare_process = bare_process
        self.show(f"\n{'model':42}{'load':8}{'export':10}{'trace':10}source lines, why bare conversion fails")

    def show(self, text: object) -> None:
        with self.capture.global_and_fixture_disabled():
            print(text, flush=True)  # noqa: T201

    def summarize(self) -> None:
        count = len(self.rows)
        for title, number in (
            ("load", sum(row.road != "" for row in self.rows)),
            ("bare export converts", sum(not row.export for row in self.rows)),
            ("bare trace converts", sum(not row.trace for row in self.rows)),
            ("either converts", sum(not (row.export and row.trace) for row in self.rows)),
        ):
            self.show(f"{title}: {number} of {count} ({number / count:.1%})")


@pytest.fixture(scope="module")
def survey(request: pytest.FixtureRequest) -> Iterator[Survey]:
    capture = request.config.pluginmanager.getplugin("capturemanager")
    assert capture is not None
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), bare.be_quiet) as bare_process:
        found = Survey(capture, bare_process)
        yield found
        found.summarize()


@pytest.mark.models
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", zoo.ARCHITECTURES)
def test_an_architecture_loads_and_its_ops_have_source_lines(name: str, survey: Survey) -> None:
    converted = survey.bare_process.submit(bare.convert, name)
    row = Row(name)
    try:
        module, inputs = zoo.build(name)
        model = tnb.load(module, inputs, progress=False)
        assert model.conversion is not None
        row.road = model.conversion.road
        row.sourced = float((model.ops["source"] != "").mean())
    finally:
        row.export, row.trace = converted.result()
        survey.rows.append(row)
        survey.show(row)
    assert row.sourced >= 0.99
