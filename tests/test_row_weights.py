"""Batch norm of rows with weights, kernel by kernel: twins, the formula itself, bits, and running statistics."""

import numpy as np
import pytest
from _kernels import DTYPES, SENTINEL, ULPS, assert_close, few, lanes, seeds
from hypothesis import given
from hypothesis import strategies as st

from fastbp.kernels.cpu import normalization, row_weights
from fastbp.kernels.layout import GROUP, block_count, padded
from fastbp.kernels.reference import normalization as twins
from fastbp.kernels.reference import row_weights as weight_twins

EPSILON, MOMENTUM = 1e-5, 0.25
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
MODULES = {normalization: row_weights, twins: weight_twins}
each_module = pytest.mark.parametrize("module", MODULES, ids=["cpu", "reference"])
SIZES = sorted({1, 2, 7, 15, 16, 17, 33, *(k * lanes(dtype) + d for dtype in DTYPES for k in (2, 4) for d in (-1, 1))})
HEIGHTS = [1, 2, 3, 4, 5, 16, 23, 70]


def matrix(rng, dtype, m, n, spare=0):
    """A random matrix with rows some way apart, and the sentinel between them."""
    ld = padded(n) + 16 * spare
    flat = np.full(m * ld, SENTINEL, dtype)
    flat.reshape(m, ld)[:, :n] = rng.normal(size=(m, n))
    return flat, ld


def vector(rng, dtype, n):
    values = np.full(padded(n), SENTINEL, dtype)
    values[:n] = rng.uniform(0.5, 2, n)
    return values


def weights_of(rng, dtype, n_samples, kind):
    """Weights of samples: none of 0, many of 0, all of 0."""
    weights = rng.uniform(0.1, 3, n_samples)
    return (weights * {"some": 1, "zeros": rng.random(n_samples) < 0.4, "none": 0}[kind]).astype(dtype)


def both(name, arguments):
    """Arguments after the kernel and after its twin."""
    pair = [[a.copy() if isinstance(a, np.ndarray) else a for a in arguments] for _ in range(2)]
    for (module, weighted), copies in zip(MODULES.items(), pair, strict=True):
        getattr(weighted if name.startswith("weighted") else module, name)(*copies)
    return pair


def check(name, arguments, dtype):
    """Kernel and twin agree, and write the same elements."""
    for k, (got, want, before) in enumerate(zip(*both(name, arguments), arguments, strict=True)):
        if isinstance(got, np.ndarray) and got.size:
            assert_close(got, want, 200 * ULPS[dtype], f"{name}, argument {k}")
            kept = want == before
            np.testing.assert_array_equal(got[kept], before[kept])


kinds = st.sampled_from(["some", "zeros", "none"])


@each_dtype
@given(st.sampled_from(HEIGHTS), st.sampled_from(SIZES), kinds, seeds())
@few(60)
def test_block_statistics_agree_with_their_twin(dtype, m, n, kind, seed):
    rng = np.random.default_rng(seed)
    (X, ldx), weights, index = matrix(rng, dtype, m, n, 2), weights_of(rng, dtype, m + 9, kind), rng.permutation(m + 9)
    check(
        "weighted_block_statistics", [*(vector(rng, dtype, n) for _ in range(3)), X, ldx, weights, index, m, n], dtype
    )


@each_dtype
@given(st.sampled_from(HEIGHTS), st.sampled_from(SIZES), kinds, st.booleans(), seeds())
@few(60)
def test_backward_agrees_with_its_twin(dtype, m, n, kind, adds, seed):
    rng = np.random.default_rng(seed)
    (Y, ldy), (D, ldd), (X, ldx) = (matrix(rng, dtype, m, n, spare) for spare in (0, 1, 2))
    weights, index = weights_of(rng, dtype, m + 9, kind), rng.permutation(m + 9)
    vectors = [vector(rng, dtype, n) for _ in range(5)]
    check("weighted_batch_norm_backward", [Y, ldy, D, ldd, X, ldx, *vectors, weights, index, m, n, adds], dtype)


