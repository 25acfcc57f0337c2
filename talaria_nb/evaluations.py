"""What was measured of a model's plans, and who wants to know of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias
from weakref import WeakMethod

if TYPE_CHECKING:
    from collections.abc import Callable

    from talaria_nb.evaluation import Evaluation
    from talaria_nb.schemes import Scheme

PlanKey: TypeAlias = "tuple[str, tuple[Scheme, ...], frozenset[int]]"
"""`Plan.key`: fingerprint of the model, scheme of each weight, ops with int8 activations."""


class Evaluations(dict["PlanKey", "Evaluation"]):
    """What `evaluate` measured, by `Plan.key`, in the order in which it was."""

    def __init__(self) -> None:
        super().__init__()
        self._listeners: list[WeakMethod[Callable[[], None]]] = []

    def listen(self, method: Callable[[], None]) -> None:
        """Call a method after each evaluation, as long as its object lives."""
        self._listeners.append(WeakMethod(method))

    def __setitem__(self, key: PlanKey, evaluation: Evaluation) -> None:
        """Keep an evaluation as the newest, and tell of it."""
        self.pop(key, None)
        super().__setitem__(key, evaluation)
        for listener in self._listeners:
            method = listener()
            if method is not None:
                method()
