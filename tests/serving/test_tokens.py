"""Log-in tokens: made once, kept as hashes, known at once and forgotten at once."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cinelabel.core.errors import CineLabelError, InputError, OutputError
from cinelabel.serving.tokens import Identity, Role, Tokens, require_private


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    return Tokens(tmp_path / "config" / "tokens.json")


def test_a_token_tells_who_and_in_which_role(tokens: Tokens) -> None:
    token = tokens.add("mary", Role.annotator)
    assert tokens.check(token) == Identity("mary", Role.annotator)


def test_the_file_holds_no_token_and_is_for_its_owner_alone(tokens: Tokens) -> None:
    token = tokens.add("mary", Role.reader)
    assert token not in tokens.path.read_text()
    assert token.removeprefix("cl_") not in tokens.path.read_text()
    assert stat.S_IMODE(tokens.path.stat().st_mode) == 0o600
    require_private(tokens.path)


def test_tokens_are_long_and_never_the_same(tokens: Tokens) -> None:
    made = {tokens.add(f"name-{n}", Role.reader) for n in range(20)}
    assert len(made) == 20
    assert min(len(token) for token in made) >= 43  # 256 bits in base 64


@pytest.mark.parametrize("wrong", ["", "cl_", "mary", "\x00", "ü" * 50, "\udcff", "a" * 100_000])
def test_anything_else_is_nobody(tokens: Tokens, wrong: str) -> None:
    token = tokens.add("mary", Role.admin)
    assert tokens.check(wrong) is None
    assert tokens.check(token[:-1]) is None
    assert tokens.check(token + "x") is None


def test_a_running_server_sees_what_another_process_adds_and_removes(tokens: Tokens) -> None:
    first = tokens.add("mary", Role.reader)
    assert tokens.check(first) is not None
    code = (
        "import sys; from pathlib import Path\n"
        "from cinelabel.serving.tokens import Role, Tokens\n"
        "tokens = Tokens(Path(sys.argv[1]))\n"
        "tokens.remove('mary'); print(tokens.add('john', Role.admin))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tokens.path)], capture_output=True, text=True, check=True
    )
    assert tokens.check(first) is None
    assert tokens.check(done.stdout.strip()) == Identity("john", Role.admin)


def test_nobody_is_let_in_without_the_file_or_by_a_damaged_one(tokens: Tokens) -> None:
    assert tokens.check("cl_x") is None
    token = tokens.add("mary", Role.reader)
    kept = tokens.path.read_bytes()
    tokens.path.write_bytes(kept[: len(kept) // 2])
    assert tokens.check(token) is None
    with pytest.raises(InputError, match="damaged"):
        tokens.add("john", Role.reader)
    tokens.path.write_bytes(kept)
    assert tokens.check(token) is not None


def test_a_token_ends_with_its_days(tokens: Tokens) -> None:
    token = tokens.add("mary", Role.reader, days=1)
    assert tokens.check(token) is not None
    document = json.loads(tokens.path.read_text())
    document["tokens"][0]["expires"] = "2020-01-01T00:00:00+00:00"
    tokens.path.write_text(json.dumps(document))
    assert tokens.check(token) is None
    assert [record.expired for record in tokens.records()] == [True]


@pytest.mark.parametrize(
    ("name", "days", "word"),
    [
        ("mary", None, "already"),
        ("mary smith", None, "valid name"),
        ("../x", None, "valid name"),
        ("john", 0, "one day"),
        ("john", 10**9, "too many"),
    ],
)
def test_what_cannot_be_added_changes_nothing(
    tokens: Tokens, name: str, days: int | None, word: str
) -> None:
    tokens.add("mary", Role.reader)
    before = tokens.path.read_bytes()
    with pytest.raises(CineLabelError, match=word):
        tokens.add(name, Role.reader, days)
    assert tokens.path.read_bytes() == before


def test_removing_an_unknown_name_is_refused(tokens: Tokens) -> None:
    with pytest.raises(InputError, match="no token named 'john'"):
        tokens.remove("john")


def test_many_processes_may_add_at_once(tokens: Tokens) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from cinelabel.serving.tokens import Role, Tokens\n"
        "for n in range(10): Tokens(Path(sys.argv[1])).add(f'{sys.argv[2]}-{n}', Role.reader)\n"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(tokens.path), name])
        for name in ("a", "b", "c")
    ]
    assert [process.wait(60) for process in started] == [0, 0, 0]
    assert len(tokens.records()) == 30


def test_a_file_that_others_may_read_is_told(tokens: Tokens) -> None:
    tokens.add("mary", Role.reader)
    tokens.path.chmod(0o644)
    with pytest.raises(OutputError, match="chmod 600"):
        require_private(tokens.path)


def test_a_role_may_do_what_the_lower_ones_may() -> None:
    allowed = [[role.allows(needed) for needed in Role] for role in Role]
    assert allowed == [[True, False, False], [True, True, False], [True, True, True]]
