"""What a person sees of a run: a Rich progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from datetime import timedelta
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

PLAIN_EVERY_S = 15.0  # a plain line of preparation work at most this often


class Reporter:
    """Progress with a rate and the remaining time; use as a context manager."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[detail]}"),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._began: dict[str, tuple[float, int]] = {}
        self._newest: dict[str, tuple[int, int]] = {}
        self._last_line = float("-inf")

    def __enter__(self) -> Reporter:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def note(self, text: str) -> None:
        """A line that stays."""
        self.console.print(text, highlight=False, soft_wrap=True)

    def progress(self, done: int, total: int, what: str) -> None:
        """Move the bar called `what`; elsewhere a line now and then and one at the end.

        Another total, or less done than before, is other work of that name, with its own rate.
        """
        now = time.monotonic()
        if (newest := self._newest.get(what)) and (newest[1] != total or done < newest[0]):
            self._restart(what, total)
        self._newest[what] = done, total
        since, before = self._began.setdefault(what, (now, done))
        rate = (done - before) / (now - since) if now > since else 0.0
        if self.console.is_terminal:
            self._move(done, total, what, f"{rate:.2f}/s" if rate else "")
        elif done >= total or now - self._last_line >= PLAIN_EVERY_S:
            self._last_line = now
            left = timedelta(seconds=round((total - done) / rate)) if rate else "?"
            self.note(f"{what}: {done}/{total}, {rate:.2f}/s, {left} left")

    def step(
        self, done: int, total: int, loss: float, learning_rate: float, rate: float, log: bool
    ) -> None:
        """A training step is done; `rate` in steps a second (0: not known yet)."""
        detail = f"loss {loss:.4f}, lr {learning_rate:.2e}, {rate:.2f} steps/s"
        if self.console.is_terminal:
            self._move(done, total, "training", detail)
        elif log or done == total:
            left = timedelta(seconds=round((total - done) / rate)) if rate > 0 else "?"
            self.note(f"step {done}/{total}: {detail}, {left} left")

    def _restart(self, what: str, total: int) -> None:
        del self._began[what]
        if what in self._tasks:
            self._bar.reset(self._tasks[what], total=total)

    def _move(self, done: int, total: int, what: str, detail: str) -> None:
        if what not in self._tasks:
            self._tasks[what] = self._bar.add_task(what, total=total, detail=detail)
        task = self._tasks[what]
        self._bar.update(task, completed=done, total=total, detail=detail)
