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
    return next((rule.sentence(program, op) for rule in RULES if rule.broken(program, op)), None)


def parameters_rounded(op_type: str) -> tuple[str, ...]:
    """Return the parameters that an op reads in 8 bits once its activations are int8."""
    return ("x", "y") if op_type == "add" else ("x",)


class Rule(NamedTuple):
    """One reason why the activations of an op (its row in the program) cannot be int8, and what to tell the user then.

    Of the rules before it, the op breaks none.
    """

    broken: Callable[[Program, int], bool]
    sentence: Callable[[Program, int], str]


def _read(program: Program, op: int) -> list[int]:
    """List the tensors that an op would read in 8 bits, as far as they are no small constants."""
    inputs = dict(program.ops.inputs[op])
    return [inputs[name] for name in parameters_rounded(program.ops.op_type[op]) if name in inputs]


def _reads_a_constant(program: Program, op: int) -> bool:
    read = _read(program, op)
    return len(read) < len(parameters_rounded(program.ops.op_type[op])) or any(
        program.values.producer[value] == NO_OP and value not in program.inputs for value in read
    )


def _rounded_behind(program: Program, op: int) -> list[int]:
    """List the tensors that could be rounded behind an op: what it writes, or an activation function of that."""
    ops = program.ops
    written = ops.outputs[op][0]
    functions = [reader for reader, _ in ops.readers.get(written, ()) if ops.op_type[reader] in ACTIVATION_FUNCTIONS]
    return [value for value in (written, *(ops.outputs[each][0] for each in functions)) if value in ops.readers]


RULES: tuple[Rule, ...] = (
    Rule(
        lambda program, op: program.ops.op_type[op] not in ACTIVATION_OPS,
        lambda program, op: (
            f"It is a {program.ops.op_type[op]}; coremltools quantizes the activations of {', '.join(ACTIVATION_OPS)}."
        ),
    ),
    Rule(
        lambda program, _: ios_version(program.deployment_target) < _IOS17,
        lambda program, _: f"Quantized activations need iOS17; this model targets {program.deployment_target}.",
    ),
    Rule(
        lambda program, _: any(op_type in program.ops.rows_of_type for op_type in _NESTING),
        lambda *_: "coremltools 9 fails at int8 activations in a model that holds loops or branches.",
    ),
    Rule(
        _reads_a_constant,
        lambda *_: "It reads a constant there, which coremltools does not quantize as an activation.",
    ),
    Rule(
        lambda program, op: not all(program.values.dtype[value] in _FLOATS for value in _read(program, op)),
        lambda *_: "It reads whole numbers, which are not rounded to 8 bits.",
    ),
    Rule(
        lambda program, op: any(value in program.outputs for value in _read(program, op)),
        lambda *_: "It reads an output of the model, whose range coremltools does not find.",
    ),
    Rule(
        lambda program, op: any(value in program.outputs for value in _rounded_behind(program, op)),
        lambda *_: "It writes an output of the model that other ops read, whose range coremltools does not find.",
    ),
    Rule(
        lambda program, op: any(program.values.dtype[value] == "fp32" for value in _read(program, op)),
        lambda *_: "It reads float32, for which coremltools 9 makes scales of float16 and fails.",
    ),
)
"""In the order in which they are tried."""
