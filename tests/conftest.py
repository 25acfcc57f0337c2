"""What every test file shares."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import platformdirs
import pytest
import torch
from hypothesis import settings

import talaria_nb.quiet  # noqa: F401 - before any test: it imports coremltools without its warnings
import vision  # noqa: F401 - it finds timm

if TYPE_CHECKING:
    from collections.abc import Iterator

# A slow machine is no wrong result.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture(scope="session", autouse=True)
def cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep explorations and sensitivities out of the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(platformdirs, "user_cache_dir", lambda *_arguments, **_options: str(folder))
        yield


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Let workers take one thread each, which they do as torch does here: more than cores would wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def no_loop() -> Iterator[None]:
    """Hide the loop that a browser of another file's tests keeps running in this thread; a script has none."""
    running = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    yield
    asyncio._set_running_loop(running)
