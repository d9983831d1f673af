"""In float64, the same ``random_state`` gives scikit-learn's model: to 1e-9 after 100 epochs, measured far below."""

import itertools
import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn import neural_network
from sklearn.datasets import make_classification, make_multilabel_classification
from sklearn.exceptions import ConvergenceWarning

import fastbp

N_ROWS = 103
RNG = np.random.RandomState(0)
WEIGHTS = RNG.uniform(0.2, 2, N_ROWS)


def classification(n_classes):
    return make_classification(N_ROWS, 9, n_informative=7, n_redundant=0, n_classes=n_classes, random_state=0)


def regression(n_targets):
    X, _ = classification(2)
    W = np.random.RandomState(1).normal(size=(9, n_targets))
    y = np.tanh(X @ W) + 0.1
    return X, y[:, 0] if n_targets == 1 else y


# name: estimator, data
PROBLEMS = {
    "binary": ("MLPClassifier", classification(2)),
    "multiclass": ("MLPClassifier", classification(3)),
    "multilabel": ("MLPClassifier", make_multilabel_classification(N_ROWS, 9, n_classes=4, random_state=0)),
    "one target": ("MLPRegressor", regression(1)),
    "two targets": ("MLPRegressor", regression(2)),
}
SOLVERS = {
    "adam": {},
    "sgd": {"solver": "sgd", "learning_rate_init": 0.02},
    "sgd without momentum": {"solver": "sgd", "learning_rate_init": 0.05, "momentum": 0.0},
    "sgd without nesterov": {"solver": "sgd", "learning_rate_init": 0.02, "nesterovs_momentum": False},
    "sgd invscaling": {"solver": "sgd", "learning_rate_init": 0.05, "learning_rate": "invscaling", "power_t": 0.3},
    # a tolerance that is missed soon, so that the rate is lowered several times
    "sgd adaptive": {
        "solver": "sgd", "learning_rate_init": 0.02, "learning_rate": "adaptive", "tol": 0.01, "n_iter_no_change": 3,
    },
}  # fmt: skip
ATTRIBUTES = ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_")


def pair(problem, **parameters):
    """scikit-learn's estimator and ours."""
    name, (X, y) = PROBLEMS[problem]
    options = {"max_iter": 100, "random_state": 7, "hidden_layer_sizes": (11,), **parameters}
    return getattr(neural_network, name)(**options), getattr(fastbp, name)(**options), X, y


def quietly(function, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return function(*args, **kwargs)


def assert_same_model(ours, theirs, tolerance=1e-9):
    for name in ("coefs_", "intercepts_"):
        for a, b in zip(getattr(ours, name), getattr(theirs, name), strict=True):
            assert a.shape == b.shape and a.dtype == b.dtype
            assert np.abs(a - b).max() <= tolerance * np.abs(b).max(), name
    for name in ("loss_curve_", "validation_scores_", "best_loss_", "loss_", "best_validation_score_"):
        if hasattr(theirs, name):
            a, b = getattr(ours, name), getattr(theirs, name)
            assert (a is None) == (b is None), name
            if b is not None:
                np.testing.assert_allclose(a, b, rtol=tolerance, atol=0, err_msg=name)
    for name in ATTRIBUTES:
        assert getattr(ours, name) == getattr(theirs, name), name
    if hasattr(theirs, "classes_"):
        np.testing.assert_array_equal(ours.classes_, theirs.classes_)


def assert_same_fit(problem, sample_weight=None, tolerance=1e-9, **parameters):
    theirs, ours, X, y = pair(problem, **parameters)
    quietly(theirs.fit, X, y, sample_weight=sample_weight)
    quietly(ours.fit, X, y, sample_weight=sample_weight)
    assert_same_model(ours, theirs, tolerance)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-7, atol=1e-9)
    if hasattr(theirs, "predict_proba"):
        np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=1e-7, atol=1e-9)
    return ours, theirs


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_solvers(problem, solver):
    for activation, weights in zip(("relu", "tanh", "logistic", "identity"), itertools.cycle((None, WEIGHTS))):
        assert_same_fit(problem, weights, activation=activation, **SOLVERS[solver])


