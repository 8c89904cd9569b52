"""Requests made from the server's own OpenAPI document: never a 5xx, nothing written elsewhere."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

REAL = {
    "image": "heart__t01",
    "label": "heart__t01",
    "study": "heart",
    "model": "cine",
    "strategy": "first",
}
"""Names that are known, given for half of the invented ones, so that routes get past their door."""
NEW = "brought"
OF_FILES = {
    ("put", "/datastore/label"): "label",
    ("put", "/datastore/image"): "file",
    ("put", "/session/"): "files",
}
"""Where a right file is sent for half of the requests, by the name of its field."""
BUSY = (503, 507)
"""What a server may answer that could do it another time."""
MODES = (GenerationMode.POSITIVE, GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
"""Twice as many requests that fit the document as ones that do not."""
LONGEST_S = 30


@pytest.fixture
def session(guarded_alone: Any) -> requests.Session:
    opened = requests.Session()
    opened.trust_env = False
    opened.headers["Authorization"] = f"Bearer {guarded_alone.tokens['admin']}"
    return opened


def outside(guarded: Any) -> dict[str, str]:
    """Every file of the server's folder beside the workspace and the label that is sent."""
    beside = [f for f in guarded.folder.rglob("*") if guarded.workspace.path not in f.parents]
    files = [f for f in beside if not f.name.endswith("-label.nii.gz")]
    return {str(f): _content(f) for f in files}


def _content(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"


def fuzz(guarded: Any, session: requests.Session, examples: int) -> int:
    """Send so many requests to every operation; returns how many were sent in all."""
    schema = schemathesis.openapi.from_url(
        f"{guarded.url}/openapi.json", headers=dict(session.headers)
    )
    before, sent = outside(guarded), 0
    image = guarded.workspace.image_path(REAL["image"]).read_bytes()
    right = {"label": guarded.label(REAL["image"]), "file": image, "files": image}
    taken: set[str] = set()
    for operation in (result.ok() for result in schema.get_all_operations()):
        made = st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in MODES))

        @settings(
            max_examples=examples,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=made, real=st.sampled_from([True, False]))
        def send(case: Any, real: bool) -> None:
            nonlocal sent
            for given_names in (case.path_parameters, case.query) if real else ():
                for name in REAL.keys() & (given_names or {}).keys():
                    given_names[name] = REAL[name]
            field = OF_FILES.get((case.operation.method, case.operation.path)) if real else None
            if field is None:
                response = case.call(base_url=guarded.url, session=session, timeout=LONGEST_S)
            else:
                query = dict(case.query or {}) | ({"image": NEW} if field == "file" else {})
                response = session.put(
                    f"{guarded.url}{case.operation.path}",
                    params=query,
                    files={field: ("sent.nii.gz", right[field])},
                    timeout=LONGEST_S,
                )
                taken.update([field] if response.status_code == 200 else [])
            sent += 1
            fine = response.status_code < 500 or response.status_code in BUSY
            assert fine, f"{case.as_curl_command()}\n{response.status_code} {response.text}"
            if response.status_code >= 400 and case.operation.method != "head":
                assert set(response.json()) >= {"detail", "cause"}
                assert str(guarded.folder) not in response.text

        send()
    assert outside(guarded) == before
    assert taken == set(right)
    return sent


def test_invented_requests_never_fail_the_server(
    guarded_alone: Any, session: requests.Session
) -> None:
    assert fuzz(guarded_alone, session, examples=6) >= 200


@pytest.mark.slow
def test_two_thousand_invented_requests_never_fail_the_server(
    guarded_alone: Any, session: requests.Session
) -> None:
    sent = fuzz(guarded_alone, session, examples=60)
    print(f"{sent} requests")
    assert sent >= 2000
