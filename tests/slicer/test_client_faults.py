"""The client before a server that fails in every way: one sentence each, in time, and no token."""

from __future__ import annotations

import json
import logging
import shutil
import socket
import ssl
import subprocess
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from CineLabelLib import answers, exchange
from CineLabelLib.client import Client, Timeouts
from CineLabelLib.core.errors import CineLabelError, InputError
from CineLabelLib.outbox import Submission
from CineLabelLib.wire import parts_of
from CineLabelLib.work import Cancelled
from hypothesis import given, settings
from hypothesis import strategies as st

TOKEN = "clt_secret-of-anna"
SOON_S = 5.0
"""Far longer than a time-out or a cancel of these tests takes, far shorter than waiting."""
SHORT = Timeouts(connect_s=0.3, read_s=0.3, transfer_s=0.5, infer_s=0.5, pauses_s=(0.0, 0.0))
LONG = Timeouts(connect_s=60, read_s=60, transfer_s=60, infer_s=60, pauses_s=(0.0, 0.0))
QUEUE = {"running": 0, "waiting": 1, "limit": 32, "seconds_each": 1.5}

Script = Callable[[BaseHTTPRequestHandler], None]


class Faulty(ThreadingHTTPServer):
    """Answers the requests one after another by scripts, the last one for all that follow."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.scripts: list[Script] = []
        self.seen: list[tuple[str, str]] = []
        self.bodies: list[bytes] = []
        self.asked, self.left, self.over = (threading.Event() for _ in range(3))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are what these tests are about."""


class Handler(BaseHTTPRequestHandler):
    server: Faulty
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        server = self.server
        server.seen.append((self.command, self.path))
        script = server.scripts.pop(0) if len(server.scripts) > 1 else server.scripts[0]
        server.asked.set()
        script(self)

    do_GET = do_POST = do_PUT = do_DELETE = _answer

    def log_message(self, format: str, *args: Any) -> None: ...


def answer(status: int, body: object, **headers: str) -> Script:
    """A whole answer; `body` as JSON unless it is bytes."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()

    def script(handler: BaseHTTPRequestHandler) -> None:
        handler.server.bodies.append(  # type: ignore[attr-defined]
            handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        )
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return script


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    """No answer at all."""
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


def break_off(handler: BaseHTTPRequestHandler) -> None:
    """Less than was announced."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"running": 0,')
    handler.close_connection = True


def wait(handler: BaseHTTPRequestHandler) -> None:
    """Nothing, until the client goes away."""
    handler.close_connection = True
    try:
        while handler.connection.recv(1 << 16):
            pass
    except OSError:
        pass
    handler.server.left.set()  # type: ignore[attr-defined]


def deaf(handler: BaseHTTPRequestHandler) -> None:
    """Nothing, and nothing of the request is read either."""
    handler.close_connection = True
    handler.server.over.wait(60)  # type: ignore[attr-defined]


def drip(handler: BaseHTTPRequestHandler) -> None:
    """Bytes, one after another, without end."""
    handler.close_connection = True
    handler.send_response(200)
    handler.end_headers()
    over = handler.server.over  # type: ignore[attr-defined]
    try:
        while not over.wait(0.02):
            handler.wfile.write(b" ")
    except OSError:
        handler.server.left.set()  # type: ignore[attr-defined]


@pytest.fixture
def faulty() -> Iterator[Faulty]:
    server = Faulty()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()


def client(server: Faulty, timeouts: Timeouts = SHORT) -> Client:
    return Client(server.url, TOKEN, "slicer", timeouts=timeouts)


def submission(**changes: Any) -> Submission:
    fields: dict[str, Any] = {
        "address": "http://127.0.0.1",
        "image": "heart__t00",
        "study": "heart",
        "frame": 0,
        "label": b"label",
        "sha256": "",
        "label_info": ("LV", "MYO", "RV"),
        "base_version": 0,
        "model": None,
        "comment": "",
        "image_digest": None,
        "reader": "anna",
        "made_at": "2026-03-01T10:00:00+00:00",
        "key": "5d0c1d9e-77",
    }
    return Submission(**(fields | changes))


