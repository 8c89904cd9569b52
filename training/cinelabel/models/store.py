"""The model store: immutable versions in folders, one of them current; publication and roll-back.

    <root>/<version>/card.json, <member>.safetensors, <member>.xml, <member>.bin
    <root>/current                  the name of the version in use
    <root>/history.json             which versions were put in use, when, by whom and why

Versions that come with the package are always visible and never written to. Importing this module
needs neither torch nor OpenVINO; publication needs both.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from cinelabel.core.errors import InputError, ModelError, OutputError
from cinelabel.core.files import (
    IDENTIFIER,
    check_identifier,
    output_error,
    sha256,
    write_json,
    write_text,
)
from cinelabel.models.card import (
    CARD_FILE,
    FILE_KINDS,
    Card,
    FileKind,
    MemberCard,
    Role,
    read_card,
)
from cinelabel.models.folders import PARTIAL, whole_folder
from cinelabel.networks.specs import NetworkSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

BUNDLED = "phantom-2"
BUNDLED_FOLDER = Path(__file__).parent / "bundled"
CURRENT_FILE = "current"
HISTORY_FILE = "history.json"
HISTORY_SCHEMA = 1
LOCK_PATIENCE_S = 10.0
ROOT_VARIABLE = "CINELABEL_MODELS"
INTENDED_USE = (
    "Research on short-axis cardiac cine MRI: a first segmentation that a reader corrects. "
    "Not a medical device; not for diagnosis or treatment."
)


@dataclass(frozen=True, eq=False)
class Draft:
    """A network to be published: its weights by name, and what it expects its input to be.

    `weight`: how much it counts in the average of the members.
    """

    name: str
    role: Role
    network: NetworkSpec
    weights: Mapping[str, Tensor]
    preprocessing: Mapping[str, Any]
    weight: float = 1.0


@dataclass(frozen=True)
class Kept:
    """A member of another version that is taken over, file by file as it is."""

    version: ModelVersion
    card: MemberCard

    @property
    def name(self) -> str:
        """Its name."""
        return self.card.name

    @property
    def role(self) -> Role:
        """What it does."""
        return self.card.role

    def copy(self, folder: Path) -> MemberCard:
        """Copy its files into a folder. Raises ModelError for a file that is off."""
        for kind in FILE_KINDS:
            source = self.version.file(self.card, kind)
            shutil.copyfile(source, folder / source.name)
        return self.card


@dataclass(frozen=True)
class ModelVersion:
    """A published version: its name, folder and card. Files are verified when asked for."""

    name: str
    path: Path
    card: Card
    _verified: set[str] = field(default_factory=set, repr=False, compare=False)

    def member(self, name: str) -> MemberCard:
        """The member of that name; ModelError lists those there are."""
        for member in self.card.members:
            if member.name == name:
                return member
        known = ", ".join(member.name for member in self.card.members)
        raise ModelError(f"there is no member '{name}'", where=self.name, remedy=f"Known: {known}")

    def file(self, member: MemberCard | str, kind: FileKind) -> Path:
        """Path of a member's file, its checksum verified; ModelError naming a file that is off."""
        if isinstance(member, str):
            member = self.member(member)
        name = member.files[kind]
        path = self.path / name
        if name not in self._verified:
            if not path.is_file():
                raise _damaged("is missing", path)
            try:
                found = sha256(path)
            except InputError as error:
                raise _damaged("cannot be read", path) from error
            if found != member.sha256[name]:
                raise _damaged("is damaged: it differs from the checksum in the card", path)
            self._verified.add(name)
        return path

    def verify(self) -> None:
        """Verify every file of every member; ModelError names the first that is off."""
        for member in self.card.members:
            for kind in FILE_KINDS:
                self.file(member, kind)

    def network(self, member: MemberCard | str) -> nn.Module:
        """The member as a torch network on the CPU, float32, ready to predict; verified."""
        from cinelabel.models.export import load_network

        if isinstance(member, str):
            member = self.member(member)
        return load_network(self.file(member, "safetensors"), member.spec)


def _damaged(problem: str, path: Path) -> ModelError:
    return ModelError(
        f"a file of the model {problem}", where=path, remedy="Install or publish the model again"
    )


@dataclass(frozen=True)
class Use:
    """A version was put in use.

    Attributes:
        version, time: which, and when (ISO 8601, UTC).
        who, why: as they were told, empty if not.
        rolled_back: whether this undid what was put in use before.
    """

    version: str
    time: str
    who: str = ""
    why: str = ""
    rolled_back: bool = False


