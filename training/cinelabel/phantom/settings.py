"""What the phantom of a training run is made of: shares, and switches that leave parts out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PhantomSettings:
    """Shares and switches of the phantom; the defaults have everything on.

    Attributes:
        random_contrast_share: share of the subjects whose contrast is drawn at random in place of
            the bSSFP equation (domain randomisation).
        motion_share: share of the slices acquired with failing breath-holds or triggers.
        closing_cavities: whether hearts with thick walls and cavities that nearly close in systole
            belong to the population.
        organs: whether chest wall, lungs, abdomen and great vessels are painted around the heart.
    """

    random_contrast_share: float = 0.2
    motion_share: float = 0.35
    closing_cavities: bool = True
    organs: bool = True

    def __post_init__(self) -> None:
        for name in ("random_contrast_share", "motion_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must lie between 0 and 1")
