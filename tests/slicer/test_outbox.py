"""Submissions wait on disk: in order, whole after a kill, once each, and without a token."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from CineLabelLib.core.errors import InputError, OutputError
from CineLabelLib.outbox import Outbox, Submission

LIBRARY = Path(__file__).resolve().parents[2] / "slicer_extension" / "CineLabel"


def submission(number: int = 0, **changes) -> Submission:
    label = hashlib.sha256(str(number).encode()).digest() * 500
    own = Submission(
        address="https://host:8000",
        image=f"heart__t{number:02d}",
        study="heart",
        frame=number,
        label=label,
        sha256=hashlib.sha256(label).hexdigest(),
        label_info=("LV", "MYO", "RV"),
        base_version=None,
        model="m-1",
        comment="the apex, schräg",
        image_digest="d" * 64,
        reader="Zoë",
        made_at="2030-01-01T00:00:00+00:00",
        key=f"key-{number}",
    )
    return dataclasses.replace(own, **changes)


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    return Outbox(tmp_path / "outbox")


def waiting(outbox: Outbox) -> list[str]:
    return [entry.submission.key for entry in outbox.pending()]


def test_an_entry_without_the_one_it_follows_is_read_as_following_none(outbox):
    given = submission(1, follows="key-0")
    path = outbox.folder / outbox.put(given) / "submission.json"
    assert outbox.pending()[0].submission == given
    record = json.loads(path.read_text(encoding="utf-8"))
    del record["follows"]
    path.write_text(json.dumps(record), encoding="utf-8")
    assert outbox.pending()[0].submission == dataclasses.replace(given, follows=None)


def test_an_outbox_that_was_never_used_is_empty(outbox):
    assert (outbox.pending(), outbox.set_aside()) == ([], [])


def test_what_is_put_comes_back_byte_for_byte_and_in_order(outbox):
    given = [submission(number) for number in (3, 1, 2)]
    ids = [outbox.put(each) for each in given]
    found = Outbox(outbox.folder).pending()
    assert [entry.submission for entry in found] == given
    assert [entry.id for entry in found] == ids
    assert {(e.attempts, e.last_error, e.refused) for e in found} == {(0, None, False)}


def test_order_holds_beyond_the_tenth_and_when_earlier_ones_have_left(outbox):
    ids = [outbox.put(submission(number)) for number in range(12)]
    for name in ids[:5]:
        outbox.remove(name)
    outbox.put(submission(12))
    assert waiting(outbox) == [f"key-{number}" for number in range(5, 13)]


def test_the_same_key_is_kept_once(outbox):
    assert outbox.put(submission()) == outbox.put(submission())
    assert len(outbox.pending()) == 1


def test_removing_twice_is_no_error(outbox):
    name = outbox.put(submission())
    outbox.remove(name)
    outbox.remove(name)
    assert outbox.pending() == []
    assert [path for path in outbox.folder.iterdir() if path.is_dir()] == []


def test_an_attempt_that_failed_is_counted_and_the_entry_stays_pending(outbox):
    name = outbox.put(submission())
    outbox.failed(name, "The server is away.")
    outbox.failed(name, "It still is.")
    (entry,) = Outbox(outbox.folder).pending()
    assert (entry.attempts, entry.last_error) == (2, "It still is.")


def test_a_refused_entry_waits_for_a_person(outbox):
    first, second = outbox.put(submission(1)), outbox.put(submission(2))
    outbox.refused(first, "Somebody submitted a newer version.")
    assert [entry.id for entry in outbox.pending()] == [second]
    (entry,) = [entry for entry in outbox.entries() if entry.refused]
    assert (entry.id, entry.last_error) == (first, "Somebody submitted a newer version.")
    assert entry.submission == submission(1)
    outbox.again(first)
    assert [entry.id for entry in outbox.pending()] == [first, second]


def test_what_an_entry_began_from_can_become_a_version_of_the_server(outbox):
    first, second = outbox.put(submission(1)), outbox.put(submission(2))
    outbox.failed(second, "away")
    outbox.rebase(second, 7)
    found = outbox.pending()
    assert [entry.id for entry in found] == [first, second]
    assert found[1].submission == submission(2, base_version=7)
    assert found[1].attempts == 1


def test_noting_something_about_an_entry_that_has_left_does_not_bring_it_back(outbox):
    name = outbox.put(submission())
    outbox.remove(name)
    outbox.failed(name, "The server is away.")
    outbox.rebase(name, 1)
    assert outbox.entries() == []
    assert outbox.set_aside() == []


def test_a_log_in_in_the_address_is_not_written(outbox, tmp_path):
    for address in ("https://me:secret@host", "https://host/?token=secret"):
        with pytest.raises(InputError, match="holds a log-in") as error:
            outbox.put(submission(address=address))
        assert "secret" not in str(error.value)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if b"secret" in path.read_bytes()]


def test_no_field_of_a_submission_can_hold_a_token():
    assert not [f.name for f in dataclasses.fields(Submission) if "token" in f.name]


def test_a_label_that_is_not_what_its_digest_says_is_not_taken(outbox):
    with pytest.raises(InputError, match="heart__t00: the label is not what its digest says"):
        outbox.put(submission(label=b"another"))
    assert outbox.pending() == []


@pytest.mark.parametrize("name", ["../elsewhere", "", "a/b"])
def test_an_id_is_no_path(outbox, name):
    with pytest.raises(InputError, match="not a valid entry"):
        outbox.remove(name)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def change_a_value(path: Path) -> None:
    record = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**record, "frame": "one"}), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("label.nii.gz", cut),
        ("label.nii.gz", Path.unlink),
        ("submission.json", cut),
        ("submission.json", Path.unlink),
        ("submission.json", change_a_value),
        ("submission.json", lambda path: path.write_bytes(b"\xff\xfe")),
        ("submission.json", lambda path: path.write_text("[]")),
    ],
)
def test_a_damaged_entry_is_set_aside_with_a_sentence_and_hinders_no_other(outbox, name, harm):
    outbox.put(submission(1))
    bad = outbox.put(submission(2))
    outbox.put(submission(3))
    kept = {path.name for path in (outbox.folder / bad).iterdir()}
    harm(outbox.folder / bad / name)
    assert waiting(outbox) == ["key-1", "key-3"]
    assert waiting(outbox) == ["key-1", "key-3"]
    (sentence,) = outbox.set_aside()
    assert sentence.startswith(f"{bad}/{name}: is damaged or missing")
    assert "\n" not in sentence
    (folder,) = [path for path in (outbox.folder / "set-aside").iterdir() if path.is_dir()]
    left = {path.name for path in folder.iterdir()}
    assert left == (kept - {name} if harm is Path.unlink else kept)


def test_a_damaged_state_counts_as_never_tried(outbox):
    name = outbox.put(submission())
    outbox.failed(name, "away")
    (outbox.folder / name / "state.json").write_text("{")
    (entry,) = outbox.pending()
    assert (entry.attempts, entry.submission) == (0, submission())


def test_a_full_disk_is_told_and_leaves_nothing_half_written(outbox, monkeypatch):
    outbox.put(submission(1))

    def full(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="cannot be written, the disk is full"):
        outbox.put(submission(2))
    monkeypatch.undo()
    assert waiting(outbox) == ["key-1"]
    assert len([path for path in outbox.folder.iterdir() if path.is_dir()]) == 1


def test_one_program_sends_at_a_time(outbox):
    other = Outbox(outbox.folder)
    with outbox.sending() as mine, other.sending() as theirs:
        assert (mine, theirs) == (True, False)
        assert other.put(submission())  # while somebody sends, others can still put
    with other.sending() as theirs:
        assert theirs


def test_two_outboxes_on_one_folder_lose_nothing(outbox):
    def put(start: int) -> None:
        own = Outbox(outbox.folder)
        for number in range(start, start + 15):
            own.put(submission(number))

    threads = [threading.Thread(target=put, args=(start,)) for start in (0, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    keys = waiting(outbox)
    assert sorted(keys) == sorted(f"key-{n}" for n in (*range(15), *range(100, 115)))
    for start in (0, 100):
        own = [key for key in keys if int(key[4:]) // 100 == start // 100]
        assert own == [f"key-{number}" for number in range(start, start + 15)]


def test_a_kill_before_any_step_on_files_loses_and_tears_nothing(tmp_path, killed_at_every_step):
    def prepare(trial: int) -> None:
        Outbox(tmp_path / str(trial)).put(submission(1))

    def work(trial, reached):
        outbox = Outbox(tmp_path / str(trial))
        name = outbox.put(submission(2))
        reached("put")
        outbox.failed(name, "away")
        reached("failed")
        outbox.rebase(name, 7)
        reached("rebased")
        outbox.refused(name, "no")
        reached("refused")
        outbox.remove(name)
        reached("gone")

    def check(trial, reached):
        outbox = Outbox(tmp_path / str(trial))
        found = {entry.submission.frame: entry for entry in outbox.entries()}
        assert outbox.set_aside() == []
        for frame, entry in found.items():
            base = 7 if frame == 2 and entry.submission.base_version else None
            assert entry.submission == submission(frame, base_version=base)
            assert "rebased" not in reached or base == (7 if frame == 2 else None)
        assert 1 in found
        if "put" in reached and "refused" not in reached:
            assert found[2].attempts >= int("failed" in reached)
        elif "refused" in reached:
            assert 2 not in found or found[2].refused
            assert "gone" not in reached or 2 not in found
        outbox.put(submission(3))
        left = {path.name for path in outbox.folder.iterdir() if path.is_dir()}
        assert left == {entry.id for entry in outbox.entries()}
        prepare(trial + 1)

    prepare(0)
    assert killed_at_every_step(work, check) > 20


BURST = """
import sys
sys.path[:0] = [{library!r}, {tests!r}]
from pathlib import Path
from CineLabelLib.outbox import Outbox
from test_outbox import submission
outbox = Outbox(Path({folder!r}))
for number in range(1000):
    name = outbox.put(submission(number))
    print(f"put {{number}}", flush=True)
    if number % 3 == 0:
        outbox.failed(name, "away")
        outbox.remove(name)
        print(f"gone {{number}}", flush=True)
