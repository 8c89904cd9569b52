"""What the extension is built from: CMake's lists, .ui files, catalogue entry, README, code."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXTENSION = ROOT / "slicer_extension"
MODULE = EXTENSION / "CineLabel"
BACKEND = ROOT / "training" / "cinelabel"
CARRIED = ("core", "dicom")
"""Rooms of the backend that the module carries."""
UI = sorted((MODULE / "Resources" / "UI").glob("*.ui"))

WIDGETS = {
    *("QWidget", "QFrame", "QLabel", "QLineEdit", "QPushButton", "QToolButton", "QCheckBox"),
    *("QComboBox", "QSlider", "QSpinBox", "QDoubleSpinBox", "QProgressBar", "QTableWidget"),
    *("QScrollArea", "qMRMLWidget", "qMRMLSegmentEditorWidget", "ctkCollapsibleButton"),
}
"""Classes that Slicer's .ui loader knows."""

IMPORTS = {"qt", "ctk", "slicer", "vtk", "SimpleITK", "numpy", "scipy", "CineLabelLib"}
"""Beside the standard library, what may be imported at the top of a file."""


ROOTS = {"CineLabelLib", "Testing"}
"""Packages of the module itself."""


def listed(name: str) -> set[str]:
    """The files of a list in the module's CMakeLists.txt."""
    text = (MODULE / "CMakeLists.txt").read_text(encoding="utf-8")
    found = re.search(rf"set\({name}\n(.*?)\n  \)", text, re.DOTALL)
    assert found is not None
    return set(found[1].replace("${MODULE_NAME}", "CineLabel").split())


def scripts() -> list[Path]:
    """The module's Python files, without the rooms that are copied and the tests."""
    library = (MODULE / "CineLabelLib").rglob("*.py")
    library = [path for path in library if not set(CARRIED) & set(path.parts)]
    return sorted([MODULE / "CineLabel.py", *library])


def test_cmake_lists_every_script() -> None:
    assert listed("MODULE_PYTHON_SCRIPTS") == {
        path.relative_to(MODULE).as_posix() for path in scripts()
    }


def test_cmake_lists_every_icon_and_ui_file() -> None:
    files = (MODULE / "Resources").rglob("*.*")
    assert listed("MODULE_PYTHON_RESOURCES") == {
        path.relative_to(MODULE).as_posix() for path in files if path.suffix in (".ui", ".png")
    }


def test_cmake_lists_the_whole_of_the_rooms_that_are_carried() -> None:
    assert listed("CARRIED_SCRIPTS") == {
        path.relative_to(BACKEND).as_posix()
        for room in CARRIED
        for path in (BACKEND / room).glob("*.py")
    }


@pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake is not installed")
def test_what_cmake_builds_can_be_imported_without_the_source_tree(tmp_path: Path) -> None:
    build = tmp_path / "build"
    (tmp_path / "SlicerConfig.cmake").write_text(
        "set(Slicer_USE_FILE ${CMAKE_CURRENT_LIST_DIR}/use.cmake)\n"
        "set(Slicer_EXTENSION_GENERATE_CONFIG ${CMAKE_CURRENT_LIST_DIR}/none.cmake)\n"
        "set(Slicer_EXTENSION_CPACK ${CMAKE_CURRENT_LIST_DIR}/none.cmake)\n"
    )
    (tmp_path / "none.cmake").write_text("")
    # As CTK's macro: a file goes where it lies below the source, a made one below the build.
    (tmp_path / "use.cmake").write_text(
        "include(CMakeParseArguments)\n"
        "macro(slicerMacroBuildScriptedModule)\n"
        '  cmake_parse_arguments(MY "WITH_GENERIC_TESTS" "NAME" "SCRIPTS;RESOURCES" ${ARGN})\n'
        "  foreach(file ${MY_SCRIPTS} ${MY_RESOURCES})\n"
        "    set(target ${file})\n"
        "    if(IS_ABSOLUTE ${file})\n"
        "      file(RELATIVE_PATH target ${CMAKE_CURRENT_BINARY_DIR} ${file})\n"
        "    endif()\n"
        "    configure_file(${file} ${CMAKE_BINARY_DIR}/module/${target} COPYONLY)\n"
        "  endforeach()\n"
        "endmacro()\n"
    )
    configured = ["cmake", f"-DSlicer_DIR={tmp_path}", "-S", str(EXTENSION), "-B", str(build)]
    done = subprocess.run(configured, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    code = (
        "from CineLabelLib.core.labels import LV; import CineLabelLib.session; "
        "print(LV.value, 'pydicom' in sys.modules); import CineLabelLib.dicom_study"
    )
    ran = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, sys.argv[1]); {code}"]
        + [str(build / "module")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (ran.stdout.strip(), ran.stderr) == ("1 False", "")


def test_the_catalogue_entry_has_the_fields_of_its_schema() -> None:
    entry = json.loads((EXTENSION / "CineLabel.json").read_text(encoding="utf-8"))
    known = {"$schema", "build_dependencies", "build_subdirectory", "category"}
    known |= {"scm_revision", "scm_type", "scm_url", "tier"}
    assert entry["$schema"].endswith("slicer-extension-catalog-entry-schema-v1.0.1.json#")
    assert {"$schema", "category", "scm_url"} <= set(entry) <= known
    assert entry["tier"] in (1, 3, 5)


@pytest.mark.parametrize("path", UI, ids=lambda path: path.stem)
def test_ui_files_name_only_what_slicer_has(path: Path) -> None:
    widgets = list(ET.parse(path).iter("widget"))
    assert {widget.get("class") for widget in widgets} <= WIDGETS
    names = [widget.get("name") for widget in widgets]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("path", UI, ids=lambda path: path.stem)
def test_every_button_says_what_it_does(path: Path) -> None:
    for widget in ET.parse(path).iter("widget"):
        if widget.get("class") in ("QPushButton", "QToolButton", "QCheckBox"):
            told = {each.get("name") for each in widget.findall("property")}
            assert "toolTip" in told, widget.get("name")


@pytest.mark.parametrize("path", scripts(), ids=lambda path: path.stem)
def test_files_import_only_what_slicer_bundles_and_define_only(path: Path) -> None:
    lazy = {"client.py", "exchange.py", "wire.py"}  # they alone speak HTTP
    body = ast.parse(path.read_text(encoding="utf-8")).body
    for node in body:
        if isinstance(node, ast.Import):
            names = [alias.name.split(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [(node.module or "").split(".")[0]]
        else:
            continue
        for name in names:
            allowed = name in IMPORTS or name in sys.stdlib_module_names
            assert allowed or (name in ("requests", "urllib3") and path.name in lazy), name
    loose = [n for n in body if isinstance(n, ast.For | ast.While | ast.With | ast.Try)]
    assert not loose


def test_our_modules_are_there_wherever_they_are_imported() -> None:
    missing = {
        (path.name, node.module)
        for path in (*scripts(), *MODULE.rglob("Testing/Python/*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ROOTS
        for place in (MODULE.joinpath(*node.module.split(".")),)
        if not any(found.exists() for found in (place.with_suffix(".py"), place))
        and not (BACKEND.joinpath(*node.module.split(".")[1:]).with_suffix(".py")).exists()
    }
    assert not missing


def test_the_readme_names_every_key() -> None:
    sys.path.insert(0, str(MODULE))
    from CineLabelLib.shortcuts import SHORTCUTS

    text = (
        (EXTENSION / "README.md").read_text(encoding="utf-8").split("## Keys")[1].split("\n## ")[0]
    )
    rows = re.findall(r"^\| `(\S+)` \| (.*) \|$", text, re.MULTILINE)
    assert rows == [(each.key, each.sentence) for each in SHORTCUTS]


def test_the_readme_shows_every_picture_and_each_is_small() -> None:
    text = (EXTENSION / "README.md").read_text(encoding="utf-8")
    pictures = sorted((EXTENSION / "Screenshots").glob("*.png"))
    assert pictures
    for picture in pictures:
        assert f"Screenshots/{picture.name}" in text
        assert picture.stat().st_size < 120_000


def test_the_module_icon_is_128_pixels_wide() -> None:
    icon = (MODULE / "Resources" / "Icons" / "CineLabel.png").read_bytes()
    assert int.from_bytes(icon[16:20], "big") == int.from_bytes(icon[20:24], "big") == 128
