"""Random augmentation of batches of slices or stacks; parameters are sampled before applying.

The kinds and ranges are those of nnU-Net's default (Isensee et al., Nature Methods 2021), as whole
batches in torch, which two cores keep up with; intensities are normalised again at the end. All
slices of a stack are moved and changed alike, with noise of their own.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cinelabel.core.errors import RunError
from cinelabel.transforms.preprocess import normalise

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class AugmentationDefaults:
    """Probabilities of each kind and the ranges they draw from."""

    affine: float = 0.5
    rotation_degrees: float = 30.0
    scale: tuple[float, float] = (0.8, 1.25)
    shift: float = 0.06
    bend: float = 0.2
    bend_pixels: float = 2.5
    noise: float = 0.15
    noise_spread: tuple[float, float] = (0.0, 0.25)
    blur: float = 0.15
    blur_pixels: tuple[float, float] = (0.5, 1.1)
    low_resolution: float = 0.15
    zoom: tuple[float, float] = (0.5, 1.0)
    gamma: float = 0.35
    gamma_range: tuple[float, float] = (0.6, 1.6)
    window: float = 0.1
    window_share: tuple[float, float] = (0.55, 0.95)


@dataclass(frozen=True)
class BatchParameters:
    """What is done to each image of a batch; absent kinds hold their neutral value."""

    turns: np.ndarray
    flips: np.ndarray
    matrices: np.ndarray
    bends: np.ndarray
    noise: np.ndarray
    noise_seed: int
    blur: np.ndarray
    zoom: np.ndarray
    gamma: np.ndarray
    gamma_inverted: np.ndarray
    windows: np.ndarray

    def repeated(self, times: int) -> BatchParameters:
        """The same for each of `times` slices of every image."""
        values = asdict(self)
        seed = values.pop("noise_seed")
        repeated = {name: np.repeat(value, times, axis=0) for name, value in values.items()}
        return BatchParameters(**repeated, noise_seed=seed)


class Augmentation:
    """Samples and applies augmentation; `config` overrides `AugmentationDefaults` by name."""

    def __init__(self, config: dict[str, object] | None = None) -> None:
        known = {field.name for field in fields(AugmentationDefaults)}
        unknown = set(config or {}) - known
        if unknown:
            raise RunError(f"unknown augmentation setting {sorted(unknown)[0]!r}")
        given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in (config or {}).items()
        }
        self.settings = replace(AugmentationDefaults(), **given)

    def sample(self, count: int, rng: np.random.Generator) -> BatchParameters:
        """Parameters for a batch of `count` images, or stacks."""
        s = self.settings

        def happens(probability: float) -> np.ndarray:
            return rng.random(count) < probability

        def ranged(probability: float, low_high: tuple[float, float], neutral: float) -> np.ndarray:
            return np.where(happens(probability), rng.uniform(*low_high, count), neutral)

        moved = happens(s.affine)
        angle = np.where(moved, np.deg2rad(rng.uniform(-1, 1, count) * s.rotation_degrees), 0.0)
        scale = np.where(moved, rng.uniform(*s.scale, count), 1.0)
        stretch = np.where(moved, np.exp(rng.normal(0.0, 0.07, count)), 1.0)
        shift = np.where(moved[:, None], rng.uniform(-1, 1, (count, 2)) * 2 * s.shift, 0.0)
        cosine, sine = np.cos(angle) / scale, np.sin(angle) / scale
        matrices = np.stack(
            [
                np.stack([cosine * stretch, -sine, shift[:, 0]], 1),
                np.stack([sine, cosine / stretch, shift[:, 1]], 1),
            ],
            1,
        )
        bent = happens(s.bend)[:, None, None, None]
        size = rng.uniform(*s.window_share, (count, 2))
        size[~happens(s.window)] = 1.0
        corner = rng.random((count, 2)) * (1.0 - size)
        return BatchParameters(
            turns=rng.integers(0, 4, count),
            flips=rng.random(count) < 0.5,
            matrices=matrices.astype(np.float32),
            bends=(rng.normal(0.0, s.bend_pixels, (count, 2, 5, 5)) * bent).astype(np.float32),
            noise=ranged(s.noise, s.noise_spread, 0.0),
            noise_seed=int(rng.integers(2**31)),
            blur=ranged(s.blur, s.blur_pixels, 0.0),
            zoom=ranged(s.low_resolution, s.zoom, 1.0),
            gamma=ranged(s.gamma, s.gamma_range, 1.0),
            gamma_inverted=rng.random(count) < 0.25,
            windows=np.concatenate([corner, corner + size], 1),
        )

    def apply(
        self, images: np.ndarray, labels: np.ndarray, parameters: BatchParameters
    ) -> tuple[np.ndarray, np.ndarray]:
        """Apply parameters: images float32 (b, h, w) or (b, n, h, w), square, and labels uint8."""
        import torch

        if images.ndim == 4:
            shape = images.shape
            flat = (-1, *shape[2:])
            parameters = parameters.repeated(shape[1])
            images, labels = self.apply(images.reshape(flat), labels.reshape(flat), parameters)
            return images.reshape(shape), labels.reshape(shape)

        pictures = torch.from_numpy(np.array(images, np.float32))[:, None]
        truth = torch.from_numpy(np.array(labels, np.float32))[:, None]
        pictures, truth = _warp(pictures, truth, parameters)
        result = pictures[:, 0].numpy()
        noise = np.random.default_rng(parameters.noise_seed)
        for k in range(len(result)):
            result[k] = _degrade(result[k], k, parameters, noise)
        return normalise(result), truth[:, 0].numpy().astype(np.uint8)

    def __call__(
        self, images: np.ndarray, labels: np.ndarray, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Sample and apply in one go."""
        return self.apply(images, labels, self.sample(len(images), generator))


