"""Plan → coremltools configs, as objects and as YAML that coremltools reads.

A config is found for a constant by its own name, then by the names of the ops that read it, their types, and last the
global one. `Rules` are one pass in those terms; the shortest rules that mean the plan are written, and `look_up`, which
repeats coremltools' own search, proves that they do.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import yaml
from coremltools.converters.mil.backend.mil.load import should_use_weight_file
from coremltools.optimize import coreml as cto

from talaria_nb import activations
from talaria_nb.compressed import PREFIX
from talaria_nb.coreml import walk
from talaria_nb.errors import ExportError
from talaria_nb.legality import WEIGHT_THRESHOLD
from talaria_nb.read import mil_function
from talaria_nb.schemes import Float16, Joint, LinearQuantize, Palettize, Prune, Scheme

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import coremltools as ct
    from coremltools.converters.mil.mil import Operation

    from talaria_nb.plan import Plan

Pass: TypeAlias = Literal["linear_quantize_activations", "prune", "palettize", "linear_quantize"]

_PASS_OF: Mapping[type[Scheme], Pass] = {Prune: "prune", Palettize: "palettize", LinearQuantize: "linear_quantize"}
_ORDER: Mapping[Pass, int] = {"prune": 0, "palettize": 2, "linear_quantize": 3}

STEM: Mapping[Pass, str] = {"prune": "_sparsified", "palettize": "_palettized", "linear_quantize": "_quantized"}
"""What a pass appends to a weight's name, by which the next pass finds it."""

ACTIVATIONS: Pass = "linear_quantize_activations"
_INT8 = LinearQuantize("int8", "per_tensor")
"""How activations are rounded; coremltools takes the same configs for them as for weights."""


@dataclass(frozen=True, slots=True)
class Rules:
    """One pass: which scheme each weight gets, in the terms of coremltools' configs.

    Attributes
    ----------
    name
        Which of coremltools' passes. That for activations has names and types of ops in place of weights.
    joint
        Whether it goes over what earlier passes compressed, with `joint_compression=True`.
    everything
        Scheme of all that the other rules do not name; None to leave it alone.
    op_types
        Scheme of what ops of a type read, or None.
    names
        Scheme of a constant by its name, or None.
    """

    name: Pass
    joint: bool = False
    everything: Scheme | None = None
    op_types: Mapping[str, Scheme | None] = field(default_factory=dict)
    names: Mapping[str, Scheme | None] = field(default_factory=dict)

    def __len__(self) -> int:
        return (self.everything is not None) + len(self.op_types) + len(self.names)


@dataclass(frozen=True, slots=True)
class Constant:
    """A constant of the program, as coremltools looks for its config.

    Attributes
    ----------
    names
        Its own, and that of the op that decompresses it, if there is one.
    readers
        Name and type of each op that reads it.
    compressible
        Whether a pass would compress it, given a config.
    """

    names: tuple[str, ...]
    readers: tuple[tuple[str, str], ...]
    compressible: bool


class ConfiguredPass(tuple[Pass, cto.OptimizationConfig]):  # noqa: SLOT001 - a tuple with fields has no slots
    """A pass and its config: unpacks as (name, config).

    Attributes
    ----------
    joint_compression
        What that pass must be called with: True where joint schemes need it to go over what is already compressed.
    """

    joint_compression: bool

    @classmethod
    def of(cls, rules: Rules, op_config: Callable[[Scheme], Any]) -> ConfiguredPass:
        """Turn rules into a config."""
        made = cls((rules.name, _optimization_config(rules, op_config)))
        made.joint_compression = rules.joint
        return made

    def apply(self, mlmodel: ct.models.MLModel, sample_data: object = None) -> ct.models.MLModel:
        """Return a compressed copy of a coremltools model.

        Parameters
        ----------
        mlmodel
            What the pass before this one returned, or the model.
        sample_data
            Inputs by name, to calibrate activations on; see `talaria_nb.activations.calibrate`. Needs a Mac.

        Raises
        ------
        ExportError
            For activations, if the samples do not fit or this is no Mac.
        """
        name, config = self
        if name == ACTIVATIONS:
            return activations.quantize(mlmodel, config, sample_data)
        apply = {
            "prune": cto.prune_weights,
            "palettize": cto.palettize_weights,
            "linear_quantize": cto.linear_quantize_weights,
        }[name]
        return apply(mlmodel, config, joint_compression=True) if self.joint_compression else apply(mlmodel, config)


