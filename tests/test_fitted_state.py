"""A fitted network is what was fitted: parameters set since change no prediction; a new fit leaves nothing of it."""

import itertools
import pickle

import numpy as np
import pytest
import sklearn
from sklearn import neural_network
from sklearn.base import clone

import fastbp
from fastbp import MLPClassifier, MLPRegressor
from fastbp.estimators._fitted import FITTED
from fastbp.losses import Loss

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
X = np.random.default_rng(0).normal(size=(40, 3))
REAL = X.sum(axis=1)
CLASSES = (REAL > 0).astype(int)
OPTIONS = {"hidden_layer_sizes": (8, 6), "max_iter": 3, "random_state": 0}
ESTIMATORS = [(MLPClassifier, CLASSES), (MLPRegressor, np.abs(REAL))]
each = pytest.mark.parametrize(("estimator", "y"), ESTIMATORS)
OTHER_NETWORKS = {
    "hidden_layer_sizes": (8, 7),
    "activation": ["relu", "tanh"],
    "normalization": "layer",
    "residual": True,
    "dtype": "float32",
}


def outputs(model):
    return model.predict_proba(X) if hasattr(model, "predict_proba") else model.predict(X)


@each
def test_predictions_go_by_the_fit(estimator, y):
    model = estimator(**OPTIONS).fit(X, y)
    expected, score = outputs(model), model.score(X, y)
    changes = OTHER_NETWORKS | {"dropout": [0.1, 0.2, 0.3], "solver": "sgd", "alpha": 7.0, "warm_start": True}
    if estimator is MLPRegressor:
        changes |= {"loss": "poisson"}
    for name, value in changes.items():
        changed = pickle.loads(pickle.dumps(model)).set_params(**{name: value})
        np.testing.assert_array_equal(outputs(changed), expected)
        assert outputs(changed).dtype == expected.dtype and changed.score(X, y) == score
        np.testing.assert_allclose(changed._fitted_model().predict(X).reshape(expected.shape[0], -1)[:, -1],
                                   expected.reshape(40, -1)[:, -1], rtol=1e-12)  # fmt: skip
        if name not in ("loss", "dtype"):
            np.testing.assert_allclose(outputs(changed.to_sklearn()), expected, rtol=1e-12)
    layers = {"activation": ["tanh", "relu"], "hidden_layer_sizes": (5, 4)}
    model.set_params(activation=layers["activation"]).fit(X, y)
    expected = outputs(model)
    layers["activation"][:] = ["logistic", "logistic"]  # the list that was given
    np.testing.assert_array_equal(outputs(model), expected)


@each
@pytest.mark.parametrize("name", OTHER_NETWORKS)
@pytest.mark.parametrize("way", ["fit", "lbfgs", "partial_fit"])
def test_a_training_that_goes_on_refuses_parameters_of_another_network(estimator, y, name, way):
    solver = "lbfgs" if way == "lbfgs" else "adam"
    model = estimator(warm_start=True, solver=solver, **OPTIONS).fit(X, y)
    call = model.partial_fit if way == "partial_fit" else model.fit
    before, was = outputs(model), model.get_params()[name]
    for value in {OTHER_NETWORKS[name] if not isinstance(OTHER_NETWORKS[name], list) else tuple(OTHER_NETWORKS[name])}:
        with pytest.raises(ValueError, match=f"^{name} is .*, but the (fitted network has|network was fitted with)"):
            model.set_params(**{name: value}) and call(X, y)
        np.testing.assert_array_equal(outputs(model), before)
    model.set_params(**{name: was})
    call(X, y)
    model.set_params(**{name: OTHER_NETWORKS[name]}, warm_start=False).fit(X, y)  # anew
    fresh = estimator(**OPTIONS | {name: OTHER_NETWORKS[name]}, solver=solver).fit(X, y)
    np.testing.assert_array_equal(outputs(model), outputs(fresh))


