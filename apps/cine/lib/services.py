"""What the routes work with, put together once by `CineApp`."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cinelabel.serving.settings import ServerSettings
from fastapi import Depends, Request
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore

from lib.http.metrics import Gauges
from lib.infer import SegmentationTask
from lib.sessions import Sessions

LEAST_FREE_BYTES = 200 * 10**6


@dataclass(frozen=True)
class Services:
    """The parts of a running app.

    Attributes:
        app: MONAI Label's view of it: `info`, tasks.
        datastore: images and labels.
        sessions: images that clients brought along.
        segmentation: the model `cine`, its queue and the progress of its requests.
        settings: what the server was started with.
    """

    app: MONAILabelApp
    datastore: Datastore
    sessions: Sessions
    segmentation: SegmentationTask
    settings: ServerSettings

    @property
    def uploads(self) -> Path:
        """Folder of files that are being received; empty when nobody sends anything."""
        return self.settings.workspace / "uploads"

    def problems(self) -> list[str]:
        """What keeps the server from serving cases and keeping labels, in sentences."""
        found = []
        try:
            if shutil.disk_usage(self.settings.workspace).free < LEAST_FREE_BYTES:
                found.append("The disk of the workspace is nearly full.")
            if not os.access(self.settings.workspace, os.W_OK):
                found.append("The workspace cannot be written.")
        except OSError as error:
            found.append(f"The workspace cannot be reached: {error.strerror}.")
        return found

    def gauges(self) -> Gauges:
        """Numbers for the metrics."""
        return {"cases": ("Images by the state of their label.", self._cases)}

    def _cases(self) -> dict[str, float]:
        status = self.datastore.status()
        return {"labelled": status["completed"], "open": status["total"] - status["completed"]}


def services(request: Request) -> Services:
    """The parts, for an endpoint."""
    found: Services = request.app.state.services
    return found


Parts = Annotated[Services, Depends(services)]
