"""Smooth random fields."""

from __future__ import annotations

import numpy as np
import pytest
from cinelabel.phantom.fields import smooth_field


def test_smooth_fields_have_no_mean_and_about_unit_spread() -> None:
    fields = np.stack([smooth_field(np.random.default_rng(s), (48, 64), 8) for s in range(60)])
    assert abs(fields.mean()) < 0.05
    assert fields.std() == pytest.approx(1.0, abs=0.25)
