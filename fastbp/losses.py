"""Losses: frozen descriptions of what is minimised. The arithmetic is in ``fastbp.kernels``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastbp._validation import Array, block_labels, labels, one_of, targets, whole_number

LOSSES = ("softmax_cross_entropy", "sigmoid_cross_entropy", "mean_squared_error", "half_squared_error", "poisson")
CONVENTIONS = ("exact", "scikit-learn")
# Losses that bring their output activation: both together have the derivative p - t
LINKS = {"softmax_cross_entropy": "softmax", "sigmoid_cross_entropy": "logistic", "poisson": "exp"}


@dataclass(frozen=True)
class Loss:
    """What is minimised, and how it is reported.

    Parameters
    ----------
    name : str
        - ``"softmax_cross_entropy"``: mean over samples of -ln p_t, p = softmax(z), for integer labels t;
        - ``"sigmoid_cross_entropy"``: mean over samples of the sum over outputs of -t ln p - (1 - t) ln(1 - p),
          p = logistic(z), for targets t in [0, 1] (binary and multilabel);
        - ``"mean_squared_error"``: mean over samples and outputs of (a - t)^2;
        - ``"half_squared_error"``: mean over samples of half the sum over outputs of (a - t)^2;
        - ``"poisson"``: mean over samples of the sum over outputs of t ln(t / p) - t + p, p = e^z, for targets t >= 0
          (counts, or rates of them): half the Poisson deviance. t ln t is 0 for t = 0.
    convention : {"exact", "scikit-learn"}, default="exact"
        ``"exact"``: the value reported is the function whose derivative the gradient is. ``"scikit-learn"``:
        cross-entropies are reported from probabilities clipped to [eps, 1 - eps], half the squared error is averaged
        over the outputs while its gradient is not. Poisson is the same under both.

    blocks : sequence of int, default=()
        For ``"softmax_cross_entropy"`` with several labels a sample: how many classes each of them has, at least 2.
        With ``(3, 4)`` outputs 0 to 2 are the logits of the first label and outputs 3 to 6 those of the second; y has
        the shape (n_samples, 2), and the loss of a sample is the sum over its labels. There is no link then: the last
        layer has the activation ``"identity"``, predictions are logits, and the softmax of each block is the caller's.

    Raises
    ------
    TypeError, ValueError
        For an unknown name or convention, or blocks that cannot be used.

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
    """

    name: str
    convention: str = "exact"
    blocks: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        one_of(self.name, LOSSES, "loss")
        one_of(self.convention, CONVENTIONS, "convention")
        try:
            blocks = tuple(self.blocks)
        except TypeError:
            raise TypeError(f"blocks must be a sequence of integers of at least 2, got {self.blocks!r}") from None
        blocks = tuple(whole_number(size, f"blocks[{k}]", least=2) for k, size in enumerate(blocks))
        if blocks and self.name != "softmax_cross_entropy":
            raise ValueError(f"blocks are for the loss 'softmax_cross_entropy', got {blocks} for {self.name!r}")
        object.__setattr__(self, "blocks", blocks)

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
        if self.link is None:
            return activation
        if activation not in ("identity", self.link):
            raise ValueError(
                f"loss {self.name!r} brings the output activation {self.link!r}: the last layer must have it or "
                f"'identity', got {activation!r}"
            )
        return self.link

    def check_targets(self, y: Any, name: str, *, n_samples: int, n_outputs: int, dtype: Any) -> Array:
        """Targets as a backend takes them: values (n_samples, n_outputs), or intp labels (n_samples,).

        With blocks the labels are (n_samples, n_blocks).
        """
        if self.blocks:
            return block_labels(y, name, n_samples=n_samples, blocks=self.blocks)
        if self.name == "softmax_cross_entropy":
            return labels(y, name, n_samples=n_samples, n_classes=n_outputs)
        unit_interval = self.name == "sigmoid_cross_entropy"
        y = targets(y, name, n_samples=n_samples, n_outputs=n_outputs, dtype=dtype, unit_interval=unit_interval)
        if self.name == "poisson" and y.min() < 0:
            raise ValueError(f"{name} must be at least 0 for the loss 'poisson', got values down to {y.min()}")
        return y


def as_loss(loss: Any) -> Loss:
    """A loss by name, or as it is."""
    return loss if isinstance(loss, Loss) else Loss(loss)
