"""Weights routed through scikit-learn's meta-estimators, names of features, clones, nested parameters and files."""

import warnings

import joblib
import numpy as np
import pytest
from _processes import succeed
from sklearn import config_context, neural_network
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning, UnsetMetadataPassedError
from sklearn.model_selection import GridSearchCV, KFold, cross_validate, learning_curve
from sklearn.multioutput import MultiOutputClassifier, MultiOutputRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

import fastbp
from fastbp import MLPClassifier, MLPRegressor

DATA = load_iris(as_frame=True)
FRAME, LABELS = DATA.data, DATA.target
X, Y = FRAME.to_numpy(), LABELS.to_numpy()
WEIGHTS = np.random.default_rng(0).uniform(0, 3, len(X))
FOLDS = KFold(3, shuffle=True, random_state=0)
ESTIMATORS = [MLPClassifier, MLPRegressor]
# a tolerance that is missed at once ends each fit without a warning
SMALL = {"hidden_layer_sizes": (6,), "max_iter": 30, "tol": 100.0, "random_state": 0, "learning_rate_init": 0.03}


@pytest.fixture
def routing():
    with config_context(enable_metadata_routing=True):
        yield


def assert_same_bits(model, other):
    for a, b in zip(model.coefs_ + model.intercepts_, other.coefs_ + other.intercepts_, strict=True):
        np.testing.assert_array_equal(a, b, strict=True)


def differ(model, other):
    return any((a != b).any() for a, b in zip(model.coefs_, other.coefs_, strict=True))


# ---------------------------------------------------------------------------------------------------------------------
# Metadata


def requests(model):
    """What each method asks for, without the validation rows that ours take besides."""
    routing = model.get_metadata_routing()
    asked = {method: getattr(routing, method).requests for method in ("fit", "partial_fit", "score")}
    return {
        method: {name: value for name, value in names.items() if "val" not in name} for method, names in asked.items()
    }


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_requests_are_scikit_learns(estimator, routing):
    theirs = getattr(neural_network, estimator.__name__)
    assert requests(estimator()) == requests(theirs())
    for method in ("fit", "partial_fit", "score"):
        pair = [getattr(e(), f"set_{method}_request")(sample_weight="alias") for e in (estimator, theirs)]
        ours, expected = map(requests, pair)
        assert ours == expected and ours[method]["sample_weight"] == "alias"
        assert requests(clone(pair[0])) == ours


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_pipeline(estimator, routing):
    models = []
    for scaler, mlp, given in ((False, True, "sample_weight"), (False, "own", "own"), (True, False, "sample_weight"),
                               (True, True, "sample_weight")):  # fmt: skip
        model = estimator(**SMALL).set_fit_request(sample_weight=mlp).set_score_request(sample_weight=True)
        pipeline = make_pipeline(StandardScaler().set_fit_request(sample_weight=scaler), model)
        pipeline.fit(X, Y, **{given: WEIGHTS})
        scaled = StandardScaler().fit_transform(X, sample_weight=WEIGHTS if scaler else None)
        expected = estimator(**SMALL).fit(scaled, Y, sample_weight=WEIGHTS if mlp else None)
        assert_same_bits(pipeline[-1], expected)
        score = pipeline.score(X, Y, sample_weight=WEIGHTS)
        assert score == expected.score(scaled, Y, sample_weight=WEIGHTS) != expected.score(scaled, Y)
        models.append(expected)
    assert differ(models[0], models[2]) and differ(models[0], models[3]) and differ(models[2], models[3])


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_pipeline_without_routing(estimator):
    name = estimator.__name__.lower()
    pipeline = make_pipeline(StandardScaler(), estimator(**SMALL)).fit(X, Y, **{f"{name}__sample_weight": WEIGHTS})
    scaled = StandardScaler().fit_transform(X)
    assert_same_bits(pipeline[-1], estimator(**SMALL).fit(scaled, Y, sample_weight=WEIGHTS))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_weights_that_nobody_has_asked_for_are_an_error(estimator, routing):
    for module in (fastbp, neural_network):
        model = getattr(module, estimator.__name__)(**SMALL)
        with pytest.raises(UnsetMetadataPassedError, match="sample_weight"):
            Pipeline([("mlp", model)]).fit(X, Y, sample_weight=WEIGHTS)
        with pytest.raises(UnsetMetadataPassedError, match="sample_weight"):
            GridSearchCV(model, {"alpha": [0.1]}).fit(X, Y, sample_weight=WEIGHTS)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("scored", [False, True])
