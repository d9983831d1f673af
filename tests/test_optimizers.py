"""Optimizers against their twins, PyTorch and scikit-learn; denormal moments, and NaN in body and tail."""

import numpy as np
import pytest
from _kernels import DTYPES, SENTINEL, ULPS, few, seeds, surrounded
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neural_network import _stochastic_optimizers as scikit_learn

from fastbp.kernels.cpu import optimizers
from fastbp.kernels.layout import ADAM, PYTORCH, SCIKIT_LEARN, SGD
from fastbp.kernels.reference import optimizers as twins

MARGIN = 64
SIZES = [1, 7, 15, 16, 17, 31, 32, 33, 37]
STEPS = 50
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
nesterov_or_not = pytest.mark.parametrize("nesterov", [0, 1])


def hyper(beta_1=0.9, beta_2=0.99, epsilon=1e-8, l2=0.0):
    return np.array([beta_1, beta_2, epsilon, l2])


def arrays(rng, dtype, size, count):
    """Pairs of an array with its surroundings and its elements, drawn from a normal distribution."""
    pairs = [surrounded(size, dtype, MARGIN) for _ in range(count)]
    for _, inner in pairs:
        inner[:] = rng.normal(size=size)
    return pairs


def run(module, name, rng, dtype, size, *rest, n_state):
    """w and moments after one call on random arrays: everything with its surroundings. The gradient is only read."""
    *state, (g_whole, g) = arrays(rng, dtype, size, n_state + 1)
    if name == "adam":
        np.abs(state[2][1], out=state[2][1])
    before = g_whole.copy()
    getattr(module, name)(*(inner for _, inner in state), g, *rest)
    np.testing.assert_array_equal(g_whole, before)
    return [whole for whole, _ in state]


def assert_twins(got, want, dtype, largest):
    """Within a few roundings of the largest number that enters, and nothing outside touched."""
    for mine, twin in zip(got, want, strict=True):
        np.testing.assert_allclose(mine, twin, rtol=0, atol=8 * ULPS[dtype] * largest)
        for edge in (mine[:MARGIN], mine[-MARGIN:]):
            assert (edge == SENTINEL).all()


# ---------------------------------------------------------------------------------------------------------------------
# Scalars


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 7, 30, 33, 1000, 123_457])
def test_power(exponent):
    for base in (0.0, 0.5, 0.9, 0.999, 0.999999, 1.0):
        got = optimizers.power(base, exponent)
        assert isinstance(got, float)
        # squaring doubles a relative error and adds half a unit: about half the exponent, in units
        assert got == pytest.approx(twins.power(base, exponent), rel=max(exponent, 1) * 2.0**-53, abs=0)
    assert optimizers.power(0.5, exponent) == 0.5**exponent
    assert optimizers.power(3.0, min(exponent, 33)) == 3 ** min(exponent, 33)


@pytest.mark.parametrize("optimizer", [ADAM, SGD])
@pytest.mark.parametrize("convention", [PYTORCH, SCIKIT_LEARN])
def test_step_scalars_agree_with_their_twin(optimizer, convention):
    for step in (1, 2, 3, 10, 1000, 10**7):
        for values in (hyper(), hyper(0.0, 0.0), hyper(0.99, 0.999999)):
            got = optimizers.step_scalars(optimizer, convention, values, 0.37, step)
            assert got == pytest.approx(twins.step_scalars(optimizer, convention, values, 0.37, step), rel=1e-9)


def test_step_scalars_of_the_first_step():
    """The moments of the first step are (1 - beta) g and (1 - beta) g^2: corrected, they are g and g^2."""
    values = hyper(0.75, 0.9375)  # 1 - beta is exact, and so is its root
    assert optimizers.step_scalars(ADAM, PYTORCH, values, 0.5, 1) == (0.5 / 0.25, 1 / 0.25)
    assert optimizers.step_scalars(ADAM, SCIKIT_LEARN, values, 0.5, 1) == (0.5 * 0.25 / 0.25, 1)
    assert optimizers.step_scalars(SGD, PYTORCH, values, 0.5, 1) == (0.5, 1)
    assert optimizers.step_scalars(SGD, SCIKIT_LEARN, values, 0.5, 1) == (1, 0.5)


# ---------------------------------------------------------------------------------------------------------------------
# Against the twins


