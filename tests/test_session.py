from __future__ import annotations

import asyncio
import dataclasses
import gc
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import models
import talaria_nb as tnb
from packages import dequantized_weights
from talaria_nb import distortion
from talaria_nb.distortion import signal, squared_errors
from talaria_nb.menu import Menu
from talaria_nb.sweep import Sweep

if TYPE_CHECKING:
    from pathlib import Path

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


def test_snapshots_reach_the_browser_and_can_be_forgotten(session: tnb.Session) -> None:
    session.plan = session.plan.set("head", tnb.Palettize(4))
    session.snapshot("small")
    (state,) = session.snapshot_state
    assert state["name"] == "small"
    assert state["scheme"] == session.plan_state["scheme"]
    session.forget("small")
    assert session.snapshot_state == []
    assert not session.snapshots


def test_the_baseline_is_a_plan_a_snapshot_or_the_model_as_loaded(session: tnb.Session) -> None:
    assert session.baseline is None
    assert session.baseline_state == {}
    session.plan = session.plan.set("head", tnb.Palettize(4))
    kept = session.snapshot("small")
    session.undo()
    session.baseline = "small"
    assert session.baseline == kept
    assert session.baseline_state["name"] == "small"
    assert session.baseline_state["scheme"] == session.snapshot_state[0]["scheme"]
    other = session.plan.set("*", tnb.Palettize(2, "per_grouped_channel", 2))
    session.baseline = other
    columns = np.frombuffer(session.baseline_state["scheme"], dtype="<u2")
    assert [session.cost_table.schemes[column] for column in columns] == list(other.scheme_of_weight)
    session.baseline = None
    assert session.baseline_state == {}


def test_a_baseline_that_is_none_is_refused(session: tnb.Session) -> None:
    session.snapshot("start")
    with pytest.raises(tnb.TalariaError, match=r"No snapshot is named 'begin'\. There are: start"):
        session.baseline = "begin"
    with pytest.raises(tnb.TalariaError, match="another model"):
        session.baseline = tnb.Plan(models.tied())
    with pytest.raises(tnb.TalariaError, match="needs a name"):
        session.snapshot("")
    assert session.baseline is None


def test_the_browser_chooses_the_baseline_and_keeps_snapshots(session: tnb.Session) -> None:
    columns = [0] * len(session.model.weights)
    columns[compressible(session)[0]] = 3
    session.request = {"id": "1", "action": "baseline", "name": "step 1", "scheme": columns, "int8": []}
    assert session.response["ok"]
    assert session.baseline is not None
    assert session.baseline.scheme_of_weight == tuple(session.cost_table.schemes[column] for column in columns)
    assert session.baseline_state["name"] == "step 1"
    session.request = {"id": "2", "action": "baseline", "name": "step 1", "scheme": columns[:-1], "int8": []}
    assert not session.response["ok"]
    assert "Show the view again" in session.response["message"]
    session.request = {"id": "3", "action": "baseline", "name": ""}
    assert session.baseline is None
    session.request = {"id": "4", "action": "snapshot", "name": "here"}
    assert session.snapshots == {"here": session.plan}
    session.request = {"id": "5", "action": "snapshot", "name": "here", "forget": True}
    assert not session.snapshots


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


def test_a_session_that_is_refused_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    besides: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: besides.append(unraisable.exc_value))
    with pytest.raises(tnb.TalariaError, match="Unknown device 'iPhone 99'"):
        tnb.explore(models.classifier(), device="iPhone 99")
    with pytest.raises(tnb.TalariaError, match="not a value of type NoneType"):
        tnb.explore(None)  # type: ignore[arg-type]
    gc.collect()
    assert besides == []


