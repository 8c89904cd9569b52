"""Swin-UNet (Cao et al. 2021) with a convolutional end (Gong et al. 2022, section 2.2).

The encoder is timm's Swin transformer (Liu et al. 2021); the decoder mirrors it, with patch
expanding for patch merging and a linear layer that joins each skip. Skips leave a stage after its
blocks, as the figure of Cao et al. shows. Two convolutions with layer normalisation and leaky ReLU
between them make the zigzag borders of single patches smooth.
"""

from __future__ import annotations

import torch
from timm.models.swin_transformer import SwinTransformer, SwinTransformerStage
from torch import nn

from cinelabel.networks.base import Network
from cinelabel.networks.specs import FAMILIES, NetworkSpec

LEAKY_SLOPE = 0.01
WEIGHT_SPREAD = 0.02
TOKEN_FEATURES = 32
"""Channels of a pixel that the transformer hands to the convolutions."""
HIDDEN_FEATURES = 16
"""Channels between the two convolutions."""


class PatchExpanding(nn.Module):
    """Tokens (b, h, w, inputs) to (b, scale*h, scale*w, outputs), by a linear layer each."""

    def __init__(self, inputs: int, outputs: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.expand = nn.Linear(inputs, scale * scale * outputs, bias=False)
        self.norm = nn.LayerNorm(outputs)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Each token's values in the order (row, column, channel) of the finer ones."""
        batch, height, width, _ = tokens.shape
        s = self.scale
        finer = self.expand(tokens).reshape(batch, height, width, s, s, -1)
        finer = finer.permute(0, 1, 3, 2, 4, 5).reshape(batch, s * height, s * width, -1)
        return self.norm(finer)


class DecoderStage(nn.Module):
    """Expand the coarser tokens, join the skip of the encoder, then the mirrored Swin blocks."""

    def __init__(self, spec: NetworkSpec, level: int, side: int) -> None:
        super().__init__()
        channels = spec.features[level]
        self.up = PatchExpanding(spec.features[level + 1], channels, scale=2)
        self.join = nn.Linear(2 * channels, channels)
        self.swin = SwinTransformerStage(
            dim=channels,
            out_dim=channels,
            input_resolution=(side, side),
            depth=spec.depths[level],
            downsample=False,
            num_heads=spec.heads[level],
            window_size=spec.window,
            drop_path=drop_paths(spec)[level],
        )

    def forward(self, tokens: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """(b, h, w, c) and a skip (b, 2h, 2w, c') give (b, 2h, 2w, c')."""
        return self.swin(self.join(torch.cat([self.up(tokens), skip], dim=-1)))


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation of each pixel over its channels, for (b, c, h, w)."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class SwinUnet(Network):
    """A Swin encoder, its mirrored decoder, and two convolutions."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__(spec)
        patch, first = FAMILIES[spec.family].patch, spec.features[0]
        self.encoder = SwinTransformer(
            img_size=spec.size,
            patch_size=patch,
            in_chans=spec.in_channels,
            num_classes=0,
            embed_dim=first,
            depths=spec.depths,
            num_heads=spec.heads,
            window_size=spec.window,
            drop_path_rate=spec.drop_path,
        )
        self.decoder = nn.ModuleList(
            DecoderStage(spec, level, spec.size // patch // 2**level)
            for level in reversed(range(len(spec.features) - 1))
        )
        self.norm = nn.LayerNorm(first)
        self.last_up = PatchExpanding(first, first, scale=patch)
        self.to_pixels = nn.Linear(first, TOKEN_FEATURES, bias=False)
        self.smooth = nn.Sequential(
            nn.Conv2d(TOKEN_FEATURES, HIDDEN_FEATURES, 3, padding=1),
            ChannelNorm(HIDDEN_FEATURES),
            nn.LeakyReLU(LEAKY_SLOPE),
            nn.Conv2d(
                HIDDEN_FEATURES, spec.classes, spec.head_kernel, padding=spec.head_kernel // 2
            ),
        )
        for part in (self.decoder, self.last_up, self.to_pixels):
            part.apply(_initialise)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (b, classes, size, size) of images (b, in_channels, size, size)."""
        tokens = self.encoder.patch_embed(images)
        skips = []
        for stage in self.encoder.layers:
            tokens = stage(tokens)
            skips.append(tokens)
        tokens = self.encoder.norm(skips.pop())
        for stage in self.decoder:
            tokens = stage(tokens, skips.pop())
        pixels = self.to_pixels(self.last_up(self.norm(tokens)))
        return self.smooth(pixels.permute(0, 3, 1, 2))

    def layers(self) -> dict[str, list[nn.Module]]:
        """The modules of each layer group; the head expands to pixels and classifies."""
        *inner, last = self.encoder.layers
        return {
            "stem": [self.encoder.patch_embed],
            **{f"encoder_{i}": [stage] for i, stage in enumerate(inner, start=1)},
            "bottleneck": [last, self.encoder.norm],
            **{f"decoder_{i}": [stage] for i, stage in enumerate(self.decoder, start=1)},
            "head": [self.norm, self.last_up, self.to_pixels, self.smooth],
        }


def drop_paths(spec: NetworkSpec) -> list[list[float]]:
    """The chance to skip each block of each encoder stage, growing linearly; decoders mirror it."""
    rates = torch.linspace(0, spec.drop_path, sum(spec.depths), device="cpu")
    return [stage.tolist() for stage in rates.split(list(spec.depths))]


def _initialise(module: nn.Module) -> None:
    """Linear layers as in Swin: truncated normal weights, zero biases."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=WEIGHT_SPREAD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
