"""What a member's encoder makes of a slice: the mean over its coarsest maps.

The published OpenVINO form holds the whole network; its first half is cut out of it, so torch is
not needed. Sener & Savarese (ICLR 2018) choose by such features.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cinelabel.core.errors import ModelError
from cinelabel.models.card import MemberCard
from cinelabel.models.runtime import openvino_core
from cinelabel.models.store import ModelVersion
from cinelabel.transforms.preprocess import pad_slices

COARSEST = {
    "nnunet2d": (".encoder.stages.", 1),
    "nnunet3d": (".encoder.stages.", 1),
    "swin_unetr": (".encoder10.", 1),
    "swin_unet": (".encoder.norm/", 3),
}
"""By family: what the names of the encoder's last operation hold, and its axis of channels."""


class Encoder:
    """The encoder of a member of a model version, on the CPU."""

    def __init__(self, version: ModelVersion, card: MemberCard) -> None:
        """Load it. Raises ModelError when its files are missing, damaged or not known."""
        from openvino import Model

        self._spec = card.spec
        marker, self._channels = COARSEST[card.spec.family]
        xml = version.file(card, "openvino_xml")
        try:
            model = openvino_core().read_model(xml, version.file(card, "openvino_bin"))
            last = [
                operation
                for operation in model.get_ordered_ops()
                if marker in operation.get_friendly_name()
                and operation.get_type_name() not in ("Constant", "Convert")
            ]
            if not last:
                raise ModelError("its encoder is not found", where=xml)
            encoder = Model([last[-1].output(0)], model.get_parameters())
            self._network = openvino_core().compile_model(encoder, "CPU")
        except RuntimeError as error:
            raise ModelError(f"OpenVINO cannot load it: {error}", where=xml) from error

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Features of prepared slices: (n, h, w) -> float32 (n, channels).

        A 3D network gives a slice what it makes of the part of the stack that the slice lies in.
        """
        if self._spec.dimensions == 2:  # one by one: all together take memory and gain no time
            return np.concatenate([self._maps(image[None, None]).mean((2, 3)) for image in images])
        padded, where = pad_slices(images, self._spec.divisors[0])
        parts = np.moveaxis(self._maps(padded[None, None])[0], 1, 0).mean((2, 3))
        return parts[np.arange(len(padded)) * len(parts) // len(padded)][where]

    def _maps(self, inputs: np.ndarray) -> np.ndarray:
        found = self._network([np.ascontiguousarray(inputs, np.float32)])[0]
        return np.moveaxis(np.array(found, np.float32), self._channels, 1)


def choose(cards: Sequence[MemberCard], fast: str) -> MemberCard:
    """The member whose encoder tells slices apart: the fast one, or the first 2D one."""
    flat = [card for card in cards if card.role == "segmenter" and card.spec.dimensions == 2]
    named = [card for card in cards if card.name == fast]
    return next((card for card in (*named, *flat) if card in flat), named[0])
