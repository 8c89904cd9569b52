"""Swin-UNETR in two dimensions (Hatamizadeh et al. 2022), MONAI's."""

from __future__ import annotations

import torch
from monai.networks.nets.swin_unetr import SwinUNETR, WindowAttention
from torch import nn

from cinelabel.networks.base import Network
from cinelabel.networks.specs import NetworkSpec


class SwinUnetr(Network):
    """A Swin encoder and a convolutional decoder, with convolutions on each skip connection."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__(spec)
        self.unetr = SwinUNETR(
            in_channels=spec.in_channels,
            out_channels=spec.classes,
            depths=spec.depths,
            num_heads=spec.heads,
            window_size=spec.window,
            feature_size=spec.features[0],
            dropout_path_rate=spec.drop_path,
            spatial_dims=2,
        )
        for module in self.unetr.modules():  # numbers of the window's geometry, no weights
            if isinstance(module, WindowAttention):
                index = module.get_buffer("relative_position_index")
                module.register_buffer("relative_position_index", index, persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (b, classes, size, size) of images (b, in_channels, size, size)."""
        return self.unetr(images)

    def layers(self) -> dict[str, list[nn.Module]]:
        """The modules of each layer group; the convolutions of a skip go with what they refine.

        MONAI counts from the finest: its `encoder1` refines the image, `encoder2` the embedded
        patches, `encoder10` the coarsest stage; `decoder5` is the coarsest.
        """
        net = self.unetr
        swin = net.swinViT
        return {
            "stem": [swin.patch_embed, net.encoder1, net.encoder2],
            "encoder_1": [swin.layers1, net.encoder3],
            "encoder_2": [swin.layers2, net.encoder4],
            "encoder_3": [swin.layers3],
            "bottleneck": [swin.layers4, net.encoder10],
            "decoder_1": [net.decoder5],
            "decoder_2": [net.decoder4],
            "decoder_3": [net.decoder3],
            "decoder_4": [net.decoder2],
            "decoder_5": [net.decoder1],
            "head": [net.out],
        }
