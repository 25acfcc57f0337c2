"""Plan → Python source that trains a torch module for the bits that the plan gives it, where few bits cost too much.

Every script teaches the compressed module to do what the original does on inputs alone, so none needs labels. All that
is in it stands in plain sight, to be changed: the loss above all.
"""

from __future__ import annotations

from pprint import pformat
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, get_args

import torch

from talaria_nb.errors import ExportError
from talaria_nb.schemes import Float16
from talaria_nb.torch_configs import torch_modules

if TYPE_CHECKING:
    from talaria_nb.plan import Plan

Training: TypeAlias = Literal["dkm", "qat", "lora"]


def training_script(plan: Plan, method: Training) -> str:
    """Write a script that trains the module of a plan's model for the plan.

    Parameters
    ----------
    plan
        A plan for a model that was loaded from a torch module.
    method
        "dkm": palettes that are trained with the weights, by coremltools' DKMPalettizer. "qat": weights that are
        trained while they are rounded to integers, by its LinearQuantizer; for modules that torch.fx can trace. "lora":
        the compressed weights stay, and adapters of low rank beside them are trained, in plain PyTorch.

    Returns
    -------
    str
        Source with two functions to fill in, `module()` and `batches()`; then it runs as it stands.

    Raises
    ------
    ExportError
        If the method is unknown, the model did not come from a torch module, or the plan holds nothing for the method.
    """
    if method not in get_args(Training):
        raise ExportError(f"There is no training {method!r}. Choose from {', '.join(get_args(Training))}.")
    name = " ".join(plan.model.program.name.replace("\\", "/").replace('"', "'").split())
    if method == "lora":
        return _LORA.replace("{NAME}", name).replace("{LAYERS}", _source(_linear_layers(plan))) + _SHARED
    compressor = _COMPRESSORS[method]
    found = torch_modules(plan, compressor.name)
    if not found.modules:
        reason = next(iter(found.not_covered.values()), "It leaves every weight as it is.")
        raise ExportError(f"The plan holds nothing that {compressor.name} trains. {reason}")
    left = [f"# {reason}" for reason in found.not_covered.values()]
    about = ["# What the script leaves as it is:", *left, ""] if left else []
    if found.fused:
        about.append("# A layer before a ReLU is fused with it; its name ends in .0 then, which is not there before.")
    fill = {
        "NAME": name,
        "CONFIG": "\n".join([*about, f"CONFIG = {_source(found.document)}"]),
        "COMPRESSOR": compressor.name,
        "PACKAGE": compressor.package,
        "EXAMPLE": compressor.example,
    }
    source = _COMPRESSED
    for field, text in fill.items():
        source = source.replace(f"{{{field}}}", text)
    return source + _SHARED


class _Compressor(NamedTuple):
    """A class of coremltools that trains: its name, its package, and what its `prepare` is given."""

    name: str
    package: str
    example: str


_COMPRESSORS = {
    "dkm": _Compressor("DKMPalettizer", "palettization", ""),
    "qat": _Compressor("LinearQuantizer", "quantization", "example_inputs=arguments(data[0])"),
}


def _linear_layers(plan: Plan) -> list[str]:
    """List the linear layers whose weights the plan compresses."""
    module = plan.model.module
    if module is None:
        raise ExportError(f"{plan.model.program.name} was not loaded from a torch module, so there is none to train.")
    parameters = plan.model.source_map.parameters
    paths = [
        parameters[weight].removesuffix(".weight")
        for weight, scheme in plan.schemes.items()
        if weight in parameters and not isinstance(scheme, Float16)
    ]
    linear = {path for path, layer in module.named_modules() if path and type(layer) is torch.nn.Linear}
    layers = [path for path in paths if path in linear]
    if not layers:
        raise ExportError("The plan compresses no linear layer that an adapter could stand beside.")
    return layers


def _source(value: Any) -> str:
    return pformat(value, width=116, sort_dicts=False)


_COMPRESSED = '''"""Train {NAME} for the bits that talaria-nb planned, with coremltools' {COMPRESSOR}."""

import copy
import itertools

import torch
from coremltools.optimize.torch.{PACKAGE} import {COMPRESSOR}, {COMPRESSOR}Config

STEPS, LEARNING_RATE = 1000, 1e-5

{CONFIG}


def train(teacher, data):
    """Return a trained copy of the module, and the loss of every step."""
    compressor = {COMPRESSOR}(copy.deepcopy(teacher), {COMPRESSOR}Config.from_dict(CONFIG))
    student = compressor.prepare({EXAMPLE})
    student.train()
    losses = learn(teacher, student, data, compressor.step)
    student.eval()
    return compressor.finalize(inplace=True), losses


def main(path="trained.pt"):
    """Train, and keep the module's values: load it with talaria_nb.load to convert it as it is."""
    student, losses = train(module().eval(), list(batches()))
    print(f"loss {losses[0]:.4g} at first, {losses[-1]:.4g} at last")
    torch.save(student.state_dict(), path)
    return student, losses
'''

