"""tnb.calibrate finds the device behind measurements, and says how sure it is then."""

from __future__ import annotations

import errno
import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING
from unittest import mock

import pytest
import torch
from torch import nn

import talaria_nb as tnb
from models import classifier
from talaria_nb.errors import DeviceError

if TYPE_CHECKING:
    from talaria_nb.devices import Device

PHONE = tnb.device("iPhone 15 Pro")


@cache
def convs(size: int) -> tnb.Plan:
    module = nn.Sequential(*(nn.Conv2d(64, 64, 3, padding=1) for _ in range(3))).eval()
    return tnb.Plan(tnb.load(module, torch.zeros(1, 64, size, size), progress=False))


@cache
def linears(tokens: int) -> tnb.Plan:
    module = nn.Sequential(*(nn.Linear(1024, 1024) for _ in range(4))).eval()
    return tnb.Plan(tnb.load(module, torch.zeros(1, tokens, 1024), progress=False))


def plans() -> list[tnb.Plan]:
    return [tnb.Plan(classifier()), convs(32), convs(256), linears(1), linears(512)]


def changed(device: Device, **factors: float) -> Device:
    """Return a device whose Neural Engine has some of its numbers multiplied."""
    unit = device.units["neural_engine"]
    other = replace(unit, **{name: getattr(unit, name) * factor for name, factor in factors.items()})
    return replace(device, units=MappingProxyType({**device.units, "neural_engine": other}))


def slower(factor: float) -> Device:
    rates = ("compute_tflops", "activation_gbps", "stream_gbps", "compressed_stream_gbps")
    times = ("dispatch_ms", "launch_ms", "product_launch_ms", "table_us")
    return changed(PHONE, **dict.fromkeys(rates, 1 / factor), **dict.fromkeys(times, factor))


def measured(device: Device, plans: list[tnb.Plan]) -> list[tuple[tnb.Plan, float, str]]:
    return [(plan, plan.estimate(device).latency_ms, "all") for plan in plans]


def width(device: Device) -> float:
    unit = device.unit("all")
    return math.log(unit.interval_high / unit.interval_low)


@pytest.mark.parametrize(
    ("real", "within"),
    [(slower(1.4), 0.08), (changed(PHONE, dispatch_ms=2.5), 0.1), (changed(PHONE, compute_tflops=0.7), 0.12)],
    ids=["all", "dispatch", "compute"],
)
def test_the_device_behind_the_measurements_is_found(real: Device, within: float) -> None:
    rows = measured(real, plans())
    found = tnb.calibrate("iPhone 15 Pro", rows)
    for plan, latency_ms, _ in rows:
        assert plan.estimate(found).latency_ms == pytest.approx(latency_ms, rel=within)
    errors = [abs(math.log(plan.estimate(PHONE).latency_ms / latency_ms)) for plan, latency_ms, _ in rows]
    assert max(errors) > 1.5 * within, "there was something to find"
    unseen = linears(64)
    assert unseen.estimate(found).latency_ms == pytest.approx(unseen.estimate(real).latency_ms, rel=2 * within)


def test_one_row_moves_the_overall_speed_alone() -> None:
    found = tnb.calibrate(PHONE, measured(slower(1.3), [convs(256)]))
    before, after = PHONE.unit("all"), found.unit("all")
    factor = after.dispatch_ms / before.dispatch_ms
    assert 1.1 < factor <= 1.31
    for rate in ("compute_tflops", "activation_gbps", "stream_gbps", "compressed_stream_gbps"):
        assert getattr(before, rate) / getattr(after, rate) == pytest.approx(factor)
    assert found.units["cpu"] is PHONE.units["cpu"], "of which nothing was measured"
    assert after.provenance["compute_tflops"].certainty == "measured by you"
    assert after.provenance["compute_tflops"].value == after.compute_tflops
    assert after.provenance["depthwise_efficiency"].certainty == "fitted"


def test_the_interval_narrows_with_rows_that_agree_and_widens_with_others() -> None:
    rows = measured(slower(1.2), plans())
    one, many = tnb.calibrate(PHONE, rows[:1]), tnb.calibrate(PHONE, rows)
    assert width(many) < width(one) <= width(PHONE)
    noisy = [(plan, ms * (3.0 if row % 2 else 1 / 3), unit) for row, (plan, ms, unit) in enumerate(rows)]
    assert width(tnb.calibrate(PHONE, noisy)) > width(PHONE)


