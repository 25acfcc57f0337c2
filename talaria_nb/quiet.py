"""Keep the chatter of coremltools and torch off the user's screen."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def quiet(*, progress: bool) -> Iterator[None]:
    """Silence warnings about coremltools' and torch's own insides, and without `progress` their progress bars too."""
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
    """Switch off tqdm where a library offers no way to."""
    if shown:
        yield
        return
    original = tqdm.__init__

    def silent(self: tqdm[Any], *args: Any, **kwargs: Any) -> None:
        original(self, *args, **{**kwargs, "disable": True})

    tqdm.__init__ = silent
    try:
        yield
    finally:
        tqdm.__init__ = original


with quiet(progress=True):
    # On Linux coremltools warns at import that it cannot run models, and of every library newer than itself.
    import coremltools  # noqa: F401
