"""Where cases stand, over HTTP: leases, skipping, reopening, versions, conflicts, reviews."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from cinelabel import studies

IMAGE, OTHER = "heart__t00", "heart__t01"
REVIEW = {"study": "heart", "schema_version": 1, "grade": 2}


pytestmark = pytest.mark.usefixtures("all_open")


@pytest.fixture
def ann(guarded: Any) -> Iterator[httpx.Client]:
    """A reader with her own token."""
    with guarded.client("annotator") as client:
        yield client


@pytest.fixture
def bob(guarded: Any) -> Iterator[httpx.Client]:
    """Another reader, with another token."""
    with guarded.client("admin") as client:
        yield client


@pytest.fixture
def guest(guarded: Any) -> Iterator[httpx.Client]:
    """Somebody who may only look."""
    with guarded.client("reader") as client:
        yield client


def next_id(client: httpx.Client) -> str | None:
    response = client.post("/activelearning/first", json={})
    assert response.status_code == 200, response.text
    found = response.json().get("id")
    return str(found) if found else None


def state(client: httpx.Client, image: str = IMAGE) -> dict[str, Any]:
    found = {case["image"]: case for case in client.get("/cases/").json()["cases"]}
    return dict(found[image])


def submit(
    client: httpx.Client, guarded: Any, image: str = IMAGE, padding: int = 0, **params: Any
) -> httpx.Response:
    content = guarded.label(image) + bytes(padding)
    return client.put(
        "/datastore/label",
        params={"image": image},
        files={"label": ("label.nii.gz", content)},
        data={"params": json.dumps(params)},
    )


def test_two_readers_are_not_given_the_same_case(ann: httpx.Client, bob: httpx.Client) -> None:
    """Stock gives the first image without a label to everybody."""
    assert (next_id(ann), next_id(bob)) == (IMAGE, OTHER)
    assert state(ann)["lease"]["who"] == "annotator-1"


def test_a_reader_who_asks_again_keeps_the_case_and_holds_one_alone(
    ann: httpx.Client, bob: httpx.Client
) -> None:
    assert [next_id(ann), next_id(ann)] == [IMAGE, IMAGE]
    ann.post(f"/cases/{OTHER}/lease", json={})
    assert next_id(ann) == IMAGE
    assert next_id(bob) == OTHER


def test_when_all_cases_are_held_there_is_none_for_others(
    ann: httpx.Client, bob: httpx.Client
) -> None:
    for image in (IMAGE, OTHER):
        assert ann.post(f"/cases/{image}/lease", json={}).status_code == 200
    assert next_id(bob) is None
    ann.delete(f"/cases/{OTHER}/lease")
    assert next_id(bob) == OTHER


def test_a_case_that_another_holds_is_409_with_who_and_until_when(
    ann: httpx.Client, bob: httpx.Client
) -> None:
    until = ann.post(f"/cases/{IMAGE}/lease", json={"minutes": 5}).json()["lease"]["until"]
    response = bob.post(f"/cases/{IMAGE}/lease", json={})
    assert response.status_code == 409
    assert response.json()["cause"] == "conflict"
    assert response.json()["who"] == "annotator-1"
    assert until[:16] in response.json()["detail"]


def test_a_guest_looks_and_holds_nothing(guest: httpx.Client, ann: httpx.Client) -> None:
    assert next_id(guest) == IMAGE
    assert state(guest)["lease"] is None
    assert guest.post(f"/cases/{IMAGE}/lease", json={}).status_code == 403
    assert next_id(ann) == IMAGE


def test_a_skipped_case_is_not_handed_out_until_it_is_reopened(
    ann: httpx.Client, bob: httpx.Client
) -> None:
    skipped = ann.post(f"/cases/{IMAGE}/skip", json={"reason": "Blurred."}).json()
    assert (skipped["state"], skipped["reason"], skipped["who"]) == (
        "skipped",
        "Blurred.",
        "annotator-1",
    )
    assert next_id(bob) == OTHER
    assert [c["image"] for c in bob.get("/cases/?state=skipped").json()["cases"]] == [IMAGE]
    bob.post(f"/cases/{IMAGE}/reopen", json={"reason": "It can be read."})
    assert next_id(bob) == IMAGE


def test_a_label_over_one_that_was_not_seen_is_409_and_names_it(
    ann: httpx.Client, bob: httpx.Client, guarded: Any
) -> None:
    """Stock overwrites the first label in place and answers 200."""
    base = state(ann)["version"]
    first = submit(ann, guarded, base_version=base)
    assert first.json()["version"] == base + 1, first.text
    second = submit(bob, guarded, base_version=base, comment="mine")
    assert second.status_code == 409
    told = second.json()
    assert (told["version"], told["who"]) == (base + 1, "annotator-1")
    assert "annotator-1" in told["detail"]
    bob.get(f"/cases/{IMAGE}/label")  # now he has seen it
    assert submit(bob, guarded, comment="mine").json()["version"] == base + 2


def test_who_fetches_the_label_as_monai_label_does_may_submit_over_it(
    ann: httpx.Client, bob: httpx.Client, guarded: Any
) -> None:
    """Its client does not say there who it is, and submits without naming a version."""
    base = state(ann)["version"]
    bob.post("/activelearning/first", json={"client_id": "slicer"})
    assert submit(ann, guarded, base_version=base).status_code == 200
    assert submit(bob, guarded, client_id="slicer", comment="mine").status_code == 409
    bob.head("/datastore/label", params={"label": IMAGE, "tag": "final"})
    assert submit(bob, guarded, client_id="slicer", comment="mine").status_code == 409
    bob.get("/datastore/label", params={"label": IMAGE, "tag": "final"})
    kept = submit(bob, guarded, client_id="slicer", comment="mine")
    assert kept.json()["version"] == base + 2, kept.text


def test_whoever_is_given_a_reopened_case_submits_over_its_label(
    ann: httpx.Client, bob: httpx.Client, guarded: Any
) -> None:
    """That is what it was reopened for, and MONAI Label's client never fetches the label."""
    base = state(ann)["version"]
    submit(ann, guarded, base_version=base)
    ann.post(f"/cases/{IMAGE}/reopen", json={"reason": "Look again."})
    assert submit(bob, guarded, client_id="slicer").status_code == 409
    assert bob.post("/activelearning/first", json={"client_id": "slicer"}).json()["id"] == IMAGE
    assert submit(bob, guarded, client_id="slicer").json()["version"] == base + 2


