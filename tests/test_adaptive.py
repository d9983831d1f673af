"""The loops of the other optimizers, and what is around them, against their twins; denormals, NaN in body and tail."""

import numpy as np
import pytest
from _kernels import DTYPES, SENTINEL, ULPS, few, seeds, surrounded
from hypothesis import given
from hypothesis import strategies as st

from fastbp.kernels import layout
from fastbp.kernels.cpu import adaptive, clipping, rules
from fastbp.kernels.layout import (
    ADAGRAD,
    ADAM,
    AMSGRAD,
    CENTERED_RMSPROP,
    CORRECTION,
    GRADIENT,
    KEPT,
    LION,
    MU,
    MU_PRODUCT,
    NADAM,
    NEXT_MU,
    PYTORCH,
    RATE,
    RMSPROP,
    SCIKIT_LEARN,
    SGD,
)  # fmt: skip
from fastbp.kernels.reference import adaptive as adaptive_twins
from fastbp.kernels.reference import clipping as clipping_twins
from fastbp.kernels.reference import rules as rules_twins

MARGIN = 64
SIZES = [1, 7, 15, 16, 17, 31, 32, 33, 37]
# Arrays of state beside w, and which of them is a mean of squares
RULES = {
    "amsgrad": (3, (1, 2)),
    "rmsprop": (1, (0,)),
    "momentum_rmsprop": (2, (1,)),
    "centered_rmsprop": (3, (1,)),
    "adagrad": (1, (0,)),
    "nadam": (2, (1,)),
    "lion": (1, ()),
}
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
each_rule = pytest.mark.parametrize("name", RULES)


def hyper(**values):
    """Numbers of an optimizer: those that are given, and usual ones."""
    usual = dict(
        BETA_1=0.9, BETA_2=0.99, EPSILON=1e-3, MOMENTUM=0.5, RATE=0.1, CORRECTION=2.0, MU=0.45, NEXT_MU=0.5,
        MU_PRODUCT=0.3, KEPT=1.0, EMA_DECAY=0.75,
    )  # fmt: skip
    numbers = np.zeros(layout.HYPER_SIZE)
    for key, value in (usual | values).items():
        numbers[getattr(layout, key)] = value
    return numbers


def drawn(rng, name, dtype, size):
    """w, the state and the gradient, each with its surroundings."""
    n_state, squares = RULES[name]
    pairs = [surrounded(size, dtype, MARGIN) for _ in range(n_state + 2)]
    for _, inner in pairs:
        inner[:] = rng.normal(size=size)
    state = [inner for _, inner in pairs[1:-1]]
    for k in squares:
        state[k][:] = np.abs(state[k]) + 0.1
    if name == "centered_rmsprop":
        state[2] *= 0.25  # where all but rounding cancels, nothing can be compared
        state[1] += state[2] * state[2]
    return pairs


def assert_inside(wholes):
    """Nothing around the elements was touched."""
    for whole in wholes:
        for edge in (whole[:MARGIN], whole[-MARGIN:]):
            assert (edge == SENTINEL).all()


@each_dtype
@each_rule
@given(st.sampled_from(SIZES), st.sampled_from([0.0, 0.9]), seeds())
@few(20)
def test_rules_agree_with_their_twins(name, dtype, size, beta, seed):
    results = []
    for module in (adaptive, adaptive_twins):
        pairs = drawn(np.random.default_rng(seed), name, dtype, size)
        before = pairs[-1][0].copy()
        getattr(module, name)(*(inner for _, inner in pairs), hyper(BETA_1=beta, MOMENTUM=beta))
        np.testing.assert_array_equal(pairs[-1][0], before)  # the gradient is only read
        results.append([whole for whole, _ in pairs[:-1]])
    for mine, twin in zip(*results, strict=True):
        np.testing.assert_allclose(mine, twin, rtol=8 * ULPS[dtype], atol=16 * ULPS[dtype])
    assert_inside(results[0])


@each_dtype
@given(st.sampled_from(SIZES), st.sampled_from([0.0, 0.5]), st.sampled_from([0.0, 0.25]), seeds())
@few(20)
def test_what_is_around_a_rule_agrees_with_its_twin(dtype, size, clip, penalty, seed):
    numbers = hyper(CLIP_VALUE=clip, L1=penalty, KEPT=1 - penalty / 8)
    results = []
    for module, scaled in ((rules, clipping.scaled), (rules_twins, clipping_twins.scaled)):
        pairs = drawn(np.random.default_rng(seed), "adagrad", dtype, size)
        w, a, g = (inner for _, inner in pairs)
        w[::4] = 0  # has no sign
        module.adjust(w, g, numbers, penalty)
        module.average(a, w, numbers)
        scaled(w, g, 0.3)
        results.append([whole for whole, _ in pairs])
    for mine, twin in zip(*results, strict=True):
        np.testing.assert_allclose(mine, twin, rtol=0, atol=8 * ULPS[dtype])
    assert_inside(results[0])


# ---------------------------------------------------------------------------------------------------------------------
# Denormal numbers, and what is not finite


