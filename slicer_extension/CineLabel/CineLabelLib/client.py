"""A CineLabel server over HTTP: a method a question, a time-out on each, errors as sentences."""

from __future__ import annotations

import copy
import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from CineLabelLib import answers
from CineLabelLib.answers import (
    Case,
    NotThere,
    OutOfDate,
    ServerGone,
    TimedOut,
    not_understood,
    read,
)
from CineLabelLib.core.errors import InputError
from CineLabelLib.core.review import ReviewRecord
from CineLabelLib.wire import (
    as_json,
    as_list,
    as_object,
    checked,
    is_loopback,
    parts_of,
    pause,
    refuse,
    require_safe,
)
from CineLabelLib.work import Follower, pace

if TYPE_CHECKING:
    from requests.adapters import BaseAdapter

    from CineLabelLib.exchange import Reply
    from CineLabelLib.outbox import Submission

PAGE = 1000
"""Cases that the server tells at once."""


@dataclass(frozen=True)
class Timeouts:
    """How long to wait, in seconds.

    Attributes:
        connect_s: for the connection.
        read_s: for an answer without files, and between two bytes of a file.
        transfer_s: for a file as a whole, either way.
        infer_s: for a segmentation, waiting in the queue included.
        pauses_s: before each further try of what is safe to repeat.
    """

    connect_s: float = 5.0
    read_s: float = 30.0
    transfer_s: float = 300.0
    infer_s: float = 600.0
    pauses_s: tuple[float, ...] = (0.3, 1.0)