def test_a_submission_of_the_same_key_is_answered_with_what_was_kept_the_first_time(
    ann: httpx.Client, bob: httpx.Client, guarded: Any
) -> None:
    base, key = state(ann)["version"], str(uuid.uuid4())
    first = submit(ann, guarded, base_version=base, key=key, comment="first")
    assert first.json()["version"] == base + 1, first.text
    submit(bob, guarded, base_version=base + 1, comment="his")
    assert submit(ann, guarded, base_version=base, key=key, comment="first").json() == first.json()
    assert state(ann)["version"] == base + 2
    other = submit(ann, guarded, padding=1, base_version=base + 2, key=key)
    assert (other.status_code, other.json()["cause"]) == (409, "conflict")


def test_a_label_of_an_image_that_is_another_by_now_is_409_changed(
    ann: httpx.Client, guarded: Any
) -> None:
    base = state(ann)["version"]
    told = ann.get("/datastore/image/info", params={"image": IMAGE}).json()["sha256"]
    content = ann.get("/datastore/image", params={"image": IMAGE}).content
    assert told == hashlib.sha256(content).hexdigest()
    refused = submit(ann, guarded, base_version=base, image_sha256="0" * 64)
    assert (refused.status_code, refused.json()["cause"]) == (409, "changed")
    assert "Open the case again" in refused.json()["detail"]
    assert state(ann)["version"] == base
    assert submit(ann, guarded, base_version=base, image_sha256=told).status_code == 200


def test_the_cases_of_one_study_come_with_their_quality_and_the_digests_of_their_images(
    ann: httpx.Client,
) -> None:
    cases = ann.get("/cases/?study=heart").json()["cases"]
    for case in cases:
        info = ann.get("/datastore/image/info", params={"image": case["image"]}).json()
        assert case["quality"] == info["quality"]
        assert case["image_sha256"] == info["sha256"]
    assert "quality" not in ann.get("/cases/").json()["cases"][0]


def test_a_label_that_is_gone_from_the_disk_is_503_and_no_fault_of_the_client(
    ann: httpx.Client, guarded: Any
) -> None:
    submit(ann, guarded, base_version=state(ann)["version"])
    (label,) = guarded.workspace.path.glob(f"labels/{IMAGE}/v{state(ann)['version']:04d}-*.nii.gz")
    label.rename(label.with_suffix(".away"))
    try:
        for path in (f"/cases/{IMAGE}/label", f"/datastore/label?label={IMAGE}"):
            response = ann.get(path)
            assert (response.status_code, response.json()["cause"]) == (503, "damaged")
    finally:
        label.with_suffix(".away").rename(label)


def test_a_damaged_review_is_503_and_says_so(ann: httpx.Client, guarded: Any) -> None:
    path = "/studies/heart/review"
    base = (ann.get(path).json() or {}).get("version", 0)
    ann.put(path, json={"record": REVIEW, "base_version": base})
    (kept,) = guarded.workspace.path.glob(f"reviews/heart/v{base + 1:04d}.json")
    whole = kept.read_bytes()
    kept.write_bytes(whole[:20])
    try:
        wanted = {"record": REVIEW, "base_version": base + 1}
        for response in (ann.get(path), ann.put(path, json=wanted)):
            assert (response.status_code, response.json()["cause"]) == (503, "damaged")
            assert "backup" in response.json()["detail"]
    finally:
        kept.write_bytes(whole)