def test_the_adaptive_rate_was_lowered(capsys):
    _, ours, X, y = pair("multiclass", verbose=True, **SOLVERS["sgd adaptive"])
    quietly(ours.fit, X, y)
    assert capsys.readouterr().out.count("Setting learning rate to") >= 2


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("solver", ["adam", "sgd", "sgd adaptive"])
def test_early_stopping(problem, solver):
    options = {"early_stopping": True, "n_iter_no_change": 5, **SOLVERS[solver]}
    for weights in (None, WEIGHTS):
        ours, _ = assert_same_fit(problem, weights, **options)
        assert len(ours.validation_scores_) == ours.n_iter_


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("hidden", [(), (5,), (8, 6, 7)])
def test_depths(problem, hidden):
    for solver, shuffle, batch_size in (("adam", True, 25), ("sgd", False, N_ROWS), ("adam", False, 20)):
        assert_same_fit(
            problem, WEIGHTS, solver=solver, shuffle=shuffle, batch_size=batch_size, hidden_layer_sizes=hidden
        )


@pytest.mark.parametrize("alpha", [0, 1e-4, 0.5])
@pytest.mark.parametrize("problem", ["multiclass", "two targets"])
def test_penalties(problem, alpha):
    for solver in ("adam", "sgd"):
        assert_same_fit(problem, WEIGHTS, alpha=alpha, solver=solver)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_training_that_ends_by_itself(problem):
    ours, _ = assert_same_fit(problem, tol=0.02, n_iter_no_change=3)
    assert ours.n_iter_ < 100


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("solver", ["adam", "sgd", "sgd adaptive"])
def test_warm_start(problem, solver):
    for early_stopping in (False, True):
        options = {"warm_start": True, "max_iter": 20, "early_stopping": early_stopping, **SOLVERS[solver]}
        theirs, ours, X, y = pair(problem, **options)
        for _ in range(3):
            quietly(theirs.fit, X, y)
            quietly(ours.fit, X, y)
            assert_same_model(ours, theirs)


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("solver", ["adam", "sgd", "sgd invscaling"])
def test_partial_fit(problem, solver):
    theirs, ours, X, y = pair(problem, **SOLVERS[solver])
    first = {} if "target" in problem else {"classes": np.arange(4) if problem == "multilabel" else np.unique(y)}
    for k in range(12):
        rows = slice(10 * (k % 4), 10 * (k % 4) + 40)
        arguments = {**first, "sample_weight": WEIGHTS[rows] if k % 3 else None}
        theirs.partial_fit(X[rows], y[rows], **arguments)
        ours.partial_fit(X[rows], y[rows], **arguments)
        first = {}
        assert_same_model(ours, theirs)
    quietly(theirs.fit, X, y)  # starts anew
    quietly(ours.fit, X, y)
    assert_same_model(ours, theirs)
    theirs.partial_fit(X, y)  # goes on with the optimizer of that fit
    ours.partial_fit(X, y)
    assert_same_model(ours, theirs)


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "identity"])
def test_lbfgs(problem, activation):
    for weights in (None, WEIGHTS):
        theirs, ours, X, y = pair(problem, solver="lbfgs", activation=activation, max_iter=30)
        quietly(theirs.fit, X, y, sample_weight=weights)
        quietly(ours.fit, X, y, sample_weight=weights)
        for a, b in zip(ours.coefs_ + ours.intercepts_, theirs.coefs_ + theirs.intercepts_, strict=True):
            assert np.abs(a - b).max() <= 1e-3 * np.abs(b).max()
        assert ours.n_iter_ == theirs.n_iter_
        np.testing.assert_allclose(ours.loss_, theirs.loss_, rtol=1e-6)
        if "target" in problem:
            np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-3, atol=1e-3)
        else:
            np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))


