"""Sample weights and batch norm: rows of weight 0 are not there, and rows of weight 2 are there twice.

By gradients, whole fits of all interfaces, running statistics, bits, and scikit-learn's own checks.
"""

import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from _processes import succeed
from scipy import sparse
from sklearn.base import clone
from sklearn.utils import estimator_checks

import fastbp
from fastbp import BatchNorm, Dense, LayerNorm, MLPClassifier, MLPRegressor, Residual, Sequential, Trainer
from fastbp.backends import cuda, get_backend
from fastbp.backends._planned import PlannedSession
from fastbp.estimators import _base
from fastbp.kernels.cpu.training import train_steps
from fastbp.kernels.layout import OWNERS
from fastbp.losses import Loss

N_FEATURES, N_ROWS, N_CLASSES = 5, 41, 3
NETWORKS = {
    "behind a dense layer": [Dense(7, "tanh"), BatchNorm("tanh"), Dense(N_CLASSES)],
    "of X, and last": [BatchNorm("logistic"), Dense(N_CLASSES), BatchNorm()],
    "in and behind a skip": [Dense(6), Residual([Dense(6, "gelu"), BatchNorm("tanh")], "tanh"), BatchNorm(), Dense(3)],
    "in a row": [Dense(6), LayerNorm("tanh"), BatchNorm("tanh"), BatchNorm("tanh"), Dense(N_CLASSES)],
}
BACKENDS = ("cpu", "reference", "cuda")
each_network = pytest.mark.parametrize("name", NETWORKS)
each_backend = pytest.mark.parametrize("backend", BACKENDS)
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(autouse=True)
def without_a_card(monkeypatch):
    """The simulator takes the place of a card."""
    monkeypatch.setattr("fastbp.trainer.require", lambda: None)
    monkeypatch.setattr(cuda, "BLOCKS", [2])


def rows(n=N_ROWS, seed=0, n_features=N_FEATURES):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, n_features)), rng.integers(0, N_CLASSES, n)


def weights_of(n=N_ROWS, seed=1):
    """Of any size, many of them 0."""
    rng = np.random.default_rng(seed)
    return rng.uniform(0.1, 3, n) * (rng.random(n) < 0.7)


def whole_weights(n=N_ROWS, seed=2):
    return np.random.default_rng(seed).integers(0, 4, n)


def trainer_of(layers, backend="reference", dtype="float64", n_features=N_FEATURES, **options):
    model = Sequential(layers, n_features=n_features, random_state=0, dtype=dtype)
    rng = np.random.default_rng(1)  # gamma and beta as after some steps
    arrays = zip(model._described.names, model.get_weights(), strict=True)
    model.set_weights([w + 0.3 * rng.uniform(size=w.shape) if name[0] in "gbmv" else w for name, w in arrays])
    options = {"loss": "softmax_cross_entropy", "optimizer": fastbp.SGD(0.1, momentum=0.9, l2=0.01)} | options
    return Trainer(model, backend=backend, random_state=1, **options)


def assert_close(found, expected, tolerance, least=1e-2):
    """By array, or relative to ``least``: a bias before a batch norm has a gradient of rounding alone."""
    assert len(found) == len(expected)
    for got, want in zip(found, expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * max(np.abs(want).max(initial=0), least))


# ---------------------------------------------------------------------------------------------------------------------
# One batch


@each_network
@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "huber"])
def test_gradients_agree_with_central_differences(name, backend, loss):
    X, y = rows()
    y = y if loss == "softmax_cross_entropy" else np.random.default_rng(3).normal(size=(N_ROWS, N_CLASSES))
    model = trainer_of(NETWORKS[name]).model
    check = fastbp.gradient_check(model, loss, X, y, sample_weight=weights_of(), backend=backend)
    assert check.max_relative_error < 1e-6, check
    assert check.n_checked >= 50


