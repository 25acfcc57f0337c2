"""Views: thin widgets that show one session. They hold a reference to it and do no arithmetic."""

from talaria_nb.views.charts import Charts
from talaria_nb.views.details import Details
from talaria_nb.views.explorer import Explorer
from talaria_nb.views.front import front_widget, let_go
from talaria_nb.views.graph import Graph
from talaria_nb.views.sliders import Sliders
from talaria_nb.views.summary import Summary
from talaria_nb.views.table import Table
from talaria_nb.views.view import View

__all__ = ["Charts", "Details", "Explorer", "Graph", "Sliders", "Summary", "Table", "View", "front_widget", "let_go"]
