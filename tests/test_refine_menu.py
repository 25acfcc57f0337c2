"""A session's plan refined, by a call and by the Optimize menu: in the background, as one step, called off, resumed."""

from __future__ import annotations

import asyncio
from itertools import count
from threading import Event, get_ident
from typing import TYPE_CHECKING, Any

import platformdirs
import pytest
import torch

import models
import talaria_nb as tnb
from recorded import trials_that_run
from talaria_nb import refine_menu
from talaria_nb.errors import EvaluationError
from talaria_nb.trials import Bench, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("one_thread", "no_loop")

DEVICE = "iPhone 15 Pro"
MENU = tnb.Menu(tuple(tnb.Palettize(nbits) for nbits in (8, 6, 4, 3, 2, 1)))
_NUMBERS = count()


def images() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(4, 3, 32, 32, generator=generator) for _ in range(2)]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep what is measured in a folder of the test's own."""
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda *_arguments, **_options: str(tmp_path))
    return tmp_path


@pytest.fixture
def session() -> tnb.Session:
    made = tnb.Session(models.classifier(), DEVICE)
    made.menu = MENU
    made.error = tnb.sensitivity(
        made.model, images(), metric="kl", method="one_width", schemes=MENU.schemes, progress=False
    )
    return made


def ask(session: tnb.Session, what: str, **fields: object) -> dict[str, Any]:
    session.request = {"id": f"request {next(_NUMBERS)}", "action": "refine", "what": what, **fields}
    answer: dict[str, Any] = session.response
    assert answer["action"] == "refine"
    return answer


async def over(session: tnb.Session) -> dict[str, Any]:
    """Wait until the run is over, and return what is shown of it."""
    ended = asyncio.Event()
    session.observe(lambda change: change["new"]["running"] or ended.set(), "refine_state")
    await ended.wait()
    return dict(session.refine_state)


def labels(session: tnb.Session) -> list[str]:
    return [entry["label"] for entry in session.plan_state["history"]]


