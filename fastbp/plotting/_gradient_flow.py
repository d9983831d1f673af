"""Gradients by layer, and over epochs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastbp._arrays import limited
from fastbp._gradient_flow import FlowOfGradients, gradient_flow
from fastbp._gradient_flow_callback import GradientFlow
from fastbp._validation import Array, one_of, whole_number
from fastbp.plotting._common import BLUE, GREY, LIGHT, SEQUENTIAL, SKY, VERMILION, new_axes, problem_of

KINDS = ("layers", "lines", "heatmap")
QUANTITIES = {
    "gradient_mean": "mean |dL / dw|",
    "ratio": "gradient norm / weight norm",
    "delta_norm": "norm of dL / dZ, a row",
}


class GradientFlowDisplay:
    """How large gradients are in each layer, at one time or over epochs.

    Parameters
    ----------
    flows : sequence of FlowOfGradients
        At least one, all of one network.
    epochs : sequence of int, optional
        One for each; 0, 1, ... where it is None.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure

    Raises
    ------
    ValueError
        For no flow, or another number of epochs.

    Examples
    --------
    >>> import numpy as np, fastbp
    >>> from fastbp.plotting import GradientFlowDisplay
    >>> X = np.random.default_rng(0).normal(size=(60, 3))
    >>> model = fastbp.Sequential([fastbp.Dense(8, "tanh"), fastbp.Dense(1)], n_features=3, random_state=0)
    >>> display = GradientFlowDisplay.from_model(model, "mean_squared_error", X, X[:, 0])
    >>> [label.get_text() for label in display.ax_.get_yticklabels()]
    ['1 Dense tanh', '2 Dense identity']
    >>> import matplotlib.pyplot as plt; plt.close(display.figure_)
    """

    def __init__(self, flows: Sequence[FlowOfGradients], epochs: Sequence[int] | None = None) -> None:
        self.flows = limited(flows, "flows must be a sequence of gradient flows")
        given = list(range(len(self.flows))) if epochs is None else limited(epochs, "epochs must be numbers")
        self.epochs = [whole_number(epoch, f"epochs[{k}]", least=0) for k, epoch in enumerate(given)]
        if not self.flows or len(self.epochs) != len(self.flows):
            raise ValueError(
                f"flows must hold at least one gradient flow, and epochs as many numbers, got {len(self.flows)} and "
                f"{len(self.epochs)}"
            )

    @classmethod
    def from_flow(cls, flow: FlowOfGradients, *, ax: Any = None, **kwargs: Any) -> Any:
        """Draw what :func:`fastbp.gradient_flow` has returned; arguments as in :meth:`plot`.

        Returns
        -------
        GradientFlowDisplay
        """
        return cls([flow]).plot(ax, **kwargs)

    @classmethod
    def from_flows(
        cls,
        flows: GradientFlow | Sequence[FlowOfGradients],
        *,
        epochs: Sequence[int] | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Draw what the callback :class:`fastbp.GradientFlow` has recorded, or several flows.

        Parameters
        ----------
        flows : GradientFlow or sequence of FlowOfGradients
        epochs : sequence of int, optional
            With a sequence: one for each.
        ax, **kwargs
            As in :meth:`plot`.

        Returns
        -------
        GradientFlowDisplay
        """
        if isinstance(flows, GradientFlow):
            return cls(flows.flows, flows.epochs).plot(ax, **kwargs)
        return cls(flows, epochs).plot(ax, **kwargs)

    @classmethod
    def from_model(cls, model: Any, loss: Any, X: Any, y: Any, *, ax: Any = None, **kwargs: Any) -> Any:
        """Compute the flow of a model on some rows, as :func:`fastbp.gradient_flow` does, and draw it.

        Returns
        -------
        GradientFlowDisplay
        """
        return cls([gradient_flow(model, loss, X, y)]).plot(ax, **kwargs)

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, y: Any, *, ax: Any = None, **kwargs: Any) -> Any:
        """Compute the flow of a fitted estimator of fastbp on some rows, with the loss it was fitted with, and draw it.

        Returns
        -------
        GradientFlowDisplay
        """
        model, loss, targets = problem_of(estimator, y)
        return cls.from_model(model, loss, X, targets, ax=ax, **kwargs)

    def plot(
        self, ax: Any = None, *, kind: str | None = None, quantity: str = "gradient_mean", cmap: Any = None
    ) -> Any:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Otherwise a new figure.
        kind : {"layers", "lines", "heatmap"}, optional
            ``"layers"``: the spread of |dL / dw| in each layer of the last flow, with what was found; otherwise
            ``quantity`` over epochs, a line a layer or as colours. By default ``"layers"`` for one flow, ``"heatmap"``
            for several.
        quantity : {"gradient_mean", "ratio", "delta_norm"}, default="gradient_mean"
            Over epochs.
        cmap : matplotlib colormap or str, optional

        Returns
        -------
        GradientFlowDisplay
            Itself.

        Raises
        ------
        ValueError
            For another kind or quantity.
        """
        kind = one_of(kind or ("layers" if len(self.flows) == 1 else "heatmap"), KINDS, "kind")
        quantity = one_of(quantity, tuple(QUANTITIES), "quantity")
        n_layers = len(self.flows[-1].layers)
        self.figure_, self.ax_ = new_axes(ax, 7.2, max(3.2, 1.5 + 0.32 * n_layers))
        if kind == "layers":
            self._layers()
            return self
        values = np.array([getattr(flow, quantity) for flow in self.flows]).T  # (n_layers, n_epochs)
        used = [k for k in range(n_layers) if not np.isnan(values[k]).all()]
        (self._lines if kind == "lines" else self._heatmap)(values[used], used, QUANTITIES[quantity], cmap)
        self.ax_.xaxis.get_major_locator().set_params(integer=True)
        return self

    def _layers(self) -> None:
        """A row for each layer, the first at the top: 5th to 95th percentile, quartiles, median."""
        ax, flow = self.ax_, self.flows[-1]
        with_weights = ~np.isnan(flow.gradient_mean)
        floor = _floor(flow.gradient_percentiles)
        spread = np.maximum(flow.gradient_percentiles, floor)
        rows = np.arange(len(flow.layers))
        at = rows[with_weights]
        ax.hlines(at, spread[at, 0], spread[at, 4], color=SKY, linewidth=2.5, label="5th to 95th percentile")
        ax.hlines(at, spread[at, 1], spread[at, 3], color=BLUE, linewidth=7, label="quartiles")
        ax.plot(spread[at, 2], at, "o", color="white", markeredgecolor="black", markersize=6, label="median")
        zero = [k for k in at if flow.gradient_percentiles[k, 0] == 0]
        if zero:
            ax.plot(np.full(len(zero), floor), zero, "<", color="black", markersize=6, label="down to 0")
        ax.set(xscale="log", ylim=(len(rows) - 0.4, -0.6), xlabel="|dL / dw|")
        ax.set_title("Gradients by layer", pad=30)  # above the legend
        ax.set_yticks(rows, flow.layers)
        ax.grid(axis="x", color=LIGHT, linewidth=0.6)
        ax.set_axisbelow(True)
        words: dict[str, list[str]] = {}
        for finding in flow.findings:
            words.setdefault(finding.layer, []).append(finding.what)
        for k, name in enumerate(flow.layers):
            said = words.get(name.split()[0], [])
            if with_weights[k] and flow.gradient_mean[k] == 0:
                said = [*said, "all 0"]
            if said:
                ax.annotate(
                    ", ".join(said), (1.01, k), xycoords=("axes fraction", "data"), va="center",
                    color=VERMILION, fontweight="bold", annotation_clip=False,
                )  # fmt: skip
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, frameon=False)

    def _lines(self, values: Array, used: list[int], label: str, cmap: Any) -> None:
        from matplotlib import colormaps

        ax, names = self.ax_, self.flows[-1].layers
        colours = colormaps[SEQUENTIAL if cmap is None else cmap](np.linspace(0, 0.85, len(used)))
        for row, k, colour in zip(values, used, colours, strict=True):
            ax.plot(self.epochs, np.where(row > 0, row, np.nan), color=colour, label=names[k], marker=".")
        ax.set(xlabel="epoch", ylabel=label, yscale="log", title="Gradients over epochs")
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, title="layer")

    def _heatmap(self, values: Array, used: list[int], label: str, cmap: Any) -> None:
        ax, names = self.ax_, self.flows[-1].layers
        shades = np.log10(np.maximum(values, _floor(values)))
        edges = _edges(self.epochs)
        mesh = ax.pcolormesh(edges, np.arange(len(used) + 1) - 0.5, shades, cmap=SEQUENTIAL if cmap is None else cmap)
        ax.set(xlabel="epoch", title="Gradients over epochs")
        ax.set_ylim(len(used) - 0.5, -0.5)
        ax.set_yticks(range(len(used)), [names[k] for k in used])
        ax.tick_params(color=GREY)
        self.figure_.colorbar(mesh, ax=ax, label=f"log10 of {label}")


def _floor(values: Array) -> float:
    """What stands for 0 on a logarithmic axis: a tenth of the smallest value that is none."""
    positive = values[np.isfinite(values) & (values > 0)]
    return float(positive.min()) / 10 if positive.size else 1e-12


def _edges(epochs: Sequence[int]) -> Array:
    """Borders between neighbouring epochs."""
    at = np.asarray(epochs, float)
    middle = (at[1:] + at[:-1]) / 2
    first, last = (at[1] - at[0], at[-1] - at[-2]) if len(at) > 1 else (1.0, 1.0)
    return np.concatenate([[at[0] - first / 2], middle, [at[-1] + last / 2]])
