"""Configurations are read from YAML, checked, resolved, and compared."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml
from cinelabel.core.errors import CineLabelError, ModelError, RunError
from cinelabel.learning.config import first_difference, load, parse, parse_finetuning
from cinelabel.learning.data import preparation
from cinelabel.networks.specs import PRESETS, NetworkSpec
from cinelabel.phantom.settings import PhantomSettings
from cinelabel.transforms.preparation import CONVOLUTIONAL, TRANSFORMER

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


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*-paper-*.yaml")), ids=lambda path: path.stem)
def test_the_papers_networks_are_shown_what_the_paper_says(file):
    config = load(file)
    expected = TRANSFORMER if config.network.size else CONVOLUTIONAL
    if config.network.dimensions == 3:
        expected = replace(expected, size=448, depth=10)
    assert preparation(config.data) == expected


ABLATIONS = {
    "all": {},
    "no-random-contrast": {"random_contrast_share": 0.0},
    "no-motion": {"motion_share": 0.0},
    "no-closing": {"closing_cavities": False},
    "no-organs": {"organs": False},
}


def test_every_ablation_differs_from_the_whole_in_what_its_name_says_alone():
    files = {path.stem: load(path) for path in (CONFIGS / "ablation").glob("*.yaml")}
    assert set(files) == set(ABLATIONS)
    whole = files["all"].model_dump()
    for stem, config in files.items():
        assert config.name == f"ablation-{stem}"
        expected = whole | {"name": config.name}
        expected["data"] = whole["data"] | {"phantom": PhantomSettings(**ABLATIONS[stem])}
        assert parse(expected, stem) == config


def test_the_settings_of_the_phantom_are_part_of_the_resolved_configuration(make_config):
    config = make_config(data={"phantom": {"motion_share": 0.1}})
    assert config.data.phantom == PhantomSettings(motion_share=0.1)
    written = yaml.safe_load(config.to_yaml())["data"]
    assert written["phantom"] == asdict(PhantomSettings(motion_share=0.1))
    assert written["validation_phantom"] == asdict(PhantomSettings())
    assert first_difference(make_config(), config) is not None


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
        ({"network": "swin_unet-compact", "data": {"size": 160}}, "must be 128"),
        ({"network": "nnunet3d-compact"}, "data.depth must be a multiple of 2"),
        ({"network": "nnunet3d-compact", "data": {"depth": 7}}, "multiple of 2"),
        ({"data": {"depth": 8}}, "data.depth must be 0"),
        ({"data": {"spacing_mm": None}}, "spacing_mm must be a number"),
        ({"data": {"window": "image"}}, "round its heart"),
        ({"data": {"normalised_over": "volume"}}, "normalised over the slice"),
        ({"data": {"roots": {"acdc": "a"}}}, "belong to the source 'sets'"),
        ({"data": {"source": "sets", "roots": {"acdcc": "a"}}}, "unknown data set 'acdcc'"),
        ({"data": {"source": "sets", "fold": 0}}, "fold needs folds"),
        ({"augmentation": {"kind": "strong"}}, "unknown kind of augmentation 'strong'"),
        ({"loss": {"dice": 0, "cross_entropy": 0}}, "must weigh more than 0"),
        ({"pretrained": {"parts": "all"}}, "'pretrained.weights'"),
        ({"data": {"phantom": {"organ": False}}}, "unknown setting 'organ'"),
        ({"data": {"phantom": {"motion_share": 1.5}}}, "motion_share must lie between 0 and 1"),
        ({"precision": "16-true"}, "'precision'"),
        ({"name": None}, "'name'"),
    ],
)
def test_a_wrong_key_is_named(change, named):
    with pytest.raises(RunError) as error:
        parse(MINIMAL | change, "my.yaml")
    assert named in str(error.value)
    assert str(error.value).startswith("my.yaml: ")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"method": "bi-directional"}, r"bi-directional needs frozen: \[m, n\]"),
        ({"method": "layer-wise"}, r"layer-wise needs frozen: \[m, n\]"),
        ({"method": "all", "frozen": [1, 2]}, "frozen belongs to the methods layer-wise and"),
        ({"method": "layer-wise", "frozen": [2, 3]}, "begin with the first"),
        ({"members": ["a", "a"]}, "'members': 'a' is named twice"),
    ],
)
def test_what_is_wrong_with_a_fine_tuning_is_said(change, told):
    with pytest.raises(RunError, match=told):
        parse_finetuning({"name": "a"} | change, "here")


def test_names_that_are_no_folder_names_and_unknown_presets_are_refused():
    with pytest.raises(CineLabelError, match="name of a run"):
        parse(MINIMAL | {"name": "../a"}, "here")
    with pytest.raises(ModelError, match="unknown network preset 'unet'"):
        parse(MINIMAL | {"network": "unet"}, "here")


def test_a_file_replaces_keys_of_the_one_it_extends_and_those_of_the_data_one_by_one(tmp_path):
    (tmp_path / "base.yaml").write_text(
        "{name: b, network: nnunet2d-compact, steps: 5, data: {size: 64, seed: 3}}"
    )
    file = tmp_path / "a.yaml"
    file.write_text("{extends: base.yaml, name: a, data: {seed: 4}}")
    config = load(file, steps=7)
    assert (config.name, config.steps, config.data.size, config.data.seed) == ("a", 7, 64, 4)
    file.write_text("{extends: gone.yaml, name: a}")
    with pytest.raises(RunError, match="gone.yaml: the configuration cannot be read"):
        load(file)
    file.write_text("{extends: a.yaml, name: a}")
    with pytest.raises(RunError, match="a.yaml: the configuration extends itself"):
        load(file)
    file.write_text(f"{{extends: ../{tmp_path.name}/a.yaml, name: a}}")
    with pytest.raises(RunError, match="a.yaml: the configuration extends itself"):
        load(file)


def test_folders_of_data_sets_are_added_to_those_of_the_file(tmp_path):
    file = tmp_path / "a.yaml"
    data = {"source": "sets", "roots": {"acdc": "old", "mnms": "kept"}}
    file.write_text(yaml.safe_dump(MINIMAL | {"data": data}))
    config = load(file, roots={"acdc": Path("new")})
    assert config.data.roots == {"acdc": Path("new"), "mnms": Path("kept")}


def test_a_data_set_may_move_but_not_be_another():
    def of(roots: dict[str, str]):
        return parse(MINIMAL | {"data": {"source": "sets", "roots": roots}}, "here")

    assert first_difference(of({"acdc": "a"}), of({"acdc": "b"})) is None
    found = first_difference(of({"acdc": "a"}), of({"mnms": "a"}))
    assert found == ("data.roots", ["acdc"], ["mnms"])


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
    default, none = make_config(augmentation={}), make_config(augmentation=None)
    assert first_difference(default, none) == ("augmentation", {}, None)


@pytest.mark.parametrize("data", [3, {"roots": ["acdc"]}])
def test_data_that_are_no_table_are_refused_where_folders_are_given(tmp_path, data):
    file = tmp_path / "a.yaml"
    file.write_text(yaml.safe_dump(MINIMAL | {"data": data}))
    with pytest.raises(RunError, match="'data"):
        load(file, roots={"acdc": tmp_path})
