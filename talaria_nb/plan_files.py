"""Plans as YAML of our own: readable, complete, and refused by any model but their own.

Weights are grouped by scheme, every parameter of a scheme is spelled out where it is not the default, and the shapes of
all weights are kept, so that a plan for another model can be told from its own, and what differs can be named.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import yaml

from talaria_nb.errors import PlanError, SchemeError, did_you_mean
from talaria_nb.legality import refused
from talaria_nb.package import first_line
from talaria_nb.plan import Plan
from talaria_nb.schemes import AsStored, Float16, Joint, LinearQuantize, Palettize, Prune, Scheme
from talaria_nb.subjects import subject

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from talaria_nb.load import Model

VERSION = 1

_KINDS: Mapping[str, type[Scheme]] = {
    "float16": Float16,
    "palettize": Palettize,
    "linear_quantize": LinearQuantize,
    "prune": Prune,
    "as_stored": AsStored,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}
_KEYS = ("talaria_nb_plan", "model", "plan", "activations")
_SHOWN = 3
"""How many differences are named before the rest are counted."""


def to_yaml(plan: Plan) -> str:
    """Write a plan as YAML.

    Parameters
    ----------
    plan
        Any plan.

    Returns
    -------
    str
        Mapping with the keys talaria_nb_plan (version), model (name, fingerprint, deployment_target and the shape of
        every weight), plan (a list of schemes, each with the weights that are stored so) and activations (the names of
        ops that read int8), if there are any.
    """
    program = plan.model.program
    by_scheme: dict[Scheme, list[str]] = {}
    for weight, scheme in plan.schemes.items():
        by_scheme.setdefault(scheme, []).append(weight)
    document = {
        "talaria_nb_plan": VERSION,
        "model": {
            "name": program.name,
            "fingerprint": program.fingerprint,
            "deployment_target": program.deployment_target,
            "weights": {
                name: _Row(shape) for name, shape in zip(program.weights.name, program.weights.shape, strict=True)
            },
        },
        "plan": [{"scheme": plain_scheme(scheme), "weights": weights} for scheme, weights in by_scheme.items()],
    }
    if plan.activations:
        document["activations"] = {"int8": [*plan.activations]}
    return str(yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120))


def from_yaml(model: Model, text: str) -> Plan:
    """Read a plan that `to_yaml` wrote.

    Parameters
    ----------
    model
        The model that the plan was made for.
    text
        YAML. A weight that it does not name stays as it was loaded.

    Raises
    ------
    PlanError
        If the text is no such plan, or one for another model; the differences are named.
    SchemeError
        If a scheme is unknown, or not legal for a weight.
    """
    plan = Plan(model)
    document = _document(text)
    _check_model(model, document["model"])
    schemes = list(plan.scheme_of_weight)
    chosen: set[str] = set()
    for entry in _list(document["plan"], "plan"):
        _check_keys(entry, ("scheme", "weights"), "an entry of the plan")
        scheme = scheme_of(entry["scheme"])
        for name in _list(entry["weights"], "weights"):
            row = _row(model, name)
            if name in chosen:
                raise PlanError(f"The plan says twice how {name} is stored.")
            chosen.add(name)
            reason = refused(scheme, subject(model.program, row))
            if reason is not None:
                raise SchemeError(f"{name} cannot be {scheme!r}. {reason}")
            schemes[row] = scheme
    plan = plan.with_schemes(schemes)
    activations = document.get("activations", {})
    _check_keys(activations, ("int8",), "activations", optional=("int8",))
    for op in _list(activations.get("int8", []), "activations"):
        if not isinstance(op, str) or op not in model.program.op_row:
            raise PlanError(f"{model.program.name} has no op named {op!r}.{did_you_mean(op, model.program.op_row)}")
        plan = plan.set_activations(op, "int8")
    return plan


class _Row(tuple[int, ...]):
    """A shape, which is written on one line."""

    __slots__ = ()


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """Writes shapes and schemes on one line each, and never aliases."""

    def ignore_aliases(self, _data: object) -> bool:
        return True


class _Flow(dict[str, Any]):
    """A mapping that is written on one line."""


_Dumper.add_representer(
    _Row, lambda dumper, row: dumper.represent_sequence("tag:yaml.org,2002:seq", row, flow_style=True)
)
_Dumper.add_representer(
    _Flow, lambda dumper, flow: dumper.represent_mapping("tag:yaml.org,2002:map", flow, flow_style=True)
)


def plain_scheme(scheme: Scheme) -> Any:
    """Write a scheme as {kind: {parameter: value}}, a joint as a list of them."""
    if isinstance(scheme, Joint):
        return [plain_scheme(simple) for simple in scheme.parts]
    given = {}
    for field in dataclasses.fields(scheme):  # type: ignore[arg-type]
        value = getattr(scheme, field.name)
        if value != field.default:
            given[field.name] = list(value) if isinstance(value, tuple) else value
    return _Flow({_NAMES[type(scheme)]: given})


def scheme_of(plain: object) -> Scheme:
    """Read a scheme that `plain_scheme` wrote."""
    if isinstance(plain, list):
        return Joint(tuple(scheme_of(simple) for simple in plain))
    if not isinstance(plain, dict) or len(plain) != 1:
        raise PlanError(f"A scheme is written as {{palettize: {{nbits: 4}}}}, not as {plain!r}.")
    [(kind, given)] = plain.items()
    if kind not in _KINDS:
        raise SchemeError(f"There is no scheme {kind!r}.{did_you_mean(kind, _KINDS)}")
    if not isinstance(given, dict):
        raise PlanError(f"The parameters of {kind} are a mapping, not {given!r}.")
    names = [field.name for field in dataclasses.fields(_KINDS[kind])]  # type: ignore[arg-type]
    for name in given:
        if name not in names:
            raise SchemeError(f"{kind} has no parameter {name!r}.{did_you_mean(name, names)}")
    try:
        return _KINDS[kind](
            **{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
        )
    except TypeError as error:
        raise SchemeError(f"{kind} cannot be made of {given!r}: {error}.") from error


def _document(text: str) -> dict[str, Any]:
    if not isinstance(text, str):
        raise PlanError(f"from_yaml reads the text of a plan, such as path.read_text(), not {text!r:.80}.")
    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        line = f" in line {mark.line + 1}" if mark is not None else ""
        raise PlanError(f"This is not YAML: {problem or first_line(error)}{line}.") from error
    if not isinstance(document, dict) or "talaria_nb_plan" not in document:
        raise PlanError("This is not a plan of talaria-nb: its text does not begin with talaria_nb_plan.")
    if document["talaria_nb_plan"] != VERSION:
        raise PlanError(
            f"This plan has version {document['talaria_nb_plan']!r}; this talaria-nb reads version {VERSION}."
        )
    _check_keys(document, _KEYS, "a plan", optional=("activations",))
    return document


def _check_model(model: Model, described: object) -> None:
    _check_keys(described, ("name", "fingerprint", "deployment_target", "weights"), "the plan's model")
    assert isinstance(described, dict)  # noqa: S101 - _check_keys refuses anything else
    program = model.program
    if described["fingerprint"] == program.fingerprint:
        return
    theirs = described["weights"] if isinstance(described["weights"], dict) else {}
    ours = dict(zip(program.weights.name, program.weights.shape, strict=True))
    differences = [
        *(f"it has no weight {name}" for name in theirs if name not in ours),
        *(f"the plan does not know its weight {name}" for name in ours if name not in theirs),
        *(
            f"{name} has shape {shape} there and {ours[name]} here"
            for name, shape in ((name, _shape(shape)) for name, shape in theirs.items() if name in ours)
            if shape != ours[name]
        ),
    ]
    if described["deployment_target"] != program.deployment_target:
        differences.append(f"it targets {program.deployment_target} instead of {described['deployment_target']}")
    more = f", and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
    named = "; ".join(differences[:_SHOWN]) or "the weights are the same, the ops are not"
    raise PlanError(f"This plan is for another model ({described['name']}) than {program.name}: {named}{more}.")


def _shape(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _row(model: Model, name: object) -> int:
    rows = model.program.weight_row
    if not isinstance(name, str) or name not in rows:
        raise PlanError(f"{model.program.name} has no weight named {name!r}.{did_you_mean(name, rows)}")
    return rows[name]


def _check_keys(value: object, known: Sequence[str], what: str, *, optional: Sequence[str] = ()) -> None:
    if not isinstance(value, dict):
        raise PlanError(f"{what} must be a mapping with {', '.join(known)}, not {value!r}.")
    for key in value:
        if key not in known:
            raise PlanError(f"{key!r} is not a key of {what}.{did_you_mean(key, known)}")
    for key in known:
        if key not in value and key not in optional:
            raise PlanError(f"{what} needs the key {key!r}.")


def _list(value: object, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise PlanError(f"{what} must be a list, not {value!r}.")
    return value
