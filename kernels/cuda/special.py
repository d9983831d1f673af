"""Functions of one number that activations need beside exp, tanh and log, on top of CUDA's own library."""

from fastbp.kernels.cuda._target import cuda, device, erfc, exp, expm1, like, log1p

__all__ = ["expm1", "log1p", "logistic_pair", "normal_cdf"]

# 1 / sqrt 2, and what a float32 of it lacks: numbers of both types
ROOT_HALF, REST_OF_ROOT_HALF = 0.707106769084930419921875, 1.210161710447897e-08
INVERSE_ROOT_PI = 0.5641895835477563  # 1 / sqrt pi
FAR = 40.0  # e^(-x^2/2) is 0 from here on


@device
def logistic_pair(x):
    """1 / (1 + e^-x) and 1 / (1 + e^x), each without cancelling."""
    one = like(x, 1)
    t = exp(-x if x > 0 else x)
    more = one / (one + t)
    less = t * more
    return (more if x > 0 else less), (less if x > 0 else more)


@device
def clamped(x, bound):
    """x, but within -bound and bound; NaN stays."""
    x = -bound if x < -bound else x
    return bound if x > bound else x


@device
def normal_cdf(x):
    """P(Z <= x) of a standard normal Z, erfc(-x / sqrt 2) / 2, and e^(-x^2/2).

    Both functions magnify the rounding of their argument x^2 times: what it has lost is put back to first order.
    """
    x = clamped(x, like(x, FAR))
    half, main, rest = like(x, 0.5), like(x, ROOT_HALF), like(x, REST_OF_ROOT_HALF)
    square = x * x
    e = exp(-half * square)
    e = cuda.fma(e, -half * cuda.fma(x, x, -square), e)
    y = cuda.fma(x, main, x * rest)
    lost = cuda.fma(x, main, -y) + x * rest
    return cuda.fma(e, lost * like(x, INVERSE_ROOT_PI), half * erfc(-y)), e
