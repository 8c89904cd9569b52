"""A DICOMweb server (DICOM PS3.18) asked so that it can neither freeze nor fool the one who asks.

dicomweb-client speaks the protocol; here every answer has a time limit and a size limit, and every
failure is one sentence. Neither credentials nor patient data appear in a sentence or in a log.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pydicom
import requests
import urllib3
from dicomweb_client import DICOMwebClient
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.tag import Tag

from cinelabel.core.errors import CineLabelError, InputError
from cinelabel.dicom.headers import HEADER_TAGS, quiet
from cinelabel.studies.dicomweb_address import PASSWORD, TOKEN, USER, check_url

_PAGE = 500  # series asked for at once
_JSON_TAGS = frozenset(f"{int(Tag(keyword)):08X}" for keyword in HEADER_TAGS)

T = TypeVar("T")


class PacsError(CineLabelError):
    """The DICOMweb server is away, slow, refuses, or answers what is no DICOMweb."""


@dataclass(frozen=True)
class Limits:
    """How long and how much is waited for.

    Attributes:
        connect_s: until a connection is accepted.
        read_s: between two pieces of an answer.
        answer_s: for a whole answer.
        answer_mb: largest answer, in MiB.
        stack_s: for the download of all images of a stack in one round.
    """

    connect_s: float = 5.0
    read_s: float = 30.0
    answer_s: float = 120.0
    answer_mb: int = 512
    stack_s: float = 900.0


LIMITS = Limits()


@dataclass(frozen=True)
class Credentials:
    """A user with a password, or a bearer token; never shown."""

    user: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Credentials:
        """Those in CINELABEL_DICOMWEB_USER and _PASSWORD, or in CINELABEL_DICOMWEB_TOKEN."""
        return cls(environment.get(USER), environment.get(PASSWORD), environment.get(TOKEN))

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Sign a request, as requests asks of its `auth`."""
        if self.token:
            request.headers["Authorization"] = f"Bearer {self.token}"
        elif self.user:
            requests.auth.HTTPBasicAuth(self.user, self.password or "")(request)
        return request


ANONYMOUS = Credentials()


@dataclass(frozen=True)
class FoundSeries:
    """A series that a search told of; `instances` is None where the server does not count."""

    study_uid: str
    series_uid: str
    number: int | None
    instances: int | None


