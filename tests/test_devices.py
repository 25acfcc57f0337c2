"""Device files: every number has a source, names people know are found, and a broken file says where."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, get_args

import pytest

from talaria_nb.devices import UNIT_PARAMETERS, Certainty, chip_files, device, devices, read_chip
from talaria_nb.errors import DeviceError, TalariaError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

A15 = next(path for path in chip_files() if path.stem == "a15")


@pytest.mark.parametrize(
    ("name", "chip"),
    [
        ("iPhone 12", "A14"),
        ("iPhone 13", "A15"),
        ("iPhone 13 Pro", "A15"),
        ("iPhone 14", "A15"),
        ("iPhone 14 Pro", "A16"),
        ("iPhone 15", "A16"),
        ("iPhone 15 Pro", "A17 Pro"),
        ("iphone 15  PRO max", "A17 Pro"),
    ],
)
def test_products_have_the_chips_that_they_have(name: str, chip: str) -> None:
    assert device(name).chip == chip


def test_devices_are_listed_once_oldest_first() -> None:
    names = devices()
    assert len(names) == len(set(names))
    assert names.index("iPhone 12") < names.index("iPhone 13") < names.index("iPhone 14 Pro")
    assert names.index("iPhone 14 Pro") < names.index("iPhone 15 Pro")
    assert all(device(name).name == name for name in names)


def test_unknown_device_names_the_nearest() -> None:
    with pytest.raises(DeviceError, match=r"Unknown device 'iPhone 14 Por'. Did you mean 'iPhone 14 Pro'\?"):
        device("iPhone 14 Por")
    with pytest.raises(TalariaError, match=r"tnb\.devices\(\)"):
        device("toaster")
    with pytest.raises(DeviceError, match="None"):
        device(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", devices())
def test_every_number_says_how_it_is_known(name: str) -> None:
    unit = device(name).unit("all")
    assert set(unit.provenance) == set(UNIT_PARAMETERS)
    for key, parameter in unit.provenance.items():
        assert parameter.value == getattr(unit, key)
        assert parameter.certainty in get_args(Certainty)
        assert len(parameter.source) > 10
    assert unit.interval_low < 1 < unit.interval_high


def test_newer_chips_compute_faster() -> None:
    rates = [
        device(name).unit("all").compute_tflops for name in ("iPhone 12", "iPhone 13", "iPhone 14 Pro", "iPhone 15 Pro")
    ]
    assert rates == sorted(rates)


def test_chips_with_few_rows_are_less_certain() -> None:
    def width(name: str) -> float:
        unit = device(name).unit("all")
        return unit.interval_high / unit.interval_low

    assert width("iPhone 15 Pro") > width("iPhone 13")


def test_only_known_compute_units_are_offered() -> None:
    phone = device("iPhone 13")
    assert phone.compute_units == ("all", "cpuAndNeuralEngine")
    with pytest.raises(DeviceError, match="cpuOnly"):
        phone.unit("cpuOnly")
    with pytest.raises(DeviceError, match="Unknown compute unit 'gpu'"):
        phone.unit("gpu")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: text.replace('chip = "A15"', 'chip = "A15'), r"broken\.toml: is not TOML: .*line \d+"),
        (lambda text: text.replace('chip = "A15"\n', ""), r"broken\.toml: key 'chip' is missing"),
        (lambda text: text.replace('chip = "A15"', "chip = 15"), r"key 'chip' must be .* not 15"),
        (lambda text: text.replace("schema = 1", "schema = 2"), r"key 'schema' is 2"),
        (lambda text: text.replace("products = [", "product = ["), r"key 'products' is missing"),
        (lambda text: text.replace("schema = 1", 'schema = 1\ncolour = "red"'), r"key 'colour' is unknown"),
        (
            lambda text: text.replace("[neural_engine.launch_ms]", "[neural_engine.lunch_ms]"),
            r"key 'neural_engine.lunch_ms' is unknown. Did you mean 'neural_engine.launch_ms'\?",
        ),
        (
            lambda text: text.replace("[neural_engine.launch_ms]\nvalue", "[neural_engine.launch_ms]\nvalu"),
            r"key 'neural_engine.launch_ms.value' is missing",
        ),
        (
            lambda text: text.replace('certainty = "fitted"', 'certainty = "sure"', 1),
            r"certainty' is 'sure', not one of",
        ),
        (
            lambda text: text + "\n[neural_engine.table_us]\nvalue = -1\ncertainty='assumed'\nsource='me'\n",
            r"at least 0",
        ),
        (
            lambda text: text + "\n[neural_engine.table_us]\nvalue = true\ncertainty='assumed'\nsource='me'\n",
            r"not True",
        ),
        (lambda text: text + "\n[neural_engine.table_us]\nvalue = nan\ncertainty='assumed'\nsource='me'\n", r"not nan"),
        (lambda text: text + "\n[neural_engine.channel_half]\nvalue = 1\ncertainty='assumed'\nsource=' '\n", r"source"),
        (lambda text: text + "\n[neural_engine.launch_ms]\n", r"is not TOML: .*line"),
    ],
)
def test_a_broken_file_names_itself_and_the_key(tmp_path: Path, change: Callable[[str], str], says: str) -> None:
    path = tmp_path / "broken.toml"
    text = A15.read_text(encoding="utf-8")
    assert change(text) != text
    path.write_text(change(text), encoding="utf-8")
    with pytest.raises(DeviceError, match=says):
        read_chip(path)


def test_an_own_file_may_override_what_all_chips_share(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    shutil.copy(A15, path)
    with path.open("a", encoding="utf-8") as file:
        file.write("\n[neural_engine.table_us]\nvalue = 0.5\ncertainty = 'measured'\nsource = 'my own stopwatch'\n")
    unit = read_chip(path)[0].unit("all")
    assert unit.table_us == 0.5
    assert unit.provenance["table_us"].certainty == "measured"
