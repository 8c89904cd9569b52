"""Who may ask, and how much they may send; each refusal is a sentence and reaches no route."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from cinelabel.core.errors import InputError
from cinelabel.serving.settings import ServerSettings
from cinelabel.serving.tokens import Role, Tokens
from fastapi.routing import APIRoute
from lib.http.errors import Refused
from lib.http.grants import GRANT_S, Grants
from lib.http.guard import JSON_LIMIT, MIB, OPEN, Rules
from lib.routes import ALL
from lib.server import create
from starlette.testclient import TestClient

LOCAL = "http://127.0.0.1:8000"


def asking(rules: Rules, peer: str = "127.0.0.1", base: str = LOCAL) -> TestClient:
    """A client at some address, of an application whose parts were not started."""
    application = create()
    application.state.rules = rules
    return TestClient(application, base_url=base, client=(peer, 50000))


def refusal(response: httpx.Response) -> tuple[int, str]:
    body = response.json()
    assert body["detail"].endswith(".")
    return response.status_code, body["cause"]


@pytest.mark.parametrize("peer", ["192.0.2.7", "10.0.0.1", "2001:db8::1", "testclient"])
def test_without_tokens_only_this_machine_is_let_in(peer: str) -> None:
    """Stock listens on 0.0.0.0 and lets anybody do everything."""
    assert refusal(asking(Rules(), peer).get("/health/live")) == (403, "peer")


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.8.8", "::1"])
def test_this_machine_is_let_in(peer: str) -> None:
    assert asking(Rules(), peer).get("/health/live").status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "[", "192.0.2.1"])
def test_a_page_whose_name_was_pointed_at_this_machine_is_not_let_in(host: str) -> None:
    response = asking(Rules()).get("/health/live", headers={"Host": host})
    assert refusal(response) == (403, "host")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:9", "[::1]:8000"])
def test_the_own_names_of_this_machine_are_let_in(host: str) -> None:
    assert asking(Rules()).get("/health/live", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:8001", "http://["]
)
@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE", "OPTIONS"])
def test_pages_of_other_origins_are_refused_whatever_they_ask(origin: str, method: str) -> None:
    """Stock answers every origin with permission, cookies included."""
    response = asking(Rules()).request(method, "/health/live", headers={"Origin": origin})
    assert refusal(response) == (403, "origin")
    assert "access-control-allow-origin" not in response.headers


def test_what_a_page_of_another_origin_embeds_is_refused_and_its_links_are_not() -> None:
    client, headers = asking(Rules()), {"Sec-Fetch-Site": "cross-site"}
    embedded = client.get("/health/live", headers={**headers, "Sec-Fetch-Mode": "no-cors"})
    assert refusal(embedded) == (403, "origin")
    followed = client.get("/health/live", headers={**headers, "Sec-Fetch-Mode": "navigate"})
    assert followed.status_code == 200


def test_the_own_page_is_let_in() -> None:
    headers = {"Origin": LOCAL}
    assert asking(Rules()).get("/health/live", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("path", "content_type", "limit"),
    [
        ("/auth/token", "multipart/form-data; boundary=x", MIB),
        ("/activelearning/first", "application/json", JSON_LIMIT),
    ],
)
@pytest.mark.parametrize("announced", [True, False])
def test_a_request_that_is_too_large_is_413_announced_or_not(
    path: str, content_type: str, limit: int, announced: bool
) -> None:
    """Stock has no limit: a label of 400 MiB stalls everything."""
    headers = {"Content-Type": content_type}
    if announced:
        headers["Content-Length"] = str(limit + 1)
    body = b"" if announced else iter([b" " * (1 << 16)] * (limit // (1 << 16) + 1))
    response = asking(Rules(upload_limit_mb=1)).post(path, content=body, headers=headers)
    assert refusal(response) == (413, "size")


def test_what_fits_is_let_through() -> None:
    client = asking(Rules(upload_limit_mb=1))
    files = {"username": (None, "x"), "password": (None, "y" * (MIB - 1000))}
    assert client.post("/auth/token", files=files).status_code == 200


# Which role each address needs; the addresses of `OPEN` need none.
ROLES = {
    Role.reader: """
        GET /  GET /docs  GET /info/  GET /auth/token/valid  GET /metrics  GET /dicomweb/
        GET /datastore/  GET /datastore/image  HEAD /datastore/image  GET /datastore/image/info
        GET /datastore/label  HEAD /datastore/label  GET /datastore/label/info
        GET /cases/  GET /cases/left-out  GET /cases/{image}/history  GET /cases/{image}/label
        GET /cases/{image}/suggestions
        GET /studies/{study}/review  POST /activelearning/{strategy}
        PUT /session/  GET /session/{session_id}  DELETE /session/{session_id}
        POST /infer/{model}  GET /queue/  GET /progress/{request_id}  DELETE /progress/{request_id}
        GET /batch/infer  GET /train/  GET /jobs/  GET /jobs/{job_id}
        GET /training/  GET /training/{job_id}  GET /training/{job_id}/figures/{name}
        GET /models/
    """,
    Role.annotator: """
        PUT /datastore/  PUT /datastore/image  PUT /datastore/label
        POST /cases/{image}/skip  POST /cases/{image}/reopen
        POST /cases/{image}/lease  DELETE /cases/{image}/lease  PUT /studies/{study}/review
    """,
    Role.admin: """
        POST /train/  POST /train/{model}  DELETE /train/  POST /batch/infer/{model}
        DELETE /batch/infer  GET /jobs/{job_id}/log  DELETE /jobs/{job_id}
        POST /training/{job_id}/resume  POST /models/rollback  POST /models/{version}/use
    """,
}


def needed(route: APIRoute) -> Role | None:
    roles = [getattr(part.call, "role", None) for part in route.dependant.dependencies]
    return next((role for role in roles if role), None)


def test_every_address_asks_for_the_role_of_the_table() -> None:
    found: dict[Role | None, list[str]] = {}
    for router in ALL:
        for route in router.routes:
            assert isinstance(route, APIRoute)
            addresses = found.setdefault(needed(route), [])
            addresses += [word for method in route.methods for word in (method, route.path)]
    assert set(found.pop(None)[1::2]) == OPEN
    told = {role: text.split() for role, text in ROLES.items()}
    assert {role: pairs(words) for role, words in found.items()} == {
        role: pairs(words) for role, words in told.items()
    }


def pairs(words: list[str]) -> set[tuple[str, str]]:
    return set(zip(words[::2], words[1::2], strict=True))


@pytest.mark.parametrize(
    ("role", "path", "status"),
    [
        (None, "/info/", 401),
        (None, "/openapi.json", 401),
        (None, "/health/live", 200),
        ("reader", "/info/", 200),
        ("annotator", "/jobs/nobody/log", 403),
        ("admin", "/jobs/nobody/log", 404),
    ],
)
def test_a_token_opens_what_its_role_may_do(
    guarded: Any, role: str | None, path: str, status: int
) -> None:
    headers = {"Authorization": f"Bearer {guarded.tokens[role]}"} if role else {}
    response = httpx.get(f"{guarded.url}{path}", headers=headers, trust_env=False)
    assert response.status_code == status, response.text
    assert ("www-authenticate" in response.headers) == (status == 401)


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Basic YTpi", "Bearer guess", "Bearer a b", "bearer é"]
)
def test_what_is_no_token_opens_nothing(guarded: Any, header: str) -> None:
    headers = {"Authorization": header.encode("latin-1")}
    response = httpx.get(f"{guarded.url}/info/", headers=headers, trust_env=False)
    assert refusal(response) == (401, "token")


def scope_of(path: str = "/datastore/image?image=a", method: str = "GET") -> dict[str, Any]:
    path, _, query = path.partition("?")
    return {"method": method, "path": path, "query_string": query.encode()}


def test_who_was_given_an_image_fetches_it_for_some_minutes_without_a_token() -> None:
    """MONAI Label's Slicer module downloads images without its token."""
    now = [0.0]
    grants = Grants(lambda: now[0])
    assert grants.find(scope_of(), "192.0.2.7") is None
    grants.give("192.0.2.7", "a", "ann")
    assert grants.find(scope_of(), "192.0.2.7") == "ann"
    assert grants.find(scope_of(method="HEAD"), "192.0.2.7") == "ann"
    now[0] = GRANT_S + 1
    assert grants.find(scope_of(), "192.0.2.7") is None


