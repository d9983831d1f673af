"""MLPRegressor: scikit-learn's regressor on our kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from scipy import sparse
from sklearn import neural_network
from sklearn.base import RegressorMixin, _fit_context
from sklearn.metrics import d2_pinball_score, r2_score
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if

from fastbp._validation import Array
from fastbp.estimators._base import BaseMLP
from fastbp.estimators._inputs import checked_rows_and_targets, named, on_the_host
from fastbp.estimators._layers import fitted
from fastbp.estimators._rows import Rows
from fastbp.estimators._scores import explained_pinball
from fastbp.estimators._targets import checked_targets, real_targets
from fastbp.estimators._validation import determination
from fastbp.losses import CROSS_ENTROPIES, Loss

# Names as in scikit-learn, and what they stand for
LOSSES = {
    "squared_error": Loss("half_squared_error", "scikit-learn"),
    "poisson": Loss("poisson", "scikit-learn"),
    "absolute_error": Loss("mean_absolute_error"),
    "huber": Loss("huber"),
    "quantile": Loss("quantile"),
    "log_cosh": Loss("log_cosh"),
}


def loss_of(loss: str | Loss) -> Loss:
    """What the parameter ``loss`` stands for."""
    described = LOSSES[loss] if isinstance(loss, str) else loss
    if described.name in CROSS_ENTROPIES:
        raise ValueError(f"loss must be one for real targets, got {described.name!r}, which is for MLPClassifier")
    return described


def several_levels(loss: Loss) -> tuple[float, ...]:
    """The levels of a quantile loss that has several, otherwise none."""
    return loss.level if isinstance(loss.level, tuple) and len(loss.level) > 1 else ()


class MLPRegressor(RegressorMixin, BaseMLP):
    """Multilayer perceptron regressor with the parameters of ``sklearn.neural_network.MLPRegressor``.

    Minimises half the squared error, or another loss, plus ``alpha`` / 2 |W|^2 over the sum of sample weights. In
    float64 the same ``random_state`` gives scikit-learn's model, to rounding.

    Parameters
    ----------
    loss : {"squared_error", "poisson", "absolute_error", "huber", "quantile", "log_cosh"} or Loss, \
default="squared_error"
        ``"squared_error"`` is reported as the mean over outputs, while its gradient is that of the sum, as in
        scikit-learn. ``"poisson"`` is for counts and rates, at least 0: predictions are exp(z). The others are those
        of :class:`fastbp.losses.Loss`, Huber's with a delta of 1 and the quantile 0.5; a ``Loss`` has its own numbers,
        ``Loss("quantile", level=0.9)``. Several levels are those of a single target: predictions are (n_samples,
        n_levels), and a y of several columns is refused.
    hidden_layer_sizes, activation, solver, alpha, batch_size, learning_rate, learning_rate_init, power_t, max_iter, \
shuffle, random_state, tol, verbose, warm_start, momentum, nesterovs_momentum, early_stopping, validation_fraction, \
beta_1, beta_2, epsilon, n_iter_no_change, max_fun, scoring, n_jobs, dtype, callbacks, \
clip_norm, dropout, normalization, residual, device, precision
        As in :class:`MLPClassifier`; early stopping goes by what :meth:`score` gives where ``scoring`` is None.

    Attributes
    ----------
    coefs_, intercepts_, normalization_, projections_, loss_, best_loss_, loss_curve_, n_iter_, t_, n_features_in_, \
