"""torch.nn.Module → MIL, by torch.export or else torch.jit.trace, and coremltools."""

from __future__ import annotations

import copy
import re
import traceback
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
import torch.utils._pytree as pytree
from coremltools.converters.mil.mil.scope import ScopeSource
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode
from torch.nn.modules import transformer

from talaria_nb import coreml
from talaria_nb.calls import HALF, as_call, describe, tensors_in, to_float32
from talaria_nb.decompositions import decomposition, missing
from talaria_nb.errors import ConversionError, LoadError
from talaria_nb.lineage import exported_lineage, link, number_nodes
from talaria_nb.progress import stage
from talaria_nb.quiet import quiet
from talaria_nb.ranks import highest
from talaria_nb.read import mil_function
from talaria_nb.regions import inline_regions
from talaria_nb.repairs import repair
from talaria_nb.source import SourceMap, whole_stacks
from talaria_nb.states import check_states, drop_unread, follow_buffers
from talaria_nb.trace import convert_traced, own_buffers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import coremltools as ct
    from torch.fx import Node

    from talaria_nb.states import States

_TORCH = str(Path(torch.__file__).parent)
_FRAME = re.compile(r'File "([^\n]+)", line (\d+)')


@dataclass(frozen=True, slots=True)
class Conversion:
    """A converted model and how it came about.

    Attributes
    ----------
    mlmodel
        The uncompressed coremltools model, not compiled.
    source_map
        Where each op came from.
    repairs
        What had to be rewritten before coremltools could convert the model, one sentence each; empty for most.
    road
        "export" for torch.export, "trace" for torch.jit.trace.
    """

    mlmodel: ct.models.MLModel
    source_map: SourceMap
    repairs: tuple[str, ...]
    road: str = "export"


def convert(
    module: torch.nn.Module,
    example_inputs: object,
    deployment_target: str,
    *,
    states: States | None = None,
    progress: bool,
) -> Conversion:
    """Export a module and convert it, as it would run in eval mode and single precision.

    Parameters
    ----------
    module
        Left exactly as it is: training flags, dtypes and parameters.
    example_inputs
        One tensor, a tuple or list of positional inputs, or a mapping of keyword inputs.
    deployment_target
        "iOS16" or newer.
    states
        Buffers that become states, None for those that change; see `load`.
    progress
        Whether coremltools shows its progress bars.

    Raises
    ------
    LoadError
        If the inputs are not of these kinds, or the module cannot run on them.
    ConversionError
        If the module runs, but cannot be copied, exported or converted.
    """
    args, kwargs = as_call(example_inputs)
    name = type(module).__name__
    twin = eval_twin(module)
    if any(parameter.dtype in HALF for parameter in module.parameters()):
        args, kwargs = to_float32(args), to_float32(kwargs)
    _plain_outputs(twin)
    chosen = _experts_apart(twin)
    follow_buffers(twin)
    with quiet(progress=progress):
        try:
            conversion = convert_exported(_export(twin, args, kwargs), deployment_target, name, states)
            return replace(conversion, repairs=(*chosen, *conversion.repairs))
        except ConversionError as by_export:
            stage("Tracing")
            try:
                mlmodel, origins = convert_traced(twin, args, kwargs, deployment_target, tensors_in, states)
            except LoadError:
                raise
            except Exception:  # noqa: BLE001 - whatever it is, the first road's error says more
                raise by_export from by_export.__cause__
            return Conversion(mlmodel, origins, (f"torch.jit.trace instead of torch.export: {by_export}",), "trace")


def convert_program(
    exported: torch.export.ExportedProgram,
    deployment_target: str,
    *,
    states: States | None = None,
    progress: bool,
) -> Conversion:
    """Convert a program that the user exported; it is not changed. Raises as `convert_exported`."""
    with quiet(progress=progress):
        return convert_exported(_flat(exported), deployment_target, "the exported program", states)


