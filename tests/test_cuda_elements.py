"""Activations on the GPU, in the simulator, against their twins: every code, limits at infinity, NaN; softmax rows."""

import numpy as np
import pytest

from fastbp.kernels.cuda import _simulator
from fastbp.kernels.cuda._target import WIDTH, cuda, kernel
from fastbp.kernels.cuda.activations import (
    activation_backward,
    activation_forward,
    relu_forward,
    softmax_backward,
    softmax_forward,
    softmax_shift,
)
from fastbp.kernels.cuda.rectifiers import (
    element_functions,
    rectifier_backward,
    rectifier_forward,
    rectifier_forward_slope,
    uses_slopes,
)
from fastbp.kernels.cuda.special import expm1, log1p, logistic_pair, normal_cdf
from fastbp.kernels.layout import ACTIVATIONS, BY_SLOPE, IDENTITY, RECTIFIERS, RELU, SOFTMAX, TANH
from fastbp.kernels.reference import activations as twins
from fastbp.kernels.reference import rectifiers as rectifier_twins
from fastbp.kernels.reference import special as special_twins

DTYPES = [np.float32, np.float64]
# Twins of 1 + tanh and 1 - e^-a cancel: what is left of them is right within the last places of 1
TOLERANCES = {np.float32: dict(rtol=1e-5, atol=1e-6), np.float64: dict(rtol=1e-12, atol=1e-14)}
EDGES = [0.0, -0.0, 1e-30, -1e-30, 0.5, -0.5, 20.0, -20.0, 200.0, -200.0, 1e30, -1e30, np.inf, -np.inf, np.nan]
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
each_code = pytest.mark.parametrize("code", ACTIVATIONS.values(), ids=ACTIVATIONS)


def inputs(dtype, edges=True):
    """Draws, and edges."""
    values = np.random.default_rng(5).normal(size=40) * 3
    return np.concatenate([values, EDGES * edges]).astype(dtype)


def launch(function, *arrays):
    """``function`` of (i, arrays) for each element."""

    @kernel
    def body(*arrays):
        for i in range(cuda.threadIdx.x, len(arrays[0]), WIDTH):
            function(i, *arrays)

    body[1, WIDTH](*arrays)
    return arrays


def assert_same(got, wanted, dtype):
    assert got.dtype == wanted.dtype == dtype
    np.testing.assert_allclose(got, wanted, **TOLERANCES[dtype])


def of_twins(z, d, code):
    """A, f'(Z) and dZ of the twins' forward and backward."""
    a, slope, dz = z.copy(), np.zeros_like(z), d.copy()
    if code == RELU:
        twins.relu_forward(a)
    elif code in BY_SLOPE.values():
        rectifier_twins.rectifier_forward_slope(a, slope, code)
    else:
        twins.activation_forward(a, code)
        rectifier_twins.rectifier_forward(a, code)
    twins.activation_backward(dz, a, code)
    rectifier_twins.rectifier_backward(dz, a, slope, code)
    return a, slope, dz


def of_elements(z, d, code, codes):
    forward, backward = element_functions(frozenset(codes))

    def both(i, z, d, a, slope, dz):
        a[i], slope[i] = forward(z[i], code)
        dz[i] = backward(d[i], a[i], slope[i], code)

    return launch(both, z, d, *np.empty((3, len(z)), z.dtype))[2:]


@each_dtype
@each_code
def test_elements_are_those_of_the_twins(code, dtype):
    z = inputs(dtype)
    d = np.random.default_rng(6).normal(size=len(z)).astype(dtype)
    wanted = of_twins(z, d, code)
    for codes in ({code}, ACTIVATIONS.values()):
        for got, right in zip(of_elements(z, d, code, codes), wanted, strict=True):
            assert_same(got, right, dtype)


@each_dtype
@pytest.mark.parametrize("code", [*RECTIFIERS.values(), RELU, TANH])
def test_derivative_is_that_of_the_forward(code, dtype):
    z = inputs(np.float64, edges=False)
    z = z[np.abs(z) > 1e-3]
    _, _, dz = of_elements(z.astype(dtype), np.ones(len(z), dtype), code, {code})
    h = 1e-6
    above, below = (of_elements(z + by, z, code, {code})[0] for by in (h, -h))
    np.testing.assert_allclose(dz, (above - below) / (2 * h), rtol=1e-5, atol=1e-6)


def test_codes_that_were_not_asked_for_pass_through():
    z = inputs(np.float64)
    for codes in ({TANH}, {TANH, *BY_SLOPE.values()}, set()):
        for code in (IDENTITY, SOFTMAX):
            a, slope, dz = of_elements(z, z, code, codes)
            np.testing.assert_array_equal(a, z)
            np.testing.assert_array_equal(slope, np.zeros_like(z))
            np.testing.assert_array_equal(dz, z)
    np.testing.assert_array_equal(of_elements(z, z, TANH, {RELU})[0], z)


def test_functions_are_made_once():
    assert element_functions(frozenset({RELU})) is element_functions(frozenset({RELU}))
    assert element_functions(frozenset({RELU})) is not element_functions(frozenset({TANH}))


def test_which_codes_keep_slopes():
    for code in ACTIVATIONS.values():
        assert uses_slopes(frozenset({code, IDENTITY})) == (code in BY_SLOPE.values())


