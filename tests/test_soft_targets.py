"""Cross-entropies of soft targets, with label smoothing and class weights: their kernels."""

import numpy as np
import pytest
from _kernels import DTYPES, SENTINEL, ULPS, few, seeds, surrounded
from _loss_batches import Batch, assert_like_twin
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from fastbp.kernels import layout
from fastbp.kernels.cpu import losses, soft_targets
from fastbp.kernels.layout import PYTORCH, SCIKIT_LEARN
from fastbp.kernels.reference import soft_targets as twins

SIZES = [1, 2, 10, 15, 16, 17, 31, 32, 33, 50]
# name and arguments of a batch
KINDS = {
    "softmax of values": ("soft_cross_entropy", {}),
    "softmax of labels": ("soft_cross_entropy", {"hard": True}),
    "blocks of values": ("block_soft_cross_entropy", {}),
    "blocks of labels": ("block_soft_cross_entropy", {"hard": True}),
    "sigmoid": ("soft_sigmoid_cross_entropy", {}),
}
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
each_kind = pytest.mark.parametrize("kind", KINDS)
each_convention = pytest.mark.parametrize("convention", [PYTORCH, SCIKIT_LEARN])


def batch_of(kind, dtype, m, n, **options):
    """A batch; of blocks where the kind has some: the first columns, and the rest."""
    name, more = KINDS[kind]
    if kind.startswith("blocks"):
        more = more | {"blocks": (n,) if n < 5 else (2, n - 4, 2)}
    batch = Batch(name, dtype, m, n, **more | options)
    if name == "block_soft_cross_entropy" and not batch.labels.size:  # of each block the sum is 1
        for start, end in zip(batch.blocks[:-1], batch.blocks[1:], strict=True):
            batch.values[:, start:end] /= batch.values[:, start:end].sum(axis=1, keepdims=True)
    return batch


def loss_of(batch, convention=PYTORCH):
    """Losses and gradients from the formulas, in float64."""
    t, z, smoothing = batch.target(), batch.Z.astype(float), float(batch.coefficients[0])
    n, clip, eps = batch.n, convention == SCIKIT_LEARN, float(np.finfo(batch.dtype).eps)
    logs = (lambda log_p: np.log(np.clip(np.exp(log_p), eps, 1 - eps))) if clip else (lambda log_p: log_p)
    if batch.name == "soft_sigmoid_cross_entropy":
        t = (1 - smoothing) * t + smoothing / 2
        u, v = batch.coefficients[1 + n : 1 + 2 * n] * t, batch.coefficients[1 : 1 + n] * (1 - t)
        loss = -(u * logs(special.log_expit(z)) + v * logs(special.log_expit(-z))).sum(axis=1)
        gradient = (u + v) * special.expit(z) - u
    else:
        loss, gradient, blocked = 0.0, np.empty_like(z), batch.name == "block_soft_cross_entropy"
        for start, end in zip(batch.blocks[:-1], batch.blocks[1:], strict=True):
            u = (1 - smoothing) * t[:, start:end] + smoothing / (end - start)
            u = u if blocked else u * batch.coefficients[1 : 1 + n]
            log_p = special.log_softmax(z[:, start:end], axis=1)
            loss = loss - (u * logs(log_p)).sum(axis=1)
            gradient[:, start:end] = u.sum(axis=1, keepdims=True) * np.exp(log_p) - u
    factors = batch.factors().astype(float)
    return factors * loss, gradient * (factors * batch.scale)[:, None]


@each_dtype
@each_kind
@given(st.data())
@few(40)
def test_kernel_agrees_with_its_twin(kind, dtype, data):
    m, n = data.draw(st.integers(1, 9)), data.draw(st.sampled_from(SIZES[1:] if kind != "sigmoid" else SIZES))
    weighted, spare = data.draw(st.booleans(), "weighted"), data.draw(st.integers(0, 2), "spare")
    convention = data.draw(st.sampled_from([PYTORCH, SCIKIT_LEARN]), "convention")
    smoothing = data.draw(st.sampled_from([0.0, 0.2]), "smoothing")
    batch = batch_of(kind, dtype, m, n, seed=data.draw(seeds()), weighted=weighted, spare=spare, smoothing=smoothing)
    # an error of p is one of p / (1 - p) = e^z in ln(1 - p), which scikit-learn takes
    most = np.exp(np.abs(batch.Z).max()) if convention == SCIKIT_LEARN else 1 + np.ptp(batch.Z)
    assert_like_twin(batch, soft_targets, twins, convention, 4 * n * float(most), 8)


