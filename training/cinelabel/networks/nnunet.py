"""The 2D U-Net of nnU-Net (Isensee et al. 2021), built by dynamic-network-architectures.

Convolution, instance normalisation, leaky ReLU, strided down- and transposed up-sampling, biases
and He initialisation are nnU-Net's defaults; only the numbers come from the specification.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from torch import nn

from cinelabel.core.errors import ModelError
from cinelabel.networks.specs import NetworkSpec

LEAKY_SLOPE = 0.01
NORMALISATION_EPSILON = 1e-5


class NnUNet2d(nn.Module):
    """The U-Net of a specification; the finest logits alone outside training."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec = spec
        stages = len(spec.features)
        self.unet = PlainConvUNet(
            input_channels=spec.in_channels,
            n_stages=stages,
            features_per_stage=spec.features,
            conv_op=nn.Conv2d,
            kernel_sizes=3,
            strides=(1, *[2] * (stages - 1)),
            n_conv_per_stage=spec.convs_per_stage,
            num_classes=spec.classes,
            n_conv_per_stage_decoder=spec.decoder_convs_per_stage,
            conv_bias=True,
            norm_op=nn.InstanceNorm2d,
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

    def train(self, mode: bool = True) -> NnUNet2d:
        """Set training mode, and with it whether the coarse logits are computed."""
        super().train(mode)
        self.unet.decoder.deep_supervision = mode and self.spec.deep_supervision
        return self

    def forward(self, images: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """Logits (b, classes, h, w) of images (b, in_channels, h, w); see `networks.build`."""
        return self.unet(images)

    def layer_groups(self) -> dict[str, list[nn.Parameter]]:
        """Every parameter once, grouped and ordered from input to output.

        stem, encoder_1 .. (finest first), bottleneck, decoder_1 .. (in order of computation,
        coarsest first), head (the classifiers of all resolutions).
        """
        encoder, decoder = self.unet.encoder.stages, self.unet.decoder
        inner = {f"encoder_{i}": [encoder[i]] for i in range(1, len(encoder) - 1)}
        up = {
            f"decoder_{i}": [transposed, stage]
            for i, (transposed, stage) in enumerate(
                zip(decoder.transpconvs, decoder.stages, strict=True), start=1
            )
        }
        groups: dict[str, list[nn.Module]] = {
            "stem": [encoder[0]],
            **inner,
            "bottleneck": [encoder[-1]],
            **up,
            "head": [decoder.seg_layers],
        }
        return {
            name: [parameter for module in modules for parameter in module.parameters()]
            for name, modules in groups.items()
        }


def get_weights(network: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers by name, each tensor once, detached, still on its device.

    The library registers a convolution under several names, so `state_dict` repeats tensors,
    which safetensors refuses.
    """
    named = [*network.named_parameters(), *network.named_buffers()]
    return {name: tensor.detach() for name, tensor in named}


def on_cpu(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copies on the CPU, contiguous in the order of the axes, as safetensors wants them."""
    return {
        name: t.detach().to("cpu", copy=True).contiguous(memory_format=torch.contiguous_format)
        for name, t in weights.items()
    }


def set_weights(network: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Copy weights of `get_weights` into a network; ModelError if names or shapes differ."""
    own = get_weights(network)
    for name in sorted(set(own) ^ set(weights)):
        what = "lack" if name in own else "have an unexpected"
        raise ModelError(f"the weights {what} tensor '{name}'", remedy="Use the network's own spec")
    with torch.no_grad():
        for name, tensor in own.items():
            if tensor.shape != weights[name].shape:
                shapes = f"{tuple(weights[name].shape)} instead of {tuple(tensor.shape)}"
                raise ModelError(f"tensor '{name}' of the weights has shape {shapes}")
            tensor.copy_(weights[name])
