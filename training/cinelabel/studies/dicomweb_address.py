"""Where a DICOMweb server is, and where its log-in is found; without the packages that ask it."""

from __future__ import annotations

from urllib.parse import urlsplit

from cinelabel.core.errors import InputError

USER, PASSWORD, TOKEN = (
    "CINELABEL_DICOMWEB_USER",
    "CINELABEL_DICOMWEB_PASSWORD",
    "CINELABEL_DICOMWEB_TOKEN",
)
"""Variables of the environment."""


def check_url(url: str) -> str:
    """The address of a DICOMweb server without a slash at its end.

    Raises:
        InputError: it is no http or https address, or holds a password.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if "@" in parts.netloc:
        raise InputError(
            "the address of the DICOMweb server holds a user or password, which logs would show",
            remedy=f"Set {USER} and {PASSWORD}, or {TOKEN}, instead",
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(
            f"{url!r} is no address of a DICOMweb server",
            remedy="Give one such as http://host:8042/dicom-web",
        )
    return url.rstrip("/")