def test_the_menu_refines_the_plan_found_within_its_budget_as_one_step(
    session: tnb.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = session.allocate("4.5 bits")
    seen, threads, measure = [], set(), Bench.measure

    def measured(bench: Bench, trial: Any) -> Outcome:
        threads.add(get_ident())
        return measure(bench, trial)

    monkeypatch.setattr(Bench, "measure", measured)
    monkeypatch.setattr(refine_menu, "_TOLD_EVERY_S", 0.0)  # a fast machine is through before it would be told
    session.observe(lambda change: seen.append((change["new"], get_ident())), "refine_state")

    async def run() -> dict[str, Any]:
        assert ask(session, "start")["ok"]
        assert session.refine_state["running"]
        assert session.plan == found
        return await over(session)

    state = asyncio.run(run())
    assert state["ok"]
    assert threads.isdisjoint({get_ident()}), "cells can run meanwhile"
    assert {thread for _, thread in seen} == {get_ident()}, "widgets are for the kernel's own thread"
    stages = [each["stage"] for each, _ in seen if each["running"]]
    assert any("Round 1" in stage and "left" in stage for stage in stages)
    assert all(0 <= each["done"] <= 1 for each, _ in seen)

    better = tnb.refine(found, images(), metric="kl", error=session.error, schemes=MENU, device=DEVICE, progress=False)
    assert session.plan == better
    assert session.estimate.bits_per_weight <= 4.5
    losses = f"kl {better.given:.3g} → {better.error:.3g}"
    assert better.error < better.given
    assert labels(session) == ["best plan for 4.5 bits", f"refined within 4.5 bits: {losses} (measured)"]
    assert state["message"].startswith(f"Within 4.5 bits: {losses}, measured on 2 inputs.")
    session.undo()
    assert session.plan == found


def test_a_call_does_the_same(session: tnb.Session) -> None:
    found = session.allocate("4.5 bits")
    better = session.refine(progress=False)
    assert session.plan == better
    assert better.error < better.given
    assert (better.what, [budget.text for budget in better.spent]) == ("kl on the data that chose it", ["4.5 bits"])
    session.undo()
    assert session.plan == found
    assert session.refine(images()[:1], metric="mse", progress=False).what == "mse on the data that chose it"


def test_a_plan_that_was_not_found_keeps_its_size(session: tnb.Session) -> None:
    session.plan = session.plan.set("*", tnb.Palettize(4))
    size = session.estimate.size_bytes
    ask(session, "start")
    assert session.refine_state["ok"], session.refine_state["message"]
    assert session.estimate.size_bytes <= size
    assert labels(session)[-1].startswith(f"refined within {size:,} bytes: kl ")
    again = session.plan
    ask(session, "start")
    assert session.plan == again
    assert "Nothing better was found within" in session.refine_state["message"]
    assert len(labels(session)) == 2


def test_ops_can_be_kept_as_they_are(session: tnb.Session) -> None:
    found = session.allocate("4.5 bits")
    free = session.refine(progress=False).schemes
    changed = next(name for name, scheme in found.schemes.items() if free[name] != scheme)
    session.undo()
    weights = session.model.program.weights
    readers = weights.readers[weights.name.index(changed)]
    ask(session, "start", keep=list(readers))
    assert session.refine_state["ok"], session.refine_state["message"]
    assert session.plan[changed] == found[changed]
    assert session.plan.schemes != free


def test_it_is_called_off_at_the_next_trial_and_goes_on_from_there(
    session: tnb.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = session.allocate("4.5 bits")
    done = trials_that_run(monkeypatch)
    began, called_off = Event(), Event()
    when(monkeypatch, done, 10, lambda: (began.set(), called_off.wait(60)))

    async def run() -> dict[str, Any]:
        ask(session, "start")
        await asyncio.to_thread(began.wait, 60)
        ask(session, "start")  # there is one already
        ask(session, "cancel")
        called_off.set()
        return await over(session)

    state = asyncio.run(run())
    assert state["message"] == "Called off. What was measured is kept: the next run goes on from it."
    assert (session.plan, len(labels(session))) == (found, 1)
    assert len(done) == 10
    first = list(done)
    ask(session, "start")
    assert session.refine_state["ok"]
    assert not set(done[10:]) & set(first)
    assert session.plan != found


def when(monkeypatch: pytest.MonkeyPatch, done: list[Any], number: int, act: Callable[[], object]) -> None:
    """Act once that many trials have run."""
    measure = Bench.measure

    def measured(bench: Bench, trial: Any) -> Outcome:
        value = measure(bench, trial)
        if len(done) == number:
            act()
        return value

    monkeypatch.setattr(Bench, "measure", measured)


def test_an_interrupt_and_a_failure_leave_the_plan_as_it_was(
    session: tnb.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = session.allocate("4.5 bits")
    with monkeypatch.context() as patch:
        trials_that_run(patch, most=5)
        ask(session, "start")
    assert session.refine_state["message"].startswith("The kernel was interrupted. What was measured is kept")
    assert not session.refine_state["running"]

    def broken(_bench: Bench, _trial: Any) -> Outcome:
        raise EvaluationError("This is why.")

    with monkeypatch.context() as patch:
        patch.setattr(Bench, "measure", broken)
        ask(session, "start")
    assert (session.refine_state["ok"], session.refine_state["message"]) == (False, "This is why.")
    assert (session.plan, len(labels(session))) == (found, 1)


def test_what_edits_did_meanwhile_is_one_undo_away(session: tnb.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    session.allocate("4.5 bits")
    edited = session.plan.set("head", tnb.Palettize(8))
    began, go_on = Event(), Event()
    when(monkeypatch, trials_that_run(monkeypatch), 3, lambda: (began.set(), go_on.wait(60)))

    async def run() -> None:
        ask(session, "start")
        await asyncio.to_thread(began.wait, 60)
        session.plan = edited
        go_on.set()
        await over(session)

    asyncio.run(run())
    assert len(labels(session)) == 3
    assert session.estimate.bits_per_weight <= 4.5
    session.undo()
    assert session.plan == edited


def test_without_data_it_says_what_gives_it_some(session: tnb.Session) -> None:
    assert session.refine_state["unavailable"] == ""
    assert "compresses nothing" in ask(session, "start")["message"]
    session.plan = session.plan.set("*", tnb.Palettize(4))
    session.error = None
    said = session.refine_state["unavailable"]
    assert "session.error = tnb.sensitivity(model, data)" in said
    assert ask(session, "start") | {"id": ""} == {"id": "", "action": "refine", "ok": False, "message": said}
    assert not session.refine_state["running"]
    with pytest.raises(EvaluationError, match=r"tnb\.sensitivity"):
        session.refine()


def test_a_package_cannot_be_measured(tmp_path: Path) -> None:
    models.classifier().mlmodel.save(str(tmp_path / "package.mlpackage"))
    package = tnb.Session(tnb.load(tmp_path / "package.mlpackage", progress=False), DEVICE)
    assert "was not loaded from a torch module" in package.refine_state["unavailable"]
    assert not ask(package, "start")["ok"]
