"""Batch norm and layer norm: kernels against their twins, accuracy, the running statistics, and NaN."""

import numpy as np
import pytest
from _kernels import DTYPES, SENTINEL, ULPS, assert_close, few, seeds
from hypothesis import given
from hypothesis import strategies as st

from fastbp.kernels.cpu import normalization, residual
from fastbp.kernels.layout import MOST_BLOCKS, block_count, padded
from fastbp.kernels.reference import normalization as twins
from fastbp.kernels.reference import residual as residual_twins

SIZES = [1, 2, 7, 15, 16, 17, 33]
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
EPSILON = 1e-5


class Rows:
    """Random matrices with rows some way apart and the sentinel between them, and what a normalisation keeps."""

    def __init__(self, rng, dtype, m, n):
        self.rng, self.dtype, self.m, self.n = rng, dtype, m, n

    def matrix(self, spare):
        ld = padded(self.n) + 16 * spare
        flat = np.full(self.m * ld, SENTINEL, self.dtype)
        flat.reshape(self.m, ld)[:, : padded(self.n)] = 0
        flat.reshape(self.m, ld)[:, : self.n] = self.rng.normal(size=(self.m, self.n))
        return flat, ld

    def vector(self, n=None):
        values = np.zeros(padded(self.n if n is None else n), self.dtype)
        values[: self.n if n is None else n] = self.rng.uniform(0.5, 2, self.n if n is None else n)
        return values


def calls(rows, adds):
    """Each kernel by name, with arguments for it; what it writes to comes first."""
    (Y, ldy), (X, ldx), (D, ldd) = (rows.matrix(spare) for spare in (0, 2, 1))
    m, n, vector = rows.m, rows.n, rows.vector
    stats, momentum, floor = vector(2 * m), 0.1 if adds else 0.0, rows.dtype(0 if adds else -np.inf)
    n_rows, ldb, parts = 16 * m, padded(n), [rows.matrix(0)[0] for _ in range(3)]
    parts = [np.concatenate([part] * 4)[: block_count(n_rows) * ldb] for part in parts]
    return {
        "block_statistics": (vector(), vector(), vector(), X, ldx, m, n),
        "batch_statistics": (
            vector(), vector(), vector(), vector(), *parts[:2], np.abs(parts[2]), ldb, n_rows, n, EPSILON, momentum,
        ),
        "sum_of_blocks": (vector(), X, ldx, m, n, 0.25),
        "batch_norm_forward": (Y, ldy, X, ldx, vector(), vector(), vector(), vector(), floor, m, n),
        "batch_norm_inference": (Y, ldy, X, ldx, vector(), vector(), vector(), vector(), m, n, EPSILON),
        "block_sums": (vector(), vector(), D, ldd, X, ldx, vector(), vector(), m, n),
        "batch_norm_backward": (
            Y, ldy, D, ldd, X, ldx, vector(), vector(), vector(), vector(), vector(), m, n, adds,
        ),
        "layer_norm_forward": (Y, ldy, X, ldx, stats, vector(), vector(), m, n, EPSILON),
        "layer_norm_backward": (Y, ldy, D, ldd, X, ldx, stats, vector(), m, n, adds),
        "layer_norm_gamma": (vector(), D, ldd, X, ldx, stats, padded(n), m),
        "add_rows": (Y, ldy, X, ldx, D, ldd, m, n),
        "hand_on_rows": (Y, ldy, D, ldd, m, n, adds),
    }  # fmt: skip


def copied(arguments):
    return [array.copy() if isinstance(array, np.ndarray) else array for array in arguments]


def both(name, arguments):
    """Arguments after the kernel and after its twin."""
    mine, theirs = copied(arguments), copied(arguments)
    getattr(normalization if hasattr(normalization, name) else residual, name)(*mine)
    getattr(twins if hasattr(twins, name) else residual_twins, name)(*theirs)
    return mine, theirs


@pytest.mark.parametrize("name", calls(Rows(np.random.default_rng(0), np.float64, 1, 1), False))
@each_dtype
@given(st.sampled_from(SIZES), st.sampled_from(SIZES), st.booleans(), seeds())
@few(25)
def test_kernel_agrees_with_its_twin(name, dtype, m, n, adds, seed):
    arguments = calls(Rows(np.random.default_rng(seed), dtype, m, n), adds)[name]
    mine, theirs = both(name, arguments)
    for k, (got, want, before) in enumerate(zip(mine, theirs, arguments, strict=True)):
        if isinstance(got, np.ndarray):
            assert_close(got, want, 200 * ULPS[dtype], f"{name}, argument {k}")
            kept = want == before
            np.testing.assert_array_equal(got[kept], before[kept])


