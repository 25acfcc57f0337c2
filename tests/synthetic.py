"""Programs made by hand, of any size, without torch or coremltools."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from talaria_nb.program import NO_OP, Modules, Ops, Program, Values, Weights

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from talaria_nb.program import Attribute, Shape

WIDTH, TOKENS = 64, 16


class Builder:
    """Grows a program op by op; values are named by their rows."""

    def __init__(self) -> None:
        self.shapes: list[Shape] = []
        self.dtypes: list[str] = []
        self.producers: list[int] = []
        self.weight_values: list[int] = []
        self.inputs: list[int] = []
        self.types: list[str] = []
        self.names: list[str] = []
        self.reads: list[tuple[tuple[str, int], ...]] = []
        self.writes: list[tuple[int, ...]] = []
        self.attributes: list[Mapping[str, Attribute]] = []
        self.modules: list[str] = []

    def _value(self, shape: Shape, dtype: str, producer: int) -> int:
        self.shapes.append(shape)
        self.dtypes.append(dtype)
        self.producers.append(producer)
        return len(self.shapes) - 1

    def input(self, shape: Shape, dtype: str = "fp16") -> int:
        self.inputs.append(self._value(shape, dtype, NO_OP))
        return self.inputs[-1]

    def const(self, shape: Shape, dtype: str = "fp16") -> int:
        return self._value(shape, dtype, NO_OP)

    def weight(self, shape: Shape, dtype: str = "fp16") -> int:
        self.weight_values.append(self._value(shape, dtype, NO_OP))
        return self.weight_values[-1]

    def op(
        self,
        op_type: str,
        reads: Mapping[str, int],
        shape: Shape,
        *,
        dtype: str = "fp16",
        module: str = "",
        name: str | None = None,
        **attributes: Attribute,
    ) -> int:
        row = len(self.types)
        self.types.append(op_type)
        self.names.append(name or f"{op_type}_{row}")
        self.reads.append(tuple(reads.items()))
        self.attributes.append(attributes)
        self.modules.append(module)
        output = self._value(shape, dtype, row)
        self.writes.append((output,))
        return output

    def program(self, outputs: Sequence[int] = (), deployment_target: str = "iOS18") -> Program:
        modules = Modules.from_paths(dict.fromkeys(self.modules, ""))
        row_of = {path: row for row, path in enumerate(modules.path)}
        weight = np.full(len(self.shapes), -1, dtype=np.int32)
        weight[self.weight_values] = np.arange(len(self.weight_values))
        readers: dict[int, list[int]] = {}
        for row, reads in enumerate(self.reads):
            for value in dict.fromkeys(value for _, value in reads):
                readers.setdefault(value, []).append(row)
        shapes = tuple(self.shapes[value] for value in self.weight_values)
        return Program(
            name="synthetic",
            deployment_target=deployment_target,
            ops=Ops(
                name=tuple(self.names),
                op_type=tuple(self.types),
                inputs=tuple(self.reads),
                outputs=tuple(self.writes),
                attributes=tuple(self.attributes),
                module=np.array([row_of[path] for path in self.modules], dtype=np.int32),
            ),
            values=Values(
                name=tuple(f"v{row}" for row in range(len(self.shapes))),
                shape=tuple(self.shapes),
                dtype=tuple(self.dtypes),
                producer=np.array(self.producers, dtype=np.int32),
                weight=weight,
            ),
            weights=Weights(
                name=tuple(f"w{row}" for row in range(len(shapes))),
                shape=shapes,
                dtype=tuple(self.dtypes[value] for value in self.weight_values),
                value=np.array(self.weight_values, dtype=np.int32),
                channel_axes=tuple((1, 0) for _ in shapes),
                readers=tuple(tuple(readers.get(value, ())) for value in self.weight_values),
                last_in_file=np.zeros(len(shapes), dtype=np.bool_),
            ),
            modules=modules,
            inputs=tuple(self.inputs),
            outputs=tuple(outputs),
            fixed_file_bytes=64,
        )


def transformer(layers: int, *, hidden_widths: int = 1) -> Program:
    """Build a stack of layers with attention and an MLP, without heads; the MLPs have so many different widths."""
    build = Builder()
    x = build.input((1, TOKENS, WIDTH))
    for layer in range(layers):
        x = _layer(build, x, f"layers.{layer}", str(layer), 4 * WIDTH + 16 * (layer % hidden_widths))
    return build.program([x])


def _layer(build: Builder, x: int, path: str, tag: str, hidden_width: int) -> int:
    state = (1, TOKENS, WIDTH)

    def linear(value: int, into: int, out: int, name: str) -> int:
        reads = {"x": value, "weight": build.weight((out, into))}
        return build.op("linear", reads, (1, TOKENS, out), module=f"{path}.{name}", name=f"{tag}.{name}")

    normed = build.op("layer_norm", {"x": x}, state, module=f"{path}.norm", name=f"{tag}.norm", epsilon=1e-5)
    q, k, v = (linear(normed, WIDTH, WIDTH, f"attention.{name}") for name in "qkv")
    attention = f"{path}.attention"
    scores = build.op("matmul", {"x": q, "y": k}, (1, TOKENS, TOKENS), module=attention, transpose_y=True)
    weights = build.op("softmax", {"x": scores}, (1, TOKENS, TOKENS), module=attention, axis=-1)
    mixed = build.op("matmul", {"x": weights, "y": v}, state, module=attention, transpose_y=False)
    projected = linear(mixed, WIDTH, WIDTH, "attention.out")
    scaled = build.op("tanh", {"x": projected}, state, module=path, name=f"{tag}.tanh")
    x = build.op("add", {"x": scaled, "y": x}, state, module=path, name=f"{tag}.add")
    wide = linear(x, WIDTH, hidden_width, "mlp.up")
    hidden = build.op("gelu", {"x": wide}, (1, TOKENS, hidden_width), module=f"{path}.mlp")
    return build.op("add", {"x": linear(hidden, hidden_width, WIDTH, "mlp.down"), "y": x}, state, module=path)


OPS_A_LAYER = len(transformer(1).ops)
