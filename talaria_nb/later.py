"""Later: does something once things have been quiet for a moment."""

from __future__ import annotations

import asyncio
import atexit
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Later:
    """Calls a function a moment after the last time it was asked to, on the loop that is running then.

    Without a loop, as in a script, it is called by `now`, or when the interpreter ends if `at_exit`.

    Parameters
    ----------
    function
        What to do. It must hold nothing that should be freed before `stop`.
    quiet_s
        How long nothing more may be asked, seconds.
    at_exit
        Whether what is not done yet is done when the interpreter ends.
    """

    def __init__(self, function: Callable[[], None], quiet_s: float = 1.0, *, at_exit: bool = True) -> None:
        self._function = function
        self._quiet_s = quiet_s
        self._is_asked = False
        self._timer: asyncio.TimerHandle | None = None
        if at_exit:
            atexit.register(self.now)

    def ask(self) -> None:
        """Have it done later."""
        self._is_asked = True
        if self._timer is not None:
            self._timer.cancel()
        try:
            self._timer = asyncio.get_running_loop().call_later(self._quiet_s, self.now)
        except RuntimeError:  # no loop
            self._timer = None

    def now(self) -> None:
        """Do what was asked for and is not done yet."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._is_asked:
            self._is_asked = False
            self._function()

    def stop(self) -> None:
        """Do what is not done yet, and nothing from now on."""
        self.now()
        atexit.unregister(self.now)
