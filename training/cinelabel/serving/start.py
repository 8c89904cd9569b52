"""The server's own process: `python -m cinelabel.serving.start SETTINGS.json`.

Tells MONAI Label where the app lies, then runs the web application `lib.server:app` of the app's
folder. MONAI Label's settings are environment variables, so they are set before anything of it is
imported.
"""

from __future__ import annotations

import argparse
import json
import logging.config
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import uvicorn

from cinelabel.serving.logs import log_config
from cinelabel.serving.settings import SETTINGS_KEY, ServerSettings
from cinelabel.serving.standins import import_monailabel

logger = logging.getLogger("cinelabel.serving")

WEB_APPLICATION = "lib.server:app"
FINISH_S = 1
"""Seconds that requests under way have to finish after SIGTERM."""
END_S = 4.5
"""Seconds after SIGTERM at which the process ends, whatever it is doing."""


class EndingServer(uvicorn.Server):
    """uvicorn's server, which ends a few seconds after SIGTERM even if a thread still computes."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.should_exit:
            timer = threading.Timer(END_S, os._exit, (1,))
            timer.daemon = True
            timer.start()
        super().handle_exit(sig, frame)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the server until a signal; with `--end-with-stdin` also until standard input closes.

    Raises:
        InputError: the settings cannot be read.
        SystemExit: 3 if the application does not start.
    """
    parser = argparse.ArgumentParser(prog="python -m cinelabel.serving.start")
    parser.add_argument("settings", type=Path)
    parser.add_argument("--end-with-stdin", action="store_true")
    given = parser.parse_args(arguments)
    if given.end_with_stdin:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    path = given.settings.resolve()
    settings = ServerSettings.read(path)
    settings.log.parent.mkdir(parents=True, exist_ok=True)
    logging.config.dictConfig(log_config(settings))
    logging.captureWarnings(True)
    os.environ.update(environment(settings, path))
    sys.path[0] = str(settings.app)  # was the folder the server was started in
    import_monailabel()
    run(settings)


def environment(settings: ServerSettings, path: Path) -> dict[str, str]:
    """What MONAI Label reads to find the app, whose settings are kept in the file `path`."""
    return {
        "MONAI_LABEL_APP_DIR": str(settings.app),
        "MONAI_LABEL_STUDIES": str(settings.studies or settings.dicomweb),
        "MONAI_LABEL_APP_CONF": json.dumps({SETTINGS_KEY: str(path)}),
        "MONAI_LABEL_RELOAD_APP_LIB": "false",  # our web application is of `lib`, too
    }


def run(settings: ServerSettings) -> None:
    """Serve until a signal. Raises SystemExit(3) if the application does not start."""
    config = uvicorn.Config(
        WEB_APPLICATION,
        host=settings.host,
        port=settings.port,
        ssl_certfile=settings.certificate,
        ssl_keyfile=settings.key,
        lifespan="on",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=settings.behind_proxy,
        timeout_graceful_shutdown=FINISH_S,
    )
    server = EndingServer(config)
    server.run()
    if not server.started:
        sys.exit(3)


def _end_with_stdin() -> None:
    """Wait until whoever started the server closes its end of the pipe, or dies, then stop."""
    while os.read(0, 1024):  # sys.stdin would abort an interpreter that ends meanwhile
        pass
    if os.name == "posix":
        os.kill(os.getpid(), signal.SIGTERM)  # interrupts the main thread, whatever it waits for
    else:
        signal.raise_signal(signal.SIGTERM)  # os.kill would end the process at once


if __name__ == "__main__":
    main()
