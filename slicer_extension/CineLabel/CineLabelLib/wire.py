"""What travels between the client and a server: addresses, JSON, parts, refusals as errors."""

from __future__ import annotations

import email
import ipaddress
import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

from CineLabelLib.answers import (
    Busy,
    NoSpace,
    NotAllowed,
    NotThere,
    OutOfDate,
    Refused,
    ServerError,
    ServerFault,
    ServerGone,
    TokenWrong,
    TooLarge,
    not_understood,
)
from CineLabelLib.core.errors import InputError
from CineLabelLib.work import Cancelled, Follower

if TYPE_CHECKING:
    from CineLabelLib.exchange import Reply

LOOK_S = 0.05
LENGTH = 1000
"""Characters of the longest sentence."""
_KINDS: Mapping[int, type[ServerError]] = {
    400: Refused,
    401: TokenWrong,
    403: NotAllowed,
    404: NotThere,
    405: Refused,
    409: OutOfDate,
    413: TooLarge,
    422: Refused,
    429: Busy,
    502: ServerGone,
    504: ServerGone,
    507: NoSpace,
}
_SENTENCES: Mapping[type[ServerError], tuple[str, str]] = {
    Refused: ("the server does not accept what was sent", "Ask who runs it"),
    TokenWrong: ("the server wants a token, or does not know this one", "Enter the token again"),
    NotAllowed: ("the server does not allow it", "Ask who runs it for another role"),
    NotThere: ("the server does not have it", "Look at its list of cases again"),
    OutOfDate: ("something newer is on the server", "Open the case again"),
    TooLarge: ("the server takes nothing of this size", "Ask who runs it to raise its limit"),
    Busy: ("the server is busy", "Try again in a minute"),
    NoSpace: ("the disk of the server is full", "Tell who runs it; nothing was kept there"),
    ServerGone: ("the server behind its proxy does not answer", "Try again in a minute"),
    ServerFault: ("the server failed", "Try again, or tell who runs it"),
}


def checked(address: str) -> tuple[str, str]:
    """An address without a slash at its end, and its host. Raises InputError, never naming it."""
    try:
        parts = urlsplit(address.strip())
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    whole = parts.scheme in ("http", "https") and host and not (parts.query or parts.fragment)
    if not whole or not address.isprintable() or " " in address.strip():
        raise InputError(
            "this is not the address of a server",
            remedy="Write it as https://heart.example.org or http://127.0.0.1:8000",
        )
    if "@" in parts.netloc:
        raise InputError(
            "the address holds a name or password",
            remedy="Leave that out, and enter the token in its own field",
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}", str(host)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine under one of its own names."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def require_safe(token: str | None, address: str, host: str) -> None:
    """Raise InputError if a token cannot be one, or others could read it on its way."""
    if token is None:
        return
    if not token.isascii() or not token.isprintable() or " " in token:
        raise InputError(
            "the token holds characters that no token has", remedy="Copy it again, as a whole"
        )
    if address.startswith("http://") and not is_loopback(host):
        raise InputError(
            "the token would travel unprotected",
            where=address,
            remedy="Use an address that begins with https://",
        )


def as_json(reply: Reply) -> Any:
    """The JSON of an answer. Raises ServerFault."""
    try:
        return json.loads(reply.body)
    except (ValueError, RecursionError):
        raise not_understood("it is no JSON") from None


def as_object(told: Any) -> dict[str, Any]:
    """A JSON object as a dict that may be changed. Raises ServerFault."""
    if not isinstance(told, dict):
        raise not_understood("it is no object")
    return dict(told)


def as_list(told: Mapping[str, Any], name: str) -> list[Any]:
    """A list of a JSON object. Raises ServerFault."""
    found = told.get(name)
    if not isinstance(found, list):
        raise not_understood(f"{name} is no list")
    return found


def parts_of(reply: Reply) -> dict[str, bytes]:
    """The parts of a multipart answer by name, bit for bit. Raises ServerFault."""
    kind = email.message_from_string(f"Content-Type: {reply.headers.get('Content-Type', '')}")
    boundary = kind.get_boundary()
    if kind.get_content_maintype() != "multipart" or not boundary:
        raise not_understood("it has no parts")
    found = {}
    for part in (b"\r\n" + reply.body).split(f"\r\n--{boundary}".encode())[1:]:
        head, gap, content = part.partition(b"\r\n\r\n")
        name = email.message_from_bytes(head.lstrip()).get_param(
            "name", None, "content-disposition"
        )
        if gap and isinstance(name, str):
            found[name] = content
    return found


def refuse(reply: Reply) -> NoReturn:
    """Raise the error that an answer tells of."""
    told = _told(reply)
    cause, status = str(told.get("cause", ""))[:40], reply.status
    if status == 409 and cause == "cancelled":
        raise Cancelled("the segmentation was cancelled on the server")
    kind = _kind(status, cause)
    sentence, remedy = _SENTENCES[kind]
    if 300 <= status < 400:
        sentence, remedy = "the server sends to another address", "Enter that address yourself"
    detail = told.get("detail")
    if isinstance(detail, str) and detail.strip():
        error = kind(detail[:LENGTH], cause=cause, status=status)
    else:
        error = kind(f"{sentence} (HTTP {status})", remedy=remedy, cause=cause, status=status)
    if isinstance(error, OutOfDate):
        version, who, when = (told.get(name) for name in ("version", "who", "time"))
        error.version = version if type(version) is int else 0
        error.who, error.time = who and str(who), when and str(when)
    if isinstance(error, Busy):
        after = reply.headers.get("Retry-After", "")
        error.retry_after_s = float(after) if after.isdigit() else None
    if isinstance(error, ServerFault):
        error.request_id = reply.headers.get("X-Request-ID")
    raise error


def pause(seconds: float, follower: Follower | None) -> None:
    """Wait. Raises Cancelled as soon as the follower wishes it."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if follower is not None and follower.cancelled:
            raise Cancelled
        time.sleep(min(LOOK_S, left))


def _kind(status: int, cause: str) -> type[ServerError]:
    if status == 503:
        return Busy if cause in ("", "busy") else ServerFault
    return _KINDS.get(status, ServerFault)


def _told(reply: Reply) -> dict[str, Any]:
    """The JSON object of a refusal, empty for anything else."""
    try:
        found = json.loads(reply.body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
