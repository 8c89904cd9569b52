"""What the jobs of `test_jobs.py` run, in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import Any

from cinelabel.core.errors import InputError
from cinelabel.core.files import write_json
from cinelabel.serving.work import Cancelled, Context

SLEEPER = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


def echo(request: dict[str, Any], context: Context) -> dict[str, Any]:
    """Print and return the request."""
    print(request["say"])
    context.progress("echo", 1, 1, loss=0.5)
    return {"said": request["say"], "argv": len(sys.argv), "folder": os.getcwd()}


def wait(request: dict[str, Any], context: Context) -> dict[str, Any]:
    """Wait for a file `go` beside a child of its own that nothing but SIGKILL ends."""
    child = subprocess.Popen([sys.executable, "-c", SLEEPER])
    write_json(context.folder / "pids.json", [os.getppid(), os.getpid(), child.pid])
    if request.get("stubborn"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    number = 0
    while not (context.folder / "go").exists():
        number += 1
        if request.get("stubborn"):
            time.sleep(0.02)
        else:
            context.progress("wait", number, 10**6)
            time.sleep(0.02)
    return {"waited": number}


def second_time(request: dict[str, Any], context: Context) -> dict[str, Any]:
    """Wait until killed, and end when started again."""
    marks = context.folder / "starts"
    with marks.open("a") as stream:
        stream.write("start\n")
    starts = len(marks.read_text().splitlines())
    if starts <= request.get("deaths", 1):
        return wait(request, context)
    return {"starts": starts}


def tidy(request: dict[str, Any], context: Context) -> None:
    """Go on whatever happens, but for being cancelled."""
    for number in range(10**6):
        try:
            context.progress("tidy", number, 10**6)
            time.sleep(0.02)
        except Cancelled:
            (context.folder / "tidied").touch()
            raise
        except Exception:
            print("not the class that kinds know")


def refuse(request: dict[str, Any], context: Context) -> None:
    raise InputError("is empty", where="case-7", remedy="Choose another")


def flood(request: dict[str, Any], context: Context) -> None:
    """Print far more than a pipe holds and fail, the last words without the end of a line."""
    for number in range(40000):
        print(f"line {number} " + 80 * "x")
    print("last words", end="")
    sys.stdout.flush()
    raise ZeroDivisionError("of flood")


def die(request: dict[str, Any], context: Context) -> None:
    """End at once by a signal, words without the end of a line before."""
    print("bytes that are no UTF-8:", end=" ", flush=True)
    os.write(1, b"\xff\xfe dying")
    os.kill(os.getpid(), request["signal"])


def not_json(request: dict[str, Any], context: Context) -> dict[str, Any]:
    return {"dice": float("nan")}
