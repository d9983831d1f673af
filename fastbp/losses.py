"""Losses: frozen descriptions. The arithmetic is in ``fastbp.kernels``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Loss:
    """What is minimised, and how it is reported.

    Parameters
    ----------
    name : str
        ``"softmax_cross_entropy"``, ``"sigmoid_cross_entropy"``, ``"mean_squared_error"`` or ``"half_squared_error"``.
    convention : {"exact", "scikit-learn"}
        ``"exact"``: the value reported is the function whose derivative the gradient is. ``"scikit-learn"``:
        cross-entropies are reported from probabilities clipped to [eps, 1 - eps], half the squared error is averaged
        over the outputs while its gradient is not.
    """

    name: str
    convention: str = "exact"
