"""Losses with respect to the output: absolute, Huber, quantile, log-cosh; cross-entropy and Poisson of outputs."""

import math

import numpy as np
import pytest
import sklearn.metrics
from _kernels import DTYPES, SENTINEL, ULPS, few, seeds, surrounded
from _loss_batches import OUTPUT, ROBUST, Batch, assert_like_twin
from hypothesis import given
from hypothesis import strategies as st

from fastbp.kernels import layout
from fastbp.kernels.cpu import output_losses, robust_losses
from fastbp.kernels.cpu._jit import kernel
from fastbp.kernels.reference import output_losses as output_twins
from fastbp.kernels.reference import robust_losses as robust_twins

MODULES = {name: (robust_losses, robust_twins) for name in ROBUST} | dict.fromkeys(
    OUTPUT, (output_losses, output_twins)
)
SIZES = [1, 2, 10, 15, 16, 17, 31, 32, 33, 50]
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
each_loss = pytest.mark.parametrize("name", MODULES)
each_robust_loss = pytest.mark.parametrize("name", ROBUST)


def terms(batch):
    """What the largest of a row's terms may be, and of its gradient."""
    t, a = batch.target(), batch.Z.astype(float)
    if batch.name in ROBUST:
        return (np.abs(a) + np.abs(t)).max() ** (1 + (batch.name == "huber")), (np.abs(a) + np.abs(t)).max()
    if batch.name == "output_poisson":
        return ((1 + t) * (2 + np.abs(np.log(a)))).max() * batch.n, (1 + t / a).max()
    return 4 * (2 - np.log(np.minimum(a, 1 - a))).max() * batch.n, (2 / (a * (1 - a))).max()


@each_dtype
@each_loss
@given(st.data())
@few(40)
def test_kernel_agrees_with_its_twin(name, dtype, data):
    m, n = data.draw(st.integers(1, 9)), data.draw(st.sampled_from(SIZES))
    weighted, spare = data.draw(st.booleans(), "weighted"), data.draw(st.integers(0, 2), "spare")
    batch = Batch(name, dtype, m, n, seed=data.draw(seeds()), weighted=weighted, spare=spare)
    assert_like_twin(batch, *MODULES[name], layout.PYTORCH, *terms(batch))


@each_dtype
@each_loss
@pytest.mark.parametrize("n", [1, 15, 16, 17, 33])
def test_padding_is_as_the_docstrings_say(name, dtype, n):
    _, dA, _ = Batch(name, dtype, 5, n, spare=1).call(MODULES[name][0])
    used = layout.padded(n)
    assert (dA[:, n:used] == (SENTINEL if n < 16 else 0)).all() and (dA[:, used:] == SENTINEL).all()


@each_loss
@pytest.mark.parametrize("weighted", [False, True])
def test_gradient_against_central_differences(name, weighted):
    batch = Batch(name, np.float64, 3, 5, weighted=weighted, size=1.0)
    want = batch.differences(MODULES[name][0])
    np.testing.assert_allclose(batch.results(MODULES[name][0])[1], want, rtol=0, atol=1e-7)


@each_dtype
@each_loss
@pytest.mark.parametrize("place", [0, 5, 20, 36])  # 37 outputs: in the vector body, and in the tail
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_in_its_row(name, dtype, place, bad):
    batch, (module, twins) = Batch(name, dtype, 3, 37), MODULES[name]
    batch.Z[1, place] = bad
    (loss, dA), (twin_loss, twin_dA) = batch.results(module), batch.results(twins)
    assert np.isfinite(loss[[0, 2]]).all() and np.isfinite(dA[[0, 2]]).all()
    np.testing.assert_array_equal(np.isnan(dA), np.isnan(twin_dA))
    np.testing.assert_allclose(loss, twin_loss, rtol=200 * ULPS[dtype])
    if np.isnan(bad):
        assert np.isnan(loss[1]) and np.isnan(dA[1, place]) and np.isnan(dA).sum() == 1


@each_dtype
@each_loss
@pytest.mark.parametrize("place", [0, 36])
def test_a_target_that_is_nan_stays_in_its_row(name, dtype, place):
    batch = Batch(name, dtype, 3, 37)
    batch.values[batch.index[1], place] = np.nan
    loss, dA = batch.results(MODULES[name][0])
    assert np.isfinite(loss[[0, 2]]).all() and np.isnan(dA[1, place]) and np.isnan(dA).sum() == 1
    assert np.isnan(loss[1])


