"""The base of all views."""

from __future__ import annotations

from typing import Any, ClassVar

import anywidget
import traitlets as t
from ipywidgets import Layout

from talaria_nb.bundles import VIEW_BUNDLE


class View(anywidget.AnyWidget):
    """One view of a session; it can be shown in any number of cells, alone or inside ipywidgets layouts.

    Its front end asks the session's own front end to draw into its element, so that all views of a session share one
    state in the browser.

    Attributes
    ----------
    session
        The `Session` to show.
    view
        Which component to draw; set by the subclass.
    height
        Height in CSS pixels; 0 is the view's natural height, or what the host leaves of it without scrolling.
    """

    _esm = VIEW_BUNDLE

    session: Any = anywidget.WidgetTrait().tag(sync=True)
    view = t.Unicode().tag(sync=True)
    height = t.Int(0, min=0).tag(sync=True)

    component: ClassVar[str]

    def __init__(self, session: anywidget.AnyWidget, *, height: int = 0) -> None:
        super().__init__(
            session=session,
            view=self.component,
            height=height,
            # Of a row of views, each takes its share: without these, one is as wide as its longest line.
            layout=Layout(width="100%", min_width="0"),
        )

    def __repr__(self) -> str:
        return f"<talaria_nb {type(self).__name__} of {self.session.name} on {self.session.device}>"