def test_cross_validation_and_grid_search(estimator, scored, routing):
    model = estimator(**SMALL).set_fit_request(sample_weight=True).set_score_request(sample_weight=scored)
    expected, scores = [], []
    for train, test in FOLDS.split(X):
        expected.append(estimator(**SMALL).fit(X[train], Y[train], sample_weight=WEIGHTS[train]))
        scores.append(expected[-1].score(X[test], Y[test], sample_weight=WEIGHTS[test] if scored else None))
    params = {"sample_weight": WEIGHTS}
    result = cross_validate(model, X, Y, cv=FOLDS, params=params, return_estimator=True, error_score="raise")
    np.testing.assert_array_equal(result["test_score"], scores)
    for a, b in zip(result["estimator"], expected, strict=True):
        assert_same_bits(a, b)
    grid = {"alpha": [1e-4, 10.0]}
    search = GridSearchCV(model, grid, cv=FOLDS, error_score="raise").fit(X, Y, **params)
    np.testing.assert_array_equal([search.cv_results_[f"split{k}_test_score"][0] for k in range(3)], scores)
    best = estimator(**SMALL).set_params(**search.best_params_).fit(X, Y, sample_weight=WEIGHTS)
    assert_same_bits(search.best_estimator_, best)


def test_partial_fit_of_several_outputs(routing):
    targets = np.column_stack([X[:, 0], X[:, 1]])
    regressors = MultiOutputRegressor(MLPRegressor(**SMALL).set_partial_fit_request(sample_weight=True))
    labels = np.column_stack([Y, Y % 2])
    classifiers = MultiOutputClassifier(MLPClassifier(**SMALL).set_partial_fit_request(sample_weight=True))
    expected = [MLPRegressor(**SMALL), MLPRegressor(**SMALL), MLPClassifier(**SMALL), MLPClassifier(**SMALL)]
    for _ in range(3):
        regressors.partial_fit(X, targets, sample_weight=WEIGHTS)
        classifiers.partial_fit(X, labels, classes=[np.unique(column) for column in labels.T], sample_weight=WEIGHTS)
        for k in (0, 1):
            expected[k].partial_fit(X, targets[:, k], sample_weight=WEIGHTS)
            expected[k + 2].partial_fit(X, labels[:, k], classes=np.unique(labels[:, k]), sample_weight=WEIGHTS)
    for a, b in zip(regressors.estimators_ + classifiers.estimators_, expected, strict=True):
        assert_same_bits(a, b)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_learning_curve_by_partial_fit(estimator, routing):
    scores = []
    for module in (fastbp, neural_network):
        model = getattr(module, estimator.__name__)(**SMALL)
        for method in (model.set_fit_request, model.set_partial_fit_request, model.set_score_request):
            method(sample_weight=True)
        options = {"exploit_incremental_learning": True, "cv": FOLDS, "params": {"sample_weight": WEIGHTS}}
        scores.append(learning_curve(model, X, Y, train_sizes=[0.4, 0.7, 1.0], error_score="raise", **options))
    for ours, theirs in zip(*scores, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9)


# ---------------------------------------------------------------------------------------------------------------------
# Names of features


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("options", [{}, {"early_stopping": True}, {"solver": "lbfgs"}])
def test_frames_give_the_model_of_their_values_and_its_names(estimator, options):
    model = estimator(**SMALL | options).fit(FRAME, LABELS)
    assert list(model.feature_names_in_) == list(FRAME) and model.n_features_in_ == 4
    assert_same_bits(model, estimator(**SMALL | options).fit(X, Y))
    np.testing.assert_array_equal(model.predict(FRAME), estimator(**SMALL | options).fit(X, Y).predict(X))
    assert model.score(FRAME, LABELS) == estimator(**SMALL | options).fit(X, Y).score(X, Y)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_other_names_are_refused_and_leave_the_model_alone(estimator):
    reordered, renamed = FRAME[list(FRAME)[::-1]], FRAME.rename(columns=str.upper)
    for module in (fastbp, neural_network):
        model = getattr(module, estimator.__name__)(**SMALL, warm_start=True).fit(FRAME, LABELS)
        for frame in (reordered, renamed):
            for act in (model.predict, lambda frame, m=model: m.fit(frame, Y), lambda f, m=model: m.partial_fit(f, Y)):
                with pytest.raises(ValueError, match="The feature names should match those that were passed during"):
                    act(frame)
        with pytest.warns(UserWarning, match="X does not have valid feature names, but MLP"):
            model.predict(X)
        assert list(model.feature_names_in_) == list(FRAME)
        model.set_params(warm_start=False).fit(renamed, Y)
        assert list(model.feature_names_in_) == list(renamed)
        model.fit(X, Y)
        assert not hasattr(model, "feature_names_in_")
        with pytest.warns(UserWarning, match="X has feature names, but MLP.* was fitted without"):
            model.predict(FRAME)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_partial_fit_of_frames(estimator):
    classes = {"classes": np.unique(Y)} if estimator is MLPClassifier else {}
    model, other = estimator(**SMALL), estimator(**SMALL)
    for rows in (slice(0, 100), slice(50, 150)):
        model.partial_fit(FRAME[rows], LABELS[rows], **classes)
        other.partial_fit(X[rows], Y[rows], **classes)
    assert list(model.feature_names_in_) == list(FRAME)
    assert_same_bits(model, other)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize(
    "dtypes", [["float32"] * 4, ["float32", "float64"] * 2, ["int64", "float32"] * 2, ["Float64"] * 4]
)
def test_dtypes_of_frames(estimator, dtypes):
    frame = FRAME.astype(dict(zip(FRAME, dtypes, strict=True)))
    models = [getattr(module, estimator.__name__)(**SMALL).fit(frame, Y) for module in (fastbp, neural_network)]
    ours, theirs = ([array.dtype for array in model.coefs_] for model in models)
    assert ours == theirs
    values = frame.to_numpy(dtype=ours[0])
    assert_same_bits(models[0], estimator(**SMALL).fit(values, Y))