@pytest.mark.parametrize(
    ("path", "method", "peer"),
    [
        ("/datastore/image?image=a", "GET", "192.0.2.8"),
        ("/datastore/image?image=a", "PUT", "192.0.2.7"),
        ("/datastore/image?image=b", "GET", "192.0.2.7"),
        ("/datastore/image?image=a&image=b", "GET", "192.0.2.7"),
        ("/datastore/image?image=a&x=1", "GET", "192.0.2.7"),
        ("/datastore/label?image=a", "GET", "192.0.2.7"),
        ("/datastore/image", "GET", "192.0.2.7"),
    ],
)
def test_nothing_else_is_fetched_without_a_token(path: str, method: str, peer: str) -> None:
    grants = Grants()
    grants.give("192.0.2.7", "a", "ann")
    assert grants.find(scope_of(path, method), peer) is None


@pytest.mark.parametrize(("told", "status"), [(None, 401), ("192.0.2.9", 401), ("192.0.2.7", 404)])
def test_clients_of_a_proxy_that_cannot_be_told_apart_always_need_a_token(
    tmp_path: Path, told: str | None, status: int
) -> None:
    """404: the request reached the store, which has no such image."""
    rules = Rules(Tokens(tmp_path / "tokens.json"), behind_proxy=True)
    rules.grants.give("192.0.2.7", "a", "ann")
    client = asking(rules, "192.0.2.7")
    client.app.state.services = SimpleNamespace(datastore=NoImages())  # type: ignore[attr-defined]
    headers = {"X-Forwarded-For": told} if told else {}
    assert client.get("/datastore/image?image=a", headers=headers).status_code == status


class NoImages:
    """A store without images."""

    def get_image_uri(self, image: str) -> str:
        raise Refused(404, "There is no such image.")


def test_a_server_that_others_reach_does_not_start_without_tokens(tmp_path: Path) -> None:
    settings = ServerSettings(studies=tmp_path, workspace=tmp_path / "w", behind_proxy=True)
    with pytest.raises(InputError, match="token"):
        Rules.of(settings)
