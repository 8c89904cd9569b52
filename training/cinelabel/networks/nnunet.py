"""The U-Nets of nnU-Net (Isensee et al. 2021), built by dynamic-network-architectures.

Convolution, instance normalisation, leaky ReLU, strided down- and transposed up-sampling, biases
and He initialisation are nnU-Net's defaults; only the numbers come from the specification. In two
dimensions the bottleneck may be deformable (Gong et al. 2022, section 2.2).
"""

from __future__ import annotations

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from torch import nn

from cinelabel.networks.base import Network
from cinelabel.networks.deformable import DeformableConvolution
from cinelabel.networks.specs import NetworkSpec

LEAKY_SLOPE = 0.01
NORMALISATION_EPSILON = 1e-5


class NnUNet(Network):
    """The 2D or 3D U-Net of a specification; the finest logits alone outside training."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__(spec)
        stages, flat = len(spec.features), spec.dimensions == 2
        self.unet = PlainConvUNet(
            input_channels=spec.in_channels,
            n_stages=stages,
            features_per_stage=spec.features,
            conv_op=nn.Conv2d if flat else nn.Conv3d,
            kernel_sizes=3 if flat else spec.kernels,
            strides=(1, *[2] * (stages - 1)) if flat else spec.strides,
            n_conv_per_stage=spec.convs_per_stage,
            num_classes=spec.classes,
            n_conv_per_stage_decoder=spec.decoder_convs_per_stage,
            conv_bias=True,
            norm_op=nn.InstanceNorm2d if flat else nn.InstanceNorm3d,
            norm_op_kwargs={"eps": NORMALISATION_EPSILON, "affine": True},
            nonlin=nn.LeakyReLU,
            nonlin_kwargs={"negative_slope": LEAKY_SLOPE, "inplace": True},
            deep_supervision=spec.deep_supervision,
        )
        if not spec.deep_supervision:  # the library builds the coarse heads all the same
            heads = self.unet.decoder.seg_layers
            for stage in range(len(heads) - 1):
                heads[stage] = nn.Identity()
        self.unet.apply(self.unet.initialize)
        if spec.deformable_bottleneck:  # after the initialisation, which offsets must not see
            self._deform_bottleneck()

    def _deform_bottleneck(self) -> None:
        """Replace the last encoder stage's convolutions, under both names the library uses."""
        (stacked,) = self.unet.encoder.stages[-1]
        for block in stacked.convs:
            block.conv = DeformableConvolution.like(block.conv)
            block.all_modules[0] = block.conv

    def train(self, mode: bool = True) -> NnUNet:
        """Set training mode, and with it whether the coarse logits are computed."""
        super().train(mode)
        self.unet.decoder.deep_supervision = mode and self.spec.deep_supervision
        return self

    def forward(self, images: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """Logits (b, classes, ...) of images (b, in_channels, ...); see `networks.build`."""
        return self.unet(images)

    def layers(self) -> dict[str, list[nn.Module]]:
        """The modules of each layer group; the head has the classifiers of all resolutions."""
        encoder, decoder = self.unet.encoder.stages, self.unet.decoder
        inner = {f"encoder_{i}": [encoder[i]] for i in range(1, len(encoder) - 1)}
        up = {
            f"decoder_{i}": [transposed, stage]
            for i, (transposed, stage) in enumerate(
                zip(decoder.transpconvs, decoder.stages, strict=True), start=1
            )
        }
        return {
            "stem": [encoder[0]],
            **inner,
            "bottleneck": [encoder[-1]],
            **up,
            "head": [decoder.seg_layers],
        }
