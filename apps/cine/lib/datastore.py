"""The catalogue of cases and the label store, as MONAI Label and its clients see them."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import Any

from cinelabel.core.errors import InputError
from cinelabel.core.files import sha256
from cinelabel.core.grid import Grid
from cinelabel.core.labels import LABEL_NAMES
from cinelabel.labelstore import CaseState, LabelStore, LabelVersion, Submission
from cinelabel.labelstore.validation import names_of
from cinelabel.studies import nifti
from cinelabel.studies.catalogue import Case, Catalogue
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.exception import (
    ImageNotFoundException,
    LabelNotFoundException,
    MONAILabelError,
    MONAILabelException,
)

from lib.http.errors import Refused, of_server

FINAL = "final"
ORIGINAL = "original"
EXTENSION = ".nii.gz"
OF_IMAGE = "image"
"""Where a prediction keeps the state of the image it was made of."""


class CineDatastore(Datastore):
    """Images are the catalogue's cases; the label `final` is a reader's, `original` a model's.

    Names of images and labels are looked up, never made into paths.
    """

    def __init__(self, catalogue: Catalogue, labels: LabelStore) -> None:
        self.catalogue = catalogue
        self.labels = labels

    def name(self) -> str:
        return "CineLabel"

    def set_name(self, name: str) -> None:
        raise _refused("The name of the store is fixed.")

    def description(self) -> str:
        return "Short-axis cine studies, one image a frame"

    def set_description(self, description: str) -> None:
        raise _refused("The description of the store is fixed.")

    # Images

    def list_images(self) -> list[str]:
        """Names of the images in the order of studies and frames."""
        return [case.image_id for case in self.catalogue.cases()]

    def get_labeled_images(
        self, label_tag: str | None = None, labels: list[str] | None = None
    ) -> list[str]:
        """Names of images whose label counts, in the order of studies and frames."""
        return self._in_state("labelled")

    def get_unlabeled_images(
        self, label_tag: str | None = None, labels: list[str] | None = None
    ) -> list[str]:
        """Names of images that wait for a label, in order; skipped ones do not."""
        return self._in_state("open")

    def get_image_uri(self, image_id: str) -> str:
        """The image's file. Raises ImageNotFoundException."""
        return str(self.catalogue.image_path(self.case(image_id).image_id))

    def get_image(self, image_id: str, params: object = None) -> io.BytesIO:
        """The image's bytes. Raises ImageNotFoundException."""
        return io.BytesIO(Path(self.get_image_uri(image_id)).read_bytes())

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        """Study, frame, quality and state of a case. Raises ImageNotFoundException."""
        case = self.case(image_id)
        state = self.labels.states([image_id])[image_id]
        told = self._info(case, state, self._label(image_id, ORIGINAL), self.grade(case.study))
        return {**told, "sha256": self.image_sha256(image_id)}

    def image_sha256(self, image_id: str) -> str | None:
        """The digest of an image's file, read once while it stays as it is; None if it is gone."""
        with contextlib.suppress(InputError):
            state = self.catalogue.image_state(image_id)
            return _digest(self.catalogue.image_path(image_id), *state.values())
        return None

    def quality(self, case: Case, grade: int | None) -> dict[str, Any]:
        """What is known of an image and of the prediction that was made of it."""
        return _quality(case, self._label(case.image_id, ORIGINAL), grade)

    def grade(self, study: str) -> int | None:
        """The motion grade of a study's newest review; None without one, or if it is damaged."""
        with contextlib.suppress(InputError):
            found = self.labels.review(study)
            return None if found is None else found.record.grade
        return None

    def update_image_info(self, image_id: str, info: Mapping[str, Any]) -> None:
        raise _refused("What is known of an image is never changed from outside.")

    def add_image(
        self, image_id: str, image_filename: str, image_info: Mapping[str, Any] | None = None
    ) -> str:
        """Keep a NIfTI image; what comes with it is not kept.

        Returns:
            The name of the image; of a 4D file that of its first frame.

        Raises:
            InputError: the name cannot be one, or the file cannot be read.
            ConflictError: there is an image of that name.
            OutputError: the workspace cannot be written.
        """
        return self.catalogue.add_image(image_id, Path(image_filename))[0].image_id

    def remove_image(self, image_id: str) -> None:
        raise _refused("Images are removed from the folder of studies, not through the server.")

    # Labels

    def get_labels_by_image_id(self, image_id: str) -> dict[str, str]:
        """The tags of an image's labels. Raises ImageNotFoundException."""
        self.case(image_id)
        return {tag: image_id for tag in (FINAL, ORIGINAL) if self._label(image_id, tag)}

    def get_label_by_image_id(self, image_id: str, tag: str) -> str:
        """The label's name, which is the image's, or "" if there is none."""
        return self.get_labels_by_image_id(image_id).get(tag, "")

    def get_label_uri(self, label_id: str, label_tag: str) -> str:
        """The label's file. Raises LabelNotFoundException."""
        return str(self.label(label_id, label_tag).path)

    def get_label(self, label_id: str, label_tag: str, params: object = None) -> io.BytesIO:
        """The label's bytes. Raises LabelNotFoundException."""
        return io.BytesIO(self.label(label_id, label_tag).path.read_bytes())

    def get_label_info(self, label_id: str, label_tag: str) -> dict[str, Any]:
        """What is known of a label. Raises LabelNotFoundException."""
        return _label_info(self.label(label_id, label_tag))

    def update_label_info(self, label_id: str, label_tag: str, info: Mapping[str, Any]) -> None:
        raise _refused("What is recorded of a label is never changed.")

    def remove_label(self, label_id: str, label_tag: str) -> None:
        raise _refused("Labels are never removed: submit a new version, or skip the case.")

    def save_label(
        self, image_id: str, label_filename: str, label_tag: str, label_info: Mapping[str, Any]
    ) -> str:
        """Keep a reader's label as the newest version, or a model's as the prediction.

        Args:
            label_info: fields of a submission, see `submit`; of a prediction `model` and `params`.

        Raises:
            ImageNotFoundException: there is no such image.
            CineLabelError: the label is refused, see `LabelStore.submit`.
        """
        if label_tag == ORIGINAL:
            with self._holding(image_id):
                _, grid = nifti.peek(Path(label_filename))
                self._grid(image_id).require_equal(grid, f"the prediction of {image_id}")
                model, told = label_info.get("model"), dict(label_info.get("params") or {})
                told[OF_IMAGE] = self.catalogue.image_state(image_id)
                self.labels.save_prediction(image_id, Path(label_filename), model, told)
        elif label_tag == FINAL:
            self.submit(image_id, Path(label_filename), label_info, label_info.get("user", "local"))
        else:
            raise _refused(f"A label is '{FINAL}' or '{ORIGINAL}', not {label_tag[:40]!r}.")
        return image_id

    def submit(
        self, image_id: str, file: Path, fields: Mapping[str, Any], who: str
    ) -> LabelVersion:
        """Keep a reader's label as the newest version.

        Args:
            image_id: of a case that is served.
            file: as handed in.
            fields: `label_info` (segments in the order of their values), `client_id`, `model`,
                `prediction`, `base_version`, `comment`, `image_sha256`, `key`; all optional.
            who: the reader.

        Raises:
            ImageNotFoundException: there is no such image.
            Refused: 409 `changed`, the image is not the one of `image_sha256`.
            CineLabelError: the label is refused, see `LabelStore.submit`.
        """
        submission = Submission(
            image=image_id,
            who=who,
            client_id=fields.get("client_id") or "",
            time=datetime.now(timezone.utc).isoformat(),
            model=fields.get("model"),
            prediction=fields.get("prediction"),
            base_version=fields.get("base_version"),
            comment=fields.get("comment") or "",
            key=fields.get("key"),
        )
        names, drawn_on = names_of(fields.get("label_info")), fields.get("image_sha256")
        with self._holding(image_id):
            if submission.key is not None:
                kept = self.labels.kept_before(image_id, submission.key, file)
                if kept is not None:
                    return kept
            if drawn_on is not None and drawn_on != self.image_sha256(image_id):
                raise Refused(
                    409,
                    f"{image_id}: the image has changed since you opened it, and your label "
                    "belongs to the older one. Open the case again, and draw on that.",
                    "changed",
                )
            grid = self._grid(image_id)
            return self.labels.submit(image_id, grid, file, submission, names)

    # The whole

    def datalist(self) -> list[dict[str, str]]:
        """Files of images and their readers' labels."""
        found = []
        for image_id in self.get_labeled_images():
            label = self._label(image_id, FINAL)
            if label is not None:
                found.append({"image": self.get_image_uri(image_id), "label": str(label.path)})
        return found

    def status(self) -> dict[str, Any]:
        """How many images, studies with marked phases, and labels of each kind there are."""
        served = self.list_images()
        standing, predicted = self.labels.standing(), self.labels.predicted()
        known = [standing[image_id] for image_id in served if image_id in standing]
        return {
            "total": len(served),
            "completed": sum(state == "labelled" for state, _ in known),
            "skipped": sum(state == "skipped" for state, _ in known),
            "label_tags": {
                FINAL: sum(newest > 0 for _, newest in known),
                ORIGINAL: len(predicted.intersection(served)),
            },
            "studies": len(self.catalogue.studies),
            "phases": {
                "ED": sum(study.ed is not None for study in self.catalogue.studies),
                "ES": sum(study.es is not None for study in self.catalogue.studies),
            },
            "waiting": len(self.catalogue.waiting),
            "problems": len(self.catalogue.problems),
        }

    def json(self) -> dict[str, Any]:
        """Every image with its labels, in the form of MONAI Label's local datastore."""
        states, predicted = self.labels.states(), self.labels.predictions()
        grades = {study.name: self.grade(study.name) for study in self.catalogue.studies}
        objects = {}
        for case in self.catalogue.cases():
            state = states.get(case.image_id) or CaseState(case.image_id)
            labels = {}
            if state.version:
                labels[FINAL] = _object({"version": state.version, "ts": _seconds(state.time)})
            prediction = predicted.get(case.image_id)
            if prediction is not None and not self._is_of(prediction):
                prediction = None
            if prediction is not None:
                labels[ORIGINAL] = _object(_label_info(prediction))
            image = _object(self._info(case, state, prediction, grades.get(case.study)))
            objects[case.image_id] = {"image": image, "labels": labels}
        return {
            "name": self.name(),
            "description": self.description(),
            "images_dir": "",
            "labels_dir": "labels",
            "objects": objects,
        }

    def get_dataset_archive(self, limit_cases: int | None) -> str:
        raise _refused("Labels are exported by 'cinelabel labels export', not over HTTP.")

    def refresh(self) -> None:
        """Nothing: the catalogue follows the folder by itself."""

    def case(self, image_id: str) -> Case:
        """The case of an image. Raises ImageNotFoundException."""
        found = self.catalogue.find(image_id)
        if found is None:
            raise ImageNotFoundException("There is no such image.")
        return found

    def label(self, image_id: str, tag: str) -> LabelVersion:
        """The newest label of a case. Raises LabelNotFoundException."""
        found = self._label(image_id, tag) if self.catalogue.find(image_id) else None
        if found is None:
            raise LabelNotFoundException("There is no such label.")
        return found

    def _label(self, image_id: str, tag: str) -> LabelVersion | None:
        if tag == FINAL:
            return self.labels.newest(image_id)
        prediction = self.labels.prediction(image_id) if tag == ORIGINAL else None
        return prediction if prediction is not None and self._is_of(prediction) else None

    def _is_of(self, prediction: LabelVersion) -> bool:
        """Whether a prediction was made of its image as it is now."""
        try:
            now = self.catalogue.image_state(prediction.image)
        except InputError:
            return False
        return (prediction.info or {}).get(OF_IMAGE) == now

    def _grid(self, image_id: str) -> Grid:
        with of_server():
            return nifti.peek(self.catalogue.image_path(image_id))[1]

    @contextlib.contextmanager
    def _holding(self, image_id: str) -> Iterator[None]:
        """The image keeps its content within the block. Raises ImageNotFoundException."""
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self.catalogue.holding(image_id))
            except InputError as error:
                raise ImageNotFoundException("There is no such image.") from error
            yield

    def _in_state(self, state: str) -> list[str]:
        standing = self.labels.standing()
        return [
            image_id
            for image_id in self.list_images()
            if standing.get(image_id, ("open", 0))[0] == state
        ]

    def _info(
        self, case: Case, state: CaseState, prediction: LabelVersion | None, grade: int | None
    ) -> dict[str, Any]:
        """What clients are told of a case; no path of this machine."""
        return {
            "name": f"{case.image_id}{EXTENSION}",
            "study": case.study,
            "frame": case.frame,
            "n_frames": case.n_frames,
            "phase": case.phase,
            "kind": case.kind,
            "quality": _quality(case, prediction, grade),
            "state": state.state,
            "version": state.version,
            "lease": None
            if state.lease is None
            else {
                "who": state.lease.who,
                "until": state.lease.until,
            },
        }


