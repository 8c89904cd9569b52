"""What is handed out holds together: the wheel, the environment's recipe, the top README."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from cinelabel.cli.main import COMMANDS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    pytest.importorskip("hatchling", reason="the [dev] extra is not installed")
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return zipfile.ZipFile(next(out.glob("*.whl")))


def test_the_wheel_carries_the_app_and_the_weights(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    app = {path.relative_to(ROOT).as_posix() for path in (ROOT / "apps" / "cine").rglob("*.py")}
    assert {f"cinelabel/{name}" for name in app} <= names
    bundled = ROOT / "training" / "cinelabel" / "models" / "bundled"
    files = {
        path.relative_to(ROOT / "training").as_posix()
        for path in bundled.rglob("*")
        if path.is_file()
    }
    assert any(name.endswith("card.json") for name in files)
    assert files <= names
    for version in {name.split("/")[3] for name in files}:
        weights = [name for name in files if name.split("/")[3] == version]
        limit = 45 if "ensemble" in version else 15
        assert sum(wheel.getinfo(name).file_size for name in weights) < limit * 1024**2, version


def test_an_unpacked_wheel_finds_its_app(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from cinelabel.serving.settings import find_app\n"
        "print(find_app())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert Path(done.stdout.strip()) == tmp_path / "cinelabel" / "apps" / "cine"


def test_the_bare_package_asks_for_no_torch(wheel: zipfile.ZipFile) -> None:
    name = next(name for name in wheel.namelist() if name.endswith("/METADATA"))
    lines = wheel.read(name).decode().splitlines()
    required = [line.split(":", 1)[1] for line in lines if line.startswith("Requires-Dist:")]
    bare = [line for line in required if "extra ==" not in line]
    assert bare
    assert not [line for line in bare if re.search(r"torch|monai|timm|lightning", line)]
    assert {"server", "train", "dev"} <= set(re.findall(r"extra == '(\w+)'", "\n".join(required)))


def test_everything_that_is_required_is_pinned() -> None:
    pinned = {
        re.split(r"[=;\s]", line)[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    }
    text = (ROOT / "pyproject.toml").read_text()
    listed = re.findall(r'^    "([A-Za-z0-9-]+)[><=]', text, re.MULTILINE)
    assert "torch" in listed
    assert {name.lower() for name in listed} <= pinned


def test_the_readme_names_every_command_and_leads_nowhere_wrong() -> None:
    text = (ROOT / "README.md").read_text()
    assert [name for name in COMMANDS if f"`cinelabel {name}" not in text] == []
    assert "not a medical device" in text
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"make (demo|serve|test|env|lint|clean)\b", text):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    for page in (path for path in ROOT.glob("*/**/README.md") if ".venv" not in path.parts):
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page}: {link}"
