"""The card of a model version: what its members are, where they come from, and their checksums.

Written once, as `card.json`, when a version is published. A card may come from another site, so
every name in it that becomes a path is checked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from cinelabel.core.errors import ModelError
from cinelabel.core.files import IDENTIFIER
from cinelabel.networks.specs import NetworkSpec

SCHEMA_VERSION: Literal[1] = 1
CARD_FILE = "card.json"

FileKind = Literal["safetensors", "openvino_xml", "openvino_bin"]
FILE_KINDS: tuple[FileKind, ...] = ("safetensors", "openvino_xml", "openvino_bin")
Role = Literal["segmenter", "locator"]


def _plain_name(text: str) -> str:
    """Refuse what is no plain name of a file: separators, '..', drives."""
    if not IDENTIFIER.fullmatch(text) or text in (".", ".."):
        raise ValueError(f"'{text}' is not a plain name")
    return text


def _known_network(values: dict[str, Any]) -> dict[str, Any]:
    return NetworkSpec.from_dict(values).to_dict()


Name = Annotated[str, AfterValidator(_plain_name)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Agreement(_Part):
    """How the OpenVINO form compares with torch on the inputs it was checked on."""

    images: int = Field(ge=1)
    max_probability_difference: float = Field(ge=0)
    label_agreement: float = Field(ge=0, le=1)


class MemberCard(_Part):
    """One network: what it is, what it wants to see, its files and their SHA-256.

    `weight`: how much it counts in the average of the members.
    """

    name: Name
    role: Role
    network: Annotated[dict[str, Any], AfterValidator(_known_network)]
    preprocessing: dict[str, Any]
    files: dict[FileKind, Name]
    sha256: dict[Name, str]
    parameters: int = Field(ge=1)
    agreement: Agreement
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _every_file_has_a_checksum(self) -> MemberCard:
        if set(self.files) != set(FILE_KINDS):
            raise ValueError(f"files must be {', '.join(FILE_KINDS)}")
        if set(self.sha256) != set(self.files.values()):
            raise ValueError("sha256 must hold one checksum a file")
        return self

    @property
    def spec(self) -> NetworkSpec:
        """The specification to build the network from."""
        return NetworkSpec.from_dict(self.network)


class Card(_Part):
    """A model version.

    `parent`: the version it was fine-tuned from; `metrics`: scores a set; `fast`: the member that
    is used alone when it has to be fast, the first that segments if None.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    version: Name
    created: str
    members: list[MemberCard] = Field(min_length=1)
    licence: str
    intended_use: str
    provenance: dict[str, Any]
    metrics: dict[str, Any]
    parent: str | None = None
    fast: Name | None = None

    @property
    def decision(self) -> dict[str, Any] | None:
        """What was decided about a fine-tuned version: `outcome`, `reasons`, rules and figures."""
        held_out = self.metrics.get("held_out")
        found = held_out.get("decision") if isinstance(held_out, dict) else None
        return found if isinstance(found, dict) and {"outcome", "reasons"} <= set(found) else None

    @model_validator(mode="after")
    def _the_fast_member_segments(self) -> Card:
        segmenters = [member.name for member in self.members if member.role == "segmenter"]
        if self.fast is not None and self.fast not in segmenters:
            raise ValueError(f"the fast member '{self.fast}' is none that segments")
        return self

    @model_validator(mode="after")
    def _names_are_unique(self) -> Card:
        names = [member.name for member in self.members]
        files = [file for member in self.members for file in member.files.values()]
        if len(set(names)) < len(names) or len(set(files)) < len(files):
            raise ValueError("members must have names and files of their own")
        return self


def read_card(path: Path) -> Card:
    """The card in a file.

    Raises ModelError if it cannot be read, has another schema, or names an unknown family.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError("the card of the model cannot be read", where=path) from error
    try:
        return Card.model_validate_json(text)
    except ModelError as error:
        raise ModelError(error.problem, where=path, remedy=error.remedy) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        if key == "schema_version":
            problem = f"the card has schema {first['input']!r}, this version knows {SCHEMA_VERSION}"
            raise ModelError(problem, where=path, remedy="Update CineLabel") from error
        problem = f"'{key}': {first['msg']}" if key else first["msg"]
        raise ModelError(f"the card does not hold together, {problem}", where=path) from error
