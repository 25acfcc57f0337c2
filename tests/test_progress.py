from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tqdm import tqdm

from talaria_nb import progress

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tqdm[Any]]]:
    made: list[tqdm[Any]] = []

    class Watched(tqdm):  # type: ignore[type-arg] - tqdm takes no type at run time
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            made.append(self)

    monkeypatch.setattr(progress, "tqdm", Watched)
    yield made
    assert all(each.disable for each in made), "a bar is still open"


def test_stages_move_the_bar_forward_and_never_back(bars: list[tqdm[Any]]) -> None:
    with progress.bar(shown=True):
        progress.stage("Decomposing")
        assert bars[0].n == progress.STAGES["Decomposing"]
        progress.stage("Exporting")
        assert bars[0].n == progress.STAGES["Decomposing"]


def test_a_bar_is_full_when_it_goes_however_that_is(bars: list[tqdm[Any]]) -> None:
    def load(*, interrupted: bool) -> None:
        with progress.bar(shown=True):
            progress.stage("Exporting")
            if interrupted:
                raise KeyboardInterrupt

    load(interrupted=False)
    with pytest.raises(KeyboardInterrupt):
        load(interrupted=True)
    assert [each.n for each in bars] == [100, 100]


def test_nothing_shows_where_nothing_was_asked_for(bars: list[tqdm[Any]]) -> None:
    with progress.bar(shown=False):
        progress.stage("Exporting")
    assert bars == []
