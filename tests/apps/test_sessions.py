"""Images that clients bring along: kept an hour, under names of our own, and never for good."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from cinelabel.core.errors import InputError
from lib.sessions import EXPIRY_S, META, MOST_SESSIONS, Sessions
from lib.uploads import STALE_S, remove_left_behind


@pytest.fixture
def sessions(tmp_path: Path) -> Sessions:
    return Sessions(tmp_path / "sessions")


def received(tmp_path: Path, count: int = 1) -> list[Path]:
    files = [tmp_path / f"received-{number}" for number in range(count)]
    for file in files:
        file.write_bytes(b"content")
    return files


def aged(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_a_session_has_none_of_its_clients_names(sessions: Sessions, tmp_path: Path) -> None:
    kept = sessions.add([("../../Smith^John.nii.gz", received(tmp_path)[0])])
    assert sessions.image(kept).read_bytes() == b"content"
    assert sessions.image(kept).relative_to(tmp_path / "sessions").parts == (
        kept.name,
        "image.nii.gz",
    )
    assert sessions.get(kept.name) == kept


def test_the_files_of_a_dicom_study_lie_in_one_folder(sessions: Sessions, tmp_path: Path) -> None:
    files = received(tmp_path, 3)
    kept = sessions.add([(f"IM{number}", file) for number, file in enumerate(files)])
    assert len(list(sessions.image(kept).iterdir())) == 3


@pytest.mark.parametrize("name", ["..", "", "nobody", "x" * 5000, "../sessions", "\0"])
def test_a_name_that_is_none_finds_nothing(sessions: Sessions, tmp_path: Path, name: str) -> None:
    sessions.add([("x.nii", received(tmp_path)[0])])
    assert sessions.get(name) is None


def test_a_session_ends_when_nobody_uses_it(sessions: Sessions, tmp_path: Path) -> None:
    used, unused = (
        sessions.add([("x.nii", received(tmp_path)[0])], expiry=seconds) for seconds in (3, 1)
    )
    deadline = time.monotonic() + 20
    while sessions.get(unused.name) and time.monotonic() < deadline:
        sessions.touch(used)
        sessions.remove_expired()
    assert sessions.get(unused.name) is None
    assert sessions.get(used.name) is not None


def test_a_session_whose_time_is_over_is_not_found_before_it_is_removed_either(
    sessions: Sessions, tmp_path: Path
) -> None:
    kept = sessions.add([("x.nii", received(tmp_path)[0])], expiry=60)
    aged(tmp_path / "sessions" / kept.name / META, 61)
    assert sessions.image(kept).exists()
    assert sessions.get(kept.name) is None
    sessions.remove_expired()
    assert not sessions.image(kept).exists()


def test_using_a_session_that_was_removed_does_not_bring_it_back(
    sessions: Sessions, tmp_path: Path
) -> None:
    kept = sessions.add([("x.nii", received(tmp_path)[0])])
    sessions.remove(kept)
    sessions.touch(kept)
    assert list((tmp_path / "sessions").iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="rights of files are another thing there")
def test_nobody_else_of_this_machine_may_look_into_a_session(
    sessions: Sessions, tmp_path: Path
) -> None:
    kept = sessions.add([("x.nii", received(tmp_path)[0])])
    assert (tmp_path / "sessions" / kept.name).stat().st_mode & 0o077 == 0


def test_what_a_killed_server_left_is_removed_after_an_hour(
    sessions: Sessions, tmp_path: Path
) -> None:
    places = [tmp_path / kind / age for kind in ("sessions", "uploads") for age in ("old", "new")]
    for place in places:
        place.mkdir(parents=True)
        aged(place, EXPIRY_S + STALE_S if place.name == "old" else 0)
    sessions.remove_expired()
    remove_left_behind(tmp_path / "uploads")
    assert [place for place in places if place.exists()] == [p for p in places if p.name == "new"]


def test_there_are_only_so_many_sessions(sessions: Sessions, tmp_path: Path) -> None:
    for _ in range(MOST_SESSIONS):
        sessions.add([("x.nii", received(tmp_path)[0])])
    with pytest.raises(InputError, match="sessions already"):
        sessions.add([("x.nii", received(tmp_path)[0])])
