"""One HTTP request with an end: a total time, and a cancel that closes the connection.

`requests` knows time-outs between two bytes alone, and cannot be interrupted. So each request runs
in a thread of its own that nobody waits for longer than is allowed; when it is given up its socket
is shut, which ends the thread and tells the server.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from CineLabelLib.answers import ServerError, ServerGone, TimedOut
from CineLabelLib.work import Cancelled, Follower

if TYPE_CHECKING:
    from requests import PreparedRequest, Response, Session
    from requests.adapters import BaseAdapter, HTTPAdapter

LOOK_S = 0.05
"""How often a request looks whether it is wanted no longer."""
BLOCK = 1 << 16
LARGEST = 1 << 30
"""Bytes of the largest answer that is taken."""


@dataclass(frozen=True)
class Reply:
    """An answer, whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _Exchange:
    """A request under way: what came of it, and the connection and socket it goes through."""

    def __init__(self, silence_s: float) -> None:
        self.silence_s = silence_s
        self.ended = threading.Event()
        self.given_up = False
        self.reply: Reply | None = None
        self.error: ServerError | None = None
        self.connection: Any = None
        self.sock: Any = None

    def give_up(self) -> None:
        """Let it end soon, wherever it waits."""
        self.given_up = True
        for sock in (self.sock, getattr(self.connection, "sock", None)):
            with contextlib.suppress(Exception):  # there is none, or it is closed already
                sock.shutdown(socket.SHUT_RDWR)


class Exchanges:
    """Requests to one server, each in a thread; safe for many threads.

    Args:
        server: what it is called in sentences.
        token: sent with every request; kept here alone.
        direct: no proxy and no other setting of the environment.
        authorities: file of certificates to trust, None for those that are trusted anyway.
        connect_s: for the connection.
        transport: an adapter of `requests` in place of the network.
    """

    def __init__(
        self,
        server: str,
        token: str | None,
        direct: bool,
        authorities: str | None,
        connect_s: float,
        transport: BaseAdapter | None = None,
    ) -> None:
        self._server, self._token, self._connect_s = server, token, connect_s
        self._direct, self._transport = direct, transport
        self._verify: str | bool = authorities or True
        self._here = threading.local()
        self._making = threading.Lock()
        self._made: Session | None = None

    def ask(
        self,
        method: str,
        url: str,
        silence_s: float,
        total_s: float,
        follower: Follower | None,
        **content: Any,
    ) -> Reply:
        """Send a request and wait for the whole answer, whatever its status.

        Args:
            silence_s: the longest time without a byte.
            total_s: the longest time at all, connecting included.
            content: `params`, `json`, `data`, `files` as `requests` takes them.

        Raises:
            ServerGone: nobody is there, or the connection broke off; TimedOut.
            Cancelled: the follower wished it.
        """
        exchange = _Exchange(min(silence_s, total_s))
        end = time.monotonic() + total_s
        threading.Thread(
            target=self._run,
            args=(exchange, method, url, content),
            name="CineLabel request",
            daemon=True,
        ).start()
        while not exchange.ended.wait(min(LOOK_S, max(0.0, end - time.monotonic()))):
            if follower is not None and follower.cancelled:
                exchange.give_up()
                raise Cancelled
            if time.monotonic() >= end:
                exchange.give_up()
                raise self._timed_out(total_s)
        if exchange.error is not None:
            raise exchange.error
        assert exchange.reply is not None
        return exchange.reply

    def close(self) -> None:
        """Close the connections that wait for a next request."""
        if self._made is not None:
            self._made.close()

    def _session(self) -> Session:
        """Made by the first request in its thread, as importing `requests` takes a while."""
        import requests

        with self._making:
            if self._made is None:
                self._made = requests.Session()
                self._made.trust_env = not self._direct
                self._made.auth = _signing(self._token)
                for scheme in ("http://", "https://"):
                    self._made.mount(scheme, self._transport or _adapter(self._note))
            return self._made

    def _run(self, exchange: _Exchange, method: str, url: str, content: dict[str, Any]) -> None:
        self._here.exchange = exchange
        try:
            with self._session().request(
                method,
                url,
                stream=True,
                timeout=(self._connect_s, exchange.silence_s),
                allow_redirects=False,
                verify=self._verify,
                **content,
            ) as response:
                status, body = response.status_code, _body(response)
                if status >= 300 and self._token is not None:  # should somebody give it back
                    body = body.replace(self._token.encode(), b"(token)")
                exchange.reply = Reply(status, response.headers, body)
        except Exception as error:  # of many libraries; none may carry the request further
            exchange.error = self._explained(error, exchange.silence_s)
        finally:
            exchange.ended.set()

    def _note(self, connection: Any) -> None:
        """Remember which connection a request goes through; it stops if nobody waits for it."""
        exchange: _Exchange = self._here.exchange
        exchange.connection = connection
        if connection.sock is not None:  # a connection may give its socket away later
            exchange.sock = connection.sock
            exchange.sock.settimeout(exchange.silence_s)  # urllib3 sends with that of connecting
        if exchange.given_up:
            raise ConnectionAbortedError

    def _timed_out(self, seconds: float) -> TimedOut:
        return TimedOut(
            f"{self._server} did not answer within {seconds:g} s",
            remedy="Try again, or ask who runs it",
        )

    def _explained(self, error: Exception, silence_s: float) -> ServerError:
        """The error without anything of the request in it."""
        from requests import exceptions as of
        from urllib3.exceptions import ReadTimeoutError

        if isinstance(error, ServerError):
            return error.with_traceback(None)
        inner = error.args[0] if error.args else None
        if isinstance(error, of.ReadTimeout) or isinstance(inner, ReadTimeoutError):
            return self._timed_out(silence_s)
        if isinstance(error, of.SSLError):
            return ServerGone(
                f"the certificate of {self._server} is not trusted",
                remedy="Ask who runs it for the file of its certificate authority, and name that",
                cause="certificate",
            )
        if isinstance(error, of.ProxyError):
            return ServerGone(
                f"the proxy of this machine does not let us through to {self._server}",
                remedy="Check the proxy settings",
                cause="proxy",
            )
        if isinstance(error, of.ChunkedEncodingError):
            return self._broken_off()
        if isinstance(error, (of.ConnectionError, of.Timeout)):
            return ServerGone(
                f"{self._server} cannot be reached, or broke off the connection",
                remedy="Check the address, and whether the server runs",
            )
        return ServerGone(f"the request to {self._server} failed ({type(error).__name__})")

    def _broken_off(self) -> ServerGone:
        return ServerGone(f"{self._server} broke off its answer", remedy="Try again")