@each_dtype
@each_code
def test_functions_of_any_code(code, dtype):
    z = inputs(dtype)
    d = np.random.default_rng(7).normal(size=len(z)).astype(dtype)

    def some(i, z, d, a, r, value, slope, da, dr):
        a[i] = activation_forward(z[i], code)
        r[i] = rectifier_forward(z[i], code)
        value[i], slope[i] = rectifier_forward_slope(z[i], code)
        da[i] = activation_backward(d[i], a[i], code)
        dr[i] = rectifier_backward(d[i], r[i], slope[i], code)

    a, r, value, slope, da, dr = launch(some, z, d, *np.empty((6, len(z)), dtype))[2:]
    wanted = z.copy()
    twins.activation_forward(wanted, code)
    assert_same(a, wanted, dtype)
    wanted = z.copy()
    rectifier_twins.rectifier_forward(wanted, code)
    assert_same(r, wanted, dtype)
    wanted, slopes = z.copy(), np.zeros_like(z)
    rectifier_twins.rectifier_forward_slope(wanted, slopes, code)
    assert_same(value, wanted, dtype)
    assert_same(slope, slopes, dtype)
    wanted = d.copy()
    twins.activation_backward(wanted, a, code)
    assert_same(da, wanted, dtype)
    wanted = d.copy()
    rectifier_twins.rectifier_backward(wanted, r, slope, code)
    assert_same(dr, wanted, dtype)


@each_dtype
def test_special_functions(dtype):
    z = inputs(dtype)

    def some(i, z, less, more, cdf, e, small, relu, log):
        less[i], more[i] = logistic_pair(z[i])
        cdf[i], e[i] = normal_cdf(z[i])
        small[i] = expm1(-abs(z[i]))
        log[i] = log1p(1 / (1 + abs(z[i])))
        relu[i] = relu_forward(z[i])

    less, more, cdf, e, small, relu, log = launch(some, z, *np.empty((7, len(z)), dtype))[1:]
    for got, wanted in zip((less, more), special_twins.logistic_pair(z), strict=True):
        assert_same(got, wanted, dtype)
    for got, wanted in zip((cdf, e), special_twins.normal_cdf(z), strict=True):
        assert_same(got, wanted, dtype)
    assert_same(small, special_twins.expm1(-np.abs(z)), dtype)
    assert_same(log, special_twins.log1p(1 / (1 + np.abs(z))), dtype)
    wanted = z.copy()
    twins.relu_forward(wanted)
    np.testing.assert_array_equal(relu, wanted)


def test_tail_of_the_normal_distribution():
    z = np.linspace(-37, -5, 60)

    def function(i, z, cdf):
        cdf[i], _ = normal_cdf(z[i])

    _, cdf = launch(function, z, np.empty_like(z))
    # the twin's argument is rounded, which its tail magnifies z^2 times
    np.testing.assert_allclose(cdf, special_twins.normal_cdf(z)[0], rtol=1e-12, atol=0)


# ---------------------------------------------------------------------------------------------------------------------
# Rows

# Every column to the lane that does not work on it, so that a missing barrier shows


@kernel
def softmax_rows(A, shifted, D, before, after, n):
    lane = cuda.threadIdx.x
    at = before + cuda.blockIdx.x * n
    softmax_shift(lane, shifted, at, n)
    softmax_forward(lane, A, at, n)
    softmax_backward(lane, D, at, A, at, n)
    for j in range((lane + 1) % WIDTH, n, WIDTH):
        after[at + j] = A[at + j]
        after[len(A) + at + j] = D[at + j]
        after[2 * len(A) + at + j] = shifted[at + j]


@each_dtype
@pytest.mark.parametrize("turn", [1, -1])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 10, 17])
def test_softmax_rows(n, turn, dtype, monkeypatch):
    monkeypatch.setattr(_simulator, "TURNS", [turn])
    rng, m, before = np.random.default_rng(n), 6, 3
    Z, D = rng.normal(size=(2, m, n)).astype(dtype)
    Z[1] *= 1000
    Z[2, -1] = -np.inf
    Z[3, 0] = np.nan
    Z[4, n // 2] = np.inf
    flat = [np.concatenate([np.full(before, 7), part.reshape(-1), [7]]).astype(dtype) for part in (Z, Z, D)]
    after = np.empty(3 * len(flat[0]), dtype)
    softmax_rows[m, WIDTH](*flat, before, after, n)
    wanted = [np.zeros((m, 32), dtype) for _ in range(3)]
    for whole, part in zip(wanted, (Z, D, Z), strict=True):
        whole[:, :n] = part
    twins.softmax_forward(wanted[0].reshape(-1), 32, m, n)
    with np.errstate(all="ignore"):
        twins.softmax_backward(wanted[1].reshape(-1), wanted[0].reshape(-1), 32, m, n)
        twins.softmax_shift(wanted[2].reshape(-1), 32, m, n)
    for got, right in zip(after.reshape(3, -1), wanted, strict=True):
        assert_same(got[before:-1].reshape(m, n), right[:, :n], dtype)
    for part in flat:
        np.testing.assert_array_equal(part[[0, 1, 2, -1]], 7)
