"""What the routes work with, put together once by `CineApp`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cinelabel.serving.settings import ServerSettings
from fastapi import Depends, Request
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore

from lib.sessions import Sessions


@dataclass(frozen=True)
class Services:
    """The parts of a running app.

    Attributes:
        app: MONAI Label's view of it: `info`, tasks.
        datastore: images and labels.
        sessions: images that clients brought along.
        settings: what the server was started with.
    """

    app: MONAILabelApp
    datastore: Datastore
    sessions: Sessions
    settings: ServerSettings

    @property
    def uploads(self) -> Path:
        """Folder of files that are being received; empty when nobody sends anything."""
        return self.settings.workspace / "uploads"


def services(request: Request) -> Services:
    """The parts, for an endpoint."""
    found: Services = request.app.state.services
    return found


Parts = Annotated[Services, Depends(services)]
