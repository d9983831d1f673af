"""Functions of one number that activations need beside exp, tanh and log."""

import math

import numpy as np

from fastbp.kernels.reference.activations import logistic

_erfc = np.vectorize(math.erfc, otypes=[np.float64])  # NumPy has none


@np.errstate(all="ignore")
def expm1(x):
    """e^x - 1, for x <= 0."""
    return np.expm1(x)


@np.errstate(all="ignore")
def log1p(x):
    """ln(1 + x), for 0 <= x <= 1."""
    return np.log1p(x)


def logistic_pair(x):
    """1 / (1 + e^-x) and 1 / (1 + e^x)."""
    return logistic(x), logistic(-x)


@np.errstate(all="ignore")
def normal_cdf(x):
    """P(Z <= x) of a standard normal Z, erfc(-x / sqrt 2) / 2, and e^(-x^2/2)."""
    cdf = _erfc(-x.astype(np.float64) / np.sqrt(2)) / 2
    return cdf.astype(x.dtype), np.exp(-x * x / 2)
