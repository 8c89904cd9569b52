"""`cinelabel token`: a token is shown once, listed without itself, and forgotten."""

from __future__ import annotations

from pathlib import Path

import pytest
from cinelabel.cli import main as frame
from cinelabel.serving.tokens import Identity, Role, Tokens


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        frame.main(["token", *arguments])
    return int(end.value.code or 0)


def test_a_token_is_printed_once_and_known_from_then_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = ["--tokens", str(tmp_path / "tokens.json")]
    assert run("add", "mary", "--role", "admin", "--days", "30", *file) == 0
    token = capsys.readouterr().out.strip()
    assert Tokens(tmp_path / "tokens.json").check(token) == Identity("mary", Role.admin)
    assert run("list", *file) == 0
    listed = capsys.readouterr().out
    assert "mary" in listed
    assert "admin" in listed
    assert token not in listed
    assert run("remove", "mary", *file) == 0
    assert Tokens(tmp_path / "tokens.json").check(token) is None


def test_without_a_role_a_token_is_an_annotators(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("add", "mary", "--tokens", str(tmp_path / "tokens.json")) == 0
    (record,) = Tokens(tmp_path / "tokens.json").records()
    assert (record.role, record.expires) == (Role.annotator, None)


def test_the_tokens_are_kept_in_the_users_configuration_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run("add", "mary") == 0
    (file,) = tmp_path.rglob("tokens.json")
    assert len(Tokens(file).records()) == 1


def test_what_cannot_be_added_or_removed_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = ["--tokens", str(tmp_path / "tokens.json")]
    assert run("remove", "john", *file) == 2
    assert "no token named 'john'" in capsys.readouterr().err
    assert run("add", "mary smith", *file) == 2
    assert capsys.readouterr().err.count("\n") == 1
