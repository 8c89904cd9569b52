"""The server's process: what it sets, what it logs, and that it always ends.

MONAI Label 0.8.5, sent SIGTERM 2 s after an inference of 40 s began, ended 38 s later: when the
inference was over.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import pytest

pytest.importorskip("monailabel", reason="the [server] extra is not installed")

from cinelabel.serving import process
from cinelabel.serving.process import Server, ServerError
from cinelabel.serving.settings import ServerSettings, find_app
from cinelabel.serving.tokens import Role, Tokens

DEADLINE_S = 60
STOP_S = 5.0


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < deadline
        threading.Event().wait(0.02)


def get(settings: ServerSettings, path: str, **params: str) -> httpx.Response:
    return httpx.get(f"{settings.url}{path}", params=params, trust_env=False, timeout=DEADLINE_S)


def seconds_to_end(server: Server) -> float:
    """Seconds from SIGTERM to the end of the server's process."""
    child = psutil.Process(server.pid)
    start = time.monotonic()
    os.kill(server.pid, signal.SIGTERM)
    until(lambda: child.status() == psutil.STATUS_ZOMBIE)
    return time.monotonic() - start


def test_the_app_is_given_the_settings_file_and_is_found_first(settings: ServerSettings) -> None:
    with Server(settings) as server:
        server.wait_until_ready()
        told = get(settings, "/health/live").json()
    assert ServerSettings.read(Path(told["conf"]["settings"])) == settings
    assert told["path"][0] == str(settings.app)
    assert told["folder"] == str(settings.workspace)


def test_it_shuts_down_in_order_when_nothing_is_under_way(settings: ServerSettings) -> None:
    with Server(settings) as server:
        server.wait_until_ready()
    assert (settings.workspace / "ended").exists()


def test_it_ends_within_five_seconds_while_an_inference_computes(
    settings: ServerSettings,
) -> None:
    with Server(settings) as server:
        server.wait_until_ready()

        def ask() -> None:
            with contextlib.suppress(httpx.HTTPError):
                get(settings, "/compute")

        asking = threading.Thread(target=ask)
        asking.start()
        until((settings.workspace / "computing").exists)
        seconds = seconds_to_end(server)
        asking.join(DEADLINE_S)
    print(f"ended {seconds:.1f} s after SIGTERM")
    assert seconds < STOP_S
    assert (settings.workspace / "ended").exists(), "the application was told before"


def test_it_ends_within_five_seconds_even_if_the_application_does_not(
    settings: ServerSettings,
) -> None:
    (settings.app / "stuck").touch()
    with Server(settings) as server:
        server.wait_until_ready()
        seconds = seconds_to_end(server)
    print(f"ended {seconds:.1f} s after SIGTERM")
    assert seconds < STOP_S
    assert not (settings.workspace / "ended").exists()


def test_it_ends_with_its_parent_however_that_ends(
    settings: ServerSettings, tmp_path: Path
) -> None:
    settings.write(tmp_path / "settings.json")
    code = (
        "import sys; from pathlib import Path\n"
        "from cinelabel.serving.process import Server\n"
        "from cinelabel.serving.settings import ServerSettings\n"
        "server = Server(ServerSettings.read(Path(sys.argv[1])))\n"
        "server.wait_until_ready(); print(server.pid, flush=True); server.wait()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "settings.json")],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    _, alive = psutil.wait_procs([child], DEADLINE_S)
    assert alive == []


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("ValueError('the app is broken')", "ValueError: the app"),
        ("InputError('it is closed')", "code 3: it is closed"),
    ],
)
def test_an_app_that_does_not_start_says_why(
    settings: ServerSettings, error: str, said: str
) -> None:
    (settings.app / "broken").write_text(error)
    with Server(settings) as server, pytest.raises(ServerError, match=said):
        server.wait_until_ready()