@each_network
@each_backend
def test_a_weight_is_a_number_of_rows(name, backend):
    """Loss and gradients of a batch are those of rows that are left out, or there several times."""
    (X, y), weights = rows(), whole_weights()
    found = trainer_of(NETWORKS[name], backend).loss_and_gradients(X, y, weights)
    repeated = [array.repeat(weights, axis=0) for array in (X, y)]
    expected = trainer_of(NETWORKS[name], backend).loss_and_gradients(*repeated)
    assert_close([found[0], *found[1]], [expected[0], *expected[1]], 1e-10)
    unweighted = trainer_of(NETWORKS[name], backend).loss_and_gradients(X, y)
    assert abs(found[0] - unweighted[0]) > 1e-3


@each_network
@pytest.mark.parametrize(("backend", "dtype"), [
    pytest.param("cpu", "float32", marks=pytest.mark.slow), ("cpu", "float64"), ("cuda", "float32"),
    ("cuda", "float64"),
])  # fmt: skip
def test_backends_agree_with_the_reference(name, backend, dtype):
    """Losses, weights and running statistics of some epochs, with a short last batch."""
    (X, y), fitted = rows(), {}
    for one in (backend, "reference"):
        trainer = trainer_of(NETWORKS[name], one, dtype)
        history = trainer.fit(X, y, epochs=3, batch_size=12, sample_weight=weights_of())
        fitted[one] = [np.array(history["loss"]), *trainer.model.get_weights()]
    assert_close(fitted[backend], fitted["reference"], {"float32": 1e-4, "float64": 1e-10}[dtype])


@each_backend
def test_rows_without_weight_change_no_bit(backend):
    """Whatever stands in them, as long as it is a number."""
    (X, y), weights, fitted = rows(), weights_of(), []
    for kept in (True, False):
        data = (X, y) if kept else (np.where(weights[:, np.newaxis] > 0, X, 1000 + 7 * X), np.where(weights > 0, y, 0))
        trainer = trainer_of(NETWORKS["in and behind a skip"], backend, "float32")
        history = trainer.fit(*data, epochs=2, batch_size=12, sample_weight=weights)
        fitted.append([np.array(history["loss"]), *trainer.model.get_weights()])
    for one, two in zip(*fitted, strict=True):
        np.testing.assert_array_equal(one, two)


@each_network
@each_backend
def test_weights_of_one_are_none(name, backend):
    (X, y), fitted = rows(), []
    for weights in (None, np.ones(N_ROWS)):
        trainer = trainer_of(NETWORKS[name], backend, "float32")
        trainer.fit(X, y, epochs=2, batch_size=12, sample_weight=weights)
        fitted.append(trainer.model.get_weights())
    for one, two in zip(*fitted, strict=True):
        if backend == "cpu":
            np.testing.assert_array_equal(one, two)
        else:
            np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)


def test_the_unit_of_weights_does_not_matter():
    (X, y), weights, fitted = rows(), weights_of(), []
    weights = np.where(weights > 0, 1 + weights / 10, 0) / 1.2  # below and above one row each
    for unit in (1.0, 1e-3):
        trainer = trainer_of(NETWORKS["behind a dense layer"])
        trainer.fit(X, y, epochs=2, batch_size=12, shuffle=False, sample_weight=unit * weights)
        fitted.append(dict(zip(trainer.model._described.names, trainer.model.get_weights(), strict=True)))
    for name, array in fitted[0].items():  # of the running variance only N / (N - 1) differs
        np.testing.assert_allclose(fitted[1][name], array, rtol=0.05 if name == "variance1" else 1e-9, atol=1e-12)


# ---------------------------------------------------------------------------------------------------------------------
# Batches with few rows that count


