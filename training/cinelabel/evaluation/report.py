"""Tables of scores and measures: for a terminal (Rich), a spreadsheet (CSV), a program (JSON)."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cinelabel.core.files import atomic_write
from cinelabel.evaluation.figures import curve_figure, overlay_figure
from cinelabel.evaluation.metrics import Score, Statistics, Summary, summarise

if TYPE_CHECKING:
    from rich.table import Table

    from cinelabel.core.measures import Measures

POLICY = (
    "structures that are empty on one or both sides are counted and left out of the mean; "
    "penalised: exactly one side empty scores Dice 0 and HD95 = image diagonal, "
    "both empty is not applicable"
)

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
    "case",
    "group",
    "frame",
    "structure",
    "dice",
    "hd95_mm",
    "assd_mm",
    "empty",
    "penalised_dice",
    "penalised_hd95_mm",
)


def summary_table(summaries: Sequence[Summary]) -> Table:
    """Mean, spread and median a structure, empties counted, and the penalised figures."""
    from rich.table import Table

    grouped = any(summary.group is not None for summary in summaries)
    distances = any(summary.penalised_hd95_mm is not None for summary in summaries)
    table = Table(title="Agreement", title_justify="left", caption=POLICY, caption_justify="left")
    if grouped:
        table.add_column("Group")
    table.add_column("Structure")
    headings = ["n", "Dice", "median"]
    headings += ["HD95 mm", "median", "ASSD mm"] if distances else []
    headings += ["empty", "Dice penalised"] + (["HD95 penalised"] if distances else [])
    for heading in headings:
        table.add_column(heading, justify="right")
    for summary in summaries:
        row = [summary.group or ""] if grouped else []
        row += [summary.structure, str(summary.dice.n if summary.dice else 0)]
        row += [_mean_sd(summary.dice, 3), _number(_median(summary.dice), 3)]
        if distances:
            row += [_mean_sd(summary.hd95_mm, 1), _number(_median(summary.hd95_mm), 1)]
            row += [_mean_sd(summary.assd_mm, 2)]
        row += [str(summary.n_empty), _number(_mean(summary.penalised_dice), 3)]
        if distances:
            row += [_number(_mean(summary.penalised_hd95_mm), 1)]
        table.add_row(*row)
    return table


def cases_table(scores: Sequence[Score]) -> Table:
    """One row a case and frame: Dice and HD95 of each structure, or which side is empty."""
    from rich.table import Table

    names = list(dict.fromkeys(score.structure for score in scores))
    distances = any(score.distances for score in scores)
    rows: dict[tuple[str, int | None], dict[str, Score]] = {}
    for score in scores:
        rows.setdefault((score.case, score.frame), {})[score.structure] = score
    framed = any(frame is not None for _, frame in rows)
    table = Table(title="Cases", title_justify="left")
    table.add_column("Case", overflow="fold")
    if framed:
        table.add_column("Frame", justify="right")
    for kind in ("Dice", "HD95 mm") if distances else ("Dice",):
        for name in names:
            table.add_column(f"{kind} {name}", justify="right")
    for (case, frame), found in rows.items():
        cells = [case] + ([str(frame)] if framed else [])
        cells += [_dice_cell(found.get(name)) for name in names]
        if distances:
            cells += [_number(found[name].hd95_mm if name in found else None, 1) for name in names]
        table.add_row(*cells)
    return table


def comparison_table(versions: Mapping[str, Sequence[Score]]) -> Table:
    """One row a case and frame, one column a version: Dice of each structure, empty sides as 0.

    Below the cases, mean and spread of each structure over them, and their number.
    """
    from rich.table import Table

    everything = [score for scores in versions.values() for score in scores]
    names = list(dict.fromkeys(score.structure for score in everything))
    rows = list(dict.fromkeys((score.case, score.frame) for score in everything))
    table = Table(
        title="Dice " + " / ".join(names),
        title_justify="left",
        caption="an empty side scores 0; - where the set annotates nothing or both are empty",
        caption_justify="left",
    )
    table.add_column("Case", overflow="fold")
    found = {
        version: {(s.case, s.frame, s.structure): s.penalised_dice for s in scores}
        for version, scores in versions.items()
    }
    for version in versions:
        table.add_column(version, justify="right", no_wrap=True)
    for case, frame in rows:
        cells = [
            " ".join(_number(values.get((case, frame, name)), 3) for name in names)
            for values in found.values()
        ]
        table.add_row(case if frame is None else f"{case} frame {frame}", *cells)
    table.add_section()
    for name in names:
        cells = []
        for scores in versions.values():
            values = [score.penalised_dice for score in scores if score.structure == name]
            statistics = Statistics.of(values)
            count = f" (n {statistics.n})" if statistics else ""
            cells.append(_mean_sd(statistics, 3) + count)
        table.add_row(f"mean {name}", *cells)
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
    """One row a case, frame and structure; empty cells where there is no value. OutputError."""
    with (
        atomic_write(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.DictWriter(stream, SCORE_COLUMNS)
        writer.writeheader()
        writer.writerows(score.as_dict() for score in scores)


def write_measures_csv(path: Path, measures: Mapping[str, Measures]) -> None:
    """One row a study with its measures (not the curves). Raises OutputError."""
    keys = [key for key, *_ in MEASURE_ROWS] + ["ed", "es"]
    with (
        atomic_write(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.DictWriter(stream, ["study", *keys])
        writer.writeheader()
        for name, value in measures.items():
            writer.writerow({"study": name, **{key: getattr(value, key) for key in keys}})


def scores_as_dict(scores: Sequence[Score], *, by_group: bool = False) -> dict[str, Any]:
    """Cases, summaries and the policy for empty structures, JSON-ready."""
    return {
        "policy": POLICY,
        "summary": [summary.as_dict() for summary in summarise(scores, by_group=by_group)],
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


def _mean(statistics: Statistics | None) -> float | None:
    return None if statistics is None else statistics.mean


def _median(statistics: Statistics | None) -> float | None:
    return None if statistics is None else statistics.median


def _mean_sd(statistics: Statistics | None, digits: int) -> str:
    if statistics is None:
        return "-"
    spread = "" if statistics.sd is None else f" ± {statistics.sd:.{digits}f}"
    return f"{statistics.mean:.{digits}f}{spread}"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


__all__ = [
    "POLICY",
    "cases_table",
    "comparison_table",
    "curve_figure",
    "measures_table",
    "overlay_figure",
    "scores_as_dict",
    "summary_table",
    "write_measures_csv",
    "write_scores_csv",
]
