"""The scores of early stopping are those of scikit-learn's metrics, to the last bit."""

import warnings

import numpy as np
import pytest
from hypothesis import given, strategies
from numpy.testing import assert_array_equal
from scipy import sparse
from sklearn import neural_network
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import accuracy_score, r2_score
from sklearn.preprocessing import LabelBinarizer

from fastbp import MLPClassifier, MLPRegressor
from fastbp.estimators._codes import ClassCodes
from fastbp.estimators._rows import Rows
from fastbp.estimators._validation import determination

FLOATS = strategies.sampled_from((np.float32, np.float64))


@given(
    rows=strategies.one_of(strategies.integers(2, 40), strategies.just(20_000)),  # more than NumPy casts at once
    outputs=strategies.integers(1, 3),
    y_dtype=strategies.sampled_from((np.float32, np.float64, np.int64)),
    dtype=FLOATS,
    weights=strategies.booleans(),
    kind=strategies.sampled_from(("drawn", "constant", "exact", "constant and exact")),
    seed=strategies.integers(0, 2**16),
)
def test_r2_is_that_of_scikit_learn(rows, outputs, y_dtype, dtype, weights, kind, seed):
    rng = np.random.default_rng(seed)
    y = (10 * rng.normal(size=(rows, outputs))).astype(y_dtype)
    if "constant" in kind:
        y[:, 0] = 3
    predicted = (y + (0 if "exact" in kind else rng.normal(size=y.shape))).astype(dtype)
    weights = rng.uniform(0.1, 2, rows).astype(dtype) if weights else None
    assert determination(y, weights)(predicted) == r2_score(y, predicted, sample_weight=weights)


def test_r2_of_one_row_is_not_defined():
    with pytest.warns(UndefinedMetricWarning, match="at least two"):
        score = determination(np.ones((1, 1)), None)
    assert np.isnan(score(np.ones((1, 1))))


def test_the_warning_of_one_row_points_at_its_cause():
    X, y = np.arange(40.0).reshape(20, 2), np.arange(20.0)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        MLPRegressor(hidden_layer_sizes=(3,), max_iter=1, early_stopping=True).fit(X, y, X_val=X[:1], y_val=y[:1])
    (warning,) = [one for one in seen if one.category is UndefinedMetricWarning]
    assert warning.filename == __file__


def test_sparse_labels_come_back_sparse():
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(40, 3)), rng.integers(0, 2, (40, 4))
    options = {"hidden_layer_sizes": (5,), "max_iter": 3, "random_state": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours = MLPClassifier(**options).fit(X, sparse.csr_array(Y)).predict(X)
        theirs = neural_network.MLPClassifier(**options).fit(X, sparse.csr_array(Y)).predict(X)
    assert type(ours) is type(theirs)
    assert_array_equal(ours.toarray(), theirs.toarray())


def _targets(kind, rng, rows):
    """Names as a user has them, what encodes them, and outputs of a network for them."""
    if kind == "several targets":
        names = np.column_stack([rng.choice([3, 5, 9], rows), rng.choice([0, 1], rows)])
        binarizer = ClassCodes([np.array([3, 5, 9]), np.array([0, 1])])
        return names, binarizer, binarizer.transform(names), rng.normal(size=(rows, 5))
    choices = {"binary": ["no", "yes"], "one class": ["no"], "classes": ["a", "b", "c"]}
    if kind == "labels":
        names = rng.integers(0, 2, (rows, 4))
        names[0] = 1, 1, 0, 0  # so that it is known for labels
    else:
        names = rng.choice(choices[kind], rows)
        names[: len(choices[kind])] = choices[kind]
    binarizer = LabelBinarizer().fit(names)
    y = binarizer.transform(names).astype(bool)
    outputs = rng.uniform(size=y.shape)
    outputs[::5] = 0.5  # neither of two classes; of several the first
    return names, binarizer, y, outputs


@pytest.mark.parametrize("kind", ["binary", "one class", "classes", "labels", "several targets"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
def test_accuracy_and_predictions_are_those_of_scikit_learn(kind, dtype, weighted):
    rng = np.random.default_rng(0)
    names, binarizer, y, outputs = _targets(kind, rng, 40)
    outputs, state = outputs.astype(dtype), {"_label_binarizer": binarizer}
    weights = rng.uniform(0.1, 2, 40).astype(dtype) if weighted else None
    estimator = MLPClassifier()
    predicted = estimator._predictions(outputs, state)
    assert_array_equal(estimator._decode(y, state), names)
    if kind == "several targets":  # a metric that scikit-learn does not have
        expected = float(np.average((predicted == names).all(axis=1), weights=weights))
    else:
        given = outputs.ravel() if outputs.shape[1] == 1 else outputs
        assert_array_equal(predicted, binarizer.inverse_transform(given), strict=True)
        expected = accuracy_score(names, predicted, sample_weight=weights)
    score = estimator._outputs_score(Rows(None, y, weights), state)
    assert score(outputs) == expected


def test_scores_follow_the_weights_of_each_epoch():
    """The held-out rows are laid out once; what is predicted for them is by the weights of the epoch."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 3)), rng.normal(size=60)
    options = {"hidden_layer_sizes": (5,), "early_stopping": True, "random_state": 0}
    X_val, y_val = X[:20], y[:20]
    scores, losses = [], []
    for epochs in (1, 2, 3):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            estimator = MLPRegressor(**options, max_iter=epochs).fit(X[20:], y[20:], X_val=X_val, y_val=y_val)
        # what the last epoch scored is what its weights score
        values = MLPRegressor._predictions(estimator, estimator._outputs(X_val), {})
        if estimator.validation_scores_[-1] == max(estimator.validation_scores_):  # otherwise the best ones are kept
            assert estimator.validation_scores_[-1] == r2_score(y_val, values)
            assert estimator.validation_loss_curve_[-1] == pytest.approx(((values - y_val) ** 2).mean() / 2)
            scores.append(estimator.validation_scores_[-1])
        losses.append(estimator.validation_loss_curve_[-1])
    assert len(set(scores)) > 1
    assert len(set(losses)) == 3
