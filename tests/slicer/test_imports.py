"""Which way the extension's modules import: from the panel down to the core, and never back."""

from __future__ import annotations

import ast
import functools
import sys
from pathlib import Path

import pytest

MODULE = Path(__file__).resolve().parents[2] / "slicer_extension" / "CineLabel"
LIB = MODULE / "CineLabelLib"
FILES = sorted(p for p in MODULE.rglob("*.py") if "Testing" not in p.parts)

BUNDLED = {"numpy", "scipy", "vtk", "qt", "ctk", "slicer", "SimpleITK", "CineLabelLib"}
"""What a file of the extension may import at its top, beside the standard library."""
LAZILY = {"requests", "urllib3", "pydicom", "Testing"}
"""What Slicer bundles, too, and only some of the work needs; the self-test of the module."""

LOW = {"core", "dicom", "signals", "study", "files", "locks"}
WINDOWS = {"qt", "ctk", "slicer", "vtk", "SimpleITK"}


def group(path: Path) -> str:
    """The part of the house that a file is in: its folder below the library, or its own name."""
    if path == MODULE / "CineLabel.py":
        return "CineLabel"
    first = path.relative_to(LIB).parts[0]
    return first.removesuffix(".py")


@functools.cache
def imported(path: Path) -> list[tuple[str, bool]]:
    """Names of what a file imports, and whether that is at file scope for good."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for parent in ast.walk(tree):
        for child in ast.iter_child_nodes(parent):
            child.parent = parent  # type: ignore[attr-defined]
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: imports are absolute"
            names = [node.module or ""]
            if node.module == "CineLabelLib":
                names = [f"CineLabelLib.{alias.name}" for alias in node.names]
        else:
            continue
        found += [(name, _is_at_file_scope(node)) for name in names]
    return found


def _is_at_file_scope(node: ast.AST) -> bool:
    while not isinstance(node, ast.Module):
        if isinstance(node, ast.FunctionDef):
            return False
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return False
        node = node.parent  # type: ignore[attr-defined]
    return True


PARTS = {group(path) for path in FILES} | {"core", "dicom"}
WINDOW = {"widget", "CineLabel"}


def ours(path: Path) -> set[str]:
    """The parts of the house that a file imports from."""
    names = [name.split(".") for name, _ in imported(path)]
    return {name[1] for name in names if name[0] == "CineLabelLib" and len(name) > 1}


def test_every_file_is_looked_at():
    assert len(FILES) > 20
    assert {"desk", "mrml"} <= {group(path) for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(MODULE)))
def test_file_scope_imports_are_bundled_with_slicer(path):
    for name, at_file_scope in imported(path):
        first = name.split(".")[0]
        if at_file_scope and first not in sys.stdlib_module_names | {"__future__"}:
            assert first in BUNDLED, f"{path.name} imports {name}"
        elif first not in sys.stdlib_module_names | {"__future__"}:
            assert first in BUNDLED | LAZILY, f"{path.name} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(MODULE)))
def test_no_code_runs_when_a_file_is_imported(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if path == LIB / "__init__.py":
        return  # finds the backend's core, see there
    for node in tree.body:
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        is_typing = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        defines = isinstance(
            node,
            ast.FunctionDef
            | ast.ClassDef
            | ast.Import
            | ast.ImportFrom
            | ast.Assign
            | ast.AnnAssign,
        )
        assert is_text or is_typing or defines, f"{path.name}, line {node.lineno}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(MODULE)))
def test_windows_and_scenes_stay_where_they_belong(path):
    used = {name.split(".")[0] for name, _ in imported(path)} & WINDOWS
    if group(path) == "mrml":
        assert used <= {"slicer", "vtk"}, "the scene knows no window"
    elif group(path) not in WINDOW | {"panel"}:
        assert not used, "it is no part of a window or a scene"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(MODULE)))
def test_imports_go_one_way(path):
    used, own = ours(path), group(path)
    if own in LOW:
        allowed = LOW
    elif own == "mrml":
        allowed = LOW | {"mrml", "shortaxis", "filling", "planes"}
    elif own == "desk":
        allowed = PARTS - WINDOW - {"mrml", "session", "panel"}
    elif own == "session":
        allowed = LOW | {"desk", "client", "work", "session"}
    elif own == "panel":
        allowed = PARTS - WINDOW - {"mrml"}
    elif own in WINDOW:
        return
    else:
        allowed = PARTS - WINDOW - {"mrml", "desk", "session", "panel"}
    assert used <= allowed, f"{path.name} imports {sorted(used - allowed)}"


def test_the_client_knows_neither_use_cases_nor_files_of_studies():
    for name in ("client", "exchange", "wire", "answers", "work"):
        path = LIB / f"{name}.py"
        forbidden = {"desk", "session", "mrml", "records", "dicom_study", "nifti", "panel"}
        assert not ours(path) & forbidden
