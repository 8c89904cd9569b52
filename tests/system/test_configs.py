"""Every configuration of `configs/` takes two steps; pre-training ends as labels of a study.

Sets are tiny trees in the layouts of the public ones. The default run replaces networks of the size
`paper` by their compact twins and smaller windows; the slow one leaves the files as they are and
goes the whole way.
"""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml
from cinelabel.cli.main import main
from cinelabel.learning.config import load
from cinelabel.models.store import BUNDLED, ModelStore
from cinelabel.networks.specs import PRESETS

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
OTHERS = ("finetune", "simulate")
"""Folders of configurations that train no network from its beginning."""
FILES = sorted(f for f in CONFIGS.rglob("*.yaml") if f.parent.name not in OTHERS)
PAPER = [file for file in FILES if "-paper-" in file.stem]
SHAPE, AFFINE = (44, 40, 4), np.diag([2.5, 2.5, 8.0, 1.0])
LAYOUTS = {
    "acdc": ("patient{n:03d}/patient{n:03d}_{phase}{gt}.nii.gz", "_gt", (3, 2, 1)),
    "mnms": ("A{n}B1C1/A{n}B1C1_sa_{phase}{gt}.nii.gz", "_gt", (1, 2, 3)),
    "mnms2": ("dataset/{n:03d}/{n:03d}_SA_{phase}{gt}.nii.gz", "_gt", (1, 2, 3)),
    "myops": ("train25/myops_training_10{n}_{gt}.nii.gz", "gd", (500, 200, 600)),
    "mscmrseg": ("tree/patient{n}_C0{gt}.nii.gz", "_manual", (500, 200, 600)),
    "cmrxmotion": ("data/P00{n}-1/P00{n}-1-{phase}{gt}.nii.gz", "-label", (1, 2, 3)),
}
"""Path of an image and its label, the part that only the label has, values of LV, MYO and RV."""


def heart() -> np.ndarray:
    """A ring with a cavity and a chamber beside it, canonical labels."""
    x, y = np.mgrid[: SHAPE[0], : SHAPE[1]]
    radius = np.hypot(x - 20, y - 22)
    plane = np.select([radius < 4, radius < 7, np.hypot(x - 30, y - 20) < 5], [1, 2, 3], 0)
    return np.repeat(plane[..., None], SHAPE[2], 2)


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> dict[str, Path]:
    """Two patients of every set that the configurations learn from."""
    root = tmp_path_factory.mktemp("sets")
    rng = np.random.default_rng(0)
    labels = heart()
    for name, (path, mark, values) in LAYOUTS.items():
        coded = np.choose(labels, [0, *values]).astype(np.int16)
        for n in (1, 2):
            for phase in ("ED", "ES"):
                images = 100 * labels + rng.normal(100, 9, SHAPE)
                for voxels, gt in ((images, "C0" if name == "myops" else ""), (coded, mark)):
                    file = root / name / path.format(n=n, phase=phase, gt=gt)
                    file.parent.mkdir(parents=True, exist_ok=True)
                    nib.Nifti1Image(voxels.astype(np.int16), AFFINE).to_filename(file)
    return {name: root / name for name in LAYOUTS}


def run_command(*arguments: object) -> None:
    with pytest.raises(SystemExit) as end:
        main([*map(str, arguments)])
    assert not end.value.code


def roots_for(config: Path, sets: dict[str, Path]) -> list[str]:
    """What a user gives with --data: the sets of pre-training, or the one of fine-tuning."""
    if load(config).data.source == "phantom":
        return []
    names = ["cmrxmotion"] if load(config).data.table is None else [*LAYOUTS][:5]
    return [part for name in names for part in ("--data", f"{name}={sets[name]}")]


def extended(config: Path, file: Path, **changes: object) -> Path:
    file.write_text(yaml.safe_dump({"extends": str(config), **changes}))
    return file


def dry_run(config: Path, file: Path, sets: dict[str, Path], capsys) -> None:
    run_command("train", file, "--dry-run", *roots_for(config, sets))
    shown = capsys.readouterr().out
    assert f"{load(config).name}: 2 steps of one" in shown
    weights = getattr(load(config).pretrained, "weights", "model:")
    assert ("Started at random: " in shown) == (not weights.startswith("model:"))


@pytest.mark.parametrize("config", FILES, ids=lambda file: file.stem)
def test_every_configuration_takes_two_steps(config, sets, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    file = config
    if config in PAPER:
        twin = config.stem.split("-paper-")[0] + "-compact"
        data = {"size": PRESETS[twin].size or 64, "partial": True}
        file = extended(config, tmp_path / "twin.yaml", network=twin, data=data)
    dry_run(config, file, sets, capsys)
    assert not [path for path in tmp_path.iterdir() if path != file]


@pytest.mark.slow
@pytest.mark.parametrize("config", PAPER, ids=lambda file: file.stem)
def test_every_configuration_takes_two_steps_at_its_full_size(
    config, sets, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    file = extended(config, tmp_path / "partial.yaml", data={"partial": True})
    dry_run(config, file, sets, capsys)


def tiny(stage: str, file: Path, **changes: object) -> Path:
    """A configuration of the 2D network, its network a few kilobytes."""
    return extended(
        CONFIGS / f"nnunet2d-deformable-paper-{stage}.yaml",
        file,
        name=stage,
        network={"features": [4, 8], "deformable_bottleneck": True},
        data={"size": 32, "spacing_mm": 3.0, "partial": True},
        steps=2,
        batch_size=2,
        workers=1,
        precision="32-true",
        **changes,
    )


@pytest.mark.slow
def test_pre_training_and_folds_of_fine_tuning_become_a_version_that_segments(
    sets, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CINELABEL_MODELS", str(tmp_path / "store"))
    pretrain = tiny("pretrain", tmp_path / "pretrain.yaml")
    finetune = tiny("finetune", tmp_path / "finetune.yaml", pretrained={"weights": "runs/pretrain"})
    own = f"cmrxmotion={sets['cmrxmotion']}"
    config = CONFIGS / "nnunet2d-deformable-paper-pretrain.yaml"
    run_command("train", pretrain, *roots_for(config, sets))
    run_command("data", "splits", "folds.json", "--set", own, "--folds", 2)
    run_command("crossvalidate", finetune, "--folds", "folds.json", "--data", own)
    runs = [tmp_path / "runs" / f"finetune-fold{fold}" for fold in (0, 1)]
    for run in runs:
        origin = json.loads((run / "summary.json").read_text())["pretrained"]
        assert origin["weights"] == "runs/pretrain"
    run_command("ensemble", *runs, "--name", "mine")
    card = ModelStore().load("mine").card
    assert [member.name for member in card.members[:2]] == ["finetune-fold0", "finetune-fold1"]
    assert card.provenance["runs"][card.members[2].name]["taken_from"] == BUNDLED
    assert str(tmp_path) not in card.model_dump_json()
    image = next(sets["cmrxmotion"].rglob("P001-1-ED.nii.gz"))
    run_command("segment", image, "--output", "label.nii.gz", "--model", "mine")
    label = nib.load("label.nii.gz")
    assert label.shape == SHAPE
    np.testing.assert_allclose(label.affine, AFFINE)
