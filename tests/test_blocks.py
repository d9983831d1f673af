"""Several class labels a row: the loss with blocks, its kernel and what a network with it does."""

import itertools

import numpy as np
import pytest
from _kernels import DTYPES, SENTINEL, ULPS, few, seeds, surrounded
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

import fastbp
from fastbp.kernels import layout
from fastbp.kernels.cpu import losses
from fastbp.kernels.layout import PYTORCH, SCIKIT_LEARN
from fastbp.kernels.reference import losses as twins
from fastbp.losses import Loss

MARGIN = 64
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
each_convention = pytest.mark.parametrize("convention", [PYTORCH, SCIKIT_LEARN])


class Batch:
    """m rows of logits in blocks, and labels of more rows than that, which ``index`` names out of order."""

    def __init__(self, dtype, m, blocks, *, seed=0, weighted=False, spare=0, size=2.0):
        rng, n_samples = np.random.default_rng(seed), m + 4
        self.dtype, self.m, self.n = dtype, m, sum(blocks)
        self.ld = layout.padded(self.n) + 16 * spare
        self.ends = np.cumsum([0, *blocks], dtype=np.intp)
        self.spans = [slice(a, b) for a, b in itertools.pairwise(self.ends)]
        self.Z = (size * rng.normal(size=(m, self.n))).astype(dtype)
        self.labels = rng.integers(0, blocks, (n_samples, len(blocks))).astype(np.intp)
        self.index = rng.permutation(n_samples)[:m].astype(np.intp)
        self.weights = (rng.uniform(0.5, 2, n_samples) if weighted else np.zeros(0)).astype(dtype)
        self.row_weights = self.weights[self.index] if weighted else np.ones(m, dtype)
        self.scale = dtype(1 / self.row_weights.sum())

    def call(self, module, convention=PYTORCH):
        """Losses and dZ of the kernel or its twin, each with its surroundings."""
        (whole_loss, row_loss), (whole_dZ, dZ) = (
            surrounded(self.m, float, MARGIN),
            surrounded(self.m * self.ld, self.dtype, MARGIN),
        )
        whole_Z, Z = surrounded(self.m * self.ld, self.dtype, MARGIN)
        Z.reshape(self.m, self.ld)[:] = 0
        Z.reshape(self.m, self.ld)[:, : self.n] = self.Z
        module.block_softmax_cross_entropy(
            row_loss, dZ, Z, self.ld, self.labels.reshape(-1), self.ends, self.index, self.weights, self.scale, self.m,
            convention,
        )  # fmt: skip
        for whole in (whole_loss, whole_dZ, whole_Z):
            assert (whole[:MARGIN] == SENTINEL).all() and (whole[-MARGIN:] == SENTINEL).all()
        return row_loss, dZ.reshape(self.m, self.ld)

    def block(self, k, convention):
        """Losses and dZ of block k alone, by the kernel for one label."""
        width = self.ends[k + 1] - self.ends[k]
        ld = layout.padded(int(width))
        Z, dZ, row_loss = np.zeros((self.m, ld), self.dtype), np.zeros((self.m, ld), self.dtype), np.zeros(self.m)
        Z[:, :width] = self.Z[:, self.spans[k]]
        labels = np.ascontiguousarray(self.labels[:, k])
        losses.softmax_cross_entropy(
            row_loss, dZ.reshape(-1), Z.reshape(-1), ld, labels, self.index, self.weights, self.scale, self.m, width,
            convention,
        )  # fmt: skip
        return row_loss, dZ[:, :width]


@each_dtype
@given(st.data())
@few(40)
def test_kernel_agrees_with_its_twin_and_with_one_block_at_a_time(dtype, data):
    blocks = data.draw(st.lists(st.sampled_from([2, 3, 4, 10, 15, 16, 17, 33]), min_size=1, max_size=4), "blocks")
    convention = data.draw(st.sampled_from([PYTORCH, SCIKIT_LEARN]), "convention")
    weighted, spare = data.draw(st.booleans(), "weighted"), data.draw(st.integers(0, 2), "spare")
    batch = Batch(
        dtype, data.draw(st.integers(1, 9), "m"), blocks, seed=data.draw(seeds()), weighted=weighted, spare=spare
    )
    loss, dZ = batch.call(losses, convention)
    twin_loss, twin_dZ = batch.call(twins, convention)
    most = batch.row_weights.max()
    loss_bound = (batch.n + 8 * len(blocks)) * ULPS[dtype] * most * (1 + np.ptp(batch.Z))
    np.testing.assert_allclose(loss, twin_loss, rtol=0, atol=loss_bound)
    np.testing.assert_allclose(dZ, twin_dZ, rtol=0, atol=(batch.n + 8) * ULPS[dtype] * batch.scale * most)
    assert (dZ[:, : batch.n] != SENTINEL).all() and (dZ[:, batch.n :] == SENTINEL).all()
    apart = [batch.block(k, convention) for k in range(len(blocks))]
    np.testing.assert_allclose(loss, sum(part for part, _ in apart), rtol=0, atol=loss_bound)
    joined = np.concatenate([part for _, part in apart], axis=1)
    np.testing.assert_allclose(dZ[:, : batch.n], joined, rtol=0, atol=(batch.n + 8) * ULPS[dtype] * batch.scale * most)


