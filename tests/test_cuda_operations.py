"""Normalisations, dropout and skip connections on a GPU, in the simulator, against their twins."""

import numpy as np
import pytest

from fastbp.kernels.cuda import _simulator, dropout, normalization, residual
from fastbp.kernels.cuda._target import WIDTH, cuda, kernel
from fastbp.kernels.layout import padded
from fastbp.kernels.reference import dropout as twin_dropout
from fastbp.kernels.reference import normalization as twin
from fastbp.kernels.reference import residual as twin_residual

DTYPES = (np.float32, np.float64)
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-13}
SENTINEL = 12345.0
M, EPSILON = 5, 1e-3
SIZES = (1, 3, 4, 10, 17)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
each_size = pytest.mark.parametrize("n", SIZES)
each_way = pytest.mark.parametrize("adds", [False, True])


@pytest.fixture(autouse=True, params=[1, -1], ids=["forth", "back"])
def turns(request, monkeypatch):
    """Which thread of a block runs first."""
    monkeypatch.setattr(_simulator, "TURNS", [request.param])


class Rows:
    """Matrices of M rows in one flat array, with a sentinel where nothing belongs; ``self[k]`` is matrix k."""

    def __init__(self, dtype, n, count, seed=0, shift=0.0):
        rng = np.random.default_rng(seed)
        self.dtype, self.n, self.ld, self.count = dtype, n, padded(n), count
        self.work = np.full(count * M * self.ld + 2 * M, SENTINEL, dtype)
        for k in range(count):
            self[k][:] = rng.normal(size=(M, n)) + shift
        self.gamma, self.beta, self.mean, self.variance = range(0, 4 * self.ld, self.ld)
        self.parameters = rng.uniform(0.5, 2, 4 * self.ld).astype(dtype)
        self.stats = count * M * self.ld

    def __getitem__(self, k):
        return self.work[self.start(k) : self.start(k + 1)].reshape(M, self.ld)[:, : self.n]

    def start(self, k):
        return k * M * self.ld

    def copy(self):
        other = object.__new__(Rows)
        other.__dict__.update(self.__dict__, work=self.work.copy())
        return other

    def run(self, row_function):
        """row_function(lane, work, r, starts) with where row r of each matrix starts."""
        starts = [self.start(k) for k in range(self.count)]

        @kernel
        def launch(work):
            r = cuda.blockIdx.x
            row_function(cuda.threadIdx.x, work, r, [start + r * self.ld for start in starts])

        launch[M, WIDTH](self.work)

    def flat(self, k):
        return self.work[self.start(k) :]

    def assert_like(self, other, *written):
        """To some roundings where one has written, and to the bit elsewhere."""
        for k in written:
            size = np.abs(np.where(np.isfinite(other[k]), other[k], 0)).max(initial=1)
            np.testing.assert_allclose(self[k], other[k], rtol=0, atol=TOLERANCE[self.dtype] * size)
        rest = self.copy()
        for k in written:
            rest[k][:] = other[k]
        np.testing.assert_array_equal(rest.work[: self.stats], other.work[: self.stats])


def with_zero_padding(rows):
    """Dropout's twin goes over the padding as well, which is 0 in a session."""
    for k in range(rows.count):
        rows.work[rows.start(k) : rows.start(k + 1)].reshape(M, rows.ld)[:, rows.n :] = 0
    return rows


# ---------------------------------------------------------------------------------------------------------------------
# Skip connections


@each_dtype
@each_size
def test_add_row(dtype, n):
    ours, theirs = Rows(dtype, n, 3), Rows(dtype, n, 3)
    ours.run(lambda lane, work, r, at: residual.add_row(lane, work, *at, n))
    twin_residual.add_rows(theirs.flat(0), theirs.ld, theirs.flat(1), theirs.ld, theirs.flat(2), theirs.ld, M, n)
    np.testing.assert_array_equal(ours.work, theirs.work)


@each_dtype
@each_size
@each_way
def test_hand_on_row(dtype, n, adds):
    ours, theirs = Rows(dtype, n, 2), Rows(dtype, n, 2)
    ours.run(lambda lane, work, r, at: residual.hand_on_row(lane, work, *at, n, adds))
    twin_residual.hand_on_rows(theirs.flat(0), theirs.ld, theirs.flat(1), theirs.ld, M, n, adds)
    np.testing.assert_array_equal(ours.work, theirs.work)


# ---------------------------------------------------------------------------------------------------------------------
# Dropout


@each_dtype
@pytest.mark.parametrize("n", [1, 4, 10, 17, 40])
@pytest.mark.parametrize("rate", [0.0, 0.3, 0.9])
@each_way
def test_dropout_row(dtype, n, rate, adds):
    ours, theirs = with_zero_padding(Rows(dtype, n, 2)), with_zero_padding(Rows(dtype, n, 2))
    index, seed, step, layer = np.array([7, 0, 2**31 + 5, 3, 11]), 2**62 + 12345, 2**33 + 17, 6
    threshold, factor = np.int64(rate * 2**32), dtype(1 / (1 - rate))
    ours.run(
        lambda lane, work, r, at: dropout.dropout_row(
            lane, work, *at, n, index[r], threshold, factor, np.int64(seed), np.int64(step), np.int64(layer), adds
        )
    )
    twin_dropout.dropout_rows(
        theirs.flat(0), theirs.ld, theirs.flat(1), theirs.ld, index, M, n, rate, seed, step, layer, adds
    )
    np.testing.assert_array_equal(ours.work, theirs.work)


