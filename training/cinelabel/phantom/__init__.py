"""The digital phantom: studies with known truth, for training, trials and demonstrations."""

from __future__ import annotations

from cinelabel.phantom.cohort import PhantomStudy, StackGeometry, make_study
from cinelabel.phantom.layouts import write_cohort

__all__ = ["PhantomStudy", "StackGeometry", "make_study", "write_cohort"]
