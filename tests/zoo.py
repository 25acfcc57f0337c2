"""Architectures that `load` is tried on: small variants, small images, random weights, nothing downloaded.

`ARCHITECTURES` maps a name to a function that builds a module and its example inputs. Transformers' configs keep an
architecture's structure and shrink its sizes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

import diffusion

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Subject = tuple[nn.Module, Any]

_TIMM = {
    "mobilenetv2_050": 64,
    "mobilenetv3_small_050": 64,
    "mobilenetv4_conv_small_035": 64,
    "mobilenetv4_hybrid_medium": 64,
    "mobileone_s0": 64,
    "efficientnet_lite0": 64,
    "efficientnet_b0": 64,
    "efficientnetv2_rw_t": 64,
    "tinynet_e": 64,
    "resnet10t": 64,
    "resnet18": 64,
    "resnext26ts": 64,
    "resnetv2_18": 64,
    "seresnet18": 64,
    "wide_resnet50_2": 64,
    "regnetx_002": 64,
    "regnety_002": 64,
    "densenet121": 64,
    "convnext_atto": 64,
    "convnextv2_atto": 64,
    "inception_next_atto": 64,
    "repvgg_a0": 64,
    "repghostnet_050": 64,
    "ghostnet_050": 64,
    "ghostnetv2_100": 64,
    "vgg11_bn": 64,
    "dla34": 64,
    "dpn48b": 64,
    "hrnet_w18_small": 64,
    "inception_v3": 96,
    "xception41": 64,
    "cspresnet50": 64,
    "darknet17": 64,
    "nfnet_l0": 64,
    "fastvit_t8": 64,
    "mobilevit_xxs": 64,
    "mobilevitv2_050": 64,
    "edgenext_xx_small": 64,
    "efficientformer_l1": 224,
    "efficientformerv2_s0": 224,
    "efficientvit_b0": 64,
    "efficientvit_m0": 64,
    "repvit_m0_9": 64,
    "levit_128s": 224,
    "tiny_vit_5m_224": 224,
    "vit_tiny_patch16_224": 224,
    "vit_tiny_r_s16_p8_224": 224,
    "deit_tiny_patch16_224": 224,
    "eva02_tiny_patch14_224": 224,
    "beit_base_patch16_224": 224,
    "cait_xxs24_224": 224,
    "coat_tiny": 224,
    "coatnet_nano_rw_224": 224,
    "maxvit_pico_rw_256": 256,
    "swin_tiny_patch4_window7_224": 224,
    "swinv2_tiny_window8_256": 256,
    "crossvit_tiny_240": 240,
    "convit_tiny": 224,
    "pit_ti_224": 224,
    "pvt_v2_b0": 64,
    "poolformer_s12": 64,
    "poolformerv2_s12": 64,
    "caformer_s18": 64,
    "twins_svt_small": 224,
    "xcit_nano_12_p16_224": 224,
    "mixer_s32_224": 224,
    "gmlp_s16_224": 224,
    "resmlp_12_224": 224,
    "volo_d1_224": 224,
    "focalnet_tiny_srf": 224,
    "davit_tiny": 224,
    "gcvit_xxtiny": 224,
    "hiera_tiny_224": 224,
    "nest_tiny": 224,
    "sequencer2d_s": 224,
    "visformer_tiny": 224,
    "shvit_s1": 64,
    "starnet_s1": 64,
    "lcnet_050": 64,
    "hardcorenas_a": 64,
    "fbnetc_100": 64,
    "mnasnet_small": 64,
    "rexnet_100": 64,
    "selecsls42b": 64,
    "skresnet18": 64,
    "ese_vovnet19b_dw": 64,
    "bat_resnext26ts": 256,
    "halonet26t": 256,
    "lambda_resnet26t": 224,
    "botnet26t_256": 256,
    "tresnet_m": 64,
    "vitamin_small_224": 224,
    "samvit_base_patch16": 224,
    "mambaout_femto": 64,
}
"""timm name → side of the square image."""

_TINY = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "vocab_size": 200,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
_GROUPED = {**_TINY, "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2}
_GPT2 = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64, "vocab_size": 200}
_VISION = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
_IMAGE = {**_VISION, "image_size": 32, "patch_size": 8}
_T5 = {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4, "vocab_size": 200}
_BART = {
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128,
    "vocab_size": 200,
    "max_position_embeddings": 64,
}
_WAV = {
    **_TINY,
    "conv_dim": (32, 32),
    "conv_kernel": (10, 3),
    "conv_stride": (5, 2),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}

_TRANSFORMERS: Mapping[str, tuple[str, Mapping[str, Any], str]] = {
    "bert": ("BertModel", _TINY, "mask"),
    "bert-classifier": ("BertForSequenceClassification", _TINY, "mask"),
    "roberta": ("RobertaModel", {**_TINY, "pad_token_id": 1}, "mask"),
    "distilbert": (
        "DistilBertModel",
        {"dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128, "vocab_size": 200},
        "mask",
    ),
    "albert": ("AlbertModel", {**_TINY, "embedding_size": 32}, "mask"),
    "electra": ("ElectraModel", {**_TINY, "embedding_size": 32}, "mask"),
    "mpnet": ("MPNetModel", {**_TINY, "pad_token_id": 1}, "mask"),
    "deberta-v2": ("DebertaV2Model", _TINY, "mask"),
    "modernbert": ("ModernBertModel", _TINY, "mask"),
    "mobilebert": ("MobileBertModel", {**_TINY, "intra_bottleneck_size": 32, "embedding_size": 32}, "mask"),
    "squeezebert": ("SqueezeBertModel", {**_TINY, "embedding_size": 64}, "mask"),
    "xlm-roberta": ("XLMRobertaModel", {**_TINY, "pad_token_id": 1}, "mask"),
    "t5-encoder": ("T5EncoderModel", _T5, "mask"),
    "t5": ("T5Model", _T5, "seq2seq"),
    "bart": ("BartModel", _BART, "seq2seq"),
    "gpt2": ("GPT2LMHeadModel", _GPT2, "ids"),
    "gpt-neo": (
        "GPTNeoForCausalLM",
        {
            "hidden_size": 64,
            "num_layers": 2,
            "num_heads": 4,
            "vocab_size": 200,
            "attention_types": [[["global", "local"], 1]],
            "max_position_embeddings": 64,
        },
        "ids",
    ),
    "gpt-neox": ("GPTNeoXForCausalLM", _TINY, "ids"),
    "opt": (
        "OPTForCausalLM",
        {
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "ffn_dim": 128,
            "num_attention_heads": 4,
            "vocab_size": 200,
            "max_position_embeddings": 64,
            "word_embed_proj_dim": 64,
        },
        "ids",
    ),
    "bloom": ("BloomForCausalLM", {"hidden_size": 64, "n_layer": 2, "n_head": 4, "vocab_size": 200}, "ids"),
    "falcon": (
        "FalconForCausalLM",
        {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 200},
        "ids",
    ),
    "llama": ("LlamaForCausalLM", _GROUPED, "ids"),
    "llama-masked": ("LlamaForCausalLM", _GROUPED, "mask"),
    "mistral": ("MistralForCausalLM", _GROUPED, "ids"),
    "qwen2": ("Qwen2ForCausalLM", _GROUPED, "ids"),
    "qwen3": ("Qwen3ForCausalLM", {**_GROUPED, "head_dim": 16}, "ids"),
    "gemma": ("GemmaForCausalLM", {**_GROUPED, "head_dim": 16}, "ids"),
    "gemma2": ("Gemma2ForCausalLM", {**_GROUPED, "head_dim": 16, "query_pre_attn_scalar": 16}, "ids"),
    "gemma3": ("Gemma3ForCausalLM", {**_GROUPED, "head_dim": 16, "query_pre_attn_scalar": 16}, "ids"),
    "phi": ("PhiForCausalLM", _TINY, "ids"),
    "mixtral": ("MixtralForCausalLM", {**_GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2}, "ids"),
    "gpt-oss": (
        "GptOssForCausalLM",
        {**_GROUPED, "head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 2},
        "ids",
    ),
    "phi3": ("Phi3ForCausalLM", _GROUPED, "ids"),
    "olmo": ("OlmoForCausalLM", _GROUPED, "ids"),
    "smollm3": ("SmolLM3ForCausalLM", _GROUPED, "ids"),
    "stablelm": ("StableLmForCausalLM", _GROUPED, "ids"),
    "roformer": ("RoFormerModel", {**_TINY, "embedding_size": 64}, "mask"),
    "convbert": ("ConvBertModel", {**_TINY, "embedding_size": 64}, "mask"),
    "bigbird": ("BigBirdModel", {**_TINY, "attention_type": "original_full"}, "mask"),
    "xlnet": ("XLNetModel", {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64, "vocab_size": 200}, "mask"),
    "funnel": (
        "FunnelModel",
        {
            "block_sizes": [1, 1],
            "num_decoder_layers": 1,
            "d_model": 32,
            "n_head": 4,
            "d_head": 8,
            "d_inner": 64,
            "vocab_size": 200,
        },
        "mask",
    ),
    "marian": ("MarianMTModel", {**_BART, "pad_token_id": 0, "decoder_start_token_id": 0}, "seq2seq"),
    "pegasus": ("PegasusModel", _BART, "seq2seq"),
    "mbart": ("MBartModel", _BART, "seq2seq"),
    "mpt": (
        "MptForCausalLM",
        {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 64, "vocab_size": 200},
        "ids",
    ),
    "cohere": ("CohereForCausalLM", _GROUPED, "ids"),
    "olmo2": ("Olmo2ForCausalLM", _GROUPED, "ids"),
    "vit": ("ViTModel", _IMAGE, "image"),
    "blip-vision": ("BlipVisionModel", _IMAGE, "image"),
    "deit": ("DeiTModel", _IMAGE, "image"),
    "dinov2": ("Dinov2Model", _IMAGE, "image"),
    "swin": (
        "SwinModel",
        {"image_size": 32, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4},
        "image",
    ),
    "segformer": (
        "SegformerModel",
        {"hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 2, 2]},
        "image",
    ),
    "convnext": ("ConvNextModel", {"hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1]}, "image"),
    "clip-vision": ("CLIPVisionModel", _IMAGE, "image"),
    "clip-text": ("CLIPTextModel", {**_TINY, "eos_token_id": 199, "bos_token_id": 198}, "mask"),
    "siglip-vision": ("SiglipVisionModel", _IMAGE, "image"),
    "whisper-encoder": (
        "WhisperModel",
        {**_BART, "num_mel_bins": 8, "max_source_positions": 16, "max_target_positions": 16, "pad_token_id": 0},
        "whisper",
    ),
    "wav2vec2": ("Wav2Vec2Model", _WAV, "wave"),
    "hubert": ("HubertModel", _WAV, "wave"),
    "yolos": ("YolosForObjectDetection", {**_VISION, "image_size": [32, 32], "patch_size": 8}, "image"),
}
"""Name → class, config arguments and kind of inputs."""


class Recurrent(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.head = nn.LazyLinear(10)
        self(torch.zeros(1, 6, 16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(x)[0][:, -1])


class UNetStage(nn.Module):
    """A diffusion-like residual block: group norm, SiLU, a time embedding, attention."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(4, inside)
        self.conv = nn.Conv2d(inside, outside, 3, padding=1)
        self.time = nn.Linear(32, outside)
        self.skip = nn.Conv2d(inside, outside, 1)
        self.attention = nn.MultiheadAttention(outside, 4, batch_first=True)

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        y = self.conv(functional.silu(self.norm(x))) + self.time(time)[:, :, None, None]
        tokens = y.flatten(2).transpose(1, 2)
        y = y + self.attention(tokens, tokens, tokens)[0].transpose(1, 2).reshape(y.shape)
        return y + self.skip(x)


