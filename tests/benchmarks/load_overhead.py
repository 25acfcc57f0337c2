"""What `tnb.load` adds to bare export and conversion, in time and memory: `python tests/benchmarks/load_overhead.py`.

Every measurement is a process of its own, which builds the module, converts a tiny one to be warm, and then does one of
the two. They take turns; single times depend on the machine, so the ratio of medians is what counts. Memory is the
highest resident size of the process beyond what it held before. Bare conversion gets the same graph repairs where a
model does not convert without them (marked †).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1]))

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

REPAIRED = ("MiniLM", "GPT-2")
"""Models whose masks coremltools alone does not convert."""


def small_cnn() -> tuple[torch.nn.Module, Any]:
    import torch

    import models

    return models.Classifier(), torch.zeros(1, 3, 32, 32)


def unet() -> tuple[torch.nn.Module, Any]:
    import torch

    import models

    return models.UNet(), torch.zeros(1, 3, 32, 32)


def minilm() -> tuple[torch.nn.Module, Any]:
    import models

    return models.minilm_module(), dict(models.minilm_inputs())


def timm_model(name: str) -> tuple[torch.nn.Module, Any]:
    import timm
    import torch

    return timm.create_model(name), torch.zeros(1, 3, 224, 224)


def gpt2() -> tuple[torch.nn.Module, Any]:
    import torch
    from transformers import GPT2Config, GPT2Model

    return GPT2Model(GPT2Config(n_layer=4, use_cache=False, return_dict=False)), torch.zeros(1, 64, dtype=torch.long)


MODELS: dict[str, Callable[[], tuple[torch.nn.Module, Any]]] = {
    "small CNN": small_cnn,
    "U-Net": unet,
    "MobileNetV2": lambda: timm_model("mobilenetv2_100"),
    "ResNet-50": lambda: timm_model("resnet50"),
    "ViT-S/16": lambda: timm_model("vit_small_patch16_224"),
    "MiniLM": minilm,
    "GPT-2": gpt2,
}


def bare(module: torch.nn.Module, inputs: Any, *, repaired: bool) -> object:
    """Export and convert with nothing around it."""
    import coremltools as ct
    import torch

    from talaria_nb.repairs import repair

    args, kwargs = ((), inputs) if isinstance(inputs, dict) else ((inputs,), {})
    exported = torch.export.export(module, args, kwargs).run_decompositions({})
    if repaired:
        exported = repair(exported).exported
    return ct.convert(exported, minimum_deployment_target=ct.target.iOS18, skip_model_load=True)


def load(module: torch.nn.Module, inputs: Any) -> object:
    import talaria_nb as tnb

    return tnb.load(module, inputs, progress=False)


def resident(field: str) -> int:
    """Read "VmRSS" or "VmHWM" of this process (Linux), in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


def measure(name: str, how: str) -> None:
    """Print seconds and bytes of one conversion in this process."""
    import torch

    import conftest  # noqa: F401 - it finds timm
    from talaria_nb.quiet import quiet

    convert = load if how == "load" else lambda *given: bare(*given, repaired=name in REPAIRED)
    with quiet(progress=False):
        convert(torch.nn.Conv2d(3, 3, 1).eval(), torch.zeros(1, 3, 8, 8))
        module, inputs = MODELS[name]()
        module.eval()
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # VmHWM starts again from here
        before = resident("VmRSS")
        start = time.perf_counter()
        kept = convert(module, inputs)
        seconds = time.perf_counter() - start
    print(json.dumps([seconds, resident("VmHWM") - before, str(type(kept))]))  # noqa: T201


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--measure", nargs=2)
    given = parser.parse_args()
    if given.measure:
        measure(*given.measure)
        return
    print("| model | bare | `tnb.load` | time | bare | `tnb.load` | memory |")  # noqa: T201
    print("| --- | --- | --- | --- | --- | --- | --- |")  # noqa: T201
    for name in MODELS:
        found: dict[str, list[list[Any]]] = {"bare": [], "load": []}
        for _ in range(given.rounds):
            for how, each in found.items():
                command = [sys.executable, __file__, "--measure", name, how]
                each.append(json.loads(subprocess.check_output(command, text=True).splitlines()[-1]))
        time_of, memory_of = (
            {how: statistics.median(one[column] for one in each) for how, each in found.items()} for column in (0, 1)
        )
        cells = [
            f"{name}{' †' * (name in REPAIRED)}",
            *(f"{time_of[how]:.2f} s" for how in found),
            f"{time_of['load'] / time_of['bare']:.2f}",
            *(f"{memory_of[how] / 2**20:.0f} MiB" for how in found),
            f"{memory_of['load'] / memory_of['bare']:.2f}",
        ]
        print("| " + " | ".join(cells) + " |", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
