"""The order of rows of each epoch: scikit-learn's, bit by bit, by the compiled shuffle too."""

import warnings

import numpy as np
import pytest
from _kernels import few, seeds
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from sklearn import neural_network
from sklearn.utils import check_random_state
from sklearn.utils import shuffle as shuffle_of_scikit_learn

from fastbp import MLPRegressor, _orders
from fastbp._orders import Orders, Twister
from fastbp.kernels.cpu.shuffle import shuffle
from fastbp.kernels.reference.shuffle import shuffle as twin

EDGES = [0, 1, 2, 3, 4, 5, 31, 32, 33, 624, 625, 1023, 1024, 1025, 4096, 4097, 10_000]


def state_of(seed, used=0):
    rng = np.random.RandomState(seed)
    rng.randint(0, 2**32, used, np.uint32)
    _, words, position, *_ = rng.get_state()
    return np.append(words, np.uint32(position))


@given(st.one_of(st.sampled_from(EDGES), st.integers(0, 3000)), seeds(), st.integers(0, 1300))
@few(150)
def test_shuffle_agrees_with_its_twin(n, seed, used):
    state, drawn = state_of(seed, used), np.empty(624, np.uint32)
    order, twin_order, twin_state = np.arange(n), np.arange(n), state.copy()
    for _ in range(2):
        shuffle(order, state, drawn)
        twin(twin_order, twin_state, drawn)
        assert_array_equal(order, twin_order)
        assert_array_equal(state, twin_state)


@pytest.mark.parametrize("n", [5, 3000])
def test_orders_are_those_of_scikit_learn(n):
    rng, other = np.random.RandomState(7), np.random.RandomState(7)
    orders, want = Orders(n, rng, compiled=True), np.arange(n)
    for _ in range(4):
        want = shuffle_of_scikit_learn(want, random_state=other)
        assert_array_equal(orders.draw(), want)
        assert (orders._twister is not None) == (n == 3000)
        assert rng.standard_normal() == other.standard_normal()  # what is drawn between goes on from there
        assert rng.randint(10**6) == other.randint(10**6)


class Reversed(np.random.RandomState):
    def shuffle(self, x):
        x[:] = x[::-1].copy()


def test_other_generators_shuffle_by_themselves():
    for make, compiled in (
        (lambda: np.random.RandomState(np.random.PCG64(1)), True),
        (lambda: np.random.RandomState(1), False),
        (lambda: Reversed(1), True),
    ):
        orders, want = Orders(3000, make(), compiled=compiled), np.arange(3000)
        make().shuffle(want)
        assert_array_equal(orders.draw(), want)
        assert orders._twister is None


def test_the_global_generator_may_be_exchanged():
    before = np.random.get_bit_generator()
    try:
        np.random.set_bit_generator(np.random.MT19937(0))
        orders, want = Orders(3000, check_random_state(None), compiled=True), np.arange(3000)
        for seed in (0, 5):
            np.random.set_bit_generator(np.random.MT19937(seed))
            other = np.random.RandomState(np.random.MT19937(seed))
            want = want[other.permutation(3000)]
            assert_array_equal(orders.draw(), want)
            assert np.random.randint(10**6) == other.randint(10**6)
    finally:
        np.random.set_bit_generator(before)


def test_a_memory_that_is_not_as_expected_is_left_alone(monkeypatch):
    rng = np.random.RandomState(0)
    assert Twister.of(rng) is not None
    right = np.ctypeslib.as_array
    monkeypatch.setattr(_orders.np.ctypeslib, "as_array", lambda array: right(array) + np.uint32(1))
    assert Twister.of(rng) is None


def test_a_fit_follows_the_compiled_order():
    """Of so many rows the compiled shuffle draws; in another order the weights would be others."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(_orders.COMPILED_FROM, 3)), rng.normal(size=_orders.COMPILED_FROM)
    options = {"hidden_layer_sizes": (4,), "max_iter": 3, "random_state": 0, "learning_rate_init": 0.01}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours = MLPRegressor(**options).fit(X, y)
        theirs = neural_network.MLPRegressor(**options).fit(X, y)
    for W, want in zip(ours.coefs_, theirs.coefs_, strict=True):
        np.testing.assert_allclose(W, want, rtol=1e-9)
