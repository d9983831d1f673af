"""Fitted estimators to and from scikit-learn's own, so that exporters written for those work."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer
from sklearn.utils.validation import check_is_fitted

from fastbp._validation import Array
from fastbp._words import shown
from fastbp.estimators._codes import ClassCodes
from fastbp.estimators._layers import check_goes_on, description, fitted
from fastbp.estimators._parameters import THEIR_ACTIVATIONS, layer_sizes
from fastbp.history import History
from fastbp.schedules import is_scheduled

# What scikit-learn's estimators have after fit, as far as it is data
STATE = (
    "coefs_", "intercepts_", "n_features_in_", "feature_names_in_", "n_layers_", "n_outputs_", "out_activation_",
    "classes_", "_label_binarizer", "n_iter_", "t_", "loss_", "loss_curve_", "best_loss_", "validation_scores_",
    "best_validation_score_", "_no_improvement_count",
)  # fmt: skip
THEIR_LOSSES = ("squared_error", "poisson")

KEEP = "or keep this estimator by pickle or joblib"
SOLVERS = ("lbfgs", "sgd", "adam")  # those that scikit-learn has


def _copied(value: Any) -> Any:
    """Lists and arrays anew: training goes on in place."""
    if isinstance(value, list):
        return [_copied(item) for item in value]
    return value.copy() if isinstance(value, np.ndarray) else value


def _transfer(source: Any, target: Any) -> None:
    for name in STATE:
        if hasattr(source, name):
            setattr(target, name, _copied(getattr(source, name)))


def _to_sklearn(estimator: Any, kind: type[Any]) -> Any:
    """scikit-learn's estimator with the parameters and the state of a fitted one of ours.

    Raises
    ------
    NotFittedError
    ValueError
        For what scikit-learn's has no place for.
    """
    check_is_fitted(estimator, "coefs_")
    if isinstance(getattr(estimator, "_label_binarizer", None), ClassCodes):
        raise ValueError(
            "scikit-learn's MLPClassifier has no place for several targets of several classes: fit one for each, "
            f"{KEEP}"
        )
    parameters = {name: getattr(estimator, name) for name in kind._get_param_names()}
    there, sizes = fitted(estimator), [len(b) for b in estimator.intercepts_[:-1]]
    parameters["activation"] = there.activation
    if layer_sizes(parameters["hidden_layer_sizes"]) != sizes:
        parameters["hidden_layer_sizes"] = tuple(sizes)
    if "loss" in parameters:
        parameters["loss"] = there.loss
    names = {parameters["activation"]} if isinstance(parameters["activation"], str) else set(parameters["activation"])
    if len(names) > 1:
        raise ValueError(
            f"scikit-learn has one activation for all hidden layers, but this network has "
            f"{there.activation}: fit with one, {KEEP}"
        )
    if "loss" in parameters and parameters["loss"] not in THEIR_LOSSES:
        raise ValueError(
            f"scikit-learn's MLPRegressor has no place for the loss {shown(there.loss)}: fit with one of "
            f"{', '.join(map(repr, THEIR_LOSSES))}, {KEEP}"
        )
    for name, attribute in (("normalization", "normalization_"), ("skip connections", "projections_")):
        if getattr(estimator, attribute, ()):
            raise ValueError(
                f"scikit-learn's networks are dense layers in a chain, with no place for {name}: fit without, {KEEP}"
            )
    parameters["activation"] = next(iter(names), "relu")
    if parameters["activation"] not in THEIR_ACTIVATIONS:
        raise ValueError(
            f"scikit-learn has no activation {parameters['activation']!r}, only "
            f"{', '.join(sorted(THEIR_ACTIVATIONS))}: fit with one of them, {KEEP}"
        )
    parameters["verbose"] = bool(parameters["verbose"])
    if is_scheduled(parameters["learning_rate"]):
        parameters["learning_rate"] = "constant"
    if parameters["solver"] not in SOLVERS:
        parameters["solver"] = "adam"
    theirs = kind(**parameters)
    _transfer(estimator, theirs)
    solver, state, learning_rate = getattr(estimator, "_optimizer_state", (None, None, 0.0))
    if solver == estimator.solver == theirs.solver and state is not None:
        theirs._optimizer = _their_optimizer(theirs, state, learning_rate)
    return theirs


def _their_optimizer(theirs: Any, state: dict[str, Any], learning_rate: float) -> Any:
    """scikit-learn's optimizer where ours stands; it lists all weights first and then all biases."""
    parameters = theirs.coefs_ + theirs.intercepts_
    arrays = {name: [a.copy() for a in v[::2] + v[1::2]] for name, v in state.items() if isinstance(v, list)}
    if theirs.solver == "adam":
        adam = AdamOptimizer(parameters, theirs.learning_rate_init, theirs.beta_1, theirs.beta_2, theirs.epsilon)
        adam.t, adam.ms, adam.vs = state["step"], arrays["first"], arrays["second"]
        return adam
    sgd = SGDOptimizer(
        parameters, theirs.learning_rate_init, theirs.learning_rate, theirs.momentum, theirs.nesterovs_momentum,
        theirs.power_t,
    )  # fmt: skip
    sgd.velocities = [-v for v in arrays["velocity"]]  # theirs is added, ours subtracted
    if isinstance(learning_rate, float):  # no place in a schedule
        sgd.learning_rate = learning_rate
    return sgd