DETAIL = "The server's own sentence."
ORDINARY = [
    (400, "label", answers.Refused),
    (401, "token", answers.TokenWrong),
    (403, "forbidden", answers.NotAllowed),
    (404, "unknown", answers.NotThere),
    (405, "method", answers.Refused),
    (409, "conflict", answers.OutOfDate),
    (413, "size", answers.TooLarge),
    (422, "request", answers.Refused),
    (429, "busy", answers.Busy),
    (500, "server", answers.ServerFault),
    (503, "busy", answers.Busy),
    (503, "model", answers.ServerFault),
    (503, "damaged", answers.ServerFault),
    (507, "storage", answers.NoSpace),
]


@pytest.mark.parametrize(("status", "cause", "kind"), ORDINARY)
def test_a_refusal_is_an_error_of_its_kind_with_the_servers_sentence(
    faulty: Faulty, status: int, cause: str, kind: type[answers.ServerError]
) -> None:
    faulty.scripts = [answer(status, {"detail": DETAIL, "cause": cause})]
    with pytest.raises(answers.ServerError) as caught:
        client(faulty).queue()
    assert type(caught.value) is kind
    assert (str(caught.value), caught.value.cause, caught.value.status) == (DETAIL, cause, status)
    assert len(faulty.seen) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 418, 429, 500, 503, 507, 599])
@pytest.mark.parametrize("body", [b"<html>Squid</html>", b"", b"[]", b'{"detail": [{"loc": 1}]}'])
def test_a_refusal_by_whatever_lies_between_has_a_sentence_of_ours(
    faulty: Faulty, status: int, body: bytes
) -> None:
    faulty.scripts = [answer(status, body)]
    with pytest.raises(answers.ServerError) as caught:
        client(faulty).queue()
    assert f"HTTP {status}" in str(caught.value)
    assert str(caught.value).endswith(".")
    assert "html" not in str(caught.value)


def test_a_conflict_tells_version_who_and_when_and_a_changed_image_says_so(faulty: Faulty) -> None:
    told = {"detail": DETAIL, "cause": "conflict", "version": 3, "who": "bob", "time": "2026"}
    faulty.scripts = [answer(409, told), answer(409, {"detail": DETAIL, "cause": "changed"})]
    for expected in (("conflict", 3, "bob", "2026"), ("changed", 0, None, None)):
        with pytest.raises(answers.OutOfDate) as caught:
            client(faulty).submit(submission())
        error = caught.value
        assert (error.cause, error.version, error.who, error.time) == expected


def test_a_busy_server_tells_when_to_come_again_and_a_fault_its_request(faulty: Faulty) -> None:
    faulty.scripts = [answer(503, {"cause": "busy"}, Retry_After="7"), answer(429, {})]
    for seconds in (7.0, None):
        with pytest.raises(answers.Busy) as busy:
            client(faulty).queue()
        assert busy.value.retry_after_s == seconds
    faulty.scripts = [answer(500, {"detail": DETAIL}, X_Request_ID="r-17")]
    with pytest.raises(answers.ServerFault) as fault:
        client(faulty).queue()
    assert fault.value.request_id == "r-17"


def test_a_segmentation_that_was_cancelled_on_the_server_is_cancelled(faulty: Faulty) -> None:
    faulty.scripts = [answer(409, {"detail": "The request was cancelled.", "cause": "cancelled"})]
    with pytest.raises(Cancelled):
        client(faulty).segment("heart__t00")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"[" * 100_000,
        json.dumps({**QUEUE, "running": "many"}).encode(),
        json.dumps({**QUEUE, "limit": None}).encode(),
        json.dumps({"running": 0}).encode(),
    ],
)
def test_an_answer_of_another_form_is_not_understood(faulty: Faulty, body: bytes) -> None:
    faulty.scripts = [answer(200, body)]
    with pytest.raises(answers.ServerFault, match="not understood"):
        client(faulty).queue()


def test_unknown_fields_of_an_answer_are_passed_over(faulty: Faulty) -> None:
    faulty.scripts = [answer(200, {**QUEUE, "requests": [], "later": {"a": 1}})]
    assert client(faulty).queue() == answers.Queue(0, 1, 32, 1.5)


@pytest.mark.parametrize("fault", [hang_up, break_off])
def test_a_question_is_asked_again_when_its_answer_is_lost(faulty: Faulty, fault: Script) -> None:
    faulty.scripts = [fault, fault, answer(200, QUEUE)]
    assert client(faulty).queue().waiting == 1
    faulty.scripts = [fault]
    with pytest.raises(answers.ServerGone):
        client(faulty).queue()
    assert len(faulty.seen) == 6


