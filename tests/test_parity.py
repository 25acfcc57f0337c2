"""Python says what the shared fixtures say; `js/test` checks the same of TypeScript."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest

import make_fixtures

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROCESSORS = 1e-14
"""Relative; the browser is held to 1e-9 of the same numbers."""


@pytest.mark.parametrize("file", ["estimates.json", "history.json"])
def test_code_still_says_what_the_fixture_says(file: str) -> None:
    written = json.loads((make_fixtures.FIXTURES / file).read_text(encoding="utf-8"))
    assert list(_differences(json.loads(json.dumps(make_fixtures.build()[file])), written)) == []


def _differences(said: Any, written: Any, path: str = "") -> Iterator[str]:
    """Where two values differ, floats by more than what powers do from one processor to another."""
    if isinstance(said, dict) and isinstance(written, dict) and said.keys() == written.keys():
        for key in said:
            yield from _differences(said[key], written[key], f"{path}/{key}")
    elif isinstance(said, list) and isinstance(written, list) and len(said) == len(written):
        for place, pair in enumerate(zip(said, written, strict=True)):
            yield from _differences(*pair, f"{path}/{place}")
    elif isinstance(said, float) and isinstance(written, float):
        if not math.isclose(said, written, rel_tol=_PROCESSORS):
            yield f"{path}: {said} is not {written}"
    elif type(said) is not type(written) or said != written:
        yield f"{path}: {said} is not {written}"
