"""MONAI Label without torch and MONAI: nothing is loaded, what is used is the real thing."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("monailabel", reason="the [server] extra is not installed")

from cinelabel.serving import standins


def run(code: str) -> Any:
    """What a fresh Python prints as JSON in its last line."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


START = "import json, sys\nfrom cinelabel.serving import standins\n"
HEAVY = (
    "sorted({m.partition('.')[0] for m in sys.modules} & {'torch', 'monai', 'SimpleITK', 'itk'})"
)


def test_the_app_class_comes_without_torch_and_monai() -> None:
    light, heavy = run(f"{START}print(json.dumps([standins.import_monailabel(), {HEAVY}]))")
    assert light
    assert heavy == []


PACKAGES = {
    "torch/__init__.py": "cuda = 'real'",
    "monai/__init__.py": "",
    "monai/apps.py": "def download_url(number): return 2 * number\ndownload_and_extract = None",
    "monai/data/__init__.py": "class MetaTensor: known = 'real'\npartition_dataset = None",
    "monai/handlers.py": "CheckpointLoader = NewHandler = 'real'",
    "monailabel/__init__.py": "",
    "monailabel/interfaces/__init__.py": "",
}
"""In place of the real packages: what takes seconds to import there."""


def pretend(folder: Path, app: str, code: str) -> list[str]:
    """The lines that `code` prints where `app` is what MONAI Label's app module does."""
    for name, text in {**PACKAGES, "monailabel/interfaces/app.py": app}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    start = f"import sys\nsys.path.insert(0, {str(folder)!r})\n{START}import logging\n"
    start += "logging.basicConfig(stream=sys.stdout)\nlight = standins.import_monailabel()\n"
    start += "import monailabel.interfaces.app as app\n"
    done = subprocess.run([sys.executable, "-c", start + code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_stand_in_that_is_used_is_the_real_thing(tmp_path: Path) -> None:
    app = "import torch\nfrom monai.apps import download_url\nfrom monai.data import MetaTensor"
    code = """
before = [name for name in standins.NAMES if name in sys.modules]
used = [app.torch.cuda, app.download_url(2), app.MetaTensor.known]
from monai.data import MetaTensor
used += [isinstance(MetaTensor(), app.MetaTensor), isinstance(1, app.MetaTensor)]
print(json.dumps([light, before, used]))
"""
    (told,) = pretend(tmp_path, app, code)
    assert json.loads(told) == [True, [], ["real", 4, "real", True, False]]


def test_what_is_not_expected_is_answered_by_the_plain_import_and_a_warning(
    tmp_path: Path,
) -> None:
    app = "import torch\nfrom monai.handlers import NewHandler"
    code = "print(json.dumps([light, app.torch.cuda, app.NewHandler]))"
    warning, told = pretend(tmp_path, app, code)
    assert json.loads(told) == [False, "real", "real"]
    assert "takes longer" in warning
    assert "NewHandler" in warning


def test_monai_label_reaches_the_real_torch_when_it_needs_it() -> None:
    code = f"""{START}
standins.import_monailabel()
from monailabel.utils.others.generic import device_list
print(json.dumps([bool(device_list()), "torch" in sys.modules]))
"""
    assert run(code) == [True, True]


def test_another_release_is_imported_as_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    imported: list[str] = []
    monkeypatch.setattr(standins, "sys", type("Fresh", (), {"modules": {}}))
    monkeypatch.setattr(standins.importlib, "import_module", imported.append)
    monkeypatch.setattr(standins.metadata, "version", lambda name: "0.9.0")
    with caplog.at_level(logging.WARNING):
        assert not standins.import_monailabel()
    assert imported == ["monailabel.interfaces.app"]
    assert "0.9.0" in caplog.text
