"""What outlives a session: the file that another goes on from, and the still picture in the notebook."""

from __future__ import annotations

import gc
import json
import time
import weakref
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import models
import talaria_nb as tnb
from talaria_nb import exploration
from talaria_nb.errors import PlanError
from talaria_nb.still import still

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DEVICE = "iPhone 15 Pro"
HEAD = "p_head_weight_to_fp16"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(exploration.platformdirs, "user_cache_dir", lambda _name: str(tmp_path))
    return tmp_path


def edited(**options: Any) -> tnb.Session:
    """Return a session with three steps, one of them undone, a snapshot, a baseline, a selection, another device."""
    session = tnb.explore(models.classifier(), DEVICE, **options)
    session.plan = session.plan.set("head", tnb.Palettize(4))
    session.snapshot("head")
    session.baseline = "head"
    session.plan = session.plan.set("blocks.*", tnb.Prune(0.5) + tnb.LinearQuantize("int8"))
    weight = session.model.program.weight_row["p_blocks_0_pointwise_weight_to_fp16"]
    drag = {"client": "a", "sequence": 1, "kind": "set", "label": "a drag", "gesture": "g"}
    session.edits = [drag | {"weights": [weight], "schemes": [3]}]
    session.undo()
    session.selection = ["linear_0_cast_fp16"]
    session.device, session.compute_unit = "iPhone 13", "cpuAndGPU"
    session.budgets = ["40 KB", "5 ms"]
    return session


def test_a_new_kernel_goes_on_with_everything(cache: Path) -> None:
    old = edited()
    old.close()
    new = tnb.explore(models.classifier(), DEVICE, resume=True)
    assert new.plan == old.plan
    assert new.plan[HEAD] == tnb.Palettize(4)
    assert (new.device, new.compute_unit, new.selection) == ("iPhone 13", "cpuAndGPU", ("linear_0_cast_fp16",))
    assert [(budget.metric, budget.most) for budget in new.budgets] == [("size", 40_000), ("latency", 5)]
    assert dict(new.snapshots) == dict(old.snapshots)
    assert new.baseline == new.snapshots["head"]
    assert new.baseline_state["name"] == "head"
    assert new.estimate.size_bytes == old.estimate.size_bytes
    seen = []
    for session in (old, new):
        steps = []
        session.redo()
        while session.plan_state["cursor"]:
            steps.append(session.plan)
            session.undo()
        seen.append(steps)
    assert len(seen[0]) == 3
    assert seen[0] == seen[1]
    assert [entry["label"] for entry in new.plan_state["history"]][-1] == "a drag"
    assert [path.suffix for path in (cache / "explorations").iterdir()] == [".json"]


def test_without_resume_a_session_starts_anew_and_with_nothing_kept_too(tmp_path: Path) -> None:
    edited().close()
    assert tnb.explore(models.classifier(), DEVICE).plan == tnb.Plan(models.classifier())
    assert tnb.explore(models.classifier(), DEVICE, resume=tmp_path / "none.json").plan_state["cursor"] == 0
    assert tnb.explore(models.classifier(), DEVICE, resume=True).plan_state["cursor"] == 2


