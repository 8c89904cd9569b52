"""Slices of 128x128 a second on one core; prints a table (pytest -s) and never fails on time."""

from __future__ import annotations

import time

from cinelabel.phantom.dataset import TASKS, make_example
from cinelabel.transforms.preprocess import normalise
from threadpoolctl import threadpool_limits

SLICES = 200


def test_slices_a_second() -> None:
    print("\n128x128 pixels, one process")
    for task in TASKS:
        make_example(task, 0, 0, 128, 1.5)
        start = time.process_time()
        with threadpool_limits(1):
            for index in range(SLICES):
                image, _ = make_example(task, 0, index, 128, 1.5)
                normalise(image)
        rate = SLICES / (time.process_time() - start)
        print(f"  {task:<10} {rate:6.1f} slices/s of processor time")
        assert rate > 0
