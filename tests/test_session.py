from __future__ import annotations

import threading

import numpy as np
import pytest

import models
import talaria_nb as tnb
from talaria_nb.distortion import signal, squared_errors

DEVICE = "iPhone 15 Pro"


@pytest.fixture
def session() -> tnb.Session:
    return tnb.Session(models.classifier(), DEVICE)


def edit(sequence: int, weights: list[int], columns: list[int], **more: object) -> dict[str, object]:
    return {"client": "a", "sequence": sequence, "kind": "set", "weights": weights, "schemes": columns, **more}


def compressible(session: tnb.Session) -> list[int]:
    return np.flatnonzero(session.model.weights["compressible"]).tolist()


def test_edits_from_python_are_steps(session: tnb.Session) -> None:
    start = session.plan
    session.plan = session.plan.set("head", tnb.Palettize(4))
    assert session.plan_state["cursor"] == 1
    session.undo()
    assert session.plan == start
    session.redo()
    assert session.plan == start.set("head", tnb.Palettize(4))


def test_edits_from_the_browser_become_the_plan(session: tnb.Session) -> None:
    rows = compressible(session)
    seen: list[tnb.Plan] = []
    session.observe(lambda change: seen.append(change["new"]), "plan")
    session.edits = [edit(1, rows, [3] * len(rows), label="all weights: 4-bit palettize", gesture="g")]
    assert session.plan == tnb.Plan(session.model).set("*", tnb.Palettize(4))
    assert seen == [session.plan]
    assert session.plan_state["acknowledged"] == {"a": 1}


def test_an_edit_is_applied_once_however_often_it_is_sent(session: tnb.Session) -> None:
    row = compressible(session)[0]
    first = edit(1, [row], [3])
    session.edits = [first]
    session.edits = [first, edit(2, [row], [1])]
    session.undo()
    assert session.plan.scheme_of_weight[row] == tnb.Palettize(4)
    session.undo()
    assert session.plan == tnb.Plan(session.model)


def test_undo_in_the_browser_and_edits_of_two_pages(session: tnb.Session) -> None:
    row = compressible(session)[0]
    session.edits = [edit(1, [row], [3]), {**edit(1, [row], [5]), "client": "b"}]
    assert session.plan.scheme_of_weight[row] == tnb.Palettize(2)
    session.edits = [{"client": "b", "sequence": 2, "kind": "undo", "weights": [], "schemes": []}]
    assert session.plan.scheme_of_weight[row] == tnb.Palettize(4)


def test_an_illegal_edit_from_the_browser_changes_nothing(session: tnb.Session) -> None:
    small = np.flatnonzero(~session.model.weights["compressible"])[0]
    session.edits = [edit(1, [int(small), 10**6, 0], [3, 3, 999])]
    assert session.plan == tnb.Plan(session.model)
    assert session.plan_state["acknowledged"] == {"a": 1}


def test_a_scheme_outside_the_menu_widens_the_cost_table(session: tnb.Session) -> None:
    before = len(session.costs["schemes"])
    session.plan = session.plan.set("head", tnb.Palettize(4, "per_grouped_channel", 50))
    assert len(session.costs["schemes"]) == before + 1
    assert session.estimate == session.plan.estimate(DEVICE)


def test_estimate_follows_plan_and_device(session: tnb.Session) -> None:
    session.plan = session.plan.set("*", tnb.Palettize(2))
    session.device = "iphone 12"
    assert session.device == "iPhone 12"
    assert session.costs["device"] == "iPhone 12"
    assert session.estimate == session.plan.estimate("iPhone 12")


def test_selection_is_shared_as_names_here_and_rows_there(session: tnb.Session) -> None:
    names = session.model.program.ops.name
    session.selection = [names[2], names[0]]
    assert session.selected_ops == [2, 0]
    session.selected_ops = [1]
    assert session.selection == (names[1],)


def test_snapshots_keep_plans(session: tnb.Session) -> None:
    kept = session.snapshot("float16")
    session.plan = session.plan.set("head", tnb.Palettize(1))
    assert session.snapshots == {"float16": kept}
    session.plan = session.snapshots["float16"]
    assert session.plan == tnb.Plan(session.model)


def test_views_share_the_session(session: tnb.Session) -> None:
    for view in (session.explorer, session.summary, session.table, session.graph, session.sliders):
        assert view.session is session
        assert view.view == type(view).__name__.lower()
    assert session.table is session.table


