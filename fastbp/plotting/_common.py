"""Colours, axes and sources that the displays share."""

from __future__ import annotations

import copy
import itertools
from typing import Any

from sklearn.utils.validation import check_is_fitted

from fastbp._arrays import readable
from fastbp._words import shown
from fastbp.estimators._layers import fitted
from fastbp.layers import Dense
from fastbp.losses import Loss
from fastbp.model import Sequential
from fastbp.trainer import Trainer

# M. Okabe, K. Ito, "Color universal design", 2008: told apart with every kind of colour vision, and in this order also
# in grey
BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7"
GREY, LIGHT = "#5F5F5F", "#D9D9D9"
SEQUENTIAL, DIVERGING = "cividis", "RdBu_r"  # both safe: no red beside green


def new_axes(ax: Any, width: float = 6.4, height: float = 4.0) -> tuple[Any, Any]:
    """Figure and axes to draw on: those given, or new ones of so many inches."""
    if ax is None:
        from matplotlib import pyplot

        return pyplot.subplots(figsize=(width, height), layout="constrained")
    return ax.figure, ax


def model_of(source: Any) -> Sequential:
    """The network of a model, a trainer or a fitted estimator; scikit-learn's own MLPs are estimators too.

    Raises
    ------
    TypeError
        For anything else.
    sklearn.exceptions.NotFittedError
    """
    if isinstance(source, Sequential):
        return source
    if isinstance(source, Trainer):
        return source.model
    if not hasattr(source, "hidden_layer_sizes"):
        raise TypeError(
            "model must be a fastbp.Sequential, a fastbp.Trainer or a fitted MLPClassifier or MLPRegressor, got "
            f"{shown(source)}"
        )
    if hasattr(source, "_fitted_model"):
        return source._fitted_model()
    check_is_fitted(source, "coefs_")
    parameters = list(itertools.chain(*zip(source.coefs_, source.intercepts_, strict=True)))
    n_hidden, given = len(source.coefs_) - 1, source.activation
    hidden = [given] * n_hidden if isinstance(given, str) else list(given)
    names = [*hidden, source.out_activation_]
    layers = [Dense(len(b), name) for b, name in zip(source.intercepts_, names, strict=True)]
    return Sequential._with_weights(layers, parameters)


def problem_of(estimator: Any, y: Any) -> tuple[Sequential, Loss, Any]:
    """Network and loss of a fitted estimator, and targets as that loss takes them."""
    model = model_of(estimator)
    if not hasattr(estimator, "_encode"):
        raise TypeError(
            "estimator must be a fitted fastbp.MLPClassifier or fastbp.MLPRegressor, which has a loss, got "
            f"{shown(estimator)}: take scikit-learn's over by from_sklearn"
        )
    state, seen = estimator.__dict__, copy.copy(estimator)
    if hasattr(estimator, "loss"):  # that of the fit, as the network is
        seen.loss = fitted(estimator).loss
    encoded = seen._encode(readable(y, "y", alone=False), "y", state, model.dtype)
    _, _, loss = seen._output(encoded, state)
    return model, loss, estimator._targets(encoded, loss, model.dtype)
