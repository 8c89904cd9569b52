"""Which layers of a network fine-tuning leaves as they are: rules on depth.

Layer-wise: the first n (Tajbakhsh et al. 2016). Bi-directional: m to n, so that both ends learn
(Chen et al. 2022, MetaLR, section 2.1). The last layer always learns. What depth means in a
U-Net has two readings (Amiri et al. 2020): I1 goes along the computation, from left to right; I2
from the top of the U to its bottom, the two sides of a level together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from cinelabel.core.errors import InputError, RunError
from cinelabel.learning.config import FinetuneConfig

if TYPE_CHECKING:
    from cinelabel.networks.base import Network

Reading = Literal["I1", "I2"]
Layers = tuple[tuple[str, ...], ...]
"""Layers from shallow to deep, each with its layer groups; the last one is the head."""

STEM, BOTTLENECK, HEAD = "stem", "bottleneck", "head"


def layers(groups: Sequence[str], reading: Reading = "I1", block: int = 1) -> Layers:
    """A network's layer groups (`Network.layer_groups`, in their order) as layers.

    In I2 the sides are matched from the bottom up; what one side has more at the top joins the
    uppermost level. `block` puts so many adjacent layers together, the head stays alone.

    Raises:
        InputError: there is no head at the end, the reading is unknown, or block is below 1.
    """
    if not groups or groups[-1] != HEAD:
        raise InputError("the layer groups do not end with the head")
    if block < 1:
        raise InputError(f"blocks of {block} layers do not exist")
    if reading not in ("I1", "I2"):
        raise InputError(f"the depth of a U-Net is read as I1 or I2, not {reading!r}")
    body = [(name,) for name in groups[:-1]] if reading == "I1" else _levels(groups)
    blocks = [body[i : i + block] for i in range(0, len(body), block)]
    return (*(tuple(name for layer in part for name in layer) for part in blocks), (HEAD,))


def layers_of(network: Network, config: FinetuneConfig) -> Layers:
    """The layers of a network that have weights, by the reading and blocks of a fine-tuning run."""
    groups = [name for name, group in network.layer_groups().items() if group]
    return layers(groups, config.reading, config.block)


def contracting(groups: Sequence[str]) -> tuple[str, ...]:
    """The groups of the contracting path: stem and encoder, without the bottleneck."""
    return tuple(name for name in groups if name == STEM or name.startswith("encoder_"))


def expanding(groups: Sequence[str]) -> tuple[str, ...]:
    """The groups of the expanding path, without the head."""
    return tuple(name for name in groups if name.startswith("decoder_"))


def bidirectional_settings(depth: int) -> list[tuple[int, int]]:
    """Every (m, n) with 1 <= m <= n < depth: depth (depth - 1) / 2 of them."""
    return [(m, n) for n in range(1, depth) for m in range(1, n + 1)]


def frozen_between(among: Layers, m: int, n: int) -> tuple[str, ...]:
    """The groups of layers m to n, counted from 1. Raises InputError unless 1 <= m <= n < d."""
    if not 1 <= m <= n < len(among):
        raise InputError(
            f"layers {m} to {n} cannot be frozen",
            remedy=f"Choose 1 <= m <= n <= {len(among) - 1}; the last layer always learns",
        )
    return tuple(name for layer in among[m - 1 : n] for name in layer)


def require_frozen(network: Network, config: FinetuneConfig, where: str) -> None:
    """Raise RunError, telling where, unless the layers that a run freezes can be frozen."""
    if config.frozen is None:
        return
    try:
        frozen_between(layers_of(network, config), *config.frozen)
    except InputError as error:
        raise RunError(error.problem, where=where, remedy=error.remedy) from error


def _levels(groups: Sequence[str]) -> list[tuple[str, ...]]:
    """Levels of the U from the top down, the bottleneck alone at its bottom."""
    left, right = list(contracting(groups)), list(expanding(groups))[::-1]
    depth = min(len(left), len(right))
    top = (*left[: len(left) - depth + 1], *right[: len(right) - depth + 1])
    rest = zip(left[len(left) - depth + 1 :], right[len(right) - depth + 1 :], strict=True)
    bottom = [(BOTTLENECK,)] if BOTTLENECK in groups else []
    return [top, *rest, *bottom]
