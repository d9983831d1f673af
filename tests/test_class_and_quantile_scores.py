"""Log-probabilities from logits, and the score of several quantile levels."""

import numpy as np
import pytest
from scipy import special
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import d2_pinball_score, make_scorer, mean_pinball_loss, r2_score
from sklearn.model_selection import GridSearchCV, cross_val_score

from fastbp import MLPClassifier, MLPRegressor
from fastbp.losses import Loss

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
X = np.random.default_rng(0).normal(size=(60, 3))
REAL = X.sum(axis=1)
TWO, THREE = (REAL > 0).astype(int), np.digitize(REAL, [-1, 1])
LABELS, SEVERAL = (X[:, :2] > 0).astype(int), np.column_stack([THREE, TWO])
TARGETS = {"two": TWO, "one": np.zeros(60, int), "three": THREE, "labels": LABELS, "several": SEVERAL}


def as_list(value):
    return value if isinstance(value, list) else [value]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", TARGETS)
def test_log_probabilities(case, dtype):
    model = MLPClassifier((8,), max_iter=30, learning_rate_init=0.02, dtype=dtype, random_state=0)
    model.fit(X, TARGETS[case])
    eps = np.finfo(dtype).eps
    for rows in (X[:1], X[:5], X):
        logarithms, probabilities = (as_list(f(rows)) for f in (model.predict_log_proba, model.predict_proba))
        for a, b in zip(logarithms, probabilities, strict=True):
            assert a.shape == b.shape and a.dtype == b.dtype == np.dtype(dtype)
            np.testing.assert_allclose(np.exp(a), b, rtol=20 * eps, atol=4 * eps)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [1.0, 20.0, 1e3, 1e6])
@pytest.mark.parametrize("case", TARGETS)
def test_log_probabilities_of_large_logits(case, dtype, scale):
    """Where a probability is 0 or 1 to rounding its logarithm is neither -inf nor 0."""
    model = MLPClassifier((8,), max_iter=3, dtype=dtype, random_state=0).fit(X, TARGETS[case])
    model.coefs_[-1] = (model.coefs_[-1] * scale).astype(dtype)
    found = as_list(model.predict_log_proba(X))
    hidden = np.maximum(X.astype(dtype).astype(float) @ model.coefs_[0] + model.intercepts_[0], 0)
    Z = hidden @ model.coefs_[1].astype(float) + model.intercepts_[1]
    if case == "several":
        want = [special.log_softmax(Z[:, :3], axis=1), special.log_softmax(Z[:, 3:], axis=1)]
    elif case == "three":
        want = [special.log_softmax(Z, axis=1)]
    else:
        want = [special.log_expit(Z if case == "labels" else np.hstack([-Z, Z]))]
    for a, b in zip(found, want, strict=True):
        assert np.isfinite(a).all()
        np.testing.assert_allclose(a, b, rtol=1e-9 if dtype == "float64" else 1e-4, atol=np.finfo(dtype).eps * scale)


def test_a_probability_that_is_too_small_has_a_logarithm():
    model = MLPClassifier((), max_iter=2, dtype="float32", random_state=0).fit(X, THREE)
    model.coefs_[0][:], model.intercepts_[0][:] = 0, [0, -20, -200]
    assert model.predict_proba(X)[0, 2] == 0
    np.testing.assert_allclose(model.predict_log_proba(X)[0], [-np.exp(-20.0), -20, -200], rtol=1e-6)
    model = MLPClassifier((), max_iter=2, dtype="float32", random_state=0).fit(X, TWO)
    model.coefs_[0][:], model.intercepts_[0][:] = 0, 20
    assert model.predict_proba(X)[0, 0] == 0
    np.testing.assert_allclose(model.predict_log_proba(X)[0], [-20, -np.exp(-20.0)], rtol=1e-6)


# ---------------------------------------------------------------------------------------------------------------------
# Quantile levels

