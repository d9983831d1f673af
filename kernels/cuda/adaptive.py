"""More optimizers on one parameter, as in ``optimizers.py``: (w, state, g, numbers, row) -> (w, state)."""

from fastbp.kernels.cuda._target import cuda, inlined, like, sqrt
from fastbp.kernels.cuda.optimizers import (
    AT_BETA_1,
    AT_BETA_2,
    AT_CORRECTION,
    AT_EPSILON,
    AT_MOMENTUM,
    AT_NOW,
    AT_RATE,
    AT_REST_1,
    AT_REST_2,
    AT_THEN,
    flush,
    moments_of,
)


@inlined
def sign(x):
    """-1, 0 or 1, and NaN of NaN."""
    return like(x, 1) if x > 0 else (like(x, -1) if x < 0 else x)


@inlined
def amsgrad(w, state, g, numbers, row):
    """m and v as Adam's; w -= rate m / (correction sqrt(max v) + epsilon)."""
    rate, correction, epsilon = numbers[row + AT_RATE], numbers[row + AT_CORRECTION], numbers[row + AT_EPSILON]
    m, v = moments_of(state[0], state[1], g, numbers, row)
    before = state[2]
    largest = before if before > v or before != before else v  # a NaN of either
    return w - rate * m / cuda.fma(correction, sqrt(largest), epsilon), (m, v, largest)


@inlined
def _mean_square(v, g, numbers, row):
    return flush(cuda.fma(numbers[row + AT_BETA_2], v, numbers[row + AT_REST_2] * g * g))


@inlined
def rmsprop(w, state, g, numbers, row):
    """v = alpha v + (1 - alpha) g^2; w -= rate g / (sqrt(v) + epsilon)."""
    v = _mean_square(state[0], g, numbers, row)
    return w - numbers[row + AT_RATE] * g / (sqrt(v) + numbers[row + AT_EPSILON]), (v,)


@inlined
def momentum_rmsprop(w, state, g, numbers, row):
    """v = alpha v + (1 - alpha) g^2; m = momentum m + g / (sqrt(v) + epsilon); w -= rate m."""
    v = _mean_square(state[1], g, numbers, row)
    m = flush(cuda.fma(numbers[row + AT_MOMENTUM], state[0], g / (sqrt(v) + numbers[row + AT_EPSILON])))
    return cuda.fma(-numbers[row + AT_RATE], m, w), (m, v)


@inlined
def centered_rmsprop(w, state, g, numbers, row):
    """The same with the variance v - mean^2, at least 0, in place of v."""
    v = _mean_square(state[1], g, numbers, row)
    mean = flush(cuda.fma(numbers[row + AT_BETA_2], state[2], numbers[row + AT_REST_2] * g))
    variance = cuda.fma(-mean, mean, v)
    variance = like(v, 0) if variance < 0 else variance
    m = flush(cuda.fma(numbers[row + AT_MOMENTUM], state[0], g / (sqrt(variance) + numbers[row + AT_EPSILON])))
    return cuda.fma(-numbers[row + AT_RATE], m, w), (m, v, mean)


@inlined
def adagrad(w, state, g, numbers, row):
    """v += g^2; w -= rate g / (sqrt(v) + epsilon)."""
    v = flush(cuda.fma(g, g, state[0]))
    return w - numbers[row + AT_RATE] * g / (sqrt(v) + numbers[row + AT_EPSILON]), (v,)


@inlined
def nadam(w, state, g, numbers, row):
    """m and v as Adam's; w -= (now g + then m) / (correction sqrt(v) + epsilon)."""
    now, then = numbers[row + AT_NOW], numbers[row + AT_THEN]
    correction, epsilon = numbers[row + AT_CORRECTION], numbers[row + AT_EPSILON]
    m, v = moments_of(state[0], state[1], g, numbers, row)
    return w - cuda.fma(then, m, now * g) / cuda.fma(correction, sqrt(v), epsilon), (m, v)


@inlined
def lion(w, state, g, numbers, row):
    """w -= rate sign(beta_1 m + (1 - beta_1) g); m = beta_2 m + (1 - beta_2) g."""
    direction = sign(cuda.fma(numbers[row + AT_BETA_1], state[0], numbers[row + AT_REST_1] * g))
    m = flush(cuda.fma(numbers[row + AT_BETA_2], state[0], numbers[row + AT_REST_2] * g))
    return cuda.fma(-numbers[row + AT_RATE], direction, w), (m,)