@each_dtype
@each_loss
def test_a_row_without_weight_adds_nothing(name, dtype):
    batch = Batch(name, dtype, 3, 17, weighted=True)
    batch.weights[batch.index[1]] = 0
    loss, dA = batch.results(MODULES[name][0])
    assert loss[1] == 0 and (dA[1] == 0).all()
    assert (loss[[0, 2]] > 0).all() and (dA[[0, 2]] != 0).all()


@each_dtype
@each_robust_loss
@pytest.mark.parametrize("n", [5, 37])
def test_the_derivative_at_a_kink_is_zero(name, dtype, n):
    batch = Batch(name, dtype, 3, n)
    batch.Z[1] = batch.values[batch.index[1]]
    loss, dA = batch.results(robust_losses)
    assert loss[1] == 0 and (dA[1] == 0).all() and (dA[[0, 2]] != 0).all()


def test_the_sum_of_a_row_does_not_depend_on_the_rows_around_it():
    whole = Batch("log_cosh", np.float32, 9, 37)
    loss, dA = whole.results(robust_losses)
    for i in range(9):
        one = Batch("log_cosh", np.float32, 9, 37)
        one.Z, one.index, one.m = whole.Z[i : i + 1], whole.index[i : i + 1], 1
        alone, alone_dA = one.results(robust_losses)
        assert alone[0] == loss[i] and (alone_dA[0] == dA[i]).all()


# ---------------------------------------------------------------------------------------------------------------------
# Against the formulas, and scikit-learn


@pytest.mark.parametrize("n", [1, 5, 37])
@pytest.mark.parametrize("weighted", [False, True])
def test_they_are_the_textbook_ones(n, weighted):
    for name, loss_of, derivative in (
        ("absolute_error", np.abs, np.sign),
        ("huber", lambda e: np.where(np.abs(e) > 0.7, 0.7 * (np.abs(e) - 0.35), e**2 / 2), lambda e: e.clip(-0.7, 0.7)),
        ("log_cosh", lambda e: np.log(np.cosh(e)), np.tanh),
    ):
        batch = Batch(name, np.float64, 9, n, weighted=weighted)
        (loss, dA), e, weight = batch.results(robust_losses), batch.Z - batch.target(), batch.row_weights()
        np.testing.assert_allclose(loss, weight * loss_of(e).mean(axis=1), rtol=1e-13, err_msg=name)
        np.testing.assert_allclose(dA, derivative(e) / n * (weight * batch.scale)[:, None], rtol=1e-13, err_msg=name)


@pytest.mark.parametrize("weighted", [False, True])
def test_quantile_and_absolute_error_are_those_of_scikit_learn(weighted):
    batch = Batch("quantile", np.float64, 9, 17, weighted=weighted)
    loss, t, weight = batch.results(robust_losses)[0], batch.target(), batch.row_weights()
    pinball = [
        sklearn.metrics.mean_pinball_loss(t[:, q], batch.Z[:, q], sample_weight=weight, alpha=batch.coefficients[q])
        for q in range(17)
    ]
    np.testing.assert_allclose(loss.sum() * batch.scale, np.mean(pinball), rtol=1e-13)
    batch = Batch("absolute_error", np.float64, 9, 17, weighted=weighted)
    want = sklearn.metrics.mean_absolute_error(batch.target(), batch.Z, sample_weight=weight)
    np.testing.assert_allclose(batch.results(robust_losses)[0].sum() * batch.scale, want, rtol=1e-13)


@each_dtype
def test_huge_differences(dtype):
    most = float(np.finfo(dtype).max)
    for name, slope in (("absolute_error", 1), ("huber", 0.7), ("log_cosh", 1), ("quantile", None)):
        batch = Batch(name, dtype, 4, 1)
        batch.Z[:, 0], batch.values[:], batch.scale = (most, -most, most / 4, 1e4), 0, 1.0
        level = float(batch.coefficients[0]) if name == "quantile" else None
        slopes = np.full(4, slope) if level is None else np.array([1 - level, level, 1 - level, 1 - level])
        loss, dA = batch.results(robust_losses)
        less = {"huber": 0.245, "log_cosh": math.log(2)}.get(name, 0)
        np.testing.assert_allclose(loss, slopes * np.abs(batch.Z[:, 0].astype(float)) - less, rtol=4 * ULPS[dtype])
        np.testing.assert_allclose(dA[:, 0], slopes * [1, -1, 1, 1], rtol=4 * ULPS[dtype])


