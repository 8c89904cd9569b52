"""The bundled model on phantom studies of seeds that no training has seen: ED and ES of each."""

from __future__ import annotations

import pytest
from cinelabel.evaluation.metrics import score_labels
from cinelabel.evaluation.report import summary_table
from cinelabel.evaluation.summary import summarise
from cinelabel.phantom.cohort import make_study
from cinelabel.segmentation import Segmenter
from rich.console import Console

FIRST_SEED = 900_000
FEW, MANY = (3, (0.85, 0.78, 0.80)), (24, (0.87, 0.83, 0.84))
"""Number of studies, and the least mean Dice of LV, MYO and RV that is promised on so many."""


@pytest.mark.parametrize(("studies", "least"), [FEW, pytest.param(*MANY, marks=pytest.mark.slow)])
def test_mean_dice_on_unseen_phantoms_is_at_least_what_is_promised(
    studies: int, least: tuple[float, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    segmenter = Segmenter.load()
    scores = []
    for seed in range(FIRST_SEED, FIRST_SEED + studies):
        made = make_study(seed, frames=3)
        found = segmenter.segment(made.study)
        assert found.reason is None
        for phase, t in (("ED", made.study.ed), ("ES", made.study.es)):
            scores += score_labels(
                found.labels[..., t],
                made.labels[..., t],
                made.study.grid,
                case=f"{made.study.name}_{phase}",
                distances=False,
            )
    summaries = summarise(scores)
    with capsys.disabled():
        console = Console(width=120)
        console.print()
        console.print(summary_table(summaries))
    means = [summary.penalised_dice.mean for summary in summaries]
    assert [s.structure for s in summaries] == ["LV", "MYO", "RV"]
    assert all(mean >= promised for mean, promised in zip(means, least, strict=True)), means