@each_kind
@each_convention
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n", [2, 9, 37])
def test_they_are_the_textbook_ones(kind, convention, weighted, n):
    batch = batch_of(kind, np.float64, 9, n, weighted=weighted)
    (loss, dZ), (want, gradient) = batch.results(soft_targets, convention), loss_of(batch, convention)
    np.testing.assert_allclose(loss, want, rtol=1e-12)
    np.testing.assert_allclose(dZ, gradient, rtol=0, atol=1e-14)


@each_kind
@each_convention
@pytest.mark.parametrize("weighted", [False, True])
def test_gradient_against_central_differences(kind, convention, weighted):
    batch = batch_of(kind, np.float64, 3, 5, weighted=weighted, size=1.0)
    want = batch.differences(soft_targets, convention)
    np.testing.assert_allclose(batch.results(soft_targets, convention)[1], want, rtol=0, atol=1e-9)


@each_dtype
@pytest.mark.parametrize("n", [2, 15, 16, 17, 33])
def test_padding_is_as_the_docstrings_say(dtype, n):
    used = layout.padded(n)
    for kind in KINDS:
        _, dZ, _ = batch_of(kind, dtype, 5, n, spare=1).call(soft_targets)
        touched = kind.startswith("softmax") or (kind == "sigmoid" and n >= 16)
        assert (dZ[:, n:used] == (0 if touched else SENTINEL)).all() and (dZ[:, used:] == SENTINEL).all(), kind


@each_dtype
@each_convention
@pytest.mark.parametrize("n", [3, 37])
def test_without_smoothing_and_weights_they_are_the_plain_losses(dtype, convention, n):
    batch = batch_of("softmax of labels", dtype, 9, n, smoothing=0.0)
    batch.coefficients[1:] = 1
    loss, dZ = batch.results(soft_targets, convention)
    plain_loss, plain_dZ, Z = np.zeros(9), np.zeros(9 * batch.ld, dtype), np.zeros((9, batch.ld), dtype)
    Z[:, :n] = batch.Z
    losses.softmax_cross_entropy(
        plain_loss, plain_dZ, Z.reshape(-1), batch.ld, batch.labels, batch.index, batch.weights, dtype(batch.scale),
        9, n, convention,
    )  # fmt: skip
    np.testing.assert_allclose(loss, plain_loss, rtol=20 * ULPS[dtype], atol=20 * ULPS[dtype])
    np.testing.assert_allclose(dZ, plain_dZ.reshape(9, -1)[:, :n], rtol=0, atol=20 * ULPS[dtype])


@each_dtype
@each_convention
@each_kind
@pytest.mark.parametrize("place", [0, 5, 20, 36])  # 37 outputs: in the vector body, and in the tail
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_in_its_row(kind, dtype, convention, place, bad):
    batch = batch_of(kind, dtype, 3, 37)
    batch.Z[1, place] = bad
    (loss, dZ), (twin_loss, twin_dZ) = (batch.results(module, convention) for module in (soft_targets, twins))
    assert np.isfinite(loss[[0, 2]]).all() and np.isfinite(dZ[[0, 2]]).all()
    np.testing.assert_array_equal(np.isnan(dZ), np.isnan(twin_dZ))
    np.testing.assert_allclose(loss, twin_loss, rtol=200 * ULPS[dtype])
    if np.isnan(bad):
        assert np.isnan(loss[1]) and np.isnan(dZ[1, place])


@each_dtype
@each_convention
@pytest.mark.parametrize("kind", ["softmax of values", "blocks of values", "sigmoid"])
@pytest.mark.parametrize("place", [3, 36])
def test_a_target_that_is_nan_stays_in_its_row(kind, dtype, convention, place):
    batch = batch_of(kind, dtype, 3, 37)
    batch.values[batch.index[1], place] = np.nan
    loss, dZ = batch.results(soft_targets, convention)
    assert np.isnan(loss[1]) and np.isnan(dZ[1, place])
    assert np.isfinite(loss[[0, 2]]).all() and np.isfinite(dZ[[0, 2]]).all()


