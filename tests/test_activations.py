"""exp, tanh, logistic and log over their whole range; activations and softmax against their twins."""

import numpy as np
import pytest
from _elements import WIDER, elementwise, samples, ulp_errors, with_each_bad_value
from _kernels import DTYPES, SENTINEL, ULPS, assert_close, few, seeds, surrounded
from hypothesis import given
from hypothesis import strategies as st

from fastbp.kernels import layout
from fastbp.kernels.cpu import activations
from fastbp.kernels.reference import activations as twins

# Largest errors over every 5th float32 and 10^8 float64: exp 1.03 and 1.02, tanh 2.50 and 2.53, logistic 2.36 and 2.47,
# log 0.81 and 0.84 units in the last place
LARGEST_ERROR = {"exp": 1.05, "tanh": 3, "logistic": 3, "log": 1}
CODES = {name: layout.ACTIVATIONS[name] for name in ("identity", "relu", "logistic", "tanh", "exp")}


COMPILED = {name: elementwise(getattr(activations, name)) for name in LARGEST_ERROR}
each_function = pytest.mark.parametrize("name", LARGEST_ERROR)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def exact(name, x):
    """The function in a wider type."""
    with np.errstate(all="ignore"):  # also the cast: a signalling NaN becomes a quiet one
        x = x.astype(WIDER[x.dtype.type])
        return 1 / (1 + np.exp(-x)) if name == "logistic" else getattr(np, name)(x)


@each_dtype
@each_function
def test_largest_error(name, dtype):
    x = samples(dtype)
    got, want, info = COMPILED[name](x), exact(name, x), np.finfo(dtype)
    normal = (np.abs(want) >= info.tiny) & (np.abs(want) <= info.max)
    assert normal.sum() > 10_000
    errors = ulp_errors(got[normal], want[normal], dtype)
    assert errors.max() <= LARGEST_ERROR[name], x[normal][errors.argmax()]
    # what is not a normal number: zero and infinity where the rounded result is, and denormals near it
    with np.errstate(over="ignore"):
        rounded = want.astype(dtype)
    edge = ~normal & (np.abs(want) > info.max)
    np.testing.assert_array_equal(got[edge], rounded[edge])
    small = np.abs(want) < info.tiny
    assert np.abs(got[small] - rounded[small]).max(initial=0) <= info.tiny
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))


@each_dtype
@each_function
def test_limits(name, dtype):
    limits = {
        "exp": [np.inf, 0, 1, 1],
        "tanh": [1, -1, 0, 0],
        "logistic": [1, 0, 0.5, 0.5],
        "log": [np.inf, np.nan, -np.inf, -np.inf],
    }
    np.testing.assert_array_equal(COMPILED[name](np.array([np.inf, -np.inf, 0, -0.0], dtype)), limits[name])
    assert np.isnan(COMPILED[name](np.array([np.nan], dtype))).all()


@each_dtype
def test_log_of_denormal_and_negative_numbers(dtype):
    tiny = np.finfo(dtype).smallest_subnormal * np.arange(1, 100, dtype=dtype)
    assert ulp_errors(COMPILED["log"](tiny), exact("log", tiny), dtype).max() <= LARGEST_ERROR["log"]
    assert np.isnan(COMPILED["log"](-tiny)).all()


@each_dtype
@pytest.mark.parametrize("name", ["exp", "tanh", "logistic"])
def test_monotone_to_the_end(name, dtype):
    """Saturation has no step back, and nothing leaves the range of the function."""
    least, most = {"exp": (0, np.inf), "tanh": (-1, 1), "logistic": (0, 1)}[name]
    ends = {np.float32: (-110, -80, 80, 110), np.float64: (-760, -700, 700, 760)}[dtype]
    pieces = [(ends[0], ends[1]), (-45, -10), (-10, -5), (5, 10), (10, 45), (ends[2], ends[3])]
    x = np.concatenate([np.linspace(*piece, 50_001) for piece in pieces]).astype(dtype)
    y = COMPILED[name](x)
    assert (y[1:] >= y[:-1]).all()
    assert y.min() >= least and y.max() <= most
    everywhere = COMPILED[name](samples(dtype))
    assert np.nanmin(everywhere) == least and np.nanmax(everywhere) == most