def _from_sklearn(kind: type[Any], expected: type[Any], theirs: Any, parameters: dict[str, Any]) -> Any:
    """Ours with the parameters and the state of scikit-learn's fitted estimator.

    Raises
    ------
    TypeError
        For another kind of estimator.
    ValueError
        For parameters that stand for another network.
    NotFittedError
    """
    if not isinstance(theirs, expected):
        raise TypeError(
            f"from_sklearn takes a fitted sklearn.neural_network.{expected.__name__}, got {shown(theirs)}: pass one, "
            "or call from_sklearn of the class of the same kind"
        )
    check_is_fitted(theirs, "coefs_")
    ours = kind(**{name: getattr(theirs, name) for name in expected._get_param_names()})
    _transfer(theirs, ours)
    ours._description = description(ours)
    ours.set_params(**parameters)
    ours.coefs_ = [np.ascontiguousarray(W) for W in ours.coefs_]
    ours.normalization_, ours.projections_, ours.stopped_early_ = [], [], False
    ours.validation_loss_curve_, ours.history_ = None, _history(ours)
    out_activation = ours.out_activation_
    if "loss" in expected._get_param_names():
        ours._n_targets = ours.n_outputs_
        out_activation = ours._described_loss.link or "identity"
    widths = (len(ours.coefs_[0]), *layer_sizes(ours.hidden_layer_sizes), len(ours.intercepts_[-1]))
    check_goes_on(ours, widths, out_activation)
    optimizer = getattr(theirs, "_optimizer", None)
    if isinstance(optimizer, AdamOptimizer) and ours.solver == "adam":
        # its attribute learning_rate holds the corrections of the last step too
        ours._optimizer_state = ("adam", _our_state(optimizer), float(optimizer.learning_rate_init))
    elif isinstance(optimizer, SGDOptimizer) and ours.solver == "sgd":
        ours._optimizer_state = ("sgd", _our_state(optimizer), float(optimizer.learning_rate))
    return ours


def _history(ours: Any) -> History:
    """What scikit-learn's fit has kept of each epoch, in the columns of ours; NaN for what it does not measure."""
    unknown = float("nan")
    losses, scores = (getattr(ours, name, None) or [] for name in ("loss_curve_", "validation_scores_"))
    validated, stochastic = bool(ours.early_stopping), ours.solver != "lbfgs"
    names = ["loss", *["val_loss", "val_score"] * validated, *["learning_rate"] * stochastic, "epoch_seconds"]
    history = History(names)
    for k, loss in enumerate(losses):
        score = scores[k] if k < len(scores) else unknown
        history.append(dict.fromkeys(names, unknown) | {"loss": loss, "val_score": score})
    history.message = "taken over from scikit-learn"
    return history


def _our_state(optimizer: Any) -> dict[str, Any]:
    """State of scikit-learn's optimizer as our sessions have it: the arrays of each layer beside each other."""

    def by_layer(arrays: list[Array]) -> list[Array]:
        half = len(arrays) // 2
        return [np.ascontiguousarray(arrays[k // 2 + k % 2 * half]) for k in range(len(arrays))]

    if isinstance(optimizer, AdamOptimizer):
        return {"step": optimizer.t, "first": by_layer(optimizer.ms), "second": by_layer(optimizer.vs)}
    return {"step": 0, "velocity": [-v for v in by_layer(optimizer.velocities)]}


class Interchange:
    """The two methods, for both estimators; ``_sklearn_class`` is scikit-learn's of the same kind."""

    _sklearn_class: ClassVar[type[Any]]

    def to_sklearn(self) -> Any:
        """This fitted estimator as scikit-learn's own, with the same predictions; ``partial_fit`` goes on there.

        For what is written for scikit-learn's: exporters to other formats, for one. A solver that it lacks becomes
        "adam", which starts anew, and a schedule becomes a constant rate. Predictions have no dropout, so there is
        none in what goes on.

        Returns
        -------
        sklearn.neural_network.MLPClassifier or MLPRegressor
            With copies of the weights.

        Raises
        ------
        sklearn.exceptions.NotFittedError
        ValueError
            For what scikit-learn's has no place for, such as several activations or a normalisation.

        Examples
        --------
        >>> from fastbp import MLPClassifier
        >>> model = MLPClassifier((5,), solver="lbfgs", random_state=0).fit([[0.0], [1.0], [2.0]], [0, 1, 1])
        >>> bool((model.to_sklearn().predict([[0.5]]) == model.predict([[0.5]])).all())
        True
        """
        return _to_sklearn(self, self._sklearn_class)

    @classmethod
    def from_sklearn(cls, estimator: Any, **parameters: Any) -> Self:
        """Take over a fitted estimator of scikit-learn; ``partial_fit`` and warm starts go on from it.

        Parameters
        ----------
        estimator : sklearn.neural_network.MLPClassifier or MLPRegressor
            Of the kind of this class.
        **parameters
            Of our own, or to replace one of the estimator's.

        Returns
        -------
        MLPClassifier or MLPRegressor

        Raises
        ------
        TypeError
            For another kind of estimator.
        ValueError
            For parameters that stand for another network: with a normalisation or skip connections, other layers or
            activations, a loss with another output activation, or another dtype.
        sklearn.exceptions.NotFittedError

        Notes
        -----
        ``history_`` has ``loss``, and with early stopping ``val_score``, of each epoch of scikit-learn's; the other
        columns of ours are NaN there. ``validation_loss_curve_`` is None.
        """
        return _from_sklearn(cls, cls._sklearn_class, estimator, parameters)
