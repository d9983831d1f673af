"""Validation rows of an estimator, and how early stopping scores them."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from numbers import Real
from typing import Any

import numpy as np
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import check_scoring
from sklearn.model_selection import train_test_split

from fastbp._overflow import finite
from fastbp._validation import Array
from fastbp._warnings import users_level
from fastbp._words import shown
from fastbp.backends import get_backend
from fastbp.backends._device import is_on_device
from fastbp.estimators._device import prediction_backend, threads_of
from fastbp.estimators._layers import fitted_arrays, prediction_network
from fastbp.estimators._parameters import layer_sizes
from fastbp.estimators._rows import Rows
from fastbp.model import Sequential

Score = Callable[[Sequential, dict[str, Any], float], float]  # of a model, fitted attributes, and the rows' loss


def split(rows: Rows, fraction: float, rng: Any, names: Any) -> tuple[Rows, Rows]:
    """Training and validation rows, drawn as scikit-learn draws them.

    ``names`` are the two classes that ``y`` of one column tells apart, whose shares are to be the same in both parts;
    or None.

    Raises
    ------
    ValueError
        For fewer than two validation rows, a class of one row, or an X on the device, whose rows are not taken apart.
    """
    if is_on_device(rows.X):
        raise ValueError(
            f"early_stopping=True holds out validation_fraction={fraction} of the rows of X, which lies on a CUDA "
            "device and is used as it is: give X_val and y_val, or an X of the host"
        )
    arrays = [part for part in rows if part is not None]
    # Of a matrix train_test_split makes strings too, but row by row: a tenth of a short fit
    classes = None if names is None else rows.y[:, 0].astype(str)
    try:
        parts = train_test_split(*arrays, random_state=rng, test_size=fraction, stratify=classes)
    except ValueError as error:
        raise ValueError(f"{error}{_single(rows, names)}") from None
    if parts[1].shape[0] < 2:
        raise ValueError("The validation set is too small. Increase 'validation_fraction' or the size of your dataset.")
    return Rows(*(*parts[::2], None)[:3]), Rows(*(*parts[1::2], None)[:3])


def _single(rows: Rows, names: Any) -> str:
    """Behind scikit-learn's words, which name our codes: the user's class that has one row; empty where none has."""
    of_second = int(np.count_nonzero(rows.y))
    for name, count in zip([] if names is None else names, (len(rows.y) - of_second, of_second), strict=False):
        if count == 1:
            return (
                f" early_stopping=True holds out rows of each class, but y has 1 row of the class "
                f"{shown(name.item())}: give X_val and y_val, add rows of that class, or leave the row out"
            )
    return ""


def determination(y: Array, weights: Array | None) -> Callable[[Array], float]:
    """The coefficient of determination R^2 of predictions for targets y, as ``sklearn.metrics.r2_score`` has it.

    Parameters
    ----------
    y : ndarray of shape (n_samples, n_outputs)
    weights : ndarray of shape (n_samples,) or None

    Returns
    -------
    callable
        Of predictions of y's shape: the mean over the outputs of 1 - sum(w (y - p)^2) / sum(w (y - mean(y))^2). Where
        y is constant it is 1 for predictions without an error and 0 for others; of a single row it is NaN.
    """
    if len(y) < 2:
        warnings.warn(
            "R^2 of a single validation row is not defined: give at least two, or scoring='loss'",
            UndefinedMetricWarning,
            stacklevel=users_level(),
        )
        return lambda predicted: float("nan")

    def score(predicted: Array) -> float:
        dtype = np.result_type(*(a.dtype for a in (y, predicted, weights) if a is not None and a.dtype.kind == "f"))
        true, w = y.astype(dtype, copy=False), None if weights is None else weights.astype(dtype, copy=False)
        column = 1.0 if w is None else w[:, None]
        with np.errstate(over="ignore"):  # of a training that diverges; its score is -inf then
            errors = (column * (true - predicted) ** 2).sum(axis=0)
        spread = (column * (true - np.average(true, axis=0, weights=w)) ** 2).sum(axis=0)
        constant = spread == 0
        ratios = errors / np.where(constant, 1, spread)
        return float(np.mean(np.where(constant, errors == 0, 1 - ratios)))

    return score


def predictor_of(estimator: Any, model: Sequential, X: Any) -> Callable[[], Callable[[list[Array]], Array]]:
    """What makes a function of the weights that predicts these rows, where the estimator computes."""
    widths = (model.n_features, *layer_sizes(estimator.hidden_layer_sizes), model.n_outputs)
    network = prediction_network(estimator, widths, model.link, model.dtype)
    backend, precision = prediction_backend(estimator, network, X)
    n_threads = threads_of(estimator.n_jobs, backend)
    return lambda: get_backend(backend).predictor(network, X, n_threads=n_threads, precision=precision)


def scored_by_outputs(estimator: Any, model: Sequential, X: Any, score: Callable[[Array], float]) -> Score:
    """A function that scores the validation rows by their outputs; NaN where one of these is not finite."""
    predict = predictor_of(estimator, model, X)()

    def score_now(model: Sequential, attributes: dict[str, Any], loss: float) -> float:
        outputs = predict(model._weights)
        return score(outputs) if finite(outputs) else float("nan")

    return score_now


def scored_by(estimator: Any, scoring: Any, given: tuple[Any, Any], held_out: Rows, model: Sequential) -> Score:
    """A function that scores the validation rows, as they were ``given``, with a scorer of scikit-learn.

    The scorer sees a copy of the estimator as it would be if the training ended now. NaN where a weight or an output is
    not finite, also where the scorer fails at those.
    """
    scorer, (X, y), weights = check_scoring(estimator, scoring), given, held_out.weights

    def usable(model: Sequential) -> bool:
        return finite(predictor_of(estimator, model, held_out.X)()(model._weights))

    def score(model: Sequential, attributes: dict[str, Any], loss: float) -> float:
        # outputs that are not finite have no finite loss: they are looked at where there is none
        if not all(map(finite, model._weights)) or not (np.isfinite(loss) or usable(model)):
            return float("nan")
        seen = copy.copy(estimator)
        vars(seen).update(attributes, **fitted_arrays(model))
        if not hasattr(X, "columns"):  # rows that were split off have no names of columns any more
            vars(seen).pop("feature_names_in_", None)
        options = {} if weights is None else {"sample_weight": weights}
        try:
            value = scorer(seen, X, y, **options)
        except Exception:
            if usable(model):
                raise
            return float("nan")
        if not isinstance(value, Real):
            raise ValueError(f"scoring must give one number, got {value!r}")
        return float(value)

    return score
