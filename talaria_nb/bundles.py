"""Where the built front end lies. `npm run build` in `js/` writes it; wheels carry it."""

from __future__ import annotations

from pathlib import Path

STATIC = Path(__file__).parent / "static"
_SESSION, _VIEW = STATIC / "session.js", STATIC / "view.js"

if not (_SESSION.is_file() and _VIEW.is_file()):
    message = f"The front end is not built: {STATIC} lacks it. In a checkout, run `make build` or `pip install -e .`."
    raise ImportError(message)

# As text: given a path, anywidget watches the file for every widget, and never lets go of any.
SESSION_BUNDLE = _SESSION.read_text(encoding="utf-8")
"""The store and every view, loaded once a session."""
VIEW_BUNDLE = _VIEW.read_text(encoding="utf-8")
"""The few lines that let a view draw with its session's code."""
