"""Network specifications and the table of presets, free of torch.

A specification says all that is needed to build a network: its family and its numbers. Presets
differ by numbers in one table, never by code. The `paper` numbers are the plan that nnU-Net
(Isensee et al. 2021, Nature Methods 18) makes for 512x512 images of 0.66 mm, as used by Gong et
al. (STACOM 2022, section 2.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from types import MappingProxyType
from typing import Any

from cinelabel.core.errors import ModelError

FAMILIES = ("nnunet2d",)


@dataclass(frozen=True)
class NetworkSpec:
    """What to build.

    family: which code builds it, one of `FAMILIES`.
    in_channels, classes: channels in; classes out, background included.
    features: channels of each resolution stage, finest first; each stage halves the resolution.
    convs_per_stage, decoder_convs_per_stage: 3x3 convolutions of a stage on either side.
    deep_supervision: in training, return logits of every decoder stage instead of the finest.

    Raises ModelError for numbers no network can be built from.
    """

    features: tuple[int, ...]
    family: str = "nnunet2d"
    in_channels: int = 1
    classes: int = 4
    convs_per_stage: int = 2
    decoder_convs_per_stage: int = 2
    deep_supervision: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", tuple(self.features))
        if self.family not in FAMILIES:
            raise ModelError(
                f"unknown network family '{self.family}'",
                remedy=f"Known families: {', '.join(FAMILIES)}",
            )
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

    @property
    def divisor(self) -> int:
        """Height and width of an input must be multiples of this many pixels."""
        return int(2 ** (len(self.features) - 1))

    def to_dict(self) -> dict[str, Any]:
        """The specification as JSON-ready values; `from_dict` undoes it."""
        return {**asdict(self), "features": list(self.features)}

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


PRESETS: Mapping[str, NetworkSpec] = MappingProxyType(
    {
        "nnunet2d-compact": NetworkSpec(features=(24, 48, 96, 160, 224), decoder_convs_per_stage=1),
        "nnunet2d-paper": NetworkSpec(features=(32, 64, 128, 256, 512, 512, 512, 512)),
        "locator-compact": NetworkSpec(
            features=(16, 32, 64, 96), classes=2, deep_supervision=False
        ),
    }
)
"""The presets by name. Parameters, counted: nnunet2d-compact 2.22 M, nnunet2d-paper 46.3 M,
locator-compact 0.39 M."""


def resolve(spec: NetworkSpec | str) -> NetworkSpec:
    """The specification itself, or the preset of that name; ModelError lists the known presets."""
    if isinstance(spec, NetworkSpec):
        return spec
    if spec not in PRESETS:
        raise ModelError(
            f"unknown network preset '{spec}'", remedy=f"Known presets: {', '.join(PRESETS)}"
        )
    return PRESETS[spec]
