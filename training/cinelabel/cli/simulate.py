"""`cinelabel simulate`: what a version gains by corrections, by strategy and by method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cinelabel.cli.train import EXIT_INTERRUPTED, Data, require_training, roots_of

if TYPE_CHECKING:
    from rich.table import Table

    from cinelabel.active.curves import Point
    from cinelabel.active.plan import SimulationConfig
    from cinelabel.active.simulation import Result


def simulate(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file of the simulation.")],
    data: Data = None,
    runs: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the runs.")] = Path("runs"),
    leave_one_out: Annotated[
        bool,
        typer.Option(
            "--leave-one-out", help="Score each patient by what was corrected of the others."
        ),
    ] = False,
    minutes: Annotated[
        float | None,
        typer.Option(min=0.01, help="Of tuning, for every method alike, in place of its steps."),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="So many, instead of those of CONFIG.")
    ] = None,
) -> None:
    """Simulate an annotator who corrects the slices that strategies choose, from known truth.

    Every finished cell is kept: the same command goes on after Ctrl-C, and
    adds what CONFIG has got of strategies, methods, seeds and budgets.
    """
    require_training()
    from cinelabel.active import plan, simulation
    from cinelabel.cli import terminal

    loaded = plan.load(
        config,
        leave_one_out=leave_one_out or None,
        seeds=None if seeds is None else list(range(1, seeds + 1)),
        minutes=minutes,
    )
    settings = simulation.with_version(loaded)
    folder = runs / settings.name
    with terminal.progress_bar("simulating") as progress:
        outcome = simulation.simulate(
            settings,
            folder,
            roots_of(data),
            cache=runs / "phantoms",
            progress=progress,
            finished=_teller(),
        )
    _report(settings, folder, outcome.results)
    typer.echo(f"{folder}: {len(outcome.results)} of {outcome.cells} cells are finished")
    if not outcome.finished:
        raise typer.Exit(EXIT_INTERRUPTED)


def _report(settings: SimulationConfig, folder: Path, results: Sequence[Result]) -> None:
    """Tables and a figure, once a strategy's slices were learned from. Raises OutputError."""
    from cinelabel.active import curves
    from cinelabel.active.plan import ALL, BEFORE
    from cinelabel.cli.terminal import print_table

    found = curves.points(results)
    if all(point.strategy in (BEFORE, ALL) for point in found):
        return
    curves.write_tables(folder, results)
    if settings.leave_one_out:
        curves.draw_left_out(folder / "left-out.png", settings, found)
        print_table(_left_out_table(found))
    else:
        curves.draw_curves(folder / "curves.png", settings, found)
        print_table(_curve_table(found))


def _teller() -> Callable[[Result, int, int, float | None], None]:
    """One line a finished cell on standard error."""
    from cinelabel.cli.terminal import note

    def tell(result: Result, done: int, total: int, seconds_left: float | None) -> None:
        dice = sum(score.dice for score in result.scores) / max(len(result.scores), 1)
        left = "" if seconds_left is None else f", about {seconds_left / 60:.0f} min left"
        note(
            f"{done}/{total}{left}: {result.cell.name}, "
            f"{result.slices} slices, {result.steps} steps in {result.seconds:.0f} s, "
            f"Dice {dice:.3f}"
        )

    return tell


def _curve_table(found: Sequence[Point]) -> Table:
    """Median Dice at each budget, and slices to most of what all slices give."""
    from rich.table import Table

    from cinelabel.active.curves import MEAN, SHARES, curves, medians, saved, whole_pool

    drawn = curves(found)
    counts = sorted({count for curve in drawn for count in curve.slices})
    table = Table("strategy", "method", *map(str, counts), "all")
    for share in SHARES:
        table.add_column(f"slices to {share:.0%}")
    for curve in drawn:
        at = dict(zip(curve.slices, curve.dice[MEAN][:, 1], strict=True))
        whole = whole_pool(found, curve.method)
        table.add_row(
            curve.strategy,
            curve.method,
            *(f"{at[count]:.3f}" if count in at else "" for count in counts),
            f"{medians(whole)[MEAN]:.3f}" if whole else "",
            *(map(_needed, curve.needed, saved(curve, drawn)) if whole else ()),
        )
    table.caption = "Dice, mean of the structures, against slices corrected: median of the seeds. "
    table.caption += "In brackets: share of what foreground-aware random needs."
    return table


def _needed(slices: float | None, share: float | None) -> str:
    if slices is None:
        return "not reached"
    return f"{slices:.0f}" if share is None else f"{slices:.0f} ({share:.2f})"


def _left_out_table(found: Sequence[Point]) -> Table:
    """Dice a structure before, and after: each seed, and the median."""
    from rich.table import Table

    from cinelabel.active.curves import BEFORE, COLUMNS, by_method, medians

    table = Table("method", "seed", *COLUMNS, "slices", "steps", "minutes")
    for point in found:
        if point.strategy == BEFORE:
            table.add_row(BEFORE, "", *(f"{point.dice[name]:.4f}" for name in COLUMNS))
    for key, group in by_method(found).items():
        table.add_section()
        for point in group:
            table.add_row(
                " ".join(key),
                str(point.seed),
                *(f"{point.dice[name]:.4f}" for name in COLUMNS),
                str(point.slices),
                f"{point.steps:.0f}",
                f"{point.seconds / 60:.1f}",
            )
        table.add_row(" ".join(key), "median", *(f"{v:.4f}" for v in medians(group).values()))
    return table
