"""Weights that a run starts from: of another run, of a file, or of a member of the model store.

Pre-training and fine-tuning (Gong et al. 2022, section 2.3) are two runs, of which the second names
the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from cinelabel.core.errors import ModelError, RunError
from cinelabel.core.files import sha256
from cinelabel.learning.config import PretrainedConfig
from cinelabel.learning.run_folder import RunFolder
from cinelabel.models.store import ModelStore
from cinelabel.networks.base import Network
from cinelabel.networks.weights import (
    Transfer,
    get_weights,
    load_encoder,
    read_weights,
    set_weights,
)

STORE_PREFIX = "model:"
OFFSETS = "sampling"
"""Part of the names of the tensors that a deformable convolution has beside a plain one."""


def load_pretrained(network: Network, settings: PretrainedConfig) -> dict[str, Any]:
    """Fill a fresh network and tell what was done, as kept in `summary.json`.

    Returns: `weights` as configured, `parts`, the file's `sha256`, and `transfer`, the lines that
    say which tensors were taken, which not, and why.
    Raises RunError or ModelError if there are no such weights or they do not fit.
    """
    file = find_weights(settings.weights)
    if settings.parts == "encoder":
        transfer = load_encoder(network, file)
    elif settings.parts == "imagenet":
        transfer = _load_imagenet(network, file)
    else:
        transfer = _load_all(network, file)
    return {
        "weights": settings.weights,
        "parts": settings.parts,
        "sha256": sha256(file),
        "transfer": str(transfer),
    }


def find_weights(source: str) -> Path:
    """The safetensors file that a configuration means by `weights`; see the module.

    Raises RunError for a run that is not finished and a path where nothing is, ModelError for a
    version or member that the store has not.
    """
    if source.startswith(STORE_PREFIX):
        version, _, member = source.removeprefix(STORE_PREFIX).partition("/")
        if not version or not member:
            raise RunError("this is not model:VERSION/MEMBER", where=source)
        return ModelStore().load(version).file(member, "safetensors")
    path = Path(source).expanduser()
    if path.is_file():
        return path
    if not path.is_dir():
        raise RunError("there are no weights to start from", where=path)
    file = path / "weights.safetensors"
    if not file.is_file():
        raise RunError("the run is not finished", where=path, remedy="Train it to its end first")
    return file


def require_unseen(source: str, held_out: Sequence[str]) -> None:
    """Raise RunError where the run that weights come from has learned from a held-out case.

    Args:
        source: as configured; of a file or a member of the store the cases are not known.
        held_out: `SET/CASE` of each.
    """
    if source.startswith(STORE_PREFIX):
        return
    path = Path(source).expanduser()
    known = RunFolder(path).cases() if path.is_dir() else None
    if seen := sorted(set((known or {}).get("training", ())) & set(held_out)):
        raise RunError(
            f"the run has learned from {seen[0]}, which is to be held out",
            where=path,
            remedy="Start from a run with the same folds, or of other data sets",
        )


def _load_imagenet(network: Network, file: Path) -> Transfer:
    from cinelabel.networks.imagenet import load_imagenet
    from cinelabel.networks.swin_unet import SwinUnet

    if not isinstance(network, SwinUnet):
        raise RunError("only a Swin-UNet starts from weights of ImageNet", where="pretrained.parts")
    return load_imagenet(network, file)


def _load_all(network: Network, file: Path) -> Transfer:
    """Every tensor; offsets that the file has not keep their zeros, as in a plain convolution."""
    offered, own = read_weights(file), get_weights(network)
    kept = [name for name in own if name not in offered and OFFSETS in name.split(".")]
    kept_tensors: dict[str, torch.Tensor] = {name: own[name] for name in kept}
    try:
        set_weights(network, offered | kept_tensors)
    except ModelError as error:
        raise ModelError(
            error.problem,
            where=file,
            remedy="Use weights of the same network, or take the encoder alone (parts: encoder)",
        ) from error
    return Transfer(tuple(offered), kept=tuple(kept))
