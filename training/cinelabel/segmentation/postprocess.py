"""Post-processing of predicted labels as in Gong et al. (STACOM 2022, section 2.5).

The largest connected component of each structure, first in every slice, then in the volume; then
the right ventricle is removed from slices that show neither LV nor MYO. Connectivity, which the
paper leaves open, is 8 in a slice and 26 in the volume.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from cinelabel.core.labels import LV, MYO, RV, STRUCTURES


@dataclass(frozen=True)
class Postprocessing:
    """Which steps are taken; all of them in the paper."""

    slice_wise: bool = True
    volume_wise: bool = True
    rv_needs_lv: bool = True

    def apply(self, labels: np.ndarray) -> np.ndarray:
        """Cleaned copy of one phase's labels, uint8 (x, y, z)."""
        foreground = np.argwhere(labels.any(2))
        if not len(foreground):
            return labels.copy()
        (low_x, low_y), (high_x, high_y) = foreground.min(0), foreground.max(0) + 1
        box = np.s_[low_x:high_x, low_y:high_y]
        cleaned = labels.copy()
        cleaned[box] = self._clean(labels[box])
        return cleaned

    def _clean(self, labels: np.ndarray) -> np.ndarray:
        cleaned = np.zeros_like(labels)
        for structure in STRUCTURES:
            mask = labels == structure.value
            if self.slice_wise:
                for z in range(mask.shape[2]):
                    mask[..., z] = largest_component(mask[..., z])
            if self.volume_wise:
                mask = largest_component(mask)
            cleaned[mask] = structure.value
        if self.rv_needs_lv:
            left = ((cleaned == LV.value) | (cleaned == MYO.value)).any((0, 1))
            cleaned[(cleaned == RV.value) & ~left] = 0
        return cleaned


def largest_component(mask: np.ndarray) -> np.ndarray:
    """The largest component of a boolean mask of any rank, diagonal neighbours connected."""
    if not mask.any():
        return mask
    components, count = ndimage.label(mask, np.ones((3,) * mask.ndim, int))
    if count == 1:
        return mask
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    return np.asarray(components == sizes.argmax())
