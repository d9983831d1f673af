"""Losses: frozen descriptions of what is minimised. The arithmetic is in ``fastbp.kernels``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import sparse

from fastbp._arrays import NUMBERS, limited, readable
from fastbp._validation import (
    Array,
    block_labels,
    labels,
    looks_soft,
    one_of,
    other_name,
    real_array,
    real_number,
    refuse_device,
    soft_targets,
    targets,
    whole_number,
)
from fastbp._words import shown

LOSSES = (
    "softmax_cross_entropy", "sigmoid_cross_entropy", "mean_squared_error", "half_squared_error", "poisson",
    "mean_absolute_error", "huber", "quantile", "log_cosh",
)  # fmt: skip
_OTHER_NAMES = {"mse": "mean_squared_error", "mae": "mean_absolute_error"}
CONVENTIONS = ("exact", "scikit-learn")
# Losses that bring their output activation: both together have the derivative p - t
LINKS = {"softmax_cross_entropy": "softmax", "sigmoid_cross_entropy": "logistic", "poisson": "exp"}
# Other activations whose outputs they also take, as probabilities and as rates
OUTPUTS = {"sigmoid_cross_entropy": ("softmax",), "poisson": ("relu", "softplus", "logistic", "softmax")}
CROSS_ENTROPIES = ("softmax_cross_entropy", "sigmoid_cross_entropy")
# Losses that a field is for
OWNERS = {
    "label_smoothing": CROSS_ENTROPIES,
    "class_weight": CROSS_ENTROPIES,
    "delta": ("huber",),
    "level": ("quantile",),
}


@dataclass(frozen=True)
class Loss:
    """What is minimised, and how it is reported.

    Parameters
    ----------
    name : str
        With t the target, a the output, e = a - t:

        - ``"softmax_cross_entropy"``: mean over samples of -ln p_t, p = softmax(z), for integer labels t; or of
          -sum t_c ln p_c for soft targets, rows of t_c that sum to 1;
        - ``"sigmoid_cross_entropy"``: mean over samples of the sum over outputs of -t ln p - (1 - t) ln(1 - p),
          p = logistic(z), for targets t in [0, 1] (binary and multilabel);
        - ``"mean_squared_error"`` (also ``"mse"``): mean over samples and outputs of e^2;
        - ``"half_squared_error"``: mean over samples of half the sum over outputs of e^2;
        - ``"poisson"``: mean over samples of the sum over outputs of t ln(t / p) - t + p, p = e^z, for targets t >= 0
          (counts, or rates of them): half the Poisson deviance. t ln t is 0 for t = 0;
        - ``"mean_absolute_error"`` (also ``"mae"``): mean over samples and outputs of \\|e\\|;
        - ``"huber"``: mean over samples and outputs of e^2 / 2 where \\|e\\| <= delta, else of
          delta (\\|e\\| - delta / 2): that of ``torch.nn.HuberLoss``, for a large delta half of
          ``"mean_squared_error"``;
        - ``"quantile"``: mean over samples and outputs of level (t - a) where a < t, else (1 - level) (a - t): the
          pinball loss, least where a is that quantile of t;
        - ``"log_cosh"``: mean over samples and outputs of ln cosh e.

        The derivative of the absolute error and of the quantile loss at their kink, e = 0, is taken to be 0.
    convention : {"exact", "scikit-learn"}, default="exact"
        ``"exact"``: the value reported is the function whose derivative the gradient is. ``"scikit-learn"``:
        cross-entropies are reported from probabilities clipped to [eps, 1 - eps], half the squared error is averaged
        over the outputs while its gradient is not. All other losses are the same under both. In a ``History`` the loss
        of an epoch is sum(w loss) / sum(w) over its rows under ``"exact"``; under ``"scikit-learn"`` it is the mean of
        the batches' weighted means, each counted by its rows, which depends on the batches where rows have weights.

    blocks : sequence of int, default=()
        For ``"softmax_cross_entropy"`` with several labels a sample: how many classes each of them has, at least 2.
        With ``(3, 4)`` outputs 0 to 2 are the logits of the first label and outputs 3 to 6 those of the second; y has
        the shape (n_samples, 2), or (n_samples, 7) for soft targets, and the loss of a sample is the sum over its
        labels. There is no link then: the last layer has the activation ``"identity"``, predictions are logits, and
        the softmax of each block is the caller's.
    label_smoothing : float, default=0.0
        For the cross-entropies, a share s at least 0 and below 1 of each target that is spread over all classes: t
        becomes (1 - s) t + s / n for n classes of a softmax (or of a block), (1 - s) t + s / 2 for a sigmoid.
    class_weight : sequence, optional
        For ``"softmax_cross_entropy"``, without blocks, the weight w_c of each class: the terms -t_c ln p_c, of
        smoothed targets, are multiplied by it. With labels the loss is the weighted mean, over the sum of the w_t of
        the samples' labels (each times its sample weight); with soft targets it is the mean over samples (the sum of
        sample weights). Both are ``torch.nn.CrossEntropyLoss``. For ``"sigmoid_cross_entropy"`` a pair (w_0, w_1),
        for targets of 0 and of 1, or one such pair for each output: -w_1 t ln p - w_0 (1 - t) ln(1 - p), and the mean
        is over samples. That of :class:`fastbp.MLPClassifier` is something else, see the notes.
    delta : float, optional
        For ``"huber"``, above 0: 1 where it is None.
    level : float or sequence of float, optional
        For ``"quantile"``, above 0 and below 1, of all outputs or one of each: 0.5, the median, where it is None. With
        one of each, y may have a single column, which is the target of all outputs.

    Raises
    ------
    TypeError, ValueError
        For an unknown name or convention, a field that cannot be used, or one that is for another loss.

    Notes
    -----
    ``class_weight`` has two meanings, for a sample i of the class y_i with the sample weight s_i and the smoothed
    targets t_ic. Here it weighs terms, which is PyTorch's rule: for labels of a softmax
    sum_i s_i sum_c w_c (-t_ic ln p_ic) / sum_i s_i w_{y_i}. In ``MLPClassifier(class_weight=)`` it weighs samples,
    which is scikit-learn's rule: sum_i s_i w_{y_i} sum_c (-t_ic ln p_ic) / sum_i s_i w_{y_i}. For labels without
    smoothing they are the same. Smoothed targets differ: their shares of other classes have the weights of those here,
    and that of the sample's own class there. A pair for ``"sigmoid_cross_entropy"`` weighs terms too, and its
    denominator is sum_i s_i, without the class weights.

    Losses that bring no activation go with every one of the output layer. Those that do go with it or with
    ``"identity"``, which stands for it then. Beside these ``"sigmoid_cross_entropy"`` takes ``"softmax"``, and
    ``"poisson"`` takes ``"relu"``, ``"softplus"``, ``"logistic"`` and ``"softmax"``, as functions of the output p: ln p
    is taken of p clipped to at least the square root of the smallest normal number (1.1e-19 in float32, 1.5e-154 in
    float64), ln(1 - p) of 1 - p clipped to at least eps, and the derivative of what is clipped is 0.

    References
    ----------
    Huber, "Robust estimation of a location parameter", 1964. Koenker & Bassett, "Regression quantiles", 1978. Szegedy
    et al., "Rethinking the Inception architecture for computer vision", 2016 (label smoothing).

    Examples
    --------
    >>> from fastbp.losses import Loss
    >>> Loss("softmax_cross_entropy").link
    'softmax'

    Two labels a sample, of 3 and of 4 classes:

    >>> import numpy as np, fastbp
    >>> X = np.random.default_rng(0).normal(size=(200, 5))
    >>> y = np.stack([X[:, :3].argmax(axis=1), X[:, 1:].argmin(axis=1)], axis=1)
    >>> model = fastbp.Sequential([fastbp.Dense(32, "relu"), fastbp.Dense(7)], n_features=5, random_state=0)
    >>> loss = Loss("softmax_cross_entropy", blocks=(3, 4))
    >>> trainer = fastbp.Trainer(model, loss=loss, optimizer=fastbp.Adam(0.01), random_state=0)
    >>> history = trainer.fit(X, y, epochs=50)
    >>> logits = model.predict(X)
    >>> bool((logits[:, :3].argmax(axis=1) == y[:, 0]).mean() > 0.95)
    True

    The middle half of noise, by two quantiles at once:

    >>> X, y = np.ones((400, 1)), np.random.default_rng(0).normal(size=400)
    >>> model = fastbp.Sequential([fastbp.Dense(2)], n_features=1, random_state=0)
    >>> loss = Loss("quantile", level=(0.25, 0.75))
    >>> history = fastbp.Trainer(model, loss=loss, optimizer=fastbp.Adam(0.01), random_state=0).fit(X, y, epochs=50)
    >>> low, high = model.predict([[1.0]])[0]
    >>> bool(0.4 < ((low < y) & (y < high)).mean() < 0.6)
    True
    """

    name: str
    convention: str = "exact"
    blocks: tuple[int, ...] = ()
    label_smoothing: float = field(default=0.0, kw_only=True)
    class_weight: tuple[Any, ...] | None = field(default=None, kw_only=True)
    delta: float | None = field(default=None, kw_only=True)
    level: float | tuple[float, ...] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", loss_name(self.name))
        object.__setattr__(self, "convention", one_of(self.convention, CONVENTIONS, "convention"))
        given = limited(self.blocks, "blocks must be a sequence of integers of at least 2")
        blocks = tuple(whole_number(size, f"blocks[{k}]", least=2) for k, size in enumerate(given))
        if blocks and self.name != "softmax_cross_entropy":
            raise ValueError(f"blocks are for the loss 'softmax_cross_entropy', got {blocks} for {self.name!r}")
        object.__setattr__(self, "blocks", blocks)
        self._check_numbers()

    def _check_numbers(self) -> None:
        """Check the fields that belong to some losses, and give those of this one their defaults."""
        smoothing = real_number(self.label_smoothing, "label_smoothing", below=1.0)
        object.__setattr__(self, "label_smoothing", smoothing)
        for name, losses in OWNERS.items():
            value = getattr(self, name)
            if self.name not in losses and value is not None and not (name == "label_smoothing" and value == 0):
                which = " and ".join(map(repr, losses))
                raise ValueError(
                    f"{name} is for the loss{'es' * (len(losses) > 1)} {which}, got {shown(value)} for {self.name!r}"
                )
        if self.name == "huber":
            delta = 1.0 if self.delta is None else real_number(self.delta, "delta", positive=True)
            object.__setattr__(self, "delta", delta)
        if self.name == "quantile":
            object.__setattr__(self, "level", 0.5 if self.level is None else _levels(self.level))
        if self.class_weight is not None:
            if self.blocks:
                raise ValueError(
                    "class_weight is not for a loss with blocks, whose labels would each have another weighted mean: "
                    "weigh the samples instead, by sample_weight"
                )
            object.__setattr__(self, "class_weight", _class_weight(self.class_weight, self.name))

    @property
    def link(self) -> str | None:
        """The output activation that the loss brings, or None."""
        return None if self.blocks else LINKS.get(self.name)

    def check_output(self, n_outputs: int, activation: str) -> str:
        """The activation that predictions go through, for a network that ends with ``activation``.

        Raises
        ------
        ValueError
            For an output that the loss does not fit.
        """
        if self.blocks and sum(self.blocks) != n_outputs:
            raise ValueError(
                f"the loss has blocks of {', '.join(map(str, self.blocks))} outputs, {sum(self.blocks)} together: the "
                f"last layer must have as many units, got {n_outputs}"
            )
        if self.blocks and activation != "identity":
            raise ValueError(
                "a loss with blocks takes logits, and predictions are logits: the last layer must have the activation "
                f"'identity', got {activation!r}; apply the softmax to each block of the predictions"
            )
        if self.name == "softmax_cross_entropy" and n_outputs < 2:
            raise ValueError(
                "loss 'softmax_cross_entropy' needs an output for each class, at least 2, got 1: use "
                "'sigmoid_cross_entropy' for one output that tells two classes apart"
            )
        self._check_widths(n_outputs)
        if self.link is None:
            return activation
        others = OUTPUTS.get(self.name, ())
        if activation in others:
            return activation
        if activation not in ("identity", self.link):
            also = f" (it also takes the outputs of {', '.join(map(repr, others))})" if others else ""
            raise ValueError(
                f"loss {self.name!r} brings the output activation {self.link!r}: the last layer must have it or "
                f"'identity', got {activation!r}{also}"
            )
        return self.link

    def _check_widths(self, n_outputs: int) -> None:
        """Raise where there are numbers for other outputs than the network has."""
        if isinstance(self.level, tuple) and len(self.level) != n_outputs:
            raise ValueError(
                f"level has {len(self.level)} levels, one for each output: the last layer must have as many units, got "
                f"{n_outputs}"
            )
        weights = self.class_weight
        if weights is None:
            return
        if self.name == "softmax_cross_entropy" and len(weights) != n_outputs:
            raise ValueError(
                f"class_weight has {len(weights)} weights, one for each class: the last layer must have as many units, "
                f"got {n_outputs}"
            )
        if isinstance(weights[0], tuple) and len(weights) != n_outputs:
            raise ValueError(
                f"class_weight has {len(weights)} pairs, one for each output: the last layer must have as many units, "
                f"got {n_outputs}; one pair alone is for all of them"
            )

    def check_targets(self, y: Any, name: str, *, n_samples: int, n_outputs: int, dtype: Any) -> Array:
        """Targets as a backend takes them: values (n_samples, n_outputs), or intp labels (n_samples,).

        With blocks the labels are (n_samples, n_blocks).
        """
        refuse_device(y, name)
        y = readable(y, name)
        if self.name == "softmax_cross_entropy":
            if sparse.issparse(y):
                raise TypeError(f"{name} is sparse, and labels or shares of classes are wanted: pass {name}.toarray()")
            if looks_soft(y, n_outputs, bool(self.blocks)):
                return soft_targets(y, name, n_samples=n_samples, n_outputs=n_outputs, blocks=self.blocks, dtype=dtype)
            if self.blocks:
                return block_labels(y, name, n_samples=n_samples, blocks=self.blocks)
            y = labels(y, name, n_samples=n_samples, n_classes=n_outputs)
            if self.class_weight is not None and not np.asarray(self.class_weight)[y].any():
                raise ValueError(f"{name} must hold a label whose class_weight is not 0, got none")
            return y
        if isinstance(self.level, tuple):  # one column for all quantiles of it
            y = real_array(y, name, dtype=dtype, ensure_2d=False)
            y = np.repeat(y.reshape(-1, 1), n_outputs, axis=1) if y.shape in ((n_samples,), (n_samples, 1)) else y
        unit_interval = self.name == "sigmoid_cross_entropy"
        y = targets(y, name, n_samples=n_samples, n_outputs=n_outputs, dtype=dtype, unit_interval=unit_interval)
        if self.name == "poisson" and y.min() < 0:
            raise ValueError(f"{name} must be at least 0 for the loss 'poisson', got values down to {y.min()}")
        return y


def loss_name(name: Any) -> str:
    """The one name of a loss: ``"mse"`` is ``"mean_squared_error"``, ``"mae"`` is ``"mean_absolute_error"``.

    >>> loss_name("mae")
    'mean_absolute_error'
    """
    return one_of(other_name(name, _OTHER_NAMES), LOSSES, "loss")


def as_loss(loss: Any) -> Loss:
    """A loss by name, or as it is."""
    return loss if isinstance(loss, Loss) else Loss(loss)


def _levels(value: Any) -> float | tuple[float, ...]:
    """A level, or one for each output."""
    if isinstance(value, str) or not isinstance(value, Iterable) or (isinstance(value, np.ndarray) and not value.ndim):
        return real_number(value, "level", positive=True, below=1.0)
    given = limited(value, "level must be a number, or one for each output")
    levels = tuple(real_number(one, f"level[{k}]", positive=True, below=1.0) for k, one in enumerate(given))
    if not levels:
        raise ValueError("level must be a number, or one for each output, got none")
    return levels


def _class_weight(value: Any, loss: str) -> tuple[Any, ...]:
    """Weights of classes as floats: one a class, or pairs for targets of 0 and 1."""
    softmax = loss == "softmax_cross_entropy"
    expected = "a number for each class" if softmax else "a pair, for targets of 0 and of 1, or one for each output"
    if isinstance(value, str | dict) or not isinstance(value, Iterable):
        raise TypeError(f"class_weight must be a sequence, {expected}, got {shown(value)}")
    value = readable(value, "class_weight", NUMBERS)
    weights = real_array(value, "class_weight", dtype=np.float64, ensure_2d=False)
    fits = weights.ndim == 1 and len(weights) > 1 if softmax else weights.shape[-1] == 2 and weights.ndim <= 2
    if not fits or not weights.size:
        raise ValueError(f"class_weight must hold {expected}, got an array of shape {weights.shape}")
    if weights.min() < 0 or weights.max() == 0:
        raise ValueError(
            f"class_weight must be at least 0 and not all 0, got values from {weights.min()} to {weights.max()}"
        )
    rows = weights.tolist()
    return tuple(tuple(row) if isinstance(row, list) else row for row in rows)
