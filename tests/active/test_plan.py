"""What a simulation is asked to do: cells, sides of patients, what may change when it goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cinelabel.active.plan import (
    ALL,
    BEFORE,
    SimulationConfig,
    all_cells,
    load,
    make_folds,
    require_same,
)
from cinelabel.core.errors import InputError, RunError
from cinelabel.core.labels import CANONICAL, STRUCTURES
from cinelabel.datasets import Case
from cinelabel.learning import config as configuration

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "simulate"


def make_config(**changes: Any) -> SimulationConfig:
    values = {"name": "sim", "about": "Tests.", "methods": {"all": {}}, "budgets": [4, 2]}
    return configuration.parsed(SimulationConfig, values | changes, "test")


def make_cases(count: int) -> list[Case]:
    file = Path("image.nii.gz")
    return [
        Case("acdc", f"p{number}", phase, file, file, CANONICAL, structures=STRUCTURES)
        for number in range(count)
        for phase in ("ED", "ES")
    ]


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.stem)
def test_the_examples_can_be_read(file: Path) -> None:
    assert load(file).name == file.stem


def test_cells_are_every_strategy_method_seed_and_budget_once() -> None:
    config = make_config(
        strategies=["first", "random"], methods={"all": {}, "last": {}}, seeds=[1, 2, 3]
    )
    found = list(all_cells(config, make_folds(config, make_cases(9))))
    assert len({cell.name for cell in found}) == len(found) == 1 + 3 * 2 * (1 + 2 * 2)
    assert sum(cell.strategy == ALL for cell in found) == 3 * 2
    assert [cell.strategy for cell in found].index(BEFORE) == 0


def test_patients_are_scored_or_corrected_never_both() -> None:
    config = make_config(test_patients=3)
    (fold,) = make_folds(config, make_cases(9))
    pool, test = ({case.group for case in side} for side in (fold.pool, fold.test))
    assert len(test) == 3
    assert len(pool) == 6
    assert not pool & test


def test_who_is_scored_depends_on_the_seed_of_the_simulation_alone() -> None:
    def scored(**changes: Any) -> set[str]:
        (fold,) = make_folds(make_config(test_patients=3, **changes), make_cases(9))
        return {case.group for case in fold.test}

    assert scored(seeds=[5]) == scored(seeds=[6])
    assert scored(seed=1) != scored(seed=2)


def test_leave_one_out_scores_each_patient_by_the_others() -> None:
    config = make_config(leave_one_out=True)
    folds = make_folds(config, make_cases(3))
    assert [{case.patient for case in fold.test} for fold in folds] == [{"p0"}, {"p1"}, {"p2"}]
    assert [len(fold.pool) for fold in folds] == [4, 4, 4]
    assert all(cell.strategy != ALL for cell in all_cells(config, folds))


def test_too_few_patients_are_refused() -> None:
    with pytest.raises(InputError, match="2 patient"):
        make_folds(make_config(test_patients=2), make_cases(2))


def test_members_share_the_minutes() -> None:
    config = make_config(members=["a", "b"], shared={"minutes": 5})
    assert config.tuning("all", 1, "cell").minutes == 2.5


def test_minutes_on_the_command_line_count_and_steps_do_not(tmp_path: Path) -> None:
    text = "{name: a, about: b, methods: {all: {}}, budgets: [2], shared: {steps: 3, lr: 0.5}}"
    (tmp_path / "a.yaml").write_text(text)
    tuning = load(tmp_path / "a.yaml", minutes=2).tuning("all", 1, "cell")
    assert (tuning.minutes, tuning.steps, tuning.lr) == (2, 100_000, 0.5)


def test_minutes_on_the_command_line_count_for_methods_with_steps_of_their_own() -> None:
    config = load(CONFIGS / "leave-one-out.yaml", minutes=1.2)
    assert "steps" in (load(CONFIGS / "leave-one-out.yaml").methods["metalr"] or {})
    tuned = [config.tuning(method, 1, "cell") for method in config.methods]
    assert {(tuning.steps, tuning.minutes) for tuning in tuned} == {(100_000, 1.2)}
    assert config.tuning("layer-wise", 1, "cell").frozen == (1, 4)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{name: a, about: b, budgets: [2], methods: {all: 3}}", "methods.all"),
        ("{name: a, about: b, budgets: [2], methods: 3}", "methods"),
        ("{name: a, about: b, budgets: [2], methods: {all: {}}, shared: 3}", "shared"),
    ],
)
def test_minutes_do_not_hide_what_is_wrong_with_a_table(
    tmp_path: Path, text: str, told: str
) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(RunError, match=f"'{told}'"):
        load(tmp_path / "a.yaml", minutes=2)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"strategies": ["best"]}, "strategies.*no strategy 'best'"),
        ({"methods": {"sgd": {}}}, "methods, sgd.*'method'"),
        ({"methods": {"all": {"lr": -1}}}, "methods, all.*'lr'"),
        ({"shared": {"seed": 3}}, "'seed' does not belong"),
        ({"budgets": [0]}, "budgets"),
        ({"seeds": [1, -1]}, "seeds.1"),
        ({"seeds": [1, 2, 1]}, "'seeds': 1 is named twice"),
        ({"budgets": [4, 2, 4]}, "'budgets': 4 is named twice"),
        ({"strategies": ["random", "random"]}, "'strategies': 'random' is named twice"),
        ({"members": ["first", "first"]}, "'members': 'first' is named twice"),
        ({"cohort": {"studies": 3, "seed": 1, "settings": {"organ": True}}}, "unknown setting"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(RunError, match=told):
        make_config(**changes)


def test_a_simulation_may_grow_but_not_change(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    require_same(file, make_config())
    file.write_text(make_config().to_yaml())
    require_same(file, make_config(budgets=[8], seeds=[9], methods={"all": {}, "last": {}}))
    with pytest.raises(RunError, match="test_patients = 8, not 2"):
        require_same(file, make_config(test_patients=2))
    with pytest.raises(RunError, match="another method 'all'"):
        require_same(file, make_config(methods={"all": {"lr": 0.1}}))