def test_what_a_server_printed_is_there_after_the_next_start_until_it_is_much(
    settings: ServerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = settings.app / "broken"
    for error, said in (("InputError('it is closed')", "closed"), ("KeyError('no')", "KeyError")):
        broken.write_text(error)
        with Server(settings) as server, pytest.raises(ServerError, match=said):
            server.wait_until_ready()
    kept = settings.output.read_text()
    assert "it is closed" in kept
    assert "KeyError" in kept
    monkeypatch.setattr(process, "OUTPUT_BYTES", 100)
    broken.write_text("InputError('at last')")
    with Server(settings) as server, pytest.raises(ServerError, match="at last"):
        server.wait_until_ready()
    assert settings.output.with_name(f"{settings.output.name}.1").read_text() == kept
    assert "it is closed" not in settings.output.read_text()


def test_settings_that_cannot_be_read_say_so(settings: ServerSettings) -> None:
    line = [sys.executable, "-m", "cinelabel.serving.start", str(settings.workspace / "none.json")]
    done = subprocess.run(line, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode != 0
    assert "the settings cannot be read" in done.stderr


def test_another_web_application_than_ours_does_not_get_the_app(settings: ServerSettings) -> None:
    """MONAI Label's own, which its own command runs, would serve it to anybody."""
    settings.write(settings.app / "settings.json")
    code = (
        "import sys; from cinelabel.serving.standins import import_monailabel\n"
        "import_monailabel()\n"
        "from monailabel.interfaces.utils.app import app_instance\n"
        "app_instance(sys.argv[1], sys.argv[2], {'settings': sys.argv[3]})\n"
    )
    given = [str(find_app()), str(settings.studies), str(settings.app / "settings.json")]
    done = subprocess.run([sys.executable, "-c", code, *given], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.endswith("Start the server with `cinelabel serve`.\n")
    assert list(settings.workspace.iterdir()) == []


def test_the_log_is_json_lines_without_names_of_studies(settings: ServerSettings) -> None:
    assert settings.studies is not None
    patient = settings.studies / "Jane Doe 1970" / "cine.nii.gz"
    with Server(settings) as server:
        server.wait_until_ready()
        get(settings, "/log", text=f"{patient}: is no image.")
    lines = [json.loads(line) for line in settings.log.read_text().splitlines()]
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
    left_out = next(line for line in lines if "Left out" in line["message"])
    assert left_out["message"].endswith(": is no image.")
    assert left_out["case"] == "c1"
    assert any("traceback" in line for line in lines)
    kept = settings.log.read_text() + settings.output.read_text()
    assert "cannot read" in kept
    assert "Jane" not in kept
    assert "chatter" not in kept


def test_with_a_certificate_it_speaks_tls_alone(secure: ServerSettings) -> None:
    assert secure.certificate is not None
    with Server(secure) as server:
        server.wait_until_ready()
        trusted = ssl.create_default_context(cafile=str(secure.certificate))
        with httpx.Client(verify=trusted, trust_env=False) as client:
            answer = client.get(f"{secure.url}/health/live")
        assert answer.status_code == 200
        assert "server" not in answer.headers
        plain = replace(secure, certificate=None, key=None)
        with pytest.raises(httpx.HTTPError):
            get(plain, "/health/live")


def test_with_tokens_the_real_app_lets_in_who_has_one_until_it_is_removed(
    secure: ServerSettings, tmp_path: Path
) -> None:
    tokens = Tokens(tmp_path / "tokens.json")
    bearer = {"Authorization": f"Bearer {tokens.add('mary', Role.reader)}"}
    with Server(replace(secure, app=find_app(), tokens=tokens.path)) as server:
        server.wait_until_ready()
        trusted = ssl.create_default_context(cafile=str(secure.certificate))
        with httpx.Client(base_url=secure.url, verify=trusted, trust_env=False) as client:
            assert client.get("/info/").status_code == 401
            assert client.get("/info/", headers=bearer).status_code == 200
            tokens.remove("mary")
            assert client.get("/info/", headers=bearer).status_code == 401


def test_forwarded_addresses_are_believed_behind_a_proxy_only(settings: ServerSettings) -> None:
    for behind_proxy, seen in ((False, "127.0.0.1"), (True, "192.0.2.7")):
        with Server(replace(settings, behind_proxy=behind_proxy)) as server:
            server.wait_until_ready()
            headers = {"X-Forwarded-For": "192.0.2.7"}
            url = f"{settings.url}/health/live"
            assert httpx.get(url, headers=headers, trust_env=False).json()["client"] == seen
