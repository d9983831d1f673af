"""What parameters of both estimators may be, beyond types: scikit-learn's constraints and those of our own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.metrics import get_scorer_names
from sklearn.utils._param_validation import Interval, Options, StrOptions

from fastbp._arrays import limited
from fastbp._validation import scalar
from fastbp._words import counted, shown
from fastbp.kernels.layout import RECTIFIERS
from fastbp.optimizers import SGD, Adagrad, Adam, AdamW, Lion, NAdam, Optimizer, RMSprop
from fastbp.schedules import ReduceOnPlateau, is_scheduled

THEIR_ACTIVATIONS = {"identity", "logistic", "tanh", "relu"}  # scikit-learn's
HIDDEN_ACTIVATIONS = THEIR_ACTIVATIONS | set(RECTIFIERS)
STOCHASTIC_SOLVERS = ("sgd", "adam", "rmsprop", "adagrad", "adamw", "nadam", "lion")


CONSTRAINTS: dict[str, list[Any]] = {
    "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
    "activation": [StrOptions(HIDDEN_ACTIVATIONS), list, tuple],
    "solver": [StrOptions({"lbfgs", *STOCHASTIC_SOLVERS}), Optimizer],
    "alpha": [Interval(Real, 0, None, closed="left")],
    "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
    "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"}), ReduceOnPlateau, callable],
    "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
    "power_t": [Interval(Real, 0, None, closed="left")],
    "max_iter": [Interval(Integral, 1, None, closed="left")],
    "shuffle": ["boolean"],
    "random_state": ["random_state"],
    "tol": [Interval(Real, 0, None, closed="left")],
    "verbose": ["verbose", StrOptions({"progress"})],
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
    "scoring": [StrOptions({"loss", *get_scorer_names()}), callable, None],
    "n_jobs": [Interval(Integral, 1, None, closed="left"), Interval(Integral, None, -1, closed="right"), None],
    "dtype": [str, type, np.dtype, None],  # which of them: see real_dtype
    "callbacks": ["array-like", None],
    "clip_norm": [Interval(Real, 0, None, closed="neither"), None],
    "dropout": [Interval(Real, 0, 1, closed="left"), "array-like"],
    "normalization": [StrOptions({"batch", "layer"}), None],
    "residual": ["boolean"],
    "device": [StrOptions({"cpu", "cuda", "auto"})],
    "precision": [StrOptions({"float32", "tf32"})],
}


def layer_sizes(sizes: Any) -> list[int]:
    """Units of each hidden layer."""
    sizes = scalar(sizes)
    expected = "hidden_layer_sizes must be > 0, whole numbers of units"
    given = limited(sizes, expected) if hasattr(sizes, "__iter__") else [sizes]
    if isinstance(sizes, Set | Mapping):
        raise ValueError(f"{expected} in the order of the layers, which a {type(sizes).__name__} has not; give a tuple")
    if any(isinstance(n, bool | np.bool_) or not isinstance(n, Integral) or n <= 0 for n in given):
        raise ValueError(f"{expected}, got {shown(given)}.")
    return [int(n) for n in given]


def layer_activations(activation: str | Sequence[str], n_layers: int) -> list[str]:
    """The activation of each hidden layer, from one name for all or one for each."""
    if isinstance(activation, str):
        return [activation] * n_layers
    for name in activation:
        if not isinstance(name, str) or name not in HIDDEN_ACTIVATIONS:
            raise ValueError(f"activation must hold names among {sorted(HIDDEN_ACTIVATIONS)}, got {name!r}")
    if len(activation) != n_layers:
        raise ValueError(
            f"activation has {counted(len(activation), 'name')} for {counted(n_layers, 'hidden layer')}: give one name "
            "for all, or one for each"
        )
    return list(activation)


def optimizer_of(estimator: Any) -> Optimizer:
    """The optimizer that ``solver`` and the parameters beside it stand for.

    ``alpha`` is scikit-learn's penalty, but for AdamW and Lion, which stand for a decay apart from the gradient.
    """
    solver, alpha, scheduled = estimator.solver, estimator.alpha, is_scheduled(estimator.learning_rate)
    rate = estimator.learning_rate if scheduled else estimator.learning_rate_init
    if isinstance(solver, Optimizer):
        given = {} if estimator.clip_norm is None else {"clip_norm": estimator.clip_norm}
        given |= {"learning_rate": rate} if scheduled else {}
        return replace(solver, **given) if given else solver
    adam = {"beta_1": estimator.beta_1, "beta_2": estimator.beta_2, "epsilon": estimator.epsilon}
    penalty = {"l2": alpha, "convention": "scikit-learn", "clip_norm": estimator.clip_norm}
    decay = {"weight_decay": alpha, "clip_norm": estimator.clip_norm}
    match solver:
        case "sgd":
            nesterov = bool(estimator.nesterovs_momentum)
            return SGD(rate, momentum=estimator.momentum, nesterov=nesterov, **penalty)
        case "rmsprop":
            return RMSprop(rate, epsilon=estimator.epsilon, **penalty)
        case "adagrad":
            return Adagrad(rate, epsilon=estimator.epsilon, **penalty)
        case "adamw":
            return AdamW(rate, **adam, **decay)
        case "nadam":
            return NAdam(rate, **adam, **penalty)
        case "lion":
            return Lion(rate, **decay)
    return Adam(rate, **adam, **penalty)
