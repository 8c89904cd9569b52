"""Methods of fine-tuning compared: patients on one side, each run once, layers chosen apart."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from cinelabel.cli.main import main
from cinelabel.core.errors import InputError, RunError
from cinelabel.core.labels import STRUCTURES
from cinelabel.datasets import cases
from cinelabel.evaluation.comparison import Result, Stopped, compare
from cinelabel.learning import comparison as learning
from cinelabel.learning.case_files import corrections_of
from cinelabel.learning.comparison import SIDES, Comparison, begin, deal, load, of_labels, of_sets
from cinelabel.learning.config import parse_finetuning, read_yaml
from cinelabel.learning.corrections import read_lesson
from cinelabel.learning.finetune import tune
from cinelabel.models.store import ModelStore

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "finetune"
TINY = {
    "steps": 2,
    "batch_size": 4,
    "replay_count": 8,
    "lr": 0.01,
    "precision": "32-true",
    "device": "cpu",
    "workers": 1,
    "threads": 1,
}
CONFIG = {
    "name": "tiny",
    "methods": {"metalr": None, "bi-directional": {"block": 2}, "layer-wise": {"block": 2}},
    "shared": TINY,
    "seeds": [1],
    "model": "tiny-1",
    "fast": True,
}


def write(folder: Path, **changes: object) -> Path:
    file = folder / "tiny.yaml"
    file.write_text(yaml.safe_dump(CONFIG | changes))
    return file


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    return tmp_path_factory.mktemp("phantoms")


@pytest.fixture
def start(models, sets, tmp_path, phantoms) -> Callable[..., Comparison]:
    """Begin the comparison on both sets, with a configuration that differs."""

    def make(folder: Path = tmp_path, **changes: object) -> Comparison:
        source = of_sets(sets, folder / "cases")
        config = load(write(tmp_path, **changes))
        return begin(config, folder / "tiny", source, cache=phantoms, store=models)

    return make


@pytest.fixture(scope="module")
def done(models, sets, phantoms, tmp_path_factory) -> tuple[Comparison, Result]:
    """A whole comparison, in a folder of its own."""
    folder = tmp_path_factory.mktemp("done")
    source = of_sets(sets, folder / "cases")
    begun = begin(load(write(folder)), folder / "tiny", source, cache=phantoms, store=models)
    return begun, compare(begun)


def run_command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main(["finetune", *map(str, arguments)])
    return int(end.value.code or 0)


def test_a_patient_is_on_one_side_and_every_set_on_each_in_turn(sets):
    found = [case for name in sets for case in cases(name, sets[name])]
    sides = deal(found, learning.Parts(training=1, validation=1, test=1))
    groups = [{case.group for case in sides[side]} for side in SIDES]
    assert sum(map(len, sides.values())) == len(found)
    assert sum(map(len, groups)) == len(set.union(*groups)) == 6
    assert all(sum(g.startswith("acdc") for g in side) in (1, 2) for side in groups)


def test_fewer_patients_than_parts_are_refused(sets):
    with pytest.raises(InputError, match="4 patient.* cannot be split into 5"):
        deal(cases("acdc", sets["acdc"]), learning.Parts())


def test_labels_of_other_conventions_become_corrections_in_our_own(sets, tmp_path):
    found = cases("acdc", sets["acdc"])[:2]
    first, _ = corrections_of(found, tmp_path)
    lesson = read_lesson(first)
    assert first.patient == "acdc/patient001"
    counts = [int((lesson.labels == s.value).sum()) for s in STRUCTURES]
    assert counts == [27, 48, 6]  # 9 and 16 pixels and 2 x 1, in three slices each
    assert len(lesson.slices) == 5
    written = first.label_file.stat().st_mtime_ns
    assert corrections_of(found, tmp_path)[0] == first
    assert first.label_file.stat().st_mtime_ns == written


def test_tuning_goes_on_after_a_kill_to_the_same_weights(start, phantoms, tmp_path):
    begun = start()
    config = parse_finetuning(TINY | {"name": "t", "steps": 4, "checkpoint_every": 1}, "test")

    def to_the_end(run: str, stop=None):
        given = {"cache": phantoms, "stop": stop}
        return tune(config, tmp_path / run, begun.member, begun.examples, **given)

    whole = to_the_end("whole")
    assert to_the_end("parts", stop=lambda: True) is None
    parts = to_the_end("parts")
    assert parts.steps == whole.steps == 4
    assert all(np.array_equal(parts.weights[k], v) for k, v in whole.weights.items())


def test_layers_are_chosen_on_validation_patients_and_the_table_is_of_others(done):
    begun, result = done
    validation, test = (
        {score["case"] for file in begun.folder.rglob(f"{side}-fast.json") for score in read(file)}
        for side in ("validation", "test")
    )
    training = {case.name for case in begun.sides["training"]}
    assert len(validation) == len(test) == 2
    assert len(training | validation | test) == len(training) + 4
    assert begun.examples.slice_count == 5 * len(training)
    for search in result.searches:
        assert {o.frozen for o in result.of(search.row)} == {search.chosen}
        assert search.dice[search.chosen] == max(search.dice.values())
    chosen = {search.chosen for search in result.searches}
    searched_only = [run for run in runs_of(begun) if not (run / "test-fast.json").exists()]
    assert len(searched_only) == 3 - len(chosen)


def test_layer_wise_shares_the_runs_that_bi_directional_has_made(done):
    begun, result = done
    assert {s.row: set(s.dice) for s in result.searches} == {
        "bi-directional": {(1, 1), (1, 2), (2, 2)},
        "layer-wise": {(1, 1), (1, 2)},
    }
    assert len(runs_of(begun)) == 3 + 1  # and MetaLR


def test_what_is_finished_is_neither_trained_nor_scored_again(done, start, monkeypatch):
    begun, result = done
    before = {run: (run / "weights.safetensors").stat().st_mtime_ns for run in runs_of(begun)}
    monkeypatch.setattr("cinelabel.evaluation.comparison.segment_case", None)
    again = start(begun.folder.parent)
    assert compare(again) == result
    assert before == {
        run: (run / "weights.safetensors").stat().st_mtime_ns for run in runs_of(again)
    }


def test_asked_to_stop_it_goes_on_where_it_was(start):
    begun, asked = start(methods={"all": None}), []

    def after_a_step() -> bool:
        asked.append(None)
        return len(asked) > 2  # before two cases are scored, and after a step

    with pytest.raises(Stopped):
        compare(begun, stop=after_a_step)
    assert not any((run / "summary.json").exists() for run in runs_of(begun))
    assert {outcome.steps for outcome in compare(begun).of("all")} == {2}


def test_a_comparison_of_other_patients_or_another_member_is_refused(start):
    assert start().config.member == "second"
    with pytest.raises(RunError, match="begun with other cases or labels"):
        start(parts={"seed": 6})
    with pytest.raises(RunError, match="begun with the member second, not first"):
        start(member="first")


def test_layers_that_a_later_row_cannot_freeze_are_refused_before_anything_is_made(start, tmp_path):
    rows = {"metalr": None, "far": {"method": "bi-directional", "frozen": [3, 99]}}
    with pytest.raises(RunError, match="methods, far: layers 3 to 99 cannot be frozen"):
        start(methods=rows)
    assert not (tmp_path / "tiny").exists()


def test_a_row_or_key_that_is_wrong_is_named(tmp_path):
    for changes, problem in (
        ({"methods": {"some": None}}, "methods, some: 'method'"),
        ({"methods": {"all": {"rate": 1}}}, "methods, all: 'rate'"),
        ({"methods": {"all": {"seed": 1}}}, "all: 'seed' is the same for all rows"),
        ({"methods": {}}, "'methods'"),
        ({"seeds": [1, 2, 1]}, "'seeds': 1 is named twice"),
        ({"seeds": [1, -1]}, "'seeds.1'"),
        ({"extra": 1}, "'extra'"),
    ):
        with pytest.raises(RunError, match=problem):
            load(write(tmp_path, **changes))


def test_the_configurations_that_come_along_can_be_read():
    config = load(CONFIGS / "methods.yaml")
    assert sum(config.searches(row) for row in config.methods) == 4
    assert parse_finetuning(read_yaml(CONFIGS / "metalr.yaml"), "metalr").method == "metalr"


def test_readers_labels_are_scored_in_the_slices_that_teach(readers):
    labels = np.zeros((24, 30, 5), np.uint8)
    labels[9:14, 10:15, 1:3] = 2
    readers.submit("p1__t00", labels, readers.write("p1__t00", labels))
    (case,) = of_labels(readers.corrections()).cases
    assert case.group == "workspace/p1"
    assert [s.name for s in case.structures] == ["MYO"]
    assert case.scored_slices == {"MYO": (1, 2)}


def test_the_command_goes_on_and_writes_table_seeds_cases_and_figures(
    done, models, sets, monkeypatch, capsys
):
    begun, _ = done
    monkeypatch.setenv("CINELABEL_MODELS", str(models.root))
    monkeypatch.setattr("cinelabel.evaluation.comparison.segment_case", None)
    data = [word for name, root in sets.items() for word in ("--data", f"{name}={root}")]
    runs = begun.folder.parent
    assert run_command("compare", runs / "tiny.yaml", *data, "--runs", runs) == 0
    printed = capsys.readouterr().out
    assert "1 patient, 2 cases" in printed
    assert "Median, lowest and highest of 1 seed;" in printed
    for name in ("scores.png", "grid-bi-directional.png", "rates-metalr.png"):
        assert (begun.folder / name).read_bytes().startswith(b"\x89PNG")
    tables = {}
    for name in ("table", "seeds", "cases"):
        with (begun.folder / f"{name}.csv").open() as stream:
            tables[name] = list(csv.DictReader(stream))
    assert {row["method"] for row in tables["table"]} == {"before", *CONFIG["methods"]}
    # of the model before and of three methods: three figures, or two cases, of three structures
    assert len(tables["seeds"]) == 4 * 3 * 3
    assert len(tables["cases"]) == 4 * 3 * 2


def test_the_command_tunes_on_data_sets_and_publishes_a_candidate(
    models, sets, tmp_path, phantoms, monkeypatch, capsys
):
    monkeypatch.setenv("CINELABEL_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr("cinelabel.models.store.BUNDLED_FOLDER", models.root)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "phantoms").symlink_to(phantoms)
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(TINY | {"name": "mine", "model": "tiny-1"}))
    data = [word for name, root in sets.items() for word in ("--data", f"{name}={root}")]
    assert run_command("run", file, *data, "--runs", tmp_path / "runs") == 0
    printed = capsys.readouterr().out
    assert "held-out Dice after: LV" in printed
    assert "tiny-1-tuned-1" in printed
    assert ModelStore(tmp_path / "models").load("tiny-1-tuned-1").card.parent == "tiny-1"
    assert run_command("run", file, *data, "--runs", tmp_path / "runs") == 0
    assert capsys.readouterr().out.endswith(printed[printed.index("held-out Dice before") :])


def test_the_command_wants_one_source_of_labels(tmp_path, capsys):
    for arguments in ((), ("--data", "acdc=x", "--workspace", tmp_path)):
        assert run_command("compare", write(tmp_path), *arguments) == 2
        assert "give either --data SET=DIR or --workspace DIR" in capsys.readouterr().err


def test_a_workspace_without_labels_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("cinelabel.serving.train.corrections_in", lambda folder, problems: [])
    assert run_command("compare", write(tmp_path), "--workspace", tmp_path) == 2
    assert "readers have submitted no label yet" in capsys.readouterr().err


def runs_of(comparison: Comparison) -> list[Path]:
    return sorted((comparison.folder / "runs").iterdir())


def read(file: Path) -> list[dict[str, object]]:
    return json.loads(file.read_text())
