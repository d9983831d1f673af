"""Losses against their twins, central differences and other libraries; what they touch, and what is not finite."""

import numpy as np
import pytest
import sklearn.metrics
from _kernels import DTYPES, SENTINEL, ULPS, few, seeds, surrounded
from hypothesis import given
from hypothesis import strategies as st
from scipy import special
from sklearn.neural_network import _base as scikit_learn

from fastbp.kernels import layout
from fastbp.kernels.cpu import losses
from fastbp.kernels.layout import HALF_SQUARED_ERROR, MEAN_SQUARED_ERROR, PYTORCH, SCIKIT_LEARN
from fastbp.kernels.reference import losses as twins

MARGIN = 64
NAMES = ["softmax_cross_entropy", "sigmoid_cross_entropy", "squared_error", "poisson"]
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
each_loss = pytest.mark.parametrize("name", NAMES)
each_convention = pytest.mark.parametrize("convention", [PYTORCH, SCIKIT_LEARN])
each_code = pytest.mark.parametrize("code", [MEAN_SQUARED_ERROR, HALF_SQUARED_ERROR])


class Batch:
    """m rows of n outputs or logits, and targets of more rows than that, which ``index`` names out of order."""

    def __init__(self, name, dtype, m, n, *, seed=0, weighted=False, spare=0, size=2.0):
        rng, n_samples = np.random.default_rng(seed), m + 4
        self.name, self.dtype, self.m, self.n = name, dtype, m, n
        self.ld = layout.padded(n) + 16 * spare
        self.Z = (size * rng.normal(size=(m, n))).astype(dtype)
        self.index = rng.permutation(n_samples)[:m].astype(np.intp)
        self.weights = (rng.uniform(0.5, 2, n_samples) if weighted else np.zeros(0)).astype(dtype)
        if name == "softmax_cross_entropy":
            self.targets = rng.integers(0, n, n_samples).astype(np.intp)
        elif name == "sigmoid_cross_entropy":
            self.targets = rng.uniform(size=n_samples * n).astype(dtype)
        elif name == "poisson":
            self.targets = rng.poisson(2.0, n_samples * n).astype(dtype)
        else:
            self.targets = rng.normal(size=n_samples * n).astype(dtype)
        self.scale = 1 / float(self.row_weights().sum())

    def row_weights(self):
        return self.weights[self.index] if self.weights.size else np.ones(self.m, self.dtype)

    def target(self):
        """What each row should be, (m, n) or (m,)."""
        if self.name == "softmax_cross_entropy":
            return self.targets[self.index]
        return self.targets.reshape(-1, self.n)[self.index]

    def call(self, module, convention=PYTORCH, code=MEAN_SQUARED_ERROR):
        """Losses, dZ and Z of one kernel or twin, each with its surroundings."""
        size, real = self.m * self.ld, self.dtype
        (whole_loss, row_loss), (whole_dZ, dZ), (whole_Z, Z) = (
            surrounded(count, kind, MARGIN) for count, kind in ((self.m, np.float64), (size, real), (size, real))
        )
        Z.reshape(self.m, self.ld)[:, : self.n] = self.Z
        given = [self.targets, self.index, self.weights]
        before = [array.copy() for array in given]
        codes = {"squared_error": (code, convention), "poisson": ()}.get(self.name, (convention,))
        getattr(module, self.name)(row_loss, dZ, Z, self.ld, *given, real(self.scale), self.m, self.n, *codes)
        for array, old in zip(given, before, strict=True):
            np.testing.assert_array_equal(array, old)
        return whole_loss, whole_dZ, whole_Z

    def inside(self, whole):
        """Rows of n of an array with surroundings."""
        return whole[MARGIN:-MARGIN].reshape(self.m, self.ld)[:, : self.n]

    def results(self, *codes):
        """Losses and dZ of the compiled kernel."""
        loss, dZ, _ = self.call(losses, *codes)
        return loss[MARGIN:-MARGIN], self.inside(dZ)