@each_dtype
@each_kind
def test_a_row_without_weight_adds_nothing(kind, dtype):
    batch = batch_of(kind, dtype, 3, 17, weighted=True)
    batch.weights[batch.index[1]] = 0
    if kind == "softmax of labels":  # there the values multiply the loss
        batch.values[batch.index[1]] = 0
    loss, dZ = batch.results(soft_targets)
    assert loss[1] == 0 and (dZ[1] == 0).all()
    assert (loss[[0, 2]] > 0).all() and (dZ[[0, 2]] != 0).all()


@each_dtype
@pytest.mark.parametrize("kind", ["softmax of values", "blocks of values"])
def test_logits_of_minus_infinity_where_there_is_no_target(kind, dtype):
    """A class that is masked out has no share and takes none."""
    batch = batch_of(kind, dtype, 2, 6, smoothing=0.0)
    batch.blocks = np.array([0, 6])
    batch.values[:] = [0, 0.5, 0, 0.5, 0, 0]
    batch.coefficients[1:] = 1
    batch.Z[:] = [-np.inf, 1, 2, 1, -np.inf, 0]
    (loss, dZ), (want, gradient) = batch.results(soft_targets), (None, None)
    p = special.softmax([1.0, 2, 1, 0])
    want = -np.log(p[0])
    gradient = np.array([0, p[0] - 0.5, p[1], p[2] - 0.5, 0, p[3]]) * batch.scale
    np.testing.assert_allclose(loss, want, rtol=10 * ULPS[dtype])
    np.testing.assert_allclose(dZ, np.tile(gradient, (2, 1)), rtol=0, atol=10 * ULPS[dtype])


@each_dtype
def test_huge_logits(dtype):
    most = float(np.finfo(dtype).max)
    batch = batch_of("softmax of labels", dtype, 2, 3, smoothing=0.0)
    batch.coefficients[1:] = 1
    batch.Z[:] = [[most, -most, 0], [-most, -most, -most]]
    batch.index, batch.labels, batch.scale = np.arange(2), np.array([0, 2]), 1.0
    loss, dZ = batch.results(soft_targets)
    np.testing.assert_allclose(loss, [0, np.log(3)], rtol=4 * ULPS[dtype])
    np.testing.assert_allclose(dZ, [[0, 0, 0], [1 / 3, 1 / 3, -2 / 3]], rtol=0, atol=4 * ULPS[dtype])
    batch = batch_of("sigmoid", dtype, 3, 1)
    batch.Z[:, 0], batch.coefficients = (most / 8, -most / 8, 100), np.array([0.5, 2, 3], dtype)
    batch.index, batch.scale = np.arange(3), 1.0
    batch.values[:3, 0] = 1
    loss, dZ = batch.results(soft_targets)  # t is 3/4: v = 1/2, u = 9/4
    np.testing.assert_allclose(loss, [most / 16, 9 / 32 * most, 50], rtol=8 * ULPS[dtype])
    np.testing.assert_allclose(dZ[:, 0], [0.5, -2.25, 0.5], rtol=8 * ULPS[dtype])


@each_dtype
@pytest.mark.parametrize("n", [2, 15, 16, 17, 33])
@pytest.mark.parametrize("hard", [False, True])
def test_weighted_targets(dtype, n, hard):
    rng, results = np.random.default_rng(0), []
    values, coefficients = rng.uniform(size=(4, n)).astype(dtype), rng.uniform(0.1, 2, 1 + n).astype(dtype)
    coefficients[0] = 0.3
    labels = np.zeros(4 if hard else 0, np.intp)
    for module in (soft_targets, twins):
        whole, u = surrounded(layout.padded(n), dtype, 16)
        module.weighted_targets(u, values.reshape(-1), labels, coefficients, 2, n)
        assert (whole[:16] == SENTINEL).all() and (whole[-16:] == SENTINEL).all() and (u[n:] == 0).all()
        results.append(u)
    t = 0 if hard else values[2].astype(float)
    np.testing.assert_allclose(results[0][:n], coefficients[1:] * (0.7 * t + 0.3 / n), rtol=8 * ULPS[dtype])
    np.testing.assert_allclose(*results, rtol=4 * ULPS[dtype])
