"""Initial weights: functions of a random state, the two sizes of a layer and its activation.

Glorot & Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010, keep the variance of
activations and of deltas: Var W = 2 / (fan_in + fan_out). He et al., "Delving Deep into Rectifiers", 2015, allow for
the half that a ReLU takes away: Var W = 2 / fan_in. LeCun et al., "Efficient BackProp", 1998, keep the variance of
activations near 0: Var W = 1 / fan_in, which selu needs (Klambauer et al., "Self-normalizing neural networks", 2017).
Saxe et al., "Exact solutions to the nonlinear dynamics of learning in deep linear neural networks", 2014, keep the
length of every vector: W orthogonal.

``Dense(initializer=...)`` takes a name, a :class:`Constant`, or a function of your own with the same arguments, which
returns W of shape (fan_in, fan_out) and b of shape (fan_out,).

>>> import numpy as np, fastbp
>>> def sparse_normal(rng, fan_in, fan_out, activation):
...     W = rng.normal(size=(fan_in, fan_out))
...     return W * (rng.uniform(size=W.shape) < 0.1), np.zeros(fan_out)
>>> layers = [fastbp.Dense(32, "relu", sparse_normal), fastbp.Dense(1, initializer="orthogonal")]
>>> model = fastbp.Sequential(layers, n_features=100, random_state=0)
>>> bool(0.05 < np.mean(model.get_weights()[0] != 0) < 0.15)
True
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastbp._arrays import NUMBERS, readable
from fastbp._validation import Array, check_real, one_of, real_number
from fastbp._words import shown

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


def lecun_uniform(rng: np.random.RandomState, fan_in: int, fan_out: int, activation: str) -> tuple[Array, Array]:
    """W uniform within sqrt(3 / fan_in), b = 0."""
    bound = np.sqrt(3 / fan_in)
    return rng.uniform(-bound, bound, (fan_in, fan_out)), np.zeros(fan_out)


def lecun_normal(rng: np.random.RandomState, fan_in: int, fan_out: int, activation: str) -> tuple[Array, Array]:
    """W normal with variance 1 / fan_in, b = 0."""
    return rng.normal(0, np.sqrt(1 / fan_in), (fan_in, fan_out)), np.zeros(fan_out)


def orthogonal(rng: np.random.RandomState, fan_in: int, fan_out: int, activation: str) -> tuple[Array, Array]:
    """W with orthonormal columns, or rows where it has fewer of them, any such W as likely as any other; b = 0.

    Q of the QR decomposition of a matrix of normal numbers, with the signs that make the diagonal of R positive:
    without them the likelihood would depend on how LAPACK chooses them. Its last bits are LAPACK's.
    """
    tall = rng.normal(size=(max(fan_in, fan_out), min(fan_in, fan_out)))
    Q, R = np.linalg.qr(tall)
    Q = Q * np.where(np.diag(R) < 0, -1.0, 1.0)
    return np.ascontiguousarray(Q if fan_in >= fan_out else Q.T), np.zeros(fan_out)


def zeros(rng: np.random.RandomState, fan_in: int, fan_out: int, activation: str) -> tuple[Array, Array]:
    """W = 0 and b = 0: for a last layer; units of a hidden one would all learn the same."""
    return np.zeros((fan_in, fan_out)), np.zeros(fan_out)


def scikit_learn(rng: np.random.RandomState, fan_in: int, fan_out: int, activation: str) -> tuple[Array, Array]:
    """W, then b, uniform within sqrt(6 / (fan_in + fan_out)), or sqrt(2 / ...) for logistic: scikit-learn's draws."""
    bound = np.sqrt((2 if activation == "logistic" else 6) / (fan_in + fan_out))
    return rng.uniform(-bound, bound, (fan_in, fan_out)), rng.uniform(-bound, bound, fan_out)


INITIALIZERS: dict[str, Initializer] = {
    function.__name__: function
    for function in (
        glorot_uniform, glorot_normal, he_uniform, he_normal, lecun_uniform, lecun_normal, orthogonal, zeros,
        scikit_learn,
    )
}  # fmt: skip