def loss_bound(batch, convention):
    """Largest difference of a row's loss from the twin's: each term has a few roundings, a sum of n terms n of them."""
    Z, n = batch.Z.astype(float), batch.n
    if batch.name == "softmax_cross_entropy":
        terms = 1 + Z.max(axis=1) - Z.min(axis=1)
    elif batch.name == "sigmoid_cross_entropy":
        # an error of p is one of p / (1 - p) = e^z in ln(1 - p), which scikit-learn takes
        terms = (1 + (np.exp(np.abs(Z)) if convention == SCIKIT_LEARN else np.abs(Z))).sum(axis=1)
    elif batch.name == "poisson":
        t = batch.target()
        terms = (np.exp(Z) + t + special.xlogy(t, t) + t * np.abs(Z)).sum(axis=1)
    else:
        terms = ((Z - batch.target()) ** 2).sum(axis=1)
    return (n + 8) * ULPS[batch.dtype] * (batch.row_weights() * terms).max()


@each_dtype
@each_loss
@given(st.data())
@few(40)
def test_loss_agrees_with_its_twin(name, dtype, data):
    m, n = data.draw(st.integers(1, 9)), data.draw(st.sampled_from([1, 2, 10, 15, 16, 17, 31, 32, 33, 50]))
    weighted, spare = data.draw(st.booleans(), "weighted"), data.draw(st.integers(0, 2), "spare")
    convention = data.draw(st.sampled_from([PYTORCH, SCIKIT_LEARN]), "convention")
    code = data.draw(st.sampled_from([MEAN_SQUARED_ERROR, HALF_SQUARED_ERROR]), "code")
    batch = Batch(name, dtype, m, n, seed=data.draw(seeds()), weighted=weighted, spare=spare)
    loss, dZ, Z = batch.call(losses, convention, code)
    twin_loss, twin_dZ, twin_Z = batch.call(twins, convention, code)
    np.testing.assert_allclose(loss, twin_loss, rtol=0, atol=loss_bound(batch, convention))
    size = 1
    if name in ("squared_error", "poisson"):
        size = (np.abs(batch.target()) + (np.exp(batch.Z) if name == "poisson" else np.abs(batch.Z))).max()
    bound = 8 * ULPS[dtype] * size * batch.scale * batch.row_weights().max()
    # whole arrays: padding, what lies between the rows and around them are the twin's to the bit
    np.testing.assert_allclose(dZ, twin_dZ, rtol=0, atol=bound)
    outside = np.ones(dZ.size, bool)
    batch.inside(outside)[:] = False
    np.testing.assert_array_equal(dZ[outside], twin_dZ[outside])
    if name != "softmax_cross_entropy":
        np.testing.assert_array_equal(Z, twin_Z)


@each_dtype
@each_loss
@pytest.mark.parametrize("n", [1, 15, 16, 17, 33])
def test_padding_is_as_the_docstrings_say(name, dtype, n):
    batch = Batch(name, dtype, 5, n, spare=1)
    used = layout.padded(n)
    loss, dZ, Z = batch.call(losses)
    assert (loss[:MARGIN] == SENTINEL).all() and (loss[-MARGIN:] == SENTINEL).all()
    for whole in (dZ, Z):
        assert (whole[:MARGIN] == SENTINEL).all() and (whole[-MARGIN:] == SENTINEL).all()
    rows = dZ[MARGIN:-MARGIN].reshape(5, batch.ld)
    assert (rows[:, n:used] == (0 if name == "softmax_cross_entropy" else SENTINEL)).all()
    assert (rows[:, used:] == SENTINEL).all()
    assert (rows[:, :n] != SENTINEL).all() and (loss[MARGIN:-MARGIN] != SENTINEL).all()
    if name != "softmax_cross_entropy":
        np.testing.assert_array_equal(batch.inside(Z), batch.Z)
        assert (Z[MARGIN:-MARGIN].reshape(5, batch.ld)[:, n:] == SENTINEL).all()


