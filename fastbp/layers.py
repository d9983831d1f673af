"""Layers: frozen descriptions of what a network is made of. The arithmetic is in ``fastbp.kernels``."""

from __future__ import annotations

from dataclasses import dataclass

from fastbp._validation import one_of, whole_number
from fastbp.initializers import Constant, Initializer, checked_bias_initializer, checked_initializer

ACTIVATIONS = (
    "identity", "relu", "leaky_relu", "elu", "selu", "gelu", "gelu_tanh", "silu", "mish", "softplus", "logistic",
    "tanh", "exp", "softmax",
)  # fmt: skip
_OTHER_NAMES = {"sigmoid": "logistic", "linear": "identity", "swish": "silu"}


def activation_name(name: str | None) -> str:
    """The one name of an activation: ``"sigmoid"`` is ``"logistic"``, ``"swish"`` is ``"silu"``.

    ``"linear"`` and None are ``"identity"``.

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
        f: ``"identity"`` (also ``"linear"``), ``"relu"``, ``"leaky_relu"`` (0.01 z where z is negative), ``"elu"``
        (e^z - 1 there), ``"selu"`` (the same, scaled), ``"gelu"`` (z times the normal distribution at z, exact),
        ``"gelu_tanh"`` (its approximation by tanh), ``"silu"`` (z times the logistic function; also ``"swish"``),
        ``"mish"`` (z tanh(softplus(z))), ``"softplus"`` (ln(1 + e^z)), ``"logistic"`` (also ``"sigmoid"``),
        ``"tanh"``, ``"exp"`` (e^z, for positive outputs), or, for the last layer only, ``"softmax"``.
    initializer : str, Constant or callable, default="glorot_uniform"
        How W and b are drawn: ``"glorot_uniform"``, ``"glorot_normal"``, ``"he_uniform"``, ``"he_normal"``,
        ``"lecun_uniform"``, ``"lecun_normal"``, ``"orthogonal"``, ``"zeros"``, a
        :class:`fastbp.initializers.Constant` (b is 0 in all of these), or ``"scikit_learn"`` (which draws b too); see
        :mod:`fastbp.initializers`. A function is called with a RandomState, fan_in, fan_out and the activation, and
        returns W and b; a model with one can be trained, but its description cannot be saved.
    bias_initializer : None, "zeros" or Constant, default=None
        What b starts with; None leaves that to the initializer.

    Raises
    ------
    TypeError, ValueError
        For units that are not a positive integer, or an unknown name.

    Examples
    --------
    >>> from fastbp import Dense
    >>> Dense(10, "sigmoid")
    Dense(units=10, activation='logistic', initializer='glorot_uniform', bias_initializer=None)
    """

    units: int
    activation: str = "identity"
    initializer: str | Initializer = "glorot_uniform"
    bias_initializer: str | Constant | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "units", whole_number(self.units, "units"))
        object.__setattr__(self, "activation", activation_name(self.activation))
        checked_initializer(self.initializer)
        checked_bias_initializer(self.bias_initializer)
