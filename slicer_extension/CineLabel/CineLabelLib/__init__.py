"""The reader's desk, without the window: files, client, scene, use cases and panel of CineLabel.

`core` and `dicom` are the backend's. The build copies them beside this file; in the source tree
they are found in `training/cinelabel`, so that there is one source of truth.
"""

from pathlib import Path

if not (Path(__file__).parent / "core").is_dir():
    __path__.append(str(Path(__file__).resolve().parents[3] / "training" / "cinelabel"))