@each_loss
@each_convention
@each_code
@pytest.mark.parametrize("weighted", [False, True])
def test_gradient_against_central_differences(name, convention, code, weighted):
    batch, h = Batch(name, np.float64, 3, 5, weighted=weighted, size=1.0), 1e-6
    _, dZ = batch.results(convention, code)
    Z, want = batch.Z.copy(), np.empty((3, 5))
    for j in range(5):
        sides = []
        for sign in (1, -1):
            batch.Z = Z.copy()
            batch.Z[:, j] += sign * h
            sides.append(batch.results(convention, code)[0])
        want[:, j] = batch.scale * (sides[0] - sides[1]) / (2 * h)
    if name == "squared_error" and code == HALF_SQUARED_ERROR and convention == SCIKIT_LEARN:
        want *= 5  # scikit-learn reports the mean over outputs and descends on their sum
    np.testing.assert_allclose(dZ, want, rtol=0, atol=1e-9)


# ---------------------------------------------------------------------------------------------------------------------
# Against other libraries


@pytest.mark.parametrize("weighted", [False, True])
def test_softmax_cross_entropy_is_the_textbook_one(weighted):
    batch = Batch("softmax_cross_entropy", np.float64, 9, 17, weighted=weighted)
    loss, dZ = batch.results()
    log_p, label, weight = special.log_softmax(batch.Z, axis=1), batch.target(), batch.row_weights()
    np.testing.assert_allclose(loss, -weight * log_p[np.arange(9), label], rtol=1e-13)
    mean = sklearn.metrics.log_loss(label, special.softmax(batch.Z, axis=1), sample_weight=weight, labels=range(17))
    np.testing.assert_allclose(loss.sum() * batch.scale, mean, rtol=1e-13)
    want = (special.softmax(batch.Z, axis=1) - np.eye(17)[label]) * (weight * batch.scale)[:, None]
    np.testing.assert_allclose(dZ, want, rtol=0, atol=1e-15)


@pytest.mark.parametrize("weighted", [False, True])
def test_sigmoid_cross_entropy_is_the_textbook_one(weighted):
    batch = Batch("sigmoid_cross_entropy", np.float64, 9, 17, weighted=weighted)
    loss, dZ = batch.results()
    t, weight = batch.target(), batch.row_weights()
    terms = t * special.log_expit(batch.Z) + (1 - t) * special.log_expit(-batch.Z)
    np.testing.assert_allclose(loss, -weight * terms.sum(axis=1), rtol=1e-13)
    want = (special.expit(batch.Z) - t) * (weight * batch.scale)[:, None]
    np.testing.assert_allclose(dZ, want, rtol=0, atol=1e-15)


@pytest.mark.parametrize("weighted", [False, True])
def test_squared_errors_are_the_textbook_ones(weighted):
    batch = Batch("squared_error", np.float64, 9, 17, weighted=weighted)
    t, weight = batch.target(), batch.row_weights()
    mean = sklearn.metrics.mean_squared_error(t, batch.Z, sample_weight=weight)
    loss, dZ = batch.results(PYTORCH, MEAN_SQUARED_ERROR)
    np.testing.assert_allclose(loss.sum() * batch.scale, mean, rtol=1e-13)
    half_loss, half_dZ = batch.results(PYTORCH, HALF_SQUARED_ERROR)
    np.testing.assert_allclose(half_loss, loss * 17 / 2, rtol=1e-13)
    np.testing.assert_allclose(half_dZ, (batch.Z - t) * (weight * batch.scale)[:, None], rtol=1e-13)
    np.testing.assert_allclose(half_dZ, dZ * 17 / 2, rtol=1e-13)


@pytest.mark.parametrize("weighted", [False, True])
def test_poisson_is_half_the_deviance(weighted):
    batch = Batch("poisson", np.float64, 9, 17, weighted=weighted)
    loss, dZ = batch.results()
    t, p, weight = batch.target(), np.exp(batch.Z), batch.row_weights()
    assert (t == 0).any()
    deviances = [sklearn.metrics.mean_poisson_deviance(t[:, q], p[:, q], sample_weight=weight) for q in range(17)]
    np.testing.assert_allclose(loss.sum() * batch.scale, sum(deviances) / 2, rtol=1e-13)
    np.testing.assert_allclose(dZ, (p - t) * (weight * batch.scale)[:, None], rtol=1e-12)


