"""What is called with something else than it takes says in one sentence what it takes, and does nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
import torch

import models
import talaria_nb as tnb
from talaria_nb.session import SETTABLE

if TYPE_CHECKING:
    from collections.abc import Callable

A15 = "A15"
HEAD = "p_head_weight_to_fp16"
_NUL = r"'a\\x00b.*' is no path: there is a NUL in it."
IMAGES = [torch.zeros(1, 3, 32, 32)]


def of_head(error: float = 0.0, attrs: dict[str, str] | None = None) -> pd.DataFrame:
    found = pd.DataFrame({tnb.Palettize(4): [error]}, index=[HEAD])
    found.attrs = attrs or {}
    return found


@pytest.fixture(scope="module")
def plan() -> Any:  # what is misused here is misused against its types
    return tnb.Plan(models.classifier())


@pytest.mark.parametrize(
    ("misuse", "says"),
    [
        (lambda plan: plan.set(None, tnb.Palettize(4)), "Weights are chosen by name, glob or mask, not by None."),
        (
            lambda plan: plan.set([True, None], tnb.Palettize(4)),
            "Weights are chosen by name, glob or mask, not by None.",
        ),
        (lambda plan: plan.set_activations(3, "int8"), "Ops are chosen by name or glob, not by 3."),
        (lambda plan: plan[0], r"No weight or module of Classifier matches 0."),
        (lambda plan: plan.compare(plan.model, A15), r"compare\(\) takes a plan, .*, not a value of type Model."),
        (lambda plan: plan.compress(3), "A compressed model is saved under a path, not under 3."),
        (
            lambda plan: plan.verify(plan),
            r"verify\(\) takes what plan.compress\(\) returns .*, not a value of type Plan.",
        ),
        (
            lambda plan: tnb.Plan.from_yaml(plan.model, Path("plan.yaml")),
            "from_yaml reads the text of a plan, .*, not ",
        ),
        (
            lambda plan: tnb.Plan.from_yaml(plan, plan.to_yaml()),
            r"Plan\(\) takes what tnb.load\(\) returns, not .* Plan.",
        ),
        (
            lambda plan: tnb.Plan.from_yaml(plan.model, "\na: ["),
            "This is not YAML: expected the node content, .* line 2.",
        ),
        (lambda plan: tnb.evaluate(plan.model, [0]), r"evaluate\(\) takes a plan, .*, not a value of type Model."),
        (
            lambda plan: tnb.evaluate(plan, eval_fn="accuracy"),
            "eval_fn is a function of the compressed module, not 'acc",
        ),
        (
            lambda plan: tnb.evaluate(plan, eval_fn=lambda _: {"a": 1.0, "b": float("nan")}),
            "eval_fn .* returned nan for 'b'",
        ),
        (lambda plan: tnb.sensitivity(plan, [0]), r"Only what tnb.load\(\) returns can be measured, not .* Plan."),
        (lambda plan: tnb.sensitivity(plan.model, 3), "data must be an iterable of inputs, .*, not one int."),
        (
            lambda plan: tnb.sensitivity(plan.model, IMAGES, schemes=[4]),
            r"A menu holds schemes such as tnb.Palettize\(4\), not 4.",
        ),
        (
            lambda plan: tnb.sensitivity(plan.model, IMAGES, executor="dask"),
            "executor= is a concurrent.futures executor, not a value of type str.",
        ),
        (
            lambda plan: tnb.sensitivity(plan.model, IMAGES, cache=__file__),
            "cache= is the path of a folder, and '.*' is a file.",
        ),
        (lambda plan: tnb.sensitivity(plan.model, IMAGES, cache=3), "cache= is the path of a folder, not 3."),
        (
            lambda plan: tnb.allocate(plan, "5 bits", error=pd.Series({"nowhere": 1.0})),
            "The errors are of 'nowhere', but Classifier has no weight of that name.",
        ),
        (
            lambda plan: tnb.allocate(plan, "5 bits", error=pd.Series([1.0, 2.0], index=[HEAD, HEAD])),
            f"The errors of '{HEAD}' are given twice.",
        ),
        (
            lambda plan: tnb.allocate(plan, "5 bits", error=pd.Series({HEAD: "much"})),
            "Errors are numbers: could not convert string to float: 'much'.",
        ),
        (lambda plan: plan.loss(pd.DataFrame()), "The columns of an error table are schemes .*, not nothing."),
        (
            lambda plan: plan.loss(of_head(attrs={"grade": "good"})),
            """attrs\\["grade"\\] of an error table is one of weight, estimated, measured, not 'good'.""",
        ),
        (lambda plan: plan.loss(of_head(float("inf"))), "The error of .* is inf: errors are finite"),
        (lambda plan: tnb.estimate_generation(plan, None, A15), r"estimate_generation\(\) takes a plan, .* NoneType."),
        (lambda plan: tnb.calibrate(A15, plan), "Measurements are rows .*, not <talaria_nb.Plan"),
        (lambda _plan: tnb.calibrate(A15, "nowhere.csv"), "There is no file 'nowhere.csv'."),
        (tnb.measure, r"measure\(\) takes a coremltools MLModel, .*, not a value of type Plan."),
        (
            lambda plan: tnb.allocate(plan, "6 bits", pins=["head"]),
            "pins maps globs to schemes, .*; it is not .'head'.",
        ),
        (
            lambda plan: tnb.allocate(plan, preset="AFM", pins="head"),
            "pins maps globs to schemes, .*; it is not 'head'.",
        ),
        (
            lambda plan: tnb.allocate(plan, "6 bits", alike=3),
            "Weights that are to be alike are chosen by globs, not by 3.",
        ),
        (lambda plan: tnb.pareto(plan, points=0), "points= is a whole number of at least 1, not 0."),
        (lambda plan: tnb.pareto(plan, low="4 bits"), "low= and high= are numbers of bits, not '4 bits'."),
        (lambda plan: tnb.refine(plan, [], budget="6 bits", rounds="4"), "rounds= is a whole number of at least 0, "),
        (lambda plan: tnb.refine(plan, [], budget="6 bits", pins=["head"]), "pins maps globs to schemes, "),
        (lambda plan: tnb.explore(plan, resume=3), "resume= is True, False or the path of a file, not 3."),
        (lambda plan: setattr(tnb.Session(plan, A15), "selection", None), "Ops are selected by name, not by None."),
        (
            lambda plan: setattr(tnb.Session(plan, A15), "measured", 3),
            r"session.measured takes what tnb.measure\(\) .* 3.",
        ),
        (lambda plan: tnb.Session(plan, A15).snapshot(3), "A snapshot needs a name"),
        (
            lambda plan: setattr(tnb.Session(plan, A15), "compute_units", "all"),
            "A session has no 'compute_units'. Did you mean 'compute_unit'[?] What can be set is plan, selection, ",
        ),
        (lambda plan: plan.table(A15, measured="x"), r"measured= takes what tnb.measure\(\) returns, not 'x'."),
        (
            lambda plan: tnb.allocate(plan, "6 bits", table="x"),
            r"table= takes what plan.cost_table\(device\) returns, not 'x'.",
        ),
        (
            lambda plan: tnb.allocate(plan, "6 bits", table=tnb.Plan(models.unet()).cost_table(A15)),
            "table= is the cost table of another model than Classifier.",
        ),
        (lambda _plan: tnb.load("a\0b.mlpackage"), _NUL),
        (lambda _plan: tnb.device("a\0b.toml"), _NUL),
        (lambda _plan: tnb.device(A15).to_toml("a\0b.toml"), _NUL),
        (lambda _plan: tnb.calibrate(A15, "a\0b.csv"), _NUL),
        (lambda plan: tnb.explore(plan, resume="a\0b"), _NUL),
        (lambda plan: plan.compress("a\0b.mlpackage", progress=False), _NUL),
        (lambda plan: plan.verify("a\0b.mlpackage"), _NUL),
        (lambda plan: tnb.sensitivity(plan.model, IMAGES, cache="a\0b", progress=False), _NUL),
    ],
)
def test_it_says_what_it_takes(plan: Any, misuse: Callable[[Any], object], says: str) -> None:
    with pytest.raises(tnb.TalariaError, match=f"^{says}") as raised:
        misuse(plan)
    assert "\n" not in str(raised.value)


def test_a_misspelt_device_is_one_sentence_below_the_call_and_no_page_of_frames(plan: Any) -> None:
    for misspelt in ({"device": "iPhone 15 Prо"}, {"compute_unit": "everything"}):
        with pytest.raises(tnb.TalariaError) as raised:
            tnb.explore(plan, **misspelt)
        assert [entry.name for entry in raised.traceback][1:] == ["explore"]
        assert raised.value.__cause__ is None
        assert raised.value.__suppress_context__


def test_what_a_session_has_can_be_set_and_its_own_names_are_free(plan: Any) -> None:
    session = tnb.Session(plan, A15)
    for name in SETTABLE:
        setattr(session, name, getattr(session, name))
    session._anything = 3
    with pytest.raises(AttributeError):
        session.anything = 3


def test_states_are_names_of_buffers() -> None:
    with pytest.raises(tnb.TalariaError, match=r"states= takes names of buffers or ct.StateType values .*, not 3."):
        tnb.load(models.Classifier().eval(), torch.zeros(1, 3, 32, 32), states=3, progress=False)  # type: ignore[arg-type]
