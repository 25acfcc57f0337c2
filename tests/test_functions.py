"""Packages of several functions: each alone, and what they share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

import talaria_nb as tnb
from talaria_nb.errors import LoadError
from talaria_nb.quiet import quiet

if TYPE_CHECKING:
    from pathlib import Path

PHONE = "iPhone 15 Pro"


class Adapted(nn.Module):
    """A head of its own behind a base that others share."""

    def __init__(self, base: nn.Module, width: int) -> None:
        super().__init__()
        self.base = base
        self.own = nn.Linear(64, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.own(torch.relu(self.base(x)))


@pytest.fixture(scope="module")
def two_functions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import coremltools as ct

    folder = tmp_path_factory.mktemp("functions")
    torch.manual_seed(0)
    base = nn.Linear(64, 64)
    together = ct.utils.MultiFunctionDescriptor()
    for name, width in (("narrow", 100), ("wide", 200)):
        path = folder / f"{name}.mlpackage"
        tnb.load(Adapted(base, width).eval(), torch.zeros(1, 64), progress=False).mlmodel.save(str(path))
        together.add_function(str(path), "main", name)
    together.default_function_name = "wide"
    with quiet(progress=False):
        ct.utils.save_multifunction(together, str(folder / "both.mlpackage"))
    return folder


def weight_file(path: Path) -> int:
    return (path / "Data" / "com.apple.CoreML" / "weights" / "weight.bin").stat().st_size


def test_functions_are_counted_alone_and_together(two_functions: Path) -> None:
    model = tnb.load(two_functions / "both.mlpackage", progress=False)
    sizes = model.functions["weight_file_bytes"]
    assert sizes["narrow"] == weight_file(two_functions / "narrow.mlpackage")
    assert sizes["wide"] == weight_file(two_functions / "wide.mlpackage")
    assert sizes["all together"] == weight_file(two_functions / "both.mlpackage")
    shared = model.functions["shared_bytes"]
    assert shared.nunique() == 1
    assert sizes["narrow"] + sizes["wide"] - sizes["all together"] == pytest.approx(shared["narrow"], abs=64 + 64)
    assert shared["narrow"] == (64 + 2 * 64 * 64) + (64 + 2 * 64)  # the base's weight and bias


@pytest.mark.parametrize(
    "scheme",
    [
        tnb.Palettize(4),
        tnb.LinearQuantize("uint8"),
        tnb.LinearQuantize("int4", "per_block", 16, "linear"),
        tnb.Prune(0.5) + tnb.Palettize(4, mode="uniform"),
    ],
    ids=lambda scheme: scheme.key,
)
def test_compressed_functions_are_counted_alone_and_together(
    two_functions: Path, tmp_path: Path, scheme: tnb.Scheme
) -> None:
    """Zero points of 64 channels are equal, and stored once only where there are several functions."""
    import coremltools as ct

    together = ct.utils.MultiFunctionDescriptor()
    alone = {}
    for name, base in (("narrow", scheme), ("wide", scheme), ("other", tnb.Palettize(2))):
        path = tmp_path / f"{name}.mlpackage"
        model = tnb.load(two_functions / "both.mlpackage", function=name if base == scheme else "wide", progress=False)
        plan = tnb.Plan(model).set("*own*", scheme).set("*base*", base)
        plan.compress(path, progress=False)
        together.add_function(str(path), "main", name)
        alone[name] = plan.estimate(PHONE).weight_file_bytes
        assert alone[name] == weight_file(path)
    together.default_function_name = "wide"
    both = tmp_path / "together.mlpackage"
    with quiet(progress=False):
        ct.utils.save_multifunction(together, str(both))
    sizes = tnb.load(both, progress=False).functions["weight_file_bytes"]
    assert {name: sizes[name] for name in alone} == alone
    assert sizes["all together"] == weight_file(both)


@pytest.mark.parametrize(("function", "width"), [("narrow", 100), ("wide", 200), (None, 200)])
def test_a_function_is_loaded_as_a_package_of_its_own(two_functions: Path, function: str | None, width: int) -> None:
    model = tnb.load(two_functions / "both.mlpackage", function=function, progress=False)
    assert [*model.program.weights.shape] == [(64, 64), (width, 64)]
    plan = tnb.Plan(model)
    alone = two_functions / f"{function or 'wide'}.mlpackage"
    assert plan.estimate(PHONE).weight_file_bytes == weight_file(alone)
    table = plan.set("*", tnb.LinearQuantize("int8")).verify(progress=False)
    assert table["match"].all()


def test_an_unknown_function_is_answered_with_those_there_are(two_functions: Path) -> None:
    with pytest.raises(LoadError, match=r"both has no function 'tall'; there is 'narrow', 'wide'\."):
        tnb.load(two_functions / "both.mlpackage", function="tall", progress=False)
    with pytest.raises(LoadError, match=r"narrow has no function 'tall'; there is 'main'\."):
        tnb.load(two_functions / "narrow.mlpackage", function="tall", progress=False)


def test_a_package_of_one_function_counts_it(two_functions: Path) -> None:
    model = tnb.load(two_functions / "narrow.mlpackage", progress=False)
    assert model.functions["weight_file_bytes"].tolist() == 2 * [weight_file(two_functions / "narrow.mlpackage")]
    assert model.functions["shared_bytes"].tolist() == [0, 0]
