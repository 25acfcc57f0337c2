"""The command line: what it prints, where, and with which exit status."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import talaria_nb as tnb
from models import classifier
from talaria_nb import cli

ROOT = Path(__file__).parents[1]
PHONE = "iPhone 15 Pro"

MAKER = """
import torch

def make():
    print("loading, says the module")
    return torch.nn.Linear(64, 64).eval(), torch.zeros(1, 64)

def nothing():
    return None
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("package") / "small.mlpackage"
    classifier().mlmodel.save(str(path))
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    status = cli.main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> dict[str, Any]:
    status, out, err = run(capsys, "estimate", *arguments, "--device", PHONE, "--json")
    assert (status, err) == (0, "")
    found: dict[str, Any] = json.loads(out)
    return found


def test_a_process_prints_its_result_and_nothing_else(package: Path) -> None:
    command = [sys.executable, "-m", "talaria_nb.cli", "estimate", package, "--device", PHONE, "--json"]
    gate = subprocess.run([*command, "--max-size", "10kB"], capture_output=True, text=True, check=False, cwd=ROOT)
    assert gate.returncode == 1, gate.stderr
    found = json.loads(gate.stdout)
    assert found["size_bytes"] > 10_000
    [sentence] = gate.stderr.splitlines()
    assert sentence.startswith("talaria-nb: over budget: size is ")
    assert sentence.endswith("more than 10,000 bytes")
    assert f"{found['size_bytes'] - 10_000:,} bytes" in sentence


def test_the_installed_command_is_this_one() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert scripts == {"talaria-nb": "talaria_nb.cli:main"}


def test_json_is_the_estimate_with_units_in_its_keys(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json(capsys, package)
    estimate = tnb.Plan(tnb.load(package, progress=False)).estimate(PHONE)
    for name in ("size_bytes", "weight_file_bytes", "bits_per_weight", "latency_ms", "throughput_per_s", "batch"):
        assert found[name] == pytest.approx(getattr(estimate, name))
    assert found["latency_interval_ms"] == pytest.approx(list(estimate.latency_interval))
    assert (found["device"], found["chip"], found["compute_unit"]) == (PHONE, "A17 Pro", "all")
    assert found["certainty"]["latency_ms"] == "estimated"
    assert as_json(capsys, package, "--batch", "8")["throughput_per_s"] > found["throughput_per_s"]


def test_a_plan_is_priced(package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = tnb.Plan(tnb.load(package, progress=False)).set("*", tnb.Palettize(4))
    file = tmp_path / "plan.yaml"
    file.write_text(plan.to_yaml(), encoding="utf-8")
    small, dense = as_json(capsys, package, "--plan", file), as_json(capsys, package)
    assert small["bits_per_weight"] == pytest.approx(plan.estimate(PHONE).bits_per_weight)
    assert small["bits_per_weight"] < 0.5 * dense["bits_per_weight"]


def test_the_table_says_how_sure_each_number_is(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("estimate", package, "--device", PHONE, "--max-size", "1MB", "--max-latency", "1s", "--max-bits", "17")
    status, out, err = run(capsys, *arguments)
    assert (status, err) == (0, "")
    lines = {line.split("  ")[0]: line for line in out.splitlines()}
    assert lines["weight.bin"].endswith("exact")
    assert "80 % interval" in lines["latency"]
    assert out.count("kept") == 3
    estimate = tnb.Plan(tnb.load(package, progress=False)).estimate(PHONE, batch=8)
    _, out, _ = run(capsys, "estimate", package, "--device", PHONE, "--batch", "8")
    assert f"{estimate.throughput_per_s:,.1f} a second" in out


@pytest.mark.parametrize(
    ("limit", "name"),
    [(("--max-latency", "1us"), "latency"), (("--max-bits", "4"), "weights"), (("--max-size", "1 KiB"), "size")],
)
def test_every_budget_is_a_gate(
    package: Path, capsys: pytest.CaptureFixture[str], limit: tuple[str, str], name: str
) -> None:
    status, out, err = run(capsys, "estimate", package, "--device", PHONE, *limit)
    assert status == 1
    assert f"over budget: {name} is" in err
    assert "over" in out


def test_what_a_function_makes_is_priced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "maker_of_models.py").write_text(MAKER, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    status, out, err = run(capsys, "estimate", "maker_of_models:make", "--device", PHONE, "--json")
    assert status == 0
    assert json.loads(out)["model"] == "Linear"
    assert err == "loading, says the module\n"
    for source, says in (
        ("maker_of_models:nothing", "must return (module, example_inputs), not a value of type NoneType"),
        ("maker_of_models:none", "gave no model: AttributeError"),
        ("no_such_module:make", "gave no model: ModuleNotFoundError"),
    ):
        status, out, err = run(capsys, "estimate", source, "--device", PHONE)
        assert (status, out) == (2, "")
        assert says in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nowhere.mlpackage",), "nowhere.mlpackage"),
        (("nowhere.mlpackage", "--device", "iPhone 15 Por"), "Did you mean 'iPhone 15 Pro'?"),
        (("nowhere.mlpackage", "--compute-unit", "cpuAndGPU", "--device", "A12"), "Nothing is known about 'cpuAndGPU'"),
        (("{package}", "--plan", "nowhere.yaml"), "The plan nowhere.yaml cannot be read"),
        (("{package}", "--plan", "{package}/Manifest.json"), "This is not a plan of talaria-nb"),
        (("{package}", "--batch", "0"), "A batch must be a whole number of at least 1, not 0."),
    ],
)
def test_bad_input_is_one_sentence(
    package: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], says: str
) -> None:
    given = [argument.format(package=package) for argument in arguments]
    status, out, err = run(capsys, "estimate", "--device", PHONE, *given)
    assert (status, out) == (2, "")
    assert says in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("given", [("--max-size", "4 potatoes"), ("--max-latency", "5"), ("--max-bits", "four")])
def test_limits_need_units(capsys: pytest.CaptureFixture[str], given: tuple[str, str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["estimate", "any.mlpackage", "--device", PHONE, *given])
    assert stopped.value.code == 2
    assert "is not a number with a unit" in capsys.readouterr().err


def test_devices_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "devices")
    assert status == 0
    assert [line.split("  ")[0].strip() for line in out.splitlines()] == tnb.devices()
    _, out, _ = run(capsys, "devices", "--json")
    assert {"name": PHONE, "chip": "A17 Pro", "compute_units": list(tnb.device(PHONE).compute_units)} in json.loads(out)