def convert_exported(
    exported: torch.export.ExportedProgram, deployment_target: str, name: str, states: States | None = None
) -> Conversion:
    """Convert an exported program, repaired as far as needed.

    Parameters
    ----------
    exported
        Without in-place operators (`run_decompositions({})`). Changed in place.
    deployment_target
        "iOS16" or newer.
    name
        What to call the model in errors.
    states
        Buffers that become states, None for those that change.

    Raises
    ------
    LoadError
        If the states are not the buffers that change.
    ConversionError
        If coremltools cannot convert it, with the operator, module and source line where it failed.
    """
    unread = drop_unread(exported)
    changed = dict.fromkeys(exported.graph_signature.buffers_to_mutate.values())
    check_states(states, dict(exported.named_buffers()), changed, deployment_target, name)
    decompose: set[Any] = set()
    repairs: dict[str, None] = {}
    if unread:
        repairs[f"states: {', '.join(unread)} are set before they are read, so nothing of them has to be kept"] = None
    while True:
        stage("Repairing")
        repaired = repair(exported, decompose)
        exported = repaired.exported
        repairs |= dict.fromkeys(repaired.repairs)
        lacking = missing(exported)
        if lacking:
            op, node = next(iter(lacking.items()))
            raise ConversionError(_failure(name, node, f"coremltools has no translation for {op}"))
        number_nodes(exported)
        try:
            mlmodel = coreml.convert(exported, deployment_target)
            break
        except Exception as error:
            culprit = _culprit(error, exported)
            if culprit is None or culprit.target in decompose or decomposition(culprit.target) is None:
                if culprit is None and "rank" in str(error):
                    culprit = highest(exported)
                raise ConversionError(_failure(name, culprit, _first_line(error))) from error
            decompose.add(culprit.target)
    function = mil_function(mlmodel)
    origins = link(exported_lineage(exported), function)
    # Keep MLModel.save from writing a file of debug handles, which mean nothing outside of this conversion.
    function._essential_scope_sources.remove(ScopeSource.EXIR_DEBUG_HANDLE)  # noqa: SLF001
    return Conversion(mlmodel, origins, tuple(repairs))


def _culprit(error: Exception, exported: torch.export.ExportedProgram) -> Node | None:
    """Find the node at which coremltools failed; only its stack frames tell."""
    names = [
        node.name
        for frame, _ in traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_name == "convert_single_node" and (node := frame.f_locals.get("node")) is not None
    ]
    return next((node for node in exported.graph.nodes if names and node.name == names[-1]), None)


def _failure(name: str, node: Node | None, reason: str) -> str:
    """Say what failed, where, and what would help."""
    where = ""
    if node is not None:
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        module = stack[-1][0].partition("@")[0] if stack else ""
        frames = _FRAME.findall(node.meta.get("stack_trace") or "")
        line = next((f", {file}:{number}" for file, number in reversed(frames) if not file.startswith(_TORCH)), "")
        where = f" at operator {node.target} (module {module or 'itself'}{line})"
    return (
        f"coremltools cannot convert {name}{where}: {reason}. "
        "Replace that operation in the model, or convert a part of the model without it."
    )


def _plain_outputs(twin: torch.nn.Module) -> None:
    """Let a copied module return containers of tensors that torch can export, whatever it returned."""
    config = getattr(twin, "config", None)
    if config is not None and getattr(config, "use_cache", False):
        config.use_cache = False  # the cache is an output that no one asked for; it is a copy of the user's config

    def flatten(_module: object, _args: object, output: Any) -> Any:
        if not pytree.tree_all_only(object, _exportable, output) or not isinstance(output, _CONTAINERS):
            return tuple(tensors_in(output))
        return output

    if not isinstance(twin, torch.jit.ScriptModule):  # they take no hooks, and return containers of tensors only
        twin.register_forward_hook(flatten)


