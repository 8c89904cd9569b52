"""Specifications describe networks without torch and refuse what cannot be built."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from cinelabel.core.errors import ModelError
from cinelabel.networks.specs import FAMILIES, PRESETS, NetworkSpec, resolve


def test_specifications_and_build_can_be_imported_without_torch():
    code = (
        "import sys, cinelabel.networks, cinelabel.networks.specs;"
        "sys.exit('torch' in sys.modules or 'dynamic_network_architectures' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", PRESETS)
def test_a_specification_survives_json(name):
    spec = PRESETS[name]
    assert NetworkSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_an_input_must_be_divisible_by_two_for_each_halving():
    assert NetworkSpec(features=(4, 8)).divisor == 2
    assert PRESETS["nnunet2d-compact"].divisor == 16
    assert PRESETS["nnunet2d-paper"].divisor == 128


def test_the_locator_has_two_classes_and_one_output():
    spec = resolve("locator-compact")
    assert (spec.classes, spec.deep_supervision) == (2, False)


def test_an_unknown_preset_is_refused_and_the_known_ones_are_listed():
    with pytest.raises(ModelError) as error:
        resolve("nnunet3d")
    assert all(name in str(error.value) for name in ("'nnunet3d'", *PRESETS))


def test_an_unknown_family_is_refused_and_the_known_ones_are_listed():
    with pytest.raises(ModelError) as error:
        NetworkSpec(features=(4, 8), family="vnet")
    assert all(name in str(error.value) for name in ("'vnet'", *FAMILIES))


@pytest.mark.parametrize(
    "wrong",
    [
        {"features": (8,)},
        {"features": (8, 0)},
        {"features": (8, 16), "in_channels": 0},
        {"features": (8, 16), "convs_per_stage": 1.5},
        {"features": (8, 16), "classes": 1},
        {"features": (8, 16), "colour": "red"},
        {"family": "nnunet2d"},
        {"features": 8},
    ],
)
def test_numbers_no_network_can_be_built_from_are_refused(wrong):
    with pytest.raises(ModelError):
        NetworkSpec.from_dict(wrong)