def optimization_configs(plan: Plan, *, explicit: bool = False) -> list[ConfiguredPass]:
    """Write a plan as coremltools configs.

    Parameters
    ----------
    plan
        Any plan.
    explicit
        True names every compressed weight. By default rules for everything and for types of ops stand in where they
        say the same in fewer entries; they mean the same for this model, and not for another.

    Returns
    -------
    list of (pass, OptimizationConfig)
        In the order to apply them: "linear_quantize_activations" goes to the function of that name in
        `coremltools.optimize.coreml`, with samples and on a Mac; "prune" to `prune_weights`, "palettize" to
        `palettize_weights` and "linear_quantize" to `linear_quantize_weights`. Each also says whether it needs
        `joint_compression=True`, and has a method `apply(mlmodel)` (`apply(mlmodel, sample_data)` for activations) that
        does it all. Weights are named by const name, which is the first thing that coremltools looks up. Empty for a
        plan that changes nothing.
    """
    return [ConfiguredPass.of(rules, op_config) for rules in passes(plan, explicit=explicit)]


def configs_yaml(plan: Plan, *, explicit: bool = False) -> list[tuple[Pass, str]]:
    """Write a plan as YAML for coremltools' `OptimizationConfig.from_yaml`, one text a pass.

    Parameters
    ----------
    plan, explicit
        As in `optimization_configs`.

    Returns
    -------
    list of (pass, str)
        In the order to apply them. `from_yaml` takes a path or a file: `OptimizationConfig.from_yaml(io.StringIO(t))`.
    """
    return [(rules.name, _yaml(rules)) for rules in passes(plan, explicit=explicit)]


def passes(plan: Plan, *, explicit: bool = False) -> list[Rules]:
    """Split a plan into passes, in the order to apply them: activations first, parts of joint schemes one by one.

    Quantization comes twice where integers are palettized: before the palettes, and after them for tables.
    """
    split: dict[tuple[int, Pass], dict[str, Scheme]] = {}
    packed = plan.model.program.weights.packed
    for row, (weight, scheme) in enumerate(plan.schemes.items()):
        if row in packed or isinstance(scheme, Float16):
            continue
        name = weight
        for at, simple in enumerate(scheme.parts):
            wanted = _PASS_OF[type(simple)]
            early = wanted == "linear_quantize" and at == 0 and len(scheme.parts) > 1
            split.setdefault((_ORDER[wanted] - 2 * early, wanted), {})[name] = simple
            name += STEM[wanted] if at == 0 else ""
    # Once anything is joint, all but the first pass may find constants that are already compressed.
    joint = any(isinstance(scheme, Joint) for scheme in plan.scheme_of_weight)
    found: list[Rules] = []
    constants = [] if explicit or not split else read_constants(plan.model.mlmodel)
    for (_, name), chosen in sorted(split.items(), key=lambda item: item[0][0]):
        rules = Rules(name, joint=joint and bool(found), names=chosen)
        found.append(rules if explicit or rules.joint else shortest(rules, constants))
        constants = [_after(name, chosen, constant) for constant in constants]
    return [*_activation_rules(plan, explicit=explicit), *found]