def steps(trainer, X, y, weights, batch_size):
    """A session after one epoch in the order of the rows, and its losses."""
    session = trainer._open(*trainer._checked(X, y, weights), batch_size=batch_size)
    losses = session.train(np.arange(len(X)), np.full(-(-len(X) // batch_size), 0.1))
    return session, losses


@each_network
@each_backend
def test_a_batch_without_weight_moves_nothing(name, backend):
    X, y = rows(30)
    weights = np.ones(30)
    weights[:10] = 0
    X[:10] *= 1e6
    trainer = trainer_of(NETWORKS[name], backend, optimizer=fastbp.SGD(0.1))
    before = trainer.model.get_weights()
    session, _ = steps(trainer, X[:10], y[:10], None, 10)  # as they are, they do move something
    assert any((one != two).any() for one, two in zip(session.get_parameters(), before, strict=True))
    session = trainer._open(*trainer._checked(X, y, weights), batch_size=10)
    assert session.train(np.arange(10), np.full(1, 0.1)) == [0]
    for one, two in zip(session.get_parameters(), before, strict=True):
        np.testing.assert_array_equal(one, two)
    assert np.isfinite(session.train(np.arange(10, 30), np.full(2, 0.1))).all()
    assert any((one != two).any() for one, two in zip(session.get_parameters(), before, strict=True))


@each_backend
@pytest.mark.parametrize("weight", [1.0, 1.5])
def test_one_row_that_counts_is_what_its_norm_adds(backend, weight):
    """x^ = 0 and running statistics that stay, as for a batch of one row: the same update."""
    (X, y), found = rows(), []
    alone = np.zeros(10)
    alone[4] = weight
    for data in ((X[:10], y[:10], alone), (X[4:5], y[4:5], None)):
        trainer = trainer_of(NETWORKS["behind a dense layer"], backend, optimizer=fastbp.SGD(0.1))
        before = dict(zip(trainer.model._described.names, trainer.model.get_weights(), strict=True))
        session, losses = steps(trainer, *data, batch_size=len(data[0]))
        found.append([losses, *session.get_parameters()])
        after = dict(zip(before, session.get_parameters(), strict=True))
        for name in ("mean1", "variance1", "gamma1", "W1"):
            np.testing.assert_array_equal(after[name], before[name])
        assert (after["beta1"] != before["beta1"]).any()
    assert_close(*found, 1e-12)


@each_backend
def test_one_row_of_weight_3_is_three_rows(backend):
    (X, y), found = rows(), []
    alone = np.zeros(10)
    alone[4] = 3
    for data in ((X[:10], y[:10], alone), (X[[4] * 3], y[[4] * 3], None)):
        trainer = trainer_of(NETWORKS["behind a dense layer"], backend, optimizer=fastbp.SGD(0.1))
        session, losses = steps(trainer, *data, batch_size=len(data[0]))
        found.append([losses, *session.get_parameters()])
    assert_close(*found, 1e-10)


# ---------------------------------------------------------------------------------------------------------------------
# Whole fits


@each_network
@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_trainers_fit_is_that_of_repeated_rows(name, backend):
    """On full batches: losses, weights, running statistics and predictions."""
    (X, y), weights, fitted = rows(), whole_weights(), []
    for data, given in (((X, y), weights), ([array.repeat(weights, axis=0) for array in (X, y)], None)):
        trainer = trainer_of(NETWORKS[name], backend, optimizer=fastbp.SGD(0.05, momentum=0.9))
        validation = X, y, weights
        history = trainer.fit(*data, epochs=8, batch_size=1000, sample_weight=given, validation_data=validation)
        outputs = trainer.model.predict(X, backend=backend)
        fitted.append([history["loss"], history["val_loss"], *trainer.model.get_weights(), outputs])
    assert_close(*fitted, 1e-9)


@pytest.fixture(params=["cpu", "reference"])
def of_backend(request, monkeypatch):
    """Estimators on compiled kernels, and on the reference."""
    if request.param == "reference":
        monkeypatch.setattr(_base, "training_backend", lambda *given, **options: ("reference", "float32"))
        monkeypatch.setattr(_base, "get_backend", lambda name: get_backend("reference"))


OPTIONS = {
    "hidden_layer_sizes": (8, 8), "normalization": "batch", "activation": "tanh", "max_iter": 15, "random_state": 0,
    "tol": 0, "n_iter_no_change": 100, "batch_size": "auto", "learning_rate_init": 0.01,
}  # fmt: skip


@pytest.mark.parametrize("estimator", [MLPClassifier, MLPRegressor])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("sparse_X", [False, True])
def test_estimators_fit_is_that_of_repeated_rows(of_backend, estimator, residual, sparse_X):
    (X, y), weights = rows(), whole_weights()
    y = y if estimator is MLPClassifier else X @ np.arange(N_FEATURES) + y
    form = sparse.csr_array if sparse_X else np.asarray
    one, two = (estimator(residual=residual, **OPTIONS) for _ in range(2))
    one.fit(form(X), y, weights)
    two.fit(form(X.repeat(weights, axis=0)), y.repeat(weights))
    np.testing.assert_allclose(one.loss_curve_, two.loss_curve_, rtol=1e-9)
    for mine, other in zip(one.normalization_, two.normalization_, strict=True):
        assert_close(list(mine.values()), list(other.values()), 1e-8)
    predictions = [m.predict_proba(X) if estimator is MLPClassifier else m.predict(X) for m in (one, two)]
    assert_close(predictions[:1], predictions[1:], 1e-8)
    three = clone(one).fit(form(X), y)
    assert abs(three.loss_curve_[-1] - one.loss_curve_[-1]) > 1e-4


def test_partial_fit_and_class_weights_weigh_rows(of_backend):
    (X, y), weights = rows(), whole_weights()
    one, two, three = (MLPClassifier(**OPTIONS) for _ in range(3))
    three.set_params(class_weight={0: 1, 1: 2, 2: 3})
    for _ in range(4):
        one.partial_fit(X, y, weights, classes=range(N_CLASSES))
        two.partial_fit(X.repeat(weights, axis=0), y.repeat(weights), classes=range(N_CLASSES))
    assert_close([one.predict_proba(X)], [two.predict_proba(X)], 1e-9)
    three.fit(X, y)
    expected = clone(three).set_params(class_weight=None).fit(X.repeat(y + 1, axis=0), y.repeat(y + 1))
    assert_close([three.predict_proba(X)], [expected.predict_proba(X)], 1e-8)


# ---------------------------------------------------------------------------------------------------------------------
# Class weights of a loss


@each_backend
def test_class_weights_of_labels_are_weights_of_rows(backend):
    (X, y), by_class, results = rows(), (0.0, 2.0, 0.5), []
    weighted = Loss("softmax_cross_entropy", class_weight=by_class)
    for loss, weights in ((weighted, None), ("softmax_cross_entropy", np.array(by_class)[y])):
        trainer = trainer_of(NETWORKS["behind a dense layer"], backend, loss=loss)
        results.append(trainer.loss_and_gradients(X, y, weights))
    assert_close([results[0][0], *results[0][1]], [results[1][0], *results[1][1]], 1e-12)
    other = np.where((y > 0)[:, np.newaxis], X, 1000 + 7 * X)  # the rows of class 0 are not there
    loss, gradients = trainer_of(NETWORKS["behind a dense layer"], backend, loss=weighted).loss_and_gradients(other, y)
    assert_close([loss, *gradients], [results[0][0], *results[0][1]], 1e-12)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_gradients_with_class_weights_agree_with_central_differences(backend, smoothing):
    (X, y), soft = rows(), np.random.default_rng(0).dirichlet(np.ones(N_CLASSES), N_ROWS)
    loss = Loss("softmax_cross_entropy", class_weight=(0.5, 2.0, 0.0), label_smoothing=smoothing)
    for targets in (y, soft):
        model = trainer_of(NETWORKS["behind a dense layer"]).model
        check = fastbp.gradient_check(model, loss, X, targets, sample_weight=weights_of(), backend=backend)
        assert check.max_relative_error < 1e-6, check


def test_class_weights_of_soft_targets_weigh_outputs_alone():
    """The statistics are those of the rows, whatever the weights of the classes."""
    (X, y), running = rows(), []
    for by_class in (None, (0.5, 2.0, 3.0)):
        loss = Loss("softmax_cross_entropy", class_weight=by_class)
        trainer = trainer_of([BatchNorm(), Dense(N_CLASSES)], loss=loss)
        trainer.fit(X, np.eye(N_CLASSES)[y], batch_size=N_ROWS)
        running.append(trainer.model.get_weights()[2:4])
    for one, two in zip(*running, strict=True):
        np.testing.assert_array_equal(one, two)


# ---------------------------------------------------------------------------------------------------------------------
# Bits


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("name", ["behind a dense layer", "of X, and last", "in and behind a skip"])
def test_shares_of_the_work_change_no_bit(name, backend, monkeypatch):
    """Shares of the rows, and owners of the first layer, who leave the statistics of the batch norm behind it."""
    monkeypatch.setattr("fastbp.kernels.schedule.TOLERATED_IMBALANCE", np.inf)
    (X, y), layers, fitted, owned = rows(163, n_features=37), NETWORKS[name], [], set()
    layers = [Dense(70, "tanh"), *layers[1:]] if name == "behind a dense layer" else layers
    for n_threads in (1, 2, 3):
        monkeypatch.setattr("fastbp.kernels.schedule.useful_threads", lambda *rest, n=n_threads: n)
        trainer = trainer_of(layers, backend, "float32", 37)
        session = trainer._open(*trainer._checked(X, y, weights_of(163)), batch_size=50)
        assert session._threads == n_threads
        owned.add(bool(session._plan.header[OWNERS]))
        if backend == "cpu":  # one thread goes through all shares
            serial = lambda *arguments, n_threads: train_steps.serial(*arguments)  # noqa: E731
            session._kernels = dataclasses.replace(session._kernels, train_steps=serial)
        losses = session.train(np.random.default_rng(0).permutation(163).astype(np.intp), np.full(4, 0.05))
        fitted.append([losses, *session.get_parameters()])
    assert (True in owned) == (name != "of X, and last")
    for other, k in itertools.product(fitted[1:], range(len(fitted[0]))):
        if backend == "cpu":
            np.testing.assert_array_equal(other[k], fitted[0][k])
        else:
            np.testing.assert_allclose(other[k], fitted[0][k], rtol=1e-4, atol=1e-5)


ALLOCATIONS = """
import _features
_features.compile_together(setattr)
import json
import numpy as np
from numba.core.runtime import rtsys
from test_weighted_norms import NETWORKS, rows, trainer_of, weights_of

trainer, (X, y), counts = trainer_of(NETWORKS["in and behind a skip"], "cpu"), rows(), []
session = trainer._open(*trainer._checked(X, y, weights_of()), batch_size=12)
for n_steps in (1, 10, 1000):  # there are no counts before the first
    before = rtsys.get_allocation_stats() if n_steps > 1 else (0,) * 4
    assert np.isfinite(session.train(np.arange(12 * n_steps) % len(X), np.full(n_steps, 1e-3))).all()
    counts.append([b - a for a, b in zip(before, rtsys.get_allocation_stats())])
print(json.dumps(counts))
"""


def test_a_step_with_weights_allocates_nothing():
    done = succeed("-c", ALLOCATIONS, path=[Path(__file__).parent], NUMBA_NRT_STATS="1")
    _, few, many = json.loads(done.stdout.splitlines()[-1])
    assert few == many and few[0] == few[1] and few[2] == few[3]


# ---------------------------------------------------------------------------------------------------------------------
# What is refused, and what looks on


def test_a_fit_in_which_one_row_counts_is_refused():
    (X, y), weights = rows(10), np.zeros(10)
    weights[3] = 1.5
    trainer = trainer_of(NETWORKS["behind a dense layer"])
    before = trainer.model.get_weights()
    with pytest.raises(ValueError, match=r"a BatchNorm needs at least 2 rows with a weight above 0.* got 1 of 10 rows"):
        trainer.fit(X, y, sample_weight=weights)
    y[:] = 0
    y[3] = 1
    of_loss = trainer_of(NETWORKS["behind a dense layer"], loss=Loss("softmax_cross_entropy", class_weight=(0, 1, 1)))
    with pytest.raises(ValueError, match=r"at least 2 rows with a weight above 0"):
        of_loss.fit(X, y)
    for one, two in zip(trainer.model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, two)
    weights[3] = 2  # a row that is there twice
    trainer.fit(X, y, sample_weight=weights)
    trainer_of([Dense(3), LayerNorm()]).fit(X, y, sample_weight=weights / 2)


@pytest.mark.parametrize("estimator", [MLPClassifier, MLPRegressor])
def test_estimators_refuse_it_too(of_backend, estimator):
    (X, y), weights = rows(10), np.zeros(10)
    weights[3] = 1
    model, message = estimator(**OPTIONS), r"normalization='batch' needs at least 2 samples.* got 1 of 10 samples"
    with pytest.raises(ValueError, match=message):
        model.fit(X, y, weights)
    assert not hasattr(model, "coefs_")
    model.fit(X, y)
    with pytest.raises(ValueError, match=message):
        model.partial_fit(X, y, weights)
    model.set_params(normalization="layer").fit(X, y, weights)


@each_network
def test_diagnostics_and_verify_take_weights(name):
    (X, y), weights = rows(), weights_of()
    trainer = trainer_of(NETWORKS[name], "cpu", verify=True)
    trainer.fit(X, y, epochs=2, batch_size=12, sample_weight=weights)
    model = trainer.model
    compared = fastbp.compare_backends(
        model, "softmax_cross_entropy", X, y, sample_weight=weights, backends=BACKENDS
    )  # fmt: skip
    assert compared.max_relative_difference < 1e-9, compared
    flow = fastbp.gradient_flow(model, "softmax_cross_entropy", X, y, sample_weight=weights, backend="cpu")
    assert np.isfinite(flow.gradient_mean).any() and np.isfinite(flow.delta_norm).any()


def test_verify_sees_statistics_that_forget_the_weights(monkeypatch):
    right = PlannedSession.loss_and_gradients
    seen = []

    def unweighted(session, rows_of_batch):
        seen.append(session)
        if len(seen) == 1:
            session._targets = session._targets._replace(weights=session._targets.weights[:0])
        return right(session, rows_of_batch)

    monkeypatch.setattr(PlannedSession, "loss_and_gradients", unweighted)
    (X, y), trainer = rows(), trainer_of(NETWORKS["of X, and last"], "cpu", verify=True)
    with pytest.raises(FloatingPointError, match="verify"):
        trainer.fit(X, y, batch_size=20, sample_weight=weights_of())


# ---------------------------------------------------------------------------------------------------------------------
# scikit-learn's checks

CHECKS = [name for name in dir(estimator_checks) if name.startswith("check_sample_weight")]
CHECKS += ["check_class_weight_classifiers", "check_classifiers_one_label_sample_weights"]
CHECKS += ["check_all_zero_sample_weights_error"]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("estimator", [MLPClassifier, MLPRegressor])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_scikit_learns_checks_of_sample_weights(check, estimator, residual):
    if "class" in check and estimator is MLPRegressor:
        return
    model = estimator(
        hidden_layer_sizes=(16, 16), normalization="batch", residual=residual, learning_rate_init=0.01, max_iter=60
    )
    getattr(estimator_checks, check)(estimator.__name__, model)
