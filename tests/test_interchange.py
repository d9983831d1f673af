"""Estimators to scikit-learn's own and back: the same predictions, and training goes on from where it stood."""

import pickle
import warnings

import numpy as np
import pytest
from sklearn import neural_network
from sklearn.datasets import load_iris, make_multilabel_classification
from sklearn.exceptions import ConvergenceWarning, NotFittedError

import fastbp

X, Y = load_iris(return_X_y=True)
LABELS = make_multilabel_classification(150, 4, n_classes=3, random_state=0)[1]
CASES = {
    "binary": ("MLPClassifier", np.array(["no", "yes"])[(Y > 0).astype(int)], {}),
    "classes": ("MLPClassifier", Y, {"activation": "tanh"}),
    "labels": ("MLPClassifier", LABELS, {"solver": "sgd"}),
    "values": ("MLPRegressor", X[:, :2] + 1, {"solver": "sgd", "learning_rate": "invscaling"}),
    "counts": ("MLPRegressor", Y, {"loss": "poisson"}),
    "stopped": ("MLPClassifier", Y, {"early_stopping": True}),
    "lbfgs": ("MLPRegressor", Y, {"solver": "lbfgs"}),
}
each_case = pytest.mark.parametrize("case", CASES)


def fitted(module, case, **changes):
    name, y, options = CASES[case]
    options = {"hidden_layer_sizes": (6,), "max_iter": 15, "random_state": 3, **options, **changes}
    estimator = getattr(module, name)(**options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return estimator.fit(X, y)


def assert_same(ours, theirs):
    for name in ("coefs_", "intercepts_"):
        for a, b in zip(getattr(ours, name), getattr(theirs, name), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    for method in ("predict", "predict_proba"):
        if hasattr(theirs, method):
            a, b = getattr(ours, method)(X), getattr(theirs, method)(X)
            if np.asarray(b).dtype.kind == "f":
                np.testing.assert_allclose(a, b, rtol=1e-9)
            else:
                np.testing.assert_array_equal(a, b)
    for name in ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_"):
        assert getattr(ours, name) == getattr(theirs, name), name


@each_case
def test_to_scikit_learn(case):
    ours = fitted(fastbp, case)
    theirs = ours.to_sklearn()
    assert type(theirs) is getattr(neural_network, type(ours).__name__)
    assert_same(ours, theirs)
    before = pickle.dumps(ours)
    if ours.solver != "lbfgs" and not ours.early_stopping:
        y = CASES[case][1]
        for _ in range(3):
            theirs.partial_fit(X, y)
        assert pickle.dumps(ours) == before  # no array is shared
        for _ in range(3):
            ours.partial_fit(X, y)
        assert_same(ours, theirs)
        np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-9)


@each_case
def test_from_scikit_learn(case):
    theirs = fitted(neural_network, case)
    ours = getattr(fastbp, type(theirs).__name__).from_sklearn(theirs, n_jobs=1)
    assert ours.n_jobs == 1
    for name, value in theirs.get_params().items():
        assert getattr(ours, name) is value
    assert_same(ours, theirs)
    if theirs.solver != "lbfgs" and not theirs.early_stopping:
        y = CASES[case][1]
        before = [W.copy() for W in theirs.coefs_]
        for _ in range(3):
            ours.partial_fit(X, y)
        for a, b in zip(before, theirs.coefs_, strict=True):
            np.testing.assert_array_equal(a, b)
        for _ in range(3):
            theirs.partial_fit(X, y)
        assert_same(ours, theirs)
        np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-9)


@each_case
def test_there_and_back(case):
    ours = fitted(fastbp, case)
    back = type(ours).from_sklearn(pickle.loads(pickle.dumps(ours.to_sklearn())))
    for a, b in zip(ours.coefs_ + ours.intercepts_, back.coefs_ + back.intercepts_, strict=True):
        np.testing.assert_array_equal(a, b)
    if ours.solver != "lbfgs" and not ours.early_stopping:
        for estimator in (ours, back):
            estimator.partial_fit(X, CASES[case][1])
        for a, b in zip(ours.coefs_, back.coefs_, strict=True):
            np.testing.assert_array_equal(a, b)


def test_float32_is_kept():
    ours = fastbp.MLPRegressor(hidden_layer_sizes=(5,), solver="lbfgs", max_iter=5, dtype="float32")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        theirs = ours.fit(X, Y).to_sklearn()
    assert all(array.dtype == np.float32 for array in theirs.coefs_ + theirs.intercepts_)
    assert all(array.dtype == np.float32 for array in fastbp.MLPRegressor.from_sklearn(theirs).coefs_)


def test_names_of_columns_and_our_own_parameters():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abcd"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        ours = fastbp.MLPClassifier((5, 4), activation=["tanh", "tanh"], max_iter=3, verbose="progress").fit(frame, Y)
    theirs = ours.to_sklearn()
    assert theirs.get_params()["activation"] == "tanh" and theirs.get_params()["verbose"] is True
    np.testing.assert_array_equal(theirs.feature_names_in_, list("abcd"))
    np.testing.assert_array_equal(theirs.predict(frame), ours.predict(frame))


def test_what_cannot_be_taken_over_is_refused():
    with pytest.raises(NotFittedError):
        fastbp.MLPClassifier().to_sklearn()
    with pytest.raises(NotFittedError):
        fastbp.MLPClassifier.from_sklearn(neural_network.MLPClassifier())
    with pytest.raises(TypeError, match=r"takes a fitted sklearn\.neural_network\.MLPRegressor"):
        fastbp.MLPRegressor.from_sklearn(fitted(neural_network, "classes"))
    mixed = fitted(fastbp, "classes", hidden_layer_sizes=(4, 3), activation=("relu", "tanh"))
    with pytest.raises(ValueError, match="scikit-learn has one activation for all hidden layers"):
        mixed.to_sklearn()
    newer = fitted(fastbp, "classes", activation="gelu")
    with pytest.raises(ValueError, match="scikit-learn has no activation 'gelu', only identity, logistic, relu, tanh"):
        newer.to_sklearn()
