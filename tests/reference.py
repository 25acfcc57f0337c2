"""Runs a converted program on numbers, for tests: Core ML itself runs on Macs only.

Ops that coremltools can fold are computed as it folds them; the few others are written here after its documentation.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from coremltools.converters.mil.mil import types
from torch.nn import functional

from talaria_nb.read import mil_function

if TYPE_CHECKING:
    from collections.abc import Iterable

    import coremltools as ct
    from coremltools.converters.mil.mil import Operation, Var


class Run:
    """Runs a program, one step after another.

    Parameters
    ----------
    mlmodel
        As converted, not read from a package.
    states
        Values of the states by name, zeros where they are missing; changed as the program changes them.
    """

    def __init__(self, mlmodel: ct.models.MLModel, states: dict[str, Any] | None = None) -> None:
        self.function = mil_function(mlmodel)
        self.states = {} if states is None else states
        self.known: list[Var] = []

    def __call__(self, *inputs: torch.Tensor) -> list[Any]:
        """Compute the outputs from the inputs in their order, in the precision of the program."""
        given = iter(inputs)
        for name, var in self.function.inputs.items():
            if types.is_state(var.sym_type):
                self.states.setdefault(name, np.zeros(var.shape, np.float16))
            else:
                self._know(var, next(given).numpy())
        with np.errstate(all="ignore"):
            self._run(self.function.operations)
        outputs = [np.array(var.val) for var in self.function.outputs]
        for var in self.known:  # the program is as it was
            var._sym_val = None
        self.known.clear()
        return outputs

    def _know(self, var: Var, value: Any) -> None:
        value = np.asarray(value)
        wanted = types.nptype_from_builtin(var.dtype)
        var._sym_val = SimpleNamespace(val=value.astype(wanted))
        self.known.append(var)

    def _run(self, operations: Iterable[Operation]) -> None:
        for op in operations:
            if op.op_type == "const":
                continue
            own = getattr(self, f"_{op.op_type}", None)
            results = own(op) if own else op.value_inference()
            assert results is not None, f"{op.op_type} is not known here"
            several = isinstance(results, (tuple, list)) and len(op.outputs) == len(results)
            for var, value in zip(op.outputs, results if several else [results], strict=True):
                self._know(var, value)

    def _read_state(self, op: Operation) -> Any:
        return self.states[op.input.name]

    def _coreml_update_state(self, op: Operation) -> Any:
        self.states[op.state.name] = op.value.val
        return [op.value.val for _ in op.outputs]

    def _while_loop(self, op: Operation) -> Any:
        condition, body = op.blocks
        values = [var.val for var in op.loop_vars]
        while self._block(condition, values)[0]:
            values = self._block(body, values)
        return values

    def _block(self, block: Any, values: list[Any]) -> list[Any]:
        for var, value in zip(block.inputs, values, strict=True):
            self._know(var, value)
        self._run(block.operations)
        return [var.val for var in block.outputs]

    def _scatter(self, op: Operation) -> Any:
        data = torch.tensor(op.data.val)
        return data.index_copy(int(op.axis.val), torch.tensor(op.indices.val).long(), torch.tensor(op.updates.val))

    def _scatter_nd(self, op: Operation) -> Any:
        result = op.data.val.copy()
        result[tuple(np.moveaxis(op.indices.val, -1, 0))] = op.updates.val
        return result

    def _gather_nd(self, op: Operation) -> Any:
        assert not op.batch_dims.val
        return op.x.val[tuple(np.moveaxis(op.indices.val, -1, 0))]

    def _conv(self, op: Operation) -> Any:
        x, weight, how = self._kernel(op)
        assert op.pad_type.val in {"valid", "custom"}
        pads = op.pad.val.reshape(-1, 2)[::-1].flatten().tolist() if op.pad_type.val == "custom" else [0]
        run = (functional.conv1d, functional.conv2d, functional.conv3d)[x.ndim - 3]
        return self._biased(op, run(functional.pad(x, pads) if any(pads) else x, weight, **how))

    def _conv_transpose(self, op: Operation) -> Any:
        x, weight, how = self._kernel(op)
        run = (functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d)[x.ndim - 3]
        y = run(x, weight, **how)
        starts = op.pad.val[::2] if op.pad_type.val == "custom" else [0] * (x.ndim - 2)
        for axis, (start, length) in enumerate(zip(starts, op.outputs[0].shape[2:], strict=True)):
            y = y.narrow(axis + 2, int(start), length)
        return self._biased(op, y)

    def _kernel(self, op: Operation) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
        how = {"stride": op.strides.val.tolist(), "dilation": op.dilations.val.tolist(), "groups": int(op.groups.val)}
        return torch.tensor(op.x.val).float(), torch.tensor(op.weight.val).float(), how

    def _biased(self, op: Operation, y: torch.Tensor) -> Any:
        bias = 0 if op.bias is None else op.bias.val.reshape(-1, *[1] * (y.ndim - 2))
        return y.numpy() + bias

    def _silu(self, op: Operation) -> Any:
        return functional.silu(torch.tensor(op.x.val).float())

    def _lstm(self, op: Operation) -> Any:
        width = op.weight_hh.shape[1]
        ways = [("", op.direction.val == "reverse", slice(0, width))]
        if op.direction.val == "bidirectional":
            ways.append(("_back", True, slice(width, 2 * width)))
        parts = []
        for suffix, backwards, own in ways:
            given = (getattr(op, f"{name}{suffix}") for name in ("weight_ih", "weight_hh", "bias"))
            inner, outer, bias = (np.float32(0 if var is None else var.val) for var in given)
            h, c = np.float32(op.initial_h.val[:, own]), np.float32(op.initial_c.val[:, own])
            steps = []
            for x in op.x.val[::-1] if backwards else op.x.val:
                gates = torch.tensor(x @ inner.T + h @ outer.T + bias)
                into, forget, out = gates[:, : 3 * width].sigmoid().numpy().reshape(len(x), 3, width).swapaxes(0, 1)
                c = forget * c + into * np.tanh(gates[:, 3 * width :].numpy())
                h = out * np.tanh(c)
                steps.append(h)
            parts.append((np.stack(steps[::-1] if backwards else steps), h, c))
        return [np.concatenate(each, axis=-1) for each in zip(*parts, strict=True)]

    def _rnn(self, op: Operation) -> Any:
        act = {"tanh": np.tanh, "relu": lambda x: np.maximum(x, 0)}[op.activation.val]
        h, steps = op.initial_h.val, []
        for x in op.x.val[::-1] if op.direction.val == "reverse" else op.x.val:
            h = act(x @ op.weight_ih.val.T + h @ op.weight_hh.val.T + op.bias.val)
            steps.append(h)
        return [np.stack(steps[::-1] if op.direction.val == "reverse" else steps), h]