@each_dtype
def test_exp_overflows_where_the_result_does(dtype):
    last = dtype(np.log(WIDER[dtype](np.finfo(dtype).max)))
    around = [np.nextafter(last, dtype(0)), last, np.nextafter(last, dtype(np.inf))]
    x = np.array([*around, np.nextafter(around[-1], dtype(np.inf))], dtype)
    with np.errstate(over="ignore"):
        want = exact("exp", x).astype(dtype)
    assert np.isinf(want[-1]) and np.isfinite(want[0])
    np.testing.assert_array_equal(np.isinf(COMPILED["exp"](x)), np.isinf(want))


@each_dtype
@each_function
@given(st.data())
@few(10)
def test_twin_of_scalar_function(name, dtype, data):
    x = np.random.default_rng(data.draw(seeds())).normal(size=37).astype(dtype) * 10
    assert_close(COMPILED[name](x), getattr(twins, name)(x), 4 * ULPS[dtype])


# ---------------------------------------------------------------------------------------------------------------------
# Kernels on arrays. 37 elements: whole vectors of every width, and a tail


@each_dtype
@pytest.mark.parametrize("activation", CODES)
@given(st.data())
@few(20)
def test_activation_agrees_with_its_twin(activation, dtype, data):
    rng, n = np.random.default_rng(data.draw(seeds())), data.draw(st.integers(1, 75))
    code, values = CODES[activation], rng.normal(size=n).astype(dtype) * data.draw(st.sampled_from([0.1, 3, 100]))
    (whole, A), (twin_whole, twin_A) = (surrounded(n, dtype) for _ in range(2))
    A[:] = twin_A[:] = values
    activations.activation_forward(A, code)
    twins.activation_forward(twin_A, code)
    np.testing.assert_allclose(whole, twin_whole, rtol=4 * ULPS[dtype], atol=np.finfo(dtype).tiny)
    if code in (layout.IDENTITY, layout.RELU):
        np.testing.assert_array_equal(A, values)

    dA = rng.normal(size=n).astype(dtype)
    (whole, dZ), (twin_whole, twin_dZ) = (surrounded(n, dtype) for _ in range(2))
    dZ[:] = twin_dZ[:] = dA
    twin_A[:] = A
    activations.activation_backward(dZ, A, code)
    twins.activation_backward(twin_dZ, twin_A, code)
    # the twin rounds A^2 before it takes it from 1, the kernel does not: an error in units of dA, not of dZ
    np.testing.assert_allclose(dZ, twin_dZ, rtol=0, atol=4 * ULPS[dtype] * np.abs(dA).max())
    np.testing.assert_array_equal(whole[:64], twin_whole[:64])
    np.testing.assert_array_equal(whole[64 + n :], twin_whole[64 + n :])
    np.testing.assert_array_equal(A, twin_A)


@each_dtype
@pytest.mark.parametrize("activation", CODES)
def test_activation_keeps_nan_where_it_is(activation, dtype):
    code = CODES[activation]
    for Z, place, bad in with_each_bad_value(dtype):
        A = Z.copy()
        activations.activation_forward(A, code)
        limits = {"logistic": (1, 0), "tanh": (1, -1), "exp": (np.inf, 0)}.get(activation, (np.inf, -np.inf))
        np.testing.assert_equal(A[place], bad if np.isnan(bad) else limits[bad < 0])
        assert np.isfinite(np.delete(A, place)).all()
        # in dZ
        dZ, A = Z.copy(), np.full(37, 0.5, dtype)
        activations.activation_backward(dZ, A, code)
        np.testing.assert_equal(dZ[place], bad)
        assert np.isfinite(np.delete(dZ, place)).all()
        # in A
        dZ, A = np.ones(37, dtype), Z.copy()
        twin_dZ = dZ.copy()
        activations.activation_backward(dZ, A, code)
        twins.activation_backward(twin_dZ, A, code)
        np.testing.assert_equal(dZ[place], twin_dZ[place])
        assert np.isfinite(np.delete(dZ, place)).all()


