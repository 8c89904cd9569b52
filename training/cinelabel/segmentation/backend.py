"""Where a network runs: OpenVINO on CPUs, torch on CUDA. The choice is made once, from the device.

On a CPU nothing here imports torch: a process with OpenVINO alone is ready in a second, the torch
stack needs eight.
"""

from __future__ import annotations

import ctypes.util
from typing import TYPE_CHECKING, Protocol

import numpy as np

from cinelabel.core.errors import InputError, ModelError
from cinelabel.models.card import MemberCard
from cinelabel.models.runtime import openvino_core
from cinelabel.models.store import ModelVersion

if TYPE_CHECKING:
    import openvino

DEVICES = ("auto", "cpu", "cuda")


class Backend(Protocol):
    """A network that is ready to run."""

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Logits float32 (n, classes, ...) of images float32 (n, 1, h, w), (n, 1, slices, h, w)."""
        ...

    def release(self) -> None:
        """Give back the memory of the activations; the next call takes it again."""
        ...


def choose_device(device: str) -> str:
    """ "cpu" or "cuda" for a wish of "auto", "cpu" or "cuda".

    Raises:
        InputError: for an unknown wish, or for CUDA where there is none.
    """
    if device not in DEVICES:
        raise InputError(f"unknown device {device!r}; known are {', '.join(DEVICES)}")
    if device == "cpu":
        return "cpu"
    if _cuda_works():
        return "cuda"
    if device == "cuda":
        raise InputError(
            "no CUDA device can be used here",
            remedy="Choose --device cpu, or install the [train] extra and an NVIDIA driver",
        )
    return "cpu"


def _cuda_works() -> bool:
    """Whether torch sees a GPU; torch is only asked where an NVIDIA driver is installed."""
    if not (ctypes.util.find_library("cuda") or ctypes.util.find_library("nvcuda")):
        return False
    try:
        import torch
    except ImportError:
        return False
    return bool(torch.cuda.is_available())


def load_backend(version: ModelVersion, member: MemberCard, device: str) -> Backend:
    """The member of a model version on a device ("cpu" or "cuda").

    Raises:
        ModelError: when its files are missing, damaged or not for this device.
    """
    return _Torch(version, member) if device == "cuda" else _OpenVino(version, member)


class _OpenVino:
    def __init__(self, version: ModelVersion, member: MemberCard) -> None:
        xml = version.file(member, "openvino_xml")
        weights = version.file(member, "openvino_bin")
        core = openvino_core()
        try:
            model = core.read_model(xml, weights)
            self._compiled = core.compile_model(model, "CPU", {"PERFORMANCE_HINT": "LATENCY"})
        except RuntimeError as error:
            raise ModelError(f"OpenVINO cannot load it: {error}", where=xml) from error
        self._request: openvino.InferRequest | None = None

    def __call__(self, images: np.ndarray) -> np.ndarray:
        if self._request is None:
            self._request = self._compiled.create_infer_request()
        self._request.infer([np.ascontiguousarray(images, np.float32)])
        return np.array(self._request.get_output_tensor(0).data, np.float32)

    def release(self) -> None:
        self._request = None
        self._compiled.release_memory()


class _Torch:
    def __init__(self, version: ModelVersion, member: MemberCard) -> None:
        import torch

        self._torch = torch
        self._network = version.network(member).to("cuda")

    def __call__(self, images: np.ndarray) -> np.ndarray:
        with self._torch.inference_mode():
            logits = self._network(self._torch.from_numpy(np.ascontiguousarray(images)).to("cuda"))
        return np.asarray(logits.float().cpu().numpy())

    def release(self) -> None:
        self._torch.cuda.empty_cache()