@each_dtype
@given(st.sampled_from(SIZES), st.sampled_from([0.0, 0.25]), st.sampled_from([0.0, 0.9]), seeds())
@few(40)
def test_adam_agrees_with_its_twin(dtype, size, l2, beta_1, seed):
    rest = (hyper(beta_1=beta_1), 0.01, 3.0, l2)
    got, want = (
        run(module, "adam", np.random.default_rng(seed), dtype, size, *rest, n_state=3)
        for module in (optimizers, twins)
    )
    assert_twins(got, want, dtype, 16)


@each_dtype
@nesterov_or_not
@given(st.sampled_from(SIZES), st.sampled_from([0.0, 0.25]), st.sampled_from([0.0, 0.9]), seeds())
@few(40)
def test_sgd_agrees_with_its_twin(dtype, nesterov, size, l2, momentum, seed):
    for rate, correction in ((0.1, 1.0), (1.0, 0.1)):
        rest = (momentum, nesterov, rate, correction, l2)
        got, want = (
            run(module, "sgd", np.random.default_rng(seed), dtype, size, *rest, n_state=2)
            for module in (optimizers, twins)
        )
        assert_twins(got, want, dtype, 4)


# ---------------------------------------------------------------------------------------------------------------------
# Against other libraries, 50 steps in float64 with rates that change