def test_relu_of_nan_is_nan_and_its_gradient_passes():
    A, dZ = np.full(37, np.nan, np.float32), np.full(37, np.nan, np.float32)
    activations.activation_backward(dZ, A, layout.RELU)
    assert np.isnan(dZ).all()  # the forward side is the gemm's floor: test_gemm_keeps_what_is_not_finite


@pytest.mark.parametrize("activation", ["logistic", "tanh", "exp"])
def test_derivative_against_central_differences(activation):
    Z, h = np.linspace(-6, 6, 61), 1e-6
    below, above, A, dZ = Z - h, Z + h, Z.copy(), np.ones(61)
    for array in (below, above, A):
        activations.activation_forward(array, CODES[activation])
    activations.activation_backward(dZ, A, CODES[activation])
    np.testing.assert_allclose(dZ, (above - below) / (2 * h), rtol=1e-9, atol=1e-9)


@each_dtype
def test_gradient_that_is_zero_stays_zero_where_exp_is_infinite(dtype):
    for module in (activations, twins):
        A, dZ = np.full(37, np.inf, dtype), np.zeros(37, dtype)
        module.activation_backward(dZ, A, layout.EXP)
        np.testing.assert_array_equal(dZ, 0)


def test_relu_derivative_is_zero_at_zero():
    A, dZ = np.array([0.0, -0.0, 1e-300, 2.0]), np.full(4, 3.0)
    activations.activation_backward(dZ, A, layout.RELU)
    np.testing.assert_array_equal(dZ, [0, 0, 3, 3])


# ---------------------------------------------------------------------------------------------------------------------
# Softmax


def logits(rng, dtype, m, n, ld, size=3.0):
    """Rows of n logits, the rest of each row full of the sentinel; with what surrounds them."""
    whole, Z = surrounded(m * ld, dtype)
    Z.reshape(m, ld)[:, :n] = size * rng.normal(size=(m, n))
    return whole, Z


@each_dtype
@given(st.integers(1, 9), st.sampled_from([1, 2, 10, 15, 16, 17, 31, 32, 33, 50]), st.integers(0, 2), seeds())
@few(40)
def test_softmax_agrees_with_its_twin(dtype, m, n, spare, seed):
    used, ld = layout.padded(n), layout.padded(n) + 16 * spare
    whole, A = logits(np.random.default_rng(seed), dtype, m, n, ld)
    twin_A = A.copy()
    activations.softmax_forward(A, ld, m, n)
    twins.softmax_forward(twin_A, ld, m, n)
    assert_close(A.reshape(m, ld)[:, :used], twin_A.reshape(m, ld)[:, :used], 10 * ULPS[dtype])
    assert (A.reshape(m, ld)[:, n:used] == 0).all()
    np.testing.assert_allclose(A.reshape(m, ld)[:, :n].sum(axis=1), 1, rtol=10 * ULPS[dtype])
    assert (whole[:64] == SENTINEL).all() and (whole[64 + m * ld :] == SENTINEL).all()

    dZ = np.random.default_rng(seed + 1).normal(size=m * ld).astype(dtype)
    twin_dZ = dZ.copy()
    activations.softmax_backward(dZ, A, ld, m, n)
    twins.softmax_backward(twin_dZ, A, ld, m, n)
    assert_close(dZ, twin_dZ, 10 * ULPS[dtype])  # columns from n are left as they are
    assert_close(dZ.reshape(m, ld)[:, :n].sum(axis=1) + dtype(1), np.ones(m, dtype), 100 * ULPS[dtype])