class Client:
    """A CineLabel server; its methods are safe to call from several threads.

    Each method raises a ServerError of `answers` with one sentence. `following(task)` gives the
    same client for one task: it raises Cancelled within a tenth of a second once that is cancelled,
    and reports to it. Images, studies, jobs and model
    versions go by the server's names; frames and slices count from 0.

    Args:
        address: such as `https://heart.example.org` or `http://127.0.0.1:8000`.
        token: of the reader; None for a server of this machine without tokens.
        client_id: what the server knows this program by; the reader's name without tokens.
        transport: an adapter of `requests` in place of the network.
        timeouts: how long to wait.
        authorities: PEM file of certificate authorities to trust in place of the usual ones.

    Raises:
        InputError: the address is none, or the token would travel unprotected.
    """

    def __init__(
        self,
        address: str,
        token: str | None = None,
        client_id: str = "",
        transport: BaseAdapter | None = None,
        timeouts: Timeouts | None = None,
        authorities: Path | None = None,
    ) -> None:
        from CineLabelLib.exchange import Exchanges

        self._follower: Follower | None = None

        self.address, host = checked(address)
        self.client_id, self.timeouts = client_id, timeouts or Timeouts()
        token = token.strip() if token else None
        require_safe(token, self.address, host)
        if authorities is not None and not authorities.is_file():
            raise InputError("is no file of certificate authorities", where=authorities)
        self._exchanges = Exchanges(
            self.address,
            token,
            direct=is_loopback(host),
            authorities=None if authorities is None else str(authorities),
            connect_s=self.timeouts.connect_s,
            transport=transport,
        )

    def __repr__(self) -> str:
        return f"Client({self.address!r})"

    def following(self, follower: Follower) -> Client:
        """The same client for one piece of work, such as a `work.Task`."""
        other = copy.copy(self)
        other._follower = follower
        return other

    def close(self) -> None:
        """Close the connections that wait for a next request."""
        self._exchanges.close()

    # The server

    def info(self) -> answers.Info:
        """What the server offers, and how many cases it has."""
        told = as_object(self._get("/info/"))
        if isinstance(told.get("strategies"), Mapping):
            told["strategies"] = {
                name: str(each.get("description", "")) if isinstance(each, Mapping) else ""
                for name, each in told["strategies"].items()
            }
        return read(answers.Info, told)

    def check_token(self) -> answers.Identity:
        """Whose token it is. Raises TokenWrong."""
        return read(answers.Identity, self._get("/auth/token/valid"))

    def queue(self) -> answers.Queue:
        """The segmentations that wait and run."""
        return read(answers.Queue, self._get("/queue/"))

    # Cases

    def cases(self, state: str | None = None, study: str | None = None) -> tuple[Case, ...]:
        """All cases in order; of one study with quality and the digests of their images."""
        found: list[Case] = []
        while True:
            query = {"state": state, "study": study, "offset": len(found), "limit": PAGE}
            page = read(answers.Page, self._get("/cases/", query))
            found += page.cases
            if not page.cases or len(found) >= page.total:
                return tuple(found)

    def next_case(self, strategy: str) -> answers.NextCase | None:
        """The case to label next, which is held for an hour; None where nothing waits."""
        body = {"client_id": self.client_id}
        told = as_object(self._post(f"/activelearning/{quote(strategy, safe='')}", body))
        if not told:
            return None
        return read(answers.NextCase, {**told, "image": told.get("id")})

    def skip(self, image: str, reason: str) -> Case:
        """Take a case out of what is handed out."""
        return self._change(image, "skip", {"reason": reason})

    def reopen(self, image: str, reason: str) -> Case:
        """Hand a case out again."""
        return self._change(image, "reopen", {"reason": reason})

    def hold(self, image: str, minutes: float = 60.0) -> Case:
        """Hold a case, or hold it longer. Raises OutOfDate where another holds it."""
        return self._change(image, "lease", {"minutes": minutes})

    def let_go(self, image: str) -> Case:
        """Give a case back that was held."""
        query = {"client_id": self.client_id}
        reply = self._ask("DELETE", _case(image, "lease"), params=query)
        return read(Case, as_json(reply))

    def history(self, image: str) -> tuple[answers.Event, ...]:
        """What happened to a case, oldest first."""
        told = as_object(self._get(_case(image, "history")))
        return tuple(read(answers.Event, each) for each in as_list(told, "events"))

    def suggestions(self, image: str) -> answers.Suggestions:
        """Slices that are worth correcting, worst first."""
        return read(answers.Suggestions, self._get(_case(image, "suggestions")))

    # Images and labels

    def image(self, image: str) -> bytes:
        """The .nii.gz of a frame."""
        return self._file("/datastore/image", {"image": image}).body

    def image_info(self, image: str) -> answers.ImageInfo:
        """What is known of a frame's image."""
        told = self._get("/datastore/image/info", {"image": image})
        return read(answers.ImageInfo, told)

    def fetch_study(self, study: str) -> tuple[answers.ImageFile, ...]:
        """The images of all frames of a study, in order.

        Raises:
            NotThere: there is no such study.
            OutOfDate: it was changed on the server meanwhile.
        """
        cases = self.cases(study=study)
        if not cases:
            raise NotThere("there is no such study on the server", where=study, cause="unknown")
        found, began = [], time.monotonic()
        for number, case in enumerate(cases):
            self._tell_fetched(number, len(cases), time.monotonic() - began)
            content = self.image(case.image)
            digest = hashlib.sha256(content).hexdigest()
            if case.image_sha256 not in (None, digest):
                raise OutOfDate(
                    "the study changed on the server while it was fetched",
                    where=study,
                    remedy="Open it again",
                    cause="changed",
                )
            found.append(answers.ImageFile(case, content, digest))
        return tuple(found)

    def label(self, image: str, version: int | None = None) -> answers.LabelFile:
        """A version of a label, the newest if none is named. Raises NotThere."""
        query = {"version": version, "client_id": self.client_id}
        reply = self._file(_case(image, "label"), query)
        number = reply.headers.get("X-Label-Version", "")
        if not number.isdigit():
            raise not_understood("the version of the label is missing")
        return answers.LabelFile(image, reply.body, int(number))

    def submit(self, submission: Submission) -> answers.Kept:
        """Hand in a label; the same submission again gives what was kept the first time.

        Raises:
            OutOfDate: another label came first; cause "changed": the image is not that any more.
        """
        told: dict[str, Any] = {
            "client_id": submission.reader or self.client_id,
            "label_info": [{"name": name} for name in submission.label_info],
            "comment": submission.comment,
            "key": submission.key,
        }
        optional = {
            "base_version": submission.base_version,
            "model": submission.model,
            "image_sha256": submission.image_digest,
        }
        told |= {name: value for name, value in optional.items() if value is not None}
        reply = self._ask(
            "PUT",
            "/datastore/label",
            total_s=self.timeouts.transfer_s,
            repeat=True,
            params={"image": submission.image},
            data={"params": json.dumps(told)},
            files={"label": ("label.nii.gz", submission.label)},
        )
        return read(answers.Kept, as_json(reply))

    # Segmentation

    def segment(
        self,
        image: str,
        scope: str = "frame",
        fast: bool = True,
        uncertainty: bool = False,
        request_id: str | None = None,
        content: bytes | None = None,
    ) -> answers.Segmentation:
        """Segment a frame, or with scope "study" all frames of its study.

        With `content`, a .nii.gz file, that is segmented in place of an image of the server, which
        does not keep it. Giving up closes the connection, and the server then cancels the work.

        Raises:
            Cancelled: also when the request was cancelled on the server.
            Busy: too many wait.
        """
        wanted = {"scope": scope, "fast": fast, "uncertainty": uncertainty}
        if self.client_id:
            wanted["client_id"] = self.client_id
        if request_id is not None:
            wanted["request_id"] = request_id
        reply = self._ask(
            "POST",
            "/infer/cine",
            silence_s=self.timeouts.infer_s,
            total_s=self.timeouts.infer_s,
            params={"image": image},
            data={"params": json.dumps(wanted)},
            files=None if content is None else {"file": ("image.nii.gz", content)},
        )
        parts = parts_of(reply)
        if "params" not in parts or "image" not in parts:
            raise not_understood("the segmentation has no label")
        found = read(answers.Segmentation, as_json(replace(reply, body=parts["params"])))
        return replace(found, labels=parts["image"], uncertainty=parts.get("uncertainty"))

    def progress(self, request_id: str) -> answers.Progress | None:
        """How far a segmentation is; None while the server does not know it."""
        return self._progress("GET", request_id)

    def cancel(self, request_id: str) -> answers.Progress | None:
        """Cancel a segmentation at its next phase; None where the server does not know it."""
        return self._progress("DELETE", request_id)

    # Reviews

    def review(self, study: str) -> answers.StudyReview | None:
        """The newest review of a study, None where there is none."""
        try:
            return read(answers.StudyReview, self._get(_review(study)))
        except NotThere:
            return None

    def save_review(self, record: ReviewRecord, base_version: int) -> answers.StudyReview:
        """Keep a review that began from a version, 0 for none. Raises OutOfDate."""
        body = {
            "record": record.as_dict(),
            "base_version": base_version,
            "client_id": self.client_id,
        }
        reply = self._ask("PUT", _review(record.study), json=body)
        return read(answers.StudyReview, as_json(reply))

    # Learning

    def start_training(self, options: Mapping[str, Any] | None = None) -> str:
        """Start a training, with options such as `method` and `minutes`; the name of its job."""
        told = as_object(self._post("/train/cine", dict(options or {})))
        return str(told.get("id", ""))

    def stop_training(self) -> None:
        """End the trainings that run and wait; a checkpoint stays."""
        self._ask("DELETE", "/train/")

    def resume_training(self, job: str) -> str:
        """Go on with a training that was ended; the name of the new job."""
        told = as_object(self._post(f"/training/{quote(job, safe='')}/resume", None))
        return str(told.get("id", ""))

    def training(self, job: str | None = None) -> answers.Course | None:
        """The course of a training, of the last one if none is named; None without any."""
        try:
            path = "/training/" if job is None else f"/training/{quote(job, safe='')}"
            return read(answers.Course, self._get(path))
        except NotThere:
            if job is None:
                return None
            raise

    def figure(self, job: str, name: str) -> bytes:
        """A figure of a training, PNG."""
        path = f"/training/{quote(job, safe='')}/figures/{quote(name, safe='')}"
        return self._file(path).body

    def models(self) -> answers.Models:
        """The model versions, and which one answers."""
        return read(answers.Models, self._get("/models/"))

    def use(self, version: str, why: str = "", force: bool = False) -> answers.Models:
        """Put a version in use; one that was rejected by force alone."""
        body = {"why": why, "client_id": self.client_id, "force": force}
        path = f"/models/{quote(version, safe='')}/use"
        return read(answers.Models, self._post(path, body))

    def roll_back(self, why: str = "") -> answers.Models:
        """Put the version in use that was before."""
        body = {"why": why, "client_id": self.client_id}
        return read(answers.Models, self._post("/models/rollback", body))

    # How it is asked

    def _get(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        return as_json(self._ask("GET", path, params=query))

    def _post(self, path: str, body: Mapping[str, Any] | None) -> Any:
        return as_json(self._ask("POST", path, json=body))

    def _file(self, path: str, query: Mapping[str, Any] | None = None) -> Reply:
        total_s = self.timeouts.transfer_s
        return self._ask("GET", path, total_s=total_s, params=query)

    def _change(self, image: str, what: str, body: Mapping[str, Any]) -> Case:
        told = {**body, "client_id": self.client_id}
        return read(Case, self._post(_case(image, what), told))

    def _tell_fetched(self, done: int, total: int, seconds: float) -> None:
        if self._follower is not None:
            rate = done / seconds if done and seconds > 0 else None
            how_fast = pace(rate, None if rate is None else (total - done) / rate)
            self._follower.report(done / total, f"Fetching frame {done + 1} of {total}{how_fast}")

    def _progress(self, method: str, request_id: str) -> answers.Progress | None:
        path = f"/progress/{quote(request_id, safe='')}"
        try:
            return read(answers.Progress, as_json(self._ask(method, path)))
        except NotThere:
            return None

    def _ask(
        self,
        method: str,
        path: str,
        *,
        silence_s: float | None = None,
        total_s: float | None = None,
        repeat: bool = False,
        **content: Any,
    ) -> Reply:
        """An answer that is no refusal; what is safe to repeat is tried again for lost servers."""
        end = time.monotonic() + (total_s or self.timeouts.read_s)
        pauses = self.timeouts.pauses_s if repeat or method == "GET" else ()
        for wait_s in (*pauses, None):
            try:
                reply = self._exchanges.ask(
                    method,
                    self.address + path,
                    silence_s or self.timeouts.read_s,
                    max(0.0, end - time.monotonic()),
                    self._follower,
                    **content,
                )
                if reply.status < 300:
                    return reply
                refuse(reply)
            except ServerGone as error:
                left = end - time.monotonic()
                if wait_s is None or left <= wait_s or isinstance(error, TimedOut):
                    raise
            pause(wait_s, self._follower)
        raise AssertionError("the last try returns or raises")


def _case(image: str, what: str) -> str:
    return f"/cases/{quote(image, safe='')}/{what}"


def _review(study: str) -> str:
    return f"/studies/{quote(study, safe='')}/review"
