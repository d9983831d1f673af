"""Gradients against central differences and between backends: every activation with every loss."""

import itertools

import numpy as np
import pytest

import fastbp
from fastbp.kernels import layout
from fastbp.losses import LINKS, LOSSES

HIDDEN = ("identity", "relu", "logistic", "tanh", "exp")
OUTPUTS = ("identity", "relu", "logistic", "tanh", "exp", "softmax")
PAIRS = [(loss, last) for loss in LOSSES for last in OUTPUTS if last in (LINKS.get(loss, last), "identity")]
PLAIN = [(loss, last) for loss, last in PAIRS if layout.LOSSES[loss] not in layout.LOSS_FEATURES]
WIDTHS = (3, 4, 3)


RECTIFIERS = tuple(layout.RECTIFIERS)
# each of them is a hidden layer in one network, and the output of another
BY_RECTIFIER = [(loss, last) for loss in LOSSES if loss not in LINKS for last in RECTIFIERS]


def problem(hidden, last, loss, *, n_rows=9, dtype="float64", widths=WIDTHS, weighted=False):
    """A network, with data that its loss takes."""
    rng = np.random.default_rng(0)
    names = [hidden] * len(widths[1:]) if isinstance(hidden, str) else hidden
    layers = [fastbp.Dense(n, name, "scikit_learn") for n, name in zip(widths[1:], names, strict=True)]
    layers.append(fastbp.Dense(4, last, "scikit_learn"))
    model = fastbp.Sequential(layers, n_features=widths[0], random_state=0, dtype=dtype)
    X, y = rng.normal(size=(n_rows, widths[0])), rng.normal(size=(n_rows, 4))
    if hidden == "exp":  # exponentials of exponentials
        X /= 10
    if loss == "softmax_cross_entropy":
        y = rng.integers(0, 4, n_rows)
    elif loss == "sigmoid_cross_entropy":
        y = rng.uniform(size=(n_rows, 4))
    elif loss == "poisson":
        y = rng.poisson(2.0, (n_rows, 4))
    return model, X, y, rng.uniform(0.1, 2, n_rows) if weighted else None


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize(("loss", "last"), PAIRS)
def test_gradient_is_the_derivative_of_the_loss(loss, last, hidden, backend):
    for weighted in (False, True):
        model, X, y, weights = problem(hidden, last, loss, weighted=weighted)
        check = fastbp.gradient_check(model, loss, X, y, sample_weight=weights, backend=backend)
        assert check.max_relative_error <= 1e-6, str(check)
        assert check.n_skipped == 0
        assert list(check.relative_errors) == ["W1", "b1", "W2", "b2", "W3", "b3"]


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize(("loss", "last"), [*PAIRS, *BY_RECTIFIER])
def test_gradient_through_rectifiers_is_the_derivative_of_the_loss(loss, last, backend):
    hidden = ("tanh",) if last in RECTIFIERS else RECTIFIERS
    model, X, y, weights = problem(hidden, last, loss, weighted=True, widths=(5, *[3] * len(hidden)))
    model.set_weights([2.5 * array for array in model.get_weights()])  # or little of a gradient arrives below
    check = fastbp.gradient_check(model, loss, X, y, sample_weight=weights, backend=backend)
    assert check.max_relative_error <= 1e-6, str(check)
    assert check.n_skipped == 0


@pytest.mark.parametrize("kinked", ["leaky_relu", "selu"])
def test_gradient_check_steps_around_other_kinks(kinked):
    layers = [fastbp.Dense(1, "gelu"), fastbp.Dense(1, kinked), fastbp.Dense(1)]
    model = fastbp.Sequential(layers, n_features=1, dtype="float64", random_state=0)
    X, y = np.ones((1, 1)), np.array([3.0])
    for bias, skipped in ((-1.0 + 3e-7, 0), (-1.0, 4)):  # near the kink, and on it
        gelu = 1.0 * 0.8413447460685429
        model.set_weights([[[1.0]], [0.0], [[1 / gelu]], [bias], [[2.0]], [0.5]])
        check = fastbp.gradient_check(model, "mean_squared_error", X, y)
        assert check.n_skipped == skipped
        assert check.max_relative_error < 1e-3  # so small a step leaves so many digits


def test_gradient_check_sees_a_wrong_gradient(monkeypatch):
    from fastbp.kernels.reference import update

    model, X, y, _ = problem("tanh", "identity", "mean_squared_error")
    right = update.tile_gradient

    def forgets_one(item, G, *rest):
        right(item, G, *rest)
        if item[0] == 1 and item[3] >= 0:
            G[2] *= 1.01

    monkeypatch.setattr(update, "tile_gradient", forgets_one)
    check = fastbp.gradient_check(model, "mean_squared_error", X, y, backend="reference")
    assert check.max_relative_error > 1e-4
    assert max(check.relative_errors, key=check.relative_errors.get) == "W2"
    assert check.worst["W2"] == (0, 2)
    assert "W2: " in str(check)


def test_gradient_check_steps_around_the_kink_of_relu():
    """A unit that is 3e-7 from its kink: the usual step of 1e-6 crosses it, a smaller one does not."""
    model = fastbp.Sequential([fastbp.Dense(1, "relu"), fastbp.Dense(1)], n_features=1, dtype="float64", random_state=0)
    X, y = np.ones((1, 1)), np.array([3.0])
    model.set_weights([[[1.0]], [-1.0 + 3e-7], [[2.0]], [0.5]])
    near = fastbp.gradient_check(model, "mean_squared_error", X, y)
    assert near.n_skipped == 0 and near.max_relative_error < 1e-4
    model.set_weights([[[1.0]], [-1.0], [[2.0]], [0.5]])  # on the kink: nothing to compare
    on_it = fastbp.gradient_check(model, "mean_squared_error", X, y)
    assert on_it.n_skipped == 2