"""


def check_after_kill(folder: Path, rng: random.Random, kill: Callable[..., list[str]]) -> None:
    tests = str(Path(__file__).parent)
    code = BURST.format(library=str(LIBRARY), tests=tests, folder=str(folder))
    said = kill(code, rng)
    put = [int(line.split()[1]) for line in said if line.startswith("put")]
    gone = {int(line.split()[1]) for line in said if line.startswith("gone")}
    outbox = Outbox(folder)
    found = outbox.pending()
    assert outbox.set_aside() == []
    numbers = [entry.submission.frame for entry in found]
    assert numbers == sorted(numbers)
    begun = {put[-1], put[-1] + 1}  # what the kill caught halfway may be there or not
    assert set(put) - gone - begun <= set(numbers) <= (set(put) - gone) | begun
    assert [entry.submission for entry in found] == [submission(number) for number in numbers]
    outbox.put(submission(2000))
    left = {path.name for path in folder.iterdir() if path.is_dir()}
    assert left == {entry.id for entry in outbox.pending()}


@pytest.mark.parametrize("seed", range(4))
def test_a_kill_at_a_random_moment_loses_and_tears_nothing(
    tmp_path, seed, killed_at_a_random_moment
):
    check_after_kill(tmp_path / "outbox", random.Random(seed), killed_at_a_random_moment)


@pytest.mark.slow
def test_forty_kills_lose_and_tear_nothing(tmp_path, killed_at_a_random_moment):
    rng = random.Random(99)
    for _ in range(40):
        check_after_kill(tmp_path / "outbox", rng, killed_at_a_random_moment)
        shutil.rmtree(tmp_path / "outbox")
