"""Specifications describe networks without torch and refuse what cannot be built."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

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


def test_sides_of_a_volume_are_halved_each_by_its_own_strides():
    paper = PRESETS["nnunet3d-paper"]
    assert paper.divisors == (2, 64, 64)
    assert paper.accepts(10, 448, 384)
    assert not paper.accepts(9, 448, 384)
    assert not paper.accepts(448, 384)


def test_a_swin_network_takes_images_of_its_own_size_only():
    spec = PRESETS["swin_unet-paper"]
    assert (spec.accepts(224, 224), spec.accepts(256, 256)) == (True, False)
    assert [PRESETS[f"{name}-paper"].divisor for name in ("swin_unet", "swin_unetr")] == [32, 32]


@pytest.mark.parametrize("name", [name for name, spec in PRESETS.items() if spec.size])
def test_windows_cover_the_tokens_of_each_stage_without_a_rest(name):
    spec = PRESETS[name]
    tokens = spec.size // FAMILIES[spec.family].patch
    for stage in range(4):
        side = tokens // 2**stage
        assert side % min(side, spec.window) == 0


def test_a_specification_names_the_numbers_of_its_family_alone():
    values = PRESETS["swin_unet-paper"].to_dict()
    assert "heads" in values
    assert not {"strides", "deep_supervision"} & set(values)


def test_a_card_from_before_the_deformable_bottleneck_still_reads():
    values = PRESETS["nnunet2d-compact"].to_dict()
    del values["deformable_bottleneck"]
    assert NetworkSpec.from_dict(values) == PRESETS["nnunet2d-compact"]


def test_the_numbers_of_another_family_are_refused():
    with pytest.raises(ModelError, match="'swin_unet' have no 'strides'"):
        NetworkSpec.from_dict(PRESETS["swin_unet-paper"].to_dict() | {"strides": [[1, 1, 1]]})
    with pytest.raises(ModelError, match="'nnunet3d' have no 'deformable_bottleneck'"):
        replace(PRESETS["nnunet3d-compact"], deformable_bottleneck=True)


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


@pytest.mark.parametrize(
    ("preset", "wrong"),
    [
        ("nnunet3d-compact", {"strides": ((1, 2, 2),) * 5}),
        ("nnunet3d-compact", {"strides": ((1, 1, 1),) * 4}),
        ("nnunet3d-compact", {"kernels": ((1, 2, 2),) * 5}),
        ("nnunet3d-compact", {"kernels": ((3, 3),) * 5}),
        ("swin_unet-compact", {"size": 100}),
        ("swin_unet-compact", {"size": 0}),
        ("swin_unet-compact", {"depths": (2, 2)}),
        ("swin_unet-compact", {"heads": (3, 3, 3, 3)}),
        ("swin_unet-compact", {"features": (32, 64, 128, 200)}),
        ("swin_unet-compact", {"drop_path": 1.0}),
        ("swin_unet-compact", {"head_kernel": 2}),
        ("swin_unetr-compact", {"features": (16, 32, 64, 128)}),
    ],
)
def test_numbers_a_family_cannot_use_are_refused(preset, wrong):
    with pytest.raises(ModelError):
        replace(PRESETS[preset], **wrong)
