from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from cinelabel.core.errors import InputError
from cinelabel.core.grid import Grid
from cinelabel.studies.study import Study

GRID = Grid((4, 3, 2), np.eye(4))
FRAMES = np.zeros((4, 3, 2, 5), np.float32)


def test_a_frame_is_a_view_of_the_study():
    study = Study("s", FRAMES.copy(), GRID, True)
    assert study.n_frames == 5
    assert study.frame(2).shape == (4, 3, 2)
    assert np.shares_memory(study.frame(2), study.frames)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "a/b"}, "study name"),
        ({"frames": FRAMES[..., 0]}, "3D float32"),
        ({"frames": FRAMES.astype(np.float64)}, "float64"),
        ({"frames": FRAMES[1:]}, "do not fit the grid"),
        ({"trigger_times_ms": (0.0, 1.0)}, "2 trigger times are given for 5 frames"),
        ({"ed": 5}, "ED is frame 5 of 5"),
        ({"es": -1}, "ES is frame -1 of 5"),
    ],
)
def test_a_study_that_does_not_hold_together_is_refused(changes, words):
    arguments = {"name": "s", "frames": FRAMES, "grid": GRID, "is_cine": True, **changes}
    with pytest.raises(InputError, match=words):
        Study(**arguments)


def test_the_wing_is_imported_without_the_libraries_of_the_formats():
    program = (
        "import sys, cinelabel.studies\n"
        "print([m for m in ('nibabel', 'pydicom', 'torch', 'scipy') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stdout.strip() == "[]", run.stderr
