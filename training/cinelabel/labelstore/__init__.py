"""Readers' labels: validated, versioned, never overwritten; with history, leases and reviews."""

from cinelabel.labelstore.records import (
    CaseState,
    Event,
    LabelVersion,
    Lease,
    ReviewVersion,
    Submission,
)
from cinelabel.labelstore.store import LabelStore

__all__ = [
    "CaseState",
    "Event",
    "LabelStore",
    "LabelVersion",
    "Lease",
    "ReviewVersion",
    "Submission",
]
