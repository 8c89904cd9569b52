"""Versions are found, verified, put in use and rolled back; nothing in them ever changes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
from cinelabel.core.errors import ModelError
from cinelabel.models.store import BUNDLED_FOLDER, ModelStore, default_root


def test_the_store_is_imported_without_torch_and_openvino():
    code = (
        "import sys, cinelabel.models, cinelabel.models.store, cinelabel.models.card;"
        "sys.exit('torch' in sys.modules or 'openvino' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_own_and_bundled_versions_are_listed(store):
    assert store.versions() == ["a-1", "phantom-2"]
    assert [store.is_bundled(name) for name in store.versions()] == [False, True]


def test_a_store_that_does_not_exist_yet_shows_the_bundled_versions(store, tmp_path):
    fresh = ModelStore(tmp_path / "absent", bundled=store.bundled)
    assert fresh.versions() == ["phantom-2"]
    assert fresh.load().name == "phantom-2"
    assert not fresh.root.exists()


def test_every_version_in_the_package_holds(tmp_path):
    packaged = ModelStore(tmp_path)
    for name in packaged.versions():
        packaged.load(name).verify()


def test_the_bundled_version_wins_over_one_of_the_same_name(store):
    shutil.copytree(store.bundled / "phantom-2", store.root / "phantom-2")
    assert store.load("phantom-2").path == store.bundled / "phantom-2"


def test_the_bundled_version_is_in_use_until_another_is_chosen_and_after_a_roll_back(store):
    assert store.current() == "phantom-2"
    store.use("a-1")
    assert store.current() == "a-1"
    assert ModelStore(store.root, bundled=store.bundled).load().name == "a-1"
    store.use("phantom-2")
    assert store.load().name == "phantom-2"


def test_an_unknown_version_is_refused_and_the_known_ones_are_listed(store):
    for action in (store.load, store.use):
        with pytest.raises(ModelError, match="'b-2'. Known versions: a-1, phantom-2"):
            action("b-2")
    assert store.current() == "phantom-2"


def test_a_version_in_use_that_is_gone_is_said_with_the_way_out(store):
    store.use("a-1")
    shutil.rmtree(store.root / "a-1")
    with pytest.raises(ModelError, match="'a-1', is not in the store. .*models use phantom-2"):
        store.load()
    store.use("phantom-2")
    assert store.load().name == "phantom-2"


@pytest.mark.parametrize("kind", ["safetensors", "openvino_xml", "openvino_bin"])
def test_a_damaged_file_is_named_when_it_is_asked_for(store, kind):
    version = store.load("a-1")
    path = version.path / version.member("seg").files[kind]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match=f"{path.name}: a file of the model is damaged"):
        version.file("seg", kind)
    with pytest.raises(ModelError, match=path.name):
        version.verify()
    version.file("loc", kind)


def test_a_missing_file_is_named(store):
    (store.root / "a-1" / "loc.bin").unlink()
    with pytest.raises(ModelError, match="loc.bin: a file of the model is missing"):
        store.load("a-1").file("loc", "openvino_bin")


def test_a_damaged_version_is_not_put_in_use(store):
    (store.root / "a-1" / "seg.xml").write_text("<net/>")
    with pytest.raises(ModelError, match=r"seg.xml"):
        store.use("a-1")
    assert store.current() == "phantom-2"


def test_files_are_given_for_a_member_or_its_name(store):
    version = store.load("a-1")
    by_name = version.file("seg", "openvino_xml")
    assert by_name == version.file(version.member("seg"), "openvino_xml")
    assert by_name == store.root / "a-1" / "seg.xml"


def test_an_unknown_member_is_refused_and_the_known_ones_are_listed(store):
    with pytest.raises(ModelError, match="no member 'x'. Known: seg, loc"):
        store.load("a-1").file("x", "openvino_xml")


def test_a_renamed_folder_is_not_taken_for_the_version(store):
    (store.root / "a-1").rename(store.root / "a-2")
    with pytest.raises(ModelError, match="the card is that of version 'a-1'"):
        store.load("a-2")


def test_folders_without_a_card_and_half_written_ones_are_no_versions(store):
    (store.root / "empty").mkdir()
    shutil.copytree(store.root / "a-1", store.root / ".partial-a-2-abcd")
    assert store.versions() == ["a-1", "phantom-2"]


def test_the_environment_names_the_store(tmp_path, monkeypatch):
    monkeypatch.setenv("CINELABEL_MODELS", str(tmp_path / "mine"))
    assert ModelStore().root == tmp_path / "mine"
    monkeypatch.delenv("CINELABEL_MODELS")
    assert default_root().name == "models"
    assert "CineLabel" in default_root().parts
    assert ModelStore().bundled == BUNDLED_FOLDER


def test_the_pointer_is_a_line_a_person_can_read(store):
    store.use("a-1")
    assert (store.root / "current").read_text() == "a-1\n"


def test_a_card_is_plain_json(store):
    card = json.loads((store.root / "a-1" / "card.json").read_text())
    assert card["provenance"] == {"seed": 0}
    assert card["metrics"] == {"toy": {"dice": 0.5}}
    assert "Not a medical device" in card["intended_use"]


@pytest.fixture
def three(store):
    """The store with `a-1`, `b-1` and `c-1`; `c-1` was fine-tuned from `b-1`."""
    for name, parent in (("b-1", "a-1"), ("c-1", "b-1")):
        shutil.copytree(store.root / "a-1", store.root / name)
        card = store.root / name / "card.json"
        values = json.loads(card.read_text()) | {"version": name, "parent": parent}
        card.write_text(json.dumps(values))
    return store


def used(store):
    return [(use.version, use.rolled_back) for use in store.history()]


def test_rolling_back_again_goes_further_back_until_there_is_nothing_before(three):
    for name in ("a-1", "b-1", "a-1", "c-1"):
        three.use(name, "anna", "it is better")
    found = []
    for _ in range(4):
        assert three.before() == three.roll_back("berta", "it was not").name
        found.append(three.current())
    assert found == ["a-1", "b-1", "a-1", "phantom-2"]
    assert three.before() is None
    with pytest.raises(ModelError, match="no other version was in use before"):
        three.roll_back()
    assert three.current() == "phantom-2"


def test_after_a_roll_back_what_is_used_next_stands_on_what_was_rolled_back_to(three):
    three.use("a-1")
    three.use("b-1")
    three.roll_back()
    three.use("c-1")
    assert three.roll_back().name == "a-1"
    assert three.roll_back().name == "phantom-2"


def test_the_history_tells_who_put_what_in_use_and_why(three):
    three.use("b-1", "anna", "for the new scanner")
    three.use("b-1", "anna", "twice is once")
    three.roll_back("berta", "it fails at the apex")
    found = [(use.version, use.who, use.why, use.rolled_back) for use in three.history()]
    assert found == [
        ("b-1", "anna", "for the new scanner", False),
        ("phantom-2", "berta", "it fails at the apex", True),
    ]
    assert all(use.time.endswith("+00:00") for use in three.history())


def test_versions_that_are_gone_are_passed_over_on_the_way_back(three):
    for name in ("a-1", "b-1", "c-1"):
        three.use(name)
    shutil.rmtree(three.root / "b-1")
    assert three.roll_back().name == "a-1"


def test_a_damaged_version_is_not_rolled_back_to(three):
    three.use("a-1")
    three.use("b-1")
    (three.root / "a-1" / "seg.xml").write_text("<net/>")
    with pytest.raises(ModelError, match=r"seg.xml"):
        three.roll_back()
    assert three.current() == "b-1"


def test_a_kill_between_pointer_and_history_loses_nothing(three, monkeypatch):
    three.use("a-1")

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("cinelabel.models.store.write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            three.use("b-1")
    assert three.current() == "b-1"
    assert used(three) == [("a-1", False), ("b-1", False)]
    three.use("c-1")
    assert used(three) == [("a-1", False), ("b-1", False), ("c-1", False)]
    assert three.roll_back().name == "b-1"


def test_a_pointer_that_another_program_wrote_or_removed_is_an_entry_too(three):
    (three.root / "current").write_text("a-1\n")
    assert used(three) == [("a-1", False)]
    assert three.roll_back().name == "phantom-2"
    three.use("b-1")
    (three.root / "current").unlink()
    assert used(three)[-1] == ("phantom-2", False)
    assert three.roll_back().name == "b-1"


def test_a_challenger_takes_the_place_of_its_parent_alone(three):
    assert not three.promote("c-1")
    assert three.current() == "phantom-2"
    three.use("b-1")
    assert three.promote("c-1", why="it is better")
    assert three.current() == "c-1"


def test_a_challenger_that_was_rolled_back_is_not_promoted_again(three):
    three.use("b-1")
    three.promote("c-1")
    three.roll_back()
    assert not three.promote("c-1")
    assert three.current() == "b-1"


def test_a_history_that_cannot_be_read_says_what_to_do(three):
    three.use("a-1")
    (three.root / "history.json").write_text('{"uses": 5}')
    with pytest.raises(ModelError, match=r"history.json: .*Remove the file"):
        three.history()
    assert three.current() == "a-1"


def test_programs_that_put_versions_in_use_at_once_lose_none_of_them(three):
    code = (
        "import sys; from pathlib import Path; from cinelabel.models.store import ModelStore\n"
        "store = ModelStore(Path(sys.argv[1]), bundled=Path(sys.argv[2]))\n"
        "for _ in range(10): store.use(sys.argv[3]); store.use('a-1')"
    )
    folders = [str(three.root), str(three.bundled)]
    programs = [
        subprocess.Popen([sys.executable, "-c", code, *folders, name]) for name in ("b-1", "c-1")
    ]
    assert [program.wait(120) for program in programs] == [0, 0]
    history = [use.version for use in three.history()]
    assert all(one != next_ for one, next_ in zip(history, history[1:], strict=False))
    assert {history.count("b-1"), history.count("c-1")} == {10}
    assert three.current() == history[-1] == "a-1"