@each_dtype
@pytest.mark.parametrize("code", [layout.SOFTMAX, layout.TANH, layout.EXP, layout.IDENTITY])
def test_output_activation_agrees_with_its_twin(dtype, code):
    m, n, ld = 5, 19, 48
    whole, A = logits(np.random.default_rng(0), dtype, m, n, ld)
    twin_A = A.copy()
    activations.output_forward(A, ld, m, n, code)
    twins.output_forward(twin_A, ld, m, n, code)
    assert_close(A.reshape(m, ld)[:, :n].copy(), twin_A.reshape(m, ld)[:, :n].copy(), 10 * ULPS[dtype])
    assert (whole[:64] == SENTINEL).all() and (whole[64 + m * ld :] == SENTINEL).all()


@each_dtype
def test_parts_of_softmax_agree_with_their_twins(dtype):
    m, n, ld = 4, 21, 48
    _, Z = logits(np.random.default_rng(0), dtype, m, n, ld)
    twin_Z = Z.copy()
    activations.softmax_shift(Z, ld, m, n)
    twins.softmax_shift(twin_Z, ld, m, n)
    np.testing.assert_array_equal(Z, twin_Z)
    assert (Z.reshape(m, ld)[:, :n].max(axis=1) == 0).all()
    Z[:], twin_Z[:] = 0.5, 0.5
    activations.exponentials(Z, 37)
    twins.exponentials(twin_Z, 37)
    assert_close(Z, twin_Z, 2 * ULPS[dtype])
    assert (Z[37:] == 0.5).all()


@each_dtype
def test_softmax_of_huge_logits(dtype):
    most = np.finfo(dtype).max
    A = np.full((4, 16), -np.inf, dtype)
    A[0, :3] = most, most, -most
    A[1, :3] = -most, -most, -most
    A[2, :3] = 1e4, 1e4 - 1, -1e4
    A[3, :3] = -np.inf, 0, -np.inf
    activations.softmax_forward(A.reshape(-1), 16, 4, 3)
    e = np.exp(-1)
    want = [[0.5, 0.5, 0], [1 / 3, 1 / 3, 1 / 3], [1 / (1 + e), e / (1 + e), 0], [0, 1, 0]]
    np.testing.assert_allclose(A[:, :3], want, rtol=4 * ULPS[dtype])


@each_dtype
@pytest.mark.parametrize("place", [0, 15, 16, 36])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_softmax_of_a_row_that_is_not_finite(dtype, place, bad):
    A = np.random.default_rng(0).normal(size=(3, 48)).astype(dtype)
    A[1, place] = bad
    twin_A = A.copy()
    activations.softmax_forward(A.reshape(-1), 48, 3, 37)
    twins.softmax_forward(twin_A.reshape(-1), 48, 3, 37)
    assert np.isnan(A[1, :37]).any() and np.isnan(A[1, place])
    assert_close(A[:, :37].copy(), twin_A[:, :37].copy(), 10 * ULPS[dtype])
    assert np.isfinite(A[[0, 2]]).all()


def test_softmax_gradient_against_central_differences():
    m, n, ld, h = 2, 5, 16, 1e-6
    rng = np.random.default_rng(0)
    Z, dA = rng.normal(size=(m, ld)), rng.normal(size=(m, ld))

    def weighted(Z):
        A = Z.copy().reshape(-1)
        activations.softmax_forward(A, ld, m, n)
        return (A.reshape(m, ld) * dA)[:, :n].sum(axis=1)

    A, dZ = Z.copy(), dA.copy()
    activations.softmax_forward(A.reshape(-1), ld, m, n)
    activations.softmax_backward(dZ.reshape(-1), A.reshape(-1), ld, m, n)
    for j in range(n):
        step = np.zeros(ld)
        step[j] = h
        np.testing.assert_allclose(dZ[:, j], (weighted(Z + step) - weighted(Z - step)) / (2 * h), atol=1e-9)