def test_a_device_of_ones_own_is_refused_rather_than_taken_for_the_one_of_its_name(
    session: tnb.Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own = "mine.toml"
    tnb.device("A15").to_toml(own)
    message = r"A session prices devices that tnb.devices\(\) lists, not 'mine.toml'"
    with pytest.raises(tnb.TalariaError, match=message):
        session.device = own
    assert session.device == DEVICE
    with pytest.raises(tnb.TalariaError, match=message):
        tnb.explore(session.model, device=own)
    with pytest.raises(tnb.TalariaError, match="lists, not Device"):
        tnb.explore(session.model, device=tnb.device(own))  # type: ignore[arg-type]


def test_weight_errors_are_found_after_the_session_is_shown(session: tnb.Session) -> None:
    assert session.estimate.weight_error is None
    assert session.estimate.sqnr_db is None
    session.find_errors()
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
    session.find_errors()
    added = tnb.Palettize(4, "per_grouped_channel", 8)
    session.menu = session.menu.add(added)
    session.find_errors()
    row = compressible(session)[0]
    packed = session.costs["squared_error"]
    errors = np.frombuffer(packed["rows"], dtype="<f4").reshape(-1, len(session.costs["schemes"]))
    assert (
        errors[
            np.frombuffer(packed["of"], dtype="<u2")[row],
            [scheme["key"] for scheme in session.costs["schemes"]].index(added.key),
        ]
        > 0
    )


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


def test_explore_finds_errors_by_itself_and_shows_them_on_the_loop() -> None:
    shown_on: list[str] = []

    async def notebook() -> tnb.Session:
        session = tnb.explore(models.unet(), DEVICE)
        session.observe(lambda _: shown_on.append(threading.current_thread().name), "costs")
        for _ in range(600):
            await asyncio.sleep(0.1)
            if shown_on:
                break
        return session

    with ThreadPoolExecutor(1, thread_name_prefix="kernel") as kernel:  # other tests leave a loop on the main thread
        session = kernel.submit(asyncio.run, notebook()).result()
    assert shown_on == ["kernel_0"]
    assert np.isfinite(np.frombuffer(session.costs["signal"])).all()
    session.close()


def test_browsers_hear_whether_errors_are_being_found() -> None:
    heard: list[tuple[bool, bool]] = []

    async def notebook() -> tnb.Session:
        session = tnb.Session(unknown(models.unet()), DEVICE)
        assert not session.sweep_state.get("running")

        def hear(change: dict[str, Any]) -> None:
            heard.append((change["new"]["running"], bool(np.isfinite(np.frombuffer(session.costs["signal"])).all())))

        session.observe(hear, "sweep_state")
        session.find_errors(wait=False)
        for _ in range(600):
            await asyncio.sleep(0.1)
            if len(heard) > 1:
                break
        return session

    with ThreadPoolExecutor(1) as kernel:
        session = kernel.submit(asyncio.run, notebook()).result()
    assert heard == [(True, False), (False, True)]
    session.close()


def test_browsers_hear_why_errors_cannot_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    session = tnb.Session(unknown(models.unet()), DEVICE)

    def broken(*_args: object, **_options: object) -> None:
        raise tnb.TalariaError("Weight 'w' cannot be decompressed.")

    for place in ("talaria_nb.sweep.weight_errors", "talaria_nb.Model.weight_value"):
        with monkeypatch.context() as patched:
            patched.setattr(place, broken)
            with pytest.raises(tnb.TalariaError):
                session.find_errors()
        assert session.sweep_state == {"running": False, "refusal": "Weight 'w' cannot be decompressed"}
        session.find_errors()
        assert session.sweep_state == {"running": False, "refusal": ""}
        session = tnb.Session(unknown(models.unet()), DEVICE)


def unknown(model: tnb.Model) -> tnb.Model:
    """Return the same model, of which no errors are known yet."""
    return dataclasses.replace(model)


def test_closing_a_session_ends_the_sweep_at_once() -> None:
    session = tnb.Session(unknown(models.unet()), DEVICE)
    session.find_errors(wait=False)
    session.close()
    begun = time.monotonic()
    session.find_errors()
    assert time.monotonic() - begun < 5
    assert session.estimate.weight_error is None


def test_errors_that_cannot_be_found_say_so_and_can_be_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    session = tnb.Session(models.unet(), DEVICE)

    def broken(*_args: object, **_options: object) -> None:
        raise tnb.TalariaError("unreadable")

    with monkeypatch.context() as patched:
        patched.setattr("talaria_nb.sweep.weight_errors", broken)
        with pytest.raises(tnb.TalariaError, match="unreadable"):
            session.find_errors()
    session.find_errors()
    assert session.estimate.weight_error == 0


def test_sweeps_run_beside_each_other_and_beside_compress() -> None:
    model = models.unet()
    expected = distortion.distortions(model.program, model.weight_value, Menu.default().schemes, threads=1)
    plan = tnb.Plan(model).set("*", tnb.Palettize(4))
    before = compressed_values(plan)
    for _ in range(3):
        sweeps = [Sweep(unknown(model), lambda: None) for _ in range(2)]
        for sweep in sweeps:
            sweep.ask(Menu.default().schemes)
        during = compressed_values(plan)
        for sweep in sweeps:
            sweep.wait()
            found = np.stack([sweep.found.squared_error[scheme] for scheme in Menu.default()], axis=1)
            np.testing.assert_array_equal(found, expected.squared_error)
        assert before.keys() == during.keys()
        for name, values in before.items():
            np.testing.assert_array_equal(values, during[name])


def compressed_values(plan: tnb.Plan) -> dict[str, Any]:
    return dequantized_weights(plan.compress(progress=False))


def test_an_interpreter_may_end_while_errors_are_found_and_imports_no_more_than_it_has_to() -> None:
    script = """
        import sys, talaria_nb as tnb
        print([name for name in ("sklearn", "transformers") if name in sys.modules])
        import numpy as np, torch, sklearn, transformers
        from talaria_nb.sweep import Sweep
        model = tnb.load(torch.nn.Linear(2048, 2048), torch.zeros(1, 2048), progress=False)
        Sweep(model, lambda: None).ask(tnb.Menu.default().schemes)
        print("over")
    """
    over = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=120, check=False
    )
    assert over.returncode == 0, over.stderr
    assert over.stdout == "[]\nover\n"
    assert "Fatal" not in over.stderr