@each_dtype
@pytest.mark.parametrize("place", [3, 36])
def test_nan_stays_where_it_belongs(dtype, place):
    """In the body of vectors and in their tail: a NaN makes its column or its row NaN, and no other."""
    rows = Rows(np.random.default_rng(0), dtype, 5, 37)
    for name, arguments in calls(rows, False).items():
        arguments = list(arguments)
        X, ldx = (None, 0)
        if name in ("batch_norm_backward", "block_sums"):
            X, ldx = arguments[4], arguments[5]
        elif name in ("batch_norm_forward", "batch_norm_inference", "layer_norm_forward"):
            X, ldx = arguments[2], arguments[3]
        elif name == "batch_statistics":
            X, ldx = arguments[4], arguments[7]
        elif name == "block_statistics":
            X, ldx = arguments[3], arguments[4]
        elif name == "sum_of_blocks":
            X, ldx = arguments[1], arguments[2]
        if X is None:
            continue
        X[2 * ldx + place] = np.nan
        got, want = both(name, arguments)
        for mine, theirs in zip(got, want, strict=True):
            if isinstance(mine, np.ndarray):
                np.testing.assert_array_equal(np.isnan(mine), np.isnan(theirs), err_msg=name)
        first = np.concatenate([got[k] for k in ((1, 2) if name.startswith("block_s") else (0,))])
        assert np.isnan(first).any(), name


def statistics_of(module, X, running=None, epsilon=EPSILON, momentum=0.0):
    """Mean, inverse deviation and the running statistics of X, by blocks."""
    (m, n), dtype = X.shape, X.dtype
    flat, ldb, n_blocks = np.zeros((m, padded(n)), dtype), padded(n), block_count(m)
    flat[:, :n] = X
    parts = np.zeros((3, n_blocks, ldb), dtype)
    for k in range(n_blocks):
        lo, hi = (module.block_start(one, m) for one in (k, k + 1))
        module.block_statistics(*parts[:, k], flat[lo:].reshape(-1), ldb, hi - lo, n)
    running = np.zeros((2, ldb), dtype) if running is None else running
    found = np.zeros((2, ldb), dtype)
    module.batch_statistics(*found, *running, *parts.reshape(3, -1), ldb, m, n, epsilon, momentum)
    return found[0, :n], found[1, :n]


@pytest.mark.parametrize("module", [normalization, twins])
@pytest.mark.parametrize("mean", [1000, 100_000])
@each_dtype
def test_statistics_of_large_means_keep_their_digits(dtype, mean, module):
    rng, m, n = np.random.default_rng(0), 200, 16
    X = (mean + rng.normal(size=(m, n))).astype(dtype)
    exact = X.astype(np.longdouble)
    average, deviation = statistics_of(module, X)
    np.testing.assert_allclose(average.astype(np.longdouble), exact.mean(axis=0), rtol=2 * ULPS[dtype])
    want = 1 / np.sqrt(exact.var(axis=0) + EPSILON)
    np.testing.assert_allclose(deviation.astype(np.longdouble), want, rtol=16 * ULPS[dtype])


@each_dtype
def test_statistics_of_rows_with_large_means_keep_their_digits(dtype):
    rng, m, n = np.random.default_rng(0), 64, 16
    X, mean = (1000 + rng.normal(size=(m, n))).astype(dtype), np.zeros(n, dtype)
    exact, stats, Y = X.astype(np.longdouble), np.zeros(2 * m, dtype), np.zeros((m, n), dtype)
    normalization.layer_norm_forward(Y.reshape(-1), n, X.reshape(-1), n, stats, mean, mean, m, n, EPSILON)
    want = 1 / np.sqrt(exact.var(axis=1) + EPSILON)
    # the mean is off by some units of 1000: that squared is all that the variance loses
    bound = 64 * ULPS[dtype] + (1000 * 4 * ULPS[dtype]) ** 2
    np.testing.assert_allclose(stats[1::2].astype(np.longdouble), want, rtol=float(bound))


@given(st.integers(1, 300) | st.integers(1, 20_000))
@few(200)
def test_blocks_are_whole_rows_of_micro_kernels(n_rows):
    count = block_count(n_rows)
    assert normalization.blocks_of(n_rows) == count and (count % 4 == 0 or n_rows <= 12)
    starts = [normalization.block_start(k, n_rows) for k in range(count + 1)]
    assert starts == [twins.block_start(k, n_rows) for k in range(count + 1)]
    assert starts[0] == 0 and starts[-1] == n_rows and not any(start % 4 for start in starts[:-1])
    sizes = np.diff(starts)
    assert sizes.min() > 0 and sizes.max() - sizes.min() < 8
    assert sizes.max() <= 16 or count == MOST_BLOCKS


@pytest.mark.parametrize("module", [normalization, twins])
def test_running_statistics_follow_the_rule(module):
    X, n = np.random.default_rng(0).normal(3, 2, (50, 4)), 4
    running = np.zeros((2, 16))
    running[1] = 1
    statistics_of(module, X, running, momentum=0.25)
    np.testing.assert_allclose(running[0, :n], 0.25 * X.mean(axis=0))
    np.testing.assert_allclose(running[1, :n], 0.75 + 0.25 * X.var(axis=0, ddof=1))
    before = running.copy()
    for n_rows, momentum in ((1, 0.25), (10, 0.0)):  # one row has no variance
        found = statistics_of(module, X[:n_rows], running, momentum=momentum)
        np.testing.assert_array_equal(before, running)
        assert np.isfinite(found).all()