def test_bad_input_leaves_the_session_as_it_was(session: tnb.Session) -> None:
    session.plan = session.plan.set("head", tnb.Palettize(4))
    kept = session.plan
    with pytest.raises(tnb.TalariaError, match="This plan is for UNet"):
        session.plan = tnb.Plan(models.unet())
    with pytest.raises(tnb.TalariaError, match="Unknown device"):
        session.device = "Pixel"
    with pytest.raises(tnb.TalariaError, match="no op named 'x'"):
        session.selection = ["x"]
    assert session.plan == kept
    assert session.device == DEVICE
    assert session.selection == ()


def test_weight_errors_are_found_after_the_session_is_shown(session: tnb.Session) -> None:
    assert session.estimate.weight_error is None
    assert session.estimate.sqnr_db is None
    session.find_errors().join()
    assert session.estimate.weight_error == 0
    assert session.estimate.sqnr_db == np.inf
    name = session.model.program.weights.name[compressible(session)[0]]
    noise = []
    for nbits in (8, 4, 2):
        session.plan = session.plan.set([name], tnb.Palettize(nbits))
        noise.append(session.estimate.weight_error)
    assert 0 < noise[0] < noise[1] < noise[2]
    values = [session.model.weight_value(each) for each in session.model.program.weights.name]
    row = session.model.program.weight_row[name]
    [error] = squared_errors(
        values[row], [tnb.Palettize(2)], channel_axes=session.model.program.weights.channel_axes[row]
    )
    assert noise[2] == pytest.approx(error / sum(map(signal, values)))
    session.device = "iPhone 14 Pro"
    assert session.estimate.weight_error == noise[2]
    assert np.isfinite(np.frombuffer(session.costs["signal"])).all()


def test_schemes_added_later_get_their_errors_too(session: tnb.Session) -> None:
    session.find_errors().join()
    added = tnb.Palettize(4, "per_grouped_channel", 8)
    session.menu = session.menu.add(added)
    for thread in threading.enumerate():
        if thread.name == "weight errors":
            thread.join()
    row = compressible(session)[0]
    errors = np.frombuffer(session.costs["squared_error"]).reshape(-1, len(session.costs["schemes"]))
    assert errors[row, [scheme["key"] for scheme in session.costs["schemes"]].index(added.key)] > 0


def test_a_removed_scheme_stays_with_the_weights_that_have_it_and_is_offered_to_no_other(session: tnb.Session) -> None:
    def offered() -> list[str]:
        flags = np.frombuffer(session.costs["offered"], dtype="u1")
        return [scheme["key"] for scheme, flag in zip(session.costs["schemes"], flags, strict=True) if flag]

    gone = tnb.Palettize(4)
    session.plan = session.plan.set("head", gone)
    assert offered() == [scheme.key for scheme in session.menu]
    session.menu = session.menu.remove(gone)
    assert session.plan == tnb.Plan(session.model).set("head", gone)
    assert gone.key in [scheme["key"] for scheme in session.costs["schemes"]]
    assert offered() == [scheme.key for scheme in session.menu]
    session.menu = session.menu.add(gone)
    assert gone.key in offered()


def test_int8_activations_are_steps_from_python_and_the_browser() -> None:
    session = tnb.Session(models.unet(), DEVICE)
    session.plan = start = session.plan.set("middle", tnb.LinearQuantize("int8"))
    before = session.estimate.latency_ms
    session.plan = eight = start.set_activations("middle", "int8")
    assert session.estimate.latency_ms < before
    assert session.plan == eight
    assert np.flatnonzero(np.frombuffer(session.plan_state["int8"], dtype="u1")).tolist() == sorted(eight.int8_ops)
    assert session.estimate == eight.estimate(DEVICE)
    session.undo()
    assert session.plan == start
    session.redo()
    [op] = eight.int8_ops
    session.edits = [edit(1, [], [], ops=[op], int8=[0])]
    assert session.plan == start
    session.undo()
    assert session.plan == eight


def test_int8_activations_that_are_illegal_are_not_taken_from_the_browser(session: tnb.Session) -> None:
    [relu, *_] = np.flatnonzero(session.model.ops["op_type"] == "relu").tolist()
    session.edits = [edit(1, [], [], ops=[relu, 10**6, -1], int8=[1, 1, 1])]
    assert session.plan == tnb.Plan(session.model)
