"""Weights of the first layer as images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastbp._arrays import NUMBERS, limited, readable
from fastbp._validation import Array, whole_number
from fastbp._words import counted
from fastbp.plotting._common import DIVERGING, model_of, new_axes


class WeightsDisplay:
    """What each unit of the first layer looks for: its weights as an image, over epochs if there are several.

    A row an epoch and a column a unit; one network alone is a sheet of units.

    Parameters
    ----------
    snapshots : sequence of array-like of shape (n_features, n_units)
        Weights of one layer at one time or several.
    epochs : sequence of int, optional
        One for each of several; 0, 1, ... where it is None.
    image_shape : tuple (height, width), optional
        Where it is None: a square, if n_features is one; else a column of n_features cells.
    units : int, default=16
        At most so many are shown, those with the largest weights at the end.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
    image_ : matplotlib AxesImage
        All images side by side, with NaN between them.
    units_ : ndarray of int
        Units that are shown.

    Raises
    ------
    ValueError
        For snapshots of different shapes, another number of epochs, or an image of another size.

    Examples
    --------
    >>> import fastbp
    >>> from fastbp.plotting import WeightsDisplay
    >>> model = fastbp.Sequential([fastbp.Dense(20, "relu"), fastbp.Dense(10)], n_features=64, random_state=0)
    >>> display = WeightsDisplay.from_model(model, units=6)
    >>> len(display.units_), display.image_.get_array().shape  # 2 rows of 3 images of 8 x 8, one cell between them
    (6, (17, 26))
    >>> import matplotlib.pyplot as plt; plt.close(display.figure_)
    """

    def __init__(
        self,
        snapshots: Sequence[Any],
        *,
        epochs: Sequence[int] | None = None,
        image_shape: tuple[int, int] | None = None,
        units: int = 16,
    ) -> None:
        given = limited(snapshots, "snapshots must be a sequence of matrices")
        arrays = [np.asarray(readable(one, f"snapshots[{k}]", NUMBERS), float) for k, one in enumerate(given)]
        if not arrays or arrays[0].ndim != 2 or len({array.shape for array in arrays}) > 1:
            raise ValueError(
                "snapshots must be matrices of one shape (n_features, n_units), got "
                f"{', '.join(str(array.shape) for array in arrays) or 'none'}"
            )
        self.snapshots = arrays
        self.epochs = list(range(len(arrays))) if epochs is None else limited(epochs, "epochs must be numbers")
        if len(self.epochs) != len(arrays):
            wanted = counted(len(arrays), "number")
            raise ValueError(f"epochs must be {wanted}, one for each snapshot, got {len(self.epochs)}")
        n_features = arrays[0].shape[0]
        side = math.isqrt(n_features)
        self.image_shape = image_shape or ((side, side) if side * side == n_features else (n_features, 1))
        if math.prod(self.image_shape) != n_features or len(self.image_shape) != 2:
            raise ValueError(
                f"image_shape must be (height, width) of {n_features} cells, one for each feature, got {image_shape}"
            )
        strength = np.linalg.norm(arrays[-1], axis=0)
        few = min(whole_number(units, "units"), arrays[0].shape[1])
        self.units_ = np.sort(np.argsort(-strength, kind="stable")[:few])

    @classmethod
    def from_model(
        cls,
        model: Any,
        *,
        image_shape: tuple[int, int] | None = None,
        units: int = 16,
        ax: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Draw the first matrix of a model or a trainer's model.

        Parameters
        ----------
        model : Sequential or Trainer
        image_shape, units
            As in :class:`WeightsDisplay`.
        ax, **kwargs
            As in :meth:`plot`.

        Returns
        -------
        WeightsDisplay
        """
        matrices = [array for array in model_of(model).get_weights() if array.ndim == 2]
        return cls(matrices[:1], image_shape=image_shape, units=units).plot(ax, **kwargs)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        image_shape: tuple[int, int] | None = None,
        units: int = 16,
        ax: Any = None,
        **kwargs: Any,
    ) -> Any:
        """The same for a fitted estimator, of fastbp or of scikit-learn.

        Returns
        -------
        WeightsDisplay
        """
        return cls.from_model(estimator, image_shape=image_shape, units=units, ax=ax, **kwargs)

    @classmethod
    def from_snapshots(
        cls,
        snapshots: Sequence[Any],
        *,
        epochs: Sequence[int] | None = None,
        image_shape: tuple[int, int] | None = None,
        units: int = 8,
        ax: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Draw weights over epochs.

        Parameters
        ----------
        snapshots : sequence
            Of matrices, or of lists as ``model.get_weights()`` gives them, whose first matrix is taken.
        epochs, image_shape, units
            As in :class:`WeightsDisplay`.
        ax, **kwargs
            As in :meth:`plot`.

        Returns
        -------
        WeightsDisplay
        """
        matrices = [
            next(array for array in one if np.ndim(array) == 2) if isinstance(one, list | tuple) else one
            for one in limited(snapshots, "snapshots must be a sequence of matrices")
        ]
        return cls(matrices, epochs=epochs, image_shape=image_shape, units=units).plot(ax, **kwargs)

    def plot(self, ax: Any = None, *, cmap: Any = DIVERGING, **kwargs: Any) -> Any:
        """Draw all images on one scale, which is symmetric about 0.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Otherwise a new figure.
        cmap : matplotlib colormap or str
        **kwargs
            To ``Axes.imshow``.

        Returns
        -------
        WeightsDisplay
            Itself.
        """
        over_epochs = len(self.snapshots) > 1
        from matplotlib import colormaps

        tiles = [[snapshot[:, unit] for unit in self.units_] for snapshot in self.snapshots]
        if not over_epochs:  # a sheet
            n_columns = len(self.units_) if self.image_shape[1] == 1 else math.ceil(math.sqrt(len(self.units_)))
            tiles = [tiles[0][k : k + n_columns] for k in range(0, len(self.units_), n_columns)]
        sheet = self._sheet(tiles)
        height, width = sheet.shape
        is_column = self.image_shape[1] == 1
        shape = 0.6 if is_column else height / width
        self.figure_, self.ax_ = new_axes(ax, 6.4, min(9.0, max(2.4, 5.2 * shape + 0.9)))
        bound = float(np.nanmax(np.abs(sheet))) or 1.0
        style = {"vmin": -bound, "vmax": bound, "aspect": "auto" if is_column else "equal", **kwargs}
        colours = colormaps.get_cmap(cmap).with_extremes(bad="white")
        self.image_ = self.ax_.imshow(sheet, cmap=colours, interpolation="nearest", **style)
        self.figure_.colorbar(self.image_, ax=self.ax_, label="weight", shrink=0.9)
        self._label(tiles, over_epochs)
        return self

    @property
    def _gap(self) -> int:
        """Cells between images; none between columns of features."""
        return max(1, min(self.image_shape) // 8) if self.image_shape[1] > 1 else 0

    def _sheet(self, tiles: list[list[Array]]) -> Array:
        """All tiles side by side, cells of NaN between them."""
        (height, width), gap = self.image_shape, self._gap
        sheet = np.full((len(tiles) * (height + (gap or 1)) - (gap or 1), len(tiles[0]) * (width + gap) - gap), np.nan)
        for i, row in enumerate(tiles):
            for j, tile in enumerate(row):
                top, left = i * (height + (gap or 1)), j * (width + gap)
                sheet[top : top + height, left : left + width] = tile.reshape(height, width)
        return sheet

    def _label(self, tiles: list[list[Array]], over_epochs: bool) -> None:
        ax, (height, width) = self.ax_, self.image_shape
        for spine in ax.spines.values():
            spine.set_visible(False)
        ax.tick_params(length=0)
        centres = [j * (width + self._gap) + (width - 1) / 2 for j in range(len(tiles[0]))]
        rows = [i * (height + (self._gap or 1)) + (height - 1) / 2 for i in range(len(tiles))]
        first = f"Weights of the first layer, {height} x {width}" if width > 1 else "Weights of the first layer"
        if over_epochs or len(tiles) == 1:
            ax.set_xticks(centres, self.units_)
            ax.set_xlabel("unit")
        else:
            ax.set_xticks([])
            ax.set_xlabel(f"units {', '.join(map(str, self.units_))}, row by row", wrap=True)
        if over_epochs:
            ax.set_yticks(rows, self.epochs)
            ax.set_ylabel("epoch")
        elif width == 1:
            ax.set_ylabel("feature")
        else:
            ax.set_yticks([])
        ax.set_title(first)
