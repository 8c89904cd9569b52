"""Learning-rate schedules as pure functions of the step, so that a resumed run needs no state.

one-cycle: Smith and Topin 2018; poly with exponent 0.9: nnU-Net (Isensee et al. 2021);
cosine: Loshchilov and Hutter 2017.
"""

from __future__ import annotations

import math

from cinelabel.learning.config import ScheduleConfig

START_FRACTION = 1 / 25  # one-cycle starts here ...
FINAL_FRACTION = 1 / 10_000  # ... and ends here, as fractions of the peak
POLY_EXPONENT = 0.9


def learning_rate(schedule: ScheduleConfig, peak: float, step: int, steps: int) -> float:
    """The learning rate of a step (0-based) of a run of `steps`, `peak` being the largest.

    All schedules rise within the first `warmup` share of the steps (one-cycle along a cosine from
    peak / 25, the others linearly) and then fall to zero, or one-cycle to peak / 10 000.
    """
    rising = int(schedule.warmup * steps)
    if step < rising:
        part = (step + 1) / (rising + 1)
        if schedule.name == "onecycle":
            return peak * _cosine(START_FRACTION, 1.0, part)
        return peak * part
    part = (step - rising) / max(1, steps - rising)
    if schedule.name == "poly":
        return peak * (1 - part) ** POLY_EXPONENT
    return peak * _cosine(1.0, FINAL_FRACTION if schedule.name == "onecycle" else 0.0, part)


def _cosine(start: float, end: float, part: float) -> float:
    """From `start` at part 0 to `end` at part 1 along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * part)) / 2
