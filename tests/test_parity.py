"""Python says what the shared fixtures say; `js/test` checks the same of TypeScript."""

from __future__ import annotations

import json

import pytest

import make_fixtures


@pytest.mark.parametrize("file", ["estimates.json", "history.json"])
def test_code_still_says_what_the_fixture_says(file: str) -> None:
    written = json.loads((make_fixtures.FIXTURES / file).read_text(encoding="utf-8"))
    assert json.loads(json.dumps(make_fixtures.build()[file])) == written
