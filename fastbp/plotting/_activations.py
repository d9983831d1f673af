"""Histograms of each layer's outputs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastbp._arrays import NUMBERS, readable
from fastbp._describe import describe
from fastbp._network import check_sparse
from fastbp._validation import Array, matrix, whole_number
from fastbp._words import shown
from fastbp.backends import Network, get_backend
from fastbp.kernels.layout import DENSE
from fastbp.kernels.operations import Operation
from fastbp.model import Sequential
from fastbp.plotting._common import BLUE, GREY, model_of

COLUMNS = 4


class ActivationsDisplay:
    """How the outputs of each layer are distributed over rows and units.

    Parameters
    ----------
    outputs : mapping of str to ndarray
        Outputs by name of the layer.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        One a layer.
    ax_, figure_ : matplotlib Axes and Figure
        ``ax_`` is the one that the others stand in, or the first of them.
    shares_ : dict of str to ndarray
        Share of the outputs in each bin, in percent.

    Raises
    ------
    ValueError
        For no layer.

    Examples
    --------
    >>> import numpy as np, fastbp
    >>> from fastbp.plotting import ActivationsDisplay
    >>> model = fastbp.Sequential([fastbp.Dense(8, "tanh"), fastbp.Dense(1)], n_features=3, random_state=0)
    >>> display = ActivationsDisplay.from_model(model, np.random.default_rng(0).normal(size=(60, 3)))
    >>> [ax.get_title() for ax in display.axes_]
    ['1 Dense tanh', '2 Dense identity']
    >>> import matplotlib.pyplot as plt; plt.close(display.figure_)
    """

    def __init__(self, outputs: Mapping[str, Array]) -> None:
        if not isinstance(outputs, Mapping):
            raise TypeError(f"outputs must be arrays by the names of their layers, got {shown(outputs)}")
        self.outputs = {
            name: np.asarray(readable(values, f"outputs[{name!r}]", NUMBERS), float) for name, values in outputs.items()
        }
        if not self.outputs:
            raise ValueError("outputs must hold those of at least one layer, got none")

    @classmethod
    def from_model(cls, model: Any, X: Any, *, ax: Any = None, **kwargs: Any) -> Any:
        """Compute the outputs of each layer for X, as in a prediction, and draw them.

        Parameters
        ----------
        model : Sequential or Trainer
        X : array-like of shape (n_samples, n_features)
        ax, **kwargs
            As in :meth:`plot`.

        Returns
        -------
        ActivationsDisplay
        """
        return cls(outputs_of(model_of(model), X)).plot(ax, **kwargs)

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, *, ax: Any = None, **kwargs: Any) -> Any:
        """The same for a fitted estimator, of fastbp or of scikit-learn.

        Returns
        -------
        ActivationsDisplay
        """
        return cls.from_model(estimator, X, ax=ax, **kwargs)

    def plot(self, ax: Any = None, *, bins: int = 40, **kwargs: Any) -> Any:
        """Draw a histogram for each layer.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            The histograms share its place; otherwise a new figure.
        bins : int, default=40
        **kwargs
            To ``Axes.stairs``, which draws them.

        Returns
        -------
        ActivationsDisplay
            Itself.
        """
        bins = whole_number(bins, "bins")
        n = len(self.outputs)
        n_columns = min(n, COLUMNS)
        n_rows = math.ceil(n / n_columns)
        if ax is None:
            from matplotlib import pyplot

            self.figure_ = pyplot.figure(figsize=(2.4 * n_columns + 0.6, 2.0 * n_rows + 0.6), layout="constrained")
            grid = self.figure_.add_gridspec(n_rows, n_columns)
        else:
            ax.set_axis_off()
            self.figure_ = ax.figure
            # a layout engine makes room for labels by itself
            room = {} if self.figure_.get_layout_engine() else {"hspace": 0.6, "wspace": 0.35}
            grid = ax.get_subplotspec().subgridspec(n_rows, n_columns, **room)
        self.axes_ = np.array([self.figure_.add_subplot(grid[k // n_columns, k % n_columns]) for k in range(n)])
        self.ax_ = self.axes_[0] if ax is None else ax
        self.shares_: dict[str, Array] = {}
        for k, (name, values) in enumerate(self.outputs.items()):
            self._histogram(self.axes_[k], name, values, bins, kwargs)
            is_left, is_low = k % n_columns == 0, k + n_columns >= n
            if ax is not None:  # little room: one panel has the labels for all
                self.axes_[k].tick_params(labelsize="x-small")
                self.axes_[k].title.set_fontsize("x-small")
                self.axes_[k].locator_params(nbins=3)
                is_left = is_low = is_left and is_low
            if is_left:
                self.axes_[k].set_ylabel("share of outputs (%)" if ax is None else "share (%)")
            if is_low:
                self.axes_[k].set_xlabel("output")
        if ax is None:
            self.figure_.suptitle("Outputs of each layer")
        return self

    def _histogram(self, ax: Any, name: str, values: Array, bins: int, style: dict[str, Any]) -> None:
        finite = values[np.isfinite(values)]
        counts, edges = np.histogram(finite, bins=bins)
        share = self.shares_[name] = 100 * counts / max(values.size, 1)
        ax.stairs(share, edges, **{"fill": True, "color": BLUE, **style})
        ax.set_title(name, fontsize="medium")
        ax.spines[["top", "right"]].set_visible(False)
        notes = []
        zero = 100 * float((values == 0).mean())
        if zero > 0.5:
            notes.append(f"{zero:.0f} % are 0")
        if finite.size < values.size:
            notes.append(f"{values.size - finite.size} not finite")
        if notes:
            place = {"xy": (0.97, 0.93), "xycoords": "axes fraction", "ha": "right", "va": "top"}
            ax.annotate("\n".join(notes), fontsize="small", color=GREY, **place)


def outputs_of(model: Sequential, X: Any) -> dict[str, Array]:
    """Outputs of each layer as in a prediction, by its title: the network cut off after it.

    >>> from fastbp import Dense
    >>> model = Sequential([Dense(8, "tanh"), Dense(2, "softmax")], n_features=3, random_state=0)
    >>> {name: values.shape for name, values in outputs_of(model, [[1.0, 2.0, 3.0]]).items()}
    {'1 Dense tanh': (1, 8), '2 Dense softmax': (1, 2)}
    """
    X = matrix(X, "X", dtype=model.dtype, n_columns=model.n_features)
    check_sparse(model._described, X, "X")
    network, weights, outputs, end = model._network, model.get_weights(), {}, 0
    operations = network.all_operations
    for row in sorted(describe(model.layers, model.n_features), key=lambda row: row.operation):
        n, end = row.operation + 1, max(end, row.arrays.stop)
        widths, names, parts = network.widths[: n + 1], network.activations[:n], operations[:n]
        arrays = weights[:end]
        if not any(one.kind == DENSE for one in parts):  # no network without one: it is given a unit matrix
            width = widths[-1]
            widths, names, parts = (*widths, width), (*names, "identity"), (*parts, Operation(DENSE, n - 1))
            arrays = [*arrays, np.eye(width, dtype=model.dtype), np.zeros(width, model.dtype)]
        link = names[row.operation] if row.computed else "identity"
        title = row.title if link in (row.activation or "identity", "identity") else f"{row.name} {row.kind} {link}"
        # each part would be compiled for itself, and NumPy is fast enough for a picture
        outputs[title] = get_backend("reference").predict(Network(widths, names, model.dtype, parts), arrays, X)
    return outputs
