"""Optimizers on the GPU, in the simulator, against their twins: every rule over several steps, and their numbers."""

from types import SimpleNamespace

import numpy as np
import pytest

from fastbp.kernels import layout
from fastbp.kernels.cpu.optimizers import power
from fastbp.kernels.cuda import optimizers as columns
from fastbp.kernels.cuda._target import WIDTH, cuda, kernel
from fastbp.kernels.cuda.optimizers import N_NUMBERS, powers
from fastbp.kernels.cuda.rules import N_STATES, rule_of, step_numbers
from fastbp.kernels.layout import (
    ADAGRAD,
    ADAM,
    AMSGRAD,
    CENTERED_RMSPROP,
    GRADIENT,
    LION,
    MOMENTUM_RMSPROP,
    MU_PRODUCT,
    NADAM,
    PYTORCH,
    RMSPROP,
    SCIKIT_LEARN,
    SGD,
)
from fastbp.kernels.reference import rules as twins
from fastbp.kernels.reference.optimizers import step_scalars

OPTIMIZERS = {
    "sgd": SGD,
    "adam": ADAM,
    "amsgrad": AMSGRAD,
    "rmsprop": RMSPROP,
    "momentum_rmsprop": MOMENTUM_RMSPROP,
    "centered_rmsprop": CENTERED_RMSPROP,
    "adagrad": ADAGRAD,
    "nadam": NADAM,
    "lion": LION,
}
SQUARES = {ADAM: (1,), AMSGRAD: (1, 2), RMSPROP: (0,), MOMENTUM_RMSPROP: (1,), CENTERED_RMSPROP: (1,), ADAGRAD: (0,)}
SQUARES[NADAM] = (1,)
DTYPES = [np.float32, np.float64]
TOLERANCES = {np.float32: dict(rtol=2e-5, atol=1e-6), np.float64: dict(rtol=1e-11, atol=1e-13)}
SIZE, STEPS = 24, 4
RATES, WEIGHTS = np.array([0.1, 0.05, 0.2, 0.1]), np.array([8.0, 5.0, np.inf, 8.0])
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
each_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
each_convention = pytest.mark.parametrize("convention", [PYTORCH, SCIKIT_LEARN], ids=["pytorch", "scikit_learn"])


def hyper(**values):
    """The description of an optimizer: usual numbers, and those that are given."""
    usual = dict(
        BETA_1=0.9, BETA_2=0.99, EPSILON=1e-3, L2=0.3, L1=0.02, WEIGHT_DECAY=0.1, CLIP_VALUE=0.8, CLIP_NORM=1.5,
        EMA_DECAY=0.75, MOMENTUM=0.5, DECAY=0.004, MU_PRODUCT=1.0,
    )  # fmt: skip
    numbers = np.zeros(layout.HYPER_SIZE)
    for key, value in (usual | values).items():
        numbers[getattr(layout, key)] = value
    return numbers


def buffers(optimizer, averages, dtype):
    """Parameters, arrays of state and gradients of all steps: draws, then what is not finite or has vanished."""
    rng, n_moments = np.random.default_rng(optimizer), N_STATES[optimizer] + averages
    w, moments, gradients = rng.normal(size=SIZE), rng.normal(size=(n_moments, SIZE)), rng.normal(size=(STEPS, SIZE))
    for k in SQUARES.get(optimizer, ()):
        moments[k] = np.abs(moments[k]) + 0.1
    if optimizer == CENTERED_RMSPROP:
        moments[2] *= 0.25  # where all but rounding cancels, nothing can be compared
        moments[1] += moments[2] ** 2
    moments[:, -8:-6], gradients[:, -8:-6] = np.finfo(dtype).tiny * 0.7, 0
    w[-6], w[-5], gradients[:, -5] = 0, 0, 0
    gradients[1, -4:-1] = np.nan, np.inf, -np.inf
    w[-1] = np.nan
    return w.astype(dtype), moments.astype(dtype), gradients.astype(dtype)


def trained(rule, w, moments, gradients, numbers):
    """Parameters and moments after all steps; the first half of the parameters is penalised."""
    w, moments = w.copy(), moments.reshape(-1).copy()

    @kernel
    def body(w, moments, g, numbers, row):
        for at in range(cuda.threadIdx.x, len(w), WIDTH):
            rule(w, moments, len(w), at, g[at], at % 2 == 0, numbers, row)

    for s, g in enumerate(gradients):
        body[1, WIDTH](w, moments, g, numbers.reshape(-1), s * N_NUMBERS)
    return w, moments.reshape(-1, len(w))


