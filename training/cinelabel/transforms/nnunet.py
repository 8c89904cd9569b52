"""nnU-Net's default augmentation (Isensee et al., Nature Methods 2021) as nnU-Net 2.8.1 has it.

Chance and work are apart: every number is drawn here, from the generator handed in, and the work
is done by batchgeneratorsv2 through the `apply` of its transforms, which takes drawn numbers. Asked
to draw for themselves, they would use the global states of numpy and torch, which the training
thread (dropout, drop path) draws from while another thread makes batches, and would choose how to
blur by a stopwatch; a batch would depend on more than its generator. MONAI's transforms keep states
of their own, but blur with other kernels and borders and know no contrast within the old range.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cinelabel.core.errors import RunError
from cinelabel.transforms.motion import MotionParameters, apply_motion, sample_motion_parameters

if TYPE_CHECKING:
    import torch

Range = tuple[float, float]


@dataclass(frozen=True)
class NnUNetDefaults:
    """Probabilities for an image (`mirror`: for an axis), and ranges that are drawn from evenly.

    From `get_training_transforms` and `configure_rotation_dummyDA_mirroring_and_inital_patch_size`
    of nnU-Net 2.8.1's `nnUNetTrainer`. What it calls the variance of the noise is used as its
    standard deviation, and so is `noise_spread`. Blur and low resolution pass two coins, one for
    the image and one (`_share`) for its channel. Brightness, contrast and gamma are drawn below
    and above 1 equally often. `elongated` and `anisotropic` are ratios of a patch's sides: above
    them a slice turns less, and a stack moves in the plane alone.
    """

    rotation: float = 0.2
    rotation_degrees: float = 180.0
    rotation_degrees_elongated: float = 15.0
    elongated: float = 1.5
    rotation_degrees_volume: float = 30.0
    anisotropic: float = 3.0
    scaling: float = 0.2
    scale: Range = (0.7, 1.4)
    noise: float = 0.1
    noise_spread: Range = (0.0, 0.1)
    blur: float = 0.2
    blur_share: float = 0.5
    blur_pixels: Range = (0.5, 1.0)
    brightness: float = 0.15
    brightness_range: Range = (0.75, 1.25)
    contrast: float = 0.15
    contrast_range: Range = (0.75, 1.25)
    low_resolution: float = 0.25
    low_resolution_share: float = 0.5
    zoom: Range = (0.5, 1.0)
    gamma_inverted: float = 0.1
    gamma: float = 0.3
    gamma_range: Range = (0.7, 1.5)
    mirror: float = 0.5


@dataclass(frozen=True)
class ImageParameters:
    """What is done to one image or stack; None and empty tuples: nothing.

    Attributes:
        motion: of the acquisition, put onto the image before all else.
        angles: rotations (rad), one in the plane or one about each axis.
        scale: factor on what is sampled; more than 1 makes the heart smaller.
        noise: standard deviation of added noise, of seed `noise_seed`.
        blur: standard deviation of a Gaussian along each axis (pixels).
        brightness, contrast: factors on values, and on distances from the mean.
        zoom: resolution that is kept.
        gamma_inverted, gamma: exponents for the negative and for the image itself.
        mirrored: axes that are turned round.
    """

    motion: MotionParameters | None
    angles: tuple[float, ...]
    scale: float | None
    noise: float | None
    noise_seed: int
    blur: tuple[float, ...]
    brightness: float | None
    contrast: float | None
    zoom: float | None
    gamma_inverted: float | None
    gamma: float | None
    mirrored: tuple[int, ...]


class NnUNetAugmentation:
    """Samples and applies nnU-Net's default augmentation, on the CPU.

    Images are not normalised again afterwards, as in nnU-Net; `augment.Augmentation` does. What
    comes in from outside an image is 0, and background in the labels; nnU-Net reads more than a
    patch where there is more, and so may a caller, see `patch`.
    """

    def __init__(
        self,
        patch: tuple[int, ...],
        *,
        motion: float = 0.0,
        pixel_mm: float = 1.5,
        spacing_mm: float = 10.0,
    ) -> None:
        """Augmentation of a patch (h, w) or (slices, h, w).

        Args:
            patch: shape of the results; images may be larger and are cut about their middle.
            motion: probability of the acquisition's motion (`transforms.motion`).
            pixel_mm: pixel size, and
            spacing_mm: distance of the slices, for the motion.

        Raises:
            RunError: for a patch too small to blur, or a probability outside 0 to 1.
        """
        if len(patch) not in (2, 3) or min(patch) < 4:
            raise RunError(f"a patch is (h, w) or (slices, h, w) of four or more each, not {patch}")
        if not 0.0 <= motion <= 1.0:
            raise RunError(f"the probability of motion must be between 0 and 1, not {motion}")
        self.defaults = NnUNetDefaults()
        self.patch = patch
        self.motion = motion
        self.pixel_mm, self.spacing_mm = pixel_mm, spacing_mm

    @property
    def in_plane(self) -> bool:
        """Whether stacks are moved in the plane alone (nnU-Net's dummy 2D), as slices are."""
        return len(self.patch) == 2 or max(self.patch) / self.patch[0] > self.defaults.anisotropic

    @property
    def most_degrees(self) -> float:
        """The largest rotation either way."""
        d = self.defaults
        if len(self.patch) == 2 and max(self.patch) / min(self.patch) > d.elongated:
            return d.rotation_degrees_elongated
        return d.rotation_degrees if self.in_plane else d.rotation_degrees_volume

    def sample(self, shape: tuple[int, ...], rng: np.random.Generator) -> ImageParameters:
        """Parameters for one image (h, w) or stack (n, h, w) of this shape."""
        d, axes = self.defaults, len(self.patch)

        def happens(probability: float) -> bool:
            return bool(rng.random() < probability)

        def about_one(probability: float, low_high: Range) -> float | None:
            if not happens(probability):
                return None
            low, high = (low_high[0], 1.0) if happens(0.5) else (1.0, low_high[1])
            return float(rng.uniform(low, high))

        most = np.deg2rad(self.most_degrees)
        moved = happens(self.motion)
        return ImageParameters(
            motion=sample_motion_parameters(rng, shape, self.pixel_mm, spacing=self.spacing_mm)
            if moved
            else None,
            angles=tuple(rng.uniform(-most, most, 1 if self.in_plane else axes).tolist())
            if happens(d.rotation)
            else (),
            scale=float(rng.uniform(*d.scale)) if happens(d.scaling) else None,
            noise=float(rng.uniform(*d.noise_spread)) if happens(d.noise) else None,
            noise_seed=int(rng.integers(2**31)),
            blur=tuple(rng.uniform(*d.blur_pixels, axes).tolist())
            if happens(d.blur * d.blur_share)
            else (),
            brightness=about_one(d.brightness, d.brightness_range),
            contrast=about_one(d.contrast, d.contrast_range),
            zoom=float(rng.uniform(*d.zoom))
            if happens(d.low_resolution * d.low_resolution_share)
            else None,
            gamma_inverted=about_one(d.gamma_inverted, d.gamma_range),
            gamma=about_one(d.gamma, d.gamma_range),
            mirrored=tuple(axis for axis in range(axes) if happens(d.mirror)),
        )

    def apply(
        self, image: np.ndarray, labels: np.ndarray, parameters: ImageParameters
    ) -> tuple[np.ndarray, np.ndarray]:
        """Apply parameters to one float32 image and its uint8 labels, (h, w) or (n, h, w).

        Returns:
            image and labels of the shape of the patch.
        """
        import torch

        if parameters.motion is not None:
            image = np.asarray(apply_motion(image, parameters.motion))
        picture = torch.from_numpy(np.array(image, np.float32))[None]
        truth = torch.from_numpy(labels.astype(np.int16))[None]
        picture, truth = self._move(picture, truth, parameters)
        picture = self._degrade(picture, parameters)
        axes = [axis + 1 for axis in parameters.mirrored]
        picture, truth = picture.flip(axes)[0], truth.flip(axes)[0]
        return picture.numpy(), truth.clamp(min=0).numpy().astype(np.uint8)

    def __call__(
        self, images: np.ndarray, labels: np.ndarray, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Sample and apply: images float32 (b, h, w) or (b, n, h, w), labels uint8.

        Raises:
            RunError: for slices where stacks are expected, or the reverse.
        """
        if images.ndim != len(self.patch) + 1:
            raise RunError(f"images of shape {images.shape[1:]} do not fit the patch {self.patch}")
        drawn = [self.sample(images.shape[1:], generator) for _ in images]
        done = [self.apply(*each) for each in zip(images, labels, drawn, strict=True)]
        return np.stack([image for image, _ in done]), np.stack([truth for _, truth in done])

    def _move(
        self, picture: torch.Tensor, truth: torch.Tensor, parameters: ImageParameters
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Rotate, scale and cut to the patch: (1, ...) each; -1 where labels come from outside."""
        from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform

        whole = picture.shape
        if flat := self.in_plane and len(self.patch) == 3:
            picture, truth = picture[0], truth[0]  # the slices as channels
        patch = self.patch[1:] if flat else self.patch
        source = tuple(picture.shape[1:])
        transform = SpatialTransform(
            patch, 0, random_crop=False, border_mode_seg="constant", padding_value_seg=-1
        )
        moved = transform.apply(
            {"image": picture, "segmentation": truth},
            grid=_grid(parameters, patch, source),
            center_location_in_pixels=[side / 2 for side in source],
        )
        shape = (*whole[:2], *patch) if flat else (1, *patch)
        return moved["image"].reshape(shape), moved["segmentation"].reshape(shape)

    def _degrade(self, picture: torch.Tensor, parameters: ImageParameters) -> torch.Tensor:
        """Intensity and resolution of a picture (1, ...) changed, in nnU-Net's order, in place."""
        import torch
        from batchgeneratorsv2.transforms.intensity.contrast import ContrastTransform
        from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
        from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
        from batchgeneratorsv2.transforms.spatial.low_resolution import (
            SimulateLowResolutionTransform,
        )

        data = {"image": picture}
        the_channel = torch.zeros(1, dtype=torch.long)
        if parameters.noise is not None:
            noise = np.random.default_rng(parameters.noise_seed)
            drawn = noise.standard_normal(tuple(picture.shape), dtype=np.float32)
            picture += torch.from_numpy(drawn) * parameters.noise
        if parameters.blur:
            data = GaussianBlurTransform().apply(
                data, apply_to_channel=torch.ones(1, dtype=torch.bool), sigmas=[parameters.blur]
            )
        if parameters.brightness is not None:
            data["image"] *= parameters.brightness
        if parameters.contrast is not None:
            data = ContrastTransform((1, 1), preserve_range=True, synchronize_channels=False).apply(
                data, apply_to_channel=the_channel, multipliers=torch.tensor([parameters.contrast])
            )
        if parameters.zoom is not None:
            zooms = torch.full((1, len(self.patch)), parameters.zoom)
            if self.in_plane and len(self.patch) == 3:
                zooms[:, 0] = 1.0
            data = SimulateLowResolutionTransform((1, 1), False, True, ignore_axes=()).apply(
                data, apply_to_channel=the_channel, scales=zooms
            )
        for exponent, inverted in ((parameters.gamma_inverted, True), (parameters.gamma, False)):
            if exponent is not None:
                data = GammaTransform((1, 1), 0.0, False, 1.0, 1.0).apply(
                    data,
                    apply_to_channel=the_channel,
                    retain_stats=torch.ones(1, dtype=torch.bool),
                    invert_image=torch.tensor([inverted]),
                    gamma=torch.tensor([exponent]),
                )
        return data["image"]


def _grid(
    parameters: ImageParameters, patch: tuple[int, ...], source: tuple[int, ...]
) -> torch.Tensor | None:
    """Where the patch samples an image of shape `source`, for grid_sample; None: unmoved."""
    import torch
    from batchgeneratorsv2.transforms.spatial.spatial import (
        create_affine_matrix_2d,
        create_affine_matrix_3d,
    )

    if not parameters.angles and parameters.scale is None:
        return None
    axes = len(patch)
    angles = parameters.angles or (0.0,) * axes
    scales = [1.0 if parameters.scale is None else parameters.scale] * axes
    if axes == 3:
        affine = create_affine_matrix_3d(angles, scales)
    else:
        affine = create_affine_matrix_2d(angles[-1], scales)
    # grid_sample counts in halves of an image's sides, last axis first
    affine = affine * np.asarray(patch)[None, :] / np.asarray(source)[:, None]
    theta = np.concatenate([affine[::-1, ::-1], np.zeros((axes, 1))], axis=1)
    grid = torch.nn.functional.affine_grid(
        torch.from_numpy(theta.astype(np.float32))[None], [1, 1, *patch], align_corners=False
    )
    return grid[0]
