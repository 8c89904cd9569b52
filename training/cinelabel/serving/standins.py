"""MONAI Label's app class without torch, MONAI and ITK, which a server on a CPU does not use.

MONAI Label 0.8.5 imports them (seconds, and most of a gigabyte) for functions that this server does
not call. While it is imported, stand-ins take the place of just the names it asks for; afterwards
they are gone from `sys.modules`, and one that is used all the same imports the real thing.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Mapping
from importlib import metadata
from types import ModuleType
from typing import Any

logger = logging.getLogger(__name__)

MONAI_LABEL = "0.8.5"
"""The release that the server is written for."""
ROOT = "monailabel"
APP_CLASS = "monailabel.interfaces.app"
NAMES: Mapping[str, tuple[str, ...]] = {
    "torch": (),
    "monai": (),
    "monai.apps": ("download_and_extract", "download_url"),
    "monai.bundle": ("ConfigParser", "download", "get_bundle_versions"),
    "monai.bundle.scripts": ("get_all_bundles_list",),
    "monai.data": ("MetaTensor", "partition_dataset"),
    "monai.data.image_writer": ("NibabelWriter",),
    "monai.handlers": ("CheckpointLoader",),
    "monai.transforms": ("LoadImage",),
    "monai.utils": ("optional_import",),
    "SimpleITK": (),
    "itk": (),
    "pydicom_seg": (),
}
"""What importing `monailabel.interfaces.app` asks of heavy packages."""


class StandIn:
    """A function or class of another module, imported when it is called or looked into."""

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    def _real(self) -> Any:
        return getattr(importlib.import_module(self._module), self._name)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self._real()(*arguments, **named)

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._real(), attribute)

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, self._real())


class StandInModule(ModuleType):
    """A module of that name; what it does not hold comes from the real one, once that may be."""

    def __getattr__(self, attribute: str) -> Any:
        if sys.modules.get(self.__name__) is self:  # still standing in: nothing else was expected
            raise AttributeError(f"the stand-in for {self.__name__} has no {attribute!r}")
        return getattr(importlib.import_module(self.__name__), attribute)


def import_monailabel() -> bool:
    """Import MONAI Label's app class, without the heavy packages if that is possible.

    Returns whether it was done without them. Where it is not (another release, or something asked
    for that is not expected) a warning says so, and everything is imported as it is.
    """
    if APP_CLASS in sys.modules or any(name in sys.modules for name in NAMES):
        importlib.import_module(APP_CLASS)
        return False
    version = metadata.version(ROOT)
    if version == MONAI_LABEL:
        try:
            _import_with_stand_ins()
            return True
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            for name in [name for name in sys.modules if name.partition(".")[0] == ROOT]:
                del sys.modules[name]
    else:
        reason = f"its version is {version}, not {MONAI_LABEL}"
    logger.warning("MONAI Label is imported with torch and MONAI, which takes longer: %s.", reason)
    importlib.import_module(APP_CLASS)
    return False


def _import_with_stand_ins() -> None:
    modules = {name: StandInModule(name, __doc__) for name in NAMES}
    for module, names in NAMES.items():
        vars(modules[module]).update({name: StandIn(module, name) for name in names})
    sys.modules.update(modules)
    try:
        importlib.import_module(APP_CLASS)
    finally:
        for name in modules:
            sys.modules.pop(name, None)
