"""The MONAI Label app of CineLabel: wires datastore, segmentation and strategies, nothing more.

MONAI Label executes this file, takes the first subclass of MONAILabelApp, and removes this folder
from sys.path afterwards; so everything of `lib` is imported here at the top.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from cinelabel import __version__
from cinelabel.core.errors import InputError
from cinelabel.core.labels import LABEL_NAMES
from cinelabel.labelstore import LabelStore
from cinelabel.serving.jobs import JobRunner
from cinelabel.serving.scores import Scores
from cinelabel.serving.settings import SETTINGS_KEY, ServerSettings
from cinelabel.studies.catalogue import Catalogue
from lib.candidates import Candidates
from lib.datastore import CineDatastore
from lib.infer import SegmentationTask
from lib.pacs import MIRROR_SETTLE_S, PacsLink, mirror_folder
from lib.services import Services
from lib.sessions import Sessions
from lib.strategy import strategies
from lib.train import FineTuning
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.interfaces.tasks.train import TrainTask


class CineApp(MONAILabelApp):
    """Short-axis cine studies, one image a frame.

    Args:
        app_dir: this folder.
        studies: folder of studies, which is only read.
        conf: `settings`, the file of the server's settings.

    Raises:
        InputError: another web application than ours would serve it, or there are no settings.
    """

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        # The constructor of MONAILabelApp builds datastore and tasks: what they need comes first.
        self.settings = _settings(conf)
        workspace = self.settings.workspace
        dicomweb = self.settings.dicomweb
        labels = LabelStore(workspace)
        catalogue = Catalogue(
            mirror_folder(self.settings) if dicomweb else self.settings.studies or Path(studies),
            workspace,
            on_change=labels.set_aside,
            settle_s=MIRROR_SETTLE_S if dicomweb else self.settings.settle_s,
        )
        self._cases = CineDatastore(catalogue, labels)
        model, device, fast = self.settings.model, self.settings.device, self.settings.fast
        self.segmentation = SegmentationTask(model, device, fast)
        self.jobs = JobRunner(workspace / "jobs")
        self.candidates = Candidates(catalogue, labels, Scores(workspace, self.jobs), model)
        super().__init__(
            app_dir=app_dir,
            studies=studies,
            conf=conf,
            name="CineLabel",
            description="LV, myocardium and RV in short-axis cardiac cine MRI",
            version=__version__,
            labels=dict(LABEL_NAMES),
        )
        self.services = Services(
            app=self,
            datastore=self._cases,
            catalogue=catalogue,
            labels=labels,
            segmentation=self.segmentation,
            jobs=self.jobs,
            candidates=self.candidates,
            pacs=PacsLink(self.settings, catalogue, labels) if dicomweb else None,
            sessions=Sessions(workspace / "sessions"),
            settings=self.settings,
        )

    def _load_sessions(self, load: bool = False) -> None:
        """Sessions are ours: `lib.sessions`."""

    def init_datastore(self) -> Datastore:
        return self._cases

    def init_infers(self) -> dict[str, InferTask]:
        return {"cine": self.segmentation}

    def init_trainers(self) -> dict[str, TrainTask]:
        return {"cine": FineTuning(self.jobs)}

    def init_strategies(self) -> dict[str, Strategy]:
        return strategies(self.candidates, self.settings.seed)

    def init_scoring_methods(self) -> dict[str, ScoringMethod]:
        return {}


def _settings(conf: Mapping[str, str]) -> ServerSettings:
    """The file that `cinelabel serve` wrote; without our web application nothing guards the app."""
    if "lib.server" not in sys.modules or SETTINGS_KEY not in conf:
        raise InputError(
            "MONAI Label's own command would let anybody do anything with these studies",
            remedy="Start the server with `cinelabel serve`",
        )
    return ServerSettings.read(Path(conf[SETTINGS_KEY]))