def _warp(
    images: torch.Tensor, labels: torch.Tensor, parameters: BatchParameters
) -> tuple[torch.Tensor, torch.Tensor]:
    """Quarter turns, flips, affine and bending in one interpolation; labels by nearest pixel."""
    import torch
    from torch.nn import functional

    size = images.shape[-1]
    grid = functional.affine_grid(
        torch.from_numpy(parameters.matrices), list(images.shape), align_corners=False
    )
    bends = functional.interpolate(
        torch.from_numpy(parameters.bends), size=(size, size), mode="bicubic", align_corners=True
    )
    grid = grid + bends.permute(0, 2, 3, 1) * (2.0 / size)
    for k, (turn, flip) in enumerate(zip(parameters.turns, parameters.flips, strict=True)):
        quarter = torch.rot90(grid[k], int(turn), (0, 1))
        grid[k] = quarter.flip(0) if flip else quarter
    low = images.amin(dim=(2, 3), keepdim=True)
    moved = functional.grid_sample(images - low, grid, mode="bilinear", align_corners=False) + low
    truth = functional.grid_sample(labels, grid, mode="nearest", align_corners=False)
    return moved, truth


def _degrade(
    image: np.ndarray, k: int, parameters: BatchParameters, noise: np.random.Generator
) -> np.ndarray:
    """Intensity and resolution changes of one image."""
    from scipy import ndimage

    if parameters.zoom[k] < 1.0:
        size = image.shape[0]
        small = ndimage.zoom(image, parameters.zoom[k], order=1, grid_mode=True, mode="nearest")
        image = ndimage.zoom(small, size / small.shape[0], order=1, grid_mode=True, mode="nearest")[
            :size, :size
        ]
    if parameters.blur[k] > 0.0:
        image = ndimage.gaussian_filter(image, parameters.blur[k])
    if parameters.gamma[k] != 1.0:
        low, high = float(image.min()), float(image.max())
        unit = (image - low) / max(high - low, 1e-6)
        if parameters.gamma_inverted[k]:
            unit = 1.0 - (1.0 - unit) ** parameters.gamma[k]
        else:
            unit = unit ** parameters.gamma[k]
        image = unit
    if parameters.noise[k] > 0.0:
        spread = parameters.noise[k] * float(image.std())
        image = image + spread * noise.standard_normal(image.shape, dtype=np.float32)
    top, left, bottom, right = (parameters.windows[k] * image.shape[0]).round().astype(int)
    if bottom - top < image.shape[0] or right - left < image.shape[1]:
        kept = np.full_like(image, image.min())
        kept[top:bottom, left:right] = image[top:bottom, left:right]
        image = kept
    return image