def _quality(case: Case, prediction: LabelVersion | None, grade: int | None) -> dict[str, Any]:
    return {
        "spacing_mm": case.spacing_mm,
        "shape": case.shape,
        "notes": case.notes,
        "coverage": (prediction and prediction.info or {}).get("coverage"),
        "grade": grade,
    }


@lru_cache(maxsize=4096)
def _digest(path: Path, *state: int) -> str:
    """The SHA-256 of a file; `state` is what changes when the file does."""
    return sha256(path)


def _object(info: dict[str, Any]) -> dict[str, Any]:
    return {"ext": EXTENSION, "info": info}


def _label_info(label: LabelVersion) -> dict[str, Any]:
    """What clients are told of a label; `params` of a prediction as MONAI Label has it."""
    told = {key: value for key, value in label.as_dict().items() if key != "info"}
    told["ts"] = _seconds(label.time)
    if label.info is not None:
        params = {key: value for key, value in label.info.items() if key != OF_IMAGE}
        told["params"] = {"label_names": dict(LABEL_NAMES), **params}
    return told


def _seconds(time: str) -> int:
    return int(datetime.fromisoformat(time).timestamp()) if time else 0


def _refused(sentence: str) -> MONAILabelException:
    return MONAILabelException(MONAILabelError.INVALID_INPUT, sentence)