def test_a_calibrated_device_is_kept_in_a_file(tmp_path: Path) -> None:
    found = tnb.calibrate(PHONE, measured(slower(1.3), [convs(32)]))
    found.to_toml(tmp_path / "mine.toml")
    again = tnb.device(tmp_path / "mine.toml")
    assert again == found
    assert tnb.Plan(classifier()).estimate(again) == tnb.Plan(classifier()).estimate(found)
    for name in tnb.devices():
        tnb.device(name).to_toml(tmp_path / "other.toml")
        assert tnb.device(tmp_path / "other.toml") == tnb.device(name)


def test_a_device_file_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.toml"
    PHONE.to_toml(path)
    before = path.read_bytes()
    with pytest.raises(tnb.TalariaError, match=r"A device is saved as a .toml, not as 'mine'"):
        PHONE.to_toml(tmp_path / "mine")
    with pytest.raises(tnb.TalariaError, match=r"nowhere/mine.toml could not be saved: No such file"):
        PHONE.to_toml(tmp_path / "nowhere" / "mine.toml")
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(Path, "write_text", mock.Mock(side_effect=full))
    with pytest.raises(tnb.TalariaError, match=r"mine.toml could not be saved: the disk is full"):
        PHONE.to_toml(path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["mine.toml"]


def test_a_csv_is_as_good_as_rows(tmp_path: Path) -> None:
    classifier().mlmodel.save(str(tmp_path / "small.mlpackage"))
    (tmp_path / "measured.csv").write_text(
        "model,compute_unit,latency_ms\nsmall.mlpackage,all,0.5\nsmall.mlpackage,cpuOnly,30\n", encoding="utf-8"
    )
    rows = [(tnb.Plan(classifier()), 0.5, "all"), (tnb.Plan(classifier()), 30.0, "cpuOnly")]
    from_file, from_rows = tnb.calibrate(PHONE, tmp_path / "measured.csv"), tnb.calibrate(PHONE, rows)
    for unit in ("neural_engine", "cpu"):
        expected = from_rows.units[unit].compute_tflops
        assert from_file.units[unit].compute_tflops == pytest.approx(expected, rel=1e-3)
        assert expected != PHONE.units[unit].compute_tflops


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"own\.csv, line 1: the columns must be model \(or path\), latency_ms .*, not none\."),
        ("model,ms\na,1\n", r"own\.csv, line 1: the columns must be .*, not model, ms\."),
        ("model,latency_ms\n", r"nothing to calibrate with"),
        ("path,latency_ms\na.mlpackage,fast\n", r"own\.csv, line 2: the latency must be a number .*, not 'fast'"),
        ("path,latency_ms\na.mlpackage,-1\n", r"own\.csv, line 2: the latency must be .* above 0, not '-1'"),
        ("path,latency_ms\na.mlpackage\n", r"own\.csv, line 2: the latency must be a number .*, not None"),
        (
            "path,latency_ms,compute_unit\na.mlpackage,1,ane\n",
            r"own\.csv, line 2: unknown compute unit 'ane'; use one of",
        ),
        ("path,latency_ms\n\na.mlpackage,1\n", r"own\.csv, line 3: .*a\.mlpackage"),
    ],
)
def test_a_csv_that_cannot_be_says_the_line(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "own.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DeviceError, match=says):
        tnb.calibrate(PHONE, tmp_path / "own.csv")


def test_rows_that_cannot_be_are_refused() -> None:
    plan = tnb.Plan(classifier())
    for rows, says in (
        ([], "nothing to calibrate with"),
        ([(plan, 1.0)], r"Measurement 1 must be \(model or plan, latency in ms, compute unit\)"),
        ([(plan, 1.0, "all"), ("model", 1.0, "all")], "Measurement 2 must begin with what tnb.load"),
        ([(plan, float("nan"), "all")], "Measurement 1: the latency must be a number"),
        ([(plan, 1.0, "gpu")], "Measurement 1: unknown compute unit 'gpu'"),
    ):
        with pytest.raises(DeviceError, match=says):
            tnb.calibrate(PHONE, rows)  # type: ignore[arg-type]
    with pytest.raises(DeviceError, match="Measurement 1: Nothing is known about 'cpuAndGPU' on iPhone XS"):
        tnb.calibrate("iPhone XS", [(plan, 1.0, "cpuAndGPU")])
