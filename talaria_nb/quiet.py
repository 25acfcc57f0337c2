"""Keep the chatter of coremltools and torch off the user's screen."""

from __future__ import annotations

import logging
import sys
import warnings
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from packaging.version import Version
from tqdm import tqdm

from talaria_nb import progress as progress_bar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@contextmanager
def quiet(*, progress: bool) -> Iterator[None]:
    """Silence coremltools' and torch's warnings about their own insides.

    `progress` says whether their progress bars show: as part of the bar of `talaria_nb.progress` where there is one.
    """
    logger = logging.getLogger("coremltools")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), _progress_bars(shown=progress):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def _progress_bars(*, shown: bool) -> Iterator[None]:
    """Let the bars of libraries vanish when they are full, or not come up at all, which they offer no way to."""
    original = tqdm.__init__

    def tidy(self: tqdm[Any], iterable: Iterable[Any] | None = None, *args: Any, **kwargs: Any) -> None:
        followed = progress_bar.follow(kwargs.get("desc") or "", iterable or ()) if shown else None
        kwargs |= {"leave": False, "disable": not shown or followed is not None}
        original(self, iterable if followed is None else followed, *args, **kwargs)

    tqdm.__init__ = tidy
    try:
        yield
    finally:
        tqdm.__init__ = original


@contextmanager
def _hidden(libraries: Iterable[str]) -> Iterator[None]:
    """Let no library that is not there yet be imported; afterwards they can be as ever."""
    hidden = [name for name in libraries if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None is how Python says so
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def _unused() -> list[str]:
    """Return libraries that coremltools imports only to see that they are there, which takes two seconds."""
    refused = Version(version("scikit-learn")) > Version("1.5.1")  # coremltools 9, `_SKLEARN_MAX_VERSION`
    # It uses transformers in its own tests only.
    return ["transformers", *(["sklearn"] if refused else [])]


with quiet(progress=True), _hidden(_unused()):
    # On Linux coremltools warns at import that it cannot run models, and of every library newer than itself.
    import coremltools  # noqa: F401
