"""Batch norm and layer norm: kernels against their twins, accuracy, the running statistics, and NaN."""

import numpy as np
import pytest
from _kernels import DTYPES, SENTINEL, ULPS, assert_close, few, seeds
from hypothesis import given
from hypothesis import strategies as st

from fastbp.kernels.cpu import normalization, residual
from fastbp.kernels.layout import padded
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
    stats, momentum = vector(2 * m), 0.1 if adds else 0.0
    return {
        "column_statistics": (vector(), vector(), vector(), vector(), X, ldx, m, n, EPSILON, momentum),
        "batch_norm_forward": (Y, ldy, X, ldx, vector(), vector(), vector(), vector(), m, n),
        "batch_norm_inference": (Y, ldy, X, ldx, vector(), vector(), vector(), vector(), m, n, EPSILON),
        "batch_norm_sums": (
            vector(), vector(), vector(), vector(), D, ldd, X, ldx, vector(), vector(), m, n,
        ),
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
        X, ldx = (arguments[4], arguments[5]) if name in ("column_statistics", "batch_norm_backward") else (None, 0)
        if name in ("batch_norm_forward", "batch_norm_inference", "layer_norm_forward"):
            X, ldx = arguments[2], arguments[3]
        if X is None:
            continue
        X[2 * ldx + place] = np.nan
        got, want = both(name, arguments)
        for mine, theirs in zip(got, want, strict=True):
            if isinstance(mine, np.ndarray):
                np.testing.assert_array_equal(np.isnan(mine), np.isnan(theirs), err_msg=name)
        assert np.isnan(got[0]).any(), name


@each_dtype
def test_statistics_of_large_means_keep_their_digits(dtype):
    rng, m, n = np.random.default_rng(0), 64, 16
    X = (1000 + rng.normal(size=(m, n))).astype(dtype)
    exact, mean, deviation = X.astype(np.longdouble), np.zeros(n, dtype), np.zeros(n, dtype)
    normalization.column_statistics(
        mean, deviation, mean.copy(), mean.copy(), X.reshape(-1), n, m, n, EPSILON, 0.0
    )  # fmt: skip
    want = 1 / np.sqrt(exact.var(axis=0) + EPSILON)
    # the mean is off by some units of 1000: that squared is all that the variance loses
    bound = 64 * ULPS[dtype] + (1000 * 4 * ULPS[dtype]) ** 2
    np.testing.assert_allclose(deviation.astype(np.longdouble), want, rtol=float(bound))
    stats, Y = np.zeros(2 * m, dtype), np.zeros((m, n), dtype)
    normalization.layer_norm_forward(Y.reshape(-1), n, X.reshape(-1), n, stats, mean, mean, m, n, EPSILON)
    want = 1 / np.sqrt(exact.var(axis=1) + EPSILON)
    np.testing.assert_allclose(stats[1::2].astype(np.longdouble), want, rtol=float(bound))


def test_running_statistics_follow_the_rule():
    X, n = np.random.default_rng(0).normal(3, 2, (10, 4)), 4
    mean, variance, here = np.zeros(n), np.ones(n), np.zeros(2 * n)
    normalization.column_statistics(here[:n], here[n:], mean, variance, X.reshape(-1), n, 10, n, EPSILON, 0.25)
    np.testing.assert_allclose(mean, 0.25 * X.mean(axis=0))
    np.testing.assert_allclose(variance, 0.75 + 0.25 * X.var(axis=0, ddof=1))
    before = mean.copy(), variance.copy()
    for n_rows, momentum in ((1, 0.25), (10, 0.0)):  # one row has no variance
        normalization.column_statistics(
            here[:n], here[n:], mean, variance, X.reshape(-1), n, n_rows, n, EPSILON, momentum
        )
        np.testing.assert_array_equal(before, (mean, variance))
    assert np.isfinite(here).all()
