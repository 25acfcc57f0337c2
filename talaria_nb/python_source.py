"""Plan → Python source that compresses the model with coremltools alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from talaria_nb.configs import ACTIVATIONS, Rules, arguments, config_class, passes

if TYPE_CHECKING:
    from talaria_nb.plan import Plan
    from talaria_nb.schemes import Scheme

_ABOUT_SAMPLES = (
    "# sample_data is a list of inputs by name, as mlmodel.predict takes them. Running them needs a Mac.",
    "# Its version 9.0 keeps the ranges of the last sample alone (apple/coremltools issue 2704): put the widest last.",
)

_AS_SCRIPT = (
    "",
    'if __name__ == "__main__":  # python this_file.py model.mlpackage compressed.mlpackage',
    "    import sys",
    "",
    "    import coremltools as ct",
    "",
    "    compress(ct.models.MLModel(sys.argv[1], skip_model_load=True)).save(sys.argv[2])",
    "",
)


def to_python(plan: Plan, *, explicit: bool = False) -> str:
    """Write a plan as Python source that needs coremltools alone.

    Parameters
    ----------
    plan
        Any plan.
    explicit
        Whether to name every weight; see `configs.optimization_configs`.

    Returns
    -------
    str
        Source that defines `compress(mlmodel)`, and runs as a script with the paths of two packages: the model's, and
        where to save what it becomes. For a plan with int8 activations it is `compress(mlmodel, sample_data)` alone,
        which needs a Mac, because coremltools runs the model on the samples.
    """
    lines = [
        f'"""Compress {_one_line(plan.model.program.name)} with coremltools as planned in talaria-nb."""',
        "",
        "import coremltools.optimize.coreml as cto",
        "",
    ]
    steps: list[str] = []
    parameters = "mlmodel"
    for number, rules in enumerate(passes(plan, explicit=explicit), start=1):
        variable = f"config_{number}"
        if rules.name == ACTIVATIONS:
            parameters = "mlmodel, sample_data"
            lines += _ABOUT_SAMPLES
            steps.append(f"    mlmodel = cto.{rules.name}(mlmodel, {variable}, sample_data)")
        else:
            joint = ", joint_compression=True" if rules.joint else ""
            steps.append(f"    mlmodel = cto.{rules.name}_weights(mlmodel, {variable}{joint})")
        lines += [*_config_lines(variable, rules), ""]
    lines += [
        "",
        f"def compress({parameters}):",
        '    """Return the compressed model; save it with .save("compressed.mlpackage")."""',
        *steps,
        "    return mlmodel",
        "",
        *(_AS_SCRIPT if parameters == "mlmodel" else ()),
    ]
    return "\n".join(lines)


def _config_lines(variable: str, rules: Rules) -> list[str]:
    lines = [f"{variable} = cto.OptimizationConfig()"]
    if rules.everything is not None:
        lines.append(f"{variable}.set_global({_call(rules.everything)})")
    lines += [f"{variable}.set_op_type({op_type!r}, {_call(scheme)})" for op_type, scheme in rules.op_types.items()]
    by_scheme: dict[Scheme | None, list[str]] = {}
    for name, scheme in rules.names.items():
        by_scheme.setdefault(scheme, []).append(name)
    for scheme, names in by_scheme.items():
        lines += [
            f"op_config = {_call(scheme)}",
            "for name in (",
            *(f"    {name!r}," for name in names),
            "):",
            f"    {variable}.set_op_name(name, op_config)",
        ]
    return lines


def _call(scheme: Scheme | None) -> str:
    if scheme is None:
        return "None"
    given = ", ".join(f"{name}={value!r}" for name, value in arguments(scheme).items())
    return f"cto.{config_class(scheme).__name__}({given})"


def _one_line(text: str) -> str:
    return " ".join(text.replace("\\", "/").replace('"', "'").split())
