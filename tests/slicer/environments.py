"""Python environments with the cores of 3D Slicer, one a version, for the tests of MRML code.

`python tests/slicer/environments.py [version ...]` makes those that are missing or out of date.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".slicer-core"
TESTS = Path(__file__).with_name("core")
REQUIREMENTS = TESTS / "requirements.txt"
LIMIT_S = 1800
VERSIONS = ("5.11.0.6", "5.12.4.0", "5.13.31053.0")
DEFAULT = "5.12.4.0"


class EnvironmentMissing(Exception):
    """An environment that cannot be made; the sentence says why and what to do."""


def clean_variables() -> dict[str, str]:
    """The environment variables for a program in another Python: none of this one's."""
    ours = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTEST_ADDOPTS", "PYTEST_PLUGINS")
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    return {name: value for name, value in kept.items() if not name.startswith("PYTEST_XDIST")}


def python_of(version: str) -> Path:
    """The interpreter of a version's environment, whether it is there or not."""
    folder = FOLDER / version
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def make(version: str) -> Path:
    """The interpreter with slicer-core of a version; makes the environment when it must.

    An environment stands for as long as the requirements and this Python are what its stamp says.

    Raises:
        EnvironmentMissing: the version is unknown, or pip cannot get or install something.
    """
    if version not in VERSIONS:
        known = ", ".join(VERSIONS)
        raise EnvironmentMissing(f"slicer-core {version} is not tested. Choose one of {known}.")
    folder, python = FOLDER / version, python_of(version)
    stamp = folder / "complete.txt"
    wanted = f"{sys.version}\nslicer-core=={version}\n{REQUIREMENTS.read_text(encoding='utf-8')}"
    FOLDER.mkdir(exist_ok=True)
    with FileLock(FOLDER / f"{version}.lock"):
        if python.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
            return python
        _run(version, [sys.executable, "-m", "venv", "--clear", "--without-pip", str(folder)])
        install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
        install += ["--disable-pip-version-check", "--no-input", "--only-binary", ":all:"]
        _run(version, [*install, f"slicer-core=={version}", "-r", str(REQUIREMENTS)])
        _run(version, [str(python), "-c", "import slicer, vtk, numpy, SimpleITK"])
        stamp.write_text(wanted, encoding="utf-8")
    return python


def run_pytest(version: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run tests of the folder `core` inside an environment, all when no file is named.

    Args:
        arguments: of pytest, files relative to that folder among them.
        variables: of the environment, besides this program's.

    Raises:
        EnvironmentMissing: it cannot be made.
        subprocess.TimeoutExpired: they hang.
    """
    command = (str(make(version)), "-m", "pytest", "-c", str(TESTS / "pytest.ini"))
    return subprocess.run(
        [*command, f"--confcutdir={TESTS}", *arguments],
        cwd=TESTS,
        env=clean_variables() | {"PYTHONDONTWRITEBYTECODE": "1"} | variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=LIMIT_S,
        check=False,
    )


def _run(version: str, command: Sequence[str]) -> None:
    done = subprocess.run(
        command,
        env=clean_variables(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        said = "\n".join(done.stdout.strip().splitlines()[-8:])
        raise EnvironmentMissing(
            f"The environment of slicer-core {version} cannot be made: "
            f"`{' '.join(command[1:3])} ...` failed. It needs a network, about 2 GB of disk and "
            f"Python 3.10 to 3.12 on a platform that slicer-core is built for.\n{said}"
        )


def main(versions: Sequence[str]) -> None:
    """Make the environments of the versions, all when none is named."""
    for version in versions or VERSIONS:
        try:
            print(f"slicer-core {version}: {make(version).relative_to(ROOT)}", flush=True)
        except EnvironmentMissing as error:
            sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
