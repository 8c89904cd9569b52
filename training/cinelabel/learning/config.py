"""What a training run is asked to do: a configuration read from YAML and checked by pydantic.

Defaults are ours, chosen for the compact networks on two CPU cores. Those of Gong et al.
(STACOM 2022, section 2.5), all with `poly`: sgd with lr 0.01, weight decay 3e-5 and momentum 0.99
for nnU-Net (Isensee et al. 2021), adamw with 4e-4 and 5e-5 for Swin-UNETR, sgd with 0.05, 1e-4 and
0.9 for Swin-UNet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

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

from cinelabel.core.errors import ModelError, RunError
from cinelabel.core.files import check_identifier
from cinelabel.datasets import REGISTRY
from cinelabel.networks.specs import NetworkSpec, resolve
from cinelabel.phantom.settings import PhantomSettings

T = TypeVar("T")
OPERATIONAL = frozenset(
    {"threads", "workers", "checkpoint_every", "validate_every", "log_every"}
    | {"data.folder", "data.folds"}
)
"""Keys that may change when a run is resumed: they do not change what is learned.

So may the folders of `data.roots`, but not which sets they are of; of `data.folds` the run folder
keeps the content.
"""


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


def each_once(values: tuple[T, ...]) -> tuple[T, ...]:
    """The values; ValueError naming the first that is there a second time."""
    for place, value in enumerate(values):
        if value in values[:place]:
            raise ValueError(f"{value!r} is named twice")
    return values


AUGMENTATIONS = ("compact", "nnunet")
Phantom = Annotated[PhantomSettings, BeforeValidator(_as_phantom)]
Members = Annotated[tuple[str, ...], AfterValidator(each_once)]
Seeds = Annotated[
    tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1), AfterValidator(each_once)
]


class Section(BaseModel):
    """A table of a configuration file: unknown keys are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def to_yaml(self) -> str:
        """The resolved values, a network's numbers included; `parse` reads them again."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


C = TypeVar("C", bound=Section)


class DataConfig(Section):
    """What is learned from, and how it is prepared; `folder` holds what is made of it.

    Preparation (`transforms.preparation`), for both sources: `spacing_mm` None keeps the pixels of
    each study; `depth` is the slices of an example, 0 for networks of single slices; `intensity`,
    after clipping, is zero mean and unit spread or the range from 0 to 1, `normalised_over` each
    slice or the whole stack.

    Source `phantom`: `phantom` leaves something out of the training slices, as an ablation does;
    the held-out slices are of `validation_phantom`, by default with everything on, so that such
    runs compare.

    Source `sets`: `roots` are the user's copies of public sets. A `table` of `datasets.fusion` says
    which cases are taken (None: every labelled one) and `balance` how often each set is drawn;
    `partial` allows copies that lack cases of the table. `fold` of the file `folds` is held out;
    without one, a fixed tenth of the patients. `foreground` is the share of windows that are
    centred on a structure. `few` takes the first case of each set alone, as a dry run does.
    """

    source: Literal["phantom", "sets"] = "phantom"
    task: Literal["segmenter", "locator"] = "segmenter"
    size: int = Field(default=128, ge=16, description="height and width, pixels")
    spacing_mm: float | None = Field(default=1.5, gt=0)
    intensity: Literal["z-score", "min-max"] = "z-score"
    normalised_over: Literal["slice", "volume"] = "slice"
    order: Literal[1, 3] = 1
    window: Literal["heart", "image"] = "heart"
    depth: int = Field(default=0, ge=0)
    count: int = Field(default=20_000, ge=1)
    seed: int = Field(default=1, ge=0)
    validation_count: int = Field(default=400, ge=1)
    validation_seed: int = Field(default=1_000_001, ge=0)
    phantom: Phantom = PhantomSettings()
    validation_phantom: Phantom = PhantomSettings()
    roots: dict[str, Path] = {}
    table: Literal["paper", "all-labelled"] | None = None
    balance: Literal["pooled", "root", "equal"] = "pooled"
    partial: bool = False
    folds: Path | None = None
    fold: int | None = Field(default=None, ge=0)
    foreground: float = Field(default=0.33, ge=0, le=1)
    few: bool = False
    folder: Path | None = None

    @model_validator(mode="after")
    def _belongs_together(self) -> DataConfig:
        if self.source == "phantom":
            self._check_phantom()
        for name in self.roots:
            if name not in REGISTRY:
                raise ValueError(f"unknown data set '{name}'; known are {', '.join(REGISTRY)}")
        if self.fold is not None and self.folds is None:
            raise ValueError("fold needs folds, the file that 'cinelabel data splits' writes")
        return self

    def _check_phantom(self) -> None:
        if self.validation_seed == self.seed:
            raise ValueError("validation_seed must differ from seed")
        if self.roots or self.table or self.folds:
            raise ValueError("roots, table and folds belong to the source 'sets'")
        if self.spacing_mm is None:
            raise ValueError("a phantom has no pixels of its own: spacing_mm must be a number")
        if self.window != "heart":
            raise ValueError("the window on a phantom is round its heart")
        if self.normalised_over == "volume" and not self.depth:
            raise ValueError("single slices of phantoms are normalised over the slice")


class OptimiserConfig(Section):
    """adamw, or sgd with Nesterov momentum (`momentum` counts for sgd alone).

    `offsets_lr` multiplies the rate of the offsets of deformable convolutions.
    """

    name: Literal["adamw", "sgd"] = "adamw"
    lr: float = Field(default=2e-3, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    momentum: float = Field(default=0.99, ge=0, lt=1)
    offsets_lr: float = Field(default=1.0, gt=0)


class LossConfig(Section):
    """How much each term weighs; nnU-Net's are equal, those of Swin-UNet's code 0.6 and 0.4."""

    dice: float = Field(default=1.0, ge=0)
    cross_entropy: float = Field(default=1.0, ge=0)

    @model_validator(mode="after")
    def _says_something(self) -> LossConfig:
        if not self.dice + self.cross_entropy:
            raise ValueError("dice or cross_entropy must weigh more than 0")
        return self


class PretrainedConfig(Section):
    """Weights that training starts from.

    weights: folder of a finished run, safetensors file, or `model:VERSION/MEMBER` of the store.
    parts: `all` tensors, which must fit, except that a deformable network may start from its plain
        twin; those of the `encoder` that fit; or, for a Swin-UNet, those of a Swin transformer
        trained on `imagenet`, in the names of timm or of the original (networks.imagenet).
    """

    weights: str
    parts: Literal["all", "encoder", "imagenet"] = "all"


class ScheduleConfig(Section):
    """How the learning rate moves; `warmup` is the share of the steps in which it rises."""

    name: Literal["onecycle", "poly", "cosine"] = "onecycle"
    warmup: float = Field(default=0.1, ge=0, lt=1)


class MetaSettings(Section):
    """MetaLR (Chen et al. 2022): what the paper and its code fix, and what they leave open.

    optimiser: sgd, of which the rates' gradients are exact, or adamw, the outer step of the
        authors' code.
    step: `literal`, alpha - eta h (equation 3), or `proportional`, alpha (1 - beta h) as in their
        code, h being the gradient of the validation loss in the rate alpha.
    hyper_rate: eta, or beta, which is 0.1 in their code.
    head, others: the first rates (section 3.2).
    floor, ceiling: bounds of the rates (section 2.2 has the floor); ceiling None: 0.1 with sgd,
        0.01 with adamw.
    momentum, nesterov: of sgd; without, some dozens of steps change next to nothing.
    separate_frames: from so many readers' frames on, a fifth of the training patients judge the
        rates and teach nothing else; with fewer frames another training batch judges.
    """

    optimiser: Literal["sgd", "adamw"] = "sgd"
    step: Literal["literal", "proportional"] = "literal"
    hyper_rate: float = Field(default=0.001, ge=0)
    head: float = Field(default=0.01, gt=0)
    others: float = Field(default=0.001, gt=0)
    floor: float = Field(default=1e-6, gt=0)
    ceiling: float | None = Field(default=None, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = True
    weight_decay: float = Field(default=0.0, ge=0)
    separate_frames: int = Field(default=20, ge=2)

    @model_validator(mode="after")
    def _bounds_hold_something(self) -> MetaSettings:
        if self.floor > self.largest:
            raise ValueError(f"no rate lies between {self.floor:g} and {self.largest:g}")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs momentum")
        return self

    @property
    def largest(self) -> float:
        """The ceiling that holds."""
        if self.ceiling is not None:
            return self.ceiling
        return 0.1 if self.optimiser == "sgd" else 0.01


class DecisionRules(Section):
    """When a fine-tuned version takes the place of its parent; see `learning.decision`.

    margin: Dice that the lower bound of a structure's mean may lie below zero.
    phantom_margin: Dice of a structure that may be lost on the phantom cohort, which has `phantoms`
        slices or stacks.
    least_patients: held out, for a decision without a person.
    level: of the one-sided bound, from `resamples` bootstrap samples drawn with `seed`.
    """

    margin: float = Field(default=0.01, ge=0)
    phantom_margin: float = Field(default=0.03, ge=0)
    phantoms: int = Field(default=48, ge=1)
    least_patients: int = Field(default=3, ge=2)
    level: float = Field(default=0.95, gt=0.5, lt=1)
    resamples: int = Field(default=10_000, ge=100)
    seed: int = Field(default=0, ge=0)


BY_DEPTH = ("layer-wise", "bi-directional")
"""Methods that keep some layers as they are; which ones, has to be chosen."""


class FinetuneConfig(Section):
    """A fine-tuning run: members of a model version learn from readers' labels, one by one.

    model, members: which; the version in use, and its fast member where none are named.
    method: what learns, and at which rate (`learning.rivals`); `lr` is the one rate of all but
        metalr, which `meta` describes.
    frozen: layers m to n that stay, counted from 1, of the method bi-directional; layer-wise, m is
        1. `reading` says what depth means, `block` how many layers count as one (`learning.depth`).
    replay: share of each batch that is phantom slices, against forgetting; of `replay_count`
        different ones.
    steps, minutes: of each member, whichever ends first; preparing, scoring and publishing come
        on top.
    judged_frames: so many of each held-out patient's frames are scored, ED and ES first.
    precision: `auto` is bf16-mixed where the processor computes in bfloat16.
    decision: when the result takes the place of its parent.
    """

    name: Annotated[str, AfterValidator(_as_identifier)]
    model: str | None = None
    members: Members = ()
    method: Literal[
        "metalr",
        "all",
        "last",
        "layer-wise",
        "bi-directional",
        "contracting",
        "random-encoder",
        "autolr",
    ] = "metalr"
    meta: MetaSettings = MetaSettings()
    frozen: tuple[int, int] | None = None
    reading: Literal["I1", "I2"] = "I1"
    block: int = Field(default=1, ge=1)
    lr: float = Field(default=2e-4, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    steps: int = Field(default=300, ge=1, le=100_000)
    minutes: float = Field(default=5.0, gt=0, le=24 * 60)
    batch_size: int = Field(default=16, ge=2, le=256)
    replay: float = Field(default=0.5, ge=0, lt=1)
    replay_count: int = Field(default=512, ge=1)
    gradient_clip: float = Field(default=12.0, ge=0)
    ema: float = Field(default=0.99, ge=0, lt=1)
    judged_frames: int = Field(default=4, ge=1)
    decision: DecisionRules = DecisionRules()
    seed: int = Field(default=1, ge=0)
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    checkpoint_every: int = Field(default=50, ge=1)
    workers: int = Field(default=2, ge=1, description="processes that make the phantom slices")
    threads: int | None = Field(default=None, ge=1, description="torch threads; none: all cores")

    @model_validator(mode="after")
    def _frozen_layers_fit(self) -> FinetuneConfig:
        if self.frozen is None:
            if self.method in BY_DEPTH:
                raise ValueError(f"{self.method} needs frozen: [m, n], the layers that stay")
            return self
        if self.method not in BY_DEPTH:
            raise ValueError(f"frozen belongs to the methods {' and '.join(BY_DEPTH)}")
        if self.method == "layer-wise" and self.frozen[0] != 1:
            raise ValueError("layer-wise, the frozen layers begin with the first")
        return self


class TrainConfig(Section):
    """A whole training run; see `configs/` for examples."""

    name: Annotated[str, AfterValidator(_as_identifier)]
    network: Annotated[NetworkSpec, BeforeValidator(_as_spec), PlainSerializer(NetworkSpec.to_dict)]
    seed: int = Field(default=1, ge=0)
    data: DataConfig = DataConfig()
    augmentation: dict[str, Any] | None = Field(
        default={},
        description="`kind` compact (transforms.augment, the default) or nnunet "
        "(transforms.nnunet) and its settings; null: no augmentation",
    )
    pretrained: PretrainedConfig | None = None
    optimiser: OptimiserConfig = OptimiserConfig()
    loss: LossConfig = LossConfig()
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
        network, data = self.network, self.data
        if network.dimensions == 2 and data.depth:
            raise ValueError(
                f"a network '{network.family}' learns from slices: data.depth must be 0"
            )
        if network.dimensions == 3 and (not data.depth or data.depth % network.divisors[0]):
            raise ValueError(
                f"a network '{network.family}' learns from stacks: "
                f"data.depth must be a multiple of {network.divisors[0]}, 0 left out"
            )
        if network.size and data.size != network.size:
            raise ValueError(f"data.size must be {network.size}, the network's only size")
        if data.size % network.divisor:
            raise ValueError(f"data.size must be a multiple of {network.divisor}")
        if self.optimiser.offsets_lr != 1 and not network.deformable_bottleneck:
            raise ValueError("optimiser.offsets_lr is for networks with a deformable bottleneck")
        return self

    @model_validator(mode="after")
    def _augmentation_is_known(self) -> TrainConfig:
        kind = (self.augmentation or {}).get("kind", "compact")
        if kind not in AUGMENTATIONS:
            known = ", ".join(AUGMENTATIONS)
            raise ValueError(f"unknown kind of augmentation {kind!r}; known are {known}")
        return self


def parse(values: object, where: object) -> TrainConfig:
    """The configuration of plain values; RunError names the first key that is wrong."""
    return parsed(TrainConfig, values, where)


def parse_finetuning(values: object, where: object) -> FinetuneConfig:
    """The configuration of plain values; RunError names the first key that is wrong."""
    return parsed(FinetuneConfig, values, where)


def parsed(kind: type[C], values: object, where: object) -> C:
    """A section of plain values; RunError names the first key that is wrong."""
    try:
        return kind.model_validate(values)
    except ModelError as error:  # of the network
        raise ModelError(error.problem, where=where, remedy=error.remedy) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        problem = f"'{key}': {message}" if key else message
        raise RunError(problem, where=where, remedy="Correct the configuration") from error


def load(
    path: Path, *, roots: Mapping[str, Path] | None = None, **overrides: object
) -> TrainConfig:
    """The configuration of a YAML file; overrides that are not None replace top-level keys.

    A file may name another, beside it, that it `extends`: its keys replace those of the other,
    and within `data` key by key.

    roots: folders of data sets, beside or instead of those of the file.

    Raises RunError for a file that is missing, is not YAML, or does not hold a configuration.
    """
    values = read_yaml(path)
    values.update({key: value for key, value in overrides.items() if value is not None})
    if roots:
        values["data"] = _with_roots(values.get("data"), roots)
    return parse(values, path)


def _with_roots(data: object, roots: Mapping[str, Path]) -> object:
    """The `data` of a file with these folders, too; what is no table is left for `parse`."""
    given = {} if data is None else data
    if not isinstance(given, dict) or not isinstance(given.get("roots") or {}, dict):
        return data
    return {**given, "roots": {**(given.get("roots") or {}), **roots}}


def read_yaml(path: Path, extended_by: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The keys of a file over those of the one it extends. Raises RunError."""
    if path.resolve() in extended_by:
        raise RunError("the configuration extends itself", where=path)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise RunError(f"the configuration cannot be read, {reason}", where=path) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RunError("this is not a YAML file", where=path) from error
    if not isinstance(values, dict):
        raise RunError("the configuration is not a table of keys and values", where=path)
    if (base := values.pop("extends", None)) is None:
        return values
    below = read_yaml(path.parent / str(base), (*extended_by, path.resolve()))
    merged = {**below, **values}
    if isinstance(below.get("data"), dict) and isinstance(values.get("data"), dict):
        merged["data"] = {**below["data"], **values["data"]}
    return merged


def first_difference(before: BaseModel, now: BaseModel) -> tuple[str, object, object] | None:
    """The first key (dotted) that two configurations differ in, operational keys left out."""
    left, right = (dict(_flatten(c.model_dump(mode="json"))) for c in (before, now))
    for key in [*left, *(key for key in right if key not in left)]:
        if key not in OPERATIONAL and left.get(key) != right.get(key):
            return key, left.get(key), right.get(key)
    return None


def _flatten(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in values.items():
        if prefix + key == "data.roots":
            yield "data.roots", sorted(value)
        elif isinstance(value, dict) and value:
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
