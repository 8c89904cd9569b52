"""From finished runs to a model version: what each run is, and where it comes from."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file

import cinelabel
from cinelabel.core.errors import ModelError, RunError
from cinelabel.core.files import check_identifier
from cinelabel.datasets.folds import read_folds
from cinelabel.learning.config import TrainConfig
from cinelabel.learning.data import preparation
from cinelabel.learning.run_folder import RunFolder
from cinelabel.models.store import Draft, Kept, ModelStore, ModelVersion

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)


def publish_runs(
    store: ModelStore,
    version: str,
    runs: Sequence[Path],
    *,
    locator: Path | ModelVersion | None = None,
    weights: Sequence[float] | None = None,
    fast: str | None = None,
    licence: str = "Apache-2.0",
    parent: str | None = None,
    half: bool = True,
) -> ModelVersion:
    """Publish finished runs as the members of one version; roles follow from the runs' data.

    Args:
        store: that gets the version.
        version: its name.
        runs: their folders.
        locator: a run, or a version whose locator is taken, beside those of `runs`.
        weights: of each run in the average; None: all alike.
        fast: the member that is used alone when it has to be fast; None: the first segmenter.
        licence: of the weights.
        parent: the version this one was trained on from.
        half: round the weights to float16.

    Raises:
        RunError: for a run that is not finished or damaged, two of one name, a locator that is
            none, no locator or several, no run that segments, and folds of which one holds out
            some of what another one holds out, too.
        InputError: for folds of a run that cannot be read.
        ModelError: for weights that do not fit their network, and as `ModelStore.publish`.
    """
    if weights is not None and len(weights) != len(runs):
        raise RunError(f"{len(weights)} weights were given for {len(runs)} runs")
    shares = list(weights or [1.0] * len(runs))
    if isinstance(locator, Path):
        runs, shares = [*runs, locator], [*shares, 1.0]
    folders = [RunFolder(path) for path in runs]
    configs = [folder.config() for folder in folders]
    summaries = [folder.summary() for folder in folders]
    _require_names_of_their_own(configs, runs)
    _require_disjoint_folds(folders)
    if isinstance(locator, Path) and configs[-1].data.task != "locator":
        raise RunError("the run trains no locator", where=locator)
    drafts = [
        Draft(
            name=config.name,
            role=config.data.task,
            network=config.network,
            weights=folder.weights(),
            preprocessing=preparation(config.data).to_dict(),
            weight=share,
        )
        for folder, config, share in zip(folders, configs, shares, strict=True)
    ]
    origins = {
        config.name: _origin(config, summary)
        for config, summary in zip(configs, summaries, strict=True)
    }
    if isinstance(locator, ModelVersion):
        draft, origin = _locator_of(locator)
        drafts.append(draft)
        origins[draft.name] = origin
    _require_roles([draft.role for draft in drafts], version)
    return store.publish(
        version,
        drafts,
        provenance={"cinelabel": cinelabel.__version__, "runs": origins},
        metrics={
            "validation": {
                config.name: {"dice": summary["dice"]}
                for config, summary in zip(configs, summaries, strict=True)
            }
        },
        licence=licence,
        parent=parent,
        fast=fast,
        half=half,
    )


def publish_candidate(
    store: ModelStore,
    parent: ModelVersion,
    weights: Mapping[str, Mapping[str, Tensor]],
    step: Mapping[str, Any],
    held_out: Mapping[str, Any],
) -> str:
    """Publish a version's child with members fine-tuned; its name, also if the run did before.

    The other members are taken over file by file. The card tells counts, never names of patients
    or images.

    Args:
        store: that gets the child.
        parent: the version that it comes from.
        weights: of each member that was fine-tuned, as they are now.
        step: of fine-tuning, JSON-ready: its `run`, configuration and result, and the run's `id`;
            without one, nothing that it may have published is looked for.
        held_out: scores before and after.

    Raises:
        ModelError: as `ModelStore.publish`.
    """
    card = parent.card
    if (made := _candidate_of(store, parent.name, step.get("id"))) is not None:
        return made
    validation = card.metrics.get("validation", {})
    history = [*card.provenance.get("finetuning", []), {"members": list(weights), **step}]
    made = candidate_name(store, parent.name)
    store.publish(
        made,
        _with_tuned(parent, weights),
        provenance={
            **card.provenance,
            "cinelabel": cinelabel.__version__,
            "finetuning": history,
        },
        metrics={
            "validation": {name: v for name, v in validation.items() if name not in weights},
            "held_out": dict(held_out),
        },
        licence=card.licence,
        intended_use=card.intended_use,
        parent=parent.name,
        fast=card.fast,
    )
    return made


def publish_draft(
    store: ModelStore,
    version: str,
    parent: ModelVersion,
    weights: Mapping[str, Mapping[str, Tensor]],
) -> ModelVersion:
    """Publish what a candidate would be, to be judged, in a store that is kept as long.

    Raises:
        ModelError: as `ModelStore.publish`.
    """
    return store.publish(
        version,
        _with_tuned(parent, weights),
        provenance={"cinelabel": cinelabel.__version__},
        metrics={},
        licence=parent.card.licence,
        parent=parent.name,
        fast=parent.card.fast,
    )


def _with_tuned(
    parent: ModelVersion, weights: Mapping[str, Mapping[str, Tensor]]
) -> list[Draft | Kept]:
    """The members of a version, those in `weights` tuned, the others file by file as they are."""
    return [
        Draft(m.name, m.role, m.spec, weights[m.name], m.preprocessing, m.weight)
        if m.name in weights
        else Kept(parent, m)
        for m in parent.card.members
    ]


def publish_alone(
    store: ModelStore,
    version: str,
    parent: ModelVersion,
    member: str,
    weights: Mapping[str, Tensor] | None = None,
) -> ModelVersion:
    """Publish one member of a version, tuned to `weights` or as it is, with the locator alone.

    It segments as a user would get it; meant for a store that is kept while scoring.

    Raises:
        ModelError: for an unknown member, and as `ModelStore.publish`.
    """
    card = parent.member(member)
    tuned: Draft | Kept = Kept(parent, card)
    if weights is not None:
        tuned = Draft(card.name, card.role, card.spec, weights, card.preprocessing)
    locators = [Kept(parent, other) for other in parent.card.members if other.role == "locator"]
    return store.publish(
        version,
        [tuned, *locators],
        provenance={"cinelabel": cinelabel.__version__},
        metrics={},
        licence=parent.card.licence,
        parent=parent.name,
    )


def candidate_name(store: ModelStore, parent: str) -> str:
    """The next free name: phantom-2-tuned-1, and after it, whichever it came from, -tuned-2."""
    taken = max(_candidates(store, parent), default=0)
    return check_identifier(f"{_stem(parent)}-tuned-{taken + 1}", "name of a version")


def _candidate_of(store: ModelStore, parent: str, run_id: str | None) -> str | None:
    """The candidate that a run has published, if it has; cards that are damaged are passed over."""
    if run_id is None:
        return None
    for name in _candidates(store, parent).values():
        try:
            card = store.load(name).card
        except ModelError as error:
            logger.warning("%s may be of this run and is passed over: %s", name, error)
            continue
        history = card.provenance.get("finetuning") or [{}]
        if card.parent == parent and history[-1].get("id") == run_id:
            return name
    return None


def _candidates(store: ModelStore, parent: str) -> dict[int, str]:
    """The candidates that a version, or the one it comes from, has by their numbers."""
    pattern = re.compile(rf"{re.escape(_stem(parent))}-tuned-(\d+)")
    return {int(found[1]): n for n in store.versions() if (found := pattern.fullmatch(n))}


def _stem(version: str) -> str:
    return re.sub(r"-tuned-\d+$", "", version)


def _require_names_of_their_own(configs: Sequence[TrainConfig], runs: Sequence[Path]) -> None:
    names = [config.name for config in configs]
    for name, path in zip(names, runs, strict=True):
        if names.count(name) > 1:
            raise RunError(f"two runs have the name '{name}'", where=path)


def _require_roles(roles: Sequence[str], version: str) -> None:
    if roles.count("locator") != 1 or "segmenter" not in roles:
        raise RunError(
            f"a version has one locator and one or more members that segment, not "
            f"{roles.count('locator')} and {roles.count('segmenter')}",
            where=version,
            remedy="Leave out --locator where one of the runs is one, and add runs that segment",
        )


def _require_disjoint_folds(runs: Sequence[RunFolder]) -> None:
    """Raise RunError where two runs hold out some of the same patients, but not all of them."""
    seen: dict[str, tuple[Path, frozenset[str]]] = {}
    for run in runs:
        fold = run.config().data.fold
        held_out = frozenset() if fold is None else read_folds(run.folds_file).held_out(fold)
        for patient in held_out:
            other, others = seen.setdefault(patient, (run.path, held_out))
            if others != held_out:
                raise RunError(
                    f"its fold and that of {other} share the patient {patient}",
                    where=run.path,
                    remedy="Use runs of one file of folds",
                )


def _locator_of(version: ModelVersion) -> tuple[Draft, dict[str, Any]]:
    """The locator of a version, and where it came from."""
    member = next((m for m in version.card.members if m.role == "locator"), None)
    if member is None:
        raise ModelError("the version has no locator", where=version.name)
    draft = Draft(
        name=member.name,
        role="locator",
        network=member.spec,
        weights=load_file(version.file(member, "safetensors")),
        preprocessing=member.preprocessing,
    )
    origin = version.card.provenance.get("runs", {}).get(member.name, {})
    return draft, {**origin, "taken_from": version.name}


def _origin(config: TrainConfig, summary: dict[str, Any]) -> dict[str, Any]:
    """The command, the configuration without paths of this machine, and what came out."""
    values = config.model_dump(mode="json")
    data = values["data"]
    data.pop("folder")
    data["roots"] = sorted(data["roots"])
    data["folds"] = config.data.folds and config.data.folds.name
    if config.pretrained and not config.pretrained.weights.startswith("model:"):
        values["pretrained"]["weights"] = Path(config.pretrained.weights).name
    kept = ("steps", "seconds", "seed", "precision", "device", "threads", "cases", "versions")
    result = {key: summary[key] for key in kept if key in summary}
    if first := summary.get("pretrained"):
        result["pretrained"] = {key: first[key] for key in ("parts", "sha256", "transfer")}
    command = f"cinelabel train {config.name}.yaml"
    if (fold := config.data.fold) is not None and config.name.endswith(f"-fold{fold}"):
        whole = config.name.removesuffix(f"-fold{fold}")
        command = f"cinelabel crossvalidate {whole}.yaml --fold {fold}"
    return {"command": command, "config": values, "result": result}