def test_an_image_that_is_gone_from_the_workspace_is_503(ann: httpx.Client, guarded: Any) -> None:
    base, content = state(ann)["version"], guarded.label(IMAGE)
    assert content
    image = guarded.workspace.image_path(IMAGE)
    image.rename(image.with_name(".away"))
    try:
        submitted = submit(ann, guarded, base_version=base)
        segmented = ann.post("/infer/cine", params={"image": IMAGE, "output": "json"})
        for response in (submitted, segmented):
            assert (response.status_code, response.json()["cause"]) == (503, "damaged")
    finally:
        image.with_name(".away").rename(image)


def test_every_version_of_a_label_can_be_had_with_its_history(
    ann: httpx.Client, guarded: Any, tmp_path: Path
) -> None:
    base = state(ann)["version"]
    one = submit(ann, guarded, base_version=base, model="m-1", comment="one").json()
    two = submit(ann, guarded, base_version=base + 1, comment="two").json()
    assert (one["version"], two["version"]) == (base + 1, base + 2)
    events = ann.get(f"/cases/{IMAGE}/history").json()["events"]
    kept = {event["version"]: event for event in events if event["version"]}
    assert kept[base + 1]["model"] == "m-1"
    assert kept[base + 2]["base_version"] == base + 1
    assert [kept[base + n]["text"] for n in (1, 2)] == ["one", "two"]
    assert {event["who"] for event in events if event["version"]} >= {"annotator-1"}
    old = ann.get(f"/cases/{IMAGE}/label", params={"version": base + 1})
    (tmp_path / "old.nii.gz").write_bytes(old.content)
    assert studies.load_label(tmp_path / "old.nii.gz")[0].any()
    newest = ann.get("/datastore/label", params={"label": IMAGE, "tag": "final"})
    assert newest.status_code == 200


@pytest.mark.skipif(not hasattr(psutil.Process, "rlimit"), reason="limits of processes are Linux's")
@pytest.mark.parametrize("padding", [0, 2 << 20])
def test_a_full_disk_is_507_and_the_older_label_stands(
    ann: httpx.Client, guarded: Any, padding: int
) -> None:
    """Files can have no more bytes, as on a full disk; with padding already the upload does not
    fit, without it the label."""
    base = state(ann)["version"]
    assert submit(ann, guarded, base_version=base, comment="before").status_code == 200
    server = psutil.Process(guarded.pid)
    _, most = server.rlimit(psutil.RLIMIT_FSIZE)
    server.rlimit(psutil.RLIMIT_FSIZE, (100, most))
    try:
        response = submit(ann, guarded, padding=padding, base_version=base + 1, comment="after")
        assert response.status_code == 507, response.text
        assert response.json()["cause"] == "storage"
    finally:
        server.rlimit(psutil.RLIMIT_FSIZE, (most, most))
    assert state(ann)["version"] == base + 1
    assert ann.get(f"/cases/{IMAGE}/label").content
    assert submit(ann, guarded, base_version=base + 1, comment="after").status_code == 200


def test_cases_come_a_page_at_a_time(ann: httpx.Client) -> None:
    page = ann.get("/cases/", params={"limit": 1, "offset": 1}).json()
    assert (page["total"], [case["image"] for case in page["cases"]]) == (2, [OTHER])
    assert ann.get("/cases/?study=nobody").json() == {"total": 0, "offset": 0, "cases": []}
    assert (page["cases"][0]["study"], page["cases"][0]["frame"]) == ("heart", 1)


def test_a_review_is_versioned_and_not_overwritten_unseen(
    ann: httpx.Client, bob: httpx.Client
) -> None:
    path = "/studies/heart/review"
    base = (ann.get(path).json() or {}).get("version", 0)
    kept = ann.put(path, json={"record": REVIEW, "base_version": base}).json()
    assert (kept["version"], kept["who"]) == (base + 1, "annotator-1")
    unseen = bob.put(path, json={"record": {**REVIEW, "grade": 1}, "base_version": base})
    assert unseen.status_code == 409
    assert ann.get(path).json()["record"]["grade"] == 2
    seen = bob.put(path, json={"record": {**REVIEW, "grade": 1}, "base_version": base + 1})
    assert seen.json()["version"] == base + 2


def test_a_path_of_the_server_is_told_to_programs_of_its_machine_alone(ann: httpx.Client) -> None:
    sample = ann.post("/activelearning/first", json={}).json()
    assert "path" not in sample
    assert sample["lease"]["who"] == "annotator-1"
    assert sample["reason"]
