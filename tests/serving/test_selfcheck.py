"""What is found before a server starts, in one sentence each."""

from __future__ import annotations

import os
import shutil
import socket
from collections import namedtuple
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("monailabel", reason="the [server] extra is not installed")

from cinelabel.core.errors import InputError
from cinelabel.models.store import BUNDLED, ModelStore
from cinelabel.serving.selfcheck import Finding, ask_dicomweb, check, require_sound, versions
from cinelabel.serving.settings import ServerSettings
from cinelabel.serving.tokens import Role, Tokens

Usage = namedtuple("Usage", "total used free")
PYTHON = (3, 11)
INSTALLED = {
    "monailabel": "0.8.5",
    "pydicom": "2.4.5",
    "numpy": "1.26.4",
    "torch": "2.14.1",
    "torchvision": "0.29.1",
}


def errors(settings: ServerSettings) -> list[str]:
    return [finding.sentence for finding in check(settings) if finding.level == "error"]


def only_error(settings: ServerSettings) -> str:
    (sentence,) = errors(settings)
    assert sentence.endswith(".")
    return sentence


def test_a_sound_machine_has_no_error_and_nothing_is_left_behind(
    settings: ServerSettings, tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert errors(settings) == []
    require_sound(check(settings))
    assert errors(replace(settings, workspace=tmp_path / "new" / "workspace")) == []
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("package", "version", "level", "words"),
    [
        ("monailabel", "0.9.0", "warning", ("0.9.0", "0.8.5", "pip install")),
        ("pydicom", "3.0.1", "error", ("3.0.1", "pydicom<3")),
        ("numpy", "2.1.0", "warning", ("2.1.0", "numpy<2")),
        ("torchvision", "0.20.1", "warning", ("2.14.1", "0.20.1")),
        ("torch", "2.14.1+cpu", "warning", ("2.14.1+cpu", "built for each other")),
    ],
)
def test_versions_that_do_not_work_together_are_named(
    package: str, version: str, level: str, words: tuple[str, ...]
) -> None:
    installed = {**INSTALLED, package: version}
    (finding,) = versions(installed.__getitem__, PYTHON)
    assert finding.level == level
    assert all(word in finding.sentence for word in words)


def test_the_versions_that_were_tested_are_fine() -> None:
    assert [finding.level for finding in versions(INSTALLED.__getitem__, PYTHON)] == ["fine"]


def test_a_python_that_monai_label_does_not_run_with_is_named() -> None:
    for python in ((3, 9), (3, 13)):
        (finding,) = versions(INSTALLED.__getitem__, python)
        assert finding.level == "error"
        assert f"{python[0]}.{python[1]}" in finding.sentence


