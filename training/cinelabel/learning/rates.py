"""Learning rates of a fine-tuning run as figures (Chen et al. 2022, MetaLR, figures 3b and 4).

One line a layer group over the steps, and the last rates along the depth of the network. Drawn with
matplotlib's Agg canvas alone; shallow groups are dark and deep ones bright in a map that does not
need colour vision, and the sides of a U-Net differ in their dashes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cinelabel.core.errors import InputError
from cinelabel.core.files import atomic_write
from cinelabel.learning.table import STEP, whole_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PREFIX = "rate_"
OVER_STEPS, AT_THE_END = "rates.png", "rates-final.png"
DASHES = {"encoder": "-", "decoder": "--", "bottleneck": ":"}
INK, PALE = "#222222", "#999999"


def read_rates(table: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Steps (n,), and group -> rates (n,) in the network's order, of a `metrics.csv`.

    A row that was cut short is left out.

    Raises:
        InputError: the file cannot be read, or has no step or no rates.
    """
    rows = whole_rows(table)
    names = [name for name in (rows[0] if rows else ()) if name.startswith(PREFIX)]
    if not names:
        raise InputError("holds no learning rates of a run", where=table)
    steps = np.array([int(row[STEP]) for row in rows])
    rates = {n.removeprefix(PREFIX): np.array([float(r[n] or "nan") for r in rows]) for n in names}
    return steps, rates


def draw_rates(table: Path, folder: Path, title: str = "") -> tuple[Path, Path]:
    """Draw the rates of a `metrics.csv` into a folder; the paths of `rates.png`, `rates-final.png`.

    Groups that stay as they are (rate 0) have no line.

    Raises:
        InputError: as `read_rates`.
        OutputError: a figure cannot be written.
    """
    steps, rates = read_rates(table)
    paths = folder / OVER_STEPS, folder / AT_THE_END
    for path, figure in zip(paths, (_over_steps(steps, rates), _final(steps, rates)), strict=True):
        figure.suptitle(title, fontsize=10, color=INK)
        with atomic_write(path) as temporary:
            figure.savefig(temporary, format="png", dpi=110)
    return paths


def _over_steps(steps: np.ndarray, rates: Mapping[str, np.ndarray]) -> Figure:
    from matplotlib import colormaps

    figure = _empty()
    axes = figure.add_subplot()
    shades = colormaps["viridis"](np.linspace(0, 0.9, len(rates)))
    for (name, values), shade in zip(rates.items(), shades, strict=True):
        if values.any():
            dashes = DASHES.get(name.split("_")[0], "-.")
            axes.plot(steps, np.where(values > 0, values, np.nan), dashes, color=shade, label=name)
    axes.set(xlabel="step", ylabel="learning rate", yscale="log")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8)
    return figure


def _final(steps: np.ndarray, rates: Mapping[str, np.ndarray]) -> Figure:
    figure = _empty()
    axes = figure.add_subplot()
    places = np.arange(len(rates))
    ends = np.array([(values[0], values[-1]) for values in rates.values()])
    first, last = np.where(ends > 0, ends, np.nan).T
    axes.plot(places, first, "o:", color=PALE, mfc="white", label=f"step {steps[0]}")
    axes.plot(places, last, "o-", color=INK, label=f"step {steps[-1]}")
    names = [
        name if end.any() else f"{name} (stays)" for name, end in zip(rates, ends, strict=True)
    ]
    axes.set_xticks(places, names, rotation=45, ha="right", fontsize=8)
    axes.set(ylabel="learning rate", yscale="log")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    return figure


def _empty() -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
