"""Loss and score by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sklearn.utils.validation import check_is_fitted

from fastbp._arrays import limited
from fastbp._words import shown
from fastbp.plotting._common import BLUE, GREEN, GREY, ORANGE, new_axes

STYLES: dict[str, tuple[str, dict[str, Any]]] = {
    "loss": ("training loss", {"color": BLUE}),
    "val_loss": ("validation loss", {"color": ORANGE, "linestyle": "--"}),
}


class LearningCurveDisplay:
    """Loss, and score where there is one, by epoch.

    Parameters
    ----------
    curves : mapping of str to sequence of float
        ``loss``, ``val_loss`` and ``val_score`` are drawn, as far as they are there.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
    lines_ : dict of str to matplotlib Line2D
    score_ax_ : matplotlib Axes or None
        The axis of the score, at the right.

    Raises
    ------
    ValueError
        For curves without any of these, or without an epoch.

    Examples
    --------
    >>> from fastbp.plotting import LearningCurveDisplay
    >>> display = LearningCurveDisplay({"loss": [1.0, 0.5, 0.4], "val_loss": [1.1, 0.7, 0.8]}).plot()
    >>> display.ax_.get_xlabel(), display.ax_.get_ylabel()
    ('epoch', 'loss')
    >>> import matplotlib.pyplot as plt; plt.close(display.figure_)
    """

    def __init__(self, curves: Mapping[str, Sequence[float]]) -> None:
        wanted = (*STYLES, "val_score")
        if not isinstance(curves, Mapping):
            raise TypeError(f"curves must be values of each epoch by their names, got {shown(curves)}")
        given = {name: curves[name] for name in wanted if name in curves}
        found = {
            name: limited(values, f"curves[{name!r}] must be a number for each epoch") for name, values in given.items()
        }
        self.curves = {name: values for name, values in found.items() if values}
        if not self.curves:
            raise ValueError(
                f"curves must have one of {', '.join(map(repr, wanted))} with at least one epoch, got {list(curves)}: "
                "train for an epoch first"
            )

    @classmethod
    def from_history(cls, history: Mapping[str, Sequence[float]], *, ax: Any = None, **kwargs: Any) -> Any:
        """Draw what :meth:`fastbp.Trainer.fit` has returned.

        Parameters
        ----------
        history : History
        ax, **kwargs
            As in :meth:`plot`.

        Returns
        -------
        LearningCurveDisplay
        """
        return cls(history).plot(ax, **kwargs)

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None, **kwargs: Any) -> Any:
        """Draw the training of a fitted estimator: its loss, and validation loss or scores where it has them.

        Parameters
        ----------
        estimator : MLPClassifier or MLPRegressor
            Of fastbp, or of scikit-learn.
        ax, **kwargs
            As in :meth:`plot`.

        Returns
        -------
        LearningCurveDisplay

        Raises
        ------
        sklearn.exceptions.NotFittedError
        """
        check_is_fitted(estimator, "coefs_")
        names = {"loss": "loss_curve_", "val_loss": "validation_loss_curve_", "val_score": "validation_scores_"}
        curves = {name: getattr(estimator, attribute, None) for name, attribute in names.items()}
        return cls({name: values for name, values in curves.items() if values is not None}).plot(ax, **kwargs)

    def plot(self, ax: Any = None, *, log: bool = False, **kwargs: Any) -> Any:
        """Draw the curves; the best epoch of the validation is marked.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Otherwise a new figure.
        log : bool, default=False
            Whether the losses have a logarithmic axis.
        **kwargs
            For every line, to ``Axes.plot``.

        Returns
        -------
        LearningCurveDisplay
            Itself.
        """
        self.figure_, self.ax_ = new_axes(ax)
        self.lines_: dict[str, Any] = {}
        self.score_ax_: Any = None
        losses = [name for name in STYLES if name in self.curves]
        for name in losses:
            label, style = STYLES[name]
            self.lines_[name] = self._line(self.ax_, name, {"label": label, **style, **kwargs})
        if losses:
            self.ax_.set(ylabel="loss", yscale="log" if log else "linear")
        if "val_score" in self.curves:
            score_ax = self.score_ax_ = self.ax_.twinx() if losses else self.ax_
            style = {"label": "validation score", "color": GREEN, "linestyle": ":", "linewidth": 2, **kwargs}
            self.lines_["val_score"] = self._line(score_ax, "val_score", style)
            score_ax.set_ylabel("validation score", color=style["color"])
        self._mark_best()
        self.ax_.set(xlabel="epoch", title="Learning curve")
        self.ax_.xaxis.get_major_locator().set_params(integer=True)
        (self.score_ax_ or self.ax_).legend(
            handles=list(self.lines_.values()), loc="center right", frameon=True, framealpha=0.9
        )
        return self

    def _line(self, ax: Any, name: str, style: dict[str, Any]) -> Any:
        values = self.curves[name]
        marker = {"marker": "o"} if len(values) == 1 else {}  # one epoch is no line
        (line,) = ax.plot(range(1, len(values) + 1), values, **{**marker, **style})
        return line

    def _mark_best(self) -> None:
        """A thin line at the epoch whose validation is best."""
        name = next((name for name in ("val_score", "val_loss") if name in self.curves), None)
        if name is None:
            return
        values = self.curves[name]
        best = max(values) if name == "val_score" else min(values)
        if best == best:  # not with a NaN
            epoch = values.index(best) + 1
            line = self.ax_.axvline(epoch, color=GREY, linewidth=0.8, label=f"best validation: epoch {epoch}")
            self.lines_["best"] = line
