"""One progress bar for all that load() or compress() does, whatever stages it goes through; bars of steps that count.

A stage announces itself with `stage`, wherever it lies. While coremltools converts, its own bars move this one instead.
Whoever shows progress in another way asks to be `told`.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from io import StringIO
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeAlias

from tqdm import tqdm as text_bar
from tqdm.auto import tqdm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

STAGES: Mapping[str, int] = {
    "Opening the package": 0,
    "Compressing": 1,
    "Parsing the program": 20,
    "Exporting": 0,
    "Decomposing": 25,
    "Repairing": 40,
    "Tracing": 40,
    "Translating": 45,
    "Optimizing": 55,
    "Writing the package": 85,
    "Reading the program": 95,
}
"""Stage → how much of 100 is done when it begins; roughly the times of the models in `tests/benchmarks`."""

_LIBRARY_BARS: Mapping[str, str] = {
    "Converting PyTorch Frontend": "Translating",
    "Running compression pass": "Compressing",
    "Running MIL default": "Optimizing",
    "Running MIL backend": "Writing the package",
}
"""How the title of a bar of coremltools starts → the stage that it is."""

_AFTER: Mapping[str, str] = {"Compressing": "Optimizing"}
"""Stage → the one that follows, where that is not the next of `STAGES`."""

Listener: TypeAlias = "Callable[[str, float], None]"

_current: ContextVar[tqdm[Any] | None] = ContextVar("current", default=None)
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


class _Told(text_bar):  # type: ignore[misc]  # tqdm has no types
    """A bar that tells a function how it would look, as often as it would be drawn."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        super().__init__(total=100, leave=False, miniters=0, file=StringIO())

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        del pos
        if msg is None:  # else the bar is wiped away
            self._listener(" ".join(filter(None, (self.desc, self.postfix))), self.n / self.total)


@contextmanager
def told(listener: Listener) -> Iterator[None]:
    """Tell a function of the stage and of how much is done, 0 to 1, in place of each bar that shows inside."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def counting(title: str, total: int, done: int = 0, *, shown: bool) -> Iterator[Callable[[], object]]:
    """Show how many of some steps are done, with the time left, and give what is to be called after each.

    Parameters
    ----------
    title
        What the bar says.
    total, done
        How many steps there are, and how many of them were done before.
    shown
        Whether to show a bar; who asked to be `told` is told in any case.
    """
    listener = _listener.get()
    if listener is None:
        with tqdm(total=total, initial=done, desc=title, unit="trial", disable=not shown) as shows:
            yield shows.update
        return
    begin, now = monotonic(), done

    def step() -> None:
        nonlocal now
        now += 1
        left = (monotonic() - begin) / (now - done) * (total - now)
        listener(f"{title}, {text_bar.format_interval(left)} left", now / total)

    listener(title, done / total)
    yield step


@contextmanager
def bar(*, shown: bool) -> Iterator[None]:
    """Show a bar while what is inside runs; it is gone afterwards, however that ends."""
    if not shown:
        yield
        return
    with _bar() as shows:
        token = _current.set(shows)
        try:
            yield
        finally:
            _current.reset(token)
            _advance(shows, shows.total)  # in a notebook, a bar that is not full stays, in red


def _bar() -> tqdm[Any]:
    listener = _listener.get()
    if listener is not None:
        return _Told(listener)
    return tqdm(total=100, leave=False, miniters=0, bar_format="{desc}: {bar}| {elapsed}{postfix}")


def stage(name: str) -> None:
    """Say which of `STAGES` begins; nothing happens where no bar is shown."""
    shows = _current.get()
    if shows is not None:
        shows.set_description_str(name, refresh=False)
        shows.set_postfix_str("", refresh=False)
        _advance(shows, STAGES[name])
        shows.refresh()


def follow(title: str, steps: Iterable[Any]) -> Iterable[Any] | None:
    """Return the steps of a library's bar so that they move the current bar; None where none is shown."""
    shows = _current.get()
    if shows is None:
        return None
    name = next((ours for start, ours in _LIBRARY_BARS.items() if title.startswith(start)), None)
    return steps if name is None else _followed(shows, name, list(steps))


def _followed(shows: tqdm[Any], name: str, steps: list[Any]) -> Iterator[Any]:
    stage(name)
    start = STAGES[name]
    end = STAGES[_AFTER[name]] if name in _AFTER else min(other for other in STAGES.values() if other > start)
    for number, step in enumerate(steps):
        # a pass of coremltools by its name, or the constant that is compressed
        shows.set_postfix_str(str(getattr(step, "name", step)).rpartition(":")[2], refresh=False)
        _advance(shows, start + (end - start) * number / len(steps))
        yield step


def _advance(shows: tqdm[Any], done: float) -> None:
    """Move forward, never back, though stages may come twice."""
    shows.update(max(0, done - shows.n))
