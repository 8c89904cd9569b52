"""Whatever is wrong with a request: a sentence, 4xx, nothing written, and the server goes on.

MONAI Label 0.8.5, measured: labels of another shape or affine, with value 255, NaN, zero bytes or
named `.exe` are all 200; `tag`, image names and `params` write outside the store and open any path
of the server; unknown names and params that are no JSON are 500 "Internal Server Error".
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx
import nibabel as nib
import numpy as np
import pytest
from cinelabel import studies

IMAGE = "heart__t02"
TEMPORARY = re.compile(r"\.[0-9a-f]{8}-")
NAMES = [
    "../../../../etc/passwd",
    "/etc/passwd",
    "..",
    ".",
    "",
    "heart__t02/../heart__t01",
    "heart__t02\\..\\x",
    "heart__t02\x00.nii.gz",
    "file:///etc/passwd",
    "http://localhost/x",
    "a b",
    "é",
    "x" * 5000,
]


@pytest.fixture(scope="module")
def http(running: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=running.url, timeout=60, trust_env=False) as opened:
        yield opened


@dataclass(frozen=True)
class Material:
    """What wrong labels are made of: a right one, and its grid."""

    labels: np.ndarray
    affine: np.ndarray


@pytest.fixture(scope="module")
def material(running: Any) -> Material:
    grid = studies.load(running.workspace.image_path(IMAGE)).grid
    return Material(running.phantom.labels[..., 2], grid.affine)


@pytest.fixture(scope="module")
def before(running: Any) -> dict[str, str]:
    return snapshot(running)


def snapshot(running: Any) -> dict[str, str]:
    """Every file that the server could write, by its content.

    The log is not meant, nor are files under a temporary name, which the watch over the studies
    makes now and then.
    """
    root = running.workspace.path.parent
    files = [
        f
        for f in root.rglob("*")
        if f.is_file() and f.parent.name != "logs" and not TEMPORARY.match(f.name)
    ]
    return {str(f.relative_to(root)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def nifti(array: np.ndarray, affine: np.ndarray) -> bytes:
    return gzip.compress(nib.Nifti1Image(array, affine).to_bytes())


def changed(m: Material, value: float, dtype: Any) -> bytes:
    """The right label with one voxel of another value."""
    array = m.labels.astype(dtype)
    array[tuple(np.argwhere(array)[0])] = value
    return nifti(array, m.affine)


def shifted(m: Material) -> np.ndarray:
    affine = m.affine.copy()
    affine[0, 3] += 5
    return affine


def bomb(m: Material) -> bytes:
    """A few kilobytes that say they are the label and expand to 64 MiB."""
    header = nib.Nifti1Image(m.labels, m.affine).to_bytes()
    stream = io.BytesIO()
    with gzip.GzipFile(fileobj=stream, mode="wb") as packed:
        packed.write(header)
        for _ in range(64):
            packed.write(bytes(1 << 20))
    return stream.getvalue()


def archive() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as packed:
        packed.writestr("../../evil.nii.gz", b"evil")
    return stream.getvalue()


LABELS: dict[str, Callable[[Material], bytes]] = {
    "one slice too few": lambda m: nifti(m.labels[..., :-1], m.affine),
    "another affine": lambda m: nifti(m.labels, shifted(m)),
    "another handedness": lambda m: nifti(m.labels, m.affine @ np.diag([-1, 1, 1, 1])),
    "no affine": lambda m: nifti(m.labels, np.eye(4)),
    "value 255": lambda m: changed(m, 255, np.uint8),
    "value 4": lambda m: changed(m, 4, np.uint8),
    "value -1": lambda m: changed(m, -1, np.int16),
    "NaN": lambda m: changed(m, np.nan, np.float32),
    "infinity": lambda m: changed(m, np.inf, np.float32),
    "a fraction": lambda m: changed(m, 1.5, np.float32),
    "nothing labelled": lambda m: nifti(np.zeros_like(m.labels), m.affine),
    "two phases": lambda m: nifti(np.stack([m.labels] * 2, axis=-1), m.affine),
    "zero bytes": lambda m: b"",
    "text": lambda m: b"no label at all",
    "half a file": lambda m: nifti(m.labels, m.affine)[:-200],
    "not compressed": lambda m: gzip.decompress(nifti(m.labels, m.affine)),
    "an archive": lambda m: archive(),
    "a file that expands without end": bomb,
}


@dataclass(frozen=True)
class Bad:
    """A request that is wrong, and how it must be refused."""

    method: str
    path: str
    status: int = 400
    query: dict[str, Any] = field(default_factory=dict)
    sent: dict[str, Any] = field(default_factory=dict)


def refused(http: httpx.Client, bad: Bad) -> str:
    """The sentence of a refusal."""
    response = http.request(bad.method, bad.path, params=bad.query, **bad.sent)
    assert response.status_code == bad.status, response.text
    assert response.headers["x-request-id"]
    body = response.json()
    assert body["detail"].endswith("."), body
    assert len(body["detail"].split()) >= 4, body
    assert body["cause"].isidentifier()
    assert not any(place in body["detail"] for place in ("/tmp", "/work", "/home", "workspace/"))
    return str(body["detail"])


def check(http: httpx.Client, running: Any, before: dict[str, str], bad: Bad) -> None:
    refused(http, bad)
    assert snapshot(running) == before
    assert http.get("/health/live").status_code == 200


def submission(content: bytes, name: str = "label.nii.gz", params: Any = "{}") -> dict[str, Any]:
    text = params if isinstance(params, str) else json.dumps(params)
    return {"files": {"label": (name, content)}, "data": {"params": text}}


@pytest.mark.parametrize("kind", LABELS)
def test_a_wrong_label_is_refused_and_nothing_is_written(
    http: httpx.Client, running: Any, before: dict[str, str], material: Material, kind: str
) -> None:
    sent = submission(LABELS[kind](material))
    check(http, running, before, Bad("PUT", "/datastore/label", 400, {"image": IMAGE}, sent))


@pytest.mark.parametrize(
    "name", ["label.exe", "label", "", "label.seg.nrrd", "label.nrrd", "../../label.pkl", "x.zip"]
)
def test_a_label_named_otherwise_is_refused(
    http: httpx.Client, running: Any, before: dict[str, str], material: Material, name: str
) -> None:
    sent = submission(nifti(material.labels, material.affine), name)
    response = http.put("/datastore/label", params={"image": IMAGE}, **sent)
    assert response.status_code == (422 if name == "" else 400), response.text
    assert snapshot(running) == before


PARAMS: dict[str, Any] = {
    "no JSON": "{not json",
    "no object": "[1, 2]",
    "a number": "7",
    "NaN": '{"base_version": NaN}',
    "half a character": '{"comment": "\\ud800"}',
    "nested without end": "[" * 100_000,
    "a long number": '{"base_version": ' + "9" * 5000 + "}",
    "unknown": {"overwrite": True},
    "the path of another image": {"image": "/etc/passwd"},
    "a version that is none": {"base_version": -1},
    "a version that is text": {"base_version": "one"},
    "a version that is huge": {"base_version": 2**70},
    "a client that is no text": {"client_id": {"$ne": None}},
    "a client of many words": {"client_id": "x" * 5000},
    "segments that are no list": {"label_info": {"name": "LV"}},
    "segments without a name": {"label_info": [{"idx": 1}]},
    "a segment that is no structure": {"label_info": [{"name": "liver", "idx": 1}]},
    "two segments of one name": {"label_info": [{"name": n} for n in ("LV", "MYO", "lv")]},
    "more values than segments": {"label_info": [{"name": "LV", "idx": 1}]},
    "values that are none": {"label_info": [{"name": "LV", "value": "one"}]},
}


@pytest.mark.parametrize("kind", PARAMS)
def test_wrong_parameters_of_a_submission_are_refused(
    http: httpx.Client, running: Any, before: dict[str, str], material: Material, kind: str
) -> None:
    sent = submission(nifti(material.labels, material.affine), params=PARAMS[kind])
    check(http, running, before, Bad("PUT", "/datastore/label", 400, {"image": IMAGE}, sent))


@pytest.mark.parametrize("tag", ["../../evil", "original", "final/../x", "FINAL", "x" * 300])
def test_labels_have_one_tag_and_it_is_no_path(
    http: httpx.Client, running: Any, before: dict[str, str], material: Material, tag: str
) -> None:
    sent = submission(nifti(material.labels, material.affine))
    query = {"image": IMAGE, "tag": tag}
    check(http, running, before, Bad("PUT", "/datastore/label", 422, query, sent))


@pytest.mark.parametrize("name", NAMES)
def test_names_of_images_are_no_paths(
    http: httpx.Client, running: Any, before: dict[str, str], material: Material, name: str
) -> None:
    content = nifti(material.labels, material.affine)
    requests: list[tuple[str, str, str, dict[str, Any]]] = [
        ("GET", "/datastore/image", "image", {}),
        ("GET", "/datastore/image/info", "image", {}),
        ("GET", "/datastore/label", "label", {}),
        ("GET", "/datastore/label/info", "label", {}),
        ("PUT", "/datastore/label", "image", submission(content)),
        ("POST", "/infer/cine", "image", {}),
    ]
    for method, path, query, sent in requests:
        response = http.request(method, path, params={query: name}, **sent)
        assert response.status_code in (400, 404, 422), (method, path, response.text)
        assert b"root:" not in response.content
    for path in ("history", "label"):
        response = http.get(f"/cases/{quote(name, safe='')}/{path}")
        assert response.status_code in (400, 404), response.text
    assert snapshot(running) == before


@pytest.mark.parametrize("name", [n for n in NAMES if n])
def test_an_image_is_not_added_under_a_path(
    http: httpx.Client, running: Any, before: dict[str, str], name: str
) -> None:
    sent = {"files": {"file": ("x.nii.gz", running.workspace.image_path(IMAGE).read_bytes())}}
    check(http, running, before, Bad("PUT", "/datastore/image", 400, {"image": name}, sent))


@pytest.mark.parametrize("path", ["/datastore/", "/datastore/image"])
def test_an_image_is_never_replaced(
    http: httpx.Client, running: Any, before: dict[str, str], path: str
) -> None:
    """Stock overwrites it and drops its labels."""
    sent = {
        "files": {"file": ("x.nii.gz", running.workspace.image_path("heart__t01").read_bytes())}
    }
    check(http, running, before, Bad("PUT", path, 409, {"image": IMAGE}, sent))


@pytest.mark.parametrize(
    ("name", "content"),
    [("x.nii.gz", b""), ("x.nii.gz", b"none"), ("x.exe", b"MZ"), ("x.zip", archive())],
)
def test_what_is_no_image_is_not_added(
    http: httpx.Client, running: Any, before: dict[str, str], name: str, content: bytes
) -> None:
    sent = {"files": {"file": (name, content)}}
    check(http, running, before, Bad("PUT", "/datastore/image", 400, {"image": "new"}, sent))


INFER = [
    Bad("POST", "/infer/other", 400, {"image": IMAGE}),
    Bad("POST", "/infer/cine", 400),
    Bad("POST", "/infer/cine", 404, {"image": "nobody__t00"}),
    Bad("POST", "/infer/cine", 404, {"session_id": "../../store"}),
    Bad("POST", "/infer/cine", 404, {"session_id": "00000000-0000-0000-0000-000000000000"}),
    Bad("POST", "/infer/cine", 422, {"image": IMAGE, "output": "pickle"}),
    Bad(
        "POST",
        "/infer/cine",
        400,
        {"session_id": "00000000-0000-0000-0000-000000000000"},
        {"files": {"file": ("x.nii.gz", b"x")}},
    ),
    *(
        Bad("POST", "/infer/cine", 400, {"image": IMAGE}, {"data": {"params": text}})
        for text in (
            "{not json",
            "[]",
            '{"model": "other"}',
            '{"image": "/etc/passwd"}',
            '{"label": "/etc/passwd"}',
            '{"label_tag": "final", "save_label": true}',
            '{"scope": "patient"}',
            '{"fast": "yes"}',
            '{"result_write_to_file": "/tmp/x"}',
        )
    ),
    *(
        Bad("POST", "/infer/cine", 400, {}, {"files": {"file": (name, content)}})
        for name, content in (
            ("x.nii.gz", b""),
            ("x.nii.gz", b"none"),
            ("x.exe", b"MZ"),
            ("x.zip", archive()),
            ("../../../x.nii.gz", b"none"),
        )
    ),
]


@pytest.mark.parametrize("bad", INFER, ids=lambda bad: f"{bad.query}{str(bad.sent)[:60]}")
def test_a_wrong_inference_is_refused(
    http: httpx.Client, running: Any, before: dict[str, str], bad: Bad
) -> None:
    check(http, running, before, bad)


SESSIONS = [
    Bad("PUT", "/session/", 422),
    Bad("PUT", "/session/", 400, {"uncompress": True}, {"files": {"files": ("x.zip", archive())}}),
    Bad("PUT", "/session/", 400, {}, {"files": {"files": ("x.zip", archive())}}),
    Bad("PUT", "/session/", 400, {}, {"files": {"files": ("x.nii.gz", b"")}}),
    Bad("PUT", "/session/", 422, {"expiry": "soon"}, {"files": {"files": ("x.nii.gz", b"x")}}),
    *(
        Bad(method, f"/session/{name}", 404)
        for method in ("GET", "DELETE")
        for name in ("..", "%2e%2e%2fstore", "nobody", "x" * 5000, "%00")
        if name != ".."
    ),
]


@pytest.mark.parametrize("bad", SESSIONS, ids=lambda bad: f"{bad.method} {bad.path[:40]}")
def test_a_wrong_session_is_refused(
    http: httpx.Client, running: Any, before: dict[str, str], bad: Bad
) -> None:
    check(http, running, before, bad)


STRATEGIES = [
    Bad("POST", "/activelearning/unknown", 400, {}, {"json": {}}),
    Bad("POST", "/activelearning/first", 422, {}, {"content": b"{not json"}),
    Bad("POST", "/activelearning/first", 422, {}, {"json": [1]}),
    Bad("POST", "/activelearning/first", 422, {}, {"json": {"strategy": "other"}}),
    Bad("POST", "/activelearning/first", 422, {}, {"json": {"client_id": 7}}),
]


@pytest.mark.parametrize("bad", STRATEGIES, ids=lambda bad: f"{bad.path} {bad.sent}")
def test_a_wrong_question_for_the_next_image_is_refused(
    http: httpx.Client, running: Any, before: dict[str, str], bad: Bad
) -> None:
    check(http, running, before, bad)


LEFT_OUT = [
    Bad("DELETE", "/datastore/", 405, {"id": IMAGE}),
    Bad("DELETE", "/datastore/image", 405, {"id": IMAGE}),
    Bad("DELETE", "/datastore/label", 405, {"id": IMAGE, "tag": "final"}),
    Bad("PUT", "/datastore/image/info", 405, {"image": IMAGE}, {"data": {"info": "{}"}}),
    Bad("PUT", "/datastore/label/info", 405, {"label": IMAGE}, {"data": {"info": "{}"}}),
    Bad("GET", "/datastore/dataset", 404),
    Bad("GET", "/datastore/", 400, {"output": "train"}),
    Bad("GET", "/model/cine", 404),
    Bad("PUT", "/model/cine", 404, {}, {"files": {"file": ("x.pt", b"x")}}),
    Bad("DELETE", "/model/cine", 404),
    Bad("POST", "/reload", 404),
    Bad("GET", "/logs/", 404),
    Bad("POST", "/scoring/dice", 404),
    Bad("GET", "/ohif/", 404),
    Bad("GET", "/proxy/dicom/studies", 404),
    Bad("POST", "/infer/wsi/cine", 404),
    Bad("GET", "/static/../main.py", 404),
]


@pytest.mark.parametrize("bad", LEFT_OUT, ids=lambda bad: f"{bad.method} {bad.path}")
def test_what_could_do_harm_is_not_there(
    http: httpx.Client, running: Any, before: dict[str, str], bad: Bad
) -> None:
    """Stock lets anybody replace and delete models, images and labels; /reload deadlocks it."""
    check(http, running, before, bad)


CASES = [
    Bad("GET", "/cases/", 422, {"limit": 0}),
    Bad("GET", "/cases/", 422, {"offset": -1}),
    Bad("GET", "/cases/", 422, {"state": "lost"}),
    Bad("GET", "/cases/nobody__t00/history", 404),
    Bad("GET", f"/cases/{IMAGE}/label", 404, {"version": 99}),
    Bad("GET", f"/cases/{IMAGE}/label", 422, {"version": 2**70}),
    *(
        Bad("POST", f"/cases/{IMAGE}/{what}", 422, {}, {"json": body})
        for what in ("skip", "reopen")
        for body in ({}, {"reason": ""}, {"reason": "  "}, {"reason": 3}, {"reason": "x" * 5000})
    ),
    Bad("POST", f"/cases/{IMAGE}/lease", 422, {}, {"json": {"minutes": 0}}),
    Bad("POST", f"/cases/{IMAGE}/lease", 422, {}, {"json": {"minutes": 1e9}}),
    Bad("POST", f"/cases/{IMAGE}/lease", 422, {}, {"json": {"holder": "me"}}),
    Bad("POST", "/cases/nobody__t00/skip", 404, {}, {"json": {"reason": "blurred"}}),
    Bad("GET", "/studies/nobody/review", 404),
    Bad("GET", "/studies/heart/review", 404),
    Bad("PUT", "/studies/heart/review", 400, {}, {"json": {"record": {"study": "heart"}}}),
    Bad("PUT", "/studies/heart/review", 422, {}, {"json": {"record": "fine"}}),
    Bad(
        "PUT",
        "/studies/heart/review",
        400,
        {},
        {"json": {"record": {"schema_version": 1, "study": "another"}}},
    ),
]


@pytest.mark.parametrize("bad", CASES, ids=lambda bad: f"{bad.method} {bad.path} {bad.sent}"[:80])
def test_a_wrong_question_about_a_case_is_refused(
    http: httpx.Client, running: Any, before: dict[str, str], bad: Bad
) -> None:
    check(http, running, before, bad)
