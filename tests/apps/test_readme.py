"""The table of faults in the app's README names tests that there are, each without doubt."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

SHORTEST = 3
"""Words that name a test."""
ROOT = Path(__file__).parents[2]


def proofs() -> list[tuple[str, str]]:
    """Every file that a row names, and the words beside it."""
    text = (ROOT / "apps" / "cine" / "README.md").read_text(encoding="utf-8")
    table = text[text.index("| MONAI Label | this server | test |") :]
    cells = [row.split("|")[-2] for row in table.splitlines()[2:] if row.startswith("|")]
    return re.findall(r"`([\w/]+\.py)`(?: †)?:?([^;`]*)", "; ".join(cells))


@pytest.mark.parametrize(("file", "words"), proofs())
def test_a_row_names_a_test(file: str, words: str) -> None:
    tests = re.findall(r"def (test_\w+)", (ROOT / "tests" / file).read_text(encoding="utf-8"))
    assert tests
    for named in words.replace("†", "").split(",") if words.strip() else ():
        begins = "test_" + re.sub(r"\W+", "_", named.strip()).lower()
        assert begins.count("_") >= SHORTEST, named
        assert len([test for test in tests if f"{test}_".startswith(f"{begins}_")]) == 1, named
