from __future__ import annotations

import pytest
from cinelabel.core import errors


def test_an_error_says_where_what_and_what_to_do():
    error = errors.InputError("has 3 axes", where="scan.nii", remedy="Give a stack")
    assert str(error) == "scan.nii: has 3 axes. Give a stack."


def test_an_error_without_place_or_remedy_is_the_problem_with_a_full_stop():
    assert str(errors.ModelError("no model is installed.")) == "no model is installed."


def test_an_error_is_one_line():
    assert str(errors.RunError("two\nlines", where="run  7")) == "run 7: two lines."


@pytest.mark.parametrize("kind", [errors.GridError, errors.LabelError])
def test_wrong_grids_and_labels_are_wrong_input(kind):
    assert issubclass(kind, errors.InputError)


@pytest.mark.parametrize("name", ["InputError", "ModelError", "OutputError", "RunError"])
def test_every_error_belongs_to_the_family(name):
    assert issubclass(getattr(errors, name), errors.CineLabelError)