@each
def test_other_names_of_the_same_network_go_on(estimator, y):
    model = estimator(**OPTIONS).fit(X, y)
    same = {"activation": ("relu", "relu"), "hidden_layer_sizes": [8, 6], "dtype": np.float64, "residual": np.False_}
    for name, value in same.items():
        before = model.loss_
        model.set_params(**{name: value}).partial_fit(X, y)
        assert model.loss_ < before
    alone = estimator(**OPTIONS | {"hidden_layer_sizes": ()}).fit(X, y)  # there is nothing to activate or to skip
    alone.set_params(activation="tanh", normalization="layer", residual=True).partial_fit(X, y)


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_a_loss_with_another_output_activation_does_not_go_on(solver):
    options = OPTIONS | {"solver": solver, "warm_start": True, "learning_rate_init": 1e-5}
    y = np.abs(REAL)
    for first, then in itertools.permutations(["squared_error", "poisson", "huber", Loss("poisson")], 2):
        model = MLPRegressor(first, **options).fit(X, y)
        links = ["exp" if loss in ("poisson", Loss("poisson")) else "identity" for loss in (first, then)]
        before = model.predict(X)
        model.set_params(loss=then)
        for way in ("fit",) if solver == "lbfgs" else ("fit", "partial_fit"):
            if links[0] == links[1]:
                getattr(model, way)(X, y)
                assert model.out_activation_ == links[0]
                continue
            message = f"whose output activation is '{links[1]}', but the network was fitted with loss="
            with pytest.raises(ValueError, match=message):
                getattr(model, way)(X, y)
            np.testing.assert_array_equal(model.predict(X), before)
        if links[0] != links[1]:
            assert model.set_params(warm_start=False).fit(X, y).out_activation_ == links[1]
            assert links[1] == "identity" or model.predict(X).min() > 0


def test_the_levels_of_a_loss_go_with_the_fit():
    one, two = Loss("quantile", level=0.1), Loss("quantile", level=(0.1, 0.9))
    model = MLPRegressor(two, warm_start=True, **OPTIONS).fit(X, REAL)
    score = model.score(X, REAL)
    assert model.set_params(loss=one).score(X, REAL) == score
    for loss in (one, Loss("quantile", level=(0.1, 0.5, 0.9)), "squared_error"):
        with pytest.raises(ValueError, match=r"loss is .*, which needs [13] outputs? for this y, but the fitted"):
            model.set_params(loss=loss).fit(X, REAL)
    with pytest.raises(ValueError, match="y has 2 outputs, but the fitted network has 1"):  # not two targets
        model.set_params(loss="squared_error").fit(X, X[:, :2])
    model = MLPRegressor(warm_start=True, **OPTIONS).fit(X, X[:, :2])
    with pytest.raises(ValueError, match="y has 1 output, but the fitted network has 2"):  # nor two levels
        model.set_params(loss=two).fit(X, REAL)


@each
def test_arrays_that_were_set_by_hand_have_the_present_parameters(estimator, y):
    model = estimator(**OPTIONS).fit(X, y)
    by_hand = clone(model)
    for name in (
        "coefs_",
        "intercepts_",
        "out_activation_",
        "classes_",
        "_label_binarizer",
        "n_outputs_",
        "n_features_in_",
    ):
        if hasattr(model, name):
            setattr(by_hand, name, getattr(model, name))
    np.testing.assert_array_equal(outputs(by_hand), outputs(model))
    assert (outputs(by_hand.set_params(activation="tanh")) != outputs(model)).any()


# ---------------------------------------------------------------------------------------------------------------------
# From scikit-learn


@pytest.mark.parametrize("options", [{}, {"early_stopping": True}, {"solver": "lbfgs"}, {"solver": "sgd"}], ids=str)
@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
def test_taken_over_models_have_what_fitted_ones_have(name, options):
    y = CLASSES if name == "MLPClassifier" else np.abs(REAL)
    theirs = getattr(neural_network, name)(**OPTIONS | options).fit(X, y)
    estimator = getattr(fastbp, name)
    ours, fitted = estimator.from_sklearn(theirs), estimator(**OPTIONS | options).fit(X, y)
    assert {name for name in vars(fitted) if name.endswith("_")} <= set(vars(ours))
    assert ours.validation_loss_curve_ is None and ours.history_["loss"] == getattr(theirs, "loss_curve_", [])
    assert list(ours.history_) == list(fitted.history_)
    if "early_stopping" in options:
        assert ours.history_["val_score"] == theirs.validation_scores_ and np.isnan(ours.history_["val_loss"]).all()
        return
    if "solver" not in options or options["solver"] == "sgd":
        ours.partial_fit(X, y)
        assert ours.history_["loss"] == ours.loss_curve_ and len(ours.loss_curve_) == theirs.n_iter_ + 1
        assert np.isnan(ours.history_["epoch_seconds"][:-1]).all() and ours.history_["epoch_seconds"][-1] > 0