def test_frames_within_a_pipeline_and_labels_of_words():
    labels = LABELS.map(dict(enumerate(DATA.target_names)))
    pipeline = make_pipeline(StandardScaler(), MLPClassifier(**SMALL)).set_output(transform="pandas")
    pipeline.fit(FRAME, labels)
    assert list(pipeline[-1].feature_names_in_) == list(pipeline.feature_names_in_) == list(FRAME)
    assert list(pipeline.classes_) == sorted(DATA.target_names)
    assert pipeline.score(FRAME, labels) > 0.7


# ---------------------------------------------------------------------------------------------------------------------
# Clones, nested parameters, files


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_clones(estimator):
    model = estimator(**SMALL).set_params(random_state=np.random.RandomState(3), n_jobs=1, momentum=0.5)
    other = clone(model)
    assert other.random_state is not model.random_state
    assert other.get_params() | {"random_state": None} == model.get_params() | {"random_state": None}
    assert_same_bits(model.fit(X, Y), other.fit(X, Y))  # each has its own generator, in the same state
    again = clone(estimator(**SMALL).fit(X, Y))
    assert not [name for name in vars(again) if name.endswith("_") or name.startswith("_")]
    assert_same_bits(again.fit(X, Y), estimator(**SMALL).fit(X, Y))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_nested_parameters(estimator):
    inner = make_pipeline(StandardScaler(), estimator(**SMALL))
    name = estimator.__name__.lower()
    outer = Pipeline([("inner", inner)])
    wanted = {"hidden_layer_sizes": (3, 4), "activation": "tanh", "alpha": 0.5, "n_jobs": 1}
    assert outer.set_params(**{f"inner__{name}__{key}": value for key, value in wanted.items()}) is outer
    assert {key: outer.get_params()[f"inner__{name}__{key}"] for key in wanted} == wanted
    expected = estimator(**SMALL | wanted).fit(StandardScaler().fit_transform(X), Y)
    assert_same_bits(outer.fit(X, Y)[0][-1], expected)
    assert_same_bits(clone(outer).fit(X, Y)[0][-1], expected)
    with pytest.raises(ValueError, match=f"Invalid parameter 'layers' for estimator {estimator.__name__}"):
        outer.set_params(**{f"inner__{name}__layers": 3})
    search = GridSearchCV(outer, {f"inner__{name}__hidden_layer_sizes": [(2,), (3, 4)]}, cv=2, error_score="raise")
    best = search.fit(X, Y).best_estimator_[0][-1]
    assert [len(b) for b in best.intercepts_[:-1]] == list(best.hidden_layer_sizes)


LOADED = """
import sys
import joblib
import numpy as np
path, data, out = sys.argv[1:]
np.save(out, joblib.load(path).predict(np.load(data)))
"""


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_files(estimator, tmp_path):
    pipeline = make_pipeline(StandardScaler(), estimator(**SMALL)).fit(X, Y)
    joblib.dump(pipeline, tmp_path / "plain")
    joblib.dump(pipeline, tmp_path / "compressed", compress=3)
    np.save(tmp_path / "X.npy", X)
    succeed("-c", LOADED, tmp_path / "plain", tmp_path / "X.npy", tmp_path / "predicted.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "predicted.npy"), pipeline.predict(X))
    loaded = [joblib.load(tmp_path / "plain"), joblib.load(tmp_path / "compressed")]
    loaded.append(joblib.load(tmp_path / "plain", mmap_mode="r"))
    assert not loaded[-1][-1].coefs_[0].flags.writeable
    np.testing.assert_array_equal([model.predict(X) for model in loaded], [pipeline.predict(X)] * 3)
    scaled = pipeline[0].transform(X)
    for model in [pipeline, *loaded]:
        for _ in range(3):
            model[-1].partial_fit(scaled, Y)
    for model in loaded:
        assert_same_bits(model[-1], pipeline[-1])
        assert model[-1].loss_curve_ == pipeline[-1].loss_curve_
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for model in [pipeline, *loaded]:
            model[-1].set_params(warm_start=True, max_iter=2).fit(scaled, Y)
    for model in loaded:
        assert_same_bits(model[-1], pipeline[-1])
