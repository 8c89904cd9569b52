"""What a training run is asked to do: a configuration read from YAML and checked by pydantic.

Defaults are ours, chosen for the compact networks on two CPU cores; the `sgd` and `poly` choices
with lr 0.01, weight decay 3e-5 and momentum 0.99 are nnU-Net's (Isensee et al. 2021).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    model_validator,
)

from cinelabel.core.errors import RunError
from cinelabel.core.files import check_identifier
from cinelabel.networks.specs import NetworkSpec, resolve
from cinelabel.phantom.settings import PhantomSettings

OPERATIONAL = frozenset(
    {"threads", "workers", "checkpoint_every", "validate_every", "log_every", "data.folder"}
)
"""Keys that may change when a run is resumed: they do not change what is learned."""


def _as_spec(value: object) -> object:
    if isinstance(value, str):
        return resolve(value)
    return NetworkSpec.from_dict(value) if isinstance(value, dict) else value


def _as_phantom(value: object) -> object:
    known = {field.name for field in fields(PhantomSettings)}
    if isinstance(value, dict) and (unknown := sorted(set(value) - known)):
        raise ValueError(f"unknown setting {unknown[0]!r}; known are {', '.join(sorted(known))}")
    return value


def _as_identifier(value: str) -> str:
    return check_identifier(value, "name of a run")


Phantom = Annotated[PhantomSettings, BeforeValidator(_as_phantom)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(_Section):
    """Which slices are learned from; `folder` holds the caches, by default beside the run.

    `intensity` is what a network sees of each slice, clipped: zero mean and unit spread, or the
    range from 0 to 1, as transformers learn from.

    `phantom` leaves something out of the training slices, as an ablation does; the held-out slices
    are of `validation_phantom`, by default with everything on, so that such runs compare.
    """

    source: Literal["phantom"] = "phantom"
    task: Literal["segmenter", "locator"] = "segmenter"
    count: int = Field(default=20_000, ge=1)
    size: int = Field(default=128, ge=16, description="height and width, pixels")
    spacing_mm: float = Field(default=1.5, gt=0)
    intensity: Literal["z-score", "min-max"] = "z-score"
    seed: int = Field(default=1, ge=0)
    validation_count: int = Field(default=400, ge=1)
    validation_seed: int = Field(default=1_000_001, ge=0)
    phantom: Phantom = PhantomSettings()
    validation_phantom: Phantom = PhantomSettings()
    folder: Path | None = None

    @model_validator(mode="after")
    def _held_out(self) -> DataConfig:
        if self.validation_seed == self.seed:
            raise ValueError("validation_seed must differ from seed")
        return self


class OptimiserConfig(_Section):
    """adamw, or sgd with Nesterov momentum (`momentum` counts for sgd alone)."""

    name: Literal["adamw", "sgd"] = "adamw"
    lr: float = Field(default=2e-3, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    momentum: float = Field(default=0.99, ge=0, lt=1)


class ScheduleConfig(_Section):
    """How the learning rate moves; `warmup` is the share of the steps in which it rises."""

    name: Literal["onecycle", "poly", "cosine"] = "onecycle"
    warmup: float = Field(default=0.1, ge=0, lt=1)


class TrainConfig(_Section):
    """A whole training run; see `configs/` for examples."""

    name: Annotated[str, AfterValidator(_as_identifier)]
    network: Annotated[
        NetworkSpec, BeforeValidator(_as_spec), PlainSerializer(NetworkSpec.to_dict)
    ]
    seed: int = Field(default=1, ge=0)
    data: DataConfig = DataConfig()
    augmentation: dict[str, Any] | None = Field(
        default={}, description="settings of transforms.augment; null: no augmentation"
    )
    optimiser: OptimiserConfig = OptimiserConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    steps: int = Field(default=8000, ge=1)
    batch_size: int = Field(default=16, ge=1)
    precision: Literal["32-true", "bf16-mixed"] = "bf16-mixed"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    compile: bool = False
    gradient_clip: float = Field(
        default=12.0, ge=0, description="largest gradient norm; 0: no limit"
    )
    ema: float = Field(
        default=0.999, ge=0, lt=1, description="decay of the averaged weights; 0: none"
    )
    validate_every: int = Field(default=1000, ge=1)
    checkpoint_every: int = Field(default=500, ge=1)
    log_every: int = Field(default=100, ge=1)
    workers: int = Field(default=2, ge=1, description="processes that make the training slices")
    threads: int | None = Field(default=None, ge=1, description="torch threads; none: all cores")

    @model_validator(mode="after")
    def _sizes_fit(self) -> TrainConfig:
        if self.network.dimensions != 2:
            raise ValueError(f"a network '{self.network.family}' does not learn from single slices")
        if self.network.size and self.data.size != self.network.size:
            raise ValueError(f"data.size must be {self.network.size}, the network's only size")
        if self.data.size % self.network.divisor:
            raise ValueError(f"data.size must be a multiple of {self.network.divisor}")
        return self

    def to_yaml(self) -> str:
        """The resolved configuration, network numbers included; `parse` reads it again."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def parse(values: object, where: object) -> TrainConfig:
    """The configuration of plain values; RunError names the first key that is wrong."""
    try:
        return TrainConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        problem = f"'{key}': {first['msg']}" if key else first["msg"]
        raise RunError(problem, where=where, remedy="Correct the configuration") from error


def load(path: Path, **overrides: object) -> TrainConfig:
    """The configuration of a YAML file; overrides that are not None replace top-level keys.

    Raises RunError for a file that is missing, is not YAML, or does not hold a configuration.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise RunError(f"the configuration cannot be read, {reason}", where=path) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RunError("this is not a YAML file", where=path) from error
    if not isinstance(values, dict):
        raise RunError("the configuration is not a table of keys and values", where=path)
    values.update({key: value for key, value in overrides.items() if value is not None})
    return parse(values, path)


def first_difference(before: TrainConfig, now: TrainConfig) -> tuple[str, object, object] | None:
    """The first key (dotted) that two configurations differ in, operational keys left out."""
    left, right = (dict(_flatten(c.model_dump(mode="json"))) for c in (before, now))
    for key in [*left, *(key for key in right if key not in left)]:
        if key not in OPERATIONAL and left.get(key) != right.get(key):
            return key, left.get(key), right.get(key)
    return None


def _flatten(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