@each_dtype
@pytest.mark.parametrize("size", [1, 300])
@pytest.mark.parametrize("weighted", [False, True])
def test_reported_losses_are_those_of_scikit_learn(dtype, size, weighted):
    """With a size of 300 most probabilities are 0 or 1, and clipped."""
    reported = {
        "softmax_cross_entropy": (scikit_learn.LOSS_FUNCTIONS["log_loss"], lambda Z: special.softmax(Z, axis=1)),
        "sigmoid_cross_entropy": (scikit_learn.LOSS_FUNCTIONS["binary_log_loss"], special.expit),
        "squared_error": (scikit_learn.LOSS_FUNCTIONS["squared_error"], lambda Z: Z),
    }
    if "poisson" in scikit_learn.LOSS_FUNCTIONS:
        reported["poisson"] = scikit_learn.LOSS_FUNCTIONS["poisson"], np.exp
    for name, (function, output) in reported.items():
        # e^300 is infinite in float32
        batch = Batch(name, dtype, 9, 17, weighted=weighted, size=min(size, 10) if name == "poisson" else size)
        t, weight = batch.target(), batch.row_weights() if weighted else None
        if name == "softmax_cross_entropy":
            t = np.eye(17, dtype=dtype)[t]
        elif name == "sigmoid_cross_entropy":
            t = np.round(t)
            batch.targets = np.round(batch.targets)
        loss, _ = batch.results(SCIKIT_LEARN, HALF_SQUARED_ERROR)
        want = function(t, output(batch.Z), weight)
        np.testing.assert_allclose(loss.sum() * batch.scale, want, rtol=200 * ULPS[dtype], err_msg=name)


# ---------------------------------------------------------------------------------------------------------------------
# What is extreme or not finite


@each_dtype
def test_softmax_cross_entropy_of_huge_logits(dtype):
    most = float(np.finfo(dtype).max)
    batch = Batch("softmax_cross_entropy", dtype, 5, 3)
    batch.Z[:] = [[most, -most, 0], [most, -most, 0], [-most, -most, -most], [0, -np.inf, 0], [0, -np.inf, 0]]
    batch.index, batch.targets, batch.scale = np.arange(5), np.array([0, 1, 2, 0, 1]), 1.0
    eps = float(np.finfo(dtype).eps)
    losses_of = {
        PYTORCH: [0, np.inf, np.log(3), np.log(2), np.inf],
        SCIKIT_LEARN: [-np.log1p(-eps), -np.log(eps), np.log(3), np.log(2), -np.log(eps)],
    }
    p = np.array([[1, 0, 0], [1, 0, 0], [1 / 3] * 3, [0.5, 0, 0.5], [0.5, 0, 0.5]])
    for convention, want in losses_of.items():
        loss, dZ = batch.results(convention)
        np.testing.assert_allclose(loss, want, rtol=4 * ULPS[dtype])
        np.testing.assert_allclose(dZ, p - np.eye(3)[batch.targets], rtol=4 * ULPS[dtype])


@each_dtype
def test_sigmoid_cross_entropy_of_huge_logits(dtype):
    most = float(np.finfo(dtype).max)
    batch = Batch("sigmoid_cross_entropy", dtype, 5, 1)
    batch.Z[:, 0] = most, -most, most, -most, 100
    batch.index, batch.targets, batch.scale = np.arange(5), np.array([1, 0, 0, 1, 0], dtype), 1.0
    eps = float(np.finfo(dtype).eps)
    right, wrong = -np.log1p(-eps), -np.log(eps)
    for convention, want in {PYTORCH: [0, 0, most, most, 100], SCIKIT_LEARN: [right, right, *[wrong] * 3]}.items():
        loss, dZ = batch.results(convention)
        np.testing.assert_allclose(loss, want, rtol=4 * ULPS[dtype])
        np.testing.assert_allclose(dZ[:, 0], [0, 0, 1, -1, 1], rtol=0, atol=2 * ULPS[dtype])


