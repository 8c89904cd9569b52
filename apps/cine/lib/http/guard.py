"""Who may ask, and how much they may send: checked before any route sees a request.

Without tokens only this machine may ask, under one of its own names (a page whose name was made to
point here, DNS rebinding, comes with another), and never from a page of another origin. With tokens
every request carries one but those of `OPEN`, and the fetching of an image that was just given to
the same address (`grants`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any
from urllib.parse import urlsplit

from cinelabel.core.errors import InputError
from cinelabel.serving.settings import ServerSettings, is_loopback
from cinelabel.serving.tokens import Role, Tokens
from fastapi import Depends, FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lib.http.errors import Refused, answer
from lib.http.grants import Grants

OPEN = frozenset({"/auth/", "/auth/token", "/health/live", "/health/ready"})
LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
MIB = 1 << 20
JSON_LIMIT = 4 * MIB


@dataclass(frozen=True)
class Rules:
    """What the guard goes by.

    Attributes:
        tokens: None: only this machine may ask, and may do everything.
        upload_limit_mb: size of the largest request with files, in MiB.
        behind_proxy: clients come through a proxy, which tells their addresses.
        grants: images that may be fetched without a token.
    """

    tokens: Tokens | None = None
    upload_limit_mb: int = 256
    behind_proxy: bool = False
    grants: Grants = field(default_factory=Grants)

    @classmethod
    def of(cls, settings: ServerSettings) -> Rules:
        """The rules that a server was started with.

        Raises:
            InputError: others than this machine can reach it, and it has no tokens.
        """
        if settings.needs_tokens and settings.tokens is None:
            raise InputError("a server that other machines can reach needs tokens")
        tokens = None if settings.tokens is None else Tokens(settings.tokens)
        return cls(tokens, settings.upload_limit_mb, settings.behind_proxy)


@dataclass(frozen=True)
class Caller:
    """Who asks. `name` is that of the token, None on a server without tokens."""

    name: str | None
    role: Role

    def who(self, client_id: str | None = None) -> str:
        """The name that goes into records."""
        return self.name or client_id or "local"


LOCAL = Caller(None, Role.admin)


def tokens_of(application: FastAPI) -> Tokens | None:
    """The tokens of a running application, None where none are needed."""
    rules: Rules = application.state.rules
    return rules.tokens


def let_fetch(request: Request, caller: Caller, image: str) -> None:
    """Let a caller with a token fetch an image without it, see `grants`."""
    rules: Rules = request.app.state.rules
    peer = _peer(request.scope, rules)
    if caller.name is not None and peer is not None:
        rules.grants.give(peer, image, caller.name)


class Guard:
    """ASGI middleware: refuses who may not ask and what is too large."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        rules: Rules = scope["app"].state.rules
        try:
            scope.setdefault("state", {})["caller"] = _caller(scope, rules)
            limit = _limit(scope, rules)
        except Refused as refusal:
            headers = {"WWW-Authenticate": "Bearer"} if refusal.status == 401 else None
            response = answer(refusal.status, refusal.sentence, refusal.cause, headers)
            await response(scope, receive, send)
            return
        await self._app(scope, _limited(receive, limit), send)


def _header(scope: Scope, name: bytes) -> str | None:
    return next((v.decode("latin-1") for k, v in scope["headers"] if k == name), None)


def _caller(scope: Scope, rules: Rules) -> Caller | None:
    """Who asks; None at the open addresses of a server with tokens. Raises Refused."""
    host, origin = _header(scope, b"host") or "", _header(scope, b"origin")
    foreign = _header(scope, b"sec-fetch-site") == "cross-site"  # images and scripts have no Origin
    followed = _header(scope, b"sec-fetch-mode") == "navigate"
    if (origin is not None and _origin_host(origin) != host.lower()) or (foreign and not followed):
        raise Refused(403, "Pages of other origins are not let in.", "origin")
    if rules.tokens is None:
        client = scope.get("client")
        if client is None or not is_loopback(client[0]):
            raise Refused(403, "Only this machine may ask a server without tokens.", "peer")
        if _host_name(host) not in LOCAL_NAMES:
            raise Refused(403, "Ask for localhost or 127.0.0.1, not for another name.", "host")
        return LOCAL
    if scope["path"] in OPEN:
        return None
    authorization = _header(scope, b"authorization")
    peer = _peer(scope, rules)
    if authorization is None and peer is not None:
        name = rules.grants.find(scope, peer)
        if name is not None:
            return Caller(name, Role.reader)
    kind, _, text = (authorization or "").partition(" ")
    if kind.lower() != "bearer" or not text.strip():
        raise Refused(401, "A token is needed: log in, or send 'Authorization: Bearer TOKEN'.")
    identity = rules.tokens.check(text.strip())
    if identity is None:
        raise Refused(401, "The token is not known, or its time is over.")
    return Caller(identity.name, identity.role)


def _peer(scope: Scope, rules: Rules) -> str | None:
    """The address of a client, None where it cannot be told from that of a proxy."""
    client = scope.get("client")
    if client is None:
        return None
    if rules.behind_proxy:
        told = (_header(scope, b"x-forwarded-for") or "").split(",")
        if client[0] not in [address.strip() for address in told]:
            return None
    return str(client[0])


def _host_name(host: str) -> str:
    """The name in a Host header, without its port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _origin_host(origin: str) -> str:
    """Host and port of an Origin header; nothing that a Host header can be if it has none."""
    try:
        return urlsplit(origin).netloc.lower() or "none"
    except ValueError:
        return "none"


def _limit(scope: Scope, rules: Rules) -> int:
    """The most bytes that this request may send. Raises Refused if it announces more."""
    files = (_header(scope, b"content-type") or "").lower().startswith("multipart/form-data")
    limit = rules.upload_limit_mb * MIB if files else JSON_LIMIT
    announced = _header(scope, b"content-length")
    if announced is not None and announced.isdigit() and int(announced) > limit:
        raise Refused(413, _too_large(limit))
    return limit


def _too_large(limit: int) -> str:
    return f"The request is larger than {limit // MIB} MiB."


def _limited(receive: Receive, limit: int) -> Receive:
    """The messages of a request, until they are larger than announced or allowed."""
    taken = 0

    async def counted() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > limit:
            raise HTTPException(413, _too_large(limit))
        return message

    return counted


def at_least(role: Role) -> Any:
    """A dependency: the caller, if the role allows it; 403 otherwise."""

    async def caller(request: Request) -> Caller:
        found: Caller | None = request.state.caller
        if found is None:  # an open address: nothing there may ask for a role
            raise Refused(401, "A token is needed.")
        if not found.role.allows(role):
            sentence = f"This needs a token of the role {role.value}, yours is {found.role.value}."
            raise Refused(403, sentence)
        return found

    caller.role = role  # type: ignore[attr-defined]  # for the table in the tests
    return Depends(caller)


Reader = Annotated[Caller, at_least(Role.reader)]
Annotator = Annotated[Caller, at_least(Role.annotator)]
Admin = Annotated[Caller, at_least(Role.admin)]