@dataclass(frozen=True)
class Constant:
    """All weights the same, b = 0; as ``bias_initializer``: all biases the same.

    Parameters
    ----------
    value : float
        A finite number.

    Raises
    ------
    TypeError, ValueError
        For what is no finite number.

    Examples
    --------
    A unit for a rare class may start at its log odds, instead of at even odds:

    >>> import math, fastbp
    >>> from fastbp.initializers import Constant
    >>> last = fastbp.Dense(1, "logistic", bias_initializer=Constant(math.log(0.01 / 0.99)))
    >>> fastbp.Sequential([last], n_features=3).predict([[0.0, 0.0, 0.0]]).round(4).tolist()
    [[0.009999999776482582]]
    """

    value: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", real_number(self.value, "value", least=-sys.float_info.max))

    def __call__(self, rng: np.random.RandomState, fan_in: int, fan_out: int, activation: str) -> tuple[Array, Array]:
        return np.full((fan_in, fan_out), self.value), np.zeros(fan_out)


def checked_initializer(value: Any) -> str | Initializer:
    """``value`` where a layer can be initialised by it."""
    if not callable(value) or isinstance(value, type):
        try:
            return one_of(value, tuple(INITIALIZERS), "initializer")
        except ValueError as error:
            raise ValueError(f"{error}; a fastbp.initializers.Constant or a function will do too") from None
    initializer: Initializer = value
    return initializer


def checked_bias_initializer(value: Any) -> str | Constant | None:
    """``value`` where a bias can be initialised by it."""
    if value is None or isinstance(value, Constant):
        return value
    with suppress(ValueError):
        return one_of(value, ("zeros",), "bias_initializer")
    raise ValueError(
        f"bias_initializer must be None, 'zeros' or a fastbp.initializers.Constant, got {shown(value)}; for other "
        "biases, let the initializer be a function that returns W and b"
    )


def layer_weights(
    initializer: str | Initializer,
    bias_initializer: str | Constant | None,
    rng: np.random.RandomState,
    shape: tuple[int, int],
    activation: str,
    dtype: np.dtype[Any],
) -> list[Array]:
    """W and b of a layer.

    Parameters
    ----------
    initializer, bias_initializer
        As :class:`fastbp.Dense` has them.
    rng : RandomState
    shape : tuple of int
        fan_in and fan_out.
    activation : str
    dtype : numpy.dtype

    Returns
    -------
    list of ndarray
        W of this shape, b of shape (fan_out,).

    Raises
    ------
    TypeError, ValueError
        For a function of the user's that returns something else, or numbers that are not finite in this dtype.
    """
    function = INITIALIZERS[initializer] if isinstance(initializer, str) else initializer
    result = function(rng, *shape, activation)
    if not isinstance(result, tuple | list) or len(result) != 2:
        raise TypeError(f"initializer {shown(initializer)} must return W and b, got {shown(result)}")
    given: list[Any] = list(result)
    if bias_initializer is not None:
        given[1] = np.full(shape[1], bias_initializer.value if isinstance(bias_initializer, Constant) else 0.0)
    arrays = []
    for name, value, expected in zip("Wb", given, (shape, shape[1:]), strict=True):
        value = readable(value, f"initializer {shown(initializer)}: {name}", NUMBERS)
        try:
            check_real(np.asarray(value))
            with np.errstate(over="ignore"):
                array = np.array(value, dtype, order="C")
        except (TypeError, ValueError, OverflowError) as error:
            raise TypeError(f"initializer {shown(initializer)}: {name} must be an array of numbers: {error}") from None
        if array.shape != expected:
            raise ValueError(
                f"initializer {shown(initializer)}: {name} must have the shape {expected}, got {array.shape}"
            )
        if not np.isfinite(array).all():
            raise ValueError(
                f"initializer {shown(initializer)}: {name} must be finite in {dtype.name}, got NaN or infinity"
            )
        arrays.append(array)
    return arrays
