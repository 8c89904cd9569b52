"""Tables of scores and measures: for a terminal (Rich), a spreadsheet (CSV), a program (JSON)."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cinelabel.core.files import atomic_write
from cinelabel.evaluation.figures import curve_figure, overlay_figure
from cinelabel.evaluation.metrics import Score, Volume
from cinelabel.evaluation.summary import FIGURES, Bootstrap, Statistics, Summary, structure_names

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from cinelabel.core.measures import Measures

POLICY = "structures that are empty on one or both sides are counted and left out of the mean"
PENALTY = (
    "structures that one side alone has score Dice 0 and HD95 = image diagonal, both empty is not "
    "applicable"
)
INTERVAL = f"[{100 * Bootstrap().level:g} % bootstrap interval of the mean, patients resampled]"
SPREAD = f"mean ± standard deviation over cases; {INTERVAL}"
FIRST_COLUMN = 20
"""Least characters of the first column, which names the rows."""
MOST_CASE_ROWS = 80
"""Longest table of single cases that is worth printing."""

MEASURE_ROWS: tuple[tuple[str, str, str, int], ...] = (
    ("lv_edv_ml", "LV EDV", "ml", 1),
    ("lv_esv_ml", "LV ESV", "ml", 1),
    ("lv_sv_ml", "LV SV", "ml", 1),
    ("lv_ef_percent", "LV EF", "%", 1),
    ("lv_mass_g", "LV mass", "g", 1),
    ("rv_edv_ml", "RV EDV", "ml", 1),
    ("rv_esv_ml", "RV ESV", "ml", 1),
    ("rv_sv_ml", "RV SV", "ml", 1),
    ("rv_ef_percent", "RV EF", "%", 1),
)

SCORE_COLUMNS = (
    "method",
    "case",
    "patient",
    "frame",
    "structure",
    "dice",
    "ppv",
    "sensitivity",
    "hd95_mm",
    "assd_mm",
    "empty",
    "penalised_dice",
    "penalised_hd95_mm",
)
SUMMARY_COLUMNS = (
    *("method", "by", "group", "structure"),
    *("n_empty", "n_empty_prediction", "n_empty_reference", "n_empty_both"),
    *("figure", "mean", "sd", "median", "n", "patients", "low", "high"),
)


def score_tables(scores: Sequence[Score], summaries: Sequence[Summary]) -> list[Table]:
    """What a reader of the terminal is shown: cases while they are few, summaries, differences.

    The second, penalised figure is a table of its own, left out where it equals the first.
    summaries: of the scores, as by `summarise`.
    """
    tables = []
    if len({(score.volume, score.method) for score in scores}) <= MOST_CASE_ROWS:
        tables.append(cases_table(scores))
    tables.append(summary_table(summaries))
    if any(summary.n_empty_prediction + summary.n_empty_reference for summary in summaries):
        tables.append(summary_table(summaries, penalised=True))
    gains = difference_table(scores)
    return tables if gains is None else [*tables, gains]


def summary_table(summaries: Sequence[Summary], *, penalised: bool = False) -> Table:
    """Methods in rows, Dice and HD95 of each structure in columns (Gong et al. 2022, Tables 2, 3).

    Below each mean and deviation the interval over patients; the best mean of two or more methods
    is bold. With groups there is a section a group. penalised: the second figure, which scores
    structures that one side alone has, in place of that which leaves them out.
    """
    names = structure_names(summaries)
    figures = [("penalised_dice" if penalised else "dice", "Dice", 3)]
    if any(summary.penalised_hd95_mm is not None for summary in summaries):
        figures.append(("penalised_hd95_mm" if penalised else "hd95_mm", "HD95 mm", 2))
    table = _figures_table(
        "Empty structures scored as failures" if penalised else "Agreement",
        f"{SPREAD}; {PENALTY if penalised else POLICY}",
        [f"{heading}\n{name}" for _, heading, _ in figures for name in names],
    )
    sections: dict[tuple[str | None, str | None], dict[str, dict[str, Summary]]] = {}
    for summary in summaries:
        section = sections.setdefault((summary.by, summary.group), {})
        section.setdefault(summary.method, {})[summary.structure] = summary
    grouped, several = len(sections) > 1, len({summary.method for summary in summaries}) > 1
    for (by, group), methods in sections.items():
        heading = "all cases" if by is None else f"{by}: {group}"
        if grouped and several:
            table.add_row(_plain(heading, "bold"))
        for method, found in methods.items():
            name = method if several or not grouped else heading
            cells = [
                _figure_cell(found.get(structure), [m.get(structure) for m in methods.values()], *f)
                for f in ((key, digits) for key, _, digits in figures)
                for structure in names
            ]
            table.add_row(_row_head(name, found, penalised), *cells)
        table.add_section()
    return table


def difference_table(scores: Sequence[Score]) -> Table | None:
    """What each further method gains on the first: mean of paired differences, with its interval.

    Pairs are scores of one case, frame and structure; penalised figures, so that a method does not
    gain by finding nothing. None where there is one method alone.
    """
    methods = list(dict.fromkeys(score.method for score in scores))
    if len(methods) < 2:
        return None
    names = structure_names(scores)
    figures = [("penalised_dice", "Dice", 3)]
    if any(score.distances for score in scores):
        figures.append(("penalised_hd95_mm", "HD95 mm", 2))
    table = _figures_table(
        f"Difference to {methods[0]}",
        f"mean over the same cases; {INTERVAL}; {PENALTY}",
        [f"{heading}\n{name}" for _, heading, _ in figures for name in names],
    )
    for method in methods[1:]:
        cells = [
            _statistics_cell(_differences(scores, methods[0], method, name, key), digits, gain=True)
            for key, _, digits in figures
            for name in names
        ]
        table.add_row(method, *cells)
    return table


def _differences(
    scores: Sequence[Score], first: str, second: str, structure: str, figure: str
) -> Statistics | None:
    """Statistics of second minus first over the cases in which both have the figure."""
    of_first, of_second = (
        {s.volume: s for s in scores if (s.method, s.structure) == (method, structure)}
        for method in (first, second)
    )
    gains, patients = [], []
    for volume, score in of_first.items():
        before, after = getattr(score, figure), getattr(of_second.get(volume), figure, None)
        gains.append(None if before is None or after is None else after - before)
        patients.append(score.patient or score.case)
    return Statistics.of(gains, patients)


def cases_table(scores: Sequence[Score]) -> Table:
    """Rows of a case and frame, one a method: Dice and HD95 a structure, or which side is empty."""
    from rich.table import Table

    names = structure_names(scores)
    distances = any(score.distances for score in scores)
    methods = list(dict.fromkeys(score.method for score in scores))
    rows: dict[tuple[Volume, str], dict[str, Score]] = {
        (volume, method): {}
        for volume in dict.fromkeys(score.volume for score in scores)
        for method in methods
    }
    for score in scores:
        rows[score.volume, score.method][score.structure] = score
    framed = any(score.frame is not None for score in scores)
    table = Table(title="Cases", title_justify="left")
    table.add_column("Case", overflow="fold")
    if len(methods) > 1:
        table.add_column("Method", overflow="fold")
    if framed:
        table.add_column("Frame", justify="right")
    for kind in ("Dice", "HD95 mm") if distances else ("Dice",):
        for name in names:
            table.add_column(f"{kind} {name}", justify="right")
    for ((_, case, frame), method), found in rows.items():
        cells = [case] + ([method] if len(methods) > 1 else []) + ([str(frame)] if framed else [])
        cells += [_dice_cell(found.get(name)) for name in names]
        if distances:
            cells += [_number(found[name].hd95_mm if name in found else None, 1) for name in names]
        table.add_row(*cells)
    return table


def measures_table(measures: Mapping[str, Measures], *, title: str = "Measures") -> Table:
    """A row a measure and a column a study; where no phase is known, the volumes as they are."""
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column("")
    for name in measures:
        table.add_column(name, justify="right", overflow="fold")
    values = list(measures.values())
    for key, heading, unit, digits in MEASURE_ROWS:
        row = [getattr(value, key) for value in values]
        if any(value is not None for value in row):
            table.add_row(f"{heading} ({unit})", *(_number(value, digits) for value in row))
    for key, heading in (
        ("lv_curve_ml", "LV volume"),
        ("myo_curve_ml", "MYO volume"),
        ("rv_curve_ml", "RV volume"),
    ):
        row = [
            getattr(value, key)[0] if _phase_unknown(value) and getattr(value, key) else None
            for value in values
        ]
        if any(value is not None for value in row):
            table.add_row(f"{heading} (ml)", *(_number(value, 1) for value in row))
    for key, heading in (("ed", "ED frame"), ("es", "ES frame")):
        row = [getattr(value, key) for value in values]
        if any(value is not None for value in row):
            table.add_row(heading, *("-" if value is None else str(value) for value in row))
    return table


def write_scores_csv(path: Path, scores: Sequence[Score]) -> None:
    """One row a method, case, frame and structure, groupings as columns. Raises OutputError.

    Cells are empty where there is no value.
    """
    groupings = list(dict.fromkeys(name for score in scores for name in score.groups))
    rows = (
        {
            **{key: value for key, value in score.as_dict().items() if key != "groups"},
            **score.groups,
        }
        for score in scores
    )
    write_csv(path, [*SCORE_COLUMNS[:3], *groupings, *SCORE_COLUMNS[3:]], rows)


def write_summary_csv(path: Path, summaries: Sequence[Summary]) -> None:
    """One row a method, group, structure and figure. Raises OutputError.

    Groups are empty in rows of all cases; `low` and `high` are the interval's ends.
    """
    rows = []
    for summary in summaries:
        head = {name: getattr(summary, name) for name in SUMMARY_COLUMNS[:8]}
        for figure in FIGURES:
            statistics: Statistics | None = getattr(summary, figure)
            if statistics is not None:
                found = statistics.as_dict()
                low, high = found.pop("interval") or (None, None)
                rows.append({**head, "figure": figure, **found, "low": low, "high": high})
    write_csv(path, SUMMARY_COLUMNS, rows)


def write_measures_csv(path: Path, measures: Mapping[str, Measures]) -> None:
    """One row a study with its measures (not the curves). Raises OutputError."""
    keys = [key for key, *_ in MEASURE_ROWS] + ["ed", "es"]
    rows = (
        {"study": name, **{key: getattr(value, key) for key in keys}}
        for name, value in measures.items()
    )
    write_csv(path, ["study", *keys], rows)


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a table whole or not at all; None is an empty cell. Raises OutputError."""
    with (
        atomic_write(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(rows)


def scores_as_dict(scores: Sequence[Score], summaries: Sequence[Summary]) -> dict[str, Any]:
    """Cases, summaries and the policy for empty structures, JSON-ready."""
    return {
        "policy": f"{POLICY}; {PENALTY}",
        "summary": [summary.as_dict() for summary in summaries],
        "cases": [score.as_dict() for score in scores],
    }


def _phase_unknown(measures: Measures) -> bool:
    return measures.ed is None and measures.es is None and len(measures.lv_curve_ml) == 1


def _dice_cell(score: Score | None) -> str:
    if score is None:
        return "-"
    if score.empty is not None:
        return "both empty" if score.empty == "both" else f"no {score.empty}"
    return _number(score.dice, 3)


def _figures_table(title: str, caption: str, columns: Sequence[str]) -> Table:
    """A table with named rows and columns of figures; wraps where the terminal is narrow."""
    from rich import box
    from rich.table import Table

    table = Table(
        title=title,
        title_justify="left",
        caption=caption,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 0, 0, 1),
    )
    table.add_column("", overflow="fold", min_width=FIRST_COLUMN)
    for heading in columns:
        table.add_column(heading, justify="right")
    return table


def _row_head(name: str, found: Mapping[str, Summary], penalised: bool) -> Text:
    """The name of a row, how many cases and patients it is of, and how many were left out."""
    figures = {k: s.penalised_dice if penalised else s.dice for k, s in found.items()}
    left_out = {k: s.n_empty_both if penalised else s.n_empty for k, s in found.items()}
    scored = {k: (f.n if f else 0) + left_out[k] for k, f in figures.items()}
    patients = max((f.patients for f in figures.values() if f), default=0)
    alike = len(set(scored.values())) == 1
    told = str(max(scored.values())) if alike else ", ".join(f"{k} {n}" for k, n in scored.items())
    text = _plain(f"{name}\n" if name else "")
    text += _plain(f"n {told} of {patients} patient{'s' * (patients != 1)}", "dim")
    if any(left_out.values()):
        shown = ", ".join(f"{structure} {n}" for structure, n in left_out.items() if n)
        text += _plain(f"\nleft out: {shown}", "dim")
    return text


def _figure_cell(
    summary: Summary | None, rivals: Sequence[Summary | None], figure: str, digits: int
) -> Text:
    """A figure of a row, bold where it is the best of two or more."""
    statistics: Statistics | None = getattr(summary, figure, None)
    means = [value.mean for rival in rivals if (value := getattr(rival, figure, None)) is not None]
    best = (max if "dice" in figure else min)(means, default=None)
    won = len(means) > 1 and statistics is not None and statistics.mean == best
    return _statistics_cell(statistics, digits, style="bold" if won else "")


def _statistics_cell(
    statistics: Statistics | None, digits: int, *, style: str = "", gain: bool = False
) -> Text:
    """Mean and deviation (of a gain the mean with its sign), and the interval in a second line."""
    if statistics is None:
        return _plain("-")
    shown = f"{statistics.mean:+.{digits}f}" if gain else _mean_sd(statistics, digits)
    text = _plain(shown, style)
    if statistics.interval is not None:
        low, high = statistics.interval
        text += _plain(f"\n[{low:.{digits}f}, {high:.{digits}f}]", "dim")
    return text


def _mean_sd(statistics: Statistics, digits: int) -> str:
    spread = "" if statistics.sd is None else f" ± {statistics.sd:.{digits}f}"
    return f"{statistics.mean:.{digits}f}{spread}"


def _plain(text: str, style: str = "") -> Text:
    from rich.text import Text

    return Text.assemble((text, style))


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


__all__ = [
    "POLICY",
    "cases_table",
    "difference_table",
    "curve_figure",
    "measures_table",
    "score_tables",
    "overlay_figure",
    "scores_as_dict",
    "summary_table",
    "write_measures_csv",
    "write_scores_csv",
    "write_summary_csv",
]
