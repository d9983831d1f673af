"""What both estimators share: scikit-learn's parameters and state around a :class:`fastbp.Trainer`."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, is_classifier
from sklearn.callback import CallbackSupportMixin
from sklearn.utils.validation import check_is_fitted

from fastbp._busy import Use, training
from fastbp._fit import Data, train
from fastbp._network import network_of
from fastbp._validation import Array, as_random_state, as_rows, real_dtype
from fastbp._warnings import users_level
from fastbp._weights import usable_weights
from fastbp.backends import get_backend
from fastbp.callbacks import Callback, ProgressBar
from fastbp.callbacks._base import as_listeners
from fastbp.estimators._alone import CALLBACK_STATE, alone
from fastbp.estimators._callbacks import SklearnCallbacks
from fastbp.estimators._device import prediction_backend, threads_of, training_backend
from fastbp.estimators._fitted import replace_fitted
from fastbp.estimators._inputs import checked_rows, on_the_host
from fastbp.estimators._interchange import Interchange
from fastbp.estimators._layers import (
    check_goes_on,
    check_row_weights,
    check_solver,
    described,
    description,
    drawn,
    fitted,
    fitted_arrays,
    fitted_parameters,
    prediction_network,
)
from fastbp.estimators._lbfgs import minimize_lbfgs
from fastbp.estimators._outcome import check_outcome
from fastbp.estimators._parameters import CONSTRAINTS, STOCHASTIC_SOLVERS, layer_sizes, optimizer_of
from fastbp.estimators._predicted import in_dtype, is_plain_matrix
from fastbp.estimators._progress import Progress, check_schedule, go_on
from fastbp.estimators._rows import Rows, checked_weights
from fastbp.estimators._validation import Score, scored_by, scored_by_outputs, split
from fastbp.kernels.layout import BATCH_NORM, DROPOUT
from fastbp.layers import Dense
from fastbp.losses import Loss
from fastbp.model import Sequential, check_size
from fastbp.optimizers import Optimizer
from fastbp.trainer import Trainer


class BaseMLP(Interchange, CallbackSupportMixin, BaseEstimator, ABC):
    """Validation, fitting and prediction; subclasses know their targets.

    A fit works on a state of its own, a dict of attributes, and sets them when all has gone well.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = CONSTRAINTS

    # -----------------------------------------------------------------------------------------------------------------
    # What a classifier and a regressor do each in their own way

    @abstractmethod
    def _validate_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Array, dict[str, Any]]:
        """X, y encoded, (n_samples, n_targets), and attributes to set."""

    @abstractmethod
    def _encode(self, y: Any, name: str, state: dict[str, Any], dtype: Any) -> Array:
        """Targets of other rows, checked and encoded as those of the training; errors call them by their name."""

    @abstractmethod
    def _decode(self, y: Array, state: dict[str, Any]) -> Array:
        """Targets as they were before they were encoded."""

    @abstractmethod
    def _weights(self, sample_weight: Array | None, y: Array, state: dict[str, Any], dtype: Any) -> Array | None:
        """Weights of rows with encoded targets y."""

    @abstractmethod
    def _output(self, y: Array, state: dict[str, Any]) -> tuple[int, str, Loss]:
        """Units of the output layer, its activation as scikit-learn calls it, and the loss."""

    @abstractmethod
    def _targets(self, y: Array, loss: Loss, dtype: Any) -> Array:
        """What the loss takes for encoded targets."""

    @abstractmethod
    def _predictions(self, outputs: Array, state: dict[str, Any]) -> Array:
        """Predictions from the network's outputs."""

    @abstractmethod
    def _outputs_score(self, held_out: Rows, state: dict[str, Any]) -> Callable[[Array], float]:
        """The score of outputs for these rows that early stopping goes by without ``scoring``.

        The value that scikit-learn's metric has for predictions, without its validation: 0.8 of the 2.6 ms that an
        epoch of digits took.
        """

    # -----------------------------------------------------------------------------------------------------------------
    # Fitting

    def _fit(self, X: Any, y: Any, sample_weight: Any, incremental: bool, validation: tuple[Any, Any, Any]) -> Self:
        with self._whole_or_as_before() as use:
            use.begun = True
            if self.dtype is not None:
                real_dtype(self.dtype)
            if incremental:  # scikit-learn's wrapper looks at the parameters in the first call alone
                self._validate_params()
            if incremental and self._has_stopped(validation):
                return self
            y, sample_weight = on_the_host(self, y=y, sample_weight=sample_weight)
            given = {"X": X, "y": y, "metadata": None if sample_weight is None else {"sample_weight": sample_weight}}
            first_pass = not hasattr(self, "coefs_") or (not self.warm_start and not incremental)
            sizes = layer_sizes(self.hidden_layer_sizes)
            check_solver(self, len(sizes))
            X, y, state = self._validate_input(X, y, incremental, reset=first_pass)
            rows = Rows(X, y, self._row_weights(sample_weight, "sample_weight", y, state, X.dtype))
            held_out, scoring_rows = self._held_out(validation, state, X.dtype)
            backend = training_backend(
                self, X, *(() if held_out is None else (held_out.X,)), says=first_pass or not incremental
            )
            context = self._init_callback_context(
                "partial_fit" if incremental else "fit", max_subtasks=1 if incremental else self.max_iter
            )
            context.call_on_fit_task_begin(estimator=self, **given)
            rng = as_random_state(self.random_state)
            trainer = self._trainer(rows, sizes, state, rng, first_pass, incremental, backend)
            model = trainer.model
            listeners: list[Callback] = []
            if hasattr(self, "_skl_callbacks"):
                listeners.append(SklearnCallbacks(self, context, given, lambda: self._attributes(model, state)))
            listeners += as_listeners(() if self.callbacks is None else self.callbacks)
            if isinstance(self.verbose, str):
                listeners.append(ProgressBar())
            with training(trainer), ExitStack() as closing:
                for listener in listeners:
                    closing.callback(listener.on_close, trainer)
                if self.solver == "lbfgs":
                    self._fit_lbfgs(trainer, rows, held_out, state, listeners)
                else:
                    self._fit_stochastic(
                        trainer, rows, held_out, scoring_rows, state, first_pass, incremental, listeners
                    )
            check_outcome(self, model, state, rows, held_out, partial=incremental)
            replace_fitted(self, self._attributes(model, state))
            context.call_on_fit_task_end(estimator=self, **given, reconstruction_attributes={})
            return self

    def _has_stopped(self, validation: tuple[Any, Any, Any]) -> bool:
        """Whether early stopping has brought partial_fit to its end."""
        stopped = self.early_stopping and getattr(self, "_best_weights", None) is not None and self.stopped_early_
        return stopped and validation[0] is not None

    @contextmanager
    def _whole_or_as_before(self) -> Iterator[Use]:
        """An error within the block leaves all attributes as they were; validation writes some of them down early."""
        attributes = self.__dict__
        with alone(self) as use:
            before = attributes.copy()
            try:
                yield use
            except BaseException:
                kept = {name: attributes[name] for name in CALLBACK_STATE if name in attributes}  # to be torn down yet
                attributes.clear()
                attributes.update(before | kept)
                raise

    @staticmethod
    def _attributes(model: Sequential, state: dict[str, Any]) -> dict[str, Any]:
        """What the estimator has when the training ends with this model."""
        return {**state, **fitted_arrays(model)}

    def _held_out(self, given: tuple[Any, Any, Any], state: dict[str, Any], dtype: Any) -> tuple[Rows | None, Any]:
        """Validation rows that the caller gave, checked, and as they were given."""
        X, y, sample_weight = given
        if X is None:
            if y is not None or sample_weight is not None:
                raise ValueError("y_val and sample_weight_val go with X_val, which is None: give all of them, or none")
            return None, None
        if y is None:
            raise ValueError("y_val must have a target for each row of X_val, got None: pass y_val beside X_val")
        y, sample_weight = on_the_host(self, y_val=y, sample_weight_val=sample_weight)
        checked = checked_rows(self, X, "X_val", dtype=dtype)
        encoded = self._encode(y, "y_val", state, dtype)
        if len(encoded) != checked.shape[0]:
            raise ValueError(
                f"y_val must have a target for each of the {checked.shape[0]} rows of X_val, got {len(encoded)}"
            )
        weights = self._row_weights(sample_weight, "sample_weight_val", encoded, state, dtype)
        return Rows(checked, encoded, weights), (X, y)

    def _row_weights(self, given: Any, name: str, y: Array, state: dict[str, Any], dtype: Any) -> Array | None:
        """What rows with encoded targets y count for: their sample weights, times those of their classes."""
        weights = self._weights(checked_weights(given, name, y, dtype), y, state, dtype)
        return None if weights is None else usable_weights(weights, self._weights_name(name, given is not None))

    def _weights_name(self, name: str, given: bool) -> str:
        by_class = ["class_weight"] if getattr(self, "class_weight", None) is not None else []
        return " times ".join([name] * (given or not by_class) + by_class)

    def _trainer(
        self, rows: Rows, sizes: list[int], state: dict[str, Any], rng: Any, first_pass: bool, incremental: bool,
        backend: tuple[str, str],
    ) -> Trainer:  # fmt: skip
        """The network as it is described now, with weights drawn or those of before."""
        n_outputs, out_activation, loss = self._output(rows.y, state)
        widths, dtype = [rows.X.shape[1], *sizes, n_outputs], rows.X.dtype
        layers = described(self, sizes, Dense(n_outputs, self._link(out_activation, state)))
        if first_pass:
            parameters = drawn(self, check_size(network_of(layers, widths[0], dtype)[0]), rng)
        else:
            check_goes_on(self, widths, out_activation, state.get("_n_targets"))
            parameters = [array.astype(dtype) for array in fitted_parameters(self)]
        state |= {"n_layers_": len(widths), "out_activation_": out_activation, "_description": description(self)}
        state["t_"] = 0 if first_pass else getattr(self, "t_", 0)
        state["n_outputs_"] = n_outputs
        optimizer, model = optimizer_of(self), Sequential._with_weights(layers, parameters)
        trainer = Trainer(
            model, loss=loss, optimizer=optimizer, n_threads=threads_of(self.n_jobs, backend[0]), random_state=rng,
            on_divergence="ignore", backend=backend[0], precision=backend[1],
        )  # fmt: skip
        if model._described.has(DROPOUT):
            if incremental and not first_pass:  # the masks go on, as the count of steps does
                trainer._mask_seed = getattr(self, "_mask_seed", trainer._mask_seed)
            state["_mask_seed"] = trainer._mask_seed
        return trainer

    def _link(self, out_activation: str, state: dict[str, Any]) -> str:
        """The activation that the kernels apply to the outputs."""
        return out_activation

    def _data(self, rows: Rows, loss: Loss) -> Data:
        return rows.X, self._targets(rows.y, loss, rows.X.dtype), rows.weights

    def _fit_lbfgs(
        self, trainer: Trainer, rows: Rows, held_out: Rows | None, state: dict[str, Any], listeners: list[Callback]
    ) -> None:
        validation = None if held_out is None else self._data(held_out, trainer.loss)
        loss, n_iter, history = minimize_lbfgs(
            trainer, self._data(rows, trainer.loss), validation, listeners,
            alpha=float(self.alpha), tol=float(self.tol), max_iter=int(self.max_iter), max_fun=int(self.max_fun),
        )  # fmt: skip
        state |= {"n_iter_": n_iter, "loss_": loss, "history_": history, "stopped_early_": False}
        state["validation_loss_curve_"] = None if held_out is None else history["val_loss"]
        if history.interrupted:
            warnings.warn("Training interrupted by user.", stacklevel=users_level())

    def _fit_stochastic(
        self,
        trainer: Trainer,
        rows: Rows,
        held_out: Rows | None,
        scoring_rows: Any,
        state: dict[str, Any],
        first_pass: bool,
        incremental: bool,
        listeners: list[Callback],
    ) -> None:
        model, score = trainer.model, None
        if self.early_stopping:
            if held_out is None:
                if incremental:
                    raise ValueError(
                        "partial_fit does not support early_stopping=True without validation rows: give X_val and y_val"
                    )
                # multilabel and multioutput targets are not stratified
                stratify = is_classifier(self) and rows.y.shape[1] == 1
                names = state["classes_"] if stratify else None
                rows, held_out = split(rows, float(self.validation_fraction), trainer._rng, names)
                for part, which in ((rows, "trained on"), (held_out, "held out by early_stopping=True")):
                    if part.weights is not None:
                        usable_weights(part.weights, f"{self._weights_name('sample_weight', True)} of the rows {which}")
            score = self._score(model, held_out, scoring_rows, state)
        n_samples = rows.X.shape[0]
        batch_size = min(200, n_samples) if self.batch_size == "auto" else int(self.batch_size)
        if batch_size > n_samples:
            warnings.warn(
                f"Got `batch_size` {batch_size} larger than sample size {n_samples}. It is going to be clipped",
                stacklevel=users_level(),
            )
        if min(batch_size, n_samples) == 1 and model._described.has(BATCH_NORM):
            raise ValueError(
                f"normalization='batch' needs batches of at least 2 rows, since one sample has no variance: got "
                f"n_samples={n_samples} and batch_size={batch_size}; normalization='layer' takes single rows"
            )
        check_row_weights(model._described, rows.weights)
        check_schedule(trainer, held_out is not None, incremental)
        if incremental and hasattr(self, "_optimizer_state"):
            go_on(trainer, self.solver, *self._optimizer_state)
        progress = Progress(self, state, n_samples, score, held_out is not None, first_pass, incremental)
        history = train(
            trainer,
            self._data(rows, trainer.loss),
            None if held_out is None else self._data(held_out, trainer.loss),
            1 if incremental else int(self.max_iter),
            min(batch_size, n_samples),
            self.shuffle,
            [progress, *listeners],
        )
        if history.interrupted:
            warnings.warn("Training interrupted by user.", stacklevel=users_level())
        progress.finish(trainer, history)

    def _score(self, model: Sequential, held_out: Rows, given: Any, state: dict[str, Any]) -> Score | None:
        """What early stopping scores the validation rows with; None for their loss."""
        if self.scoring == "loss":
            return None
        if self.scoring is not None:
            X, y = (held_out.X, self._decode(held_out.y, state)) if given is None else given
            return scored_by(self, self.scoring, (X, y), held_out, model)
        return scored_by_outputs(self, model, held_out.X, self._outputs_score(held_out, state))

    # -----------------------------------------------------------------------------------------------------------------
    # Prediction

    def _outputs(self, X: Any, raw: bool = False) -> Array:
        """Outputs of the fitted network, (n_samples, n_outputs); before the output activation where ``raw``."""
        check_is_fitted(self, "coefs_")
        parameters = fitted_parameters(self)
        dtypes = {getattr(array, "dtype", None) for array in parameters}
        if len(dtypes) != 1 or not dtypes <= {np.dtype(np.float32), np.dtype(np.float64)}:
            raise ValueError(
                "coefs_ and intercepts_ must be arrays of float32 or float64, all of one dtype, got "
                f"{', '.join(map(str, dtypes))}"
            )
        plain = is_plain_matrix(self, X, parameters[0])
        X = as_rows(X) if plain else checked_rows(self, X, dtype=parameters[0].dtype, converts=False)
        there = fitted(self)
        X, dtype = in_dtype(X, parameters[0].dtype, there.dtype is not None)
        parameters = [array.astype(dtype, copy=False) for array in parameters]
        network = prediction_network(there, self._widths, self._link(self.out_activation_, self.__dict__), dtype)
        if [array.shape for array in parameters] != network.shapes or X.shape[1] != network.widths[0]:
            raise ValueError(
                f"coefs_ and intercepts_ do not fit together or X, which has {X.shape[1]} features: coefs_ have the "
                f"shapes {[W.shape for W in self.coefs_]}, intercepts_ {[b.shape for b in self.intercepts_]}; fit anew"
            )
        backend, precision = prediction_backend(self, network, X)
        n_threads = threads_of(self.n_jobs, backend)
        return get_backend(backend).predict(network, parameters, X, raw=raw, n_threads=n_threads, precision=precision)

    @property
    def _widths(self) -> tuple[int, ...]:
        """Of X, of each hidden layer and of the outputs, by the fitted biases."""
        return (len(self.coefs_[0]), *(len(b) for b in self.intercepts_))

    def _fitted_model(self) -> Sequential:
        """The fitted network with all its layers, on the estimator's own arrays."""
        check_is_fitted(self, "coefs_")
        output = Dense(len(self.intercepts_[-1]), self._link(self.out_activation_, self.__dict__))
        return Sequential._with_weights(described(fitted(self), self._widths[1:-1], output), fitted_parameters(self))

    def _training_dtype(self, goes_on: bool) -> Any:
        """What ``validate_data`` makes of X: where a training goes on, the type of the weights."""
        if goes_on:
            return self.coefs_[0].dtype
        return (np.float64, np.float32) if self.dtype is None else np.dtype(self.dtype)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _check_solver(self) -> bool:
        if not isinstance(self.solver, Optimizer) and self.solver not in STOCHASTIC_SOLVERS:
            raise AttributeError(
                f"partial_fit is only available for stochastic optimizers. {self.solver} is not stochastic."
            )
        return True
