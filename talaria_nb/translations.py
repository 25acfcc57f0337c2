"""Translations that coremltools lacks or has broken, registered through its public extension point.

coremltools knows recurrent layers as TorchScript has them, with one name an output; torch.export has one node that
returns a tuple. And its casts of constants (`int`, `bool`) call Python's constructors on arrays of length 1, which
numpy 2.4 refuses. Both keep coremltools' own translation and only stand between it and the graph.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from coremltools.converters.mil import Builder
from coremltools.converters.mil.frontend.torch import ops, register_torch_op


class _Proxy:
    """A node of an exported graph that looks as if it came from TorchScript."""

    def __init__(self, node: Any, outputs: int) -> None:
        self._node = node
        self.outputs = [f"{node.name}_output_{number}" for number in range(outputs)]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._node, name)


def _recurrent(name: str, outputs: int) -> None:
    original = getattr(ops, name)

    def translate(context: Any, node: Any) -> None:
        proxy = _Proxy(node, outputs)
        original(context, proxy)
        context.add(tuple(context[output] for output in proxy.outputs), torch_name=node.name)

    translate.__name__ = f"{name}.input"
    register_torch_op(translate, override=True)


for _name, _outputs in (("lstm", 3), ("gru", 2), ("rnn_tanh", 2), ("rnn_relu", 2)):
    _recurrent(_name, _outputs)


def _cast(name: str, python_type: type, alias: str) -> None:
    original = getattr(ops, name)

    def translate(context: Any, node: Any) -> None:
        x = context[node.inputs[0]]
        value = None if x is None else getattr(x, "val", None)
        if isinstance(value, np.ndarray) and value.size == 1:
            context.add(Builder.const(val=python_type(value.item()), name=node.name), node.name)
        else:
            original(context, node)

    translate.__name__ = name
    register_torch_op(translate, torch_alias=[alias], override=True)


_cast("_int", int, "int")
_cast("_bool", bool, "bool")
