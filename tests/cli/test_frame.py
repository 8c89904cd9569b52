"""The command's frame: a light start, one sentence for what is wrong, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence

import pytest
from cinelabel import __version__
from cinelabel.cli import main as frame
from cinelabel.core.errors import InputError

HEAVY = (
    "torch",
    "torchvision",
    "monai",
    "monailabel",
    "openvino",
    "nibabel",
    "pydicom",
    "matplotlib",
    "scipy",
    "numpy",
    "httpx",
)
REPORT = """
import json, sys
from cinelabel.cli.main import main
try:
    main({arguments!r})
except SystemExit as end:
    print()
    print(json.dumps([end.code, [name for name in {heavy!r} if name in sys.modules]]))
"""


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["-h"], ["--version"], *([name, "-h"] for name in frame.COMMANDS)]
)
def test_help_imports_nothing_heavy(arguments: Sequence[str]) -> None:
    done = python(REPORT.format(arguments=list(arguments), heavy=HEAVY))
    code, imported = json.loads(done.stdout.splitlines()[-1])
    assert (code, imported) == (0, [])


def test_help_names_every_sub_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        frame.main(["--help"])
    shown = capsys.readouterr().out
    assert end.value.code == 0
    assert all(f" {name} " in shown for name in frame.COMMANDS)
    assert "not a medical device" in shown


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        frame.main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"cinelabel {__version__}\n"


def test_the_console_script_is_installed() -> None:
    done = python(
        "from importlib.metadata import entry_points as e; "
        "print(e(group='console_scripts')['cinelabel'].value)"
    )
    assert done.stdout.strip() == "cinelabel.cli.main:main"


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """Puts an application in place that raises what the list holds."""
    raised: list[BaseException] = []

    def application(arguments: Sequence[str], prog_name: str) -> None:
        raise raised[0]

    monkeypatch.setattr(frame, "app", application)
    return raised


def test_an_expected_error_is_one_sentence_and_code_2(
    failing: list[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    failing.append(InputError("is truncated", where="a.nii.gz", remedy="Copy it again"))
    with pytest.raises(SystemExit) as end:
        frame.main(["segment", "a.nii.gz"])
    assert end.value.code == 2
    output = capsys.readouterr()
    assert output.err == "cinelabel: a.nii.gz: is truncated. Copy it again.\n"
    assert output.out == ""


@pytest.mark.parametrize("arguments", [["--debug", "segment"], ["segment", "x", "--debug"]])
def test_debug_shows_the_traceback(failing: list[BaseException], arguments: list[str]) -> None:
    failing.append(InputError("is truncated"))
    with pytest.raises(InputError):
        frame.main(arguments)


def test_debug_after_a_double_dash_is_an_argument(failing: list[BaseException]) -> None:
    failing.append(InputError("is truncated"))
    with pytest.raises(SystemExit):
        frame.main(["segment", "--", "--debug"])


def test_an_unexpected_error_keeps_its_traceback(failing: list[BaseException]) -> None:
    failing.append(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        frame.main(["segment"])


def test_an_interruption_is_one_word_and_code_130(
    failing: list[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    for interruption in (KeyboardInterrupt(), SystemExit(130)):
        failing[:] = [interruption]
        with pytest.raises(SystemExit) as end:
            frame.main(["train"])
        assert end.value.code == 130
        assert capsys.readouterr().err == "cinelabel: interrupted.\n"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["segmet"], "segment"),
        (["segment"], "Missing"),
        (["serve"], "--studies"),
        (["demo", "--frames", "none"], "--frames"),
        (["--unknown"], "--unknown"),
    ],
)
def test_wrong_usage_is_code_2_and_names_what_is_wrong(
    arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        frame.main(arguments)
    assert end.value.code == 2
    assert word in capsys.readouterr().err