def test_philox_known_answers():
    """From the vectors that come with Random123: counter and key all 0, all ones, digits of pi."""
    low = 0xFFFFFFFF
    for counter, key, words in (
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([low] * 4, [low] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ):
        got = dropout.philox(*map(np.uint64, counter), *map(np.uint64, key))
        assert [int(word) for word in got] == words


def test_a_word_at_the_threshold_keeps_its_element():
    zero, seed = np.uint64(0), 3
    words = dropout.philox(zero, zero, zero, np.uint64(1), np.uint64(seed), zero)
    for more in (0, 1):
        rows = with_zero_padding(Rows(np.float32, 1, 2))
        threshold = np.int64(words[0]) + more
        rows.run(
            lambda lane, work, r, at, threshold=threshold: dropout.dropout_row(
                lane, work, *at, 1, r, threshold, np.float32(2), np.int64(seed), np.int64(0), np.int64(1), False
            )
        )
        assert rows[0][0, 0] == (0 if more else 2 * rows[1][0, 0])


def test_dropped_elements_are_0_whatever_they_were():
    rows = with_zero_padding(Rows(np.float32, 10, 2))
    rows[1][:] = np.nan
    rows.run(
        lambda lane, work, r, at: dropout.dropout_row(
            lane, work, *at, 10, r, np.int64(2**31), np.float32(2), np.int64(3), np.int64(0), np.int64(1), False
        )
    )
    dropped = rows[0] == 0
    assert 0 < dropped.sum() < dropped.size
    assert np.isnan(rows[0][~dropped]).all()


# ---------------------------------------------------------------------------------------------------------------------
# Layer norm


def layer_norm_both(dtype, n, shift=0.0, change=None):
    """Ours and the twin's matrices after a forward from 1 to 0, and the statistics of each."""
    ours, theirs = Rows(dtype, n, 2, shift=shift), Rows(dtype, n, 2, shift=shift)
    for rows in (ours, theirs):
        if change is not None:
            change(rows)
    parameters, epsilon = ours.parameters, dtype(EPSILON)
    ours.run(
        lambda lane, work, r, at: normalization.layer_norm_forward(
            lane, work, *at, n, ours.stats + 2 * r, parameters, ours.gamma, ours.beta, epsilon
        )
    )
    gamma, beta = parameters[ours.gamma :], parameters[ours.beta :]
    X, stats = np.zeros(M * theirs.ld, dtype), theirs.work[theirs.stats :]
    X.reshape(M, -1)[:, :n] = theirs[1]  # the twin clears the padding
    twin.layer_norm_forward(theirs.flat(0), theirs.ld, X, theirs.ld, stats, gamma, beta, M, n, EPSILON)
    return ours, theirs


@each_dtype
@each_size
def test_layer_norm_forward(dtype, n):
    ours, theirs = layer_norm_both(dtype, n)
    ours.assert_like(theirs, 0)
    np.testing.assert_allclose(ours.work[ours.stats :], theirs.work[ours.stats :], rtol=10 * TOLERANCE[dtype])


def test_layer_norm_of_a_large_mean():
    ours, theirs = layer_norm_both(np.float64, 17, shift=1e6)
    np.testing.assert_allclose(ours[0], theirs[0], rtol=0, atol=1e-8)


def test_layer_norm_of_what_is_not_finite():
    def change(rows):
        rows[1][0, 2], rows[1][1, 4] = np.nan, np.inf

    ours, theirs = layer_norm_both(np.float32, 6, change=change)
    ours.assert_like(theirs, 0)
    assert np.isnan(ours[0][:2]).all()
    assert np.isfinite(ours[0][2:]).all()


@each_dtype
@each_size
@each_way
def test_layer_norm_backward(dtype, n, adds):
    """From 1 to 0, X is 2."""
    ours, theirs = Rows(dtype, n, 3), Rows(dtype, n, 3)
    for rows in (ours, theirs):
        stats = rows.work[rows.stats :].reshape(M, 2)
        stats[:, 0], stats[:, 1] = rows[2].mean(axis=1), 1 / np.sqrt(rows[2].var(axis=1) + dtype(EPSILON))
    parameters, gamma = ours.parameters, ours.parameters[ours.gamma :]
    ours.run(
        lambda lane, work, r, at: normalization.layer_norm_backward(
            lane, work, *at, n, ours.stats + 2 * r, parameters, ours.gamma, adds
        )
    )
    stats, ld = theirs.work[theirs.stats :], theirs.ld
    twin.layer_norm_backward(theirs.flat(0), ld, theirs.flat(1), ld, theirs.flat(2), ld, stats, gamma, M, n, adds)
    ours.assert_like(theirs, 0)


# ---------------------------------------------------------------------------------------------------------------------
# Batch norm


@each_dtype
@each_size
def test_batch_norm_inference(dtype, n):
    ours, theirs = Rows(dtype, n, 2), Rows(dtype, n, 2)
    parameters, places = ours.parameters, (ours.mean, ours.variance, ours.gamma, ours.beta)
    ours.run(
        lambda lane, work, r, at: normalization.batch_norm_inference(
            lane, work, *at, n, parameters, *places, dtype(EPSILON)
        )
    )
    vectors, ld = [parameters[place:] for place in places], theirs.ld
    twin.batch_norm_inference(theirs.flat(0), ld, theirs.flat(1), ld, *vectors, M, n, EPSILON)
    ours.assert_like(theirs, 0)
