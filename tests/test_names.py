"""Names from a model in sentences, as long and as strange as they may be."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

import models
import talaria_nb as tnb
from talaria_nb import errors
from talaria_nb.names import SHOWN, shortened

LONG = "first_" + "x" * 10_000 + "_last"
HEBREW = "שכבה"
OVERRIDE = "\u202eover"


def test_a_name_is_cut_in_the_middle_to_a_line() -> None:
    assert shortened("short") == "short"
    assert shortened("x" * SHOWN) == "x" * SHOWN
    cut = shortened(LONG)
    assert len(cut) == SHOWN
    assert cut.startswith("first_x")
    assert cut.endswith("x_last")
    assert cut.count("…") == 1


@pytest.mark.parametrize(
    "error", [errors.TalariaError, *errors.TalariaError.__subclasses__()], ids=lambda error: error.__name__
)
def test_every_error_cuts_names_and_keeps_its_sentence(error: type[errors.TalariaError]) -> None:
    said = str(error(f"{LONG!r} is no weight of {'Model' * 5000}. model.weights lists them all."))
    assert said.startswith("'first_xxx")
    assert "x_last' is no weight of ModelModel" in said
    assert said.endswith(" model.weights lists them all.")
    assert len(said) < 2 * SHOWN + 60
    assert str(error(said)) == said
    assert str(pickle.loads(pickle.dumps(error(said)))) == said  # noqa: S301 - our own


def test_paths_are_whole_and_long_sentences_end() -> None:
    path = Path("/somewhere", *("folder" for _ in range(60)), "model.mlpackage")
    assert str(path) in str(errors.LoadError(f"There is no {path}."))
    assert len(str(errors.LoadError(f"There is no {'a/' * 5000}."))) < 2 * SHOWN
    spaced = str(errors.LoadError("There is no " + "a b " * 5000 + "here."))
    assert len(spaced) <= 4000
    assert spaced.endswith("here.")


def test_what_is_written_from_right_to_left_stays_where_it_is() -> None:
    for name in (HEBREW, OVERRIDE, f"encoder.{HEBREW}.0", HEBREW * 3000):
        said = str(errors.PlanError(f"No weight matches {name}. Did you mean 'head'?"))
        before, rest = said.split("\u2068")
        inside, after = rest.split("\u2069")
        assert before == "No weight matches "
        assert inside == name or (len(inside) < SHOWN < len(name) and HEBREW in inside)
        assert after == ". Did you mean 'head'?"
        assert str(errors.PlanError(said)) == said
    assert str(errors.PlanError("Größe – 3 × 4 …")) == "Größe – 3 × 4 …"


def test_what_people_ask_for_is_named_in_a_short_sentence() -> None:
    model = models.classifier()
    plan = tnb.Plan(model)
    session = tnb.Session(model, "iPhone 15 Pro")
    for ask in (
        lambda name: plan.set(name, tnb.Palettize(4)),
        lambda name: plan[name],
        model.source,
        tnb.device,
        lambda name: tnb.load(f"{name}.mlpackage"),
        lambda name: session.set_trait("selection", name),
        lambda name: tnb.allocate(plan, "4 bits", pins={name: 8}),
    ):
        with pytest.raises(tnb.TalariaError) as raised:
            ask(LONG)
        assert "first_x" in str(raised.value)
        assert len(str(raised.value)) < 600
    session.close()
