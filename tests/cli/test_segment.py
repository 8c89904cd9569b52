"""`cinelabel segment`: files in and out, refusals before the work, and what is printed.

A stand-in for the networks labels everything bright, so that these tests need no weights.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import cinelabel.segmentation
import nibabel as nib
import numpy as np
import pytest
from cinelabel.cli.main import main
from cinelabel.core.measures import measure
from cinelabel.segmentation.agreement import Agreement
from cinelabel.segmentation.member import MemberCost

AFFINE = np.diag([-2.0, 2.0, 10.0, 1.0])


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


class Threshold:
    """Labels voxels above 50 as LV; its entropy grows with the grey value."""

    loads: list[tuple[str | None, str]] = []
    options: list[dict[str, object]] = []

    @classmethod
    def load(cls, version=None, device="auto", store=None):
        cls.loads.append((version, device))
        return cls()

    def segment(self, study, *, progress=None, **options):
        self.options.append(options)
        labels = (study.frames > 50).astype(np.uint8)
        reason = None if labels.any() else "no heart found: nothing looks like one"
        dice = np.ones((study.n_frames, 3, 2, 2))
        dice[:, 2] = np.nan
        return SimpleNamespace(
            labels=labels,
            heart=None if reason else object(),
            reason=reason,
            ed=study.ed,
            es=study.es,
            measures=measure(labels, study.grid, study.ed, study.es),
            timings_s={"total": 0.5},
            model="threshold",
            device="cpu",
            fast=options["fast"],
            members=("a", "b"),
            member_costs={"a": MemberCost(0.25, 2**20), "b": MemberCost(0.2, None)},
            agreement=Agreement(("a", "b"), tuple(range(study.n_frames)), dice),
            entropy=(study.frames / 200).astype(np.float16) if options["uncertainty"] else None,
        )


@pytest.fixture
def networks(monkeypatch):
    Threshold.loads, Threshold.options = [], []
    monkeypatch.setattr(cinelabel.segmentation, "Segmenter", Threshold)
    return Threshold.loads


def cine(path: Path, widths: tuple[int, ...] = (6, 4, 8), level: float = 100.0) -> Path:
    frames = np.random.default_rng(0).uniform(0, 20, (20, 20, 3, len(widths)))
    for t, width in enumerate(widths):
        frames[4 : 4 + width, 4:14, :, t] += level
    voxels = frames[..., 0] if len(widths) == 1 else frames
    nib.save(nib.Nifti1Image(voxels.astype(np.float32), AFFINE), path)
    return path


def test_a_cine_gives_a_4d_label_on_its_grid_measures_and_a_picture(tmp_path, capsys, networks):
    source = cine(tmp_path / "study.nii.gz")
    label, measures, overlay = (tmp_path / "out" / n for n in ("l.nii.gz", "m.json", "o.png"))
    options = ("--output", label, "--measures", measures, "--overlay", overlay)
    assert run("segment", source, *options) == 0
    written = nib.load(label)
    assert written.shape == (20, 20, 3, 3)
    assert written.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(written.affine, AFFINE)
    record = json.loads(measures.read_text())
    # 8 x 10 x 3 voxels of 0.04 ml at ED, 4 x 10 x 3 at ES
    assert record["measures"]["lv_edv_ml"] == pytest.approx(9.6)
    assert record["measures"]["lv_ef_percent"] == pytest.approx(50.0)
    assert record["heart_found"] is True
    assert overlay.read_bytes().startswith(b"\x89PNG")
    shown = capsys.readouterr().out
    assert "LV EF (%)" in shown
    assert "50.0" in shown
    assert "threshold" in shown
    assert networks == [(None, "auto")]


def test_one_phase_gives_a_3d_label(tmp_path, networks):
    source = cine(tmp_path / "study.nii.gz", widths=(6,))
    assert run("segment", source, "--output", tmp_path / "l.nii") == 0
    assert nib.load(tmp_path / "l.nii").shape == (20, 20, 3)


def test_json_prints_one_object_and_nothing_else(tmp_path, capsys, networks):
    source = cine(tmp_path / "study.nii.gz")
    assert run("segment", source, "-o", tmp_path / "l.nii.gz", "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert record["study"] == "study"
    assert record["model"] == "threshold"
    assert record["measures"]["ed"] == 2
    assert record["timings_s"] == {"total": 0.5}


def test_phases_model_and_device_can_be_named(tmp_path, capsys, networks):
    source = cine(tmp_path / "study.nii.gz")
    options = ("--ed", 0, "--es", 1, "--model", "m-7", "--device", "cpu", "--json")
    assert run("segment", source, "-o", tmp_path / "l.nii.gz", *options) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["measures"]["ed"], record["measures"]["es"]) == (0, 1)
    assert record["measures"]["lv_edv_ml"] == pytest.approx(7.2)
    assert networks == [("m-7", "cpu")]


def test_members_their_agreement_and_their_cost_stand_in_the_record(tmp_path, capsys, networks):
    source = cine(tmp_path / "study.nii.gz")
    assert run("segment", source, "-o", tmp_path / "l.nii.gz", "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert record["fast"] is False
    assert record["members"] == {
        "a": {"seconds": 0.25, "peak_bytes": 2**20},
        "b": {"seconds": 0.2, "peak_bytes": None},
    }
    assert record["agreement"]["mean"] == {"LV": 1.0, "MYO": 1.0, "RV": None}
    assert record["agreement"]["pairs"][0]["LV"] == [1.0, 1.0, 1.0]
    assert run("segment", source, "-o", tmp_path / "l.nii.gz") == 0
    assert "between the 2 members: LV 1.000, MYO 1.000, RV -" in capsys.readouterr().out


def test_fast_turns_and_vote_reach_the_networks(tmp_path, capsys, networks):
    source = cine(tmp_path / "study.nii.gz")
    output = ("-o", tmp_path / "l.nii.gz")
    assert run("segment", source, *output) == 0
    assert run("segment", source, *output, "--fast") == 0
    assert "model threshold, fast on cpu" in capsys.readouterr().out
    assert run("segment", source, *output, "--turns", "--vote", "hard") == 0
    plain = {"fast": False, "turns": False, "vote": "average", "uncertainty": False}
    assert Threshold.options == [
        plain,
        plain | {"fast": True},
        plain | {"turns": True, "vote": "hard"},
    ]
    assert run("segment", source, *output, "--fast", "--turns") == 2
    assert "--turns" in capsys.readouterr().err


def test_the_map_of_uncertainty_lies_on_the_grid_of_the_input(tmp_path, capsys, networks):
    for name, widths in (("cine", (6, 4)), ("phase", (6,))):
        source = cine(tmp_path / f"{name}.nii.gz", widths)
        entropy = tmp_path / f"{name}-entropy.nii.gz"
        assert run("segment", source, "-o", tmp_path / "l.nii.gz", "--uncertainty", entropy) == 0
        image, written = nib.load(source), nib.load(entropy)
        assert written.shape == image.shape
        np.testing.assert_array_equal(written.affine, image.affine)
        np.testing.assert_allclose(written.get_fdata(), image.get_fdata() / 200, atol=1e-3)
    assert run("segment", source, "-o", entropy, "--uncertainty", entropy) == 2
    assert "same file" in capsys.readouterr().err
    assert run("segment", source, "-o", tmp_path / "l.nii.gz", "--uncertainty", "e.png") == 2
    assert ".nii.gz" in capsys.readouterr().err


def test_no_heart_is_an_answer_with_a_reason_and_an_empty_label(tmp_path, capsys, networks):
    source = cine(tmp_path / "study.nii.gz", level=0.0)
    assert run("segment", source, "-o", tmp_path / "l.nii.gz") == 0
    assert "no heart found: nothing looks like one" in capsys.readouterr().out
    assert not np.asanyarray(nib.load(tmp_path / "l.nii.gz").dataobj).any()
    options = ("--json", "--overlay", tmp_path / "o.png")
    assert run("segment", source, "-o", tmp_path / "l.nii.gz", *options) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["heart_found"] is False
    assert "nothing looks like one" in record["reason"]
    assert (tmp_path / "o.png").exists()


def test_outputs_that_would_overwrite_the_input_or_each_other_are_refused(
    tmp_path, capsys, networks
):
    source = cine(tmp_path / "study.nii.gz")
    before = source.read_bytes()
    os.link(source, tmp_path / "same.nii.gz")
    for output in (source, tmp_path / "same.nii.gz", tmp_path / "." / "study.nii.gz"):
        assert run("segment", source, "-o", output) == 2
        assert "overwrite the input" in capsys.readouterr().err
    out = tmp_path / "x.nii.gz"
    assert run("segment", source, "-o", out, "--measures", out) == 2
    assert "same file" in capsys.readouterr().err
    assert source.read_bytes() == before
    assert networks == []


def test_outputs_that_cannot_be_written_are_refused_before_the_work(tmp_path, capsys, networks):
    source = cine(tmp_path / "study.nii.gz")
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder.nii.gz").mkdir()
    refused = {
        tmp_path / "file" / "l.nii.gz": "not a folder",
        tmp_path / "folder.nii.gz": "is a folder",
        tmp_path / "l.mha": ".nii.gz",
    }
    for output, said in refused.items():
        assert run("segment", source, "-o", output) == 2
        assert said in capsys.readouterr().err
    assert run("segment", source, "-o", tmp_path / "l.nii.gz", "--overlay", tmp_path / "o.jpg") == 2
    assert networks == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.nii.gz", "study.nii.gz"]


def test_a_read_only_file_system_is_refused_before_the_work(
    tmp_path, capsys, networks, monkeypatch
):
    source = cine(tmp_path / "study.nii.gz")

    def refuse(**_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    assert run("segment", source, "-o", tmp_path / "l.nii.gz") == 2
    assert "read-only" in capsys.readouterr().err
    assert networks == []


def test_bad_input_is_refused_in_one_sentence_and_writes_nothing(tmp_path, capsys, networks):
    flat = tmp_path / "flat.nii.gz"
    nib.save(nib.Nifti1Image(np.ones((5, 5), np.float32), AFFINE), flat)
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(cine(tmp_path / "whole.nii.gz").read_bytes()[:300])
    empty = tmp_path / "empty"
    empty.mkdir()
    for bad in (tmp_path / "missing.nii.gz", flat, broken, empty):
        assert run("segment", bad, "-o", tmp_path / "out" / "l.nii.gz") == 2
        shown = capsys.readouterr().err
        assert shown.count("\n") == 1
        assert bad.name in shown
    assert not (tmp_path / "out").exists()


def test_a_frame_that_does_not_exist_is_refused(tmp_path, capsys, networks):
    source = cine(tmp_path / "study.nii.gz")
    assert run("segment", source, "-o", tmp_path / "l.nii.gz", "--ed", 5) == 2
    assert "5" in capsys.readouterr().err
    assert networks == []


def test_the_command_itself_imports_nothing_heavy():
    code = (
        "import sys, cinelabel.cli.segment, cinelabel.cli.measure, cinelabel.cli.evaluate,"
        " cinelabel.cli.phantom;"
        "heavy = {'torch', 'monai', 'matplotlib', 'nibabel', 'openvino'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_whole_run_on_a_cpu_needs_neither_torch_nor_monai_nor_matplotlib(tmp_path, pair):
    source = cine(tmp_path / "study.nii.gz")
    code = (
        "import sys\n"
        "for name in ('torch', 'monai', 'matplotlib'): sys.modules[name] = None\n"
        "from cinelabel.cli.main import main\n"
        f"main(['segment', {str(source)!r}, '-o', {str(tmp_path / 'l.nii.gz')!r},"
        " '--device', 'cpu', '--model', 'pair-1', '--json',"
        f" '--uncertainty', {str(tmp_path / 'e.nii.gz')!r}])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "CINELABEL_MODELS": str(pair)},
    )
    assert done.returncode == 0, done.stderr
    assert list(json.loads(done.stdout)["members"]) == ["one", "two"]
    for written in ("l.nii.gz", "e.nii.gz"):
        assert nib.load(tmp_path / written).shape == (20, 20, 3, 3)
