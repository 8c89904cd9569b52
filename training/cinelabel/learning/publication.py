"""From finished training runs to a model version: what each run is, and where it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cinelabel
from cinelabel.core.errors import RunError
from cinelabel.learning.config import TrainConfig
from cinelabel.learning.run_folder import RunFolder
from cinelabel.models.store import Draft, ModelStore, ModelVersion
from cinelabel.transforms.preprocess import CLIP_PERCENTILES


def publish_runs(
    store: ModelStore,
    version: str,
    runs: Sequence[Path],
    *,
    licence: str = "Apache-2.0",
    parent: str | None = None,
    half: bool = True,
) -> ModelVersion:
    """Publish finished runs as the members of one version; roles follow from the runs' data.

    Raises RunError for a run that is not finished or two of one name, and what
    `ModelStore.publish` raises.
    """
    folders = [RunFolder(path) for path in runs]
    configs = [folder.config() for folder in folders]
    summaries = [folder.summary() for folder in folders]
    names = [config.name for config in configs]
    for name, path in zip(names, runs, strict=True):
        if names.count(name) > 1:
            raise RunError(f"two runs have the name '{name}'", where=path)
    origins = {
        config.name: _origin(config, summary)
        for config, summary in zip(configs, summaries, strict=True)
    }
    return store.publish(
        version,
        [
            Draft(
                name=config.name,
                role=config.data.task,
                network=config.network,
                weights=folder.weights(),
                preprocessing=preprocessing(config),
            )
            for folder, config in zip(folders, configs, strict=True)
        ],
        provenance={"cinelabel": cinelabel.__version__, "runs": origins},
        metrics={
            "validation": {
                name: {"dice": summary["dice"]}
                for name, summary in zip(names, summaries, strict=True)
            }
        },
        licence=licence,
        parent=parent,
        half=half,
    )


def preprocessing(config: TrainConfig) -> dict[str, Any]:
    """What a network trained with this configuration expects its input to be."""
    return {
        "spacing_mm": config.data.spacing_mm,
        "size": config.data.size,
        "clip_percentiles": list(CLIP_PERCENTILES),
        "normalisation": "zero mean and unit spread, each slice by itself",
    }


def _origin(config: TrainConfig, summary: dict[str, Any]) -> dict[str, Any]:
    """The command, the configuration without paths of this machine, and what came out."""
    values = config.model_dump(mode="json")
    values["data"].pop("folder")
    kept = ("steps", "seconds", "seed", "precision", "device", "threads", "versions")
    return {
        "command": f"cinelabel train {config.name}.yaml",
        "config": values,
        "result": {key: summary[key] for key in kept if key in summary},
    }
