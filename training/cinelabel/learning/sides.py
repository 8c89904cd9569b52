"""Which patients are held out in a folder of runs: the same for all of them, for good."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from cinelabel.learning.corrections import hold_out
from cinelabel.learning.finetune import PLAN_FILE, read_plan


def hold_out_of_all(file: Path, run: Path, patients: Collection[str]) -> frozenset[str]:
    """Those of the patients that no run beside the file learns from, dealt as by `hold_out`.

    Runs of earlier versions have a file of that name of their own, and go on with it. What they
    learned from is never held out here, and what only judged them stays held out.

    Args:
        file: of the sides, in the folder of the runs.
        run: that asks.
        patients: all there are.

    Raises:
        InputError, OutputError: as `hold_out`.
        RunError: the plan of an earlier run cannot be read.
    """
    if (run / file.name).exists() and (run / PLAN_FILE).exists():
        return hold_out(run / file.name, patients)
    earlier = (own.with_name(PLAN_FILE) for own in sorted(file.parent.glob(f"*/{file.name}")))
    plans = [read_plan(plan) for plan in earlier if plan.exists()]
    trained = {correction.patient for plan in plans for correction in plan.training}
    judged = {correction.patient for plan in plans for correction in plan.held_out}
    hold_out(file, trained, share=0)
    hold_out(file, judged - trained, share=1)
    return hold_out(file, patients)