def blocks_of(module, X, weights, index):
    """What blocks of rows leave, (3, n_blocks ld), and what they weigh."""
    (m, n), dtype, ld, weighted = X.shape, X.dtype, padded(X.shape[1]), MODULES[module]
    flat, count = np.zeros((m, ld), dtype), block_count(m)
    flat[:, :n] = X
    parts, sizes = np.zeros((3, count, ld), dtype), np.zeros((count, GROUP), dtype)
    for k in range(count):
        lo, hi = (module.block_start(one, m) for one in (k, k + 1))
        here = *parts[:, k], flat[lo:].reshape(-1), ld
        if not weights.size:
            module.block_statistics(*here, hi - lo, n)
            continue
        weighted.weighted_block_statistics(*here, weights, index[lo:], hi - lo, n)
        sizes[k, :2] = weighted.weight_of_rows(weights, index[lo:], hi - lo)[:2]
    return parts.reshape(3, -1), sizes.reshape(-1) if weights.size else sizes[:0].reshape(-1)


def statistics_of(module, X, weights, running=None, index=None, momentum=MOMENTUM):
    """Mean, inverse deviation, and the running mean and variance after that."""
    (m, n), dtype, ld = X.shape, X.dtype, padded(X.shape[1])
    parts, sizes = blocks_of(module, X, weights, np.arange(m) if index is None else index)
    found = np.zeros((4, ld), dtype)
    found[2:, :n] = [[0.5], [2.0]] if running is None else running
    if weights.size:
        given = sizes, block_count(m), n, EPSILON, momentum
        MODULES[module].weighted_batch_statistics(*found, *parts, ld, *given)
    else:
        module.batch_statistics(*found, *parts, ld, m, n, EPSILON, momentum)
    return found[:, :n]


@each_dtype
@given(st.sampled_from([*HEIGHTS, 300]), st.sampled_from(SIZES), kinds, seeds())
@few(60)
def test_batch_statistics_agree_with_their_twin(dtype, m, n, kind, seed):
    rng = np.random.default_rng(seed)
    X, weights, index = (
        rng.normal(3, 1, (m, n)).astype(dtype),
        weights_of(rng, dtype, m + 9, kind),
        rng.permutation(m + 9),
    )
    parts, sizes = blocks_of(twins, X, weights, index)
    vectors = [vector(rng, dtype, n) for _ in range(4)]
    given = sizes, block_count(m), n, EPSILON, MOMENTUM
    check("weighted_batch_statistics", [*vectors, *parts, padded(n), *given], dtype)