LEVELS = (0.1, 0.5, 0.9)
OPTIONS = {"hidden_layer_sizes": (8,), "max_iter": 10, "learning_rate_init": 0.02, "random_state": 0}
WEIGHTS = np.linspace(0, 1, 60)


def quantiles(levels=LEVELS, **options):
    return MLPRegressor(Loss("quantile", level=levels), **OPTIONS | options)


def explained(y, predicted, weights=None):
    scores = [
        d2_pinball_score(y, column, alpha=level, sample_weight=weights)
        for level, column in zip(LEVELS, predicted.T, strict=True)
    ]
    return np.mean(scores)


def test_the_score_of_several_levels():
    model = quantiles(max_iter=60).fit(X, REAL)
    predicted = model.predict(X)
    for weights in (None, WEIGHTS):
        want = explained(REAL, predicted, weights)
        for y in (REAL, REAL[:, None], REAL.tolist()):
            assert model.score(X, y, weights) == pytest.approx(want, rel=1e-12)
    constant = np.quantile(REAL, LEVELS)
    by_hand = [
        1 - mean_pinball_loss(REAL, predicted[:, k], alpha=level) / mean_pinball_loss(
            REAL, np.full(60, constant[k]), alpha=level
        ) for k, level in enumerate(LEVELS)
    ]  # fmt: skip
    assert model.score(X, REAL) == pytest.approx(np.mean(by_hand), rel=0.01) and model.score(X, REAL) > 0.3
    with pytest.raises(ValueError):
        model.score(X, np.column_stack([REAL] * 3))


@pytest.mark.parametrize("level", [0.9, (0.9,)])
def test_the_score_of_one_level_is_that_of_other_regressors(level):
    model = quantiles(level).fit(X, REAL)
    assert model.predict(X).shape == (60,)
    assert model.score(X, REAL) == pytest.approx(r2_score(REAL, model.predict(X)), rel=1e-12)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_early_stopping_goes_by_the_same_score(weights):
    model = quantiles(early_stopping=True).fit(X[20:], REAL[20:], X_val=X[:20], y_val=REAL[:20],
                                               sample_weight_val=None if weights is None else weights[:20])  # fmt: skip
    of_val = None if weights is None else weights[:20]
    assert model.best_validation_score_ == pytest.approx(model.score(X[:20], REAL[:20], of_val), rel=1e-12)
    inner = quantiles(early_stopping=True).fit(X, REAL, weights)
    assert len(inner.validation_scores_) == inner.n_iter_ and max(inner.validation_scores_) <= 1


def test_early_stopping_by_another_score_sees_the_target_itself():
    seen = []

    def middle(y, predicted):
        seen.append((y.shape, predicted.shape))
        return -np.abs(y - predicted[:, 1]).mean()

    scoring = make_scorer(middle)
    quantiles(early_stopping=True, scoring=scoring).fit(X, REAL)
    quantiles(early_stopping=True, scoring=scoring).fit(X, REAL, X_val=X[:6], y_val=REAL[:6])
    assert set(seen) == {((6,), (6, 3))}


def test_several_levels_in_searches():
    search = GridSearchCV(quantiles(), {"alpha": [1e-4, 10.0]}, cv=3, error_score="raise").fit(X, REAL)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.score(X, REAL) == pytest.approx(explained(REAL, search.predict(X)), rel=1e-12)
    assert len(cross_val_score(quantiles(early_stopping=True), X, REAL, cv=3, error_score="raise")) == 3


def test_one_validation_row_has_no_score():
    with (
        pytest.warns(UserWarning, match="Early stopping has no best weights"),
        pytest.warns(UndefinedMetricWarning, match=r"D\^2 of a single validation row is not defined") as caught,
    ):
        quantiles(early_stopping=True).fit(X, REAL, X_val=X[:1], y_val=REAL[:1])
    assert [one.filename for one in caught if one.category is UndefinedMetricWarning] == [__file__]
