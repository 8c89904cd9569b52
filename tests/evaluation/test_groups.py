"""Patients and groups of cases, from data sets, names and tables."""

from __future__ import annotations

from pathlib import Path

import pytest
from cinelabel.core.errors import InputError
from cinelabel.core.labels import CANONICAL
from cinelabel.datasets import Case
from cinelabel.evaluation.groups import of_case, of_name, read_groups


def case(name: str, details: dict[str, str], phase: str = "ED") -> Case:
    return Case(name, "p1", phase, Path("x.nii.gz"), None, CANONICAL, details=details)


@pytest.mark.parametrize(
    ("name", "details", "groups"),
    [
        ("acdc", {"group": "DCM"}, {"pathology": "DCM"}),
        (
            "mnms",
            {"VendorName": "Canon", "Vendor": "D", "Pathology": "HCM", "Age": "40"},
            {"vendor": "Canon", "pathology": "HCM"},
        ),
        (
            "mnms2",
            {"vendor": "GE MEDICAL SYSTEMS", "disease": "LV"},
            {"vendor": "GE", "pathology": "LV"},
        ),
        ("mnms2", {"vendor": "SIEMENS"}, {"vendor": "Siemens"}),
        ("mnms2", {"vendor": "Philips Medical Systems"}, {"vendor": "Philips"}),
        (
            "cmrxmotion",
            {"manner": "free", "grade": "2"},
            {"manner": "free", "grade": "2 intermediate"},
        ),
        ("sunnybrook", {}, {}),
    ],
)
def test_a_case_is_in_the_groups_that_its_set_states(name, details, groups):
    told = of_case(case(name, details, "ES"))
    assert told.groups == {"set": name, "phase": "ES", **groups}
    assert told.patient == f"{name}/p1"


@pytest.mark.parametrize(
    ("name", "patient", "groups"),
    [
        ("patient001_ED", "patient001", {"phase": "ED"}),
        ("P001-2_ES", "P001-2", {"phase": "ES"}),
        ("study__t03", "study", {}),
        ("FRED", "FRED", {}),
        ("a_EDITED", "a_EDITED", {}),
    ],
)
def test_a_name_tells_patient_and_phase(name, patient, groups):
    told = of_name(name)
    assert (told.patient, told.groups) == (patient, groups)


def table(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8-sig")
    return path


def test_a_table_tells_patients_and_groups_and_blank_cells_are_no_group(tmp_path):
    found = read_groups(
        table(tmp_path / "g.csv", "case,patient,vendor\nx1,Ann,GE\nx2,Ann,\ny_ED,,Canon\n\n")
    )
    assert (found["x1"].patient, found["x1"].groups) == ("Ann", {"vendor": "GE"})
    assert (found["x2"].patient, found["x2"].groups) == ("Ann", {})
    assert (found["y_ED"].patient, found["y_ED"].groups) == (
        "y",
        {"phase": "ED", "vendor": "Canon"},
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,vendor\na,GE\n", "no column 'case'"),
        ("case,vendor\na,GE\na,GE\n", "names the case a twice"),
        ("case,dice\na,1\n", "'dice' cannot be a grouping"),
        ("", "no column 'case'"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_by_name(tmp_path, text, said):
    with pytest.raises(InputError, match=rf"g\.csv.*{said}"):
        read_groups(table(tmp_path / "g.csv", text))


def test_a_table_that_is_not_there_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match=r"none\.csv"):
        read_groups(tmp_path / "none.csv")
