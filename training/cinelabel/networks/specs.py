"""Network specifications and the table of presets, free of torch.

A specification says all that is needed to build a network: its family and its numbers. Presets
differ by numbers in one table, never by code. The `paper` numbers are those of Gong et al. (STACOM
2022, section 2.2): the plans that nnU-Net (Isensee et al. 2021, Nature Methods 18) makes for
512x512 images of 0.66 mm and for stacks of them, Swin-UNETR (Hatamizadeh et al. 2022) and Swin-UNet
(Cao et al. 2021) on 224x224.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from types import MappingProxyType
from typing import Any

from cinelabel.core.errors import ModelError


@dataclass(frozen=True)
class Family:
    """What the networks of one family have in common.

    dimensions: spatial axes of an input, 2 (h, w) or 3 (slices, h, w).
    keys: the numbers of a specification this family reads beside the common ones.
    patch: pixels that the first layer joins to one, along each axis in the plane.
    halvings_after: halvings of the resolution after the last stage of `features`.
    """

    dimensions: int
    keys: tuple[str, ...]
    patch: int = 1
    halvings_after: int = 0


_UNET = ("convs_per_stage", "decoder_convs_per_stage", "deep_supervision")
_SWIN = ("size", "depths", "heads", "window", "drop_path")
_COMMON = ("features", "family", "in_channels", "classes")

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "nnunet2d": Family(2, (*_UNET, "deformable_bottleneck")),
        "nnunet3d": Family(3, (*_UNET, "kernels", "strides")),
        "swin_unetr": Family(2, _SWIN, patch=2, halvings_after=1),
        "swin_unet": Family(2, (*_SWIN, "head_kernel"), patch=4),
    }
)


@dataclass(frozen=True)
class NetworkSpec:
    """What to build: the common numbers, then those that only some families have.

    family: which code builds it, one of `FAMILIES`.
    in_channels, classes: channels in; classes out, background included.
    features: channels of each resolution stage, finest first. A stage of a 2D U-Net halves the
        resolution; the stages of a Swin encoder halve it and double the channels.

    U-Nets of nnU-Net:
    convs_per_stage, decoder_convs_per_stage: convolutions of a stage on either side.
    deep_supervision: in training, return logits of every decoder stage instead of the finest.
    deformable_bottleneck: 2D; the convolutions of the last encoder stage are deformable.
    kernels, strides: 3D; along (slices, h, w), for each stage.

    Networks with a Swin encoder:
    size: height and width of the images in pixels, the only ones the network is made for.
    depths, heads: transformer blocks, and heads of their attention, of each stage.
    window: side of an attention window in tokens.
    drop_path: chance in training to skip the deepest block; earlier blocks less, linearly.
    head_kernel: Swin-UNet; side of the last convolution, 1 or 3 (the one before it has 3).

    Raises ModelError for numbers no network can be built from, and for those of other families.
    """

    features: tuple[int, ...]
    family: str = "nnunet2d"
    in_channels: int = 1
    classes: int = 4
    convs_per_stage: int = 2
    decoder_convs_per_stage: int = 2
    deep_supervision: bool = True
    deformable_bottleneck: bool = False
    kernels: tuple[tuple[int, int, int], ...] = ()
    strides: tuple[tuple[int, int, int], ...] = ()
    size: int = 0
    depths: tuple[int, ...] = ()
    heads: tuple[int, ...] = ()
    window: int = 7
    drop_path: float = 0.0
    head_kernel: int = 3

    def __post_init__(self) -> None:
        for name in ("features", "depths", "heads"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("kernels", "strides"):
            object.__setattr__(self, name, tuple(tuple(stage) for stage in getattr(self, name)))
        if self.family not in FAMILIES:
            raise ModelError(
                f"unknown network family '{self.family}'",
                remedy=f"Known families: {', '.join(FAMILIES)}",
            )
        self._check_family()
        counts = (
            self.in_channels,
            self.convs_per_stage,
            self.decoder_convs_per_stage,
            *self.features,
        )
        if len(self.features) < 2 or any(not _is_count(n) for n in counts):
            raise ModelError(
                f"a network needs two or more stages and positive whole numbers, not {self}"
            )
        if not _is_count(self.classes) or self.classes < 2:
            raise ModelError(f"a network needs two or more classes, not {self.classes}")
        if "kernels" in self._keys:
            self._check_stages_of_volumes()
        if "heads" in self._keys:
            self._check_swin()

    @property
    def _keys(self) -> tuple[str, ...]:
        return (*_COMMON, *FAMILIES[self.family].keys)

    def _check_family(self) -> None:
        for field in fields(self):
            if field.name in self._keys or field.default is MISSING:
                continue
            if getattr(self, field.name) != field.default:
                raise ModelError(
                    f"networks of the family '{self.family}' have no '{field.name}'",
                    remedy=f"They have: {', '.join(self._keys)}",
                )

    def _check_stages_of_volumes(self) -> None:
        stages = len(self.features)
        rows = (*self.kernels, *self.strides)
        if len(self.kernels) != stages or len(self.strides) != stages:
            raise ModelError(f"a 3D network needs kernels and strides for each of {stages} stages")
        if any(len(row) != 3 or not all(map(_is_count, row)) for row in rows):
            raise ModelError("kernels and strides are three positive whole numbers a stage")
        if any(side % 2 == 0 for row in self.kernels for side in row):
            raise ModelError(f"kernels have odd sides, not {self.kernels}")
        if self.strides[0] != (1, 1, 1):
            raise ModelError("the first stage keeps the resolution: its strides are 1, 1, 1")

    def _check_swin(self) -> None:
        numbers = (self.size, self.window, *self.depths, *self.heads)
        if not all(map(_is_count, numbers)):
            raise ModelError(f"size, window, depths and heads are positive, not {numbers}")
        if not len(self.features) == len(self.depths) == len(self.heads) == 4:
            raise ModelError("a Swin encoder has four stages of features, depths and heads")
        first = self.features[0]
        if self.features != tuple(first * 2**stage for stage in range(4)):
            raise ModelError(f"each Swin stage doubles the features, not {self.features}")
        if any(f % h for f, h in zip(self.features, self.heads, strict=True)):
            raise ModelError(f"features {self.features} must be multiples of heads {self.heads}")
        if self.family == "swin_unetr" and first % 12:
            raise ModelError(f"the first features of Swin-UNETR are a multiple of 12, not {first}")
        if self.size % self.divisor:
            raise ModelError(f"size must be a multiple of {self.divisor}, not {self.size}")
        if not 0 <= self.drop_path < 1:
            raise ModelError(f"drop_path must be at least 0 and below 1, not {self.drop_path}")
        if self.head_kernel not in (1, 3):
            raise ModelError(f"head_kernel must be 1 or 3, not {self.head_kernel}")

    @property
    def dimensions(self) -> int:
        """Spatial axes of an input: 2 (h, w) or 3 (slices, h, w)."""
        return FAMILIES[self.family].dimensions

    @property
    def divisors(self) -> tuple[int, ...]:
        """The sides of an input must be multiples of these, one for each spatial axis."""
        if self.strides:
            return tuple(math.prod(along) for along in zip(*self.strides, strict=True))
        family = FAMILIES[self.family]
        halvings = len(self.features) - 1 + family.halvings_after
        return (int(family.patch * 2**halvings),) * family.dimensions

    @property
    def divisor(self) -> int:
        """Height and width of an input must be multiples of this many pixels."""
        return max(self.divisors[-2:])

    def accepts(self, *sides: int) -> bool:
        """Whether images with these sides, one for each spatial axis, can go in."""
        if len(sides) != self.dimensions:
            return False
        if self.size:
            return sides == (self.size,) * self.dimensions
        return all(n > 0 and n % d == 0 for n, d in zip(sides, self.divisors, strict=True))

    def to_dict(self) -> dict[str, Any]:
        """The numbers its family has, as JSON-ready values; `from_dict` undoes it."""
        values = asdict(self)
        return {name: _listed(values[name]) for name in values if name in self._keys}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> NetworkSpec:
        """The specification of a dictionary; ModelError for unknown or missing keys."""
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown or "features" not in values:
            what = f"unknown key '{unknown[0]}'" if unknown else "no key 'features'"
            raise ModelError(
                f"a network specification has {what}",
                remedy=f"Known keys: {', '.join(sorted(known))}",
            )
        try:
            return cls(**values)
        except TypeError as error:
            raise ModelError(f"a network specification cannot be read: {error}") from error


def _is_count(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number > 0


def _listed(value: object) -> object:
    return [_listed(item) for item in value] if isinstance(value, tuple) else value


_NNUNET2D_COMPACT = (24, 48, 96, 160, 224)
_NNUNET2D_PAPER = (32, 64, 128, 256, 512, 512, 512, 512)

PRESETS: Mapping[str, NetworkSpec] = MappingProxyType(
    {
        "nnunet2d-compact": NetworkSpec(features=_NNUNET2D_COMPACT, decoder_convs_per_stage=1),
        "nnunet2d-paper": NetworkSpec(features=_NNUNET2D_PAPER),
        "nnunet2d-deformable-compact": NetworkSpec(
            features=_NNUNET2D_COMPACT, decoder_convs_per_stage=1, deformable_bottleneck=True
        ),
        "nnunet2d-deformable-paper": NetworkSpec(
            features=_NNUNET2D_PAPER, deformable_bottleneck=True
        ),
        "nnunet3d-compact": NetworkSpec(
            family="nnunet3d",
            features=(16, 32, 64, 96, 128),
            decoder_convs_per_stage=1,
            kernels=((1, 3, 3),) * 2 + ((3, 3, 3),) * 3,
            strides=((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2), (1, 2, 2)),
        ),
        "nnunet3d-paper": NetworkSpec(
            family="nnunet3d",
            features=(32, 64, 128, 256, 320, 320, 320),
            kernels=((1, 3, 3),) * 3 + ((3, 3, 3),) * 4,
            strides=((1, 1, 1), *((1, 2, 2),) * 3, (2, 2, 2), *((1, 2, 2),) * 2),
        ),
        "swin_unetr-compact": NetworkSpec(
            family="swin_unetr",
            features=(12, 24, 48, 96),
            size=128,
            depths=(2, 2, 2, 2),
            heads=(1, 2, 4, 8),
            window=8,
            drop_path=0.1,
        ),
        "swin_unetr-paper": NetworkSpec(
            family="swin_unetr",
            features=(48, 96, 192, 384),
            size=224,
            depths=(2, 2, 2, 2),
            heads=(3, 6, 12, 24),
            window=7,
            drop_path=0.1,
        ),
        "swin_unet-compact": NetworkSpec(
            family="swin_unet",
            features=(32, 64, 128, 256),
            size=128,
            depths=(2, 2, 2, 2),
            heads=(1, 2, 4, 8),
            window=8,
            drop_path=0.1,
        ),
        "swin_unet-paper": NetworkSpec(
            family="swin_unet",
            features=(96, 192, 384, 768),
            size=224,
            depths=(2, 2, 2, 2),
            heads=(3, 6, 12, 24),
            window=7,
            drop_path=0.2,
        ),
        "locator-compact": NetworkSpec(
            features=(16, 32, 64, 96), classes=2, deep_supervision=False
        ),
    }
)
"""The presets by name; the README of this folder gives the parameters of each."""


def resolve(spec: NetworkSpec | str) -> NetworkSpec:
    """The specification itself, or the preset of that name; ModelError lists the known presets."""
    if isinstance(spec, NetworkSpec):
        return spec
    if spec not in PRESETS:
        raise ModelError(
            f"unknown network preset '{spec}'", remedy=f"Known presets: {', '.join(PRESETS)}"
        )
    return PRESETS[spec]
