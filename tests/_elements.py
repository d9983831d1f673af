"""What the tests of element-wise functions share: samples of all numbers, errors in units in the last place."""

import numba
import numpy as np

from fastbp.kernels.cpu import _jit

WIDER = {np.float32: np.float64, np.float64: np.longdouble}


def elementwise(function, part=None):
    """A scalar function of the kernels, or one of its results, for an array."""

    def call(out, x):
        for q in range(x.shape[0]):
            out[q] = function(x[q])

    def call_part(out, x):
        for q in range(x.shape[0]):
            out[q] = function(x[q])[part]

    compiled = numba.njit(**_jit.OPTIONS)(call if part is None else call_part)

    def apply(x):
        out = np.empty_like(x)
        compiled(out, x)
        return out

    return apply


def samples(dtype):
    """Every 4099th of all float32; every exponent of float64 many times; and ranges where much happens."""
    if dtype == np.float32:
        bits = np.arange(0, 2**32, 4099, dtype=np.uint64).astype(np.uint32)
        return bits.view(np.float32)
    rng = np.random.default_rng(0)
    exponents = np.repeat(np.arange(2048, dtype=np.uint64), 64)
    bits = exponents << np.uint64(52) | rng.integers(0, 2**52, exponents.size, dtype=np.uint64)
    x = bits.view(np.float64)
    ranges = [(-746, 710), (-40, 40), (-2, 2), (0.5, 2)]
    return np.concatenate([x, -x, *(rng.uniform(low, high, 50_000) for low, high in ranges)])


def ulp_errors(got, want, dtype):
    """|got - want| in units in the last place of want."""
    _, exponent = np.frexp(np.abs(want))
    return np.abs(got.astype(want.dtype) - want) / np.ldexp(want.dtype.type(1), exponent - 1 - np.finfo(dtype).nmant)


def with_each_bad_value(dtype):
    """Arrays of 37 elements with one value that is not finite, in the vector body and in the tail."""
    for bad in (np.nan, np.inf, -np.inf):
        for place in (0, 5, 20, 36):
            x = np.linspace(-2, 2, 37).astype(dtype)
            x[place] = bad
            yield x, place, bad
