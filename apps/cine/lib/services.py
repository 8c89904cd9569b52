"""What the routes work with, put together once by `CineApp`."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, get_args

from cinelabel.core.errors import CineLabelError
from cinelabel.labelstore import LabelStore
from cinelabel.serving.jobs import JobRunner, State
from cinelabel.serving.selfcheck import FREE_REFUSE_BYTES
from cinelabel.serving.settings import ServerSettings
from cinelabel.studies.catalogue import Catalogue
from fastapi import Depends, Request
from monailabel.interfaces.app import MONAILabelApp

from lib.candidates import Candidates
from lib.datastore import CineDatastore
from lib.http.errors import without_paths
from lib.http.metrics import Gauges
from lib.infer import SegmentationTask
from lib.pacs import PacsLink
from lib.sessions import Sessions
from lib.uploads import remove_left_behind


@dataclass(frozen=True)
class Services:
    """The parts of a running app.

    Attributes:
        app: MONAI Label's view of it: `info`, tasks.
        datastore: images and labels.
        catalogue: the cases, and which of them are not whole or cannot be read.
        labels: versions, history and leases of labels.
        sessions: images that clients brought along.
        segmentation: the model `cine`, its queue and the progress of its requests.
        jobs: trainings, batches and scores, in processes of their own.
        candidates: what strategies choose from, and what is known of a case.
        pacs: the DICOMweb server that is served, None for a folder of studies.
        settings: what the server was started with.
    """

    app: MONAILabelApp
    datastore: CineDatastore
    catalogue: Catalogue
    labels: LabelStore
    sessions: Sessions
    segmentation: SegmentationTask
    jobs: JobRunner
    candidates: Candidates
    pacs: PacsLink | None
    settings: ServerSettings

    @property
    def uploads(self) -> Path:
        """Folder of files that are being received; empty when nobody sends anything."""
        return self.settings.workspace / "uploads"

    def start(self) -> None:
        """Begin to follow the studies and to work on jobs; returns at once."""
        remove_left_behind(self.uploads)
        self.sessions.remove_expired()
        self.sessions.watch()
        self.catalogue.watch(self.settings.scan_interval_s)
        self.jobs.resume()
        if self.pacs is not None:
            self.pacs.start()

    def stop(self) -> None:
        """End what `start` began, within a few seconds."""
        self.jobs.close()  # first: the process ends in any case soon, and jobs lose most by that
        if self.pacs is not None:
            self.pacs.stop()
        self.sessions.close()
        self.catalogue.close()

    def problems(self) -> list[str]:
        """What keeps the server from serving cases and keeping labels, in sentences."""
        found = []
        workspace = self.settings.workspace
        try:
            if shutil.disk_usage(workspace).free < FREE_REFUSE_BYTES:
                found.append("The disk of the workspace is nearly full.")
            if not os.access(workspace, os.W_OK):
                found.append("The workspace cannot be written.")
            self.labels.counts()
        except OSError as error:
            found.append(f"The workspace cannot be reached: {error.strerror}.")
        except CineLabelError as error:
            found.append(without_paths(str(error)))
        return found

    def gauges(self) -> Gauges:
        """Numbers for the metrics."""
        return {
            "cases": ("Images by the state of their label.", self._cases),
            "studies": ("Studies served, not whole yet, and not readable.", self._studies),
            "labels": ("Labels of readers, every version.", self._versions),
            "jobs": ("Jobs by their state.", self._jobs),
            "segmentations": ("Segmentations that wait, and that run.", self._segmentations),
            "dicomweb": ("Stacks of the DICOMweb server, labels it lacks, problems.", self._pacs),
        }

    def _cases(self) -> dict[str, float]:
        status = self.datastore.status()
        labelled, skipped = status["completed"], status["skipped"]
        return {
            "labelled": labelled,
            "skipped": skipped,
            "open": status["total"] - labelled - skipped,
        }

    def _studies(self) -> dict[str, float]:
        return {
            "served": len(self.catalogue.studies),
            "waiting": len(self.catalogue.waiting),
            "unreadable": len(self.catalogue.problems),
        }

    def _versions(self) -> dict[str, float]:
        return {"kept": self.labels.counts()["versions"]}

    def _jobs(self) -> dict[str, float]:
        counted = Counter(job.state for job in self.jobs.jobs())
        return {state: float(counted[state]) for state in get_args(State)}

    def _segmentations(self) -> dict[str, float]:
        status = self.segmentation.queue.status()
        return {state: float(status[state]) for state in ("waiting", "running")}

    def _pacs(self) -> dict[str, float]:
        if self.pacs is None:
            return {}
        status = self.pacs.status()
        lists = ("labels_waiting", "problems")
        return {"stacks": status["stacks"], **{name: len(status[name]) for name in lists}}


def services(request: Request) -> Services:
    """The parts, for an endpoint."""
    found: Services = request.app.state.services
    return found


Parts = Annotated[Services, Depends(services)]
