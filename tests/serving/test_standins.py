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


def test_a_stand_in_that_is_used_is_the_real_thing() -> None:
    code = f"""{START}
standins.import_monailabel()
import monailabel.interfaces.app as app
import monailabel.transform.writer as writer
import monailabel.utils.others.generic as generic
devices = generic.device_list()          # asks torch for its devices
import numpy, torch
from monai.data import MetaTensor
import monai.bundle.scripts, monai.data.image_writer, monai.handlers, itk, pydicom_seg, SimpleITK
real = [sys.modules[name] for name in standins.NAMES]
print(json.dumps({{
    "devices": devices,
    "module": app.torch.cuda is torch.cuda,
    "instance": isinstance(MetaTensor(torch.zeros(1)), writer.MetaTensor),
    "no instance": isinstance(numpy.zeros(1), writer.MetaTensor),
    "replaced": not any(isinstance(module, standins.StandInModule) for module in real),
    "there": [hasattr(m, n) for m, names in zip(real, standins.NAMES.values()) for n in names],
}}))
"""
    told = run(code)
    assert "cpu" in told["devices"]
    assert (told["module"], told["instance"], told["no instance"]) == (True, True, False)
    assert told["replaced"]
    assert all(told["there"]), "every name that is stood in for exists"


def test_what_is_not_expected_is_answered_by_the_plain_import_and_a_warning(
    tmp_path: Path,
) -> None:
    packages = {
        "torch/__init__.py": "cuda = 'real'",
        "monai/__init__.py": "",
        "monai/handlers.py": "CheckpointLoader = NewHandler = 'real'",
        "monailabel/__init__.py": "",
        "monailabel/interfaces/__init__.py": "",
        "monailabel/interfaces/app.py": "import torch\nfrom monai.handlers import NewHandler",
    }
    for name, text in packages.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    code = f"""import sys
sys.path.insert(0, {str(tmp_path)!r})
{START}
import logging
logging.basicConfig(stream=sys.stdout)
light = standins.import_monailabel()
import monailabel.interfaces.app as app
print(json.dumps([light, app.torch.cuda, app.NewHandler]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    warning, told = done.stdout.splitlines()
    assert json.loads(told) == [False, "real", "real"]
    assert "takes longer" in warning
    assert "NewHandler" in warning


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
