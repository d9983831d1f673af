"""Dropout's masks: Philox's known answers, the kernel against its twin, and what a mask depends on."""

import itertools

import numpy as np
import pytest
from _kernels import DTYPES, SENTINEL, few, seeds
from hypothesis import given
from hypothesis import strategies as st

from fastbp.kernels.cpu import dropout
from fastbp.kernels.layout import padded
from fastbp.kernels.reference import dropout as twins

each_dtype = pytest.mark.parametrize("dtype", DTYPES)
# Counter, key and words of Philox4x32-10, from the known-answer tests of Random123 (kat_vectors)
ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]  # fmt: skip


def mask(module, dtype=np.float64, *, m=3, n=17, rate=0.5, seed=1, step=0, layer=0, index=None):
    """1 where an element is kept, (m, n)."""
    ld, index = padded(n), np.arange(m) if index is None else np.array(index)
    A, Y = np.ones(m * ld, dtype), np.zeros(m * ld, dtype)
    module.dropout_rows(Y, ld, A, ld, index, m, n, rate, seed, step, layer, False)
    return (Y.reshape(m, ld)[:, :n] != 0).astype(int)


@pytest.mark.parametrize("counter, key, words", ANSWERS)
def test_known_answers(counter, key, words):
    got = twins._philox(*map(np.uint64, counter), *map(np.uint64, key))
    assert tuple(map(int, got)) == words


@each_dtype
@given(st.data())
@few(60)
def test_kernel_agrees_with_its_twin(dtype, data):
    m, n = data.draw(st.sampled_from([1, 2, 5])), data.draw(st.sampled_from([1, 4, 15, 16, 17, 33, 64]))
    rate, adds = data.draw(st.sampled_from([0.0, 0.1, 0.5, 0.999])), data.draw(st.booleans())
    seed, step, layer = data.draw(st.integers(0, 2**63 - 1)), data.draw(st.integers(0, 2**40)), data.draw(seeds())
    rng, ldy, lda = np.random.default_rng(data.draw(seeds())), padded(n) + 3, padded(n) + 16
    index, Y = rng.integers(0, 2**40, m), np.full(m * ldy + 5, SENTINEL, dtype)
    A, twin = rng.normal(size=m * lda).astype(dtype), Y.copy()
    A[:2] = np.nan, np.inf  # dropped or kept, never a product of 0 and infinity
    arguments = A, lda, index, m, n, rate, seed, step, layer, adds
    dropout.dropout_rows(Y, ldy, *arguments)
    twins.dropout_rows(twin, ldy, *arguments)
    np.testing.assert_array_equal(Y, twin)
    assert (Y[(m - 1) * ldy + padded(n) :] == SENTINEL).all()


def test_rate_is_the_share_of_zeros_and_the_mean_stays():
    n, m = 256, 2000
    for rate in (0.1, 0.5, 0.9):
        Y = np.zeros(m * n)
        dropout.dropout_rows(Y, n, np.ones(m * n), n, np.arange(m), m, n, rate, 7, 3, 1, False)
        spread = np.sqrt(rate * (1 - rate) / (m * n))
        assert abs((Y == 0).mean() - rate) < 5 * spread
        assert abs(Y.mean() - 1) < 5 * spread / (1 - rate)
        assert np.unique(Y).tolist() == [0, 1 / (1 - rate)]
        by_column = (Y.reshape(m, n) == 0).mean(axis=0)  # each of four words, and each column, alike
        assert np.abs(by_column - rate).max() < 5.5 * np.sqrt(rate * (1 - rate) / m)
    assert mask(dropout, rate=0.0).all()


def test_a_mask_is_of_its_row_step_layer_and_seed():
    first = mask(dropout, n=128)
    for change in ({"seed": 2}, {"seed": 1 + 2**32}, {"step": 1}, {"layer": 1}, {"index": [3, 4, 5]}):
        other = mask(dropout, n=128, **change)
        assert 0.35 < (first == other).mean() < 0.65, change
    together = mask(dropout, n=128, m=6)
    for i, j in itertools.combinations(range(6), 2):
        assert 0.3 < (together[i] == together[j]).mean() < 0.7
    # a row's mask goes with the row of X, wherever in the batch it stands
    np.testing.assert_array_equal(together[[4, 0]], mask(dropout, n=128, m=2, index=[4, 0]))
