"""What both estimators share: scikit-learn's parameters and state around a :class:`fastbp.Trainer`."""

from __future__ import annotations

import itertools
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, is_classifier
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from fastbp._validation import Array, as_rows
from fastbp.backends import Network, get_backend
from fastbp.estimators._lbfgs import minimize_lbfgs
from fastbp.estimators._progress import Progress
from fastbp.initializers import scikit_learn
from fastbp.layers import Dense
from fastbp.losses import Loss
from fastbp.model import Sequential
from fastbp.optimizers import SGD, Adam, Optimizer
from fastbp.trainer import Data, Trainer

STOCHASTIC_SOLVERS = ("sgd", "adam")
SPARSE = ("csr", "csc")  # what scikit-learn's take; other sparse formats are converted to the first


class BaseMLP(BaseEstimator, ABC):
    """Validation, fitting and prediction; subclasses know their targets.

    A fit works on a state of its own, a dict of attributes, and sets them when all has gone well.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions({"identity", "logistic", "tanh", "relu"})],
        "solver": [StrOptions({"lbfgs", "sgd", "adam"})],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
        "max_fun": [Interval(Integral, 1, None, closed="left")],
        "n_jobs": [Interval(Integral, 1, None, closed="left"), Options(Integral, {-1}), None],
    }

    # -----------------------------------------------------------------------------------------------------------------
    # What a classifier and a regressor do each in their own way

    @abstractmethod
    def _validate_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Array, Array, dict[str, Any]]:
        """X, y as scikit-learn's solvers take it, (n_samples, n_outputs), and attributes to set."""

    @abstractmethod
    def _link_and_loss(self, state: dict[str, Any]) -> tuple[str, Loss]:
        """The output activation and the loss."""

    @abstractmethod
    def _targets(self, y: Array, out_activation: str, dtype: Any) -> Array:
        """What the loss takes for rows of y."""

    @abstractmethod
    def _decode(self, outputs: Array, state: dict[str, Any]) -> Array:
        """Predictions from the network's outputs."""

    @abstractmethod
    def _score_function(self, y: Array, predicted: Array, sample_weight: Array | None) -> float:
        """The score that early stopping goes by."""

    # -----------------------------------------------------------------------------------------------------------------
    # Fitting

    def _fit(self, X: Any, y: Any, sample_weight: Any, incremental: bool) -> Self:
        with self._whole_or_as_before():
            hidden = self._hidden_layer_sizes()
            first_pass = not hasattr(self, "coefs_") or (not self.warm_start and not incremental)
            X, y, state = self._validate_input(X, y, incremental, reset=first_pass)
            X = as_rows(X)
            weights = None if sample_weight is None else _check_sample_weight(sample_weight, X)
            rng = check_random_state(self.random_state)
            out_activation, loss = self._link_and_loss(state)
            widths = [X.shape[1], *hidden, y.shape[1]]
            if first_pass:
                parameters: list[Array] = []
                for fan_in, fan_out in itertools.pairwise(widths):
                    # every layer's bound follows the hidden activation
                    parameters += scikit_learn(rng, fan_in, fan_out, self.activation)
                parameters = [array.astype(X.dtype) for array in parameters]
                state |= {"n_layers_": len(widths), "out_activation_": out_activation, "t_": 0}
            else:
                parameters = [array.astype(X.dtype) for array in self._parameters()]
            state["n_outputs_"] = y.shape[1]
            layers = [Dense(units, self.activation) for units in hidden] + [Dense(y.shape[1], out_activation)]
            if len(parameters[-1]) != y.shape[1]:
                raise ValueError(
                    f"y has {y.shape[1]} outputs, but the fitted network has {len(parameters[-1])}: fit without "
                    "warm_start, or give targets of the same kind as before"
                )
            if [array.shape[0] for array in parameters[::2]] != widths[:-1]:
                raise ValueError(
                    f"hidden_layer_sizes is {self.hidden_layer_sizes}, but the fitted network has the layers "
                    f"{[array.shape for array in parameters[::2]]}: fit without warm_start, or leave the sizes as they "
                    "were"
                )
            model = Sequential._with_weights(layers, parameters)
            trainer = Trainer(
                model,
                loss=loss,
                optimizer=self._optimizer(),
                n_threads=self._n_threads,
                random_state=rng,
                on_divergence="ignore",
            )
            if self.solver == "lbfgs":
                state |= self._fit_lbfgs(trainer, X, y, weights)
            else:
                state |= self._fit_stochastic(trainer, X, y, weights, state, first_pass, incremental)
            parameters = model._weights
            if not all(np.isfinite(array).all() for array in parameters):
                raise ValueError(
                    "Solver produced non-finite parameter weights. The input data may contain large values and need to "
                    "be preprocessed: scale X and y to about 1 (StandardScaler, for example), or lower "
                    "learning_rate_init."
                )
            for name, value in {**state, "coefs_": parameters[::2], "intercepts_": parameters[1::2]}.items():
                setattr(self, name, value)
            return self

    @contextmanager
    def _whole_or_as_before(self) -> Iterator[None]:
        """An error within the block leaves all attributes as they were; validation writes some of them down early."""
        attributes: Any = vars(self)
        before = attributes.copy()
        try:
            yield
        except BaseException:
            attributes.clear()
            attributes.update(before)
            raise

    @property
    def _n_threads(self) -> int | None:
        return None if self.n_jobs in (None, -1) else int(self.n_jobs)

    def _hidden_layer_sizes(self) -> list[int]:
        sizes = self.hidden_layer_sizes
        sizes = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
        if any(not isinstance(size, Integral) or size <= 0 for size in sizes):
            raise ValueError(f"hidden_layer_sizes must be > 0, whole numbers of units, got {sizes}.")
        return [int(size) for size in sizes]

    def _optimizer(self) -> Optimizer:
        if self.solver == "sgd":
            return SGD(
                self.learning_rate_init, momentum=self.momentum, nesterov=bool(self.nesterovs_momentum), l2=self.alpha,
                convention="scikit-learn",
            )  # fmt: skip
        return Adam(
            self.learning_rate_init, self.beta_1, self.beta_2, self.epsilon, l2=self.alpha, convention="scikit-learn"
        )

    def _fit_lbfgs(self, trainer: Trainer, X: Array, y: Array, weights: Array | None) -> dict[str, Any]:
        model = trainer.model
        session = trainer._open(X, self._targets(y, model.link, X.dtype), weights, batch_size=X.shape[0])
        parameters, loss, n_iter = minimize_lbfgs(
            session,
            model._weights,
            n_rows=X.shape[0],
            total_weight=float(X.shape[0] if weights is None else weights.sum()),
            alpha=self.alpha,
            tol=self.tol,
            max_iter=self.max_iter,
            max_fun=self.max_fun,
        )
        model._weights = parameters
        return {"n_iter_": n_iter, "loss_": loss}

    def _fit_stochastic(
        self,
        trainer: Trainer,
        X: Array,
        y: Array,
        weights: Array | None,
        state: dict[str, Any],
        first_pass: bool,
        incremental: bool,
    ) -> dict[str, Any]:
        if self.early_stopping and incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        model, score = trainer.model, None
        if self.early_stopping:
            (X, y, weights), held_out = self._split(X, y, weights, trainer._rng)

            def score() -> float:
                return self._validation_score(model, held_out, state)

        batch_size = min(200, X.shape[0]) if self.batch_size == "auto" else self.batch_size
        if batch_size > X.shape[0]:
            warnings.warn(
                f"Got `batch_size` {batch_size} larger than sample size {X.shape[0]}. It is going to be clipped",
                stacklevel=5,
            )
        if incremental and hasattr(self, "_optimizer_state"):
            solver, optimizer_state, learning_rate = self._optimizer_state
            if solver == self.solver:  # Adam's moments are no velocity
                trainer._optimizer_state, trainer.learning_rate = optimizer_state, learning_rate
        progress = Progress(
            self,
            X.shape[0],
            self._start(state, first_pass),
            model.get_weights() if first_pass else None,
            score,
            incremental,
        )
        data: Data = (X, self._targets(y, model.link, X.dtype), weights)
        epochs = 1 if incremental else self.max_iter
        history = trainer._train(data, None, epochs, min(batch_size, X.shape[0]), self.shuffle, [progress])
        if history.interrupted:
            warnings.warn("Training interrupted by user.", stacklevel=5)
        if self.early_stopping and progress.best_weights is not None:
            model._weights = progress.best_weights
        optimizer_state = (self.solver, trainer._optimizer_state, trainer.learning_rate)
        return {**progress.state, "_optimizer_state": optimizer_state}

    def _split(self, X: Array, y: Array, weights: Array | None, rng: Any) -> tuple[Data, Data]:
        """Training and validation rows, drawn as scikit-learn draws them."""
        arrays = [X, y] if weights is None else [X, y, weights]
        # multilabel targets are not stratified
        stratify = y if is_classifier(self) and y.shape[1] == 1 else None
        parts = train_test_split(*arrays, random_state=rng, test_size=self.validation_fraction, stratify=stratify)
        if len(parts[1]) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
            )
        train, held_out = (*parts[::2], None)[:3], (*parts[1::2], None)[:3]
        return train, held_out

    def _start(self, state: dict[str, Any], first_pass: bool) -> dict[str, Any]:
        """What the bookkeeping goes on from."""
        stopping = self.early_stopping
        fresh = {
            "t_": 0,
            "loss_curve_": [],
            "best_loss_": None if stopping else np.inf,
            "validation_scores_": [] if stopping else None,
            "best_validation_score_": -np.inf if stopping else None,
            "_no_improvement_count": 0,
        }
        kept = {} if first_pass else {name: getattr(self, name) for name in fresh if hasattr(self, name)}
        # a warm start may switch early stopping on or off: what that compares with has not been there yet
        return fresh | {name: value for name, value in kept.items() if value is not None or fresh[name] is None}

    def _validation_score(self, model: Sequential, held_out: Data, state: dict[str, Any]) -> float:
        X, y, weights = held_out
        outputs = get_backend("cpu").predict(model._network, model._weights, X, n_threads=self._n_threads)
        if not np.isfinite(outputs).all():
            return float("nan")
        predicted = self._decode(outputs, state)
        return float(self._score_function(self._decode(y, state), predicted, weights))

    # -----------------------------------------------------------------------------------------------------------------
    # Prediction

    def _parameters(self) -> list[Array]:
        return [array for pair in zip(self.coefs_, self.intercepts_, strict=True) for array in pair]

    def _outputs(self, X: Any) -> Array:
        """Outputs of the fitted network, (n_samples, n_outputs)."""
        check_is_fitted(self, "coefs_")
        parameters = self._parameters()
        X = validate_data(self, X, dtype=parameters[0].dtype, order="C", reset=False, accept_sparse=SPARSE)
        widths = (len(parameters[0]), *(len(b) for b in parameters[1::2]))
        shapes = [array.shape for array in parameters[::2]]
        if shapes != list(itertools.pairwise(widths)) or X.shape[1] != widths[0]:
            raise ValueError(
                f"coefs_ and intercepts_ do not fit together or X, which has {X.shape[1]} features: coefs_ have the "
                f"shapes {shapes}, intercepts_ {[b.shape for b in parameters[1::2]]}"
            )
        hidden = (self.activation,) * (len(widths) - 2)
        network = Network(widths, (*hidden, self.out_activation_), parameters[0].dtype)
        return get_backend("cpu").predict(network, parameters, as_rows(X), n_threads=self._n_threads)

    def _check_solver(self) -> bool:
        if self.solver not in STOCHASTIC_SOLVERS:
            raise AttributeError(
                f"partial_fit is only available for stochastic optimizers. {self.solver} is not stochastic."
            )
        return True