def test_gradient_check_leaves_the_model_alone():
    model, X, y, _ = problem("relu", "identity", "softmax_cross_entropy", dtype="float32")
    before, link = model.get_weights(), model.link
    assert fastbp.gradient_check(model, "softmax_cross_entropy", X, y).max_relative_error < 1e-6
    assert model.link == link
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("dtype", "allowed"), [("float32", 1e-5), ("float64", 1e-12)])
@pytest.mark.parametrize("widths", [(5, 7, 3), (33, 100, 65), (784, 128), (3,)])
def test_backends_agree(widths, dtype, allowed):
    for hidden, (loss, last) in itertools.product(HIDDEN, PLAIN):
        model, X, y, weights = problem(hidden, last, loss, n_rows=64, dtype=dtype, widths=widths, weighted=True)
        found = fastbp.compare_backends(model, loss, X, y, sample_weight=weights)
        assert found.max_relative_difference <= allowed, (hidden, loss, last, str(found))


@pytest.mark.parametrize(
    ("dtype", "allowed"), [pytest.param("float32", 2e-5, marks=pytest.mark.slow), ("float64", 1e-12)]
)
@pytest.mark.parametrize("first", [33, 784])
def test_backends_agree_on_rectifiers(first, dtype, allowed):
    widths = (first, 100, 65, 33, 20, 19, 18, 17, 16)
    for loss, last in [*PAIRS, *BY_RECTIFIER]:
        model, X, y, weights = problem(RECTIFIERS, last, loss, n_rows=64, dtype=dtype, widths=widths, weighted=True)
        found = fastbp.compare_backends(model, loss, X, y, sample_weight=weights)
        assert found.max_relative_difference <= allowed, (loss, last, str(found))


def test_comparison_names_arrays_and_backends():
    model, X, y, _ = problem("relu", "identity", "mean_squared_error")
    found = fastbp.compare_backends(model, "mean_squared_error", X, y, backends=("cpu", "reference"))
    assert list(found.relative_differences) == ["loss", "W1", "b1", "W2", "b2", "W3", "b3"]
    assert "reference against cpu" in str(found)
    for backends in ("cpu", ["cpu"], ["cpu", "gpu"]):
        with pytest.raises(ValueError, match="backends must"):
            fastbp.compare_backends(model, "mean_squared_error", X, y, backends=backends)
    named = (name for name in ("cpu", "reference"))
    assert fastbp.compare_backends(model, "mean_squared_error", X, y, backends=named).backends == ("cpu", "reference")
    with pytest.raises(TypeError, match="backends must name at least two of 'cpu', 'cuda', 'reference', got 5"):
        fastbp.compare_backends(model, "mean_squared_error", X, y, backends=5)
    for check in (fastbp.compare_backends, fastbp.gradient_check):
        with pytest.raises(TypeError, match=r"model must be a fastbp.Sequential, got None"):
            check(None, "mean_squared_error", X, y)


@pytest.mark.parametrize("backend", ["cpu", "reference", "cuda"])
def test_loss_and_gradients_against_torch(backend):
    torch = pytest.importorskip("torch")
    model, X, y, _ = problem("tanh", "identity", "softmax_cross_entropy")
    loss, gradients = fastbp.Trainer(model, loss="softmax_cross_entropy", backend=backend).loss_and_gradients(X, y)
    tensors = [torch.tensor(w, requires_grad=True) for w in model.get_weights()]
    A = torch.tensor(X)
    for k in range(0, len(tensors), 2):
        A = A @ tensors[k] + tensors[k + 1]
        A = torch.tanh(A) if k + 2 < len(tensors) else A
    expected = torch.nn.functional.cross_entropy(A, torch.tensor(y))
    expected.backward()
    np.testing.assert_allclose(loss, expected.item(), rtol=1e-13)
    for gradient, tensor in zip(gradients, tensors, strict=True):
        np.testing.assert_allclose(gradient, tensor.grad.numpy(), rtol=1e-10, atol=1e-14)


def test_sum_of_softmax_and_sigmoid_losses_is_that_of_their_formulas():
    from scipy.special import expit, log_softmax

    model, X, y, weights = problem("tanh", "identity", "softmax_cross_entropy", weighted=True)
    raw = model.predict(X, raw=True)
    loss, _ = fastbp.Trainer(model, loss="softmax_cross_entropy").loss_and_gradients(X, y, weights)
    rows = -log_softmax(raw, axis=1)[np.arange(len(y)), y]
    np.testing.assert_allclose(loss, np.average(rows, weights=weights), rtol=1e-13)
    model, X, y, weights = problem("tanh", "identity", "sigmoid_cross_entropy", weighted=True)
    raw = model.predict(X, raw=True)
    loss, _ = fastbp.Trainer(model, loss="sigmoid_cross_entropy").loss_and_gradients(X, y, weights)
    rows = -(y * np.log(expit(raw)) + (1 - y) * np.log(expit(-raw))).sum(axis=1)
    np.testing.assert_allclose(loss, np.average(rows, weights=weights), rtol=1e-13)