feature_names_in_, n_layers_, n_outputs_, validation_loss_curve_, history_, stopped_early_
        As in :class:`MLPClassifier`.
    validation_scores_, best_validation_score_
        Score on the validation rows, with early stopping.
    out_activation_ : {"identity", "exp"}

    See Also
    --------
    MLPClassifier : The same for class labels.

    Examples
    --------
    >>> from sklearn.datasets import make_regression
    >>> from fastbp import MLPRegressor
    >>> X, y = make_regression(200, 10, random_state=0)
    >>> regressor = MLPRegressor(hidden_layer_sizes=(50,), solver="lbfgs", max_iter=2000, random_state=0).fit(X, y)
    >>> regressor.score(X, y) > 0.99
    True
    """

    _sklearn_class = neural_network.MLPRegressor
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseMLP._parameter_constraints,
        "loss": [StrOptions(set(LOSSES)), Loss],
    }

    def __init__(
        self,
        loss: str | Loss = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: Any = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: Any = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool | str = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        scoring: Any = None,
        n_jobs: int | None = None,
        dtype: Any = None,
        callbacks: Any = None,
        clip_norm: float | None = None,
        dropout: Any = 0.0,
        normalization: str | None = None,
        residual: bool = False,
        device: str = "cpu",
        precision: str = "float32",
    ) -> None:
        self.loss = loss
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.scoring = scoring
        self.n_jobs = n_jobs
        self.dtype = dtype
        self.callbacks = callbacks
        self.clip_norm = clip_norm
        self.dropout = dropout
        self.normalization = normalization
        self.residual = residual
        self.device = device
        self.precision = precision

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, X_val: Any = None, y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> MLPRegressor:  # fmt: skip
        """Fit to X and targets y.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            A sparse one is never filled up.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None
        X_val, y_val, sample_weight_val : default=None
            Rows for ``validation_loss_curve_``, and for early stopping instead of rows that are held out.

        Returns
        -------
        MLPRegressor
            Itself.

        Raises
        ------
        ValueError
            For parameters or data that cannot be used, or where training ends with weights, or outputs for its rows,
            that are not finite; a fitted estimator keeps its state.
        RuntimeError
            In a callback of a fit of this estimator, or in a second thread while there is one. That fit goes on.
        """
        return self._fit(X, y, sample_weight, False, (X_val, y_val, sample_weight_val))

    @available_if(lambda estimator: estimator._check_solver())
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, X_val: Any = None, y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> MLPRegressor:  # fmt: skip
        """Train for one epoch on the given rows, going on from where the last call ended.

        Early stopping goes by ``X_val`` as in :meth:`MLPClassifier.partial_fit`.

        Parameters
        ----------
        X, y, sample_weight, X_val, y_val, sample_weight_val
            As in :meth:`fit`.

        Returns
        -------
        MLPRegressor
            Itself.
        """
        return self._fit(X, y, sample_weight, True, (X_val, y_val, sample_weight_val))

    def predict(self, X: Any) -> Array:
        """Predicted values.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
        """
        return self._predictions(self._outputs(X), self.__dict__)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Coefficient of determination R^2 of the predictions, over several outputs the mean.

        Of a fit with several quantile levels it is D^2, the same share of the pinball loss: 1 - the loss of the
        predictions / that of the quantile of y, a constant. It is the mean over the levels of
        ``sklearn.metrics.d2_pinball_score``. Of one level it is R^2, as in ``sklearn.linear_model.QuantileRegressor``.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            One column, where the fit had several quantile levels.
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        float
        """
        y, sample_weight = on_the_host(self, y=y, sample_weight=sample_weight)
        predicted = self.predict(X)
        y = y.toarray() if sparse.issparse(y) else y
        levels = several_levels(loss_of(fitted(self).loss))
        with named("y or sample_weight"):
            if not levels:
                return float(r2_score(y, predicted, sample_weight=sample_weight))
            scores = [
                d2_pinball_score(y, predicted[:, k], sample_weight=sample_weight, alpha=level)
                for k, level in enumerate(levels)
            ]
        return float(np.mean(scores))

    # -----------------------------------------------------------------------------------------------------------------

    def _validate_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Array, dict[str, Any]]:
        dtype = self._training_dtype(goes_on=not reset)
        X, y = checked_rows_and_targets(self, X, y, dtype=dtype, reset=reset, y_numeric=True)
        y = real_targets(y, "y", X.dtype)
        state = {"_n_targets": 1 if y.ndim == 1 else y.shape[1]}
        return X, self._columns(y, "y"), state

    @property
    def _described_loss(self) -> Loss:
        return loss_of(self.loss)

    def _columns(self, y: Array, name: str) -> Array:
        """Targets as a matrix: a column for each output."""
        y, loss = y.reshape(len(y), -1), self._described_loss
        if loss.name == "poisson" and y.min() < 0:
            raise ValueError(f"loss='poisson' needs targets of at least 0, got a smallest {name} of {y.min()}")
        if not (levels := several_levels(loss)):
            return y
        if y.shape[1] > 1:
            raise ValueError(
                f"loss has {len(levels)} levels, which are all for one target, but {name} has {y.shape[1]} columns: "
                "give one column, or one level for all columns"
            )
        return np.repeat(y, len(levels), axis=1)

    def _encode(self, y: Any, name: str, state: dict[str, Any], dtype: Any) -> Array:
        y = real_targets(checked_targets(self, y, name), name, dtype)
        n_targets, given = state.get("_n_targets"), 1 if y.ndim == 1 else y.shape[1]
        if n_targets not in (None, given):
            raise ValueError(
                f"{name} must have as many columns as the y of the training, which has {n_targets}, got an array of "
                f"shape {y.shape}"
            )
        return self._columns(y, name)

    def _decode(self, y: Array, state: dict[str, Any]) -> Array:
        return y[:, 0] if state["_n_targets"] == 1 else y

    def _predictions(self, outputs: Array, state: dict[str, Any]) -> Array:
        return outputs.ravel() if outputs.shape[1] == 1 else outputs

    def _weights(self, sample_weight: Array | None, y: Array, state: dict[str, Any], dtype: Any) -> Array | None:
        return sample_weight

    def _output(self, y: Array, state: dict[str, Any]) -> tuple[int, str, Loss]:
        loss = self._described_loss
        return y.shape[1], loss.link or "identity", loss

    def _targets(self, y: Array, loss: Loss, dtype: Any) -> Array:
        return np.ascontiguousarray(y, dtype)

    def _outputs_score(self, held_out: Rows, state: dict[str, Any]) -> Callable[[Array], float]:
        if levels := several_levels(self._described_loss):
            return explained_pinball(held_out.y[:, 0], held_out.weights, levels)
        return determination(held_out.y, held_out.weights)
