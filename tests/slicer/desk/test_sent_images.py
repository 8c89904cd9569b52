from __future__ import annotations

import gzip

import numpy as np
import pytest
from CineLabelLib import nifti

nibabel = pytest.importorskip("nibabel")

OBLIQUE = np.array([[1.2, 0.5, 0, -20], [-0.6, 1.3, 1, 9], [0.1, -0.2, -8, 3], [0, 0, 0, 1.0]])


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(5, 6, 4), (5, 6, 4, 3)])
def test_an_image_that_is_sent_along_is_what_nibabel_reads(dtype, shape):
    voxels = np.random.default_rng(0).integers(0, 200, shape).astype(dtype)
    content = nifti.image_bytes(voxels, OBLIQUE)
    image = nibabel.Nifti1Image.from_bytes(gzip.decompress(content))
    np.testing.assert_array_equal(np.asarray(image.dataobj), voxels)
    assert image.get_data_dtype() == dtype
    np.testing.assert_allclose(image.affine, OBLIQUE, atol=1e-6)
    np.testing.assert_array_equal(nifti.read(content).voxels, voxels)


def test_an_image_that_is_sent_along_names_nobody():
    header = gzip.decompress(nifti.image_bytes(np.ones((3, 4, 2), np.int16), OBLIQUE))[:348]
    assert not any(header[148:252])  # descrip and aux_file
    assert not any(header[4:32])  # data_type and db_name
