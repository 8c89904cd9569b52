"""Sentences for clients hold no path of the server's machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("monailabel", reason="the [server] extra is not installed")

from lib.http.errors import _roots, without_paths


@pytest.mark.parametrize(
    ("sentence", "told"),
    [
        ("/data/studies/x.nii.gz: is damaged.", "x.nii.gz: is damaged."),
        ("/data: cannot be listed.", "data: cannot be listed."),
        ("No such file: '/home/A B/my studies/x y.nii'.", "No such file: 'x y.nii'."),
        ('"C:\\Users\\A B\\x.nii" is damaged.', '"x.nii" is damaged.'),
        ("A dose of 3/4 and 1 / 2, and/or more.", "A dose of 3/4 and 1 / 2, and/or more."),
        ("See heart/v0001.json.", "See heart/v0001.json."),
    ],
)
def test_a_path_is_cut_to_its_last_part(sentence: str, told: str) -> None:
    assert without_paths(sentence) == told


def test_the_folders_of_a_server_are_not_told_even_with_blanks_in_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    studies, workspace = tmp_path / "my studies", tmp_path / "my workspace"
    conf = {"settings": str(workspace / "settings-8000.json")}
    monkeypatch.setenv("MONAI_LABEL_STUDIES", str(studies))
    monkeypatch.setenv("MONAI_LABEL_APP_CONF", json.dumps(conf))
    _roots.cache_clear()
    try:
        told = without_paths(f"{studies}/p 1/x.nii is newer than {workspace}; see {studies}.")
    finally:
        _roots.cache_clear()
    assert told == "p 1/x.nii is newer than my_workspace; see my_studies."
