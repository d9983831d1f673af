"""Activations and their derivatives, taken from the activation's output."""

import numpy as np

from fastbp.kernels.layout import EXP, LOGISTIC, RELU, SOFTMAX, TANH, padded
from fastbp.kernels.reference._views import rows


@np.errstate(all="ignore")
def exp(x):
    """e^x."""
    return np.exp(x)


@np.errstate(all="ignore")
def tanh(x):
    """(e^x - e^-x) / (e^x + e^-x)."""
    return np.tanh(x)


@np.errstate(all="ignore")
def logistic(x):
    """1 / (1 + e^-x)."""
    return 1 / (1 + np.exp(-x))


@np.errstate(all="ignore")
def log(x):
    """ln x: NaN below zero, -inf at zero."""
    return np.log(x)


def activation_forward(A, code):
    """A = f(A) in place, for logistic, tanh and exp."""
    if code == LOGISTIC:
        A[:] = logistic(A)
    elif code == TANH:
        A[:] = tanh(A)
    elif code == EXP:
        A[:] = exp(A)


@np.errstate(all="ignore")
def relu_forward(A):
    """A = max(A, 0) in place."""
    A[A < 0] = 0


@np.errstate(all="ignore")
def activation_backward(dZ, A, code):
    """dZ = dA f'(Z) in place; relu: 1 where A > 0; logistic: A (1 - A); tanh: 1 - A^2; exp: A, and 0 stays 0."""
    if code == RELU:
        dZ[A <= 0] = 0
    elif code == LOGISTIC:
        dZ *= A * (1 - A)
    elif code == TANH:
        dZ *= 1 - A * A
    elif code == EXP:
        dZ[:] = np.where(dZ == 0, 0, dZ * A)


@np.errstate(all="ignore")
def softmax_shift(Z, ld, m, n):
    """z = z - max z by row; -inf in columns n up to a multiple of 16."""
    Z = rows(Z, ld, m, padded(n))
    Z[:, n:] = -np.inf
    Z -= np.fmax.reduce(Z, axis=1, keepdims=True)  # fmax passes over a NaN


def exponentials(Z, count):
    """Z[:count] = e^Z."""
    Z[:count] = exp(Z[:count])


@np.errstate(all="ignore")
def softmax_forward(A, ld, m, n):
    """A = e^(z - max z) / sum e^(z - max z) in place by row."""
    softmax_shift(A, ld, m, n)
    exponentials(A, m * ld)
    A = rows(A, ld, m, padded(n))
    A /= A.sum(axis=1, keepdims=True)


@np.errstate(all="ignore")
def softmax_backward(dZ, A, ld, m, n):
    """dZ = A (dA - sum of A dA over the row) in place: the softmax's Jacobian, diag(a) - a a^T, applied to dA."""
    dZ, A = rows(dZ, ld, m, n), rows(A, ld, m, n)
    dZ[:] = A * (dZ - (A * dZ).sum(axis=1, keepdims=True))


def output_forward(A, ld, m, n, code):
    """The activation of an output layer: softmax by row, everything else by element."""
    if code == SOFTMAX:
        softmax_forward(A, ld, m, n)
    else:
        activation_forward(A[: m * ld], code)