class DiffusionUNet(nn.Module):
    """Noise and a time step in, noise out."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(4, 16, 3, padding=1)
        self.down = UNetStage(16, 32)
        self.middle = UNetStage(32, 32)
        self.up = UNetStage(48, 16)
        self.leave = nn.Conv2d(16, 4, 3, padding=1)

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> dict[str, torch.Tensor]:
        frequencies = torch.exp(-torch.arange(16, dtype=torch.float32) * 0.5)
        angles = timestep.float()[:, None] * frequencies
        time = torch.cat([angles.sin(), angles.cos()], -1)
        x = self.enter(sample)
        y = self.middle(functional.avg_pool2d(self.down(x, time), 2), time)
        y = functional.interpolate(y, scale_factor=2.0, mode="nearest")
        return {"sample": self.leave(self.up(torch.cat([x, y], 1), time))}


class Detector(nn.Module):
    """A feature pyramid with anchor-free heads; boxes are decoded on a grid."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.SiLU())
        self.deeper = nn.Sequential(nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.SiLU())
        self.lateral = nn.Conv2d(16, 32, 1)
        self.head = nn.Conv2d(32, 4 + 5, 1)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        fine = self.stem(image)
        coarse = self.deeper(fine)
        fine = self.lateral(fine) + functional.interpolate(coarse, size=fine.shape[-2:], mode="bilinear")
        boxes, scores = [], []
        for stride, level in ((2, fine), (4, coarse)):
            output = self.head(level)
            rows, columns = torch.meshgrid(torch.arange(level.shape[2]), torch.arange(level.shape[3]), indexing="ij")
            centres = (torch.stack([columns, rows]) + 0.5) * stride
            left_top, right_bottom = output[:, :4].exp().chunk(2, 1)
            boxes.append(torch.cat([centres - left_top, centres + right_bottom], 1).flatten(2))
            scores.append(output[:, 4:].sigmoid().flatten(2))
        best = torch.cat(scores, 2).amax(1).topk(10).indices
        return torch.cat(boxes, 2).transpose(1, 2)[:, best[0]], torch.cat(scores, 2)