@pytest.mark.parametrize("weighted", [False, True])
def test_it_is_the_textbook_one(weighted):
    batch = Batch(np.float64, 9, (3, 17, 2), weighted=weighted)
    loss, dZ = batch.call(losses)
    for k, span in enumerate(batch.spans):
        label = batch.labels[batch.index, k]
        loss = loss + batch.row_weights * special.log_softmax(batch.Z[:, span], axis=1)[np.arange(9), label]
        want = special.softmax(batch.Z[:, span], axis=1) - np.eye(span.stop - span.start)[label]
        factor = (batch.row_weights * batch.scale)[:, None]
        np.testing.assert_allclose(dZ[:, span], want * factor, rtol=0, atol=1e-15)
    np.testing.assert_allclose(loss, 0, atol=1e-13)


@each_convention
def test_gradient_against_central_differences(convention):
    batch, h = Batch(np.float64, 3, (2, 3, 4), weighted=True, size=1.0), 1e-6
    _, dZ = batch.call(losses, convention)
    Z = batch.Z.copy()
    for j in range(9):
        sides = []
        for sign in (1, -1):
            batch.Z = Z.copy()
            batch.Z[:, j] += sign * h
            sides.append(batch.call(losses, convention)[0])
        np.testing.assert_allclose(dZ[:, j], batch.scale * (sides[0] - sides[1]) / (2 * h), rtol=0, atol=1e-9)


@each_dtype
@each_convention
@pytest.mark.parametrize("place", [0, 1, 5, 20, 36])  # in each block: in the vector body, and in the tail
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_in_its_block(dtype, convention, place, bad):
    batch = Batch(dtype, 3, (2, 16, 19))
    batch.Z[1, place] = bad
    (loss, dZ), (twin_loss, twin_dZ) = (batch.call(module, convention) for module in (losses, twins))
    np.testing.assert_array_equal(np.isnan(dZ), np.isnan(twin_dZ))
    np.testing.assert_allclose(loss, twin_loss, rtol=100 * ULPS[dtype])
    own = next(span for span in batch.spans if span.start <= place < span.stop)
    assert np.isfinite(loss[[0, 2]]).all() and np.isfinite(dZ[[0, 2]]).all()
    assert np.isfinite(np.delete(dZ[1], np.arange(own.start, own.stop))).all()
    if np.isnan(bad):
        assert np.isnan(loss[1]) and np.isnan(dZ[1, own]).all()


@each_dtype
def test_huge_logits(dtype):
    most, eps = float(np.finfo(dtype).max), float(np.finfo(dtype).eps)
    batch = Batch(dtype, 2, (2, 3))
    batch.Z[:] = [[most, -most, 0, 0, 0], [most, -most, -most, -most, most]]
    batch.index, batch.scale = np.arange(2), dtype(1)
    batch.labels = np.array([[0, 1], [1, 2]])
    for convention, want in {
        PYTORCH: [np.log(3), np.inf],
        SCIKIT_LEARN: [-np.log1p(-eps) + np.log(3), -np.log(eps) - np.log1p(-eps)],
    }.items():
        loss, dZ = batch.call(losses, convention)
        np.testing.assert_allclose(loss, want, rtol=4 * ULPS[dtype])
        dZ_want = [[0, 0, 1 / 3, -2 / 3, 1 / 3], [1, -1, 0, 0, 0]]
        np.testing.assert_allclose(dZ[:, :5], dZ_want, rtol=4 * ULPS[dtype])


# ---------------------------------------------------------------------------------------------------------------------
# Networks


LOSS = Loss("softmax_cross_entropy", blocks=(3, 4))


def problem(dtype="float64", last="identity", n_outputs=7):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 5))
    y = np.stack([X[:, :3].argmax(axis=1), X[:, 1:].argmin(axis=1)], axis=1)
    layers = [fastbp.Dense(11, "tanh"), fastbp.Dense(n_outputs, last)]
    return fastbp.Sequential(layers, n_features=5, random_state=0, dtype=dtype), X, y, rng.uniform(0.1, 2, 60)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_gradient_is_the_derivative_of_the_loss(backend):
    model, X, y, weights = problem()
    for loss, w in itertools.product((LOSS, Loss(LOSS.name, "scikit-learn", LOSS.blocks)), (None, weights)):
        assert fastbp.gradient_check(model, loss, X, y, sample_weight=w, backend=backend).max_relative_error <= 1e-6


