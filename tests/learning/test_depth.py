"""Depth of a U-Net in two readings, and the layers that rules on depth freeze."""

from __future__ import annotations

import pytest
from cinelabel.core.errors import InputError, RunError
from cinelabel.learning.config import parse_finetuning
from cinelabel.learning.depth import (
    bidirectional_settings,
    contracting,
    expanding,
    frozen_between,
    layers,
    require_frozen,
)
from cinelabel.networks import build

U = ["stem", "encoder_1", "encoder_2", "bottleneck", "decoder_1", "decoder_2", "decoder_3", "head"]


def test_left_to_right_a_group_is_a_layer_and_the_head_the_last() -> None:
    assert layers(U) == tuple((name,) for name in U)


def test_top_to_bottom_the_two_sides_of_a_level_are_one_layer() -> None:
    assert layers(U, "I2") == (
        ("stem", "decoder_3"),
        ("encoder_1", "decoder_2"),
        ("encoder_2", "decoder_1"),
        ("bottleneck",),
        ("head",),
    )


@pytest.mark.parametrize("preset", ["nnunet2d", "nnunet3d", "swin_unetr", "swin_unet"])
@pytest.mark.parametrize("reading", ["I1", "I2"])
@pytest.mark.parametrize("block", [1, 2, 3])
def test_every_group_of_every_family_lies_in_one_layer(
    preset: str, reading: str, block: int
) -> None:
    groups = list(build(f"{preset}-compact").layer_groups())
    found = layers(groups, reading, block)  # type: ignore[arg-type]
    assert sorted(name for layer in found for name in layer) == sorted(groups)
    assert found[-1] == ("head",)


def test_what_one_side_has_more_at_the_top_joins_the_uppermost_level() -> None:
    longer = [*U[:6], "decoder_2", "decoder_3", "decoder_4", "head"]
    assert layers(list(dict.fromkeys(longer)), "I2")[0] == ("stem", "decoder_4", "decoder_3")
    shorter = ["stem", "encoder_1", "encoder_2", "bottleneck", "decoder_1", "decoder_2", "head"]
    assert layers(shorter, "I2")[:2] == (
        ("stem", "encoder_1", "decoder_2"),
        ("encoder_2", "decoder_1"),
    )


def test_blocks_put_adjacent_layers_together() -> None:
    assert layers(U, block=3) == (
        ("stem", "encoder_1", "encoder_2"),
        ("bottleneck", "decoder_1", "decoder_2"),
        ("decoder_3",),
        ("head",),
    )


def test_ten_layers_have_the_45_settings_of_the_paper() -> None:
    found = bidirectional_settings(10)
    assert len(found) == len(set(found)) == 45
    assert (1, 9) in found
    assert all(1 <= m <= n < 10 for m, n in found)


def test_freezing_leaves_the_other_layers() -> None:
    among = layers(U)
    assert frozen_between(among, 3, 4) == ("encoder_2", "bottleneck")
    assert frozen_between(among, 1, 2) == ("stem", "encoder_1")


@pytest.mark.parametrize(("m", "n"), [(0, 2), (3, 2), (1, 8)])
def test_the_last_layer_cannot_be_frozen_nor_layers_that_do_not_exist(m: int, n: int) -> None:
    with pytest.raises(InputError, match="cannot be frozen"):
        frozen_between(layers(U), m, n)


def test_what_cannot_be_frozen_is_told_with_the_place_and_how_many_layers_there_are() -> None:
    network = build("nnunet2d-compact")
    deep = len(network.layer_groups())

    def frozen(last: int, block: int = 1) -> None:
        values = {"name": "a", "method": "bi-directional", "frozen": [1, last], "block": block}
        require_frozen(network, parse_finetuning(values, "test"), "methods, a")

    frozen(deep - 1)
    with pytest.raises(RunError, match=f"methods, a: layers 1 to {deep}.* n <= {deep - 1}"):
        frozen(deep)
    frozen(1, block=deep)
    with pytest.raises(RunError, match="layers 1 to 2 .* n <= 1"):
        frozen(2, block=deep)


def test_the_paths_are_told_apart() -> None:
    assert contracting(U) == ("stem", "encoder_1", "encoder_2")
    assert expanding(U) == ("decoder_1", "decoder_2", "decoder_3")


def test_groups_without_a_head_are_refused() -> None:
    with pytest.raises(InputError, match="head"):
        layers(["stem"])
