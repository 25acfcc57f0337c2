"""Makes timm and torchvision importable: `make test` puts them into a folder of their own."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

sys.path.append(str(Path(sys.prefix) / "vision"))


def _torchvision_lacks_its_operators() -> bool:
    """Tell whether torchvision is the registry's CUDA build beside a CPU build of torch."""
    try:
        torchvision = version("torchvision")
    except PackageNotFoundError:
        return False
    return sys.platform == "linux" and torch.version.cuda is None and "+" not in torchvision


if _torchvision_lacks_its_operators():
    # That build cannot load its compiled operators, and then fails to import for want of their schemas. timm and
    # transformers only need to import it; no model in these tests calls the operators. Kept in a variable: a library
    # undefines its operators when it is collected.
    _torchvision_library = torch.library.Library("torchvision", "DEF")
    _torchvision_library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _torchvision_library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