@each_module
@pytest.mark.parametrize("shift", [0, 1000])
@each_dtype
def test_statistics_are_those_of_the_formula(dtype, shift, module):
    rng, m, n = np.random.default_rng(0), 203, 19
    X, index = (shift + rng.normal(size=(m, n))).astype(dtype), rng.permutation(m + 40)
    weights = weights_of(rng, dtype, m + 40, "zeros")
    # a row that does not count is far away, and the first one: nothing may be measured from it
    weights[index[0]], X[0] = 0, 1e7
    w, exact = weights[index[:m]].astype(np.longdouble), X.astype(np.longdouble)
    mean = np.average(exact, axis=0, weights=w)
    variance = np.average((exact - mean) ** 2, axis=0, weights=w)
    N = max(w.sum(), (w > 0).sum())
    found = statistics_of(module, X, weights, index=index).astype(np.longdouble)
    tolerance = 32 * ULPS[dtype]
    np.testing.assert_allclose(found[0], mean, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(found[1], 1 / np.sqrt(variance + EPSILON), rtol=tolerance)
    np.testing.assert_allclose(found[2], 0.5 + MOMENTUM * (mean - 0.5), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(found[3], 2 + MOMENTUM * (N / (N - 1) * variance - 2), rtol=tolerance)


@each_module
def test_whole_weights_are_rows_that_are_repeated(module):
    rng, n = np.random.default_rng(0), 5
    X, weights = rng.normal(size=(40, n)), rng.integers(0, 4, 40).astype(float)
    want = statistics_of(module, X.repeat(weights.astype(int), axis=0), np.zeros(0))
    np.testing.assert_allclose(statistics_of(module, X, weights), want, rtol=1e-13)
    # in another unit: there are no more rows than have a weight
    small = statistics_of(module, X, weights / 1000)
    np.testing.assert_allclose(small[:3], want[:3], rtol=1e-13)
    used = X[weights > 0]
    variance = np.average((used - want[0]) ** 2, axis=0, weights=weights[weights > 0])
    np.testing.assert_allclose(small[3], 2 + MOMENTUM * (len(used) / (len(used) - 1) * variance - 2), rtol=1e-13)


@each_module
@each_dtype
def test_weights_of_one_give_the_bits_of_none(dtype, module):
    rng, m = np.random.default_rng(0), 75
    for n in SIZES:
        X = rng.normal(size=(m, n)).astype(dtype)
        one, none = (statistics_of(module, X, weights) for weights in (np.ones(m, dtype), np.zeros(0, dtype)))
        if module is twins:  # it divides where the other multiplies
            np.testing.assert_allclose(one, none, rtol=8 * ULPS[dtype])
        else:
            np.testing.assert_array_equal(one, none)
        (Y, ld), (D, _), (A, _) = (matrix(rng, dtype, m, n) for _ in range(3))
        given, copy, adds = [D, ld, A, ld, *(vector(rng, dtype, n) for _ in range(5))], Y.copy(), n % 2 > 0
        module.batch_norm_backward(Y, ld, *given, m, n, adds)
        MODULES[module].weighted_batch_norm_backward(copy, ld, *given, np.ones(m, dtype), np.arange(m), m, n, adds)
        np.testing.assert_array_equal(Y, copy)


@each_module
@each_dtype
def test_rows_without_weight_change_no_bit(dtype, module):
    rng, m, n = np.random.default_rng(0), 50, 20
    X, weights = rng.normal(size=(m, n)).astype(dtype), weights_of(rng, dtype, m, "zeros")
    other = np.where(weights[:, np.newaxis] > 0, X, rng.normal(size=(m, n)) * 1e15).astype(dtype)
    found, again = (statistics_of(module, rows, weights) for rows in (X, other))
    np.testing.assert_array_equal(found, again)


@each_module
@each_dtype
def test_fewer_than_two_rows_have_no_variance(dtype, module):
    """x^ is 0 then, and the running statistics stay; a weight of 2 or more is that many rows."""
    X = np.random.default_rng(0).normal(size=(40, 3)).astype(dtype)
    for row, weight, moves in ((17, 1.0, False), (17, 1.9, False), (0, 0.0, False), (39, 2.0, True)):
        weights = np.zeros(40, dtype)
        weights[row] = weight
        mean, inverse, running_mean, running_variance = statistics_of(module, X, weights)
        assert np.isfinite(mean).all()
        if moves:
            np.testing.assert_allclose(inverse, 1 / np.sqrt(EPSILON), rtol=1e-5)
            np.testing.assert_array_equal(mean, X[row])
            np.testing.assert_allclose(running_mean, 0.5 + MOMENTUM * (X[row] - 0.5), rtol=1e-5)
            np.testing.assert_allclose(running_variance, 1.5)
        else:
            assert not inverse.any() and (running_mean == 0.5).all() and (running_variance == 2).all()


@each_dtype
@pytest.mark.parametrize("place", [3, 36])
def test_nan_stays_in_its_column(dtype, place):
    rng, m, n = np.random.default_rng(0), 23, 37
    X, weights = rng.normal(size=(m, n)).astype(dtype), weights_of(rng, dtype, m, "some")
    X[5, place] = np.nan
    for module in MODULES:
        found = statistics_of(module, X, weights)
        np.testing.assert_array_equal(np.isnan(found), np.tile(np.arange(n) == place, (4, 1)))


@each_dtype
@pytest.mark.parametrize("weight", [1e-40, 1e-44])
def test_a_block_that_weighs_next_to_nothing_is_no_nan(dtype, weight):
    """The reciprocal of such a weight is infinite in float32."""
    rng = np.random.default_rng(0)
    X, weights = rng.normal(size=(40, 3)).astype(dtype), np.ones(40, dtype)
    weights[:16] = weight
    for module in MODULES:
        found, want = statistics_of(module, X, weights), statistics_of(module, X[16:], np.zeros(0, dtype))
        np.testing.assert_allclose(found[:3], want[:3], rtol=1e-5)


def test_weights_are_counted_by_block_and_all_together():
    weights, index = np.array([0.0, 2.0, 0.5, 0.0, 7.0]), np.array([3, 0, 2, 1, 4])
    sizes = np.full((4, GROUP), SENTINEL)
    sizes[:, :2] = [[0, 0], [0.5, 2], [0.25, 1], [99, 99]]
    for module in MODULES.values():
        assert module.weight_of_rows(weights, index, 4) == (2.5, 2, 2)
        assert module.weight_of_rows(weights, index, 2) == (0, 0, 0)
        assert module.weight_of_blocks(sizes.reshape(-1), 3) == (0.75, 3, 1)
        assert module.weight_of_blocks(4 * sizes.reshape(-1), 2) == (2, 8, 1)
        assert module.weight_of_blocks(sizes.reshape(-1), 1) == (0, 0, 0)
