"""Scores of a frame's slices by a model, on phantoms and by hand."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from cinelabel.active.features import Encoder, choose
from cinelabel.active.scores import FrameScores, Scorer, compare, read_scores, write_scores
from cinelabel.core.errors import InputError
from cinelabel.models.store import BUNDLED, ModelStore, ModelVersion
from cinelabel.phantom.cohort import PhantomStudy, make_study
from cinelabel.segmentation import Segmenter

FAMILIES = ("nnunet2d-deformable", "nnunet3d", "swin_unetr", "swin_unet")


@pytest.fixture(scope="module")
def phantom() -> PhantomStudy:
    return make_study(3, frames=1)


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer(Segmenter.load(BUNDLED, device="cpu"))


@pytest.fixture(scope="module")
def scores(scorer: Scorer, phantom: PhantomStudy) -> FrameScores:
    return scorer.score(phantom.study, patient="p")


@pytest.fixture(scope="module")
def ensemble() -> ModelVersion:
    return ModelStore().load("phantom-ensemble-1")


def one_hot(labels: np.ndarray) -> np.ndarray:
    return np.stack([labels == value for value in range(4)]).astype(np.float32)


def test_the_disputed_area_is_the_mean_over_each_two_answers() -> None:
    numbers = np.random.default_rng(0)
    answers = [numbers.integers(1, 4, (2, 6, 5)) for _ in range(4)]  # heart everywhere
    foreground, heart, disputed = compare([one_hot(answer) for answer in answers], 2.0)
    expected = np.mean([(a != b).sum((1, 2)) for a, b in combinations(answers, 2)], axis=0)
    assert foreground.tolist() == [True, True]
    assert heart.tolist() == [60.0, 60.0]
    assert disputed == pytest.approx(2.0 * expected)


def test_what_lies_apart_from_the_heart_is_not_compared() -> None:
    one, two = np.zeros((2, 3, 12, 12), int)
    one[1, 2:6, 2:6] = two[1, 2:6, 2:7] = 1
    two[1, 10, 10] = two[2, 11, 11] = 3  # two voxels that only one of them labels
    _, heart, disputed = compare([one_hot(one), one_hot(two)], 1.0)
    assert heart.tolist() == [0.0, 20.0, 0.0]
    assert disputed.tolist() == [0.0, 4.0, 0.0]


def test_foreground_is_what_the_average_labels() -> None:
    one, two = np.zeros((2, 2, 4, 4), int)
    one[:] = two[0] = 2
    unsure = one_hot(two) * 0.9 + 0.025
    foreground, heart, _ = compare([0.6 * one_hot(one) + 0.1, unsure], 1.0)
    assert foreground.tolist() == [True, False]
    assert heart.tolist() == [16.0, 16.0]


def test_a_phantoms_heart_is_found_where_it_is(scores: FrameScores, phantom: PhantomStudy) -> None:
    truth = phantom.labels[..., 0].any((0, 1))
    assert scores.reason == ""
    assert np.mean(scores.foreground == truth) > 0.8
    assert (scores.disputed_mm2 <= scores.heart_mm2).all()
    assert scores.disputed_mm2.any()  # by the mirrored passes of a single member


def test_scores_are_the_same_again(scorer: Scorer, scores: FrameScores, phantom: PhantomStudy):
    again = scorer.score(phantom.study, patient="p")
    assert np.array_equal(again.disputed_mm2, scores.disputed_mm2)
    assert np.array_equal(again.features, scores.features)


def test_an_image_without_a_heart_has_no_scores(scorer: Scorer, phantom: PhantomStudy) -> None:
    empty = replace(phantom.study, frames=np.zeros_like(phantom.study.frames))
    found = scorer.score(empty, patient="p")
    assert found.reason.startswith("There are no scores: no heart found")
    (candidate,) = found.candidates("x")
    assert (candidate.slice, candidate.patient) == (None, "p")


def test_candidates_are_slices_placed_along_the_heart() -> None:
    heart = np.array([0, 300, 400, 500, 0], np.float32)
    scores = FrameScores(heart > 350, heart, heart / 2, np.eye(5, dtype=np.float32), "p")
    found = scores.candidates("x")
    assert [c.slice for c in found] == [0, 1, 2, 3, 4]
    assert [c.position for c in found] == [0.0, 0.0, 0.5, 1.0, 1.0]
    assert [c.third for c in found] == [0, 0, 1, 2, 2]
    assert [c.foreground for c in found] == [False, False, True, True, False]
    assert (found[3].heart_mm2, found[3].disputed_mm2) == (500.0, 250.0)


@pytest.mark.parametrize("family", FAMILIES)
def test_features_are_those_of_the_encoder_in_torch(ensemble: ModelVersion, family: str) -> None:
    card = ensemble.member(f"{family}-compact-phantom")
    images = np.random.default_rng(0).standard_normal((5, 128, 128)).astype(np.float32)
    network = ensemble.network(card)
    seen = []
    last = network.layers()["bottleneck"][-1]
    last.register_forward_hook(lambda *called: seen.append(called[2]))
    with torch.inference_mode():
        if card.spec.dimensions == 2:
            network(torch.from_numpy(images[:, None]))
            axes = (1, 2) if family == "swin_unet" else (2, 3)
            expected = seen[0].mean(axes).numpy()
        else:  # 6 slices, the last one twice, halved once along the stack
            network(torch.from_numpy(images[[0, 1, 2, 3, 4, 4]][None, None]))
            expected = seen[0][0].mean((2, 3)).numpy().T[[0, 0, 1, 1, 2]]
    found = Encoder(ensemble, card)(images)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max()  # bf16 on some CPUs


def test_a_flat_member_describes_slices_where_there_is_one(ensemble: ModelVersion) -> None:
    cards = ensemble.card.members
    volume = next(card for card in cards if card.spec.dimensions == 3)
    assert choose(cards, volume.name).name == "nnunet2d-deformable-compact-phantom"
    assert choose(cards, "swin_unet-compact-phantom").name == "swin_unet-compact-phantom"
    assert choose([volume], volume.name) is volume


def test_scores_are_kept_for_the_image_as_it_is(scores: FrameScores, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    assert read_scores(path, (5, 7)) is None
    write_scores(path, scores, (5, 7))
    kept = read_scores(path, (5, 7))
    for name, value in vars(scores).items():
        assert np.array_equal(getattr(kept, name), value)
    assert read_scores(path, (5, 8)) is None


@pytest.mark.parametrize("length", [0, 10, 400])
def test_a_damaged_file_of_scores_is_named(
    scores: FrameScores, tmp_path: Path, length: int
) -> None:
    path = tmp_path / "x.npz"
    write_scores(path, scores, (5, 7))
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(InputError, match=r"x\.npz"):
        read_scores(path, (5, 7))


def test_scoring_on_a_cpu_never_loads_torch() -> None:
    program = (
        "import sys\n"
        "import numpy as np\n"
        "from cinelabel.active.scores import Encoder, Scorer\n"
        "from cinelabel.segmentation import Segmenter\n"
        f"scorer = Scorer(Segmenter.load('{BUNDLED}', device='cpu'))\n"
        "card = scorer.segmenter.member(scorer.segmenter.fast_member).card\n"
        "Encoder(scorer.segmenter.version, card)(np.zeros((1, 64, 64), np.float32))\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
