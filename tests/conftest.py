"""What every test needs."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from cinelabel.core.files import write_json
from cinelabel.models.store import BUNDLED, ModelStore


@pytest.fixture(autouse=True, scope="session")
def _interruptible() -> Iterator[None]:
    """Let tests interrupt programs also where a shell started pytest in the background.

    Such a shell has SIGINT ignored, and whoever is started from there inherits that.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with `pair-1`: twice the first bundled segmenter, as an ensemble of one mind.

    Its members are `one` and `two`, and `two` is the fast one.
    """
    root = tmp_path_factory.mktemp("pair")
    base = ModelStore(root).load(BUNDLED)
    segmenter = next(member for member in base.card.members if member.role == "segmenter")
    locator = next(member for member in base.card.members if member.role == "locator")
    (root / "pair-1").mkdir()
    members = []
    for name, member in (("one", segmenter), ("two", segmenter), ("where", locator)):
        files, checksums = {}, {}
        for kind, file in member.files.items():
            files[kind] = f"{name}{Path(file).suffix}"
            checksums[files[kind]] = member.sha256[file]
            shutil.copyfile(base.path / file, root / "pair-1" / files[kind])
        members.append(
            member.model_copy(update={"name": name, "files": files, "sha256": checksums})
        )
    changes = {"version": "pair-1", "members": members, "fast": "two"}
    write_json(
        root / "pair-1" / "card.json", base.card.model_copy(update=changes).model_dump(mode="json")
    )
    return root