_LORA = '''"""Recover what {NAME} lost when talaria-nb compressed it: adapters of low rank, taught by the original.

The compressed weights stay as they are. They come from a file that the notebook writes before:
torch.save(plan.to_module().state_dict(), "compressed.pt")
"""

import copy
import itertools

import torch

STEPS, LEARNING_RATE, RANK = 1000, 1e-3, 8

LAYERS = {LAYERS}


class WithAdapter(torch.nn.Module):
    """A linear layer that stays as it is, and what is trained beside it; peft names it so too."""

    def __init__(self, base, rank):
        super().__init__()
        self.base = base
        self.lora_A = torch.nn.Linear(base.in_features, rank, bias=False)
        self.lora_B = torch.nn.Linear(rank, base.out_features, bias=False)
        torch.nn.init.zeros_(self.lora_B.weight)  # nothing changes at first

    def forward(self, x):
        """Add the correction."""
        return self.base(x) + self.lora_B(self.lora_A(x))


def adapted(teacher, compressed, rank=RANK):
    """Return a copy of the module with the compressed values and new adapters."""
    student = copy.deepcopy(teacher)
    student.load_state_dict(compressed)
    student.requires_grad_(False)
    for path in LAYERS:
        student.set_submodule(path, WithAdapter(student.get_submodule(path), rank))
    return student


def adapter_of(student):
    """Return the adapters' values by name."""
    return {name: value for name, value in student.state_dict().items() if ".lora_" in name}


def export(adapter, path):
    """Write adapters as safetensors; the packages transformers and peft bring that format."""
    from safetensors.torch import save_file

    save_file(adapter, path)


def main(compressed="compressed.pt", path="adapter.safetensors"):
    """Train, and keep the adapters: adapted(…) and load_state_dict(…, strict=False) bring them back."""
    teacher = module().eval()
    student = adapted(teacher, torch.load(compressed, weights_only=True)).eval()
    losses = learn(teacher, student, list(batches()))
    print(f"loss {losses[0]:.4g} at first, {losses[-1]:.4g} at last")
    export(adapter_of(student), path)
    return student, losses
'''

_SHARED = '''

def module():
    """Return the trained module that was loaded."""
    raise NotImplementedError("Return your module here.")


def batches():
    """Yield inputs of the module: a tensor, a tuple of arguments, or a dict of named ones."""
    raise NotImplementedError("Yield your inputs here: some hundreds at least.")


def learn(teacher, student, data, after=lambda: None):
    """Teach what can be trained of a student to do what the teacher does, and return the loss of every step."""
    optimizer = torch.optim.AdamW([each for each in student.parameters() if each.requires_grad], LEARNING_RATE)
    losses = []
    for _, batch in zip(range(STEPS), itertools.cycle(data)):
        with torch.no_grad():
            wanted = run(teacher, batch)
        loss = distance(run(student, batch), wanted)  # or the loss of your task
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        after()
        losses.append(loss.item())
    return losses


def run(network, batch):
    """Call a module with one input."""
    if isinstance(batch, dict):
        return network(**batch)
    return network(*arguments(batch))


def arguments(batch):
    """Return one input as arguments by place."""
    if isinstance(batch, dict):
        return tuple(batch.values())
    return tuple(batch) if isinstance(batch, (tuple, list)) else (batch,)


def distance(outputs, wanted):
    """Return how far outputs are from those of the original: mean squared difference over mean square."""
    pairs = list(zip(tensors(outputs), tensors(wanted), strict=True))
    return sum((one - other).square().mean() / other.square().mean() for one, other in pairs) / len(pairs)


def tensors(outputs):
    """List the floating tensors in what a module returns."""
    if isinstance(outputs, torch.Tensor):
        return [outputs] if outputs.is_floating_point() else []
    if isinstance(outputs, dict):
        outputs = outputs.values()
    return [tensor for each in outputs if each is not None for tensor in tensors(each)]


if __name__ == "__main__":
    main()
'''
