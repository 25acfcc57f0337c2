"""Talaria for everyone: explore a model's cost op by op, choose bits per weight, export for Core ML."""

import talaria_nb.quiet  # noqa: F401 - first, for it imports coremltools without its warnings
from talaria_nb.allocate import allocate
from talaria_nb.allocation import Allocation
from talaria_nb.allocator import Allocator
from talaria_nb.budgets import Budget
from talaria_nb.calibration import calibrate
from talaria_nb.devices import device, devices
from talaria_nb.error_table import ErrorTable
from talaria_nb.errors import BudgetError, TalariaError
from talaria_nb.estimate import Estimate
from talaria_nb.evaluation import Evaluation, evaluate
from talaria_nb.explore import explore
from talaria_nb.generation import Generation, estimate_generation
from talaria_nb.hardware import Measurement, measure
from talaria_nb.load import Model, load
from talaria_nb.low_rank import LowRank
from talaria_nb.menu import Menu
from talaria_nb.pareto import Front, pareto
from talaria_nb.plan import Plan
from talaria_nb.recipes import Preset, preset, presets
from talaria_nb.refine import Refined, refine
from talaria_nb.schemes import Float16, Joint, LinearQuantize, Palettize, Prune, Scheme
from talaria_nb.sensitivity import Sensitivity, sensitivity
from talaria_nb.session import Session

__all__ = [
    "Allocation",
    "Allocator",
    "Budget",
    "BudgetError",
    "ErrorTable",
    "Estimate",
    "Evaluation",
    "Float16",
    "Front",
    "Generation",
    "Joint",
    "LinearQuantize",
    "LowRank",
    "Measurement",
    "Menu",
    "Model",
    "Palettize",
    "Plan",
    "Preset",
    "Prune",
    "Refined",
    "Scheme",
    "Sensitivity",
    "Session",
    "TalariaError",
    "allocate",
    "calibrate",
    "device",
    "devices",
    "estimate_generation",
    "evaluate",
    "explore",
    "load",
    "measure",
    "pareto",
    "preset",
    "presets",
    "refine",
    "sensitivity",
]
__version__ = "0.1.0"
