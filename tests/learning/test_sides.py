"""Who is held out of all the runs in a folder: fixed once, never trained on by any of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from cinelabel.cli.main import main
from cinelabel.core.errors import RunError
from cinelabel.learning import finetune as finetuning
from cinelabel.learning.corrections import Correction, hold_out
from cinelabel.learning.finetune import FinetuneResult
from cinelabel.learning.sides import hold_out_of_all

NAMES = [f"patient{number:03d}" for number in range(1, 21)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "patients.json"


@pytest.fixture
def begun(file: Path) -> Callable[[str, list[str]], frozenset[str]]:
    """Begins a run as earlier versions did, its sides in its own folder; who is held out of it."""

    def begin(name: str, patients: list[str]) -> frozenset[str]:
        run = file.parent / name
        held_out = hold_out(run / file.name, patients)
        sides = {
            "training": [label(patient) for patient in patients if patient not in held_out],
            "held_out": [label(patient) for patient in sorted(held_out)],
        }
        (run / "finetuning.json").write_text(json.dumps({"parent": "p", "members": ["m"]} | sides))
        return held_out

    return begin


def label(patient: str) -> dict[str, object]:
    nowhere = Path()
    return Correction(f"{patient}__t00", patient, 1, "0", nowhere, nowhere, whole=True).to_dict()


def test_nobody_that_one_run_learned_from_judges_another(file: Path) -> None:
    trained: set[str] = set()
    judged: set[str] = set()
    for count in (5, 8, 15, 20):
        patients = NAMES[:count]
        held_out = hold_out_of_all(file, file.parent / f"run-{count}", patients)
        assert abs(len(held_out) - count / 5) < 1
        trained |= set(patients) - held_out
        judged |= held_out
    assert not trained & judged
    assert trained | judged == set(NAMES)


def test_who_runs_of_earlier_versions_learned_from_is_held_out_of_no_new_one(file, begun) -> None:
    held_out = [begun("first", NAMES[:5]), begun("second", NAMES[:15])]
    trained = (set(NAMES[:5]) - held_out[0]) | (set(NAMES[:15]) - held_out[1])
    assert trained & set.union(*map(set, held_out)), "they did not agree"
    now = hold_out_of_all(file, file.parent / "third", NAMES)
    assert not now & trained
    assert now >= set.union(*map(set, held_out)) - trained
    assert len(now) == 4


def test_a_run_of_an_earlier_version_goes_on_with_its_own_sides(file, begun) -> None:
    held_out = begun("first", NAMES[:5])
    hold_out_of_all(file, file.parent / "second", NAMES)
    assert hold_out_of_all(file, file.parent / "first", NAMES[:5]) == held_out


def test_an_earlier_run_whose_plan_is_damaged_is_named(file, begun) -> None:
    begun("first", NAMES[:5])
    plan = file.parent / "first" / "finetuning.json"
    plan.write_text("{")
    with pytest.raises(RunError, match=f"{plan}: this is no plan"):
        hold_out_of_all(file, file.parent / "second", NAMES)


@pytest.mark.parametrize("outcome", ["publish", "keep", "reject"])
def test_runs_on_data_sets_share_their_sides_and_only_a_candidate_is_advised(
    sets: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    outcome: str,
) -> None:
    sides = []

    def finetune(config, run, corrections, held_out, **given):
        sides.append(({c.patient for c in corrections} - held_out, held_out))
        return FinetuneResult(run, 1, "tiny-1-tuned-1", outcome=outcome)

    monkeypatch.setattr(finetuning, "finetune", finetune)
    data = [f"{name}={root}" for name, root in sets.items()]
    for name, given in (("a", data[:1]), ("b", data)):
        config = tmp_path / f"{name}.yaml"
        config.write_text(yaml.safe_dump({"name": name}))
        options = [word for root in given for word in ("--data", root)]
        with pytest.raises(SystemExit) as end:
            main(["finetune", "run", str(config), *options, "--runs", str(tmp_path / "runs")])
        assert not end.value.code
    kept = json.loads((tmp_path / "runs" / "patients.json").read_text())
    assert sides[-1] == (set(kept["training"]), set(kept["held_out"]))
    assert len(kept["held_out"]) == 1
    assert not sides[0][0] & sides[1][1]
    assert ("models use" in capsys.readouterr().out) == (outcome != "reject")
