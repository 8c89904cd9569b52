"""What several routes need: names of clients, texts, JSON bodies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from cinelabel.core.errors import InputError
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

ClientId = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
"""What a client calls itself; free text, such as the name a reader typed in 3D Slicer."""
Text = Annotated[str, StringConstraints(max_length=2000, strip_whitespace=True)]


class Body(BaseModel):
    """A JSON body; fields that are not known are refused."""

    model_config = ConfigDict(extra="forbid")


AnyBody = TypeVar("AnyBody", bound=Body)


def read_body(kind: type[AnyBody], fields: Mapping[str, Any]) -> AnyBody:
    """The fields of a JSON text in a form. Raises InputError naming the first wrong one."""
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise InputError(f"the parameter {name!r} is not right, {first['msg'].lower()}") from error
