"""Every call of MONAI Label's own Slicer module works with our server."""

from __future__ import annotations

from typing import Any

import nibabel as nib
import numpy as np
from cinelabel import studies
from cinelabel.core.labels import LABEL_NAMES

IMAGES = ["heart__t00", "heart__t01", "heart__t02"]


def segment(client: Any, image: str = "heart__t00", **params: Any) -> tuple[str, dict[str, Any]]:
    """What the module sends for its Run button."""
    return client.infer(
        "cine", image, {"result_extension": ".nrrd", "result_dtype": "uint8"} | params
    )


def test_authentication_is_off_on_loopback(client: Any) -> None:
    assert client.auth_enabled() is False


def test_info_names_the_model_its_labels_and_the_strategies(client: Any) -> None:
    info = client.info()
    assert info["name"] == "CineLabel"
    assert info["labels"] == LABEL_NAMES
    assert list(info["models"]) == ["cine"]
    assert info["models"]["cine"]["type"] == "segmentation"
    assert info["models"]["cine"]["labels"] == {"LV": 1, "MYO": 2, "RV": 3}
    assert info["models"]["cine"]["config"] == {"fast": True}
    assert sorted(info["strategies"]) == ["first", "random"]
    assert info["trainers"] == {}
    assert info["scoring"] == {}
    assert info["datastore"]["total"] == 3


def test_first_gives_the_first_frame_with_what_is_known_of_it(client: Any, running: Any) -> None:
    sample = client.next_sample("first", {})
    assert sample["id"] == "heart__t00"
    assert sample["study"] == "heart"
    assert sample["frame"] == 0
    assert "without labels" in sample["reason"]
    assert sample["n_frames"] == 3
    assert sample["source"] == str(running.studies / "heart.nii.gz")
    assert sample["path"] == str(running.workspace.image_path("heart__t00"))


def test_random_gives_frames_of_the_store(client: Any) -> None:
    drawn = [client.next_sample("random", {})["id"] for _ in range(12)]
    assert set(drawn) <= set(IMAGES)
    assert len(set(drawn)) > 1


def test_the_datastore_lists_every_frame(client: Any) -> None:
    objects = client.datastore()["objects"]
    assert sorted(objects) == IMAGES
    assert objects["heart__t02"]["image"]["info"]["frame"] == 2


def test_an_image_is_sent_as_it_lies_in_the_workspace(
    client: Any, running: Any, slicer_module: Any
) -> None:
    status, content, _, _ = slicer_module.MONAILabelUtils.http_method(
        "GET", running.url, "/datastore/image?image=heart__t01"
    )
    assert status == 200
    assert content == running.workspace.image_path("heart__t01").read_bytes()


def test_a_frame_is_segmented_on_its_own_grid(client: Any, running: Any) -> None:
    label, answer = segment(client)
    image = nib.load(running.workspace.image_path("heart__t00"))
    written = nib.load(label)
    assert written.shape == image.shape
    assert np.array_equal(written.affine, image.affine)
    assert set(np.unique(written.dataobj)) <= {0, 1, 2, 3}
    assert answer["label_names"] == {"LV": 1, "MYO": 2, "RV": 3}
    assert (answer["study"], answer["frame"], answer["scope"]) == ("heart", 0, "frame")
    assert answer["n_frames"] == 3
    assert answer["model"]
    assert answer["timings_s"]["total"] > 0
    assert len(answer["measures"]["lv_curve_ml"]) == 1


def test_an_empty_label_comes_with_its_reason(client: Any) -> None:
    label, answer = segment(client)
    empty = not studies.load_label(label)[0].any()
    assert empty == (answer["reason"] is not None)


def test_a_session_segments_an_image_that_the_server_does_not_have(
    client: Any, running: Any
) -> None:
    image = running.workspace.image_path("heart__t02")
    session = client.create_session(str(image))["session_id"]
    assert client.get_session(session)["name"] == session
    label, answer = client.infer("cine", "elsewhere", {}, session_id=session)
    assert np.array_equal(nib.load(label).affine, nib.load(image).affine)
    assert answer["label_names"] == LABEL_NAMES
    client.remove_session(session)


def test_a_submitted_label_is_kept_and_the_next_frame_follows(client: Any, running: Any) -> None:
    truth = running.phantom.labels[..., 0]
    study = studies.load(running.workspace.image_path("heart__t00"))
    submitted = running.workspace.path / "submitted.nii.gz"
    studies.save_label(submitted, truth, study)
    params = {"label_info": [{"name": "LV", "idx": 1}]}
    assert client.save_label("heart__t00", str(submitted), params=params) == {
        "image": "heart__t00",
        "label": "heart__t00",
    }
    kept = running.workspace.images / "labels" / "final" / "heart__t00.nii.gz"
    assert kept.read_bytes() == submitted.read_bytes()
    assert client.info()["datastore"]["completed"] == 1
    assert client.next_sample("first", {})["id"] == "heart__t01"
    label = client.download_label("heart__t00", "final")
    assert np.array_equal(studies.load_label(label)[0], truth)
