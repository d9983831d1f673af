"""Whether finite weights are so large that outputs overflow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastbp._validation import Array
from fastbp.backends.base import Network
from fastbp.kernels.layout import ADD, BATCH_NORM, DENSE, LAYER_NORM

BOUNDED = ("logistic", "tanh", "softmax")


def may_overflow(network: Network, parameters: Sequence[Array], *, exp: bool = True) -> bool:
    """Whether outputs may be infinite or NaN for rows whose losses were finite a moment ago.

    False is sure for an X of at most the fourth root of the largest number (4e9 in float32, 1e77 in float64). True is
    a guess by bounds: a prediction tells. Parameters that are infinite or NaN are found too. ``exp=False`` does not
    look at an output that is e^z, of which the bounds are nearly always too large.
    """
    limit = float(np.finfo(network.dtype).max) / 4
    bounds, arrays = [limit**0.25], iter(parameters)
    for l, one in enumerate(network.all_operations):
        bound = bounds[one.input + 1]
        if one.kind == DENSE:
            W = next(arrays)
            bound = bound * W.shape[0] * _largest(W) + _largest(next(arrays))
        elif one.kind == BATCH_NORM:
            gamma, beta, mean, variance = (next(arrays) for _ in range(4))
            bound = (bound + _largest(mean)) * _largest(gamma / np.sqrt(variance + one.constant)) + _largest(beta)
        elif one.kind == LAYER_NORM:
            gamma, beta = next(arrays), next(arrays)
            if not bound * bound < limit:  # the squares of its variance
                return True
            bound = _largest(gamma) * math.sqrt(gamma.size) + _largest(beta)
        elif one.kind == ADD:
            bound += bounds[one.source + 1]
        if not bound < limit:  # also a NaN
            return True
        bounds.append(_activated(network.activations[l], bound))
    return not bounds[-1] < limit and (exp or network.activations[-1] != "exp")


def _activated(name: str, bound: float) -> float:
    """A bound of f(z) for one of z."""
    if name in BOUNDED:
        return 1.0
    if name == "exp":
        return math.exp(bound) if bound < 700 else math.inf
    return 2 * bound + 2 if name in ("elu", "selu", "softplus") else bound


def _largest(array: Array) -> float:
    return max(float(array.max()), -float(array.min()))


def finite(outputs: Any) -> bool:
    """Whether outputs are numbers."""
    return bool(np.isfinite(outputs).all())
