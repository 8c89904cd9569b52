"""The trainer `cine` as MONAI Label shows it; training itself is a job of `cinelabel.serving`."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, get_args

from cinelabel.learning.config import FinetuneConfig
from cinelabel.serving import train
from cinelabel.serving.jobs import Job, JobRunner
from monailabel.interfaces.exception import MONAILabelError, MONAILabelException
from monailabel.interfaces.tasks.train import TrainTask

from lib import jobs

RESULTS = (
    "version",
    "in_use",
    "decision",
    "before",
    "after",
    "phantoms",
    "learned_from",
    "held_out",
    "problems",
)
"""What a training tells when it has ended."""


class FineTuning(TrainTask):
    """What a training can be asked for, and how far the last one is."""

    def __init__(self, jobs: JobRunner) -> None:
        super().__init__("Fine-tunes the model on submitted labels; gives a candidate version")
        self._jobs = jobs

    def config(self) -> dict[str, Any]:
        """The options that clients show."""
        fields = FinetuneConfig.model_fields
        return {
            "method": list(get_args(fields["method"].annotation)),
            "minutes": fields["minutes"].default,
        }

    def stats(self) -> dict[str, Any]:
        """Figures of the last training, for the progress bar of MONAI Label's Slicer module.

        `total_time`, once it has ended, lets the bar go back; `best_metric` is the mean Dice of
        the held-out patients by the version that came out, before that by its parent.
        """
        last = next((job for job in reversed(self._jobs.jobs()) if job.kind == "train"), None)
        if last is None or last.progress is None:
            return {}
        figures = {"epoch": 0, "total_epochs": 1, **last.progress}
        figures.update(figures.pop("figures", None) or {})
        if last.has_ended and last.started and last.ended:
            took = datetime.fromisoformat(last.ended) - datetime.fromisoformat(last.started)
            figures["total_time"] = str(timedelta(seconds=round(took.total_seconds())))
        if last.result and (scores := last.result.get("after")):
            figures["best_metric"] = sum(scores["dice"].values()) / len(scores["dice"])
        return {name: value for name, value in figures.items() if value is not None}

    def __call__(self, request: dict[str, Any], datastore: object) -> dict[str, Any]:
        """Never in the server's own process. Raises MONAILabelException."""
        raise MONAILabelException(
            MONAILabelError.INVALID_INPUT, "Training is started by POST /train/cine, as a job."
        )


def course(runner: JobRunner, job: Job) -> dict[str, Any]:
    """A training from its beginning to now: what is done, its curves, and what came out of it."""
    told = jobs.told(job)
    progress, result = told["progress"] or {}, told["result"] or {}
    figures = progress.get("figures") or {}
    folder = train.home_of(job.request, runner.folder / job.id)
    return {
        "job": job.id,
        **{name: told[name] for name in ("state", "error", "who", "created", "started", "ended")},
        **{name: progress.get(name) for name in ("stage", "done", "total", "rate")},
        "step": figures.get("epoch"),
        "steps": figures.get("total_epochs"),
        **{name: figures.get(name) for name in ("loss", "rates", "seconds", "dice")},
        "seconds_left": figures.get("seconds_left", progress.get("seconds_left")),
        "curves": train.curves(folder),
        "figures": list(train.drawn(folder)),
        **{name: result.get(name) for name in RESULTS},
    }