def _signing(token: str | None) -> Callable[[PreparedRequest], PreparedRequest]:
    """Puts the token on a request; without one, keeps `requests` from looking into .netrc."""

    def sign(request: PreparedRequest) -> PreparedRequest:
        if token is not None:
            request.headers["Authorization"] = f"Bearer {token}"
        return request

    return sign


def _body(response: Response) -> bytes:
    """The whole body.

    Raises:
        ServerGone: it is larger than is taken.
        requests.exceptions.ChunkedEncodingError: it is shorter than was announced.
    """
    from requests.exceptions import ChunkedEncodingError

    body = bytearray()
    for block in response.iter_content(BLOCK):
        body += block
        if len(body) > LARGEST:
            raise ServerGone(f"the answer is larger than {LARGEST >> 20} MiB", cause="answer")
    announced = response.headers.get("Content-Length", "")
    plain = "Content-Encoding" not in response.headers
    if announced.isdigit() and plain and len(body) < int(announced) and response.status_code != 304:
        raise ChunkedEncodingError
    return bytes(body)


def _adapter(note: Callable[[Any], None]) -> HTTPAdapter:
    """An adapter of `requests` that tells `note` which connection is used, in its thread."""
    from requests.adapters import HTTPAdapter
    from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

    pools = {"http": _noting(HTTPConnectionPool, note), "https": _noting(HTTPSConnectionPool, note)}

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            super().init_poolmanager(*args, **kwargs)
            self.poolmanager.pool_classes_by_scheme = pools

        def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
            manager = super().proxy_manager_for(*args, **kwargs)
            manager.pool_classes_by_scheme = pools
            return manager

    return Adapter(max_retries=0)


def _noting(pool: Any, note: Callable[[Any], None]) -> Any:
    """The class of a connection pool whose connections tell of themselves."""

    class Connection(pool.ConnectionCls):  # type: ignore[misc]
        def connect(self) -> None:
            note(self)
            super().connect()
            note(self)

        def putrequest(self, *args: Any, **kwargs: Any) -> None:
            note(self)
            super().putrequest(*args, **kwargs)

    return type(pool.__name__, (pool,), {"ConnectionCls": Connection})
