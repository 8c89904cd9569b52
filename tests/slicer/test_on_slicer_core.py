"""What touches MRML holds on the cores of 3D Slicer: tests/slicer/core in an environment each."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import environments


def run_tests(version: str, *arguments: str) -> None:
    """Run the tests inside an environment; what failed is shown as that pytest showed it."""
    try:
        done = environments.run_pytest(version, *arguments)
    except environments.EnvironmentMissing as error:
        pytest.fail(str(error), pytrace=False)
    if done.returncode:
        pytest.fail(f"slicer-core {version}, exit {done.returncode}\n{done.stdout}", pytrace=False)


def test_the_scene_keeps_labels_safe_on_the_stable_core() -> None:
    run_tests(environments.DEFAULT)


@pytest.mark.slow
@pytest.mark.parametrize("version", environments.VERSIONS)
def test_the_scene_keeps_labels_safe_on_every_core_slow_tests_included(version: str) -> None:
    run_tests(version, "-m", "")


def test_an_unknown_version_is_refused_with_the_known_ones() -> None:
    with pytest.raises(environments.EnvironmentMissing, match="4.11 is not tested. Choose one of"):
        environments.make("4.11")


def test_an_environment_that_is_complete_is_not_made_again() -> None:
    made = environments.make(environments.DEFAULT)
    stamp = environments.FOLDER / environments.DEFAULT / "complete.txt"
    before = stamp.stat().st_mtime_ns
    assert environments.make(environments.DEFAULT) == made
    assert stamp.stat().st_mtime_ns == before


def test_what_cannot_be_installed_is_told_with_what_pip_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = tmp_path / "requirements.txt"
    wanted.write_text("numpy ==== 2\n")
    monkeypatch.setattr(environments, "FOLDER", tmp_path)
    monkeypatch.setattr(environments, "REQUIREMENTS", wanted)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(environments.EnvironmentMissing, match="cannot be made") as told:
        environments.make(environments.DEFAULT)
    assert "-m pip" in str(told.value)
    assert "numpy ==== 2" in str(told.value)
    assert not (tmp_path / environments.DEFAULT / "complete.txt").exists()
