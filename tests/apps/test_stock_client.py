"""Every call of MONAI Label's own Slicer module works with our server, as the module makes it."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import quote_plus

import nibabel as nib
import numpy as np
import pytest
from cinelabel import studies
from cinelabel.core.labels import LABEL_NAMES

IMAGES = ["heart__t00", "heart__t01", "heart__t02"]
DEADLINE_S = 60


def segment(client: Any, image: str = "heart__t00", **params: Any) -> tuple[str, dict[str, Any]]:
    """What the module sends for its Run button."""
    return client.infer(
        "cine", image, {"result_extension": ".nrrd", "result_dtype": "uint8"} | params
    )


def exported(
    truth: np.ndarray, order: tuple[str, ...], skipped: int = 0
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """A label and its `label_info` as 3D Slicer exports them.

    Values count the exported segments from 1 in their order. `idx` also counts segments that the
    module removed before (background, scribbles), which lie first here.
    """
    label = np.zeros_like(truth)
    info = []
    for number, name in enumerate(order, start=1):
        label[truth == LABEL_NAMES[name]] = number
        info.append({"name": name, "idx": number + skipped})
    return label, info


def until(condition: Callable[[], Any]) -> Any:
    """What a condition gives once it gives anything."""
    deadline = time.monotonic() + DEADLINE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)
    return found


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
    assert list(info["strategies"])[:3] == ["suggested", "first", "random"]
    assert list(info["trainers"]) == ["cine"]
    assert info["scoring"] == {}
    assert info["datastore"]["total"] == 3


def test_first_gives_the_first_frame_with_what_is_known_of_it(client: Any, running: Any) -> None:
    sample = client.next_sample("first", {})
    assert sample["id"] == "heart__t00"
    assert sample["name"] == "heart__t00.nii.gz"
    assert (sample["study"], sample["frame"], sample["n_frames"]) == ("heart", 0, 3)
    assert "without labels" in sample["reason"]
    assert sample["lease"]["who"] == "reader"
    assert sample["path"] == str(running.workspace.image_path("heart__t00"))
    assert str(running.studies) not in str(sample)


def test_random_gives_frames_of_the_store(client: Any) -> None:
    drawn = [client.next_sample("random", {})["id"] for _ in range(12)]
    assert set(drawn) <= set(IMAGES)
    assert len(set(drawn)) > 1


def test_the_datastore_lists_every_frame(client: Any) -> None:
    objects = client.datastore()["objects"]
    assert sorted(objects) == IMAGES
    assert objects["heart__t02"]["image"]["info"]["frame"] == 2


def test_an_image_is_sent_as_it_lies_in_the_workspace(
    client: Any, running: Any, slicer_module: ModuleType
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
    assert [*(running.workspace.path / "sessions").iterdir()] == []


def log_in(module: ModuleType, guarded: Any, folder: Path) -> Any:
    """What the module does on a server with tokens: its password is the token."""
    client = module.MONAILabelClient(guarded.url, tmpdir=str(folder), client_id="anything")
    assert client.auth_enabled() is True
    with pytest.raises(module.MONAILabelClientException):
        client.auth_token("ann", "guess")
    with pytest.raises(module.MONAILabelClientException):
        client.info()
    client.update_auth(client.auth_token("ann", guarded.tokens["admin"]))
    assert client.auth_valid_token() is True
    return client


def downloaded(client: Any, sample: dict[str, Any], folder: Path) -> Path:
    """The image of a sample as the module gets it: by its path, or else fetched without a token."""
    path = sample.get("path")
    if path and Path(path).exists():
        return Path(path)
    address = f"{client.get_server_url()}/datastore/image?image={quote_plus(sample['id'])}"
    target = folder / sample.get("name", sample["id"])
    urllib.request.urlretrieve(address, target)
    return target


def whole_session(client: Any, served: Any, tmp_path: Path, order: tuple[str, ...]) -> None:
    """Info, next image, image, inference, submission, training: what a reader does in a sitting."""
    before = client.info()["datastore"]
    sample = client.next_sample("first", {})
    image = studies.load(downloaded(client, sample, tmp_path))
    label, answer = segment(client, sample["id"])
    assert studies.load_label(label)[0].shape == image.frames.shape[:3]

    truth = served.phantom.labels[..., sample["frame"]]
    sent, label_info = exported(truth, order, skipped=2)
    studies.save_label(tmp_path / "sent.nii.gz", sent, image)
    kept = client.save_label(
        sample["id"], str(tmp_path / "sent.nii.gz"), params={"label_info": label_info}
    )
    assert (kept["image"], kept["label"]) == (sample["id"], sample["id"])
    assert (kept["version"], kept["names"]) == (sample["version"] + 1, list(order))
    assert kept["model"] == answer["model"]
    after = client.info()["datastore"]
    assert after["completed"] == before["completed"] + 1
    stored, grid = studies.load_label(client.download_label(sample["id"], "final"))
    assert np.array_equal(stored, truth)
    assert np.array_equal(grid.affine, image.grid.affine)
    assert client.next_sample("first", {})["id"] != sample["id"]

    started = client.train_start("cine", {"minutes": 1})
    assert started["status"] == "RUNNING"
    assert started["id"]
    assert client.train_status(check_if_running=True)  # its process takes longer to begin
    stopped = client.train_stop()
    assert stopped.get("result", stopped["details"][-1])  # how the module reads it
    assert until(lambda: not client.train_status(check_if_running=True))
    assert client.train_status()["status"] == "STOPPED"
    assert set(client.info()["train_stats"]) == {"cine"}


def test_a_whole_session_with_segments_in_another_order_keeps_every_structure(
    client: Any, running: Any, tmp_path: Path
) -> None:
    """Stock keeps 1..N in the order of Slicer's nodes: here the RV would have become the LV."""
    whole_session(client, running, tmp_path, ("RV", "LV", "MYO"))


@pytest.mark.usefixtures("all_open")
def test_a_whole_session_with_a_token(
    guarded: Any, slicer_module: ModuleType, tmp_path: Path
) -> None:
    """Stock answers every valid Keycloak token with 401."""
    client = log_in(slicer_module, guarded, tmp_path)
    whole_session(client, guarded, tmp_path, ("MYO", "RV", "LV"))


def test_an_image_that_a_reader_uploads_becomes_a_case(
    client: Any, running: Any, tmp_path: Path
) -> None:
    brought = studies.load(running.workspace.image_path("heart__t02"))
    studies.save_image(tmp_path / "brought.nii.gz", brought)
    total = client.info()["datastore"]["total"]
    assert client.upload_image(str(tmp_path / "brought.nii.gz"), "brought")["image"] == "brought"
    assert client.info()["datastore"]["total"] == total + 1
    assert client.datastore()["objects"]["brought"]["image"]["info"]["n_frames"] == 1