def test_the_compute_unit_is_priced_and_given_up_where_a_device_lacks_it(session: tnb.Session) -> None:
    before = session.estimate
    session.compute_unit = "cpuOnly"
    assert session.estimate.compute_unit == "cpuOnly"
    assert session.estimate.latency_ms > before.latency_ms
    assert session.estimate == session.plan.estimate(DEVICE, "cpuOnly")
    assert session.costs["compute_unit"] == "cpuOnly"
    with pytest.raises(tnb.TalariaError, match="Unknown compute unit 'gpu': use one of"):
        session.compute_unit = "gpu"
    assert session.compute_unit == "cpuOnly"
    lacking = next(name for name in tnb.devices() if "cpuAndGPU" not in tnb.device(name).compute_units)
    session.compute_unit = "cpuAndGPU"
    session.device = lacking
    assert (session.compute_unit, session.estimate.device) == ("all", lacking)
    assert "cpuAndGPU" not in session.costs["offered_units"]


def test_budgets_are_set_here_and_in_the_browser(session: tnb.Session) -> None:
    session.budgets = ["4 MB", "5 ms"]
    assert session.budget_state == {"size": 4e6, "latency": 5.0}
    session.budgets = {"size_bytes": 1e5, "bits_per_weight": 6}
    assert session.budget_state == {"size": 1e5, "bits": 6}
    session.budget_state = {"bits": 4.5}
    assert session.budgets == (tnb.Budget("bits", 4.5),)
    for wrong in ("4 apples", {"size": 4}, tnb.Budget("bits", 4, of="head")):
        with pytest.raises(tnb.BudgetError):
            session.budgets = wrong
    assert session.budgets == (tnb.Budget("bits", 4.5),)
    found = session.allocate()
    assert found.estimate(DEVICE).bits_per_weight <= 4.5
    session.budgets = None
    assert session.budget_state == {}
