"""Names for logs: those of studies and images may be names of patients."""

from __future__ import annotations

import hashlib


def pseudonym(name: str) -> str:
    """Twelve hexadecimal digits: the same for the same name, which they do not tell."""
    return hashlib.sha256(name.encode()).hexdigest()[:12]
