"""Random plans on the way to a package and back: what is read there is what was planned."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import talaria_nb as tnb
from packages import dequantized_weights
from talaria_nb.schemes import LinearQuantize, Palettize, Scheme
from talaria_nb.subjects import Subject, scale_counts, subject, table_counts, unique_nbits
from test_sizes import CASES, PHONE, loaded, random_plan

if TYPE_CHECKING:
    from talaria_nb.program import Program

WEIGHT_FILE = Path("Data/com.apple.CoreML/weights/weight.bin")


def as_stored(scheme: Scheme, weight: Subject) -> list[object]:
    """Leave out of a scheme what a package does not tell.

    That is how its tables were found, which values were pruned, and of a palette of integers with one scale, whether
    the integers or the palette came first.
    """
    found: list[object] = []
    for each in sorted(scheme.parts, key=lambda part: type(part).__name__) if len(scheme.parts) > 1 else scheme.parts:
        if isinstance(each, Palettize):
            nbits = unique_nbits(scheme, weight) if each.nbits is None else each.nbits
            found.append((nbits, prod(table_counts(each, weight)), each.cluster_dim))
        elif isinstance(each, LinearQuantize):
            # Zero points that all lie in the middle may have come out so by chance.
            told = weight.ios >= 18 and each.signed
            found.append((each.dtype, prod(scale_counts(each, weight)), each.mode if told else None))
        else:
            found.append(type(each))
    return found


def by_reader(program: Program) -> dict[tuple[str, str, int], int]:
    """Find the row of each weight by the ops that read it: its name says how it is stored."""
    rows = {}
    for row, readers in enumerate(program.weights.readers):
        for reader in readers:
            for place, (parameter, value) in enumerate(program.ops.inputs[reader]):
                if value == program.weights.value[row]:
                    rows[program.ops.name[reader], parameter, place] = row
    return rows


def check(seed: int, folder: Path) -> None:
    model = loaded(*CASES[seed % len(CASES)])
    plan = random_plan(model, np.random.default_rng(1000 + seed))
    compressed = plan.compress(folder / "small.mlpackage", progress=False)
    again = tnb.load(folder / "small.mlpackage", progress=False)
    read = tnb.Plan(again)

    program, read_program = model.program, again.program
    planned, found = by_reader(program), by_reader(read_program)
    assert planned.keys() == found.keys()
    bytes_planned, bytes_found = (each.weight_table()[["data_bytes", "overhead_bytes"]] for each in (plan, read))
    values = dequantized_weights(compressed)
    verdict = plan.verify(folder / "small.mlpackage").attrs["verdict"]
    assert "weight.bin are exactly as predicted" in verdict, verdict
    for place, row in planned.items():
        scheme, other = plan.scheme_of_weight[row], read.scheme_of_weight[found[place]]
        name, read_name = program.weights.name[row], read_program.weights.name[found[place]]
        assert as_stored(other, subject(read_program, found[place])) == as_stored(scheme, subject(program, row)), name
        assert [*bytes_found.iloc[found[place]]] == [*bytes_planned.iloc[row]], name
        if name in values:
            np.testing.assert_array_equal(again.weight_value(read_name), values[name])
    before, after = plan.estimate(PHONE), read.estimate(PHONE)
    assert after.weight_file_bytes == before.weight_file_bytes
    assert after.bits_per_weight == pytest.approx(before.bits_per_weight)

    once_more = read.compress(folder / "again.mlpackage", progress=False)
    assert (folder / "again.mlpackage" / WEIGHT_FILE).read_bytes() == (
        folder / "small.mlpackage" / WEIGHT_FILE
    ).read_bytes()
    verified = read.verify(once_more)
    assert "exactly as predicted" in verified.attrs["verdict"]
    assert np.isinf(verified["sqnr_db"].drop("weight.bin")).all()


@pytest.mark.parametrize("seed", range(8))
def test_a_compressed_package_is_read_as_it_was_planned(seed: int, tmp_path: Path) -> None:
    check(seed, tmp_path)


@pytest.mark.sizes
@pytest.mark.parametrize("seed", range(8, 72))
def test_many_compressed_packages_are_read_as_they_were_planned(seed: int, tmp_path: Path) -> None:
    check(seed, tmp_path)
