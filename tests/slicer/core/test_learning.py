"""Learning from the desk: studies submitted, a training followed, its version used and left."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from CineLabelLib.client import Client
from reader_at_desk import Reader, kept, require_kept
from real_server import House, RealServer

pytestmark = pytest.mark.slow

LENIENT = {"phantoms": 4, "phantom_margin": 1}
QUICK = {"method": "all", "steps": 5, "batch_size": 4, "replay": 0, "lr": 0.02, "decision": LENIENT}

TRAINING_S = 1800.0


class QuickClient(Client):
    """Trains with few steps, where the desk asks for what the server's owner chose."""

    def start_training(self, options: Mapping[str, Any] | None = None) -> str:
        assert options is None
        return super().start_training(QUICK)


@pytest.fixture
def school(house: House) -> Iterator[RealServer]:
    """A server with a small model that it may train."""
    settings = house.settings["school"]
    models = {"CINELABEL_MODELS": str(settings.parent / "models")}
    server = RealServer(house.python, settings, models)
    server.start()
    yield server
    server.kill()


def test_three_submitted_studies_train_a_version_that_the_reader_uses_and_rolls_back(
    school: RealServer, sit_down: Callable[..., Reader]
) -> None:
    reader = sit_down(client_class=QuickClient)
    reader.connect(school.url)
    for number in range(3):
        reader.open(f"p{number}__t00")
        labels = reader.draw()
        reader.submit()
        require_kept(kept(school.url, None, f"p{number}__t00"), labels, reader.study)
    training, told = reader.session.training, []
    training.changed.connect(lambda state: told.append(state.sentence))
    training.start()
    reader.until(lambda: training.state.running, "the training starts")
    reader.until(lambda: not training.state.running, "the training ends", TRAINING_S)
    course = training.state.course
    assert course is not None
    assert (course.state, course.error) == ("done", None)
    assert any(sentence.startswith("Training is ") for sentence in told)
    assert course.decision is not None
    assert (course.decision.outcome, course.version) == ("keep", "tiny-1-tuned-1")
    assert "waits for a person" in training.state.sentence
    assert course.decision.reasons[0] in training.state.sentence
    training.fetch_figure(course.figures[0])
    reader.idle()
    assert training.state.figures[course.figures[0]][:4] == b"\x89PNG"
    training.use("tiny-1-tuned-1", "it sees the apex")
    reader.idle()
    assert training.state.models is not None
    assert training.state.models.current == "tiny-1-tuned-1"
    before = reader.labels()
    reader.open("p3__t00")
    reader.segment()
    assert reader.session.segmentation.state.model == "tiny-1-tuned-1"
    training.roll_back("it does not")
    reader.idle()
    assert training.state.models.current == "tiny-1"
    reader.segment()
    assert reader.session.segmentation.state.model == "tiny-1"
    assert reader.problems == []
    reader.open("p2__t00")
    assert np.array_equal(reader.labels(), before)
