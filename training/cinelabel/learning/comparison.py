"""Methods of fine-tuning compared: which runs, on whose labels; each run is trained once.

The protocol of Chen et al. 2022 (MetaLR, section 3): every method with several seeds, and the
layers that layer-wise and bi-directional fine-tuning keep chosen among all there are (section 2.1).
Patients are split three ways: runs learn from some, layers are chosen on others, and the table is
of the rest. `evaluation.comparison` scores and chooses.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from cinelabel.core.errors import InputError, RunError
from cinelabel.core.files import check_identifier, write_json, write_text
from cinelabel.core.labels import CANONICAL, STRUCTURES
from cinelabel.datasets import Case, cases
from cinelabel.datasets.case import deal_patients
from cinelabel.learning import config as configuration
from cinelabel.learning.case_files import corrections_of, fingerprint
from cinelabel.learning.config import BY_DEPTH, OPERATIONAL, FinetuneConfig, Section, Seeds
from cinelabel.learning.corrections import Correction, Examples, read_examples, read_lesson
from cinelabel.learning.data import Progress
from cinelabel.learning.depth import bidirectional_settings, layers_of, require_frozen
from cinelabel.learning.finetune import Report, Trained, tune
from cinelabel.learning.tuned import Tuned
from cinelabel.models.store import ModelStore

TRAINING, VALIDATION, TEST = SIDES = ("training", "validation", "test")
PLAN_FILE = "comparison.json"
Layers = tuple[int, int]
"""First and last of the layers that stay, counted from 1."""


class Parts(Section):
    """How many of each so many patients, dealt in turn and set by set, are on which side."""

    training: int = Field(default=3, ge=1)
    validation: int = Field(default=1, ge=1)
    test: int = Field(default=1, ge=1)
    seed: int = Field(default=12345, ge=0)


class ComparisonConfig(Section):
    """Methods of fine-tuning side by side, every one with every seed.

    methods: a row of the table each, with keys of `FinetuneConfig` of its own; the row's name is
        the `method` unless that is given. Rows that are layer-wise or bi-directional, and do not
        tell which layers stay (`frozen`), search them.
    shared: keys of `FinetuneConfig` of all rows; `steps` and `minutes` make them equal.
    model, member: which; the version in use and its fast member when None.
    parts: how patients are split.
    search_steps: of each run of a search; None: as all others.
    fast: whether whole studies are segmented without mirroring.
    """

    name: Annotated[str, AfterValidator(lambda name: check_identifier(name, "name"))]
    methods: dict[str, dict[str, Any] | None] = Field(min_length=1)
    shared: dict[str, Any] = {}
    seeds: Seeds = (1, 2, 3, 4, 5)
    model: str | None = None
    member: str | None = None
    parts: Parts = Parts()
    search_steps: int | None = Field(default=None, ge=1)
    fast: bool = False

    def searches(self, row: str) -> bool:
        """Whether the layers that stay are to be chosen."""
        values = self._values(row)
        return values["method"] in BY_DEPTH and "frozen" not in values

    def run(
        self, row: str, seed: int, frozen: Layers | None = None, steps: int | None = None
    ) -> FinetuneConfig:
        """The run of a row and seed; `frozen` and `steps`, if given, instead of the row's own.

        Layer-wise is bi-directional from layer 1: one run does for both. Raises RunError naming
        the row and the key that is wrong.
        """
        chosen = {"frozen": frozen, "steps": steps}
        values = self._values(row) | {"name": self.name, "seed": seed}
        values |= {key: value for key, value in chosen.items() if value is not None}
        config = configuration.parse_finetuning(values, f"methods, {row}")
        return config.model_copy(update={"method": BY_DEPTH[1]} if config.frozen else {})

    def _values(self, row: str) -> dict[str, Any]:
        return {"method": row, **self.shared, **(self.methods[row] or {})}


def load(path: Path) -> ComparisonConfig:
    """The configuration of a YAML file. Raises RunError naming the row and key that are wrong."""
    config = configuration.parsed(ComparisonConfig, configuration.read_yaml(path), path)
    for row, own in config.methods.items():
        check_identifier(row, "name of a row")
        given = {*config.shared, *(own or {})}
        if taken := sorted(given & {"name", "seed", "model", "members"}):
            raise RunError(
                f"'{taken[0]}' is the same for all rows, or is told by 'seeds' and 'member'",
                where=f"{path}, {row}",
            )
        config.run(row, config.seeds[0], (1, 1) if config.searches(row) else None)
    return config


@dataclass(frozen=True)
class Source:
    """Labelled cases, and what those of them teach that are handed to `corrections`."""

    cases: Sequence[Case]
    corrections: Callable[[Sequence[Case], Progress | None], list[Correction]]


def of_sets(roots: Mapping[str, Path], folder: Path) -> Source:
    """The labelled cases of data sets; `folder` is for files made of them. Raises InputError."""
    found = [case for name, root in roots.items() for case in cases(name, root) if case.label]
    if not found:
        raise InputError("no labelled case is there", where=", ".join(map(str, roots.values())))
    return Source(found, lambda chosen, progress: corrections_of(chosen, folder, progress))


def of_labels(corrections: Sequence[Correction]) -> Source:
    """Readers' labels as cases, of which the slices that teach are scored.

    Raises InputError, GridError, LabelError: a label cannot be read.
    """
    found = [_case(correction) for correction in corrections]
    told = {case.name: correction for case, correction in zip(found, corrections, strict=True)}
    return Source(found, lambda chosen, progress: [told[case.name] for case in chosen])


def _case(correction: Correction) -> Case:
    lesson = read_lesson(correction)
    slices = tuple(int(k) for k in lesson.slices)
    known = tuple(s for s in STRUCTURES if lesson.known[s.value])
    return Case(
        set="workspace",
        patient=correction.patient,
        phase="single",
        image=correction.image_file,
        label=correction.label_file,
        label_map=CANONICAL,
        structures=known,
        scored_slices={structure.name: slices for structure in known},
        scan=correction.image,
    )


@dataclass(frozen=True)
class Comparison:
    """A comparison that has begun: what its runs learn from, and where they lie.

    Attributes:
        config: with `model` and `member` as they were when it was begun.
        folder: `comparison.json`, `config.yaml`, and below `runs/` a folder a run.
        member: that every run tunes.
        examples: of the training patients.
        sides: side -> its cases.
        cache: folder of phantom slices.
        problems: a sentence a label that was left out.
    """

    config: ComparisonConfig
    folder: Path
    member: Tuned
    examples: Examples
    sides: Mapping[str, Sequence[Case]]
    cache: Path
    problems: Sequence[str]

    def settings(self, row: str) -> list[Layers]:
        """The layers that a searched row may keep, every choice of them."""
        config = self.config.run(row, self.config.seeds[0], (1, 1))
        settings = bidirectional_settings(self.depth(config))
        values = self.config.methods[row] or {}
        layer_wise = values.get("method", self.config.shared.get("method", row)) == BY_DEPTH[0]
        return [(m, n) for m, n in settings if m == 1 or not layer_wise]

    def depth(self, config: FinetuneConfig) -> int:
        """How many layers the network has by the reading and blocks of a run."""
        return len(layers_of(self.member.network(), config))

    def path(self, run: FinetuneConfig) -> Path:
        """The folder of a run, whose name tells everything that changes what is learned."""
        told = run.model_dump(mode="json", exclude={"name", *OPERATIONAL})
        digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:8]
        kept = f"-{run.frozen[0]}to{run.frozen[1]}" if run.frozen else ""
        return self.folder / "runs" / f"{run.method}{kept}-seed{run.seed}-{digest}"

    def train(
        self, run: FinetuneConfig, report: Report, stop: Callable[[], bool]
    ) -> Trained | None:
        """Train a run, or go on with it; None when asked to stop. Raises as `finetune.tune`."""
        return tune(
            run,
            self.path(run),
            self.member,
            self.examples,
            cache=self.cache,
            report=report,
            stop=stop,
        )


def begin(
    config: ComparisonConfig,
    folder: Path,
    source: Source,
    *,
    cache: Path,
    store: ModelStore | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Begin a comparison, or go on with that in the folder.

    Rows and seeds may be added and left out: finished runs stay. Model, patients and labels are
    those it was begun with.

    Raises:
        RunError: the folder's comparison is of other patients, labels or another model; too few
            slices; a member that cannot be fine-tuned, or has not the layers that a row freezes.
        ModelError: an unknown or damaged version or member.
        InputError, GridError, LabelError: naming a file, or for too few patients.
        OutputError: naming a file.
    """
    kept = _read(folder / PLAN_FILE)
    version = (store or ModelStore()).load(config.model or kept.get("model"))
    card = version.card
    segmenters = [member.name for member in card.members if member.role == "segmenter"]
    name = config.member or kept.get("member") or card.fast or next(iter(segmenters), "")
    member = Tuned(version, version.member(name))
    sides = deal(source.cases, config.parts)
    told = {
        side: {f"{case.set}/{case.name}": fingerprint(case) for case in chosen}
        for side, chosen in sides.items()
    }
    plan = {"model": version.name, "member": name, "sides": told}
    _require_same(kept, plan, folder)
    _require_layers(config, member)
    write_json(folder / PLAN_FILE, plan)
    config = config.model_copy(update={"model": version.name, "member": name})
    write_text(folder / "config.yaml", config.to_yaml())
    problems: list[str] = []
    corrections = source.corrections(sides[TRAINING], progress)
    examples = read_examples(corrections, member.shown, member.only, problems, progress)
    return Comparison(config, folder, member, examples, sides, cache, problems)