@pytest.mark.parametrize(("dtype", "allowed"), [("float32", 1e-5), ("float64", 1e-12)])
def test_backends_agree(dtype, allowed):
    model, X, y, weights = problem(dtype)
    assert fastbp.compare_backends(model, LOSS, X, y, sample_weight=weights).max_relative_difference <= allowed


@pytest.mark.parametrize("convention", ["exact", "scikit-learn"])
def test_training_is_recorded_and_predictions_are_logits(convention):
    model, X, y, weights = problem()
    loss = Loss("softmax_cross_entropy", convention, blocks=[3, 4])
    assert loss.link is None and loss.blocks == (3, 4)
    trainer = fastbp.Trainer(model, loss=loss, optimizer=fastbp.Adam(0.02), random_state=0, verify=True)
    history = trainer.fit(X, y, epochs=60, batch_size=10, validation_data=(X, y, weights))
    assert history["loss"][-1] < 0.3 * history["loss"][0]
    assert model.link == "identity"
    logits = model.predict(X)
    np.testing.assert_array_equal(logits, model.predict(X, raw=True))
    rows = -sum(
        special.log_softmax(logits[:, span], axis=1)[np.arange(60), y[:, k]]
        for k, span in enumerate((slice(0, 3), slice(3, 7)))
    )
    np.testing.assert_allclose(history["val_loss"][-1], np.average(rows, weights=weights), rtol=1e-12)
    assert (logits[:, :3].argmax(axis=1) == y[:, 0]).mean() > 0.9


def test_one_block_is_the_network_without_blocks():
    weights = []
    for loss in (Loss("softmax_cross_entropy"), Loss("softmax_cross_entropy", blocks=(7,))):
        model, X, y, _ = problem()
        labels = y.sum(axis=1)
        trainer = fastbp.Trainer(model, loss=loss, random_state=0)
        trainer.fit(X, labels[:, None] if loss.blocks else labels, epochs=3)
        weights.append(model.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9)


# ---------------------------------------------------------------------------------------------------------------------
# Errors


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (dict(blocks=3), TypeError, "blocks must be a sequence of integers of at least 2, got 3"),
        (dict(blocks=None), TypeError, "blocks must be a sequence of integers of at least 2, got None"),
        (dict(blocks=(3, 1)), ValueError, r"blocks\[1\] must be an integer of at least 2, got 1"),
        (dict(blocks=(3.0, 2)), TypeError, r"blocks\[0\] must be an integer of at least 2, got 3.0"),
        (dict(name="poisson", blocks=(3,)), ValueError, r"for the loss 'softmax_cross_entropy', got \(3,\) for 'poi"),
    ],
)
def test_bad_blocks_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        Loss(**{"name": "softmax_cross_entropy", **arguments})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(n_outputs=8), "blocks of 3, 4 outputs, 7 together: the last layer must have as many units, got 8"),
        (
            dict(last="softmax"),
            "the last layer must have the activation 'identity', got 'softmax'; apply the softmax to",
        ),
        (dict(last="tanh"), "the last layer must have the activation 'identity', got 'tanh'"),
    ],
)
def test_an_output_that_does_not_fit_is_an_error(options, message):
    with pytest.raises(ValueError, match=message):
        fastbp.Trainer(problem(**options)[0], loss=LOSS)


def with_label(y, column, label):
    changed = y.copy()
    changed[5, column] = label
    return changed


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda y: y[:, 0], ValueError, r"y must have the shape \(60, 2\), a row for each .* got \(60,\)"),
        (
            lambda y: np.eye(7, dtype=int)[y.sum(axis=1)],
            ValueError,
            r"y must have the shape \(60, 2\), .* got \(60, 7\)",
        ),
        (
            lambda y: y.astype(float),
            TypeError,
            "y must hold integer labels, one for each block, got an array of float64",
        ),
        (
            lambda y: with_label(y, 0, 3),
            ValueError,
            r"y\[:, 0\] must hold labels from 0 to 2, .* got labels from 0 to 3",
        ),
        (lambda y: with_label(y, 1, -1), ValueError, r"y\[:, 1\] must hold labels from 0 to 3, .* from -1 to 3"),
    ],
)
def test_bad_labels_are_named(change, error, message):
    model, X, y, _ = problem()
    with pytest.raises(error, match=message):
        fastbp.Trainer(model, loss=LOSS).fit(X, change(y))
