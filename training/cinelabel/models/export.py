"""The two forms of a published network: safetensors, and the OpenVINO form made from them.

Both come from the same, possibly half-precision, weights. The OpenVINO form takes any batch and
any sides that the network can halve, or the one size of a network made for one size; it is compared
with torch before it is accepted.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from cinelabel.core.errors import ModelError
from cinelabel.core.files import sha256
from cinelabel.models.card import Agreement, FileKind, MemberCard
from cinelabel.models.runtime import import_openvino, openvino_core
from cinelabel.networks import build
from cinelabel.networks.specs import NetworkSpec
from cinelabel.networks.weights import on_cpu, set_weights
from cinelabel.transforms.preprocess import normalise, unit_range

if TYPE_CHECKING:
    from cinelabel.models.store import Draft


@dataclass(frozen=True)
class AgreementLimits:
    """How far the OpenVINO form may be from torch, both computing in float32."""

    max_probability_difference: float = 1e-2
    label_agreement: float = 0.999


def load_network(path: Path, spec: NetworkSpec) -> nn.Module:
    """The network of a safetensors file, float32 on the CPU, in evaluation mode.

    Raises ModelError if the file is unreadable or belongs to another specification.
    """
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError("this is not a file of weights", where=path) from error
    network = build(spec)
    set_weights(network, weights)
    return network.eval()


def export_member(draft: Draft, folder: Path, half: bool) -> MemberCard:
    """Write the files of a member into a folder and return its card.

    Raises ModelError if the weights do not fit the specification or the forms disagree.
    """
    files: dict[FileKind, str] = {
        "safetensors": f"{draft.name}.safetensors",
        "openvino_xml": f"{draft.name}.xml",
        "openvino_bin": f"{draft.name}.bin",
    }
    weights_file, xml = folder / files["safetensors"], folder / files["openvino_xml"]
    # Bytes written by ourselves: safetensors' own files can be read by their owner alone.
    weights_file.write_bytes(save(rounded(draft.weights) if half else on_cpu(draft.weights)))
    network = load_network(weights_file, draft.network)
    export_openvino(network, draft.network, xml, half)
    agreement = compare(network, xml, examples(draft.network, draft.role, draft.preprocessing))
    limits = AgreementLimits()
    if (
        agreement.max_probability_difference > limits.max_probability_difference
        or agreement.label_agreement < limits.label_agreement
    ):
        raise ModelError(
            "the OpenVINO form disagrees with torch: probabilities differ by up to "
            f"{agreement.max_probability_difference:.2g}, "
            f"{agreement.label_agreement:.2%} of the labels are equal",
            where=draft.name,
            remedy="Publish it with full precision",
        )
    return MemberCard(
        name=draft.name,
        role=draft.role,
        network=draft.network.to_dict(),
        preprocessing=dict(draft.preprocessing),
        files=files,
        sha256={name: sha256(folder / name) for name in files.values()},
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        agreement=agreement,
        weight=draft.weight,
    )


def rounded(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Floating-point weights as float16; ModelError if one is too large for it or not finite."""
    result = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in on_cpu(weights).items()
    }
    for name, tensor in result.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ModelError(f"tensor '{name}' has values that float16 cannot hold")
    return result


def export_openvino(network: nn.Module, spec: NetworkSpec, xml: Path, half: bool) -> None:
    """Write the OpenVINO form (xml and bin), its batch free, and its sides unless `spec.size`."""
    openvino = import_openvino()
    sides = _sides(spec, 4)
    example = torch.zeros(2, spec.in_channels, *sides)
    free = sides if spec.size else (-1,) * len(sides)
    shape = openvino.PartialShape([-1, spec.in_channels, *free])
    with warnings.catch_warnings():
        # OpenVINO traces, which torch deprecates; what tracing cannot see are checks of shapes.
        for kind in (FutureWarning, torch.jit.TracerWarning):
            warnings.simplefilter("ignore", kind)
        model = openvino.convert_model(network, example_input=example, input=[shape])
    openvino.save_model(model, xml, compress_to_fp16=half)


def _sides(spec: NetworkSpec, multiple: int) -> tuple[int, ...]:
    """The sides of an image that goes in: the only size, or a multiple of the smallest."""
    if spec.size:
        return (spec.size,) * spec.dimensions
    return tuple(multiple * divisor for divisor in spec.divisors)


def examples(
    spec: NetworkSpec, role: str, preprocessing: Mapping[str, Any]
) -> Iterator[np.ndarray]:
    """Inputs to compare on, float32 (n, channels, ...): noise of two shapes, phantom slices.

    A network of volumes sees the phantom slices as one stack.
    """
    from cinelabel.phantom.dataset import make_example

    generator = np.random.default_rng(0)
    for count, multiples in ((1, (8, 8, 8)), (3, (4, 6, 10))):
        along = multiples[-spec.dimensions :]
        sides = [_sides(spec, m)[axis] for axis, m in enumerate(along)]
        yield generator.standard_normal((count, spec.in_channels, *sides), dtype=np.float32)
    step = spec.divisor
    spacing = float(preprocessing.get("spacing_mm") or 1.5)
    size = spec.size or -(-int(preprocessing.get("size", 8 * step)) // step) * step
    count = 8 if spec.dimensions == 2 else 8 * spec.divisors[0]
    slices = [make_example(role, 0, index, size, spacing)[0] for index in range(count)]
    images = normalise(np.stack(slices))
    if preprocessing.get("intensity") == "min-max":
        images = unit_range(images)
    images = images[:, None] if spec.dimensions == 2 else images[None, None]
    yield np.repeat(images, spec.in_channels, axis=1)


def compare(network: nn.Module, xml: Path, inputs: Iterator[np.ndarray]) -> Agreement:
    """How the OpenVINO form on the CPU, computing in float32, agrees with a torch network."""
    compiled = openvino_core().compile_model(xml, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    images, largest, equal, pixels = 0, 0.0, 0, 0
    for batch in inputs:
        with torch.inference_mode():
            expected = torch.softmax(network(torch.from_numpy(batch)), 1).numpy()
        logits = torch.from_numpy(np.array(compiled(batch)[0], np.float32))
        found = torch.softmax(logits, 1).numpy()
        images += len(batch)
        largest = max(largest, float(np.abs(expected - found).max()))
        same = expected.argmax(1) == found.argmax(1)
        equal, pixels = equal + int(same.sum()), pixels + same.size
    return Agreement(
        images=images, max_probability_difference=largest, label_agreement=equal / pixels
    )
