"""Publication writes both forms of each network, checks that they agree, and does so once."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from cinelabel.core.errors import InputError, ModelError, OutputError
from cinelabel.models import export
from cinelabel.models.card import Agreement
from cinelabel.models.folders import whole_folder
from cinelabel.models.runtime import openvino_core
from cinelabel.models.store import Kept
from cinelabel.networks import NetworkSpec, build
from cinelabel.networks.weights import set_weights
from safetensors.torch import load_file


def publish(store, drafts, version="b-1", **options):
    return store.publish(version, drafts, provenance={}, metrics={}, **options)


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_published_version_is_whole_and_others_are_untouched(store, drafts):
    before = contents(store.root)
    for name in ("b-1-0123abcd", "b-1-tuned-1-0123abcd"):  # of one who was killed, and another's
        (store.root / f".partial-{name}").mkdir()
    version = publish(store, drafts, parent="a-1", licence="CC-BY-4.0")
    version.verify()
    assert [path.name for path in store.root.glob(".partial-*")] == [
        ".partial-b-1-tuned-1-0123abcd"
    ]
    assert sorted(path.name for path in version.path.iterdir()) == [
        "card.json",
        *(
            f"{name}.{suffix}"
            for name in ("loc", "seg")
            for suffix in ("bin", "safetensors", "xml")
        ),
    ]
    assert [(m.name, m.role) for m in version.card.members] == [
        ("seg", "segmenter"),
        ("loc", "locator"),
    ]
    assert (version.card.parent, version.card.licence) == ("a-1", "CC-BY-4.0")
    assert store.current() == "phantom-2"
    after = contents(store.root)
    assert {path: after[path] for path in before} == before


def test_the_agreement_of_both_forms_is_measured_on_noise_and_phantom_slices(store):
    for member in store.load("a-1").card.members:
        assert member.agreement.images == 12
        assert member.agreement.max_probability_difference < 1e-3
        assert member.agreement.label_agreement > 0.999


CONVERT = """
import torch
from cinelabel.models.runtime import import_openvino, openvino_core
openvino_core()
import_openvino().convert_model(torch.nn.Conv2d(1, 1, 1), example_input=torch.zeros(1, 1, 8, 8))
"""


def test_openvino_reports_to_nobody(tmp_path):
    """It would send statistics of each import and conversion, and note an identifier at home."""
    at_home = {**os.environ, "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", CONVERT], env=at_home, check=True, capture_output=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape", [(1, 1, 16, 16), (5, 1, 32, 24), (2, 1, 4, 40)])
def test_the_openvino_form_takes_any_batch_height_and_width(store, shape):
    version = store.load("a-1")
    images = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino_core().compile_model(version.file("seg", "openvino_xml"), "CPU", settings)
    with torch.inference_mode():
        expected = version.network("seg")(torch.from_numpy(images)).numpy()
    assert expected.shape == (shape[0], 4, *shape[2:])
    np.testing.assert_allclose(compiled(images)[0], expected, atol=1e-3)


def test_weights_are_rounded_to_half_precision_unless_asked_otherwise(store, drafts):
    original = drafts[0].weights
    halved = load_file(store.load("a-1").file("seg", "safetensors"))
    full = load_file(publish(store, drafts[:1], half=False).file("seg", "safetensors"))
    for name, tensor in original.items():
        assert torch.equal(halved[name], tensor.half())
        assert torch.equal(full[name], tensor)


def test_the_network_of_a_version_is_the_one_that_was_published(store, drafts):
    restored = publish(store, drafts[1:], half=False).network("loc")
    network = build(drafts[1].network)
    set_weights(network, drafts[1].weights)
    images = torch.randn(1, 1, 8, 8)
    assert not restored.training
    assert torch.equal(restored(images), network.eval()(images))


@pytest.mark.parametrize("version", ["a-1", "phantom-2"])
def test_a_version_is_never_written_twice(store, drafts, version):
    before = contents(store.root)
    with pytest.raises(ModelError, match="exists and versions never change"):
        publish(store, drafts, version)
    assert contents(store.root) == before


@pytest.mark.parametrize("version", ["../b", "", ".b", "current", "b 1"])
def test_names_that_cannot_be_a_version_are_refused(store, drafts, version):
    with pytest.raises(InputError, match="not a valid name of a model version"):
        publish(store, drafts, version)


def test_a_member_whose_weights_do_not_fit_leaves_nothing_behind(store, drafts):
    before = contents(store.root)
    wider = NetworkSpec(features=(4, 8, 16), decoder_convs_per_stage=1)
    with pytest.raises(ModelError, match="has shape"):
        publish(store, [drafts[1], replace(drafts[0], network=wider)])
    assert contents(store.root) == before
    assert not list(store.root.glob(".partial*"))


def test_forms_that_disagree_are_not_published(store, drafts, monkeypatch):
    unlike = Agreement(images=1, max_probability_difference=0.2, label_agreement=0.9)
    monkeypatch.setattr(export, "compare", lambda *arguments: unlike)
    with pytest.raises(ModelError, match="seg: the OpenVINO form disagrees .* 0.2, 90.00%"):
        publish(store, drafts)
    assert store.versions() == ["a-1", "phantom-2"]


def test_a_difference_between_the_forms_is_seen(store):
    version = store.load("a-1")
    network = version.network("seg")
    inputs = list(export.examples(network.spec, "segmenter", {}))
    xml = version.file("seg", "openvino_xml")
    with torch.no_grad():
        network.unet.decoder.seg_layers[-1].bias[0] += 0.5
    found = export.compare(network, xml, iter(inputs))
    assert found.max_probability_difference > 0.01
    assert found.label_agreement < 0.999


def test_weights_that_half_precision_cannot_hold_are_refused(store, drafts):
    name = next(iter(drafts[0].weights))
    large = {**drafts[0].weights, name: torch.full_like(drafts[0].weights[name], 1e6)}
    with pytest.raises(ModelError, match="float16 cannot hold"):
        publish(store, [replace(drafts[0], weights=large)])


def test_members_need_names_of_their_own(store, drafts):
    for members in ([], [drafts[0], drafts[0]]):
        with pytest.raises(ModelError, match="names of their own"):
            publish(store, members)
    with pytest.raises(InputError, match="name of a member"):
        publish(store, [replace(drafts[0], name="a/b")])


def test_weights_and_the_fast_member_are_published(store, drafts):
    version = publish(store, [replace(drafts[0], weight=0.5), drafts[1]], fast="seg")
    card = store.load(version.name).card
    assert [member.weight for member in card.members] == [0.5, 1.0]
    assert card.fast == "seg"


def test_a_weight_or_a_fast_member_that_cannot_be_is_refused_before_the_work(store, drafts):
    for weight in (0.0, float("nan"), float("inf")):
        with pytest.raises(ModelError, match="seg: the weight of a member is a positive number"):
            publish(store, [replace(drafts[0], weight=weight)])
    for fast in ("loc", "nobody"):
        with pytest.raises(ModelError, match=f"b-1: the fast member '{fast}' is none that"):
            publish(store, drafts, fast=fast)


def test_networks_are_compared_on_what_their_preparation_would_show_them(drafts):
    native = {"spacing_mm": None, "size": 16, "intensity": "min-max"}
    slices = list(export.examples(drafts[0].network, "segmenter", native))[-1]
    assert slices.shape == (8, 1, 16, 16)
    assert (slices.min(), slices.max()) == (0.0, 1.0)


def test_members_of_another_version_are_taken_over_file_by_file(store):
    first = store.load("a-1")
    second = publish(store, [Kept(first, member) for member in first.card.members], parent="a-1")
    second.verify()
    assert second.card.members == first.card.members


def test_a_damaged_member_is_not_taken_over(store):
    first = store.load("a-1")
    (first.path / first.card.members[-1].files["openvino_bin"]).write_bytes(b"spoilt")
    with pytest.raises(ModelError, match="damaged"):
        publish(store, [Kept(first, member) for member in first.card.members])
    assert store.versions() == ["a-1", "phantom-2"]


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "deep" / "folder"

    def fail_half_way():
        with whole_folder(target) as folder:
            (folder / "file").write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        fail_half_way()
    assert list((tmp_path / "deep").iterdir()) == []
    with whole_folder(target) as folder:
        (folder / "file").write_text("whole")
        assert not target.exists()
    assert (target / "file").read_text() == "whole"


def test_a_folder_that_exists_is_not_replaced(tmp_path):
    target = tmp_path / "folder"
    target.mkdir()
    with pytest.raises(OutputError, match="exists already"), whole_folder(target) as folder:
        (folder / "file").write_text("new")
    assert list(tmp_path.iterdir()) == [target]
    assert list(target.iterdir()) == []


def test_a_parent_that_is_a_file_is_said_in_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"), whole_folder(tmp_path / "file/a"):
        pass