def problem(seed=0, size=37):
    """Parameters, and for each step a gradient and a rate."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=size), rng.normal(size=(STEPS, size)), 0.05 / np.sqrt(1 + np.arange(STEPS))


def descend(optimizer, convention, values, *, nesterov=0):
    """Parameters after each of the steps."""
    w, gradients, rates = problem()
    m, v = np.zeros_like(w), np.zeros_like(w)
    history = []
    for step, (g, rate) in enumerate(zip(gradients, rates.tolist(), strict=True), 1):
        rate, correction = optimizers.step_scalars(optimizer, convention, values, rate, step)
        if optimizer == ADAM:
            optimizers.adam(w, m, v, g, values, rate, correction, float(values[3]))
        else:
            optimizers.sgd(w, m, g, float(values[0]), nesterov, rate, correction, float(values[3]))
        history.append(w.copy())
    return np.array(history)


def descend_with_torch(make):
    torch = pytest.importorskip("torch")
    w, gradients, rates = problem()
    parameter = torch.nn.Parameter(torch.from_numpy(w))
    optimizer = make(torch.optim, [parameter])
    history = []
    for g, rate in zip(gradients, rates.tolist(), strict=True):
        optimizer.param_groups[0]["lr"] = rate
        parameter.grad = torch.from_numpy(g.copy())
        optimizer.step()
        history.append(parameter.detach().numpy().copy())
    return np.array(history)


@pytest.mark.parametrize("l2", [0.0, 0.3])
@pytest.mark.parametrize("epsilon", [1e-8, 0.1])  # with a large one it matters where it is added
def test_adam_is_that_of_pytorch(l2, epsilon):
    want = descend_with_torch(lambda optim, p: optim.Adam(p, betas=(0.9, 0.99), eps=epsilon, weight_decay=l2))
    got = descend(ADAM, PYTORCH, hyper(epsilon=epsilon, l2=l2))
    np.testing.assert_allclose(got, want, rtol=1e-10)


@pytest.mark.parametrize("l2", [0.0, 0.3])
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, 0), (0.9, 0), (0.9, 1)])
def test_sgd_is_that_of_pytorch(l2, momentum, nesterov):
    options = {"lr": 1.0, "momentum": momentum, "nesterov": bool(nesterov), "weight_decay": l2}
    want = descend_with_torch(lambda optim, p: optim.SGD(p, **options))
    got = descend(SGD, PYTORCH, hyper(beta_1=momentum, l2=l2), nesterov=nesterov)
    np.testing.assert_allclose(got, want, rtol=1e-10)


def descend_with_scikit_learn(make, l2):
    w, gradients, rates = problem()
    optimizer, history = make([w]), []
    for g, rate in zip(gradients, rates.tolist(), strict=True):
        optimizer.learning_rate = optimizer.learning_rate_init = rate
        optimizer.update_params([w], [g + l2 * w])
        history.append(w.copy())
    return np.array(history)


@pytest.mark.parametrize("l2", [0.0, 0.3])
@pytest.mark.parametrize("epsilon", [1e-8, 0.1])
def test_adam_is_that_of_scikit_learn(l2, epsilon):
    want = descend_with_scikit_learn(
        lambda w: scikit_learn.AdamOptimizer(w, beta_1=0.9, beta_2=0.99, epsilon=epsilon), l2
    )
    got = descend(ADAM, SCIKIT_LEARN, hyper(epsilon=epsilon, l2=l2))
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("l2", [0.0, 0.3])
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, 0), (0.9, 0), (0.9, 1)])
def test_sgd_is_that_of_scikit_learn(l2, momentum, nesterov):
    want = descend_with_scikit_learn(
        lambda w: scikit_learn.SGDOptimizer(w, momentum=momentum, nesterov=bool(nesterov)), l2
    )
    got = descend(SGD, SCIKIT_LEARN, hyper(beta_1=momentum, l2=l2), nesterov=nesterov)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)


def test_the_conventions_differ():
    """Otherwise the four tests above would compare one thing with itself."""
    values = hyper(epsilon=0.1)
    for optimizer in (ADAM, SGD):
        here, there = descend(optimizer, PYTORCH, values), descend(optimizer, SCIKIT_LEARN, values)
        assert np.abs(here[-1] - there[-1]).max() > 1e-3


# ---------------------------------------------------------------------------------------------------------------------
# Denormal numbers, and what is not finite


def halved(dtype):
    """37 moments, and what half of each is, with denormal numbers as zero."""
    tiny = np.finfo(dtype).tiny
    some = np.array([2, -2, 1.5, -1.5, 1, -1, 0, 4, -4, 1e-3], dtype) * tiny
    moment = np.resize(some, 37)
    half = moment / 2
    return moment, np.where(np.abs(half) < tiny, 0, half)


@each_dtype
def test_denormal_moments_of_adam_become_zero(dtype):
    m, want = halved(dtype)
    v, w, zero = np.abs(m), np.ones(37, dtype), np.zeros(37, dtype)
    optimizers.adam(w, m, v, zero, hyper(0.5, 0.5), 0.1, 1.0, 0.0)
    np.testing.assert_array_equal(m, want)
    np.testing.assert_array_equal(v, np.abs(want))
    assert np.count_nonzero(m) == 14  # 2, -2, 4 and -4 survive
    np.testing.assert_array_equal(w, 1)


@each_dtype
@nesterov_or_not
def test_denormal_velocities_become_zero(dtype, nesterov):
    v, want = halved(dtype)
    w = np.zeros(37, dtype)
    optimizers.sgd(w, v, np.zeros(37, dtype), 0.5, nesterov, 0.5, 1.0, 0.0)
    np.testing.assert_array_equal(v, want)
    assert np.count_nonzero(v) == 14
    # the step is taken with what is stored
    np.testing.assert_array_equal(w, -want * dtype(0.25 if nesterov else 0.5))


def test_a_dead_unit_ends_at_zero():
    m, v, w, zero = np.ones(37, np.float32), np.ones(37, np.float32), np.ones(37, np.float32), np.zeros(37, np.float32)
    for step in range(1, 1500):
        optimizers.adam(w, m, v, zero, hyper(0.9, 0.9), 1e-6, 1.0, 0.0)
        if step == 500:
            assert (m > 0).all() and (v > 0).all()
    assert (m == 0).all() and (v == 0).all()
    assert np.isfinite(w).all()


def step_on(module, name, state, g):
    if name == "adam":
        module.adam(*state, g, hyper(), 0.01, 1.0, 0.1)
    else:
        module.sgd(*state[:2], g, 0.9, int(name == "nesterov"), 0.01, 1.0, 0.1)


@each_dtype
@pytest.mark.parametrize("name", ["adam", "sgd", "nesterov"])
@pytest.mark.parametrize("place", [0, 5, 20, 36])  # of 37: in the vector body, and in the tail
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_stays_where_it_is(dtype, name, place, bad):
    for where in range(4 if name == "adam" else 3):
        state, g = [np.full(37, 0.5, dtype) for _ in range(3)], np.full(37, 0.25, dtype)
        [*state[: 3 if name == "adam" else 2], g][where][place] = bad
        twin_state = [array.copy() for array in state]
        step_on(optimizers, name, state, g)
        step_on(twins, name, twin_state, g)
        for array, twin in zip(state, twin_state, strict=True):
            np.testing.assert_allclose(array, twin, rtol=8 * ULPS[dtype])
            assert np.isfinite(np.delete(array, place)).all()
        if np.isnan(bad):
            assert np.isnan(state[0][place])
            assert np.isnan(g[place]) <= np.isnan(state[1][place])
