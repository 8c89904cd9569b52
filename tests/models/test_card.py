"""Cards are read strictly: what this version does not know, or would lead astray, is refused."""

from __future__ import annotations

import json

import pytest
from cinelabel.core.errors import ModelError
from cinelabel.models.card import read_card
from cinelabel.networks.specs import NetworkSpec


@pytest.fixture
def card(store):
    """The card of a version as plain values, and a function that reads changed values."""
    path = store.root / "a-1" / "card.json"

    def read(values):
        path.write_text(json.dumps(values))
        return read_card(path)

    return json.loads(path.read_text()), read


def test_a_card_says_all_that_is_needed_to_build_a_member_again(card):
    values, read = card
    member = read(values).members[0]
    assert member.spec == NetworkSpec(features=(4, 8, 12), decoder_convs_per_stage=1)
    assert member.preprocessing == {"spacing_mm": 1.5}
    assert set(member.sha256) == set(member.files.values())


def test_a_card_of_a_later_schema_is_refused(card):
    values, read = card
    with pytest.raises(ModelError, match="schema 2, this version knows 1. Update CineLabel"):
        read(values | {"schema_version": 2})


def test_an_unknown_family_is_refused_naming_the_card(card):
    values, read = card
    values["members"][0]["network"]["family"] = "vnet"
    with pytest.raises(ModelError, match="card.json: unknown network family 'vnet'"):
        read(values)


@pytest.mark.parametrize("name", ["../seg.xml", "/etc/passwd", "a/b", "..", "", "c:\\x"])
def test_file_names_that_leave_the_folder_are_refused(card, name):
    values, read = card
    member = values["members"][0]
    member["sha256"][name] = member["sha256"].pop(member["files"]["openvino_xml"])
    member["files"]["openvino_xml"] = name
    with pytest.raises(ModelError, match="not a plain name"):
        read(values)


def test_every_file_must_have_a_checksum_and_every_form_a_file(card):
    values, read = card
    member = values["members"][0]
    digest = member["sha256"].pop("seg.bin")
    with pytest.raises(ModelError, match="one checksum a file"):
        read(values)
    member["sha256"]["seg.bin"] = digest
    del member["files"]["openvino_bin"]
    with pytest.raises(ModelError, match="files must be"):
        read(values)


def test_weights_and_the_fast_member_are_read_and_need_not_be_there(card):
    values, read = card
    assert read(values).fast is None
    for member in values["members"]:
        del member["weight"]
    del values["fast"]
    assert [member.weight for member in read(values).members] == [1.0, 1.0]
    values["members"][0]["weight"] = 0.25
    changed = read(values | {"fast": "seg"})
    assert (changed.members[0].weight, changed.fast) == (0.25, "seg")


@pytest.mark.parametrize("weight", [0.0, -1.0, "nan"])
def test_a_weight_that_is_not_positive_is_refused(card, weight):
    values, read = card
    values["members"][0]["weight"] = weight
    with pytest.raises(ModelError, match="weight"):
        read(values)


@pytest.mark.parametrize("name", ["loc", "nobody"])
def test_a_fast_member_that_does_not_segment_is_refused(card, name):
    values, read = card
    with pytest.raises(ModelError, match=f"fast member '{name}' is none that segments"):
        read(values | {"fast": name})


def test_members_must_differ_in_name(card):
    values, read = card
    values["members"] = [values["members"][0]] * 2
    with pytest.raises(ModelError, match="names and files of their own"):
        read(values)


@pytest.mark.parametrize("key", ["members", "licence", "provenance", "intended_use"])
def test_a_card_that_lacks_a_key_is_refused_naming_it(card, key):
    values, read = card
    del values[key]
    with pytest.raises(ModelError, match=f"'{key}'"):
        read(values)


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff\xfe", b""])
def test_a_file_that_is_no_card_is_refused(tmp_path, content):
    path = tmp_path / "card.json"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="card.json: "):
        read_card(path)