CACHES = (".keys", ".values")
"""Last parts of the names of buffers that a model changes."""


class CachedLayer(nn.Module):
    """A decoder layer whose keys and values of earlier tokens stay in buffers."""

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, width: int, heads: int, length: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.register_buffer("keys", torch.zeros(1, heads, length, width // heads))
        self.register_buffer("values", torch.zeros(1, heads, length, width // heads))

    def forward(self, x: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        parts = self.project(self.norm(x)).chunk(3, dim=-1)
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        self.keys[:, :, position] = key
        self.values[:, :, position] = value
        seen = (torch.arange(self.keys.shape[2]) <= position)[None, None, None]
        y = functional.scaled_dot_product_attention(query, self.keys, self.values, attn_mask=seen)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        return x + self.feed_forward(x)


class CachedDecoder(nn.Module):
    """One token and its position in, the next token's logits out; the caches are changed in place."""

    def __init__(self, layers: int = 2, width: int = 32, length: int = 16) -> None:
        super().__init__()
        self.tokens = nn.Embedding(100, width)
        self.places = nn.Embedding(length, width)
        self.layers = nn.ModuleList(CachedLayer(width, 4, length) for _ in range(layers))

    def forward(self, token: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        x = self.tokens(token) + self.places(position)
        for layer in self.layers:
            x = layer(x, position)
        return functional.linear(x, self.tokens.weight)


def static_cache_decoder(class_name: str = "LlamaForCausalLM", length: int = 16) -> nn.Module:
    """Build a language model as transformers exports it: its cache, of a fixed length, lies in buffers."""
    import transformers
    from transformers.integrations.executorch import TorchExportableModuleWithStaticCache

    model_class = getattr(transformers, class_name)
    model = model_class(model_class.config_class(**_GROUPED, head_dim=16)).eval()
    model.generation_config.cache_implementation = "static"
    return TorchExportableModuleWithStaticCache(model, batch_size=1, max_cache_len=length)


def _timm(name: str, side: int) -> Subject:
    import timm

    extra = {"img_size": side} if name == "samvit_base_patch16" else {}
    return timm.create_model(name, **extra).eval(), torch.rand(1, 3, side, side)


def _transformers(class_name: str, arguments: Mapping[str, Any], kind: str) -> Subject:
    import transformers

    model_class = getattr(transformers, class_name)
    module = model_class(model_class.config_class(**arguments)).eval()
    ids = torch.arange(3, 19)[None]
    mask = torch.ones_like(ids)
    inputs: dict[str, torch.Tensor] = {
        "ids": {"input_ids": ids},
        "mask": {"input_ids": ids, "attention_mask": mask},
        "seq2seq": {"input_ids": ids, "attention_mask": mask, "decoder_input_ids": ids[:, :4]},
        "image": {"pixel_values": torch.rand(1, 3, 32, 32)},
        "wave": {"input_values": torch.rand(1, 2000)},
        "whisper": {"input_features": torch.rand(1, 8, 32), "decoder_input_ids": ids[:, :4]},
    }[kind]
    return module, inputs


def _architectures() -> dict[str, Callable[[], Subject]]:
    made: dict[str, Callable[[], Subject]] = {
        "lstm": lambda: (Recurrent(nn.LSTM(16, 32, batch_first=True)), torch.rand(1, 6, 16)),
        "lstm-bidirectional": lambda: (
            Recurrent(nn.LSTM(16, 32, 2, batch_first=True, bidirectional=True)),
            torch.rand(1, 6, 16),
        ),
        "gru": lambda: (Recurrent(nn.GRU(16, 32, batch_first=True)), torch.rand(1, 6, 16)),
        "rnn": lambda: (Recurrent(nn.RNN(16, 32, batch_first=True)), torch.rand(1, 6, 16)),
        "unet": lambda: (DiffusionUNet(), (torch.rand(1, 4, 16, 16), torch.tensor([7]))),
        "unet-conditioned": lambda: (
            diffusion.ConditionedUNet(),
            (torch.rand(1, 4, 16, 16), torch.tensor([7]), torch.rand(1, 5, 24)),
        ),
        "unet-resampling": lambda: (
            diffusion.ResamplingUNet(),
            (torch.rand(1, 3, 16, 16), torch.tensor([7]), torch.tensor([3])),
        ),
        "decoder-stateful": lambda: (CachedDecoder(), (torch.tensor([[5]]), torch.tensor([3]))),
        **{
            f"transformers/{name}-static-cache": lambda c=class_name: (  # type: ignore[misc]
                static_cache_decoder(c),
                {"input_ids": torch.tensor([[5]]), "cache_position": torch.tensor([3])},
            )
            for name, class_name in (
                ("llama", "LlamaForCausalLM"),
                ("qwen2", "Qwen2ForCausalLM"),
                ("gemma", "GemmaForCausalLM"),
            )
        },
        "detector": lambda: (Detector(), torch.rand(1, 3, 64, 64)),
        "transformer": lambda: (
            nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), 2),
            torch.rand(1, 6, 32),
        ),
    }
    for name, (class_name, arguments, kind) in _TRANSFORMERS.items():
        made[f"transformers/{name}"] = lambda c=class_name, a=arguments, k=kind: _transformers(c, a, k)  # type: ignore[misc]
    for name, side in _TIMM.items():
        made[f"timm/{name}"] = lambda n=name, s=side: _timm(n, s)  # type: ignore[misc]
    return made


ARCHITECTURES: Mapping[str, Callable[[], Subject]] = _architectures()

FAST = (
    "lstm",
    "lstm-bidirectional",
    "gru",
    "unet",
    "decoder-stateful",
    "detector",
    "transformers/bert",
    "transformers/gpt2",
    "transformers/llama",
    "transformers/vit",
    "timm/mobilenetv3_small_050",
    "timm/efficientvit_b0",
)
"""Those that `make test` loads every time."""


def build(name: str) -> Subject:
    """Build one architecture, with the same random weights every time."""
    torch.manual_seed(0)
    module, inputs = ARCHITECTURES[name]()
    return module.eval(), inputs
