"""Weights and validation rows through pipelines and searches, names of columns, and estimators as files."""

import warnings

import joblib
import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastbp import MLPClassifier, MLPRegressor

X, Y = load_iris(return_X_y=True)
WEIGHTS = np.random.RandomState(0).uniform(0.1, 3, len(X))
ESTIMATORS = [MLPClassifier, MLPRegressor]
each_estimator = pytest.mark.parametrize("estimator", ESTIMATORS)
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def new(estimator, **options):
    return estimator(hidden_layer_sizes=(6,), max_iter=5, random_state=0, **options)


def assert_same(one, other):
    for a, b in zip(one.coefs_ + one.intercepts_, other.coefs_ + other.intercepts_, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


@each_estimator
def test_weights_reach_the_last_step_of_a_pipeline(estimator, routing):
    step = new(estimator).set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
    pipeline = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), step)
    pipeline.fit(X, Y, sample_weight=WEIGHTS)
    scaled = StandardScaler().fit_transform(X)
    direct = new(estimator).fit(scaled, Y, sample_weight=WEIGHTS)
    assert_same(pipeline[-1], direct)
    score = pipeline.score(X, Y, sample_weight=WEIGHTS)
    assert score == direct.score(scaled, Y, sample_weight=WEIGHTS) != direct.score(scaled, Y)


@each_estimator
def test_weights_reach_each_fit_of_a_search(estimator, routing):
    asked = new(estimator).set_fit_request(sample_weight=True).set_score_request(sample_weight=False)
    search = GridSearchCV(asked, {"alpha": [1e-4]}, cv=2).fit(X, Y, sample_weight=WEIGHTS)
    assert_same(search.best_estimator_, new(estimator).fit(X, Y, sample_weight=WEIGHTS))
    found = cross_validate(asked, X, Y, params={"sample_weight": WEIGHTS}, cv=2, return_estimator=True)
    assert len(found["estimator"]) == 2
    with pytest.raises(Exception, match=r"sample_weight.*not explicitly set as requested"):
        GridSearchCV(new(estimator), {"alpha": [1e-4]}, cv=2).fit(X, Y, sample_weight=WEIGHTS)


@each_estimator
def test_every_method_has_its_request(estimator, routing):
    model = new(estimator)
    model.set_fit_request(sample_weight=True, X_val=True, y_val=True, sample_weight_val=True)
    model.set_partial_fit_request(sample_weight=True, X_val=True, y_val=True, sample_weight_val=True)
    requests = model.get_metadata_routing()
    assert requests.fit.requests == {name: True for name in ("sample_weight", "X_val", "y_val", "sample_weight_val")}
    assert requests.partial_fit.requests["X_val"] is True
    pipeline = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), model)
    pipeline.fit(X, Y, X_val=X, y_val=Y)
    assert len(pipeline[-1].validation_loss_curve_) == 5
    assert clone(model).get_metadata_routing().fit.requests == requests.fit.requests


@each_estimator
def test_names_of_columns(estimator):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abcd"))
    model = new(estimator, early_stopping=True).fit(frame, Y)
    np.testing.assert_array_equal(model.feature_names_in_, list("abcd"))
    np.testing.assert_array_equal(model.predict(frame), model.predict(frame))
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame[["b", "a", "c", "d"]])
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        model.predict(X)
    with pytest.raises(ValueError, match="feature names should match"):
        model.fit(frame, Y, X_val=frame[["b", "a", "c", "d"]], y_val=Y)


@each_estimator
def test_files_and_parameters_of_steps(estimator, tmp_path):
    pipeline = make_pipeline(StandardScaler(), new(estimator))
    step = pipeline.steps[-1][0]
    pipeline.set_params(**{f"{step}__alpha": 0.5, f"{step}__hidden_layer_sizes": (3,)})
    assert pipeline[-1].alpha == 0.5 and clone(pipeline)[-1].hidden_layer_sizes == (3,)
    pipeline.fit(X, Y)
    joblib.dump(pipeline, tmp_path / "model.joblib")
    again = joblib.load(tmp_path / "model.joblib", mmap_mode="r")  # weights that cannot be written to
    np.testing.assert_array_equal(again.predict(X), pipeline.predict(X))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        again[-1].partial_fit(StandardScaler().fit_transform(X), Y)
