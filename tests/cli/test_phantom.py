"""`cinelabel phantom`: what is written, and that the seed decides."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
from cinelabel.cli.main import main
from cinelabel.datasets import cases, load_case


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def test_studies_are_written_with_truth_and_the_seed_decides(tmp_path, capsys):
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        assert run("phantom", tmp_path / name, "--seed", seed, "--frames", 2, "--json") == 0
    folders = [
        json.loads(part + "}")["studies"][0]
        for part in capsys.readouterr().out.split("}\n")
        if part.strip()
    ]
    assert len(folders) == 3
    images = []
    for name in ("a", "b", "c"):
        ed, _ = cases("phantom", tmp_path / name)
        study, labels = load_case(ed)
        assert set(np.unique(labels)) == {0, 1, 2, 3}
        images.append(np.asanyarray(nib.load(ed.image).dataobj))
        assert images[-1].shape[3] == 2
    np.testing.assert_array_equal(images[0], images[1])
    assert images[0].shape != images[2].shape or not np.array_equal(images[0], images[2])


def test_an_output_that_cannot_be_written_is_refused_before_anything_is_made(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert run("phantom", tmp_path / "file", "--frames", 1) == 2
    assert "file" in capsys.readouterr().err


def test_no_studies_and_unknown_formats_are_refused(tmp_path, capsys):
    assert run("phantom", tmp_path, "--studies", 0) == 2
    assert run("phantom", tmp_path, "--format", "jpeg") == 2
    assert not list(tmp_path.iterdir())