@each_dtype
@each_rule
def test_denormal_state_becomes_zero(name, dtype):
    n_state, _ = RULES[name]
    tiny = np.finfo(dtype).tiny
    some = np.resize(np.array([2, 1.5, 1, 0, 4, 1e-3], dtype) * tiny, 37)
    # halves of them; a sum of squares decays by nothing
    numbers = hyper(BETA_1=0.5, BETA_2=0.5, MOMENTUM=0.5)
    half = some if name == "adagrad" else some / 2
    want = np.where(half < tiny, 0, half)
    state = [some.copy() for _ in range(n_state)]
    getattr(adaptive, name)(np.ones(37, dtype), *state, np.zeros(37, dtype), numbers)
    for array in state[:2]:
        np.testing.assert_array_equal(array, want)
    if n_state == 3:  # the largest value so far stays, a mean decays
        np.testing.assert_array_equal(state[2], some if name == "amsgrad" else want)


@each_dtype
@each_rule
@pytest.mark.parametrize("place", [0, 5, 20, 36])  # of 37: in the vector body, and in the tail
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_stays_where_it_is(name, dtype, place, bad):
    n_state, _ = RULES[name]
    for where in range(n_state + 2):
        arrays = [np.full(37, value, dtype) for value in (1.0, *(0.75, 0.75, 0.5)[:n_state], 0.25)]
        arrays[where][place] = bad
        twin = [array.copy() for array in arrays]
        getattr(adaptive, name)(*arrays, hyper())
        getattr(adaptive_twins, name)(*twin, hyper())
        for array, expected in zip(arrays, twin, strict=True):
            np.testing.assert_allclose(array, expected, rtol=8 * ULPS[dtype])
            assert np.isfinite(np.delete(array, place)).all()
        # what was NaN is known by the weights; of AMSGrad's second moment by its largest value
        if np.isnan(bad):
            assert np.isnan(arrays[0][place])


@each_dtype
@pytest.mark.parametrize("place", [0, 5, 20, 36])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_adjusting_keeps_what_is_not_finite_in_its_place(dtype, place, bad):
    for where in range(2):
        arrays = [np.full(37, 0.5, dtype), np.full(37, 2.0, dtype)]
        arrays[where][place] = bad
        twin = [array.copy() for array in arrays]
        numbers = hyper(CLIP_VALUE=1.0, L1=0.1, KEPT=0.5)
        rules.adjust(*arrays, numbers, 0.25)
        rules_twins.adjust(*twin, numbers, 0.25)
        for array, expected in zip(arrays, twin, strict=True):
            np.testing.assert_allclose(array, expected, rtol=8 * ULPS[dtype])
            assert np.isfinite(np.delete(array, place)).all()
        if np.isnan(bad):
            assert np.isnan(arrays[where][place])
        elif where == 1:
            assert arrays[1][place] == pytest.approx(np.sign(bad) + 0.25 * 0.5 + 0.1, rel=1e-6)


@each_dtype
def test_a_variance_that_rounds_below_zero_is_zero(dtype):
    """Always the same gradient: its mean square is the square of its mean, but for rounding."""
    w, m, v, mean = (np.zeros(37, dtype) for _ in range(4))
    g = np.linspace(0.1, 0.9, 37).astype(dtype)
    numbers = hyper(BETA_2=0.5, EPSILON=1.0, MOMENTUM=0.0, RATE=1.0)
    variances = []
    for _ in range(200):
        adaptive.centered_rmsprop(w, m, v, mean, g, numbers)
        variances.append(v - mean * mean)
    assert np.min(variances) <= 0
    assert np.isfinite(w).all()
    np.testing.assert_allclose(m, g, rtol=1e-3)


def test_the_sign_of_zero_is_zero():
    w, m = np.ones(37), np.zeros(37)
    adaptive.lion(w, m, np.zeros(37), hyper())
    assert (w == 1).all() and (m == 0).all()


# ---------------------------------------------------------------------------------------------------------------------
# Numbers of a step


@pytest.mark.parametrize("optimizer", [GRADIENT, SGD, ADAM, AMSGRAD, RMSPROP, CENTERED_RMSPROP, ADAGRAD, NADAM, LION])
@pytest.mark.parametrize("convention", [PYTORCH, SCIKIT_LEARN])
def test_numbers_of_a_step_agree_with_their_twin(optimizer, convention):
    for step in (1, 2, 3, 10, 1000, 10**7):
        got, want = (hyper(DECAY=0.01, WEIGHT_DECAY=0.1) for _ in range(2))
        rules.write_scalars(optimizer, convention, got, 0.37, step)
        rules_twins.write_scalars(optimizer, convention, want, 0.37, step)
        np.testing.assert_allclose(got, want, rtol=1e-9)
        assert (got[KEPT] == 1) == (optimizer == GRADIENT)
        assert (got[MU_PRODUCT] != hyper()[MU_PRODUCT]) == (optimizer == NADAM)


def test_numbers_of_nadam():
    numbers = hyper(DECAY=4e-3, MU_PRODUCT=1.0)
    product = 1.0
    for step in range(1, 30):
        rules.write_scalars(NADAM, PYTORCH, numbers, 0.5, step)
        mu, then = (0.9 * (1 - 0.5 * 0.96 ** (k * 4e-3)) for k in (step, step + 1))
        product *= mu
        want = mu, then, product, 1 / np.sqrt(1 - 0.99**step), 0.5
        assert numbers[[MU, NEXT_MU, MU_PRODUCT, CORRECTION, RATE]] == pytest.approx(want, rel=1e-14)