class Pacs:
    """A connection to a DICOMweb server, for one thread.

    Args:
        url: root of its DICOMweb services, e.g. http://host:8042/dicom-web.
        credentials: for its log-in.
        limits: of time and size.

    Raises:
        InputError: the address is none, or holds a password.
    """

    def __init__(
        self,
        url: str,
        credentials: Credentials = ANONYMOUS,
        limits: Limits = LIMITS,
    ) -> None:
        self.url = check_url(url)
        session = _Session(limits)
        session.auth = credentials
        # One piece: not every server takes uploads in chunks.
        self._client = DICOMwebClient(
            self.url, session, chunk_size=limits.answer_mb << 20, permissive_uid=True
        )
        self._client.set_http_retry_params(retry=False)

    def greet(self) -> None:
        """Ask for a few series, to see whether it answers. Raises PacsError."""
        self._ask("a search", partial(self._search, {}, 0, 1))

    def search(self, filters: Mapping[str, str]) -> list[FoundSeries]:
        """All series that match, e.g. {"Modality": "MR"}. Raises PacsError."""
        found: dict[str, FoundSeries] = {}
        offset = 0
        while True:
            page = self._ask("a search", partial(self._search, filters, offset))
            offset += len(page)
            if all(series.series_uid in found for series in page):  # a server may ignore offsets
                return list(found.values())
            found.update({series.series_uid: series for series in page})

    def headers(self, study_uid: str, series_uid: str) -> list[Dataset]:
        """What `cinelabel.dicom.headers` reads of each image of a series. Raises PacsError."""
        return self._ask(
            "a request for headers",
            lambda: [
                _from_json(image)
                for image in self._client.retrieve_series_metadata(study_uid, series_uid)
            ],
        )

    def fetch(self, study_uid: str, series_uid: str, sop_uid: str) -> bytes:
        """An image as the bytes of a DICOM file. Raises PacsError, also if it is not whole."""
        return self._ask(
            "a request for an image",
            lambda: _whole(
                self._client.retrieve_instance(
                    study_uid, series_uid, sop_uid, media_types=("application/dicom",)
                ),
                sop_uid,
            ),
        )

    def store(self, path: Path) -> None:
        """Send a DICOM file; sending it again changes nothing.

        Raises:
            InputError: the file cannot be read.
            PacsError: it could not be sent, or was not stored.
        """
        try:
            quiet()
            dataset = pydicom.dcmread(path)
        except (InvalidDicomError, OSError, EOFError, ValueError) as error:
            raise InputError("is missing or damaged and cannot be sent", where=path) from error
        answer = self._ask("an object sent to it", lambda: self._client.store_instances([dataset]))
        for failed in answer.get("FailedSOPSequence") or []:
            reason = int(failed.get("FailureReason") or 0)
            raise self._error(f"did not store an object sent to it (reason {reason:#06x})")

    def _search(
        self, filters: Mapping[str, str], offset: int, limit: int = _PAGE
    ) -> list[FoundSeries]:
        answer = self._client.search_for_series(
            fields=["NumberOfSeriesRelatedInstances"],
            search_filters=dict(filters),
            limit=limit,
            offset=offset,
        )
        return [_found(Dataset.from_json(item)) for item in answer]

    def _ask(self, what: str, call: Callable[[], T]) -> T:
        """The answer to a call, or a sentence why there is none."""
        try:
            quiet()
            return call()
        except requests.exceptions.SSLError as error:
            raise self._error("has no TLS certificate that is trusted here") from error
        except requests.exceptions.ConnectTimeout as error:
            raise self._error("did not accept a connection in time") from error
        except requests.exceptions.Timeout as error:
            raise self._error(f"did not answer {what} in time") from error
        except requests.exceptions.HTTPError as error:
            status = 0 if error.response is None else error.response.status_code
            raise self._refusal(what, status) from error
        except (requests.exceptions.ConnectionError, OSError) as error:
            if isinstance(error, requests.exceptions.JSONDecodeError):
                raise self._error(f"answered {what} with something that is no JSON") from error
            raise self._error(f"cannot be reached, or broke off at {what}") from error
        except (InvalidDicomError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise self._error(f"answered {what} with something that is no DICOMweb") from error

    def _refusal(self, what: str, status: int) -> PacsError:
        if status in (401, 403):
            remedy = f"Set {USER} and {PASSWORD}, or {TOKEN}, for the server"
            return self._error(f"refused the log-in (status {status})", remedy)
        return self._error(f"answered {what} with status {status}")

    def _error(self, problem: str, remedy: str | None = None) -> PacsError:
        return PacsError(problem, where=f"DICOMweb server {self.url}", remedy=remedy)


class _Session(requests.Session):
    """Requests whose answers are read at once, within limits of time and size."""

    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self._limits = limits

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        limits = self._limits
        end = time.monotonic() + limits.answer_s
        options.update(stream=True, timeout=(limits.connect_s, limits.read_s))
        response = super().send(request, **options)
        if not isinstance(response.raw, io.BytesIO):  # that of a redirection has been read
            response.raw = io.BytesIO(self._body(response, end))
        return response

    def _body(self, response: requests.Response, end: float) -> bytes:
        """All of an answer; `read1` returns as soon as something has come, so `end` is kept."""
        body = bytearray()
        try:
            while piece := response.raw.read1(1 << 16, decode_content=True):
                body += piece
                if time.monotonic() > end:
                    raise requests.exceptions.ReadTimeout("the answer takes too long")
                if len(body) > self._limits.answer_mb << 20:
                    raise requests.exceptions.ConnectionError("the answer is too large")
        except urllib3.exceptions.ReadTimeoutError as error:
            raise requests.exceptions.ReadTimeout("the answer stopped") from error
        except urllib3.exceptions.HTTPError as error:
            raise requests.exceptions.ConnectionError("the answer broke off") from error
        finally:
            response.raw.close()
        return bytes(body)


def _found(item: Dataset) -> FoundSeries:
    count, number = item.get("NumberOfSeriesRelatedInstances"), item.get("SeriesNumber")
    return FoundSeries(
        study_uid=str(item.StudyInstanceUID),
        series_uid=str(item.SeriesInstanceUID),
        number=None if number is None else int(number),
        instances=None if count is None else int(count),
    )


def _from_json(image: Mapping[str, Any]) -> Dataset:
    return Dataset.from_json({tag: value for tag, value in image.items() if tag in _JSON_TAGS})


def _whole(image: Dataset, sop_uid: str) -> bytes:
    """The file of an image that was asked for. Raises ValueError if it is another or cut off."""
    if image.SOPInstanceUID != sop_uid:
        raise ValueError("another image")
    if not image.file_meta.TransferSyntaxUID.is_compressed:
        bits = image.Rows * image.Columns * image.SamplesPerPixel * image.BitsAllocated
        if len(image.PixelData) < bits * int(image.get("NumberOfFrames") or 1) // 8:
            raise ValueError("pixels are missing")
    buffer = io.BytesIO()
    image.save_as(buffer, write_like_original=False)
    return buffer.getvalue()
