"""What a server is started with, there and back through its file."""

from __future__ import annotations

from pathlib import Path

import pytest
from cinelabel.core.errors import InputError
from cinelabel.serving.settings import ServerSettings, workspace_of


def test_settings_come_back_from_their_file_as_they_were(tmp_path: Path) -> None:
    settings = ServerSettings(
        studies=tmp_path / "studies",
        workspace=tmp_path,
        host="0.0.0.0",
        tokens=tmp_path / "tokens.json",
        fast=True,
    )
    settings.write(tmp_path / "settings.json")
    assert ServerSettings.read(tmp_path / "settings.json") == settings


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "json"),
        ('{"studies": null, "workspace": "/w", "colour": 1}', "colour"),
        ('{"studies": null, "workspace": "/w", "port": "many"}', "port"),
    ],
)
def test_settings_that_are_wrong_are_refused_by_name(tmp_path: Path, text: str, word: str) -> None:
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(InputError, match=word):
        ServerSettings.read(tmp_path / "settings.json")


def test_missing_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        ServerSettings.read(tmp_path / "settings.json")


def test_a_workspace_is_of_its_studies_or_of_its_dicomweb_server(tmp_path: Path) -> None:
    addresses = ("https://pacs.example/dicom-web", "https://pacs.example:8043/dicom-web")
    found = {workspace_of(tmp_path, None), *(workspace_of(None, each) for each in addresses)}
    assert len(found) == 3
    assert workspace_of(None, addresses[0]) in found


@pytest.mark.parametrize(
    ("host", "behind_proxy", "needed"),
    [
        ("127.0.0.1", False, False),
        ("127.0.0.2", False, False),
        ("localhost", False, False),
        ("::1", False, False),
        ("127.0.0.1", True, True),
        ("0.0.0.0", False, True),
        ("::", False, True),
        ("192.168.1.7", False, True),
        ("localhost.example", False, True),
    ],
)
def test_tokens_are_needed_wherever_another_machine_gets_through(
    tmp_path: Path, host: str, behind_proxy: bool, needed: bool
) -> None:
    settings = ServerSettings(tmp_path, tmp_path, host=host, behind_proxy=behind_proxy)
    assert settings.needs_tokens is needed


def test_the_address_for_clients_of_this_machine_can_be_typed(tmp_path: Path) -> None:
    assert ServerSettings(tmp_path, tmp_path, host="0.0.0.0", port=1).url == "http://127.0.0.1:1"
    assert ServerSettings(tmp_path, tmp_path, host="::1", port=1).url == "http://[::1]:1"
    secure = ServerSettings(tmp_path, tmp_path, host="a", port=1, certificate=tmp_path)
    assert secure.url == "https://a:1"