def _activation_rules(plan: Plan, *, explicit: bool) -> list[Rules]:
    """Return the pass for int8 activations, if there are any: by type for types of which every op is int8."""
    ops = plan.model.program.ops
    floats = {op_type for row, op_type in enumerate(ops.op_type) if row not in plan.int8_ops}
    chosen = [(ops.name[row], ops.op_type[row]) for row in sorted(plan.int8_ops)]
    op_types = {} if explicit else {op_type: _INT8 for _, op_type in chosen if op_type not in floats}
    names = {name: _INT8 for name, op_type in chosen if op_type not in op_types}
    return [Rules(ACTIVATIONS, op_types=op_types, names=names)] if chosen else []


def shortest(rules: Rules, constants: Iterable[Constant]) -> Rules:
    """Find the fewest rules that mean the same as those that name each weight.

    Parameters
    ----------
    rules
        Names alone.
    constants
        All constants of the program.
    """
    constants = list(constants)
    wanted = {constant.names[0]: rules.names.get(constant.names[0]) for constant in constants if constant.compressible}
    by_type: dict[str, Counter[Scheme | None]] = {}
    for constant in constants:
        for op_type in {op_type for _, op_type in constant.readers} if constant.compressible else ():
            by_type.setdefault(op_type, Counter())[wanted[constant.names[0]]] += 1
    usual = {op_type: _most_common(votes) for op_type, votes in by_type.items()}
    overall = _most_common(Counter(scheme for scheme in wanted.values() if scheme is not None))
    found = rules
    for everything in dict.fromkeys((overall, None)):
        typed = {op_type: scheme for op_type, scheme in usual.items() if scheme != everything}
        for op_types in (typed, {}):
            candidate = Rules(rules.name, everything=everything, op_types=op_types)
            candidate = replace(candidate, names=_exceptions(candidate, constants, wanted))
            if len(candidate) < len(found):
                found = candidate
    return found


def look_up(rules: Rules, constant: Constant) -> Scheme | None:
    """Find the scheme of a constant as coremltools does: by name, by its readers' names and types, and globally.

    Raises
    ------
    ExportError
        If its readers disagree, which coremltools refuses.
    """
    for name in constant.names:
        if name in rules.names:
            return rules.names[name]
    answers = [
        rules.names[name] if name in rules.names else rules.op_types.get(op_type, rules.everything)
        for name, op_type in constant.readers
    ]
    if any(answer != answers[0] for answer in answers):
        message = f"The ops that read {constant.names[0]} disagree about how it is stored. Choose it by its own name."
        raise ExportError(message)
    return answers[0] if answers else None


def read_constants(mlmodel: ct.models.MLModel) -> list[Constant]:
    """List the constants that coremltools' passes look at, in their order."""
    return [
        _constant(op)
        for op in walk(mil_function(mlmodel))
        if op.op_type == "const" and should_use_weight_file(op.outputs[0].val)
    ]


def op_config(scheme: Scheme) -> Any:
    """Build the coremltools config of a simple scheme."""
    return config_class(scheme)(**arguments(scheme))


def config_class(scheme: Scheme) -> Any:
    """Return the class of `op_config`."""
    if isinstance(scheme, Prune):
        return cto.OpMagnitudePrunerConfig if scheme.threshold is None else cto.OpThresholdPrunerConfig
    return cto.OpPalettizerConfig if isinstance(scheme, Palettize) else cto.OpLinearQuantizerConfig


def arguments(scheme: Scheme) -> dict[str, object]:
    """List the arguments of `config_class`, defaults left out where they say the same."""
    optional: tuple[str, ...]
    given: dict[str, object]
    if isinstance(scheme, Palettize):
        given = {"mode": scheme.mode, "granularity": scheme.granularity}
        optional = ("nbits", "group_size", "channel_axis", *(("cluster_dim",) if scheme.cluster_dim > 1 else ()))
    elif isinstance(scheme, LinearQuantize):
        given = {"mode": scheme.mode, "dtype": scheme.dtype, "granularity": scheme.granularity}
        optional = ("block_size",)
    elif isinstance(scheme, Prune):
        # Without the minimum, coremltools skips weights of which the threshold leaves more than half.
        given = {} if scheme.threshold is None else {"minimum_sparsity_percentile": 0.0}
        optional = ("target_sparsity", "n_m_ratio", "threshold", "block_size", "dim")
    else:
        message = f"{scheme!r} has no coremltools config."
        raise TypeError(message)
    values = {name: getattr(scheme, name) for name in optional}
    return given | {name: value for name, value in values.items() if value is not None}


