"""A dry run: two steps of a training on few examples, to see that all it needs is there and fits.

Network, preparation, augmentation, optimiser and precision are those of the configuration.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from rich.console import Console

from cinelabel.core.errors import CineLabelError
from cinelabel.learning.config import TrainConfig, parse
from cinelabel.learning.pretrained import find_weights
from cinelabel.learning.reporting import Reporter
from cinelabel.learning.supervised import train

STEPS = 2


def dry_config(config: TrainConfig) -> TrainConfig:
    """The configuration with two steps of single examples out of few."""
    values = config.model_dump(mode="json")
    values["data"] |= {"count": STEPS, "validation_count": 1, "few": True, "folder": None}
    every = {"validate_every": STEPS, "checkpoint_every": STEPS, "log_every": 1}
    values |= {"steps": STEPS, "batch_size": 1, "workers": 1, **every}
    return parse(values, config.name)


def dry_run(config: TrainConfig) -> list[str] | None:
    """Take two steps, validate and finish in a folder that is thrown away.

    Returns: sentences on what was done; None if an interruption was asked for. Weights to start
    from that are not there yet are none of a dry run's business: it starts at random, and says so.
    Raises as `train`.
    """
    done = []
    dry = dry_config(config)
    if config.pretrained is not None:
        try:
            find_weights(config.pretrained.weights)
        except CineLabelError as error:
            done.append(f"Started at random: {error}")
            dry = dry.model_copy(update={"pretrained": None})
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="cinelabel-") as scratch:
        quiet = Reporter(Console(quiet=True))
        result = train(dry, Path(scratch) / "run", reporter=quiet)
    if not result.finished:
        return None
    seconds = time.monotonic() - began
    data = dry.data
    shape = "x".join(str(n) for n in (data.depth, data.size, data.size) if n)
    done.append(
        f"{config.name}: {result.step} steps of one {shape} example and a validation took "
        f"{seconds:.1f} s with data; nothing is kept."
    )
    return done