def trained_by_twins(w, moments, gradients, numbers, first_step, **header):
    """The same by the twins, as ``train_steps`` calls them."""
    entries = np.zeros(layout.HEADER_SIZE, np.int64)
    for key, value in header.items():
        entries[getattr(layout, key)] = value
    plan = SimpleNamespace(header=entries, uses=layout.marker(["optimizers"]))
    halves = []
    for half in (0, 1):
        mine = w[half::2].copy(), np.ascontiguousarray(moments[:, half::2])
        entries[layout.N_PARAMETERS] = len(mine[0])
        own = numbers.copy()
        for s in range(STEPS):
            twins.begin_step(plan, own, RATES[s], first_step + s + 1)
            scalars = step_scalars(header["OPTIMIZER"], header["CONVENTION"], own, RATES[s], first_step + s + 1)
            l2 = own[layout.L2]
            if header["CONVENTION"] == SCIKIT_LEARN:
                l2 = 0.0 if half else l2 / WEIGHTS[s]
            state = SimpleNamespace(moments=mine[1].reshape(-1))
            twins.apply_rule(mine[0], gradients[s, half::2].copy(), 0, *scalars, l2, plan, state, own)
        halves.append(mine)
    after = np.empty_like(w), np.empty_like(moments)
    for half, (part, state) in enumerate(halves):
        after[0][half::2], after[1][:, half::2] = part, state
    return after, own[MU_PRODUCT]


