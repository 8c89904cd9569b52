"""What the tests of the Slicer extension share: its library on the path, as in Slicer."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"

collect_ignore = ["core"]  # run inside an environment with slicer-core, by test_on_slicer_core.py

sys.path.insert(0, str(ROOT / "slicer_extension" / "CineLabel"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real examinations; tests that need it are skipped where it is absent."""
    if not (DATA / "sunnybrook").is_dir():
        pytest.skip("the examinations of ../shared/data are not here")
    return DATA


def _die_at(step: int) -> None:
    """Let this process be killed before it touches files for the `step`-th time (from 0)."""
    steps = itertools.count()
    touching = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir"}

    def on_event(event: str, _: tuple[object, ...]) -> None:
        if event in touching and next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(on_event)


def _be_killed_at(step: int, work: Callable[..., None], writer: int) -> None:
    """What the forked process does; it never returns."""
    try:
        _die_at(step)
        work(step, lambda word: os.write(writer, f"{word}\n".encode()))
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


@pytest.fixture
def killed_at_every_step() -> Callable[..., int]:
    """Do work in a process that is killed at its first step, its second, ... until it is done.

    A step is before a file or folder is opened, made, renamed or removed. `work` is called with the
    number of the trial and a function for what it has reached; `check` with the trial and what was
    reached, in the process of the test. Answers how many kills there were.
    """
    if not hasattr(os, "fork"):
        pytest.skip("processes cannot be forked here")

    def run(work: Callable[..., None], check: Callable[[int, list[str]], None]) -> int:
        for trial in itertools.count():
            reader, writer = os.pipe()
            child = os.fork()
            if child == 0:
                _be_killed_at(trial, work, writer)
            os.close(writer)
            with os.fdopen(reader) as stream:
                reached = stream.read().split()
            _, status = os.waitpid(child, 0)
            check(trial, reached)
            if os.WIFEXITED(status):
                assert os.WEXITSTATUS(status) == 0
                return trial
            assert os.WTERMSIG(status) == signal.SIGKILL

    return run


@pytest.fixture
def killed_at_a_random_moment() -> Callable[[str, random.Random], list[str]]:
    """Run Python code, kill it at a random moment, and answer the lines that it printed.

    The code prints a line, flushed, whenever it has reached something, and does not end by itself.
    """

    def run(code: str, rng: random.Random) -> list[str]:
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
            lines = [process.stdout.readline() for _ in range(rng.randint(1, 25))]
            threading.Event().wait(rng.random() * 0.02)
            process.kill()
            rest = process.stdout.read()
        assert all(lines), "the program ended by itself"
        whole = (b"".join(lines) + rest).decode()
        return whole[: whole.rfind("\n") + 1].splitlines()

    return run
