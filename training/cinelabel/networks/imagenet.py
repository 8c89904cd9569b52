"""ImageNet weights of a Swin transformer for Swin-UNet: its encoder, and its decoder mirrored.

As Cao et al. (2021) do: the blocks of an encoder stage also start the decoder stage of the same
resolution. Weights come from a file, or from timm by name; nothing is fetched unless it is named.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError

import timm
import torch
from timm.layers import resize_rel_pos_bias_table
from timm.models import adapt_input_conv

from cinelabel.core.errors import ModelError
from cinelabel.networks.swin_unet import SwinUnet
from cinelabel.networks.weights import Transfer, is_encoder, read_weights

_BLOCK = re.compile(r"layers\.(\d+)\.(blocks\..+)")
_MERGING = re.compile(r"layers\.(\d+)\.downsample\.")
_FIRST = "patch_embed.proj.weight"
_TABLE = "relative_position_bias_table"
_COMPUTED = ("relative_position_index", "attn_mask")


def load_imagenet(network: SwinUnet, source: Path | str) -> Transfer:
    """Fill encoder and mirrored decoder; says which weights were taken, which not, and why.

    source: a file (safetensors, or tensors saved by torch) with the names of timm or of the
    original Swin transformer; or, as a string, a model of timm, whose weights timm may download.
    A first layer for colours is summed over them for one channel; position biases of another window
    are interpolated. Raises ModelError if the source cannot be read or nothing in it fits.
    """
    own = dict(network.named_parameters())
    taken: list[str] = []
    left: dict[str, str] = {}
    with torch.no_grad():
        for name, tensor in _as_timm(_read(source)).items():
            for target in _targets(name, len(network.decoder)):
                if target not in own:
                    left[name] = "this network has no such tensor"
                    continue
                fitted = _fitted(name, tensor, own[target])
                if fitted.shape != own[target].shape:
                    shapes = f"{tuple(fitted.shape)} instead of {tuple(own[target].shape)}"
                    left[name] = f"shape {shapes}"
                    continue
                own[target].copy_(fitted)
                taken.append(target)
    if not taken:
        raise ModelError(
            "none of these weights fits the Swin transformer of this network",
            where=source,
            remedy="Use weights of a Swin transformer with the same features",
        )
    groups = network.layer_groups()
    encoder = {id(p) for group, members in groups.items() if is_encoder(group) for p in members}
    done = set(taken)
    kept = [name for name, p in own.items() if id(p) in encoder and name not in done]
    return Transfer(tuple(taken), left, tuple(kept))


def _read(source: Path | str) -> Mapping[str, torch.Tensor]:
    if isinstance(source, str):
        try:
            return timm.create_model(source, pretrained=True).state_dict()
        except (RuntimeError, OSError, ValueError) as error:
            raise ModelError(f"timm gives no weights: {error}", where=source) from error
    if source.suffix == ".safetensors":
        return read_weights(source)
    try:
        loaded = torch.load(source, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, UnpicklingError) as error:
        raise ModelError("this is not a file of weights", where=source) from error
    loaded = loaded.get("model", loaded) if isinstance(loaded, dict) else {}
    return {k: t for k, t in loaded.items() if isinstance(t, torch.Tensor)}


def _as_timm(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Under timm's names: the original transformer merges patches at the end of a stage."""
    weights = {k: t for k, t in weights.items() if not k.endswith(_COMPUTED)}
    if not any(name.startswith("layers.0.downsample.") for name in weights):
        return weights
    return {
        _MERGING.sub(lambda found: f"layers.{int(found[1]) + 1}.downsample.", name): tensor
        for name, tensor in weights.items()
    }


def _targets(name: str, decoder_stages: int) -> Iterator[str]:
    """Where a tensor of the transformer goes; blocks but the coarsest go to the decoder as well."""
    yield f"encoder.{name}"
    block = _BLOCK.fullmatch(name)
    if block and int(block[1]) < decoder_stages:
        yield f"decoder.{decoder_stages - 1 - int(block[1])}.swin.{block[2]}"


def _fitted(name: str, tensor: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """A first layer for other channels, or position biases of another window; else as it is."""
    if tensor.shape == target.shape:
        return tensor
    if name == _FIRST and tensor.shape[1] == 3:
        return adapt_input_conv(target.shape[1], tensor)
    if name.endswith(_TABLE) and tensor.shape[1] == target.shape[1]:
        side = (math.isqrt(target.shape[0]) + 1) // 2  # a window of n has (2 n - 1)^2 offsets
        return resize_rel_pos_bias_table(tensor, (side, side), tuple(target.shape))
    return tensor