class ModelStore:
    """Model versions in a folder of the user, and beneath them the bundled ones."""

    def __init__(self, root: Path | None = None, *, bundled: Path | None = None) -> None:
        """Open a store; nothing is read or written yet.

        root: where versions are kept; by default $CINELABEL_MODELS or the user's data folder.
        bundled: where the package's own versions lie; by default inside the package.
        """
        self.root = root or default_root()
        self.bundled = bundled or BUNDLED_FOLDER

    def versions(self) -> list[str]:
        """Names of all versions, sorted."""
        found = {
            card.parent.name
            for folder in (self.bundled, self.root)
            for card in folder.glob(f"*/{CARD_FILE}")
            if IDENTIFIER.fullmatch(card.parent.name) and not card.parent.name.startswith(".")
        }
        return sorted(found)

    def current(self) -> str:
        """The version in use: the one chosen, or the bundled one; ModelError if it is gone."""
        pointer = self.root / CURRENT_FILE
        if not pointer.exists():
            return BUNDLED
        try:
            name = pointer.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError("the file cannot be read", where=pointer) from error
        if name not in self.versions():
            raise ModelError(
                f"the model in use, '{name}', is not in the store",
                where=pointer,
                remedy=f"Choose another with: cinelabel models use {BUNDLED}",
            )
        return name

    def use(self, version: str, who: str = "", why: str = "") -> ModelVersion:
        """Put a version in use, replacing the pointer atomically.

        who, why: for the history.

        Raises:
            ModelError: it is unknown, or a file of it is off.
            OutputError: the store cannot be written.
        """
        chosen = self.load(version)
        chosen.verify()
        with self._locked():
            self._put_in_use(version, who, why)
        return chosen

    def promote(self, version: str, who: str = "", why: str = "") -> bool:
        """Put a challenger in use in place of its parent; False if that has no place any more.

        It has none when something else than its parent is in use, and when it was put in use
        before: whoever rolled it back meant to.

        Raises:
            ModelError, OutputError: as `use`.
        """
        challenger = self.load(version)
        challenger.verify()
        with self._locked():
            earlier = [use.version for use in self.history()]
            if version in earlier or self.current() != challenger.card.parent:
                return False
            self._put_in_use(version, who, why)
        return True

    def roll_back(self, who: str = "", why: str = "") -> ModelVersion:
        """Put the version in use that was before the present one; again, and it goes further back.

        Versions that are gone are passed over.

        Raises:
            ModelError: there is none before, or a file of it is off.
            OutputError: the store cannot be written.
        """
        with self._locked():
            before = self.before()
            if before is None:
                raise ModelError("no other version was in use before", where=self.root)
            chosen = self.load(before)
            chosen.verify()
            self._put_in_use(before, who, why, rolled_back=True)
        return chosen

    def before(self) -> str | None:
        """The version that `roll_back` would put in use, None if there is none."""
        there, standing = self.versions(), [BUNDLED]
        for use in self.history():
            if use.rolled_back and use.version in standing:
                while standing[-1] != use.version:
                    standing.pop()
            elif use.version != standing[-1]:
                standing.append(use.version)
        found = [name for name in standing[:-1] if name in there and name != standing[-1]]
        return found[-1] if found else None

    def history(self) -> list[Use]:
        """Which versions were put in use, the newest last; at first it was the bundled one.

        Where the pointer names another than the newest entry, a program was killed between the
        two, or wrote the pointer alone: an entry that says so little stands for it.

        Raises:
            ModelError: the file is damaged.
        """
        file, pointer = self.root / HISTORY_FILE, self.root / CURRENT_FILE
        try:
            kept = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"uses": []}
            uses = [Use(**entry) for entry in kept["uses"]]
            current = pointer.read_text(encoding="utf-8").strip() if pointer.exists() else BUNDLED
            if current != (uses[-1].version if uses else BUNDLED):
                newest = (pointer if pointer.exists() else file).stat().st_mtime
                changed = datetime.fromtimestamp(newest, timezone.utc)
                uses.append(Use(current, changed.isoformat(timespec="seconds")))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(
                "it cannot be read which versions were in use",
                where=file,
                remedy="Remove the file; what is in use stays as it is",
            ) from error
        return uses

    def _put_in_use(self, version: str, who: str, why: str, rolled_back: bool = False) -> None:
        """Write the pointer, then the history; the lock is held."""
        uses = self.history()
        if version == (uses[-1].version if uses else BUNDLED) and not rolled_back:
            return
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        uses.append(Use(version, now, who, why, rolled_back))
        write_text(self.root / CURRENT_FILE, f"{version}\n")
        entries = [asdict(use) for use in uses]
        write_json(self.root / HISTORY_FILE, {"schema_version": HISTORY_SCHEMA, "uses": entries})

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other programs from putting a version in use; held for moments. OutputError."""
        from filelock import FileLock, Timeout

        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.root / ".in-use.lock", timeout=LOCK_PATIENCE_S)
            lock.acquire()
        except Timeout as error:
            raise OutputError("another program keeps it locked", where=self.root) from error
        except OSError as error:
            raise output_error(error, self.root) from error
        try:
            yield
        finally:
            lock.release()

    def is_bundled(self, version: str) -> bool:
        """True for a version that came with the package."""
        return (self.bundled / version / CARD_FILE).is_file()

    def load(self, version: str | None = None) -> ModelVersion:
        """A version, or the one in use; ModelError lists the known ones, or says what is wrong."""
        name = self.current() if version is None else version
        if name not in self.versions():
            known = ", ".join(self.versions()) or "none"
            raise ModelError(f"unknown model version '{name}'", remedy=f"Known versions: {known}")
        folder = (self.bundled if self.is_bundled(name) else self.root) / name
        card = read_card(folder / CARD_FILE)
        if card.version != name:
            raise ModelError(f"the card is that of version '{card.version}'", where=folder)
        return ModelVersion(name, folder, card)

    def publish(
        self,
        version: str,
        members: Sequence[Draft | Kept],
        *,
        provenance: Mapping[str, Any],
        metrics: Mapping[str, Any],
        licence: str = "Apache-2.0",
        intended_use: str = INTENDED_USE,
        parent: str | None = None,
        fast: str | None = None,
        half: bool = True,
    ) -> ModelVersion:
        """Write a new version: weights, their OpenVINO form, checked to agree, and the card.

        members: networks to be written, or members of another version to be taken over.
        half: round the weights to float16, which halves the files. fast: the member that is used
        alone when it has to be fast; None: the first that segments. The folder appears whole, or
        not at all. Raises ModelError if the version exists, a member or `fast` is not valid, or
        the two forms of a network disagree; InputError for a name that cannot be a folder.
        """
        from cinelabel.models.export import export_member

        check_identifier(version, "name of a model version")
        if version.startswith(".") or version == CURRENT_FILE:
            raise InputError(f"{version!r} is not a valid name of a model version")
        if version in self.versions() or (self.root / version).exists():
            raise ModelError(
                f"version '{version}' exists and versions never change", remedy="Choose a new name"
            )
        if not members or len({draft.name for draft in members}) < len(members):
            raise ModelError("a version needs members with names of their own", where=version)
        for draft in members:
            check_identifier(draft.name, "name of a member")
            if isinstance(draft, Draft) and not 0 < draft.weight < math.inf:
                raise ModelError("the weight of a member is a positive number", where=draft.name)
        if fast is not None and fast not in [d.name for d in members if d.role == "segmenter"]:
            raise ModelError(f"the fast member '{fast}' is none that segments", where=version)
        with whole_folder(self.root / version) as folder:
            card = Card(
                version=version,
                created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
                members=[
                    draft.copy(folder)
                    if isinstance(draft, Kept)
                    else export_member(draft, folder, half)
                    for draft in members
                ],
                licence=licence,
                intended_use=intended_use,
                provenance=dict(provenance),
                metrics=dict(metrics),
                parent=parent,
                fast=fast,
            )
            write_json(folder / CARD_FILE, card.model_dump(mode="json"))
            read_card(folder / CARD_FILE)
        for left in self.root.glob(f"{PARTIAL}{version}-{'[0-9a-f]' * 8}"):  # by one who was killed
            shutil.rmtree(left, ignore_errors=True)
        return self.load(version)


def default_root() -> Path:
    """$CINELABEL_MODELS, or `models` in the user's data folder of this application."""
    if chosen := os.environ.get(ROOT_VARIABLE):
        return Path(chosen)
    return platformdirs.user_data_path("CineLabel", appauthor=False) / "models"
