"""A DICOMweb server that hangs, dawdles, errs or breaks off costs a sentence, and nothing else."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

pytest.importorskip("dicomweb_client", reason="the [server] extra is not installed")

from cinelabel.core.errors import InputError
from cinelabel.studies.dicomweb import Mirror
from cinelabel.studies.dicomweb_address import check_url
from cinelabel.studies.pacs import Credentials, Limits

QUICK = Limits(connect_s=0.5, read_s=0.3, answer_s=1.0, answer_mb=1, stack_s=5.0)
Answer = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], str]]:
    """Start a server that answers every request with a function; its address."""
    started: list[ThreadingHTTPServer] = []

    def start(answer: Answer) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer(self)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
        started.append(server)
        return f"http://127.0.0.1:{server.server_port}/dicom-web"

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


def reply(
    handler: BaseHTTPRequestHandler, body: bytes, kind: str = "application/dicom+json"
) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def html(handler: BaseHTTPRequestHandler) -> None:
    reply(handler, b"<html>Please log in</html>", "text/html")


def wrong_json(handler: BaseHTTPRequestHandler) -> None:
    reply(handler, b'[{"0020000E": 7}]')


def status_500(handler: BaseHTTPRequestHandler) -> None:
    handler.send_error(500)


def half_an_answer(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "application/dicom+json")
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"[{")


def no_answer(handler: BaseHTTPRequestHandler) -> None:
    handler.rfile.read(1)


def drop_by_drop(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(b" ")
            time.sleep(0.1)
    except OSError:
        pass


def endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(b" " * 100_000)
    except OSError:
        pass


def round_trip_forever(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(302)
    handler.send_header("Location", handler.path)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (html, "is no JSON"),
        (wrong_json, "is no DICOMweb"),
        (status_500, "status 500"),
        (half_an_answer, "broke off"),
        (no_answer, "in time"),
        (drop_by_drop, "in time"),
        (endless, "broke off"),
        (round_trip_forever, "broke off"),
    ],
)
def test_a_server_that_misbehaves_is_a_problem_of_one_round(serve, tmp_path, answer, sentence):
    mirror = Mirror(serve(answer), tmp_path / "m", limits=QUICK, settle_s=0)
    began = time.monotonic()
    (problem,) = mirror.sync().problems
    assert sentence in problem
    assert time.monotonic() - began < 10  # its limits are a second; a machine may be busy


def test_a_server_that_accepts_and_never_answers_neither_blocks_nor_outlives_the_watch(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/dicom-web"
        mirror, stop = Mirror(url, tmp_path / "m", limits=QUICK), threading.Event()
        thread = threading.Thread(target=mirror.watch, args=(0.1, stop))
        thread.start()
        assert mirror.report.stacks == ()  # asked while the round waits
        wait_until(lambda: bool(mirror.problems))
        stop.set()
        thread.join(10)
    assert not thread.is_alive()
    assert "did not answer a search in time" in mirror.problems[0]


def test_nobody_there_is_a_problem(tmp_path):
    mirror = Mirror("http://127.0.0.1:9/dicom-web", tmp_path / "m", limits=QUICK)
    assert "cannot be reached" in mirror.sync().problems[0]


def test_a_server_that_errs_and_recovers_is_asked_again(serve, tmp_path):
    answers = iter([status_500, lambda handler: reply(handler, b"[]")])
    mirror = Mirror(serve(lambda handler: next(answers)(handler)), tmp_path / "m", limits=QUICK)
    assert mirror.sync().problems != ()
    assert mirror.sync().problems == ()


def test_a_server_that_knows_no_pages_is_not_asked_for_ever(serve, tmp_path):
    found = [uid_json("1.2", f"1.2.{number}") for number in range(3)]
    asked: list[str] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        reply(handler, json.dumps(found if "metadata" not in handler.path else []).encode())

    report = Mirror(serve(answer), tmp_path / "m", limits=QUICK, settle_s=0).sync()
    assert report.problems == ()
    assert len([path for path in asked if "metadata" not in path]) == 2


def test_one_bad_study_does_not_keep_the_others_away(serve, tmp_path):
    def answer(handler: BaseHTTPRequestHandler) -> None:
        study = re.search(r"studies/([0-9.]+)/", handler.path)
        if study is None:
            offset = "offset=0" in handler.path or "offset" not in handler.path
            found = [uid_json(f"1.{number}", f"1.{number}.1") for number in range(2)]
            reply(handler, json.dumps(found if offset else []).encode())
        elif study[1] == "1.0":
            status_500(handler)
        else:
            size = {"vr": "US", "Value": [5]}
            reply(handler, json.dumps([{"00280010": size, "00280011": size}]).encode())

    report = Mirror(serve(answer), tmp_path / "m", limits=QUICK, settle_s=0).sync()
    assert len(report.problems) == 1
    assert len(report.left_out) == 1


def test_an_address_with_a_password_is_refused_without_repeating_it():
    with pytest.raises(InputError, match="CINELABEL_DICOMWEB_PASSWORD") as caught:
        check_url("http://user:geheim@host/dicom-web")
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["host:8042", "ftp://host/x", "http://", "file:///etc", "http://[x"]
)
def test_what_is_no_address_is_refused(url):
    with pytest.raises(InputError, match="is no address"):
        check_url(url)


def test_credentials_come_from_the_environment():
    environment = {"CINELABEL_DICOMWEB_USER": "u", "CINELABEL_DICOMWEB_PASSWORD": "p"}
    assert Credentials.from_environment(environment) == Credentials("u", "p")
    assert Credentials.from_environment({"CINELABEL_DICOMWEB_TOKEN": "t"}).token == "t"


def test_a_token_is_sent_as_a_bearer(serve, tmp_path):
    seen: list[str | None] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        seen.append(handler.headers["Authorization"])
        reply(handler, b"[]")

    credentials = Credentials(token="t")
    Mirror(serve(answer), tmp_path / "m", limits=QUICK, credentials=credentials).sync()
    assert seen[0] == "Bearer t"


def uid_json(study: str, series: str) -> dict[str, object]:
    return {
        "0020000D": {"vr": "UI", "Value": [study]},
        "0020000E": {"vr": "UI", "Value": [series]},
        "00201209": {"vr": "IS", "Value": [1]},
    }


def wait_until(holds: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