def test_a_path_keeps_it_there(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "notes" / "classifier.json"
    edited(resume=path).close()
    assert path.is_file()
    assert not (cache / "explorations").exists()
    assert tnb.explore(models.classifier(), DEVICE, resume=str(path)).plan[HEAD] == tnb.Palettize(4)


def test_a_session_knows_the_call_that_goes_on_from_it_once_there_is_something_to_go_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = tnb.explore(models.classifier(), DEVICE)
    assert session.resume_call == ""
    assert "run the cell to go on." in still(session, "tlr-still-x")
    session.selection = "linear_0_cast_fp16"
    assert session.resume_call == "tnb.explore(model, resume=True)"
    assert "<code>tnb.explore(model, resume=True)</code>" in still(session, "tlr-still-x")
    session.close()
    path = tmp_path / "my notes.json"
    edited(resume=path).close()
    monkeypatch.setenv("HOME", str(tmp_path))
    for place in (path, str(path), "~/my notes.json"):
        again = tnb.explore(models.classifier(), DEVICE, resume=place)
        assert again.resume_call == f'tnb.explore(model, resume="{place}")'
        again.close()


def test_a_file_that_cannot_be_written_leaves_the_old_one_and_the_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "classifier.json"
    session = edited(resume=path)
    session._lasting.stop()  # type: ignore[union-attr]
    before = path.read_bytes()

    def full(*_arguments: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(exploration.Path, "replace", full)
    session.undo()
    with pytest.warns(UserWarning, match="not kept for .*: No space left"):
        session._lasting._later.now()  # type: ignore[union-attr]
    assert session.resume_call == "", "a call that would go on from an older plan"
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["classifier.json"]
    session.redo()
    session.close()


def broken(change: Callable[[dict[str, Any]], object]) -> Callable[[str], str]:
    def apply(text: str) -> str:
        document = json.loads(text)
        change(document)
        return json.dumps(document)

    return apply


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda text: text[:100], "cannot be read"),
        (lambda _text: "[" * 100_000, "cannot be read"),
        (lambda _text: "[]", "is damaged"),
        (broken(lambda document: document.update(device="iPhone 99")), "does not fit: Unknown device 'iPhone 99'"),
        (broken(lambda document: document.update(budgets={"size": -1})), "does not fit: A budget of size is"),
        (broken(lambda document: document.pop("history")), "is damaged"),
        (broken(lambda document: document.update(talaria_nb_exploration=2)), "has version 2"),
        (broken(lambda document: document["model"].update(fingerprint="0", name="Other")), "another model, Other"),
        (broken(lambda document: document["columns"].append(0)), "another number of weights"),
        (broken(lambda document: document["columns"].__setitem__(0, 99)), "schemes that it does not list"),
        (broken(lambda document: document.update(cursor=7)), "does not hold the step"),
        (broken(lambda document: document["history"][0]["after"].__setitem__(0, 0)), "do not lead to its plan"),
        (broken(lambda document: document["history"][0]["weights"].__setitem__(0, -1)), "not there"),
        (broken(lambda document: document.update(int8=[10**6])), "not legal"),
    ],
)
def test_what_is_damaged_is_refused_in_a_sentence(damage: Callable[[str], str], sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "classifier.json"
    edited(resume=path).close()
    path.write_text(damage(path.read_text()))
    with pytest.raises(PlanError, match=sentence) as raised:
        tnb.explore(models.classifier(), DEVICE, resume=path)
    assert str(path) in str(raised.value)
    assert "Start anew" in str(raised.value)


def test_an_illegal_scheme_in_the_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "classifier.json"
    session = edited(resume=path)
    session.close()
    small = int(np.flatnonzero(~session.model.weights["compressible"])[0])
    illegal = broken(
        lambda document: document["columns"].__setitem__(small, document["schemes"].index({"palettize": {"nbits": 4}}))
    )
    path.write_text(illegal(path.read_text()))
    with pytest.raises(PlanError, match="cannot be"):
        tnb.explore(models.classifier(), DEVICE, resume=path)


class Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, _attrs: object) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data + " "


def test_the_still_picture_tells_the_state_as_text() -> None:
    session = edited()
    seen = Text()
    seen.feed(still(session, "tlr-still-x"))
    assert seen.tags <= {"style", "div", "p", "strong", "code", "table", "thead", "tbody", "tr", "th", "td"}
    assert "on iPhone 13" in seen.text
    assert f"{session.estimate.bits_per_weight:.2f}" in seen.text
    assert tnb.Palettize(4).label in seen.text
    object.__setattr__(session.model.program, "name", "<script>x</script>" + "y" * 10_000)
    try:
        html = still(session, "tlr-still-x")
    finally:
        object.__setattr__(session.model.program, "name", "Classifier")
    assert "<script>" not in html
    assert "y" * 1000 not in html


def test_a_closed_session_is_freed_and_its_model_with_it(tmp_path: Path) -> None:
    package = tmp_path / "classifier.mlpackage"
    models.classifier().mlmodel.save(str(package))
    loaded = tnb.load(package, progress=False)
    session = tnb.explore(loaded, DEVICE)
    session.plan = session.plan.set("*", tnb.Palettize(4))
    session.error = np.ones(len(loaded.weights))
    charts = session.charts
    # As a notebook's `Out` keeps what cells return.
    kept = [charts.roofline, charts.timeline, charts.scatter, charts.sensitivity, charts.history, charts.pareto]
    kept += [session.pareto("size", points=3), charts]
    session.find_errors()
    seen = [weakref.ref(each) for each in (session, session.explorer, session.table, loaded)]
    session.close()
    session.close()
    del session, loaded
    # The thread that finds errors may still be telling the session of the last ones.
    deadline = time.monotonic() + 10
    while any(each() is not None for each in seen) and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.02)
    assert [each() for each in seen] == [None] * 4
