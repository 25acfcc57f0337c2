"""Whose activations can be int8: one table of rules, each with the sentence that is shown to the user.

Every rule is what `linear_quantize_activations` of coremltools 9 does, tried out; where it fails, it says little.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

from talaria_nb.program import NO_OP
from talaria_nb.subjects import ios_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

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
        asked = program.ops.rows_of(ACTIVATION_OPS)
        _FOUND[program] = tuple(op for op, reason in activation_refusals(program, asked).items() if reason is None)
    return [*_FOUND[program]]


_FOUND: WeakKeyDictionary[Program, tuple[int, ...]] = WeakKeyDictionary()


def activation_refusals(program: Program, ops: Iterable[int]) -> dict[int, str | None]:
    """Say why coremltools cannot quantize the activations that ops read to 8 bits.

    Parameters
    ----------
    program
        The model.
    ops
        Rows in `program.ops`.

    Returns
    -------
    dict
        Of each op one sentence, or None if it can.
    """
    facts = _facts(program)
    return {op: _refusal(facts, op) for op in ops}


def _refusal(facts: Facts, op: int) -> str | None:
    asked = _asked(facts, op)
    for rule in RULES:
        if rule.broken(asked):
            return rule.sentence(asked)
    return None


def parameters_rounded(op_type: str) -> tuple[str, ...]:
    """Return the parameters that an op reads in 8 bits once its activations are int8."""
    return ("x", "y") if op_type == "add" else ("x",)


class Facts(NamedTuple):
    """A program, as far as the rules look at it.

    Attributes
    ----------
    program
        The model.
    ios
        The release that it targets.
    nests
        Whether it holds loops or branches.
    outputs
        Rows of the tensors that it returns.
    read_on
        Those of them that its ops read.
    """

    program: Program
    ios: int
    nests: bool
    outputs: frozenset[int]
    read_on: frozenset[int]


def _facts(program: Program) -> Facts:
    nests = not program.ops.rows_of_type.keys().isdisjoint(_NESTING)
    outputs = frozenset(program.outputs)
    read_on = outputs.intersection(program.ops.reads.value.tolist())
    return Facts(program, ios_version(program.deployment_target), nests, outputs, read_on)


class Asked(NamedTuple):
    """An op, as far as the rules look at it.

    Attributes
    ----------
    model
        What it is an op of.
    op
        Its row in `model.program.ops`.
    op_type
        The op's.
    read
        Rows of the tensors that it would read in 8 bits, as far as they are no small constants.
    dtypes
        Their dtypes.
    """

    model: Facts
    op: int
    op_type: str
    read: tuple[int, ...]
    dtypes: frozenset[str]

    @property
    def behind(self) -> list[int]:
        """Rows of the tensors that could be rounded behind it: what it writes, or an activation function of that."""
        ops = self.model.program.ops
        written = ops.outputs[self.op][0]
        functions = (each for each, _ in ops.readers.get(written, ()) if ops.op_type[each] in ACTIVATION_FUNCTIONS)
        return [written, *(ops.outputs[each][0] for each in functions)]


def _asked(model: Facts, op: int) -> Asked:
    ops, dtype = model.program.ops, model.program.values.dtype
    op_type = ops.op_type[op]
    if op_type not in ACTIVATION_OPS:
        return Asked(model, op, op_type, (), frozenset())
    rounded = parameters_rounded(op_type)
    read = tuple([value for parameter, value in ops.inputs[op] if parameter in rounded])
    return Asked(model, op, op_type, read, frozenset([dtype[value] for value in read]))


def _reads_a_constant(asked: Asked) -> bool:
    program = asked.model.program
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
        lambda asked: asked.model.ios < _IOS17,
        lambda asked: f"Quantized activations need iOS17; this model targets {asked.model.program.deployment_target}.",
    ),
    Rule(
        lambda asked: asked.model.nests,
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
        lambda asked: not asked.model.outputs.isdisjoint(asked.read),
        lambda _: "It reads an output of the model, whose range coremltools does not find.",
    ),
    Rule(
        lambda asked: bool(asked.model.read_on) and not asked.model.read_on.isdisjoint(asked.behind),
        lambda _: "It writes an output of the model that other ops read, whose range coremltools does not find.",
    ),
    Rule(
        lambda asked: "fp32" in asked.dtypes,
        lambda _: "It reads float32, for which coremltools 9 makes scales of float16 and fails.",
    ),
)
"""In the order in which they are tried."""
