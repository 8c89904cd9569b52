"""Sending the outbox in order, each submission once; in a thread."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from CineLabelLib.answers import (
    Kept,
    NotThere,
    OutOfDate,
    Refused,
    ServerError,
    TooLarge,
)
from CineLabelLib.core.errors import CineLabelError
from CineLabelLib.desk.states import Conflict, Waiting
from CineLabelLib.outbox import Entry, Outbox, Submission
from CineLabelLib.study import CineStudy

if TYPE_CHECKING:
    from CineLabelLib.client import Client
    from CineLabelLib.work import Task

CHANGED = "changed"


@dataclass
class Sent:
    """What became of the outbox.

    Attributes:
        kept: what the server has now, in order.
        refused: entries that a person must decide about, and why.
        stopped: why the rest waits; None where nothing does.
        entries: what is in the outbox now, and `damaged` a sentence on each one set aside.
    """

    kept: list[tuple[Entry, Kept]] = field(default_factory=list)
    refused: list[tuple[Entry, ServerError]] = field(default_factory=list)
    stopped: ServerError | None = None
    entries: list[Entry] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)


def send(client: Client, outbox: Outbox, task: Task[Any]) -> Sent:
    """Send what waits for this server, the oldest first; stops where the server does not answer.

    A submission leaves the outbox only when the server said that it keeps it. One whose answer was
    lost is sent again under its key, by which the server knows it.
    """
    sent, ours = Sent(), client.following(task)
    with outbox.sending() as mine:
        entries = outbox.pending() if mine else []
        waiting = [entry for entry in entries if entry.submission.address == client.address]
        total = len(waiting)
        while waiting:
            task.check()
            entry = waiting.pop(0)
            task.report(1 - (len(waiting) + 1) / total, f"Sending {entry.submission.image}.")
            try:
                kept = ours.submit(entry.submission)
            except (OutOfDate, Refused, TooLarge, NotThere) as error:
                outbox.refused(entry.id, str(error))
                sent.refused.append((entry, error))
            except ServerError as error:
                outbox.failed(entry.id, str(error))
                sent.stopped = error
                break
            else:
                waiting = _rebased(outbox, entry, waiting, kept.version)
                outbox.remove(entry.id)
                sent.kept.append((entry, kept))
    sent.entries, sent.damaged = outbox.entries(), outbox.set_aside()
    return sent


def _rebased(outbox: Outbox, sent: Entry, waiting: list[Entry], version: int) -> list[Entry]:
    """What waits, where the labels drawn on the one that was sent begin from it now.

    Those that only began from the same version did not have it on screen: they are refused.
    """
    mine, line, entries = sent.submission, {sent.submission.key}, []
    for entry in waiting:
        own = entry.submission
        if own.follows in line and (own.image, own.base_version) == (mine.image, mine.base_version):
            line.add(own.key)
            outbox.rebase(entry.id, version)
            entry = replace(entry, submission=replace(own, base_version=version))
        entries.append(entry)
    return entries


def waiting_of(entries: list[Entry]) -> tuple[Waiting, ...]:
    """The outbox as the panel shows it."""
    return tuple(
        Waiting(
            entry.id,
            entry.submission.image,
            entry.submission.made_at,
            entry.attempts,
            entry.last_error or "It was not sent yet.",
            entry.refused,
        )
        for entry in entries
    )


def note_of(entries: list[Entry], study: CineStudy, address: str) -> str:
    """Which frames of a study have a label in the outbox, for the reader; empty for none."""
    ours = {e.submission.image for e in entries if e.submission.address == address}
    frames = [str(frame) for frame, image in enumerate(study.images) if image in ours]
    if not frames:
        return ""
    have = f"Frame {frames[0]} has" if len(frames) == 1 else f"Frames {', '.join(frames)} have"
    return f"{have} a label waiting in the outbox: Show mine, in the section Learn, opens it."


def conflict_of(refused: list[tuple[Entry, ServerError]]) -> Conflict | None:
    """The first of the refused that another label came before; None where there is none."""
    for entry, error in refused:
        if isinstance(error, OutOfDate) and error.cause != CHANGED and error.version > 0:
            submission = entry.submission
            return Conflict(
                entry.id,
                submission.address,
                submission.image,
                submission.frame,
                error.version,
                error.who,
                error.time,
                _refused_sentence(entry, error),
            )
    return None


def sentence_of(sent: Sent) -> str:
    """What became of the outbox, for the reader; empty where there was nothing to send."""
    sentences = []
    if len(sent.kept) == 1:
        entry, kept = sent.kept[0]
        told = " ".join(kept.warnings)
        sentences.append(f"The server keeps {entry.submission.image} as version {kept.version}.")
        sentences += [told] if told else []
    elif sent.kept:
        sentences.append(f"The server keeps {len(sent.kept)} labels.")
        warned = [e.submission.image for e, kept in sent.kept if kept.warnings]
        sentences += [f"It warns about {', '.join(warned)}."] if warned else []
    sentences += [_refused_sentence(entry, error) for entry, error in sent.refused]
    if sent.stopped is not None:
        count = sum(not entry.refused for entry in sent.entries)
        waits = "1 submission waits" if count == 1 else f"{count} submissions wait"
        sentences.append(f"{sent.stopped} {waits} in the outbox.")
    return " ".join(sentences)


def _refused_sentence(entry: Entry, error: ServerError) -> str:
    image = entry.submission.image
    if isinstance(error, OutOfDate) and error.cause == CHANGED:
        return (
            f"{image}: the image on the server is not the one that you labelled any more. Yours "
            "stays in the outbox; open the case again to label the new image."
        )
    if isinstance(error, OutOfDate) and error.version > 0:
        when = f" at {error.time}" if error.time else ""
        return (
            f"{image}: {error.who or 'somebody'} submitted version {error.version}{when}, after "
            "you began. Yours stays in the outbox: keep it there, open theirs beside it, or submit "
            "yours over theirs once you have seen it."
        )
    return f"{error} It stays in the outbox."


def put_all(outbox: Outbox, made: list[Submission]) -> None:
    """Keep all or none: what is not kept is submitted again, under another key."""
    entries = []
    try:
        for submission in made:
            entries.append(outbox.put(submission))
    except CineLabelError:
        for entry in entries:
            outbox.remove(entry)
        raise
