"""The images of a prepared workspace as a MONAI Label datastore that knows their studies."""

from __future__ import annotations

from cinelabel.studies.workspace import Workspace
from monailabel.datastore.local import LocalDatastore


class CineDatastore(LocalDatastore):
    """MONAI Label's local datastore on the images of a workspace.

    The info of an image also tells its study, frame, number of frames, phase and source.
    """

    def __init__(self, workspace: Workspace) -> None:
        super().__init__(str(workspace.images), extensions=["*.nii.gz"], auto_reload=False)
        self._add_study_info(workspace)

    def _add_study_info(self, workspace: Workspace) -> None:
        """Record what is known of each image, in one write of the datastore's file."""
        changed = False
        for image_id, study, frame in workspace.frames():
            recorded = self._datastore.objects[image_id].image.info
            info = study.info(frame)
            if any(recorded.get(key) != value for key, value in info.items()):
                recorded.update(info)
                changed = True
        if changed:
            self._update_datastore_file()

    def list_images(self) -> list[str]:
        """Image names in the order of studies and frames."""
        return sorted(super().list_images())

    def get_unlabeled_images(
        self, label_tag: str | None = None, labels: list[str] | None = None
    ) -> list[str]:
        """Names of images without a submitted label, in the order of studies and frames."""
        return sorted(super().get_unlabeled_images(label_tag, labels))
