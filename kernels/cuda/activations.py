"""Activations and their derivatives, of one number; and the softmax of a row, by a group of threads.

Functions that take a code are put together from those of the codes they know: what a network does not use is not
compiled into its kernels (``rectifiers.element_functions``).
"""

import math

from fastbp.kernels.cuda._target import (
    WIDTH,
    device,
    exp,
    group_max,
    group_sum,
    group_sync,
    inlined,
    like,
    log,
    tanh,
)
from fastbp.kernels.layout import EXP, LOGISTIC, RELU, TANH

__all__ = [
    "activation_backward", "activation_forward", "exp", "log", "logistic", "relu_forward", "softmax_backward",
    "softmax_forward", "softmax_shift", "tanh",
]  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# Functions of a code, from functions of numbers


def _or_forward(own, function, other):
    @inlined
    def choice(z, code):
        if code == own:
            return function(z)
        return other(z, code)

    return choice


def _or_backward(own, function, other):
    @inlined
    def choice(d, a, code):
        if code == own:
            return function(d, a)
        return other(d, a, code)

    return choice


def forward_choice(functions, other):
    """The function (z, code): functions[code] of z, and ``other`` of (z, code) where there is none."""
    for code, function in functions.items():
        other = _or_forward(code, function, other)
    return other


def backward_choice(functions):
    """The function (d, a, code): functions[code] of (d, a), and d where there is none."""
    other = _same_backward
    for code, function in functions.items():
        other = _or_backward(code, function, other)
    return other


@inlined
def same_forward(z, code):
    """z."""
    return z


@inlined
def _same_backward(d, a, code):
    return d


# ---------------------------------------------------------------------------------------------------------------------
# Functions of one number


@device
def logistic(x):
    """1 / (1 + e^-x)."""
    one = like(x, 1)
    return one / (one + exp(-x))


@device
def relu_forward(z):
    """max(z, 0), and NaN stays."""
    return like(z, 0) if z < 0 else z


@device
def relu_backward(d, a):
    """d where a > 0, else 0; d where a is NaN."""
    return like(d, 0) if a <= 0 else d


@device
def logistic_backward(d, a):
    """d a (1 - a)."""
    return d * (a * (like(a, 1) - a))


@device
def tanh_backward(d, a):
    """d (1 - a^2)."""
    return d * (like(a, 1) - a * a)


@device
def exp_backward(d, a):
    """d a, and 0 stays 0 where a is infinite."""
    return d if d == 0 else d * a


FORWARD = {LOGISTIC: logistic, TANH: tanh, EXP: exp}
BACKWARD = {RELU: relu_backward, LOGISTIC: logistic_backward, TANH: tanh_backward, EXP: exp_backward}
# f(z) for logistic, tanh and exp, and z for any other code
activation_forward = forward_choice(FORWARD, same_forward)
# dz = d f'(z) by a = f(z), for relu too
activation_backward = backward_choice(BACKWARD)


# ---------------------------------------------------------------------------------------------------------------------
# Softmax of A[at : at + n], n >= 1. A lane has columns lane, lane + WIDTH, ... On entry the row must be seen by all of
# the group; on return it is.


@device
def _largest(lane, A, at, n):
    """The row's largest element, which passes over a NaN."""
    largest = like(A[at], -math.inf)
    for j in range(lane, n, WIDTH):
        z = A[at + j]
        largest = z if z > largest else largest
    return group_max(largest)


@device
def softmax_shift(lane, A, at, n):
    """z = z - max z in place, so that no exponential overflows."""
    largest = _largest(lane, A, at, n)
    for j in range(lane, n, WIDTH):
        A[at + j] -= largest
    group_sync()


@device
def softmax_forward(lane, A, at, n):
    """A = e^(z - max z) / sum e^(z - max z) in place."""
    largest = _largest(lane, A, at, n)
    total = like(largest, 0)
    for j in range(lane, n, WIDTH):
        e = exp(A[at + j] - largest)
        A[at + j] = e
        total += e
    total = group_sum(total)
    for j in range(lane, n, WIDTH):
        A[at + j] /= total
    group_sync()


@device
def softmax_backward(lane, D, d, A, a, n):
    """D[d + j] = A[a + j] (D[d + j] - sum of A D over the row) in place: the softmax's Jacobian applied to D."""
    inner = like(D[d], 0)
    for j in range(lane, n, WIDTH):
        inner += A[a + j] * D[d + j]
    inner = group_sum(inner)
    for j in range(lane, n, WIDTH):
        D[d + j] = A[a + j] * (D[d + j] - inner)
    group_sync()