def test_parameters_of_another_network_are_not_taken_over():
    theirs = neural_network.MLPRegressor(**OPTIONS).fit(X, np.abs(REAL))
    changes = OTHER_NETWORKS | {"loss": "poisson"}
    for name, value in changes.items():
        with pytest.raises(ValueError, match=f"^{name} is .*, but the (fitted network has|network was fitted with)"):
            MLPRegressor.from_sklearn(theirs, **{name: value})
    ours = MLPRegressor.from_sklearn(theirs, loss="huber", alpha=0.5, dtype="float64")
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-12)
    ours.partial_fit(X, REAL)
    with pytest.raises(ValueError, match="y has 2 outputs, but the fitted network has 1"):
        ours.partial_fit(X, X[:, :2])
    with pytest.raises(ValueError, match=r"y has 2 outputs|y_val must have"):
        ours.partial_fit(X, X[:, :2], X_val=X, y_val=REAL)
    poisson = neural_network.MLPRegressor(loss="poisson", **OPTIONS).fit(X, np.abs(REAL))
    assert MLPRegressor.from_sklearn(poisson).set_params(loss="squared_error").to_sklearn().loss == "poisson"


# ---------------------------------------------------------------------------------------------------------------------
# Attributes of earlier fits

FITS = {
    "plain": ({}, {}),
    "lbfgs": ({"solver": "lbfgs"}, {}),
    "early stopping": ({"early_stopping": True}, {}),
    "by loss": ({"early_stopping": True, "scoring": "loss"}, {}),
    "validated": ({}, {"X_val": X, "y_val": None}),
    "validated lbfgs": ({"solver": "lbfgs"}, {"X_val": X, "y_val": None}),
    "dropout": ({"dropout": 0.5}, {}),
    "normalized": ({"normalization": "batch"}, {}),
    "residual": ({"residual": True, "hidden_layer_sizes": (8, 6)}, {}),
    "weighted": ({}, {"sample_weight": np.linspace(0, 1, 40)}),
    "schedule": ({"learning_rate": fastbp.schedules.OneCycle(0.01)}, {}),
    "float32": ({"dtype": "float32"}, {}),
}
OF_CLASSES = {"balanced": ({"class_weight": "balanced"}, {}), "smoothed": ({"label_smoothing": 0.1}, {})}
OF_NUMBERS = {"poisson": ({"loss": "poisson"}, {}), "quantiles": ({"loss": Loss("quantile", level=(0.1, 0.9))}, {})}


def told(value):
    """What there is to compare of an attribute: NaN is itself, and no epoch takes as long as another."""
    if isinstance(value, fastbp.History):
        return {name: told(values) for name, values in value.items() if name != "epoch_seconds"}, value.message
    return pickle.dumps(value)


@each
def test_a_fit_leaves_nothing_of_an_earlier_one(estimator, y):
    fits = FITS | (OF_CLASSES if estimator is MLPClassifier else OF_NUMBERS)

    def fitted(model, name):
        options, data = fits[name]
        data = data | ({"y_val": y} if "y_val" in data else {})
        return model.set_params(**estimator(**OPTIONS | options).get_params()).fit(X, y, **data)

    alone = {name: fitted(estimator(), name) for name in fits}
    for model in alone.values():
        assert set(vars(model)) - set(model.get_params()) <= {*FITTED, "n_features_in_", "feature_names_in_"}
    seen = {name for model in alone.values() for name in vars(model)}
    assert {"validation_scores_", "_optimizer_state", "_mask_seed", "_best_weights"} <= seen
    for first, then in itertools.permutations(fits, 2):
        again = fitted(fitted(estimator(), first), then)
        assert set(vars(again)) == set(vars(alone[then])), (first, then)
        for name, value in vars(alone[then]).items():
            assert told(vars(again)[name]) == told(value), (first, then, name)
    incremental = estimator(**OPTIONS)
    incremental.partial_fit(X, y, **({"classes": [0, 1]} if estimator is MLPClassifier else {}))
    for name in fits:
        assert set(vars(fitted(incremental, name))) == set(vars(alone[name]))


def test_a_fit_keeps_what_is_none_of_its_own():
    with sklearn.config_context(enable_metadata_routing=True):
        model = MLPClassifier(**OPTIONS).set_fit_request(sample_weight=True)
    model.encoder_ = "a subclass's"
    model.fit(X, CLASSES).fit(X, CLASSES)
    assert model.encoder_ == "a subclass's" and hasattr(model, "_metadata_request")