@pytest.mark.parametrize("fault", [hang_up, break_off, answer(502, b"proxy")])
def test_what_changes_something_is_never_sent_twice_without_a_key(
    faulty: Faulty, fault: Script
) -> None:
    faulty.scripts = [fault]
    for ask in (
        lambda c: c.skip("heart__t00", "Blurred."),
        lambda c: c.next_case("first"),
        lambda c: c.segment("heart__t00"),
        lambda c: c.start_training(),
        lambda c: c.let_go("heart__t00"),
    ):
        faulty.seen.clear()
        with pytest.raises(answers.ServerGone):
            ask(client(faulty))
        assert len(faulty.seen) == 1


def test_a_submission_is_sent_again_with_the_same_key_and_bytes(faulty: Faulty) -> None:
    kept = {"image": "heart__t00", "version": 1, "who": "anna", "time": "2026", "warnings": []}
    faulty.scripts = [answer(504, b""), answer(502, b""), answer(200, kept)]
    content = bytes(range(256))
    assert client(faulty).submit(submission(label=content)).version == 1
    assert len(faulty.bodies) == 3
    for body in faulty.bodies:
        assert b'"key": "5d0c1d9e-77"' in body
        assert content in body


@pytest.mark.parametrize("fault", [wait, drip])
def test_an_answer_that_does_not_come_in_time_is_a_time_out(faulty: Faulty, fault: Script) -> None:
    """Also when bytes keep coming, so that no single wait is too long."""
    faulty.scripts = [fault]
    asked = client(faulty)
    for ask in (asked.queue, lambda: asked.image("a"), lambda: asked.segment("a")):
        start = time.monotonic()
        with pytest.raises(answers.TimedOut, match="did not answer within"):
            ask()
        assert time.monotonic() - start < SOON_S
    assert faulty.left.wait(SOON_S)


def test_an_upload_that_is_not_taken_is_given_up_in_time(faulty: Faulty) -> None:
    faulty.scripts = [deaf]
    start = time.monotonic()
    with pytest.raises(answers.ServerGone):
        client(faulty).submit(submission(label=bytes(32 << 20)))
    assert time.monotonic() - start < SOON_S


def test_a_slow_server_takes_an_upload_longer_than_connecting_may(faulty: Faulty) -> None:
    kept = {"image": "a", "version": 1, "who": "anna", "time": "2026"}

    def slow(handler: BaseHTTPRequestHandler) -> None:
        faulty.over.wait(0.5)
        answer(200, kept)(handler)

    faulty.scripts = [slow]
    patient = Timeouts(connect_s=0.2, read_s=30, transfer_s=30, pauses_s=())
    assert client(faulty, patient).submit(submission(label=bytes(32 << 20))).version == 1


class Wish:
    """A follower that wishes the end once the server was asked, or at once."""

    def __init__(self, when: threading.Event) -> None:
        self.when, self.told = when, []

    @property
    def cancelled(self) -> bool:
        return self.when.is_set()

    def report(self, fraction: float | None, sentence: str) -> None:
        self.told.append((fraction, sentence))


def requests_under_way() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "CineLabel request" and t.is_alive()]


@pytest.mark.parametrize("fault", [wait, drip])
def test_a_request_in_flight_is_cancelled_and_its_connection_closed(
    faulty: Faulty, fault: Script
) -> None:
    faulty.scripts = [fault]
    asked = client(faulty, LONG).following(Wish(faulty.asked))
    start = time.monotonic()
    with pytest.raises(Cancelled):
        asked.segment("heart__t00")
    assert time.monotonic() - start < SOON_S
    assert faulty.left.wait(SOON_S), "the server was not told"
    for thread in requests_under_way():
        thread.join(SOON_S)
        assert not thread.is_alive()


def test_an_upload_in_flight_is_cancelled(faulty: Faulty) -> None:
    faulty.scripts = [deaf]
    start = time.monotonic()
    with pytest.raises(Cancelled):
        client(faulty, LONG).following(Wish(faulty.asked)).submit(submission(label=bytes(32 << 20)))
    assert time.monotonic() - start < SOON_S


