from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from CineLabelLib.core.errors import BusyError, OutputError
from CineLabelLib.locks import lock, try_lock

LIBRARY = Path(__file__).resolve().parents[2] / "slicer_extension" / "CineLabel"
HOLD = """
import sys
sys.path.insert(0, {library!r})
from pathlib import Path
from CineLabelLib.locks import lock
with lock(Path({path!r})):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_is_held_once_and_let_go_at_the_end(tmp_path):
    path = tmp_path / "new" / ".lock"
    with try_lock(path) as one, try_lock(path) as two:
        assert (one, two) == (True, False)
    with try_lock(path) as three:
        assert three


def test_a_lock_that_others_keep_is_told_in_a_sentence(tmp_path):
    path = tmp_path / ".lock"
    sentence = f"{tmp_path}: is being changed by another program. Try again."
    with lock(path), pytest.raises(BusyError) as error, lock(path, wait_s=0):
        pass
    assert str(error.value) == sentence


def test_the_lock_of_a_program_that_was_killed_is_gone(tmp_path):
    path = tmp_path / ".lock"
    code = HOLD.format(library=str(LIBRARY), path=str(path))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], text=True, **pipes) as program:
        assert program.stdout.readline() == "held\n"
        with try_lock(path) as held:
            assert not held
        program.kill()
        program.wait(60)
        with try_lock(path) as held:
            assert held


@pytest.mark.skipif(os.name == "nt", reason="Windows has another lock")
def test_a_file_system_without_locks_is_told_in_a_sentence(tmp_path, monkeypatch):
    def none(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", none)
    with (
        pytest.raises(OutputError, match="cannot be written, no locks available"),
        lock(tmp_path / ".lock"),
    ):
        pass


def test_a_folder_that_cannot_be_made_is_told_in_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"), try_lock(tmp_path / "file" / "x"):
        pass
