"""Whatever a client sends: one of our sentences or a label, and nothing written elsewhere."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from cinelabel.core.errors import CineLabelError
from cinelabel.core.grid import Grid
from cinelabel.labelstore import LabelStore, Submission
from cinelabel.labelstore.validation import names_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

TIME = "2026-03-01T10:00:00Z"
SHAPE = (12, 10, 3)
AFFINE = np.diag([1.5, 1.5, 8.0, 1.0])
LABELS = np.arange(np.prod(SHAPE), dtype=np.uint8).reshape(SHAPE) % 4

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["name", "idx", "value", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)
SEGMENT = st.fixed_dictionaries(
    {"name": st.sampled_from(["LV", "rv", "Myocardium", "background", "x", "../LV"])},
    optional={"idx": st.integers(), "value": st.integers(-1, 5)},
)


def usually(right: st.SearchStrategy, otherwise: st.SearchStrategy) -> st.SearchStrategy:
    """Mostly right, so that what is wrong gets far enough to do harm."""
    return st.integers(0, 9).flatmap(lambda n: otherwise if n == 9 else right)


WORD = st.text(max_size=9)
FILES = usually(
    st.sampled_from(["label.nii.gz", "label.nii", "label.nrrd"]),
    st.sampled_from(["a.seg.nrrd", "label.exe", ".nii.gz", "x.NII.GZ"]),
)
IMAGES = usually(
    st.sampled_from(["p1__t00", "p2__t00", "p3__t00"]),
    st.sampled_from(["../p1", "a/b", ".", "..", "labels", "/etc/x"])
    | st.text(st.characters(exclude_characters="\0"), max_size=8),
)
INFOS = usually(
    st.none() | st.permutations([{"name": n, "idx": 9} for n in ("LV", "rv", "Myocardium")]),
    st.lists(SEGMENT, max_size=4) | JSON,
)


def nifti_bytes() -> bytes:
    image = nib.Nifti1Image(LABELS, AFFINE)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"made by hand"))
    return image.to_bytes()


def nrrd_bytes() -> bytes:
    sizes = " ".join(map(str, SHAPE))
    header = (
        f"NRRD0004\ntype: uint8\ndimension: 3\nspace: left-posterior-superior\nsizes: {sizes}\n"
        "space directions: (-1.5,0,0) (0,-1.5,0) (0,0,8)\nkinds: domain domain domain\n"
        "endian: little\nencoding: gzip\nspace origin: (0,0,0)\n\n"
    )
    return header.encode() + gzip.compress(LABELS.tobytes("F"))


WHOLE = {"nifti": nifti_bytes(), "nrrd": nrrd_bytes()}


@st.composite
def files(draw: st.DrawFn) -> tuple[str, bytes]:
    """Name and content of a label file, with bytes changed, cut or added, packed or not."""
    name = draw(FILES)
    content = bytearray(WHOLE["nrrd" if name.endswith("nrrd") else "nifti"])
    for _ in range(draw(usually(st.integers(0, 1), st.integers(2, 5)))):
        at = draw(st.integers(0, 420) | st.integers(0, len(content) - 1))
        new = draw(st.binary(min_size=1, max_size=8))
        content[at : at + len(new)] = new
    whole = st.just(len(content))
    content = content[: draw(usually(whole, st.integers(0, len(content))))]
    content += draw(usually(st.just(b""), st.binary(max_size=40)))
    if draw(usually(st.just(False), st.just(True))) == name.lower().endswith(".gz"):
        return name, bytes(content)
    packed = gzip.compress(content)
    return name, packed[: draw(usually(st.just(len(packed)), st.integers(0, len(packed))))]


def outside(root: Path, workspace: Path) -> dict[str, bytes]:
    """Everything below a folder but the workspace."""
    found = {}
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if Path(folder, name) != workspace]
        found |= {os.path.join(folder, name): Path(folder, name).read_bytes() for name in names}
    return found


@contextlib.contextmanager
def refusals() -> Iterator[list[str]]:
    """Collects our own sentences; lets any other error through."""
    sentences: list[str] = []
    try:
        yield sentences
    except CineLabelError as error:
        sentences.append(str(error))


def fuzz(root: Path, examples: int) -> None:
    """Submit what hypothesis makes up; counts how many were kept."""
    workspace, sent = root / "workspace", root / "sent"
    sent.mkdir()
    store, grid, kept = LabelStore(workspace), Grid(SHAPE, AFFINE), set()

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        sent_as=files(),
        image=IMAGES,
        info=INFOS,
        words=usually(st.just(("anna", "c", "")), st.tuples(WORD, WORD, WORD)),
        behind=usually(st.just(0), st.integers(-1, 2) | st.none()),
    )
    def submit(
        sent_as: tuple[str, bytes],
        image: str,
        info: object,
        words: tuple[str, str, str],
        behind: int | None,
    ) -> None:
        file = sent / sent_as[0]
        file.write_bytes(sent_as[1])
        before = outside(root, workspace)
        with refusals() as refused:
            state = store.states([image])[image]
            base = None if behind is None else state.version - behind
            submission = Submission(image, *words[:2], TIME, comment=words[2], base_version=base)
            version = store.submit(image, grid, file, submission, names_of(info))
            kept.add((image, version.version))
        assert all("\n" not in sentence for sentence in refused)
        assert outside(root, workspace) == before
        file.unlink()

    submit()
    assert store.check() == []
    assert len(kept) == store.counts()["versions"]
    assert {path.name for path in root.iterdir()} == {"workspace", "sent"}
    below = {path.name.split(".")[0] for path in workspace.iterdir()}
    assert below <= {"labels", "reviews", "predictions"}
    print(f"\n{examples} submissions made up, {len(kept)} of them kept")


def test_made_up_submissions_are_kept_or_refused_with_a_sentence(tmp_path: Path):
    fuzz(tmp_path, 200)


@pytest.mark.slow
def test_two_thousand_made_up_submissions_are_kept_or_refused_with_a_sentence(tmp_path: Path):
    fuzz(tmp_path, 2000)


def test_a_record_of_any_form_on_disk_never_stops_the_store(tmp_path: Path):
    store = LabelStore(tmp_path / "workspace")
    folder = store.folder / "labels" / "p1__t00"
    folder.mkdir()

    @settings(max_examples=60, deadline=None, derandomize=True, database=None)
    @given(told=JSON | st.dictionaries(st.sampled_from(["image", "kind", "time"]), JSON))
    def open_with(told: object) -> None:
        name = "e00001-skipped.json"
        (folder / name).write_text(json.dumps(told))
        assert LabelStore(store.folder).history("p1__t00") == []
        with contextlib.suppress(FileNotFoundError):
            (folder / name).unlink()

    open_with()
