from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from cinelabel.core import files
from cinelabel.core.errors import InputError, OutputError


def full_disk(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def write_half_and_fail(target, error):
    with files.atomic_write(target) as temporary:
        temporary.write_bytes(b"half")
        raise error


def write_to_full_device(target):
    with files.atomic_write(target) as temporary:
        os.symlink("/dev/full", temporary)
        with temporary.open("wb", buffering=0) as stream:
            stream.write(b"x")


def test_a_file_appears_whole_and_leaves_nothing_beside_it(tmp_path):
    target = tmp_path / "deep" / "folder" / "measures.json"
    files.write_json(target, {"lv_edv_ml": 120.5, "es": None})
    assert json.loads(target.read_text()) == {"lv_edv_ml": 120.5, "es": None}
    assert os.listdir(target.parent) == ["measures.json"]


def test_the_temporary_name_keeps_folder_and_suffixes(tmp_path):
    target = tmp_path / "label.nii.gz"
    with files.atomic_write(target) as temporary:
        assert temporary.parent == tmp_path
        assert temporary != target
        assert temporary.name.endswith(".nii.gz")
        temporary.write_bytes(b"1")
    assert target.read_bytes() == b"1"


def test_the_target_does_not_exist_before_the_writer_is_done(tmp_path):
    target = tmp_path / "label.nii"
    with files.atomic_write(target) as temporary:
        temporary.write_bytes(b"1")
        assert not target.exists()
    assert target.exists()


def test_an_older_file_survives_a_writer_that_fails(tmp_path):
    target = tmp_path / "label.nii"
    target.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError):
        write_half_and_fail(target, ZeroDivisionError)
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["label.nii"]


def test_an_interruption_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        write_half_and_fail(tmp_path / "a.txt", KeyboardInterrupt)
    assert os.listdir(tmp_path) == []


def test_a_disk_full_at_fsync_is_told_and_nothing_remains(tmp_path, monkeypatch):
    monkeypatch.setattr(files.os, "fsync", full_disk)
    target = tmp_path / "label.nii.gz"
    with pytest.raises(OutputError, match=r"label\.nii\.gz.*the disk is full"):
        files.write_text(target, "x")
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full of Linux")
def test_a_disk_full_while_writing_is_told_and_nothing_remains(tmp_path):
    target = tmp_path / "label.nii.gz"
    with pytest.raises(OutputError, match=r"label\.nii\.gz.*the disk is full"):
        write_to_full_device(target)
    assert os.listdir(tmp_path) == []


def test_a_read_only_folder_is_told_and_nothing_remains(tmp_path, monkeypatch):
    def read_only(*_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(files.os, "replace", read_only)
    with pytest.raises(OutputError, match=r"a\.txt: cannot be written, the file system is read-"):
        files.write_text(tmp_path / "a.txt", "x")
    assert os.listdir(tmp_path) == []


def test_a_file_where_a_folder_should_be_is_told(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match=r"out\.json.*not a folder"):
        files.write_json(tmp_path / "file" / "out.json", {})


def test_a_folder_where_the_file_should_be_is_told(tmp_path):
    (tmp_path / "out.json").mkdir()
    with pytest.raises(OutputError, match=r"out\.json: cannot be written, it is a folder"):
        files.write_json(tmp_path / "out.json", {})
    assert os.listdir(tmp_path) == ["out.json"]


def test_a_missing_input_is_not_taken_for_a_failed_output(tmp_path):
    with pytest.raises(FileNotFoundError), files.atomic_write(tmp_path / "a.txt"):
        (tmp_path / "input.txt").read_text()


def test_a_folder_that_cannot_be_flushed_does_not_spoil_a_whole_file(tmp_path, monkeypatch):
    fsync = os.fsync

    def only_files(descriptor):
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(descriptor)

    monkeypatch.setattr(files.os, "fsync", only_files)
    files.write_text(tmp_path / "a.txt", "x")
    assert (tmp_path / "a.txt").read_text() == "x"


def test_json_without_a_meaning_is_refused(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "a.json", {"ef": float("nan")})
    assert os.listdir(tmp_path) == []


def test_sha256_is_that_of_the_standard(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert files.sha256(tmp_path / "abc") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


def test_sha256_of_a_missing_file_names_it(tmp_path):
    with pytest.raises(InputError, match="weights.bin"):
        files.sha256(tmp_path / "weights.bin")


@pytest.mark.parametrize("name", ["phantom-1", "patient001_4d", "a.b", "...", "7"])
def test_identifiers_pass(name):
    assert files.check_identifier(name, "study name") == name


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "ä", "a\n", "..\\x"])
def test_what_is_no_identifier_is_refused(name):
    with pytest.raises(InputError, match="study name"):
        files.check_identifier(name, "study name")
