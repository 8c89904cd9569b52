"""What a network sees: preprocessing, augmentation, motion; and `build_augmentation`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cinelabel.core.errors import RunError

__all__ = ["Augment", "build_augmentation"]

Augment = Callable[[np.ndarray, np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]
"""Images float32 (b, h, w) or (b, n, h, w), labels uint8, generator -> both, changed at random."""


def build_augmentation(
    settings: Mapping[str, Any],
    patch: tuple[int, ...],
    *,
    pixel_mm: float | None = None,
    spacing_mm: float = 10.0,
) -> Augment:
    """The augmentation of a configuration.

    Args:
        settings: `kind`, "compact" (`augment.Augmentation`, the default) or "nnunet"
            (`nnunet.NnUNetAugmentation`), and the settings of that kind by name.
        patch: shape of an image, (h, w) or (slices, h, w).
        pixel_mm: pixel size, 1.5 when None (images of many pixel sizes), and
        spacing_mm: distance of the slices, for the motion of "nnunet".

    Raises:
        RunError: for an unknown kind or setting.
    """
    kind, given = settings.get("kind", "compact"), {k: settings[k] for k in settings if k != "kind"}
    if kind == "compact":
        from cinelabel.transforms.augment import Augmentation

        return Augmentation(given)
    if kind != "nnunet":
        raise RunError(f"unknown augmentation '{kind}'", remedy="Known kinds: compact, nnunet")
    from cinelabel.transforms.nnunet import NnUNetAugmentation

    if unknown := sorted(set(given) - {"motion"}):
        raise RunError(
            f"unknown setting '{unknown[0]}' of the augmentation 'nnunet'",
            remedy="Its one setting is 'motion', a probability",
        )
    motion = given.get("motion", 0.0)
    if isinstance(motion, bool) or not isinstance(motion, int | float):
        raise RunError(f"the probability of motion must be a number, not {motion!r}")
    return NnUNetAugmentation(patch, motion=motion, pixel_mm=pixel_mm or 1.5, spacing_mm=spacing_mm)
