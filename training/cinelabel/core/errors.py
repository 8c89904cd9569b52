"""The family of errors: each says in one sentence where, what is wrong, and what to do."""

from __future__ import annotations


class CineLabelError(Exception):
    """A problem the user can act on; the command line prints it as one line and exits 2.

    Args:
        problem: what is wrong, without a full stop at the end.
        where: file, slice, structure or setting the problem is in.
        remedy: what to do about it, without a full stop at the end.
    """

    def __init__(
        self, problem: str, *, where: object | None = None, remedy: str | None = None
    ) -> None:
        self.problem = problem
        self.where = where
        self.remedy = remedy
        super().__init__(problem)

    def __str__(self) -> str:
        text = self.problem.rstrip(". ")
        if self.where is not None:
            text = f"{self.where}: {text}"
        if self.remedy:
            text = f"{text}. {self.remedy.rstrip('. ')}"
        return " ".join(f"{text}.".split())


class InputError(CineLabelError):
    """An input file or argument that is missing, unreadable or wrong."""


class ChoiceError(InputError):
    """An input that may mean several things.

    Args:
        choices: (key, description) of each; the key chooses it.
    """

    def __init__(
        self,
        problem: str,
        *,
        where: object | None = None,
        remedy: str | None = None,
        choices: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(problem, where=where, remedy=remedy)
        self.choices = choices


class GridError(InputError):
    """Arrays that do not lie on the same grid, or a grid that is none."""


class LabelError(InputError):
    """A label with values outside the structures."""


class ConflictError(CineLabelError):
    """A change that began from an older state than the newest, or of what another holds.

    Args:
        version: the newest version, 0 if there is none.
        who: who submitted it, or holds the case.
        time: when (ISO 8601, UTC).
    """

    def __init__(
        self,
        problem: str,
        *,
        where: object | None = None,
        remedy: str | None = None,
        version: int = 0,
        who: str | None = None,
        time: str | None = None,
    ) -> None:
        super().__init__(problem, where=where, remedy=remedy)
        self.version = version
        self.who = who
        self.time = time


class ModelError(CineLabelError):
    """A model version, its card or its weights are missing or damaged."""


class OutputError(CineLabelError):
    """A result cannot be written."""


class BusyError(OutputError):
    """Others are changing what is to be written; a little later it can be."""


class RunError(CineLabelError):
    """A training run's folder or configuration does not hold together."""