@each_dtype
@each_convention
@each_optimizer
@pytest.mark.parametrize(("adjusts", "averages"), [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_updates_are_those_of_the_twins(optimizer, convention, adjusts, averages, dtype):
    if not adjusts and optimizer not in (SGD, ADAM):
        numbers = hyper(L2=0.0)  # for the others a penalty is an adjustment
    else:
        numbers = hyper()
    first_step, nesterov = (0, 1) if averages else (5, 0)
    given = buffers(optimizer, averages, dtype)
    wanted, mu_product = trained_by_twins(
        *given, numbers, first_step, OPTIMIZER=optimizer, CONVENTION=convention, NESTEROV=nesterov, ADJUSTS=adjusts,
        AVERAGES=averages,
    )  # fmt: skip
    rows = step_numbers(optimizer, convention, numbers, RATES, WEIGHTS, first_step, bool(adjusts), dtype)
    rule = rule_of(optimizer, convention, bool(nesterov), bool(adjusts), bool(averages), len(given[1]), dtype)
    got = trained(rule, *given, rows)
    for mine, right in zip(got, wanted, strict=True):
        assert mine.dtype == dtype
        np.testing.assert_allclose(mine, right, **TOLERANCES[dtype])
    assert not np.array_equal(got[0][:8], given[0][:8])
    np.testing.assert_allclose(numbers[MU_PRODUCT], mu_product, rtol=1e-12)


@each_dtype
@each_optimizer
def test_state_that_has_vanished_is_zero(optimizer, dtype):
    numbers = hyper(L2=0.0, L1=0.0, CLIP_VALUE=0.0, WEIGHT_DECAY=0.0)
    rows = step_numbers(optimizer, PYTORCH, numbers, RATES[:1], WEIGHTS[:1], 0, False, dtype)
    n, tiny = N_STATES[optimizer], np.finfo(dtype).tiny
    moments = np.full((n, 8), tiny / 2, dtype)
    moments[:, 4:] = 4 * tiny
    w, gradient = np.ones(8, dtype), np.zeros((1, 8), dtype)
    _, after = trained(rule_of(optimizer, PYTORCH, False, False, False, n, dtype), w, moments, gradient, rows)
    largest = 2 if optimizer == AMSGRAD else n
    np.testing.assert_array_equal(after[:largest, :4], 0)
    assert (after[:largest, 4:] >= tiny).all()


@each_dtype
def test_a_gradient_is_stored(dtype):
    w, g = np.ones(9, dtype), np.arange(9, dtype=dtype)[None]
    rows = step_numbers(GRADIENT, PYTORCH, hyper(), RATES[:1], WEIGHTS[:1], 0, False, dtype)
    after, moments = trained(rule_of(GRADIENT, PYTORCH, False, False, False, 2, dtype), w, np.ones((2, 9)), g, rows)
    np.testing.assert_array_equal(after, w)
    np.testing.assert_array_equal(moments, [g[0], w])


def test_rules_are_made_once():
    first, again = (rule_of(ADAM, PYTORCH, False, False, False, 2, np.float32) for _ in range(2))
    assert first is again
    assert first is not rule_of(ADAM, SCIKIT_LEARN, False, False, False, 2, np.float32)


# ---------------------------------------------------------------------------------------------------------------------
# Numbers of steps


def of_twins(optimizer, convention, numbers, first_step):
    """Some columns as the twins work them out, step by step."""
    rows = []
    for s, rate in enumerate(RATES):
        step = first_step + s + 1
        twins.write_scalars(optimizer, convention, numbers, rate, step)
        own = {name: float(numbers[getattr(layout, name)]) for name in ("RATE", "CORRECTION", "KEPT")}
        if optimizer in (SGD, ADAM):
            own["RATE"], own["CORRECTION"] = step_scalars(optimizer, convention, numbers, rate, step)
        own["L2"] = numbers[layout.L2] / (WEIGHTS[s] if convention == SCIKIT_LEARN else 1)
        own["SCALE"] = 1 / WEIGHTS[s]
        for name in ("BETA_1", "BETA_2", "EMA"):
            place = getattr(layout, "EMA_DECAY" if name == "EMA" else name)
            own["REST" + name[-2:] if name != "EMA" else "EMA_REST"] = 1 - numbers[place]
        for name in ("BETA_1", "BETA_2", "EPSILON", "MOMENTUM", "EMA_DECAY", "L1", "CLIP_VALUE", "CLIP_NORM"):
            own[name] = numbers[getattr(layout, name)]
        own["NOW"] = own["THEN"] = 0
        if optimizer == NADAM:
            mu, next_mu, product = (numbers[k] for k in (layout.MU, layout.NEXT_MU, MU_PRODUCT))
            own["NOW"], own["THEN"] = rate * (1 - mu) / (1 - product), rate * next_mu / (1 - product * next_mu)
        rows.append(own)
    return rows


@each_dtype
@each_convention
@each_optimizer
def test_numbers_are_those_of_the_twins(optimizer, convention, dtype):
    numbers, theirs = hyper(MU_PRODUCT=0.4), hyper(MU_PRODUCT=0.4)
    for first_step in (0, 37):
        got = step_numbers(optimizer, convention, numbers, RATES, WEIGHTS, first_step, True, dtype)
        assert got.shape == (STEPS, N_NUMBERS) and got.dtype == dtype and got.flags.c_contiguous
        for row, wanted in zip(got, of_twins(optimizer, convention, theirs, first_step), strict=True):
            assert len(wanted) == N_NUMBERS
            for name, value in wanted.items():
                rtol = 1e-12 if dtype == np.float64 else 1e-7
                np.testing.assert_allclose(row[getattr(columns, "AT_" + name)], value, rtol=rtol, err_msg=name)
        np.testing.assert_allclose(numbers[MU_PRODUCT], theirs[MU_PRODUCT], rtol=1e-12)


@each_convention
@each_optimizer
def test_numbers_do_not_depend_on_the_steps_they_are_computed_with(optimizer, convention):
    rng, n = np.random.default_rng(3), 70
    rates, weights = rng.uniform(0.01, 0.1, n), rng.uniform(1, 9, n)
    whole, parts = hyper(), hyper()
    together = step_numbers(optimizer, convention, whole, rates, weights, 3, True, np.float64)
    apart = [
        step_numbers(optimizer, convention, parts, rates[lo:hi], weights[lo:hi], 3 + lo, True, np.float64)
        for lo, hi in ((0, 1), (1, 1), (1, 30), (30, 70))
    ]
    np.testing.assert_array_equal(np.concatenate(apart), together)
    assert whole[MU_PRODUCT] == parts[MU_PRODUCT]
    assert (whole[MU_PRODUCT] != 1) == (optimizer == NADAM)


def test_numbers_without_adjustments_are_neutral():
    (row,) = step_numbers(ADAM, PYTORCH, hyper(), RATES[:1], WEIGHTS[:1], 0, False, np.float64)
    assert (row[columns.AT_KEPT], row[columns.AT_L1], row[columns.AT_CLIP_VALUE]) == (1, 0, np.inf)
    (row,) = step_numbers(ADAM, PYTORCH, hyper(CLIP_VALUE=0.0), RATES[:1], WEIGHTS[:1], 0, True, np.float64)
    assert row[columns.AT_CLIP_VALUE] == np.inf


@pytest.mark.parametrize("base", [0.0, 0.9, 0.999, 1.0])
def test_powers_have_the_bits_of_the_compiled_ones(base):
    exponents = np.array([0, 1, 2, 3, 4, 5, 31, 32, 1000, 12345, 10**6])
    np.testing.assert_array_equal(powers(base, exponents), [power(base, int(k)) for k in exponents])
    assert powers(base, exponents[:0]).shape == (0,)
