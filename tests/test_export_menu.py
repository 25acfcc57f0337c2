"""What the Export menu does: every item is asked for as the browser asks, and what comes out is used."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import coremltools.optimize.coreml as cto
import pytest

import models
import talaria_nb as tnb
from packages import dequantized_weights
from talaria_nb import export_menu

if TYPE_CHECKING:
    from talaria_nb.plan import Plan

DEVICE = "iPhone 15 Pro"


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tnb.Session:
    monkeypatch.chdir(tmp_path)
    session = tnb.Session(models.classifier(), DEVICE)
    session.plan = session.plan.set("head", tnb.Palettize(4))
    return session


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    class Shell:
        user_ns: dict[str, Any] = {}  # noqa: RUF012 - one test, one shell

    monkeypatch.setattr("talaria_nb.export_menu.get_ipython", Shell)
    return Shell.user_ns


def export(session: tnb.Session, what: str, **more: object) -> dict[str, Any]:
    """Ask as the browser does, and return the answer."""
    identity = str(int(session.response.get("id", 0)) + 1)
    session.request = {"id": identity, "action": "export", "what": what, **more}
    assert session.response["id"] == identity
    return dict(session.response)


def texts(answer: dict[str, Any]) -> list[str]:
    return [text["text"] for text in answer["texts"]]


def two_passes(session: tnb.Session) -> Plan:
    return session.plan.set("blocks.0.pointwise", tnb.LinearQuantize("int8"))


def test_python_source_is_shown_and_saved(session: tnb.Session, tmp_path: Path) -> None:
    answer = export(session, "python")
    assert answer["ok"]
    assert texts(answer) == [session.plan.to_python()]
    assert not list(tmp_path.iterdir())
    answer = export(session, "python", path="small")
    assert answer["saved"] == [str(tmp_path / "small.py")]
    assert str(tmp_path / "small.py") in answer["message"]
    namespace: dict[str, Any] = {}
    exec((tmp_path / "small.py").read_text(), namespace)  # noqa: S102 - that is what the text is for
    assert len(dequantized_weights(namespace["compress"](session.model.mlmodel))) == 1


def test_a_name_that_no_file_can_have_is_said_in_a_sentence(session: tnb.Session) -> None:
    answer = export(session, "python", path="x" * 10_000)
    assert not answer["ok"]
    assert "could not be saved: File name too long" in answer["message"]
    assert len(answer["message"]) < 400


def test_configs_of_several_passes_become_files_that_coremltools_reads(session: tnb.Session, tmp_path: Path) -> None:
    session.plan = two_passes(session)
    answer = export(session, "coremltools", path="small.yaml")
    names = [Path(path).name for path in answer["saved"]]
    assert names == ["small-1-palettize.yaml", "small-2-linear_quantize.yaml"]
    for name, text in zip(names, texts(answer), strict=True):
        assert (tmp_path / name).read_text() == text
        assert cto.OptimizationConfig.from_yaml(io.StringIO(text)) is not None


def test_a_saved_plan_is_the_plan(session: tnb.Session, tmp_path: Path) -> None:
    export(session, "plan", path="small.yaml")
    assert tnb.Plan.from_yaml(session.model, (tmp_path / "small.yaml").read_text()) == session.plan


def test_configs_are_left_in_the_notebook(session: tnb.Session, notebook: dict[str, Any]) -> None:
    answer = export(session, "configs")
    assert "now has optimization_configs: for palettize" in answer["message"]
    namespace = notebook | {"mlmodel": session.model.mlmodel}
    exec(texts(answer)[0], namespace)  # noqa: S102 - that is what the text is for
    assert len(dequantized_weights(namespace["mlmodel"])) == 1
    assert "has a new optimization_configs" in export(session, "configs")["message"]


@pytest.mark.filterwarnings("ignore")
def test_torch_configs_are_left_in_the_notebook(session: tnb.Session, notebook: dict[str, Any]) -> None:
    session.plan = two_passes(session)
    answer = export(session, "torch")
    assert "PostTrainingPalettizer does 1" in answer["message"]
    assert "PostTrainingQuantizer does 1" in answer["message"]
    namespace = notebook | {"module": session.model.module}
    exec(texts(answer)[0], namespace)  # noqa: S102 - that is what the text is for
    assert notebook["torch_configs"].keys() >= {"PostTrainingPalettizer", "PostTrainingQuantizer"}


@pytest.mark.usefixtures("notebook")
def test_what_a_compressor_asks_of_the_module_is_said(session: tnb.Session) -> None:
    head = session.model.program.weights.name[-1]
    session.plan = tnb.Plan(session.model).set(head, tnb.LinearQuantize("uint8", mode="linear"))
    [text] = texts(export(session, "torch"))
    assert "# LayerwiseCompressor takes only modules whose layers feed each other in a row" in text


def test_a_package_is_compressed_verified_and_saved_with_progress(session: tnb.Session, tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []
    session.observe(lambda change: told.append(change["new"]), "progress")
    answer = export(session, "package", path="small.mlpackage")
    assert answer["ok"], answer["message"]
    saved = tmp_path / "small.mlpackage"
    assert answer["saved"] == [str(saved)]
    assert list(tmp_path.iterdir()) == [saved]
    assert session.plan.verify(tnb.load(saved, progress=False).mlmodel)["match"].all()
    report = answer["report"]
    assert report["ok"]
    assert report["matching"] == report["weights"] == len(session.model.weights)
    predicted = {name: size for name, size, _ in report["rows"]}
    actual = {name: size for name, _, size in report["rows"]}
    assert predicted["weight.bin"] == actual["weight.bin"] == session.estimate.weight_file_bytes
    assert predicted["whole package"] == session.estimate.size_bytes
    assert actual["whole package"] == sum(file.stat().st_size for file in saved.rglob("*") if file.is_file())
    done = [each["done"] for each in told]
    assert done == sorted(done)
    assert 0 <= done[0] < done[-1] <= 1
    stages = {each["stage"].partition(" ")[0] for each in told}
    assert stages >= {"Compressing", "Verifying", "Saving"}
    assert {each["id"] for each in told} == {answer["id"]}


@pytest.mark.parametrize(("what", "name"), [("python", "small.py"), ("package", "small.mlpackage")])
def test_what_is_there_is_replaced_only_when_that_is_asked_for(
    session: tnb.Session, tmp_path: Path, what: str, name: str
) -> None:
    (tmp_path / name).write_text("mine")
    answer = export(session, what, path=name)
    assert not answer["ok"]
    assert f"{name} exists already" in answer["message"]
    assert (tmp_path / name).read_text() == "mine"
    assert Path(answer["taken"]) == Path(name).with_name(name.replace("small", "small-2"))
    assert export(session, what, path=name, replace=True)["ok"]
    assert (tmp_path / name).is_dir() or (tmp_path / name).read_text() != "mine"


def test_of_several_files_none_is_written_where_one_is_taken(session: tnb.Session, tmp_path: Path) -> None:
    session.plan = two_passes(session)
    taken = tmp_path / "small-2-linear_quantize.yaml"
    taken.write_text("mine")
    assert not export(session, "coremltools", path="small.yaml")["ok"]
    assert list(tmp_path.iterdir()) == [taken]


@pytest.mark.parametrize(
    ("what", "path", "message"),
    [
        ("package", "small.zip", "saved as a .mlpackage, not as 'small.zip'"),
        ("package", "no/such/small", "folder no/such does not exist"),
        ("python", "small.txt", "saved as a .py"),
        ("coremltools", "no/small", "folder no does not exist"),
        ("package", "", "A compressed model needs a name"),
    ],
)
def test_mistakes_are_said_in_a_sentence_and_leave_nothing(
    session: tnb.Session, tmp_path: Path, what: str, path: str, message: str
) -> None:
    answer = export(session, what, path=path)
    assert not answer["ok"]
    assert message in answer["message"]
    assert not list(tmp_path.iterdir())


def test_a_package_has_no_torch_configs_and_a_plan_that_changes_nothing_no_configs(
    session: tnb.Session, notebook: dict[str, Any], tmp_path: Path
) -> None:
    session.plan = tnb.Plan(session.model)
    assert "changes nothing" in export(session, "configs")["message"]
    assert "changes nothing" in export(session, "torch")["message"]
    assert "changes nothing" in export(session, "coremltools", path="x")["message"]
    assert not notebook
    path = str(tmp_path / "model.mlpackage")
    session.model.mlmodel.save(path)
    loaded = tnb.Session(tnb.load(path, progress=False), DEVICE)
    assert session.program["from_torch"]
    assert not loaded.program["from_torch"]
    assert "not loaded from a torch module" in export(loaded, "torch")["message"]


def test_the_browser_is_answered_whatever_happens(session: tnb.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tnb.Plan, "compress", interrupted)
    assert export(session, "package", path="small")["message"] == "The kernel was interrupted. Nothing was saved."

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(tnb.Plan, "compress", broken)
    with pytest.raises(ZeroDivisionError):
        export(session, "package", path="small")
    assert not session.response["ok"]
    assert session.response["message"]


def test_int8_activations_are_exported_as_a_pass_of_their_own(
    session: tnb.Session, notebook: dict[str, Any], tmp_path: Path
) -> None:
    session.plan = session.plan.set("head", tnb.LinearQuantize("int8")).set_activations("head", "int8")
    assert "linear_quantize_activations and linear_quantize" in export(session, "configs")["message"]
    assert len(notebook["optimization_configs"]) == 2
    titles = [text["title"] for text in export(session, "coremltools")["texts"]]
    assert titles[0] == "1. for coremltools.optimize.coreml.linear_quantize_activations"
    answer = export(session, "package", path="small")
    assert not answer["ok"]
    assert "sample_data" in answer["message"]
    assert not list(tmp_path.iterdir())


def test_a_wrong_package_is_told_apart(session: tnb.Session) -> None:
    found = session.plan.verify(tnb.Plan(session.model).compress(progress=False))
    report = export_menu.report_of(session.plan, found)
    assert not report["ok"]
    assert report["matching"] < report["weights"]
    assert ["weight.bin", "Its size differs from the prediction."] in report["findings"]