def test_a_name_that_is_never_found_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name servers that hang cannot be interrupted: the request is left behind."""
    asked, over = threading.Event(), threading.Event()

    def getaddrinfo(*_: Any, **__: Any) -> Any:
        asked.set()
        over.wait(60)
        raise socket.gaierror("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    start = time.monotonic()
    try:
        with pytest.raises(Cancelled):
            Client("https://heart.invalid", timeouts=LONG).following(Wish(asked)).queue()
        with pytest.raises(answers.TimedOut):
            Client("https://heart.invalid", timeouts=SHORT).queue()
        assert time.monotonic() - start < SOON_S
    finally:
        over.set()


def test_a_request_that_is_given_up_while_it_connects_is_never_sent(
    faulty: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    connecting, over, real = threading.Event(), threading.Event(), socket.getaddrinfo

    def getaddrinfo(*args: Any, **kwargs: Any) -> Any:
        connecting.set()
        over.wait(60)
        return real(*args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(Cancelled):
        client(faulty, LONG).following(Wish(connecting)).skip("heart__t00", "Blurred.")
    (thread,) = requests_under_way()
    over.set()
    thread.join(SOON_S)
    assert not thread.is_alive()
    assert faulty.seen == []


def test_a_server_that_is_not_there_is_told_at_once(free_port: int) -> None:
    with pytest.raises(answers.ServerGone, match=f"127.0.0.1:{free_port} cannot be reached"):
        Client(f"http://127.0.0.1:{free_port}", timeouts=SHORT).info()


def test_an_answer_without_end_is_not_kept(faulty: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "LARGEST", 1 << 20)
    faulty.scripts = [answer(200, bytes(2 << 20))]
    with pytest.raises(answers.ServerGone, match="larger than 1 MiB"):
        client(faulty, LONG).image("heart__t00")


def test_nobody_is_sent_on_to_another_address(faulty: Faulty) -> None:
    for status in (301, 302, 307, 308):
        faulty.scripts = [answer(status, b"", Location=f"{faulty.url}/elsewhere")]
        with pytest.raises(answers.ServerFault, match="sends to another address"):
            client(faulty).queue()
    assert {path for _, path in faulty.seen} == {"/queue/"}


@pytest.mark.parametrize(
    "address",
    ["", "heart", "127.0.0.1:8000", "ftp://heart", "http://", "http://a b", "http://a:99999"]
    + ["http://heart:x", "https://heart/?a=1", "https://heart#a", "http://[::1", "http://a\nb"],
)
def test_what_is_no_address_is_refused_with_an_example(address: str) -> None:
    with pytest.raises(InputError, match=r"not the address of a server.*https://heart"):
        Client(address)


def test_an_address_with_a_password_is_refused_without_repeating_it() -> None:
    with pytest.raises(InputError, match="its own field") as caught:
        Client("https://anna:hunter2@heart.example.org")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("address", ["http://heart.example.org", "http://10.0.0.7:8000"])
def test_a_token_never_travels_unprotected(address: str) -> None:
    with pytest.raises(InputError, match="unprotected") as caught:
        Client(address, TOKEN)
    assert TOKEN not in str(caught.value)
    Client(address)
    Client(address.replace("http:", "https:"), TOKEN)
    for own in ("http://127.0.0.1:8000", "http://localhost", "http://[::1]:8000"):
        Client(own, TOKEN)


@pytest.mark.parametrize("token", ["a b", "a\nb", "a\r\nX: y", "tökén", "a\x7f"])
def test_a_token_that_is_none_is_refused_without_repeating_it(token: str) -> None:
    with pytest.raises(InputError, match="Copy it again") as caught:
        Client("https://heart.example.org", token)
    assert token not in str(caught.value)


def everything_told(error: BaseException) -> str:
    """What a log or a crash report could hold of an error, our own variables included."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    ours = [repr(f.f_locals) for f in frames if "CineLabelLib" in f.f_code.co_filename]
    assert ours
    lines = traceback.format_exception(error)
    return "".join([*lines, *ours, repr(error), str(error), repr(vars(error))])


