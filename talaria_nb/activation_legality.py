"""Whose activations can be int8: one table of rules, each with the sentence that is shown to the user.

Every rule is what `linear_quantize_activations` of coremltools 9 does, tried out; where it fails, it says little.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

from talaria_nb.program import NO_OP
from talaria_nb.subjects import ios_version

if TYPE_CHECKING:
    from collections.abc import Callable

    from talaria_nb.program import Program

ACTIVATION_OPS = ("conv", "avg_pool", "max_pool", "linear", "add")
"""Ops whose input activations coremltools quantizes (`insert_prefix_quantize_dequantize_pair`)."""

ACTIVATION_FUNCTIONS = ("leaky_relu", "tanh", "scaled_tanh", "sigmoid", "hard_sigmoid", "relu", "relu6")
"""Ops behind which it rounds (`insert_suffix_quantize_dequantize_pair._allowed_activations`)."""

_IOS17 = 17
_NESTING = ("while_loop", "cond")
_FLOATS = frozenset({"fp16", "fp32"})


def activation_ops(program: Program) -> list[int]:
    """List the rows of the ops whose activations coremltools can quantize to 8 bits; found once a program."""
    if program not in _FOUND:
        _FOUND[program] = tuple(
            op for op in program.ops.rows_of(ACTIVATION_OPS) if activation_refusal(program, op) is None
        )
    return [*_FOUND[program]]


_FOUND: WeakKeyDictionary[Program, tuple[int, ...]] = WeakKeyDictionary()


def activation_refusal(program: Program, op: int) -> str | None:
    """Say why coremltools cannot quantize the activations that an op reads to 8 bits.

    Parameters
    ----------
    program
        The model.
    op
        Row in `program.ops`.

    Returns
    -------
    str or None
        One sentence, or None if it can.
    """
    asked = _asked(program, op)
    return next((rule.sentence(asked) for rule in RULES if rule.broken(asked)), None)


def parameters_rounded(op_type: str) -> tuple[str, ...]:
    """Return the parameters that an op reads in 8 bits once its activations are int8."""
    return ("x", "y") if op_type == "add" else ("x",)


class Asked(NamedTuple):
    """An op, as far as the rules look at it.

    Attributes
    ----------
    program
        The model.
    op_type
        The op's.
    read
        Rows of the tensors that it would read in 8 bits, as far as they are no small constants.
    behind
        Rows of those that could be rounded behind it: what it writes, or an activation function of that.
    """

    program: Program
    op_type: str
    read: tuple[int, ...]
    behind: tuple[int, ...]

    @property
    def dtypes(self) -> set[str]:
        """Dtypes of what it would read in 8 bits."""
        return {self.program.values.dtype[value] for value in self.read}


def _asked(program: Program, op: int) -> Asked:
    ops = program.ops
    op_type = ops.op_type[op]
    if op_type not in ACTIVATION_OPS:
        return Asked(program, op_type, (), ())
    rounded = parameters_rounded(op_type)
    read = tuple(value for parameter, value in ops.inputs[op] if parameter in rounded)
    written = ops.outputs[op][0]
    functions = (reader for reader, _ in ops.readers.get(written, ()) if ops.op_type[reader] in ACTIVATION_FUNCTIONS)
    behind = (written, *(ops.outputs[each][0] for each in functions))
    return Asked(program, op_type, read, tuple(value for value in behind if value in ops.readers))


def _reads_a_constant(asked: Asked) -> bool:
    program = asked.program
    return len(asked.read) < len(parameters_rounded(asked.op_type)) or any(
        program.values.producer[value] == NO_OP and value not in program.inputs for value in asked.read
    )


class Rule(NamedTuple):
    """One reason why the activations of an op cannot be int8, and what to tell the user then.

    Of the rules before it, the op breaks none.
    """

    broken: Callable[[Asked], bool]
    sentence: Callable[[Asked], str]


RULES: tuple[Rule, ...] = (
    Rule(
        lambda asked: asked.op_type not in ACTIVATION_OPS,
        lambda asked: f"It is a {asked.op_type}; coremltools quantizes the activations of {', '.join(ACTIVATION_OPS)}.",
    ),
    Rule(
        lambda asked: ios_version(asked.program.deployment_target) < _IOS17,
        lambda asked: f"Quantized activations need iOS17; this model targets {asked.program.deployment_target}.",
    ),
    Rule(
        lambda asked: not asked.program.ops.rows_of_type.keys().isdisjoint(_NESTING),
        lambda _: "coremltools 9 fails at int8 activations in a model that holds loops or branches.",
    ),
    Rule(
        _reads_a_constant,
        lambda _: "It reads a constant there, which coremltools does not quantize as an activation.",
    ),
    Rule(
        lambda asked: not asked.dtypes <= _FLOATS,
        lambda _: "It reads whole numbers, which are not rounded to 8 bits.",
    ),
    Rule(
        lambda asked: not {*asked.program.outputs}.isdisjoint(asked.read),
        lambda _: "It reads an output of the model, whose range coremltools does not find.",
    ),
    Rule(
        lambda asked: not {*asked.program.outputs}.isdisjoint(asked.behind),
        lambda _: "It writes an output of the model that other ops read, whose range coremltools does not find.",
    ),
    Rule(
        lambda asked: "fp32" in asked.dtypes,
        lambda _: "It reads float32, for which coremltools 9 makes scales of float16 and fails.",
    ),
)
"""In the order in which they are tried."""
