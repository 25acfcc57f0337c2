"""Talaria for everyone: explore a model's cost op by op, choose bits per weight, export for Core ML."""

from talaria_nb.errors import TalariaError
from talaria_nb.load import Model, load
from talaria_nb.schemes import Float16, LinearQuantize, Palettize, Scheme

__all__ = ["Float16", "LinearQuantize", "Model", "Palettize", "Scheme", "TalariaError", "load"]
__version__ = "0.1.0"
