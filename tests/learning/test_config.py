"""Configurations are read from YAML, checked, resolved, and compared."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from cinelabel.core.errors import CineLabelError, ModelError, RunError
from cinelabel.learning.config import first_difference, load, parse
from cinelabel.networks.specs import PRESETS, NetworkSpec

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
MINIMAL = {"name": "a", "network": "nnunet2d-compact"}


def test_a_preset_is_resolved_to_its_numbers():
    assert parse(MINIMAL, "here").network == PRESETS["nnunet2d-compact"]


def test_a_network_can_be_given_by_its_numbers():
    config = parse(MINIMAL | {"network": {"features": [4, 8], "classes": 2}}, "here")
    assert config.network == NetworkSpec(features=(4, 8), classes=2)


def test_the_resolved_configuration_reads_back_equal(make_config):
    config = make_config()
    assert parse(yaml.safe_load(config.to_yaml()), "here") == config


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_configuration_of_the_house_holds_and_is_named_like_its_file(file):
    assert load(file).name == file.stem


def test_overrides_replace_keys_unless_they_are_none(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text(yaml.safe_dump(MINIMAL | {"steps": 7, "batch_size": 3}))
    config = load(file, steps=9, batch_size=None)
    assert (config.steps, config.batch_size) == (9, 3)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"steps": 0}, "'steps'"),
        ({"optimizer": {}}, "'optimizer'"),
        ({"data": {"count": "many"}}, "'data.count'"),
        ({"data": {"seed": 4, "validation_seed": 4}}, "validation_seed"),
        ({"data": {"size": 100}}, "multiple of 16"),
        ({"precision": "16-true"}, "'precision'"),
        ({"name": None}, "'name'"),
    ],
)
def test_a_wrong_key_is_named(change, named):
    with pytest.raises(RunError) as error:
        parse(MINIMAL | change, "my.yaml")
    assert named in str(error.value)
    assert str(error.value).startswith("my.yaml: ")


def test_names_that_are_no_folder_names_and_unknown_presets_are_refused():
    with pytest.raises(CineLabelError, match="name of a run"):
        parse(MINIMAL | {"name": "../a"}, "here")
    with pytest.raises(ModelError, match="unknown network preset 'unet'"):
        parse(MINIMAL | {"network": "unet"}, "here")


@pytest.mark.parametrize(
    ("text", "problem"),
    [("a: [", "not a YAML file"), ("- a\n- b\n", "not a table"), ("", "not a table")],
)
def test_a_file_that_is_no_configuration_is_refused(tmp_path, text, problem):
    file = tmp_path / "a.yaml"
    file.write_text(text)
    with pytest.raises(RunError, match=problem):
        load(file)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RunError, match="absent.yaml: the configuration cannot be read"):
        load(tmp_path / "absent.yaml")


def test_the_first_key_that_changes_what_is_learned_is_found(make_config):
    base = make_config()
    assert first_difference(base, make_config()) is None
    harmless = make_config(threads=7, workers=5, checkpoint_every=2, validate_every=1, log_every=1)
    assert first_difference(base, harmless) is None
    assert first_difference(base, make_config(optimiser={"lr": 0.5})) == ("optimiser.lr", 0.01, 0.5)
    assert first_difference(base, make_config(augmentation={"noise": 0.1})) is not None
