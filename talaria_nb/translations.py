"""Translations that coremltools lacks or has broken, registered through its public extension point.

coremltools knows recurrent layers as TorchScript has them, with one name an output; torch.export has one node that
returns a tuple. It assigns at one position along a dimension (`x[:, position] = y`, a step of a key-value cache), but
fails at several (a prompt). Its casts of constants (`int`, `bool`) call Python's constructors on arrays of length 1,
which numpy 2.4 refuses. And it makes one op of attention from iOS18 on, but not of attention with a scale of its own,
which Core ML's op does not have (transformers always gives one), nor with fewer heads of keys than of queries
(`enable_gqa`). All but `prod`, which it does not have, keep coremltools' own translation and only stand between it and
the graph.
"""

from __future__ import annotations

import math
from typing import Any

import coremltools as ct
import numpy as np
from coremltools.converters.mil import Builder
from coremltools.converters.mil.frontend._utils import pymil_broadcast_to
from coremltools.converters.mil.frontend.torch import ops, register_torch_op
from coremltools.converters.mil.mil import types
from coremltools.converters.mil.mil.block import is_current_opset_version_compatible_with
from coremltools.converters.mil.mil.types.symbolic import is_symbolic


class _Proxy:
    """A node of a graph with some of its attributes replaced."""

    def __init__(self, node: Any, **replaced: Any) -> None:
        self._node = node
        vars(self).update(replaced)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._node, name)


def _recurrent(name: str, outputs: int) -> None:
    original = getattr(ops, name)

    def translate(context: Any, node: Any) -> None:
        proxy = _Proxy(node, outputs=[f"{node.name}_output_{number}" for number in range(outputs)])
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


def _attention(name: str) -> None:
    original = getattr(ops, name)

    def translate(context: Any, node: Any) -> None:
        inputs, keywords = [*node.inputs], dict(node.kwinputs or {})
        if node.kind == name:  # only it has these by position, where the graph comes from TorchScript
            keywords |= {word: (given,) for word, given in zip(("scale", "enable_gqa"), inputs[6:], strict=False)}
            del inputs[6:]
            inputs[4:5] = [0.0 for _ in inputs[4:5]]  # dropout; coremltools leaves it out everywhere else, too

        def given(word: str) -> Any:
            [value] = keywords.pop(word, (None,))
            value = context[value] if isinstance(value, str) else value
            return getattr(value, "val", value)

        def replace(position: int, var: Any) -> None:
            inputs[position] = f"{node.name}_input_{position}"
            context.add(var, inputs[position])

        query, scale = context[inputs[0]], given("scale")
        if given("enable_gqa"):
            for position in (1, 2):
                replace(position, _heads_repeated(context[inputs[position]], query.shape[-3]))
        if scale is not None and is_current_opset_version_compatible_with(ct.target.iOS18):
            factor = float(scale) * math.sqrt(query.shape[-1])  # what the op does not do itself
            if not math.isclose(factor, 1, rel_tol=1e-6):
                replace(0, Builder.mul(x=query, y=types.nptype_from_builtin(query.dtype)(factor)))
        elif scale is not None:
            keywords["scale"] = (scale,)
        original(context, _Proxy(node, inputs=inputs, kwinputs=keywords or None))

    translate.__name__ = name
    aliases = ["_scaled_dot_product_flash_attention_for_cpu", "coreml.sdpa", "coreml::sdpa"]
    register_torch_op(translate, torch_alias=aliases, override=True)


def _heads_repeated(x: Any, heads: int) -> Any:
    """Give every query head a head of its own; neighbours share theirs."""
    batch, own = x.shape[:-3], x.shape[-3]
    apart = Builder.expand_dims(x=x, axes=[len(batch) + 1])
    tiled = Builder.tile(x=apart, reps=[*(1 for _ in batch), 1, heads // own, 1, 1])
    shape = [-1 if is_symbolic(size) else size for size in (*batch, heads, *x.shape[-2:])]
    return Builder.reshape(x=tiled, shape=shape)


_attention("scaled_dot_product_attention")


def _index_put(context: Any, node: Any) -> None:
    x, indices, values, *accumulate = ops._get_inputs(context, node)  # noqa: SLF001 - as every translation reads them
    given = [axis for axis, index in enumerate(indices) if index is not None]
    index = indices[given[0]]
    accumulates = [getattr(value, "val", value) for value in accumulate]
    if len(given) > 1 or len(indices) == 1 or index.rank != 1 or index.shape == (1,) or any(accumulates):
        _one_position(context, node)
        return
    axis = given[0]
    if is_current_opset_version_compatible_with(ct.target.iOS17):  # it no longer counts from the back
        from_back = Builder.add(x=index, y=np.int32(x.shape[axis]))
        index = Builder.select(cond=Builder.greater_equal(x=index, y=np.int32(0)), a=index, b=from_back)
    shape = (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])
    if tuple(values.shape) != shape:
        values = pymil_broadcast_to(values, list(shape), f"{node.name}_values")
    context.add(Builder.scatter(data=x, indices=index, updates=values, axis=axis, name=node.name))


_one_position = ops.index_put
_index_put.__name__ = "index_put"
register_torch_op(_index_put, override=True)


def _prod(context: Any, node: Any) -> None:
    """Multiply all elements, or those along a dimension; Core ML has the op, coremltools only no way to it."""
    x, *given = (context[value] if isinstance(value, str) else value for value in node.inputs)
    axis, keep = (getattr(value, "val", value) for value in (*given, None, None)[:2])
    axes = None if axis is None else [int(axis)]
    context.add(Builder.reduce_prod(x=x, axes=axes, keep_dims=bool(keep), name=node.name))


_prod.__name__ = "prod"
register_torch_op(_prod, torch_alias=["prod.dim_int"])
