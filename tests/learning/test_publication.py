"""Finished runs become members of a version, with roles, preprocessing and origin from the runs."""

from __future__ import annotations

import json

import pytest
import torch
from cinelabel.core.errors import RunError
from cinelabel.learning.publication import publish_runs
from cinelabel.learning.run_folder import RunFolder
from cinelabel.models.store import ModelStore
from cinelabel.networks import build
from cinelabel.networks.weights import get_weights, on_cpu
from cinelabel.transforms.preparation import Preparation


@pytest.fixture
def make_run(tmp_path, make_config):
    """A finished run of a name and task, without the training."""

    def make(name: str, task: str, **data: object):
        classes = 4 if task == "segmenter" else 2
        config = make_config(
            name=name,
            network={"features": [4, 8], "classes": classes},
            data={"task": task, "size": 16, "spacing_mm": 2.5, **data},
        )
        folder = RunFolder(tmp_path / "runs" / name)
        folder.begin(config)
        torch.manual_seed(0)
        first = {"weights": str(tmp_path), "parts": "all", "sha256": "12ab", "transfer": "2 taken"}
        summary = {"steps": 12, "seed": 3, "dice": {"LV": 0.5}, "pretrained": first}
        folder.finish(on_cpu(get_weights(build(config.network))), summary)
        return folder.path

    return make


@pytest.fixture
def store(tmp_path):
    return ModelStore(tmp_path / "store", bundled=tmp_path / "none")


def test_members_take_role_and_preprocessing_from_their_runs(store, make_run, tmp_path):
    runs = [make_run("s", "segmenter", folder=str(tmp_path)), make_run("l", "locator")]
    card = publish_runs(store, "v-1", runs).card
    assert [(m.name, m.role) for m in card.members] == [("s", "segmenter"), ("l", "locator")]
    assert Preparation.from_dict(card.members[0].preprocessing) == Preparation(2.5, 16)
    assert card.metrics == {"validation": {"s": {"dice": {"LV": 0.5}}, "l": {"dice": {"LV": 0.5}}}}
    origin = card.provenance["runs"]["s"]
    assert origin["command"] == "cinelabel train s.yaml"
    assert origin["config"]["network"]["features"] == [4, 8]
    assert origin["result"]["seed"] == 3
    assert origin["result"]["pretrained"]["sha256"] == "12ab"
    assert str(tmp_path) not in json.dumps(card.model_dump(mode="json"))


def test_a_run_that_is_not_finished_is_refused(store, make_run):
    run = make_run("s", "segmenter")
    (run / "summary.json").unlink()
    with pytest.raises(RunError, match="not finished"):
        publish_runs(store, "v-1", [run])
    assert store.versions() == []


def test_two_runs_of_one_name_are_refused(store, make_run):
    run = make_run("s", "segmenter")
    with pytest.raises(RunError, match="two runs have the name 's'"):
        publish_runs(store, "v-1", [run, run])


def test_a_folder_that_is_no_run_is_refused(store, tmp_path):
    with pytest.raises(RunError, match="configuration cannot be read"):
        publish_runs(store, "v-1", [tmp_path])