def deal(cases: Sequence[Case], parts: Parts) -> dict[str, list[Case]]:
    """The cases of each side; a patient's are on one. Raises InputError for too few patients."""
    counts = {TRAINING: parts.training, VALIDATION: parts.validation, TEST: parts.test}
    dealt = deal_patients(cases, sum(counts.values()), parts.seed)
    names = [side for side, count in counts.items() for _ in range(count)]
    sides: dict[str, list[Case]] = {side: [] for side in SIDES}
    for case in cases:
        sides[names[dealt[case.group]]].append(case)
    return sides


def _require_layers(config: ComparisonConfig, member: Tuned) -> None:
    """Raise RunError naming the first row that freezes layers which cannot be frozen."""
    network = member.network()
    for row in config.methods:
        if not config.searches(row):
            require_frozen(network, config.run(row, config.seeds[0]), f"methods, {row}")


def _read(file: Path) -> dict[str, Any]:
    """The plan that was kept; empty if there is none."""
    if not file.exists():
        return {}
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(kept, dict) or not isinstance(kept.get("sides"), dict):
            raise ValueError
    except (OSError, ValueError) as error:
        raise RunError("this is no plan of a comparison", where=file) from error
    return kept


def _require_same(kept: Mapping[str, Any], plan: Mapping[str, Any], folder: Path) -> None:
    """Raise RunError naming the first thing in which a kept plan differs."""
    if not kept:
        return
    difference = None
    for key in ("model", "member"):
        if kept.get(key) != plan[key]:
            difference = f"the {key} {kept.get(key)}, not {plan[key]}"
    for side in SIDES:
        before, now = kept["sides"].get(side, {}), plan["sides"][side]
        names = (name for name in {**before, **now} if before.get(name) != now.get(name))
        if (name := next(names, None)) is not None and difference is None:
            difference = f"other cases or labels: {name} is another"
    if difference:
        raise RunError(
            f"the comparison was begun with {difference}",
            where=folder,
            remedy="Use another folder, or what it was begun with",
        )