def _optimization_config(rules: Rules, op_config: Callable[[Scheme], Any]) -> cto.OptimizationConfig:
    def config(scheme: Scheme | None) -> Any:
        return None if scheme is None else op_config(scheme)

    return cto.OptimizationConfig(
        global_config=config(rules.everything),
        op_type_configs={op_type: config(scheme) for op_type, scheme in rules.op_types.items()},
        op_name_configs={name: config(scheme) for name, scheme in rules.names.items()},
    )


def _yaml(rules: Rules) -> str:
    every = [rules.everything, *rules.op_types.values(), *rules.names.values()]
    common = next(config_class(scheme).__name__ for scheme in every if scheme is not None)

    def plain(scheme: Scheme | None) -> dict[str, object] | None:
        if scheme is None:
            return None
        kind = config_class(scheme).__name__
        given = {name: list(value) if isinstance(value, tuple) else value for name, value in arguments(scheme).items()}
        return given if kind == common else {"config_type": kind, **given}

    document = {
        "config_type": common,
        "global_config": plain(rules.everything),
        "op_type_configs": {op_type: plain(scheme) for op_type, scheme in rules.op_types.items()},
        "op_name_configs": {name: plain(scheme) for name, scheme in rules.names.items()},
    }
    kept = {key: value for key, value in document.items() if value}
    return str(yaml.safe_dump(kept, sort_keys=False, allow_unicode=True))


def _most_common(votes: Counter[Scheme | None]) -> Scheme | None:
    """Return the scheme that most have, among those that ops of any type may have."""
    possible = [scheme for scheme, _ in votes.most_common() if not (isinstance(scheme, Prune) and scheme.is_structured)]
    return possible[0] if possible else None


def _exceptions(
    rules: Rules, constants: Iterable[Constant], wanted: Mapping[str, Scheme | None]
) -> dict[str, Scheme | None]:
    """Name the constants for which rules without names say the wrong thing, or nothing certain."""
    found: dict[str, Scheme | None] = {}
    for constant in constants:
        name = constant.names[-1]
        right = wanted.get(constant.names[0])
        try:
            if constant.compressible and look_up(rules, constant) != right:
                found[name] = right
            elif not constant.compressible:
                look_up(rules, constant)
        except ExportError:
            found[name] = right
    return found


def _after(name: Pass, chosen: Mapping[str, Scheme], constant: Constant) -> Constant:
    """Return a constant as the next pass finds it."""
    if constant.names[0] not in chosen:
        return constant
    return replace(constant, names=(constant.names[0] + STEM[name],), compressible=False)


def _constant(op: Operation) -> Constant:
    readers = op.outputs[0].child_ops
    packed = bool(readers) and all(reader.op_type.startswith(PREFIX) for reader in readers)
    names = [op.name]
    last = op
    while packed and all(reader.op_type.startswith(PREFIX) for output in last.outputs for reader in output.child_ops):
        [last, *_] = [reader for output in last.outputs for reader in output.child_ops]
        names.append(last.name)
    return Constant(
        tuple(names),
        tuple((reader.name, reader.op_type) for output in last.outputs for reader in output.child_ops),
        compressible=(
            not any(reader.op_type.startswith(PREFIX) for reader in readers)
            and op.outputs[0].rank > 1
            and op.outputs[0].val.size > WEIGHT_THRESHOLD
            and bool(readers)
        ),
    )
