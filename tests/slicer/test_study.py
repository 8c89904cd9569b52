from __future__ import annotations

import numpy as np
import pytest
from CineLabelLib.core.errors import InputError
from CineLabelLib.study import CineStudy

VOXELS = np.arange(2 * 3 * 4 * 5, dtype=np.int16).reshape(2, 3, 4, 5)


def study(**changes) -> CineStudy:
    return CineStudy(**{"name": "heart", "voxels": VOXELS, "affine": np.eye(4), **changes})


def test_frames_and_slices_are_counted_and_a_frame_is_a_view():
    heart = study()
    assert (heart.n_frames, heart.n_slices, heart.grid.shape) == (5, 4, (2, 3, 4))
    assert np.shares_memory(heart.frame(2), VOXELS)
    np.testing.assert_array_equal(heart.frame(2), VOXELS[..., 2])


def test_voxels_and_affine_cannot_be_written_and_the_givers_array_still_can():
    own = VOXELS.copy()
    heart = study(voxels=own)
    with pytest.raises(ValueError, match="read-only"):
        heart.voxels[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        heart.affine[0] = 1
    own[0] = 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"voxels": VOXELS[..., 0]}, "3D int16"),
        ({"voxels": VOXELS.astype(complex)}, "complex128"),
        ({"name": "a b"}, "not a valid study name"),
        ({"affine": np.zeros((4, 4))}, "affine"),
        ({"trigger_times_ms": (1.0,)}, "1 trigger times are given for 5 frames"),
        ({"images": ("a",)}, "1 images are given for 5 frames"),
        ({"digests": ("a",)}, "1 digests are given for 5 frames"),
        ({"es": 5}, "ES is frame 5 of 5"),
    ],
)
def test_what_does_not_fit_together_is_refused(changes, words):
    with pytest.raises(InputError, match=words):
        study(**changes)


def test_the_digest_is_that_of_the_values_whatever_their_order_in_memory():
    digest = study().digest
    assert study(voxels=np.asfortranarray(VOXELS)).digest == digest
    assert study(voxels=VOXELS.astype(">i2")).digest == digest
    assert study(name="other").digest == digest
    changed = VOXELS.copy()
    changed[1, 2, 3, 4] += 1
    other = [study(voxels=changed), study(voxels=VOXELS.astype(np.uint16))]
    other.append(study(voxels=VOXELS.reshape(3, 2, 4, 5)))
    assert len({digest, *(each.digest for each in other)}) == 4
