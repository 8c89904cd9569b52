"""Imports point one way through the house, and core stands on numpy alone."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "training" / "cinelabel"
APPS = ROOT / "apps"

# From the bottom up; rooms of one line may import each other without circles.
LAYERS = (
    ("core",),
    ("dicom",),
    ("studies", "datasets", "phantom"),
    ("networks", "transforms", "models", "labelstore"),
    ("segmentation", "quality"),
    ("learning",),
    ("active", "analysis", "evaluation"),
    ("serving",),
    ("cli",),
)
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
BLOCKED = ("torch", "monai", "nibabel", "scipy", "pydicom")


def imports(path: Path, package: tuple[str, ...]) -> Iterator[str]:
    """Absolute dotted names a module imports, anywhere in it; `from a import b` gives a.b too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*parents, *filter(None, [node.module])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def modules() -> Iterator[tuple[Path, str, tuple[str, ...]]]:
    """Every module of a room: its file, its room, and the package it lies in."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).parts
        if len(parts) > 1:
            yield path, parts[0], ("cinelabel", *parts[:-1])


def room_of(name: str) -> str | None:
    """The room an imported name lies in; None for other packages and for the package itself."""
    parts = name.split(".")
    return parts[1] if parts[0] == "cinelabel" and len(parts) > 1 and parts[1] in LEVEL else None


def edges() -> Iterator[tuple[str, str, str]]:
    """(importing room, imported room, "file: name") of every import between rooms."""
    for path, room, package in modules():
        for name in imports(path, package):
            target = room_of(name)
            if target is not None and target != room:
                yield room, target, f"{path.relative_to(ROOT)}: {name}"


def test_every_room_has_its_place_in_the_layers():
    assert {room for _, room, _ in modules()} <= set(LEVEL)


def test_no_room_imports_one_above_it():
    upward = [what for room, target, what in edges() if LEVEL[target] > LEVEL[room]]
    assert upward == []


def test_rooms_do_not_import_each_other_in_circles():
    graph: dict[str, set[str]] = {}
    for room, target, _ in edges():
        graph.setdefault(room, set()).add(target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_the_package_itself_imports_no_room():
    names = imports(PACKAGE / "__init__.py", ("cinelabel",))
    assert [name for name in names if name.startswith("cinelabel")] == []


@pytest.mark.parametrize(("carried", "bundled"), [("core", set()), ("dicom", {"pydicom"})])
def test_rooms_that_slicer_carries_import_only_what_it_bundles(carried, bundled):
    allowed = {"numpy", "cinelabel", *bundled, *sys.stdlib_module_names}
    foreign = [
        f"{path.name}: {name}"
        for path, room, package in modules()
        if room == carried
        for name in imports(path, package)
        if name.split(".")[0] not in allowed
    ]
    assert foreign == []


def test_the_package_does_not_import_the_apps():
    app_modules = {"apps", *(path.stem for path in APPS.glob("*/*.py"))} - {"__init__"}
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path, _, package in modules()
        for name in imports(path, package)
        if name.split(".")[0] in app_modules
    ]
    assert found == []


def test_apps_import_of_the_house_only_the_package():
    other_wings = {"slicer_extension", "tests", "CineLabelLib", "CineLabel"}
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sorted(APPS.rglob("*.py"))
        for name in imports(path, path.relative_to(ROOT).parts[:-1])
        if name.split(".")[0] in other_wings
    ]
    assert found == []


def test_core_can_be_imported_with_nothing_but_numpy():
    program = f"""
import importlib, pkgutil, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {BLOCKED!r}:
            raise ImportError(name + " is blocked")

sys.meta_path.insert(0, Blocker())
import cinelabel.core
names = [m.name for m in pkgutil.walk_packages(cinelabel.core.__path__, "cinelabel.core.")]
for name in names:
    importlib.import_module(name)
try:
    import nibabel
except ImportError:
    print(len(names))
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) == len(list((PACKAGE / "core").glob("[!_]*.py"))) > 5


def test_imports_are_found_in_every_form(tmp_path):
    module = tmp_path / "loop.py"
    module.write_text(
        "import cinelabel.cli.main as m\n"
        "def f():\n    from .. import active\n    from ..studies.study import Study\n"
    )
    found = {room_of(name) for name in imports(module, ("cinelabel", "learning"))}
    assert found - {None} == {"cli", "active", "studies"}
