"""Device files: every number has a source, names people know are found, and a broken file says where."""

from __future__ import annotations

import copy
import pickle
import shutil
from typing import TYPE_CHECKING, get_args

import pytest

import models
import talaria_nb as tnb
from talaria_nb.devices import FORMATS, UNIT_PARAMETERS, Certainty, chip_files, device, devices, read_chip
from talaria_nb.errors import DeviceError, TalariaError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

A15 = next(path for path in chip_files() if path.stem == "a15_5-core_gpu")


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
        ("iPhone XS", "A12"),
        ("iPhone 11", "A13"),
        ("iPhone 16", "A18"),
        ("iPhone 16 Pro", "A18 Pro"),
        ("iPhone 17", "A19"),
        ("iPhone 17 Pro", "A19 Pro"),
        ("iPad (9th generation)", "A13"),
        ("iPad Air (M1)", "M1"),
        ("MacBook Pro (M1 Max)", "M1 Max"),
        ("Mac Studio (M2 Ultra)", "M2 Ultra"),
        ("MacBook Air (M3)", "M3"),
        ("Mac mini (M4 Pro)", "M4 Pro"),
        ("iPad Pro (M5)", "M5"),
        ("m2 max", "M2 Max"),
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


@pytest.mark.parametrize("path", chip_files(), ids=lambda path: path.stem)
def test_every_number_says_how_it_is_known(path: Path) -> None:
    chip = read_chip(path)[0]
    for unit in chip.units.values():
        assert set(unit.provenance) == set(UNIT_PARAMETERS)
        for key, parameter in unit.provenance.items():
            assert parameter.value == getattr(unit, key)
            assert parameter.certainty in get_args(Certainty)
            assert len(parameter.source) >= 4
        assert unit.interval_low < 1 < unit.interval_high
        assert unit.streams <= set(FORMATS)
    assert all(parameter.certainty == "rated" for parameter in chip.rated.values())


def test_every_chip_of_the_families_has_a_file() -> None:
    phones = {"A12", "A13", "A14", "A15", "A16", "A17 Pro", "A18", "A18 Pro", "A19", "A19 Pro"}
    macs = {f"M{number}{size}" for number in (1, 2, 3, 4) for size in ("", " Pro", " Max")} | {"M5", "M5 Pro"}
    assert {read_chip(path)[0].chip for path in chip_files()} == phones | macs | {"M1 Ultra", "M2 Ultra"}


def test_borrowed_numbers_say_so_and_are_less_certain() -> None:
    measured, borrowed = device("iPhone 15 Pro").unit("all"), device("iPhone 16 Pro").unit("all")
    assert measured.provenance["launch_ms"].certainty == "fitted"
    assert borrowed.provenance["launch_ms"].certainty == "borrowed"
    assert "A17 Pro" in borrowed.provenance["launch_ms"].source
    assert borrowed.interval_high / borrowed.interval_low > measured.interval_high / measured.interval_low


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
    assert device("iPhone 13").compute_units == ("all", "cpuAndNeuralEngine", "cpuAndGPU", "cpuOnly")
    phone = device("iPhone XS")  # nothing is printed about the GPU of A12
    assert phone.compute_units == ("all", "cpuAndNeuralEngine", "cpuOnly")
    with pytest.raises(DeviceError, match="cpuAndGPU"):
        phone.unit("cpuAndGPU")
    with pytest.raises(DeviceError, match="Unknown compute unit 'gpu'"):
        phone.unit("gpu")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: text.replace('chip = "A15"', 'chip = "A15'), r"broken\.toml: is not TOML: .*line \d+"),
        (lambda text: text.replace('chip = "A15"\n', ""), r"broken\.toml, line 1: key 'chip' is missing"),
        (lambda text: text.replace('chip = "A15"', "chip = 15"), r"line 4: key 'chip' must be .* not 15"),
        (lambda text: text.replace("schema = 2", "schema = 3"), r"line 3: key 'schema' is 3"),
        (lambda text: text.replace("products = [", "product = ["), r"key 'products' is missing"),
        (lambda text: text.replace("schema = 2", 'schema = 2\ncolour = "red"'), r"key 'colour' is unknown"),
        (
            lambda text: text.replace("[neural_engine.launch_ms]", "[neural_engine.lunch_ms]"),
            r"line \d\d: key 'neural_engine.lunch_ms' is unknown. Did you mean 'neural_engine.launch_ms'\?",
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


def test_an_error_names_the_line_of_the_key(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    text = A15.read_text(encoding="utf-8")
    line = text.splitlines().index("[gpu.launch_ms]") + 1
    path.write_text(text.replace("[gpu.launch_ms]\nvalue = ", "[gpu.launch_ms]\nvalue = -"), encoding="utf-8")
    with pytest.raises(DeviceError, match=rf"mine\.toml, line {line + 1}: key 'gpu\.launch_ms\.value' must be"):
        read_chip(path)


def test_an_own_chip_may_be_like_another(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    text = """
schema = 2
chip = "A20"
products = ["iPhone 18"]
like = "A19"

[neural_engine.stream_gbps]
value = 60
certainty = "measured"
source = "my own stopwatch"
"""
    path.write_text(text, encoding="utf-8")
    mine, like = device(str(path)), device("A19")
    assert (mine.name, mine.chip) == ("iPhone 18", "A20")
    assert mine.unit("all").stream_gbps == 60
    assert mine.unit("all").compute_tflops == like.unit("all").compute_tflops
    assert mine.unit("cpuOnly") == like.unit("cpuOnly")
    path.write_text(text.replace("A19", "A91"), encoding="utf-8")
    with pytest.raises(DeviceError, match=r"line 5: key 'like' .* not 'A91'\. Did you mean"):
        device(path)


def test_a_chip_without_any_unit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('schema = 2\nchip = "A20"\nproducts = ["iPhone 18"]\n', encoding="utf-8")
    with pytest.raises(DeviceError, match="at least one of"):
        read_chip(path)


def test_a_device_file_that_is_absent_or_cannot_be_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"^There is no device file '.*absent.toml'.$"):
        device(tmp_path / "absent.toml")
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(DeviceError, match="cannot be read"):
        device(tmp_path / "folder.toml")


@pytest.mark.parametrize("name", ["iPhone 15 Pro", "M2 Max"])
def test_a_device_goes_to_another_process_as_it_is(name: str) -> None:
    found = device(name)
    for there in (pickle.loads(pickle.dumps(found)), copy.deepcopy(found)):  # noqa: S301 - our own
        assert there == found
        with pytest.raises(TypeError):
            there.units["cpu"] = None
    assert tnb.Plan(models.classifier()).estimate(there).device == name
