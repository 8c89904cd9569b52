"""Phantom examples a second and core, and where the time goes; prints tables (pytest -s).

It never fails on time. Everything is on, as in training: settings at their defaults.
"""

from __future__ import annotations

import cProfile
import pstats
import time
from itertools import islice

import pytest
from cinelabel.phantom.dataset import VISIT, PhantomSlices
from cinelabel.transforms.preprocess import normalise
from threadpoolctl import threadpool_limits

SLICES = 240
STREAMS = {
    "slices 192 px, 1.4 mm": PhantomSlices(size=192, spacing_mm=1.4),
    "slices 128 px, 1.5 mm": PhantomSlices(size=128, spacing_mm=1.5),
    "locator 96 px, 4 mm": PhantomSlices("locator", size=96, spacing_mm=4.0),
    "stacks of 8, 128 px, 1.5 mm": PhantomSlices(mode="stacks", size=128, spacing_mm=1.5),
    "clips of 8, 128 px, 1.5 mm": PhantomSlices(mode="clips", size=128, spacing_mm=1.5),
}
STAGES = (
    "sample_subject",
    "sample_scanner",
    "sample_motion",
    "background",
    "receive_field",
    "render",
    "render_poses",
    "acquire",
)


def slices_in(example: object) -> int:
    shape = example.image.shape  # type: ignore[attr-defined]
    return shape[0] if len(shape) == 3 else 1


@pytest.mark.parametrize("name", STREAMS)
def test_slices_a_second(name: str) -> None:
    stream = STREAMS[name].stream(0)
    warm = sum(slices_in(example) for example in islice(stream, VISIT))  # kernels are compiled
    made, start = 0, time.process_time()
    with threadpool_limits(1):
        while made < SLICES:
            example = next(stream)
            normalise(example.image)
            made += slices_in(example)
    rate = made / (time.process_time() - start)
    print(f"\n  {name:<28} {rate:6.1f} slices/s of processor time")
    assert warm > 0
    assert rate > 0


def test_where_the_time_of_a_slice_goes() -> None:
    stream = STREAMS["slices 192 px, 1.4 mm"].stream(0)
    list(islice(stream, VISIT))
    profile = cProfile.Profile()
    with threadpool_limits(1):
        profile.enable()
        list(islice(stream, SLICES))
        profile.disable()
    found = pstats.Stats(profile).get_stats_profile().func_profiles
    print("\n  192 px, 1.4 mm: ms a slice, callees included, and calls a slice")
    for stage in (stage for stage in STAGES if stage in found):
        row = found[stage]
        calls = int(str(row.ncalls).split("/")[0])
        print(f"  {stage:<16} {1000 * row.cumtime / SLICES:6.2f} {calls / SLICES:6.2f}")
    assert "acquire" in found
