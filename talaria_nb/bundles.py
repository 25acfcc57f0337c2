"""Where the built front end lies. `npm run build` in `js/` writes it; wheels carry it."""

from __future__ import annotations

from pathlib import Path

STATIC = Path(__file__).parent / "static"
SESSION_BUNDLE = STATIC / "session.js"
"""The store and every view, loaded once a session."""
VIEW_BUNDLE = STATIC / "view.js"
"""The few lines that let a view draw with its session's code."""

if not (SESSION_BUNDLE.is_file() and VIEW_BUNDLE.is_file()):
    message = f"The front end is not built: {STATIC} lacks it. In a checkout, run `make build` or `pip install -e .`."
    raise ImportError(message)
