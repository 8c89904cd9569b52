"""Phantom examples a second and core, and where the time goes; prints tables (pytest -s).

It never fails on time. Everything is on, as in training: settings at their defaults.
"""

from __future__ import annotations

import cProfile
import pstats
import time
from itertools import islice
from pathlib import Path

import pytest
from cinelabel.phantom.dataset import BLOCK, PHASES, VIEWS, VISIT, PhantomSlices
from threadpoolctl import threadpool_limits

EXAMPLES = {"slices": 6 * BLOCK * VISIT, "stacks": BLOCK * PHASES, "clips": BLOCK * VIEWS}
"""Whole blocks of a stream: enough for the shares of what is drawn to even out."""
STREAMS = {
    "slices 192 px, 1.4 mm": PhantomSlices(size=192, spacing_mm=1.4),
    "slices 128 px, 1.5 mm": PhantomSlices(size=128, spacing_mm=1.5),
    "locator 96 px, 4 mm": PhantomSlices("locator", size=96, spacing_mm=4.0),
    "stacks of 8, 128 px, 1.5 mm": PhantomSlices(mode="stacks", size=128, spacing_mm=1.5),
    "clips of 8, 128 px, 1.5 mm": PhantomSlices(mode="clips", size=128, spacing_mm=1.5),
}
STAGES = (
    ("cohort.py", "sample_subject"),
    ("acquisition.py", "sample_scanner"),
    ("breathing.py", "sample_motion"),
    ("thorax.py", "paint_thorax"),
    ("scanning.py", "receive_field"),
    ("rendering.py", "render"),
    ("rendering.py", "render_poses"),
    ("acquisition.py", "acquire"),
)


def warm(slices: PhantomSlices) -> None:
    """Compile the kernels, or load them, and fill the tables that subjects share."""
    list(islice(slices.stream(1), 8))


@pytest.mark.parametrize("name", STREAMS)
def test_slices_a_second(name: str) -> None:
    slices = STREAMS[name]
    warm(slices)
    made, start = 0, time.process_time()
    with threadpool_limits(1):
        # Whole blocks: a view makes two examples at a time.
        for example in islice(slices.stream(0), EXAMPLES[slices.mode]):
            made += 1 if slices.mode == "slices" else len(example.image)
    rate = made / (time.process_time() - start)
    print(f"\n  {name:<28} {rate:6.1f} slices/s of processor time")
    assert rate > 0


def test_where_the_time_of_a_slice_goes() -> None:
    slices = STREAMS["slices 192 px, 1.4 mm"]
    warm(slices)
    count = 2 * BLOCK * VISIT
    profile = cProfile.Profile()
    with threadpool_limits(1):
        profile.enable()
        list(islice(slices.stream(0), count))
        profile.disable()
    found = {}
    rows = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    for (file, _, name), (_, calls, _, seconds, _) in rows.items():
        found[Path(file).name, name] = (seconds, calls)
    print("\n  192 px, 1.4 mm: ms a slice by the clock, callees included, and calls a slice")
    for stage in STAGES:
        seconds, calls = found[stage]
        print(f"  {stage[1]:<16} {1000 * seconds / count:6.2f} {calls / count:6.2f}")
    assert all(found[stage][1] > 0 for stage in STAGES)
