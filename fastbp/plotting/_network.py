"""A network as a graph: a box a layer, from the inputs at the top to the outputs at the bottom."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fastbp._describe import PROJECTION, Described, describe
from fastbp._validation import whole_number
from fastbp.plotting._common import BLUE, GREEN, GREY, LIGHT, ORANGE, PURPLE, SKY, model_of, new_axes

COLOURS = {"Dense": BLUE, "Dropout": LIGHT, "BatchNorm": GREEN, "LayerNorm": GREEN, "Residual": ORANGE}
DARK = (BLUE, GREEN, PURPLE)  # these have white text
NARROW, WIDE, HEIGHT = 2.7, 4.4, 0.6  # of boxes; one layer takes a unit of height
SKIP_AT, SKIP_BY = -WIDE / 2 - 0.35, 0.4  # where the innermost skip connection runs, and how far apart others are


class NetworkDisplay:
    """A network drawn as a graph, with the widths of inputs and outputs and numbers of parameters.

    A box is as wide, at its top and bottom, as its inputs and outputs are many, on a logarithmic scale.

    Parameters
    ----------
    layers : sequence of Described
        ``model.summary().layers``.
    n_features : int

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
    boxes_ : dict of str to matplotlib Polygon
        By the layer's number; ``"inputs"`` is that of the inputs.
    skips_ : dict of str to matplotlib PathPatch
        Skip connections by the number of their layer.

    Examples
    --------
    >>> import fastbp
    >>> from fastbp.plotting import NetworkDisplay
    >>> model = fastbp.Sequential([fastbp.Dense(20, "relu"), fastbp.Dense(10)], n_features=64, random_state=0)
    >>> display = NetworkDisplay.from_model(model)
    >>> list(display.boxes_)
    ['inputs', '1', '2']
    >>> import matplotlib.pyplot as plt; plt.close(display.figure_)
    """

    def __init__(self, layers: Sequence[Described], n_features: int) -> None:
        self.layers, self.n_features = list(layers), whole_number(n_features, "n_features")

    @classmethod
    def from_model(cls, model: Any, *, ax: Any = None) -> Any:
        """Draw a model or a trainer's model.

        Returns
        -------
        NetworkDisplay
        """
        network = model_of(model)
        return cls(describe(network.layers, network.n_features), network.n_features).plot(ax)

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None) -> Any:
        """Draw the network of a fitted estimator, of fastbp or of scikit-learn.

        Returns
        -------
        NetworkDisplay
        """
        return cls.from_model(estimator, ax=ax)

    def plot(self, ax: Any = None) -> Any:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Otherwise a new figure, as high as the network is deep.

        Returns
        -------
        NetworkDisplay
            Itself.
        """
        boxes = [row for row in self.layers if row.kind not in ("Residual", PROJECTION)]
        n_places = len(boxes) + 1 + sum(row.kind == "Residual" for row in self.layers)
        self.figure_, self.ax_ = new_axes(ax, 6.4, 0.9 + 0.55 * n_places)
        self.boxes_: dict[str, Any] = {}
        self.skips_: dict[str, Any] = {}
        self._most = max(self.n_features, *(row.fan_out for row in self.layers))
        self._deepest = max((row.depth for row in self.layers if row.kind == "Residual"), default=0)
        self._place, self._bottom = 0, 0.0
        self._box("inputs", f"{self.n_features:,} inputs", "", self.n_features, self.n_features, LIGHT)
        self._draw(self.layers, 0)
        total = sum(row.n_parameters for row in self.layers)
        left = SKIP_AT - SKIP_BY * self._deepest - 0.4 if self.skips_ else -WIDE / 2 - 0.3
        self.ax_.set_xlim(left, WIDE / 2 + 2.6)
        self.ax_.set_ylim(self._place - 0.3, -0.6)
        self.ax_.set_axis_off()
        self.ax_.set_title(f"{len(boxes)} layers, {total:,} parameters")
        return self

    def _draw(self, rows: Sequence[Described], depth: int) -> None:
        """Layers of one depth, each with those inside it."""
        k = 0
        while k < len(rows):
            row, k = rows[k], k + 1
            inner = []
            while k < len(rows) and rows[k].depth > depth:
                inner.append(rows[k])
                k += 1
            if row.kind == "Residual":
                start = self._place - 1
                own = {one.name: one for one in inner if one.kind == PROJECTION and one.depth == depth + 1}
                self._draw([one for one in inner if one.name not in own], depth + 1)
                self._sum(row, start, sum(one.n_parameters for one in own.values()))
            else:
                text = row.title.removeprefix(f"{row.name} ")
                count = f"{row.n_parameters:,} parameters" if row.n_parameters else "no parameters"
                self._box(row.name, text, count, row.fan_in, row.fan_out, COLOURS.get(row.kind, SKY))

    def _width(self, units: int) -> float:
        return NARROW + (WIDE - NARROW) * math.log(units) / max(math.log(self._most), 1e-9) if units > 1 else NARROW

    def _box(self, name: str, text: str, count: str, fan_in: int, fan_out: int, colour: str) -> None:
        from matplotlib.patches import Polygon

        y, top, bottom = self._place, self._width(fan_in) / 2, self._width(fan_out) / 2
        corners = [(-top, y - HEIGHT / 2), (top, y - HEIGHT / 2), (bottom, y + HEIGHT / 2), (-bottom, y + HEIGHT / 2)]
        self.boxes_[name] = self.ax_.add_patch(Polygon(corners, facecolor=colour, edgecolor=GREY, linewidth=0.8))
        ink = "white" if colour in DARK else "black"
        label = text if name == "inputs" else f"{name}   {text}   {fan_in:,} → {fan_out:,}"
        self.ax_.text(0, y, label, ha="center", va="center", color=ink, fontsize=9)
        if count:
            self.ax_.text(WIDE / 2 + 0.25, y, count, ha="left", va="center", color=GREY, fontsize=8)
        self._arrow()

    def _sum(self, row: Described, start: int, n_projected: int) -> None:
        """The end of a residual block: a plus, and the skip connection that comes round to it."""
        from matplotlib.patches import Circle, FancyArrowPatch, PathPatch
        from matplotlib.path import Path

        y = self._place
        self.ax_.add_patch(Circle((0, y), 0.2, facecolor="white", edgecolor=ORANGE, linewidth=1.5, zorder=3))
        self.ax_.text(0, y, "+", ha="center", va="center", fontsize=11, zorder=4)
        above, at = start + 0.5, SKIP_AT - SKIP_BY * (self._deepest - row.depth)  # an outer one goes round inner ones
        corner = 0.25
        path = Path(
            [
                (0, above), (at + corner, above), (at, above), (at, above + corner),
                (at, y - corner), (at, y), (at + corner, y), (-0.45, y),
            ],
            [Path.MOVETO, Path.LINETO, Path.CURVE3, Path.CURVE3, Path.LINETO, Path.CURVE3, Path.CURVE3, Path.LINETO],
        )  # fmt: skip
        skip = PathPatch(path, facecolor="none", edgecolor=ORANGE, linewidth=1.5)
        self.skips_[row.name] = self.ax_.add_patch(skip)
        self.ax_.add_patch(
            FancyArrowPatch(
                (-0.5, y), (-0.2, y), arrowstyle="-|>", mutation_scale=10, color=ORANGE, shrinkA=0, shrinkB=0
            )
        )
        count = f"projection, {n_projected:,} parameters" if n_projected else "skip connection"
        self.ax_.text(WIDE / 2 + 0.25, y, count, ha="left", va="center", color=GREY, fontsize=8)
        self.ax_.text(0.35, y, row.title.replace(" ", "   ", 1), ha="left", va="center", fontsize=9)
        self._arrow(0.2)

    def _arrow(self, below: float = HEIGHT / 2) -> None:
        """An arrow to the box that has been drawn last, from the one above; then on to the next place."""
        y = self._place
        if y:
            start = y - 1 + self._bottom
            self.ax_.annotate(
                "",
                (0, y - below),
                (0, start),
                arrowprops={"arrowstyle": "-|>", "color": GREY, "shrinkA": 0, "shrinkB": 0},
            )
        self._bottom, self._place = below, y + 1
