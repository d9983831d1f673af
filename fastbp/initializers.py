"""Initial weights: functions of a random state, the two sizes of a layer and its activation.

Glorot & Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010, keep the variance of
activations and of deltas: Var W = 2 / (fan_in + fan_out). He et al., "Delving Deep into Rectifiers", 2015, allow for
the half that a ReLU takes away: Var W = 2 / fan_in.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastbp._validation import Array

Initializer = Callable[[np.random.RandomState, int, int, str], tuple[Array, Array]]


def glorot_uniform(rng: np.random.RandomState, fan_in: int, fan_out: int, activation: str) -> tuple[Array, Array]:
    """W uniform within sqrt(6 / (fan_in + fan_out)), b = 0."""
    bound = np.sqrt(6 / (fan_in + fan_out))
    return rng.uniform(-bound, bound, (fan_in, fan_out)), np.zeros(fan_out)


def glorot_normal(rng: np.random.RandomState, fan_in: int, fan_out: int, activation: str) -> tuple[Array, Array]:
    """W normal with variance 2 / (fan_in + fan_out), b = 0."""
    return rng.normal(0, np.sqrt(2 / (fan_in + fan_out)), (fan_in, fan_out)), np.zeros(fan_out)


def he_uniform(rng: np.random.RandomState, fan_in: int, fan_out: int, activation: str) -> tuple[Array, Array]:
    """W uniform within sqrt(6 / fan_in), b = 0."""
    bound = np.sqrt(6 / fan_in)
    return rng.uniform(-bound, bound, (fan_in, fan_out)), np.zeros(fan_out)


def he_normal(rng: np.random.RandomState, fan_in: int, fan_out: int, activation: str) -> tuple[Array, Array]:
    """W normal with variance 2 / fan_in, b = 0."""
    return rng.normal(0, np.sqrt(2 / fan_in), (fan_in, fan_out)), np.zeros(fan_out)


def scikit_learn(rng: np.random.RandomState, fan_in: int, fan_out: int, activation: str) -> tuple[Array, Array]:
    """W, then b, uniform within sqrt(6 / (fan_in + fan_out)), or sqrt(2 / ...) for logistic: scikit-learn's draws."""
    bound = np.sqrt((2 if activation == "logistic" else 6) / (fan_in + fan_out))
    return rng.uniform(-bound, bound, (fan_in, fan_out)), rng.uniform(-bound, bound, fan_out)


INITIALIZERS: dict[str, Initializer] = {
    function.__name__: function for function in (glorot_uniform, glorot_normal, he_uniform, he_normal, scikit_learn)
}