def test_one_random_state_is_left_where_scikit_learn_leaves_it():
    for options in ({}, {"early_stopping": True}, {"shuffle": False}, {"solver": "lbfgs"}):
        one, other = np.random.RandomState(3), np.random.RandomState(3)
        theirs, ours, X, y = pair("binary", **options, max_iter=5)
        quietly(theirs.set_params(random_state=one).fit, X, y)
        quietly(ours.set_params(random_state=other).fit, X, y)
        assert one.uniform() == other.uniform()


@pytest.mark.parametrize("problem", PROBLEMS)
def test_float32_is_kept_and_near(problem):
    theirs, ours, X, y = pair(problem, max_iter=20)
    X = X.astype(np.float32)
    quietly(theirs.fit, X, y)
    quietly(ours.fit, X, y)
    assert all(array.dtype == np.float32 for array in ours.coefs_ + ours.intercepts_)
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-3)
    score, expected = ours.score(X, y), theirs.score(X, y)
    assert abs(score - expected) < 0.03


# ---------------------------------------------------------------------------------------------------------------------
# Counts, and X with its zeros left out


COUNTS = np.random.RandomState(2).poisson(np.exp(0.3 * regression(2)[1]))


@pytest.mark.parametrize("n_targets", [1, 2])
@pytest.mark.parametrize("solver", [*SOLVERS, "lbfgs"])
def test_poisson(n_targets, solver, monkeypatch):
    X, y = regression(1)[0] / 3, COUNTS[:, 0] if n_targets == 1 else COUNTS
    monkeypatch.setitem(PROBLEMS, "counts of a target", ("MLPRegressor", (X, y)))
    if solver == "lbfgs":
        theirs, ours, _, _ = pair("counts of a target", loss="poisson", solver="lbfgs", max_iter=30)
        quietly(theirs.fit, X, y)
        quietly(ours.fit, X, y)
        np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-3)
        assert ours.n_iter_ == theirs.n_iter_
        return
    rate = {"learning_rate_init": 0.005} if solver != "adam" else {}
    options = {"loss": "poisson", **SOLVERS[solver], **rate}
    for weights, early_stopping, activation in ((None, False, "relu"), (WEIGHTS, True, "tanh")):
        ours, _ = assert_same_fit(
            "counts of a target", weights, early_stopping=early_stopping, activation=activation, **options
        )
        assert ours.out_activation_ == "exp"
    for options in ({"warm_start": True, "max_iter": 10}, {}):
        theirs, ours, _, _ = pair("counts of a target", loss="poisson", **options)
        for _ in range(3):
            for estimator in (theirs, ours):
                quietly(estimator.fit if options else estimator.partial_fit, X, y)
            assert_same_model(ours, theirs)


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array, sparse.csc_array])
def test_sparse(problem, form, monkeypatch):
    name, (X, y) = PROBLEMS[problem]
    X = form(np.where(X > 0.3, X, 0))
    monkeypatch.setitem(PROBLEMS, "sparse", (name, (X, y)))
    cases = [
        {}, {"solver": "sgd", "learning_rate_init": 0.02, "batch_size": 25}, {"early_stopping": True},
        {"hidden_layer_sizes": (), "shuffle": False}, {"hidden_layer_sizes": (8, 6, 7), "activation": "logistic"},
        {"hidden_layer_sizes": (60,), "batch_size": 20, "activation": "tanh"},
    ]  # fmt: skip
    for options, weights in zip(cases, itertools.cycle((None, WEIGHTS))):
        assert_same_fit("sparse", weights, max_iter=40, **options)
    theirs, ours, _, _ = pair("sparse", solver="lbfgs", max_iter=20)
    for estimator in (theirs, ours):
        quietly(estimator.fit, X, y)
    np.testing.assert_allclose(ours.loss_, theirs.loss_, rtol=1e-6)
    theirs, ours, _, _ = pair("sparse")
    first = {} if "target" in problem else {"classes": np.arange(4) if problem == "multilabel" else np.unique(y)}
    for k in range(4):
        for estimator in (theirs, ours):
            estimator.partial_fit(X[20 * k : 20 * k + 40], y[20 * k : 20 * k + 40], **first)
        first = {}
        assert_same_model(ours, theirs)
