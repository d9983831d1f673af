"""Layers: frozen descriptions of what a network is made of. The arithmetic is in ``fastbp.kernels``."""

from __future__ import annotations

from dataclasses import dataclass

from fastbp._validation import one_of, whole_number
from fastbp.initializers import INITIALIZERS

ACTIVATIONS = (
    "identity", "relu", "leaky_relu", "elu", "selu", "gelu", "gelu_tanh", "silu", "mish", "softplus", "logistic",
    "tanh", "exp", "softmax",
)  # fmt: skip
_OTHER_NAMES = {"sigmoid": "logistic", "linear": "identity", "swish": "silu"}


def activation_name(name: str | None) -> str:
    """The one name of an activation: ``"sigmoid"`` is ``"logistic"``, ``"linear"`` and None are ``"identity"``.

    >>> activation_name("sigmoid")
    'logistic'
    """
    name = "identity" if name is None else name
    name = _OTHER_NAMES.get(name, name) if isinstance(name, str) else name
    return one_of(name, ACTIVATIONS, "activation")


@dataclass(frozen=True)
class Dense:
    """A layer in which every unit sees every input: A = f(X W + b).

    Parameters
    ----------
    units : int
        Outputs, at least 1.
    activation : str, default="identity"
        f: ``"identity"`` (also ``"linear"``), ``"relu"``, ``"logistic"`` (also ``"sigmoid"``), ``"tanh"``, ``"exp"``
        (e^z, for positive outputs), or, for the last layer only, ``"softmax"``.
    initializer : str, default="glorot_uniform"
        How W and b are drawn: ``"glorot_uniform"``, ``"glorot_normal"``, ``"he_uniform"``, ``"he_normal"`` (b is 0), or
        ``"scikit_learn"``; see :mod:`fastbp.initializers`.

    Raises
    ------
    TypeError, ValueError
        For units that are not a positive integer, or an unknown name.

    Examples
    --------
    >>> from fastbp import Dense
    >>> Dense(10, "sigmoid")
    Dense(units=10, activation='logistic', initializer='glorot_uniform')
    """

    units: int
    activation: str = "identity"
    initializer: str = "glorot_uniform"

    def __post_init__(self) -> None:
        object.__setattr__(self, "units", whole_number(self.units, "units"))
        object.__setattr__(self, "activation", activation_name(self.activation))
        one_of(self.initializer, tuple(INITIALIZERS), "initializer")