def test_nothing_of_a_token_is_in_errors_logs_or_names(
    faulty: Faulty, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    asked, errors = client(faulty), []
    echo = answer(403, {"detail": f"Authorization: Bearer {TOKEN} is not known", "cause": TOKEN})
    for fault in (hang_up, break_off, wait, answer(200, b"{"), answer(500, b""), echo):
        faulty.scripts = [fault]
        for ask in (asked.queue, lambda: asked.submit(submission()), lambda: asked.segment("a")):
            with pytest.raises(CineLabelError) as caught:
                ask()
            errors.append(caught.value)
    told = [everything_told(error) for error in errors]
    told += [repr(asked), repr(asked.timeouts), caplog.text]
    assert "queue" in caplog.text
    assert all(TOKEN not in text for text in told)


class Recording:
    """An adapter of `requests` that keeps what it is to send."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send(self, request: Any, **_: Any) -> Any:
        import requests

        self.sent.append(request)
        raise requests.ConnectionError

    def close(self) -> None: ...


def test_no_password_of_this_machine_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`requests` takes them from .netrc, even in place of a token."""
    (tmp_path / "netrc").write_text("machine heart.example.org login anna password hunter2\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for token, sent in ((None, None), (TOKEN, f"Bearer {TOKEN}")):
        adapter = Recording()
        with pytest.raises(answers.ServerGone):
            Client("https://heart.example.org", token, transport=adapter).next_case("first")  # type: ignore[arg-type]
        assert [request.headers.get("Authorization") for request in adapter.sent] == [sent]


def test_a_server_of_this_machine_is_never_asked_through_a_proxy(
    faulty: Faulty, monkeypatch: pytest.MonkeyPatch, free_port: int
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port}")
    monkeypatch.delenv("no_proxy", raising=False)
    faulty.scripts = [answer(200, QUEUE)]
    assert client(faulty).queue().waiting == 1


def test_a_proxy_that_does_not_answer_is_named(
    monkeypatch: pytest.MonkeyPatch, free_port: int
) -> None:
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{free_port}")
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(answers.ServerGone, match="proxy of this machine"):
        Client("https://heart.example.org", TOKEN, timeouts=SHORT).queue()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1 that nobody trusts, with its key in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("certificate")
    command = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext"
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(
        ["openssl", *command.split(), "subjectAltName=IP:127.0.0.1", *files],
        check=True,
        capture_output=True,
    )
    whole = folder / "both.pem"
    whole.write_text((folder / "cert.pem").read_text() + (folder / "key.pem").read_text())
    return whole


def test_a_certificate_is_verified_unless_its_authority_is_named(
    faulty: Faulty, certificate: Path
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    faulty.socket = context.wrap_socket(faulty.socket, server_side=True)
    faulty.scripts = [answer(200, QUEUE)]
    address = faulty.url.replace("http:", "https:")
    with pytest.raises(answers.ServerGone, match="certificate") as caught:
        Client(address, TOKEN, timeouts=LONG).queue()
    assert caught.value.cause == "certificate"
    assert faulty.seen == []
    authorities = certificate.with_name("cert.pem")
    trusting = Client(address, TOKEN, timeouts=LONG, authorities=authorities)
    assert trusting.queue().waiting == 1
    faulty.scripts = [wait]
    faulty.asked.clear()
    with pytest.raises(Cancelled):
        trusting.following(Wish(faulty.asked)).queue()
    assert faulty.left.wait(SOON_S)
    with pytest.raises(InputError, match="no file of certificate authorities"):
        Client(address, authorities=certificate.with_name("nothing.pem"))


PARTS = st.dictionaries(
    st.sampled_from(["params", "image", "uncertainty"]),
    st.binary() | st.sampled_from([b"\r\n", b"--", b"\r\n--\r\n\r\n", b"\r\n--b", b"\n\n"]),
    min_size=1,
)


@settings(max_examples=60, deadline=None)
@given(parts=PARTS)
def test_parts_of_an_answer_come_bit_for_bit(parts: dict[str, bytes]) -> None:
    toolbelt = pytest.importorskip("requests_toolbelt", reason="[server] is not installed")
    encoder = toolbelt.MultipartEncoder(
        {name: (f"{name}.gz", content, "application/gzip") for name, content in parts.items()}
    )
    reply = exchange.Reply(200, {"Content-Type": encoder.content_type}, encoder.to_string())
    assert parts_of(reply) == parts


@pytest.mark.parametrize(
    "reply",
    [
        SimpleNamespace(headers={"Content-Type": "application/json"}, body=b"{}"),
        SimpleNamespace(headers={}, body=b""),
        SimpleNamespace(headers={"Content-Type": "multipart/form-data"}, body=b"--x"),
    ],
)
def test_an_answer_without_parts_is_not_understood(reply: Any) -> None:
    with pytest.raises(answers.ServerFault, match="not understood"):
        parts_of(reply)


def test_a_segmentation_that_lacks_a_part_is_not_understood(faulty: Faulty) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="params"\r\n\r\n{}\r\n--x--\r\n'
    faulty.scripts = [answer(200, body, Content_Type="multipart/form-data; boundary=x")]
    with pytest.raises(answers.ServerFault, match="has no label"):
        client(faulty).segment("heart__t00")
