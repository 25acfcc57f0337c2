"""What every test file shares."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version

import torch


def _torchvision_lacks_its_operators() -> bool:
    """Tell whether torchvision is the registry's CUDA build beside a CPU build of torch."""
    try:
        torchvision = version("torchvision")
    except PackageNotFoundError:
        return False
    return sys.platform == "linux" and torch.version.cuda is None and "+" not in torchvision


if _torchvision_lacks_its_operators():
    # That build cannot load its compiled operators, and then fails to import for want of their schemas. timm needs
    # torchvision only to be importable; no model in these tests calls the operators. Kept: a library undefines its
    # operators when it is collected.
    _torchvision_library = torch.library.Library("torchvision", "DEF")
    _torchvision_library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _torchvision_library.define(
        "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    )