def exact_ln_cosh(x):
    """In float64, to some roundings: by series near 0."""
    a = np.abs(x.astype(np.float64))
    square = a * a
    series = square * (1 / 2 - square * (1 / 12 - square * (1 / 45 - square * (17 / 2520 - square * 31 / 14175))))
    return np.where(a < 1e-2, series, np.where(a < 1, np.log1p(np.sinh(a.clip(0, 1)) ** 2) / 2,
                                               a + np.log1p(np.exp(-2 * a)) - np.log(2)))  # fmt: skip


@kernel
def each_ln_cosh(out, x):
    for q in range(x.shape[0]):
        out[q] = robust_losses.ln_cosh(x[q])


@each_dtype
def test_ln_cosh_is_accurate_to_some_units_in_the_last_place(dtype):
    tiny = math.sqrt(np.finfo(dtype).tiny)
    x = np.concatenate([np.geomspace(4 * tiny, 1e-3, 5000), np.linspace(1e-3, 3, 50000), np.geomspace(3, 1e30, 3000)])
    x = np.concatenate([x, -x, [0.6, np.nextafter(dtype(0.6), dtype(0)), 0, np.inf, -np.inf, np.nan]]).astype(dtype)
    got = np.empty_like(x)
    each_ln_cosh(got, x)
    for found in (got, robust_twins.ln_cosh(x)):
        want = exact_ln_cosh(x)
        assert np.isnan(found[-1]) and (found[-3:-1] == np.inf).all() and found[-4] == 0
        error = np.abs(found[:-4].astype(np.float64) - want[:-4]) / want[:-4]
        assert error.max() < 10 * ULPS[dtype]
    np.testing.assert_array_equal(got[: len(x) // 2 - 3], got[len(x) // 2 - 3 : -6])  # even


@each_dtype
@pytest.mark.parametrize("n", [1, 15, 16, 17, 50])
def test_row_sum(dtype, n):
    for module in (robust_losses, robust_twins):
        whole, z = surrounded(layout.padded(n), dtype, 16)
        z[:n] = np.arange(1, n + 1)
        assert module.row_sum(z, n) == n * (n + 1) / 2
        np.testing.assert_array_equal(z[:n], np.arange(1, n + 1))
        assert (z[n:] == (SENTINEL if n < 16 else 0)).all() and (whole[:16] == SENTINEL).all()
        assert (whole[-16:] == SENTINEL).all()


# ---------------------------------------------------------------------------------------------------------------------
# Where probabilities and rates are clipped


@each_dtype
def test_cross_entropy_of_outputs_at_their_ends(dtype):
    info = np.finfo(dtype)
    least, eps = math.sqrt(info.tiny), float(info.eps)
    batch = Batch("output_cross_entropy", dtype, 6, 1, smoothing=0.0)
    batch.Z[:, 0] = 0, 1, 0, 1, -3, 2
    batch.coefficients = np.array([0, 1, 1], dtype)
    batch.index, batch.values[:6, 0], batch.scale = np.arange(6), [1, 0, 0, 1, 1, 0], 1.0
    loss, dA = batch.results(output_losses)
    wrong_one, wrong_zero = -math.log(least), -math.log(eps)
    np.testing.assert_allclose(loss, [wrong_one, wrong_zero, 0, 0, wrong_one, wrong_zero], rtol=4 * ULPS[dtype])
    np.testing.assert_allclose(dA[:, 0], [0, 0, 1, -1, 0, 0], rtol=4 * ULPS[dtype])


@each_dtype
def test_poisson_of_outputs_at_their_ends(dtype):
    least = math.sqrt(np.finfo(dtype).tiny)
    batch = Batch("output_poisson", dtype, 5, 1)
    batch.Z[:, 0] = 0, 0, 2, 3, least
    batch.index, batch.values[:5, 0], batch.scale = np.arange(5), [2, 0, 0, 3, 1], 1.0
    loss, dA = batch.results(output_losses)
    want = [2 * math.log(2) - 2 * math.log(least) - 2, 0, 2, 0, -math.log(least) - 1]
    np.testing.assert_allclose(loss, want, rtol=4 * ULPS[dtype], atol=4 * ULPS[dtype])
    np.testing.assert_allclose(dA[:4, 0], [1, 1, 1, 0], rtol=4 * ULPS[dtype])
    np.testing.assert_allclose(dA[4, 0], 1 - 1 / least, rtol=1e-4 if dtype == np.float32 else 1e-12)