def test_a_package_that_is_missing_is_named_with_the_line_to_type(
    settings: ServerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        if name == "torchvision":
            raise metadata.PackageNotFoundError(name)
        return INSTALLED[name]

    monkeypatch.setattr(metadata, "version", version)
    sentence = only_error(settings)
    assert "torchvision, which is not installed" in sentence
    assert "pip install 'cinelabel[server]'" in sentence


@pytest.mark.parametrize(
    ("address", "warned"),
    [
        ("http://pacs.example/dicom-web", True),
        ("https://pacs.example/dicom-web", False),
        ("http://localhost:8042/dicom-web", False),
    ],
)
def test_a_log_in_that_would_cross_the_network_as_text_is_warned_of(
    settings: ServerSettings, monkeypatch: pytest.MonkeyPatch, address: str, warned: bool
) -> None:
    of_pacs = replace(settings, studies=None, dicomweb=address)
    monkeypatch.delenv("CINELABEL_DICOMWEB_PASSWORD", raising=False)
    monkeypatch.delenv("CINELABEL_DICOMWEB_TOKEN", raising=False)
    assert not any("unencrypted" in finding.sentence for finding in check(of_pacs))
    monkeypatch.setenv("CINELABEL_DICOMWEB_TOKEN", "secret")
    found = [finding for finding in check(of_pacs) if "unencrypted" in finding.sentence]
    assert [finding.level for finding in found] == (["warning"] if warned else [])
    assert "secret" not in str(found)


def test_whether_the_dicomweb_server_answers_is_asked(
    orthanc: Any, settings: ServerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CINELABEL_DICOMWEB_USER", orthanc.user)
    monkeypatch.setenv("CINELABEL_DICOMWEB_PASSWORD", orthanc.password)
    (finding,) = ask_dicomweb(replace(settings, dicomweb=orthanc.dicomweb))
    assert (finding.level, orthanc.dicomweb in finding.sentence) == ("fine", True)
    away = replace(settings, dicomweb=f"http://127.0.0.1:{settings.port}/dicom-web")
    (finding,) = ask_dicomweb(away)
    assert finding.level == "warning"
    assert "cannot be reached" in finding.sentence
    monkeypatch.setenv("CINELABEL_DICOMWEB_PASSWORD", "wrong")
    (finding,) = ask_dicomweb(replace(settings, dicomweb=orthanc.dicomweb))
    assert "refused the log-in" in finding.sentence


@pytest.mark.parametrize(("megabytes", "level"), [(150, "error"), (3000, "warning")])
def test_little_room_is_told_and_next_to_none_refused(
    settings: ServerSettings, monkeypatch: pytest.MonkeyPatch, megabytes: int, level: str
) -> None:
    usage = Usage(10**12, 0, megabytes * 10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    found = [finding for finding in check(settings) if "free" in finding.sentence]
    assert level in {finding.level for finding in found}


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_workspace_that_cannot_be_written_is_refused(settings: ServerSettings) -> None:
    settings.workspace.chmod(0o500)
    assert "permission" in only_error(settings)


def test_a_workspace_below_a_file_is_refused(settings: ServerSettings, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "not a folder" in only_error(replace(settings, workspace=tmp_path / "file" / "w"))


def test_a_workspace_among_the_studies_is_refused(settings: ServerSettings) -> None:
    assert settings.studies is not None
    for inside in (settings.studies, settings.studies / "new" / "workspace"):
        assert "--workspace" in only_error(replace(settings, workspace=inside))
    assert list(settings.studies.iterdir()) == []


def test_a_damaged_model_is_refused_by_file(
    settings: ServerSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "models"
    shutil.copytree(ModelStore(store).load(BUNDLED).path, store / "mine")
    card = store / "mine" / "card.json"
    card.write_text(card.read_text().replace(f'"{BUNDLED}"', '"mine"'))
    monkeypatch.setenv("CINELABEL_MODELS", str(store))
    sound = replace(settings, model="mine")
    assert errors(sound) == []
    weights = next((store / "mine").glob("*.bin"))
    with weights.open("r+b") as stream:
        stream.write(b"x")
    assert weights.name in only_error(sound)


def test_a_taken_port_is_refused(settings: ServerSettings) -> None:
    with socket.socket() as other:
        other.bind((settings.host, settings.port))
        other.listen()
        assert str(settings.port) in only_error(settings)


def test_beyond_this_machine_it_takes_tls_and_a_token(
    secure: ServerSettings, tmp_path: Path
) -> None:
    tokens = Tokens(tmp_path / "tokens.json")
    open_to_all = replace(secure, host="0.0.0.0", certificate=None, key=None)
    assert len(errors(open_to_all)) == 2
    with_tls = replace(secure, host="0.0.0.0", tokens=tokens.path)
    assert "cinelabel token add" in only_error(with_tls)
    tokens.add("mary", Role.reader)
    assert errors(with_tls) == []
    assert "--tls-cert" in only_error(replace(with_tls, certificate=None, key=None))
    proxied = replace(with_tls, certificate=None, key=None, behind_proxy=True)
    assert errors(proxied) == []


def test_behind_a_proxy_tokens_are_needed_on_loopback_too(settings: ServerSettings) -> None:
    assert "--tokens" in only_error(replace(settings, behind_proxy=True))


def test_tokens_that_others_may_read_are_refused(settings: ServerSettings, tmp_path: Path) -> None:
    tokens = Tokens(tmp_path / "tokens.json")
    tokens.add("mary", Role.reader)
    tokens.path.chmod(0o640)
    assert "chmod 600" in only_error(replace(settings, tokens=tokens.path))


def test_a_certificate_and_a_key_belong_together(
    secure: ServerSettings, tmp_path: Path, certificates: Any
) -> None:
    assert errors(secure) == []
    assert "together" in only_error(replace(secure, key=None))
    (tmp_path / "other").mkdir()
    _, foreign = certificates(tmp_path / "other", "127.0.0.1")
    assert "key" in only_error(replace(secure, key=foreign))
    assert "no such file" in only_error(replace(secure, key=tmp_path / "none.pem"))
    assert secure.key is not None
    secure.key.chmod(0o644)
    warned = [finding.sentence for finding in check(secure) if finding.level == "warning"]
    assert any("chmod 600" in sentence for sentence in warned)


def test_an_encrypted_key_is_refused_without_asking_anybody(
    secure: ServerSettings, tmp_path: Path
) -> None:
    assert secure.key is not None
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(secure.key.read_bytes(), None)
    secure.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    assert "unencrypted" in only_error(secure)


def test_all_errors_are_told_at_once() -> None:
    findings = [Finding("error", "One."), Finding("warning", "Two."), Finding("error", "Three.")]
    with pytest.raises(InputError, match=r"One\. Three\."):
        require_sound(findings)