@each_dtype
def test_sigmoid_cross_entropy_of_right_answers_is_small_and_not_negative(dtype):
    """ln(1 + e^-z) keeps an absolute error of one unit of 1, and never goes below zero."""
    batch = Batch("sigmoid_cross_entropy", dtype, 9, 1)
    batch.Z[:, 0] = np.linspace(2, 30, 9)
    batch.index, batch.targets = np.arange(9), np.ones(9, dtype)
    loss, _ = batch.results()
    np.testing.assert_allclose(loss, np.log1p(np.exp(-batch.Z[:, 0].astype(float))), rtol=0, atol=ULPS[dtype])
    assert (loss >= 0).all()


@each_dtype
def test_poisson_at_its_ends(dtype):
    most = float(np.finfo(dtype).max)
    batch = Batch("poisson", dtype, 6, 1)
    batch.Z[:, 0] = -np.inf, -1000, -1000, 0, most, np.log(3)
    batch.index, batch.targets, batch.scale = np.arange(6), np.array([0, 0, 2, 1, 0, 3], dtype), 1.0
    loss, dZ = batch.results()
    want = [0, 0, 2 * np.log(2) + 1998, 0, np.inf, 0]
    np.testing.assert_allclose(loss, want, rtol=4 * ULPS[dtype], atol=8 * ULPS[dtype])
    np.testing.assert_allclose(dZ[:, 0], [0, 0, -2, 0, np.inf, 0], rtol=0, atol=4 * ULPS[dtype])
    # the smallest and the largest t whose t ln t is a number, at p = e^80: no quotient t / p
    batch = Batch("poisson", dtype, 2, 1)
    batch.Z[:], batch.index, batch.scale = 80, np.arange(2), 1.0
    batch.targets = np.array([np.finfo(dtype).smallest_subnormal, most / 1000], dtype)
    t = batch.targets.astype(np.longdouble)
    want = t * np.log(t) - t * 80 + np.exp(np.longdouble(80)) - t
    np.testing.assert_allclose(batch.results()[0], want.astype(float), rtol=100 * ULPS[dtype])


@each_dtype
@each_loss
@each_convention
@pytest.mark.parametrize("place", [0, 5, 20, 36])  # 37 outputs: in the vector body, and in the tail
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_in_its_row(name, dtype, convention, place, bad):
    batch = Batch(name, dtype, 3, 37)
    batch.Z[1, place] = bad
    loss, dZ = batch.results(convention, HALF_SQUARED_ERROR)
    twin_loss, twin_dZ, _ = batch.call(twins, convention, HALF_SQUARED_ERROR)
    assert np.isfinite(loss[[0, 2]]).all() and np.isfinite(dZ[[0, 2]]).all()
    np.testing.assert_array_equal(np.isnan(dZ), np.isnan(batch.inside(twin_dZ)))
    np.testing.assert_array_equal(np.isnan(loss), np.isnan(twin_loss[MARGIN:-MARGIN]))
    np.testing.assert_allclose(loss, twin_loss[MARGIN:-MARGIN], rtol=100 * ULPS[dtype])
    if np.isnan(bad):
        assert np.isnan(loss[1])
        assert np.isnan(dZ[1]).sum() == (37 if name == "softmax_cross_entropy" else 1) and np.isnan(dZ[1, place])


@each_dtype
@pytest.mark.parametrize("name", ["sigmoid_cross_entropy", "squared_error", "poisson"])
def test_a_target_that_is_nan_stays_in_its_row(name, dtype):
    batch = Batch(name, dtype, 3, 37)
    batch.targets[batch.index[1] * 37 + 36] = np.nan
    loss, dZ = batch.results()
    assert np.isnan(loss[1]) and np.isfinite(loss[[0, 2]]).all()
    assert np.isnan(dZ[1, 36]) and np.isnan(dZ).sum() == 1


@each_dtype
@each_loss
def test_a_row_without_weight_adds_nothing(name, dtype):
    batch = Batch(name, dtype, 3, 17, weighted=True)
    batch.weights[batch.index[1]] = 0
    loss, dZ = batch.results()
    assert loss[1] == 0 and (dZ[1] == 0).all()
    assert (loss[[0, 2]] > 0).all() and (dZ[[0, 2]] != 0).all()
