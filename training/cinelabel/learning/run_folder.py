"""The folder of a training run: its configuration, checkpoints, metrics and result.

    config.yaml  folds.json  cases.json  pretrained.json  metrics.csv  tensorboard/
    checkpoints/step-00001000/  weights.safetensors  summary.json

A checkpoint is a folder that appears whole: `weights.safetensors`, `average.safetensors`,
`optimiser.pt` (tensors and numbers, read with weights_only=True) and `checkpoint.json`.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from cinelabel.core.errors import RunError
from cinelabel.core.files import atomic_write, output_error, write_json, write_text
from cinelabel.datasets.folds import read_folds, write_folds
from cinelabel.learning import config as configuration
from cinelabel.learning.config import TrainConfig
from cinelabel.learning.table import STEP, whole_rows
from cinelabel.models.folders import PARTIAL, whole_folder

KEPT_CHECKPOINTS = 2
LOCK_FILE = ".lock"
ORIGIN_FILE = "pretrained.json"
CASES_FILE = "cases.json"


@dataclass(frozen=True)
class Checkpoint:
    """All a run needs to go on: `step` steps are done; tensors are on the CPU."""

    step: int
    seconds: float
    weights: dict[str, torch.Tensor]
    average: dict[str, torch.Tensor]
    optimiser: dict[str, Any]
    random_state: torch.Tensor


@dataclass(frozen=True)
class RunFolder:
    """Paths and files of one run."""

    path: Path

    @property
    def config_file(self) -> Path:
        return self.path / "config.yaml"

    @property
    def weights_file(self) -> Path:
        return self.path / "weights.safetensors"

    @property
    def summary_file(self) -> Path:
        return self.path / "summary.json"

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.csv"

    @property
    def finished(self) -> bool:
        """Whether the run has its result."""
        return self.summary_file.exists() and self.weights_file.exists()

    @property
    def folds_file(self) -> Path:
        """The folds of which the run holds one out, as they were when it was begun."""
        return self.path / "folds.json"

    def check(self, config: TrainConfig) -> None:
        """Raise RunError unless the folder is new, empty, or belongs to this configuration.

        The error names the first key that differs from the run's own configuration. Folds that
        cannot be read or are not sound raise InputError.
        """
        if not self.config_file.exists():
            if self.path.exists() and (not self.path.is_dir() or any(self.path.glob("[!.]*"))):
                raise RunError(
                    "this is no folder of a run and it is not empty",
                    where=self.path,
                    remedy="Choose another run folder",
                )
            return
        before = configuration.load(self.config_file)
        if difference := configuration.first_difference(before, config):
            key, old, new = difference
            raise RunError(
                f"the run was begun with {key} = {old}, not {new}",
                where=self.path,
                remedy="Use another run folder, or the configuration in its config.yaml",
            )
        if not config.data.folds or not self.folds_file.exists():
            return
        if read_folds(config.data.folds).patients != read_folds(self.folds_file).patients:
            raise RunError(
                "the folds are not those that the run was begun with",
                where=config.data.folds,
                remedy=f"Use another run folder, or the folds in {self.folds_file}",
            )

    def begin(self, config: TrainConfig) -> None:
        """Make the folder with its configuration, after `check`; clear what a kill left behind."""
        self.check(config)
        for partial in (self.path / "checkpoints").glob(f"{PARTIAL}*"):
            shutil.rmtree(partial, ignore_errors=True)
        write_text(self.config_file, config.to_yaml())
        if config.data.folds:
            write_folds(self.folds_file, read_folds(config.data.folds))

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from training in this folder within the block.

        A killed process leaves nothing locked. Raises RunError if another one is at work.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / LOCK_FILE, timeout=0)
            lock.acquire()
        except Timeout as error:
            raise RunError(
                "another process is training in this folder",
                where=self.path,
                remedy="Wait for its end, or choose another run folder",
            ) from error
        except OSError as error:
            raise output_error(error, self.path) from error
        try:
            yield
        finally:
            lock.release()

    def keep_origin(self, origin: dict[str, Any]) -> None:
        """Write down what the run's first weights were taken from."""
        write_json(self.path / ORIGIN_FILE, origin)

    def origin(self) -> dict[str, Any] | None:
        """What `keep_origin` has written, or None."""
        file = self.path / ORIGIN_FILE
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None

    def keep_cases(self, cases: Mapping[str, Sequence[str]]) -> None:
        """Write down which cases are learned from and held out.

        Raises RunError where the run was begun with others, naming the first.
        """
        file = self.path / CASES_FILE
        if (before := self.cases()) is None:
            write_json(file, {side: list(names) for side, names in cases.items()})
            return
        for side, names in cases.items():
            if changed := sorted(set(before.get(side, ())) ^ set(names)):
                raise RunError(
                    f"the data sets are not those that the run was begun with: {changed[0]} "
                    f"is {'gone' if changed[0] in before.get(side, ()) else 'new'}",
                    where=file,
                    remedy="Use another run folder, or the data as they were",
                )

    def cases(self) -> dict[str, list[str]] | None:
        """What `keep_cases` has written, or None."""
        file = self.path / CASES_FILE
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None

    def config(self) -> TrainConfig:
        """The resolved configuration of the run; RunError if the folder holds none."""
        return configuration.load(self.config_file)

    def summary(self) -> dict[str, Any]:
        """What the finished run says of itself; RunError if it is not finished."""
        if not self.finished:
            raise RunError("the run is not finished", where=self.path, remedy="Train it to its end")
        try:
            return json.loads(self.summary_file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise RunError("this is not a summary of a run", where=self.summary_file) from error

    def weights(self) -> dict[str, torch.Tensor]:
        """The final weights; RunError if the file is missing or damaged."""
        return _read_tensors(self.weights_file)

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint folder whole and drop all but the newest ones. Raises OutputError."""
        target = self.path / "checkpoints" / f"step-{checkpoint.step:08d}"
        if not target.exists():
            with whole_folder(target) as folder:
                _write_tensors(folder / "weights.safetensors", checkpoint.weights)
                _write_tensors(folder / "average.safetensors", checkpoint.average)
                state = {"optimiser": checkpoint.optimiser, "random": checkpoint.random_state}
                _write_state(folder / "optimiser.pt", state)
                facts = {"step": checkpoint.step, "seconds": checkpoint.seconds}
                write_json(folder / "checkpoint.json", facts)
        for old in self._checkpoints()[:-KEPT_CHECKPOINTS]:
            shutil.rmtree(old, ignore_errors=True)

    def latest_checkpoint(self) -> Checkpoint | None:
        """The newest checkpoint, or None; RunError naming the file that is damaged."""
        folders = self._checkpoints()
        if not folders:
            return None
        folder = folders[-1]
        state_file = folder / "optimiser.pt"
        try:
            facts = json.loads((folder / "checkpoint.json").read_text(encoding="utf-8"))
            state = torch.load(state_file, weights_only=True, map_location="cpu")
        except Exception as error:  # unpickling what is damaged fails in any way
            raise _damaged(state_file) from error
        return Checkpoint(
            step=facts["step"],
            seconds=facts["seconds"],
            weights=_read_tensors(folder / "weights.safetensors"),
            average=_read_tensors(folder / "average.safetensors"),
            optimiser=state["optimiser"],
            random_state=state["random"],
        )

    def _checkpoints(self) -> list[Path]:
        return sorted((self.path / "checkpoints").glob("step-*"))

    def finish(self, weights: dict[str, torch.Tensor], summary: dict[str, Any]) -> None:
        """Write the final weights, then the summary that marks the run as finished."""
        with atomic_write(self.weights_file) as temporary:
            _write_tensors(temporary, weights)
        write_json(self.summary_file, summary)


class MetricsFile:
    """`metrics.csv`, one row a logged step.

    Rows after the step that a run resumes at, and those that a kill cut short, are dropped. Raises
    InputError and OutputError naming the file.
    """

    def __init__(self, path: Path, columns: list[str], resumed_at: int) -> None:
        self.path, self.columns = path, columns
        kept: list[dict[str, str]] = []
        if path.exists():
            kept = [row for row in whole_rows(path) if int(row[STEP]) <= resumed_at]
        with atomic_write(path) as temporary, temporary.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(kept)

    def append(self, row: dict[str, float]) -> None:
        """Add a row; columns without a value stay empty. Raises OutputError."""
        try:
            with self.path.open("a", newline="", encoding="utf-8") as stream:
                csv.DictWriter(stream, self.columns).writerow(row)
        except OSError as error:
            raise output_error(error, self.path) from error


def _write_state(path: Path, state: dict[str, Any]) -> None:
    stream = io.BytesIO()  # into a file of a full disk, `torch.save` fails without an OSError
    torch.save(state, stream)
    path.write_bytes(stream.getbuffer())


def _write_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    path.write_bytes(save(tensors))  # safetensors' own files can be read by their owner alone


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> RunError:
    return RunError(
        "the file is missing or damaged", where=path, remedy="Delete its folder to go on without it"
    )
