"""The trainer `cine` as MONAI Label shows it; training itself is a job of `cinelabel.serving`."""

from __future__ import annotations

from typing import Any, get_args

from cinelabel.learning.config import FinetuneConfig
from cinelabel.serving.jobs import JobRunner
from monailabel.interfaces.exception import MONAILabelError, MONAILabelException
from monailabel.interfaces.tasks.train import TrainTask


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
        """Figures of the last training, for the progress bar of MONAI Label's Slicer module."""
        last = next((job for job in reversed(self._jobs.jobs()) if job.kind == "train"), None)
        if last is None or last.progress is None:
            return {}
        figures = {"epoch": 0, "total_epochs": 1, **last.progress}
        figures.update(figures.pop("figures", None) or {})
        return {name: value for name, value in figures.items() if value is not None}

    def __call__(self, request: dict[str, Any], datastore: object) -> dict[str, Any]:
        """Never in the server's own process. Raises MONAILabelException."""
        raise MONAILabelException(
            MONAILabelError.INVALID_INPUT, "Training is started by POST /train/cine, as a job."
        )