def _experts_apart(twin: torch.nn.Module) -> tuple[str, ...]:
    """Let a mixture of experts in transformers pick its weights for each token, and not by groups of tokens.

    Both compute the same; Core ML has no product whose sizes depend on values, as those of the groups do.
    """
    configs = {id(config): config for module in twin.modules() if (config := getattr(module, "config", None))}
    grouped = [each for each in configs.values() if getattr(each, "_experts_implementation", None) == "grouped_mm"]
    for config in grouped:  # copies of the user's
        config._experts_implementation = "batched_mm"  # noqa: SLF001 - the name by which one chooses
    return ("experts: picked for each token, for Core ML has no product of groups (Mixtral)",) if grouped else ()


_CONTAINERS = (torch.Tensor, tuple, list, dict)


def _exportable(leaf: object) -> bool:
    return leaf is None or isinstance(leaf, torch.Tensor)


def eval_twin(module: torch.nn.Module, replaced: Mapping[int, torch.Tensor] = MappingProxyType({})) -> torch.nn.Module:
    """Copy the structure of a module, but share its tensors, so that eval mode does not touch the user's object.

    Tensors in `replaced`, by the id of the original, take its place wherever that stands.

    Half-precision tensors are replaced by float32 ones: Core ML stores float16 whatever the module held, and
    coremltools converts only single precision.
    """
    shared: dict[int, object] = {}
    for submodule in module.modules():
        # vars() too: some modules keep plain tensors, which deepcopy would copy or, with a gradient, refuse.
        own = (*submodule.parameters(recurse=False), *submodule.buffers(recurse=False), *vars(submodule).values())
        for value in own:
            if id(value) in replaced:
                shared[id(value)] = replaced[id(value)]
            elif isinstance(value, torch.nn.Parameter) and value.dtype in HALF:
                shared[id(value)] = torch.nn.Parameter(value.detach().float(), requires_grad=False)
            elif isinstance(value, torch.Tensor):
                shared[id(value)] = value.detach().float() if value.dtype in HALF else value
    try:
        return copy.deepcopy(module, shared).eval()
    except Exception as error:
        message = (
            f"{type(module).__name__} cannot be copied ({_first_line(error)}), and load() works on a copy so as not to "
            "change your module. Keep what cannot be copied (locks, open files) outside of it."
        )
        raise ConversionError(message) from error


def _export(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.export.ExportedProgram:
    try:
        with whole_stacks(), _masks_as_given():
            stage("Exporting")
            exported = _flat(torch.export.export(module, args, kwargs))
    except Exception as error:
        name = type(module).__name__
        own_buffers(module)
        try:
            with torch.no_grad():
                module(*copy.deepcopy(args), **copy.deepcopy(kwargs))
        except Exception as run_error:
            message = (
                f"{name} does not run on these example_inputs ({describe(args, kwargs)}): {_first_line(run_error)}. "
                "Give inputs that model(*inputs) accepts."
            )
            raise LoadError(message) from run_error
        if isinstance(error, GuardOnDataDependentSymNode):
            message = (
                f"{name} decides by the values of its tensors what to do next, and a trace would keep only what these "
                f"example_inputs lead to: {_first_line(error)}. Write it with torch.where or torch.cond."
            )
            raise LoadError(message) from error
        message = f"torch.export cannot trace {name}: {_first_line(error)}."
        raise ConversionError(message) from error
    return exported


@contextmanager
def _masks_as_given() -> Iterator[None]:
    """Keep `nn.Transformer` from deciding by a mask's values whether it is causal, which no export can follow.

    It does so only to take a shorter way; the mask means the same either way. The function is torch's private one;
    where it is not as in torch 2.13, nothing is done.
    """
    own = vars(transformer).get("_detect_is_causal_mask")
    if own is None:
        yield
        return
    transformer._detect_is_causal_mask = lambda _mask, is_causal=None, *_: is_causal is True  # noqa: SLF001
    try:
        yield
    finally:
        transformer._detect_is_causal_mask = own  # noqa: SLF001


def _flat(exported: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Write out what an exported program leaves to run time: regions and operators that work in place."""
    stage("Decomposing")
    flat: torch.export.ExportedProgram = inline_regions(exported).run_decompositions({})
    return flat


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".")
