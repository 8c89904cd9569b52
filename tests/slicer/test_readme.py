"""The table on the safety of labels in the extension's README names tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RULES = 10
SHORTEST = 3
"""Words that name a test."""


def rows() -> list[list[str]]:
    """The cells of the table's rows."""
    text = (ROOT / "slicer_extension" / "README.md").read_text(encoding="utf-8")
    table = text[text.index("| rule | what holds it | test |") :].split("\n\n")[0]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]


def proofs() -> list[tuple[str, str]]:
    """Every test that a row names: its file and its first words."""
    named = [re.findall(r"`([\w/]+\.py)`: ([^;`]+)", tests) for _, _, tests in rows()]
    return [
        (file, word.strip()) for row in named for file, words in row for word in words.split(",")
    ]


def test_each_rule_has_a_row_with_a_test() -> None:
    assert [int(rule.split()[0]) for rule, _, _ in rows()] == list(range(1, RULES + 1))
    assert all("`: " in tests for _, _, tests in rows())


@pytest.mark.parametrize(("file", "words"), proofs())
def test_a_row_names_a_test_without_doubt(file: str, words: str) -> None:
    tests = re.findall(r"def (test_\w+)", (ROOT / "tests" / file).read_text(encoding="utf-8"))
    begins = "test_" + re.sub(r"\W+", "_", words).lower()
    assert begins.count("_") >= SHORTEST
    assert len([test for test in tests if f"{test}_".startswith(f"{begins}_")]) == 1
