"""Layers: frozen descriptions of what a network is made of. The arithmetic is in ``fastbp.kernels``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

from fastbp._arrays import limited
from fastbp._validation import one_of, other_name, real_number, whole_number
from fastbp._words import shown
from fastbp.initializers import Constant, Initializer, checked_bias_initializer, checked_initializer

ACTIVATIONS = (
    "identity", "relu", "leaky_relu", "elu", "selu", "gelu", "gelu_tanh", "silu", "mish", "softplus", "logistic",
    "tanh", "exp", "softmax",
)  # fmt: skip
MOST_LAYERS = 10**5  # a generator of more may have no end
_OTHER_NAMES = {"sigmoid": "logistic", "linear": "identity", "swish": "silu"}


def activation_name(name: str | None) -> str:
    """The one name of an activation: ``"sigmoid"`` is ``"logistic"``, ``"swish"`` is ``"silu"``.

    ``"linear"`` and None are ``"identity"``.

    >>> activation_name("sigmoid")
    'logistic'
    """
    name = "identity" if name is None else name
    return one_of(other_name(name, _OTHER_NAMES), ACTIVATIONS, "activation")


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
        object.__setattr__(self, "initializer", checked_initializer(self.initializer))
        object.__setattr__(self, "bias_initializer", checked_bias_initializer(self.bias_initializer))


@dataclass(frozen=True)
class Dropout:
    """In training each value becomes 0 with probability ``rate``, and all others are divided by 1 - rate.

    In a prediction nothing happens: the expectation is the same. A rate of 0 is no layer to the training: nothing is
    computed or drawn for it. The mask of a step is drawn by counting, from the
    trainer's random state, the step, the layer, the row of X and the column: it is the same on any number of threads.

    Parameters
    ----------
    rate : float, default=0.5
        From 0 to below 1.

    Raises
    ------
    TypeError, ValueError
        For another rate.

    References
    ----------
    Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", 2014.

    Examples
    --------
    >>> from fastbp import Dense, Dropout, Sequential
    >>> model = Sequential([Dropout(0.2), Dense(8, "relu"), Dropout(), Dense(3)], n_features=5, random_state=0)
    >>> len(model.get_weights())
    4
    """

    rate: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "rate", real_number(self.rate, "rate", below=1))


@dataclass(frozen=True)
class BatchNorm:
    """A = f(gamma x^ + beta), x^ = (x - mean) / sqrt(variance + epsilon) by columns of the batch.

    Predictions take running statistics instead: running += momentum (new - running) after each step, the variance
    unbiased, as in PyTorch. Batches must have at least 2 rows; a last one of 1 row gives x^ = 0 and leaves the running
    statistics as they are.

    Parameters
    ----------
    activation : str, default="identity"
        f, as in :class:`Dense`: a normalisation usually stands between the weights and their activation.
    momentum : float, default=0.1
        Share of a batch in the running statistics, from 0 to 1.
    epsilon : float, default=1e-5
        Above 0.

    Raises
    ------
    TypeError, ValueError
        For an unknown activation or a number out of its range.

    Notes
    -----
    A row counts in the statistics as it counts in the mean of the loss, by its weight w:

        mean = sum w x / sum w,  variance = sum w (x - mean)^2 / sum w

    w is the sample weight, for integer labels times the class weight of the loss; an estimator's class weights are
    weights of samples. Class weights of soft targets and of a sigmoid weigh outputs and not rows: they are not in w. So
    a row of weight 0 has no influence, and one of weight 2 that of two rows. PyTorch weighs neither samples nor classes
    here: without weights the numbers are the same.

    The running variance is N / (N - 1) times that of the batch, where N is the larger one of sum w and the number of
    rows with a weight above 0: weights may be given in any unit. A batch with N below 2, one row of weight 1 for
    example, gives x^ = 0 and leaves the running statistics as they are.

    References
    ----------
    Ioffe & Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift",
    2015.

    Examples
    --------
    Its arrays are gamma, beta, the running mean and the running variance:

    >>> from fastbp import BatchNorm, Dense, Sequential
    >>> model = Sequential([Dense(8), BatchNorm("relu"), Dense(3)], n_features=5, random_state=0)
    >>> [w.shape for w in model.get_weights()]
    [(5, 8), (8,), (8,), (8,), (8,), (8,), (8, 3), (3,)]
    """

    activation: str = "identity"
    momentum: float = 0.1
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        object.__setattr__(self, "activation", activation_name(self.activation))
        object.__setattr__(self, "momentum", real_number(self.momentum, "momentum"))
        if self.momentum > 1:
            raise ValueError(f"momentum must be a number from 0 to 1, got {self.momentum!r}")
        object.__setattr__(self, "epsilon", real_number(self.epsilon, "epsilon", positive=True))


@dataclass(frozen=True)
class LayerNorm:
    """A = f(gamma x^ + beta), x^ = (x - mean) / sqrt(variance + epsilon) by rows: the same in training and prediction.

    Parameters
    ----------
    activation : str, default="identity"
        f, as in :class:`Dense`.
    epsilon : float, default=1e-5
        Above 0.

    Raises
    ------
    TypeError, ValueError
        For an unknown activation or a number out of its range.

    References
    ----------
    Ba, Kiros & Hinton, "Layer Normalization", 2016.

    Examples
    --------
    >>> from fastbp import Dense, LayerNorm, Sequential
    >>> model = Sequential([Dense(8), LayerNorm("tanh"), Dense(3)], n_features=5, random_state=0)
    >>> [w.shape for w in model.get_weights()]  # W1, b1, gamma1, beta1, W2, b2
    [(5, 8), (8,), (8,), (8,), (8, 3), (3,)]
    """

    activation: str = "identity"
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        object.__setattr__(self, "activation", activation_name(self.activation))
        object.__setattr__(self, "epsilon", real_number(self.epsilon, "epsilon", positive=True))


@dataclass(frozen=True)
class Residual:
    """A = f(block(x) + x): layers with a connection that skips them.

    Where the block's output is wider or narrower than x, x goes through weights of its own, x W + b, instead: a
    projection, whose arrays come after the block's.

    Parameters
    ----------
    layers : sequence of layers
        The block, at least one; it may hold further blocks.
    activation : str, default="identity"
        f, as in :class:`Dense`.
    initializer : str, Constant or callable, default="glorot_uniform"
        Of the projection.

    Raises
    ------
    TypeError, ValueError
        For what is not a layer, an empty block, or an unknown name.

    References
    ----------
    He et al., "Deep Residual Learning for Image Recognition", 2016.

    Examples
    --------
    >>> from fastbp import Dense, LayerNorm, Residual, Sequential
    >>> block = Residual([LayerNorm(), Dense(8, "relu"), Dense(8)])
    >>> Sequential([Dense(8, "relu"), block, block, Dense(3)], n_features=5, random_state=0)
    <Sequential 5-8-8-8-8-8-8-8-8-8-3, 395 parameters, float32>
    """

    layers: tuple[Any, ...]
    activation: str = "identity"
    initializer: str | Initializer = "glorot_uniform"

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", as_layers(self.layers, "layers of a Residual"))
        object.__setattr__(self, "activation", activation_name(self.activation))
        object.__setattr__(self, "initializer", checked_initializer(self.initializer))


Layer = Dense | Dropout | BatchNorm | LayerNorm | Residual


def as_layers(layers: Any, name: str) -> tuple[Layer, ...]:
    """A sequence of layers as a tuple, at least one.

    Raises
    ------
    TypeError, ValueError
        Naming what is none.
    """
    known = "fastbp.Dense, Dropout, BatchNorm, LayerNorm or Residual"
    layers = limited(layers, f"{name} must be a sequence of {known}", most=MOST_LAYERS)
    if not layers:
        raise ValueError(f"{name} must hold at least one layer, got none")
    for k, layer in enumerate(layers):
        if type(layer) not in get_args(Layer):
            of_own = isinstance(layer, Layer)  # which neither a file nor a summary would know
            raise TypeError(
                f"{name}: number {k} must be a {known}{', and not of a subclass' * of_own}, got {shown(layer)}"
                + ": write a function that returns such layers" * of_own
            )
    return tuple(layers)
