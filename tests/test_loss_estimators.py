"""Label smoothing for the classifier; robust losses and quantiles for the regressor."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import make_classification, make_multilabel_classification
from sklearn.metrics import mean_pinball_loss
from sklearn.utils._param_validation import InvalidParameterError

import fastbp
from fastbp import MLPClassifier, MLPRegressor
from fastbp.losses import Loss

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
OPTIONS = {"hidden_layer_sizes": (8,), "random_state": 0, "learning_rate_init": 0.01, "max_iter": 30}
X, Y = make_classification(200, 6, n_informative=5, n_redundant=0, n_classes=3, flip_y=0.1, random_state=0)


def smoothed_log_loss(y, p, smoothing, n_classes):
    """Mean cross-entropy of smoothed one-hot targets."""
    t = (1 - smoothing) * np.eye(n_classes)[y] + smoothing / n_classes
    return -(t * np.log(p)).sum(axis=1).mean()


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_label_smoothing_is_in_the_loss_of_three_classes(solver):
    model = MLPClassifier(label_smoothing=0.2, solver=solver, **OPTIONS).fit(X, Y, X_val=X, y_val=Y)
    want = smoothed_log_loss(Y, model.predict_proba(X), 0.2, 3)
    assert model.validation_loss_curve_[-1] == pytest.approx(want, rel=1e-9)
    plain = MLPClassifier(solver=solver, **OPTIONS).fit(X, Y)
    assert model.predict_proba(X).max(axis=1).mean() < plain.predict_proba(X).max(axis=1).mean() - 0.03
    assert model.score(X, Y) > 0.55 and clone(model).label_smoothing == 0.2


def test_label_smoothing_of_two_classes_labels_and_several_targets():
    two = (Y > 0).astype(int)
    model = MLPClassifier(label_smoothing=0.2, **OPTIONS).fit(X, two, X_val=X, y_val=two)
    want = smoothed_log_loss(two, model.predict_proba(X), 0.2, 2)
    assert model.validation_loss_curve_[-1] == pytest.approx(want, rel=1e-9)
    features, labels = make_multilabel_classification(200, 6, n_classes=3, random_state=0)
    model = MLPClassifier(label_smoothing=0.2, **OPTIONS).fit(features, labels, X_val=features, y_val=labels)
    p = model.predict_proba(features)
    want = sum(smoothed_log_loss(labels[:, k], np.stack([1 - p[:, k], p[:, k]], axis=1), 0.2, 2) for k in range(3))
    assert model.validation_loss_curve_[-1] == pytest.approx(want, rel=1e-9)
    several = np.stack([Y, two], axis=1)
    model = MLPClassifier(label_smoothing=0.2, **OPTIONS).fit(X, several, X_val=X, y_val=several)
    want = sum(smoothed_log_loss(several[:, k], p, 0.2, (3, 2)[k]) for k, p in enumerate(model.predict_proba(X)))
    assert model.validation_loss_curve_[-1] == pytest.approx(want, rel=1e-9)


def test_no_smoothing_is_the_model_without():
    one, other = (MLPClassifier(**options, **OPTIONS).fit(X, Y) for options in ({}, {"label_smoothing": 0.0}))
    for a, b in zip(one.coefs_, other.coefs_, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, "much", None])
def test_bad_smoothing_is_refused_as_scikit_learn_does(smoothing):
    with pytest.raises(InvalidParameterError, match=r"'label_smoothing' parameter of MLPClassifier must be a float in"):
        MLPClassifier(label_smoothing=smoothing).fit(X, Y)


# ---------------------------------------------------------------------------------------------------------------------
# Regressor


def noisy():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(400, 2))
    truth = features @ [2.0, -1.0]
    y = truth + 0.1 * rng.normal(size=400)
    y[::10] += 50
    return features, truth, y


@pytest.mark.parametrize("loss", ["absolute_error", "huber", "log_cosh", "quantile", Loss("huber", delta=0.5)])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_robust_losses_resist_outliers(loss, solver):
    features, truth, y = noisy()
    options = OPTIONS | {"hidden_layer_sizes": (), "max_iter": 200, "learning_rate_init": 0.02}
    errors = [
        np.abs(MLPRegressor(one, solver=solver, **options).fit(features, y).predict(features) - truth).mean()
        for one in (loss, "squared_error")
    ]
    assert errors[0] < 0.3 and errors[1] > 2


def test_a_loss_by_name_is_the_trainers():
    features, _, y = noisy()
    for name, loss in {"absolute_error": "mae", "huber": "huber", "quantile": "quantile"}.items():
        model = MLPRegressor(name, **OPTIONS).fit(features, y, X_val=features, y_val=y)
        layers = [fastbp.Dense(8, "relu"), fastbp.Dense(1)]
        network = fastbp.Sequential(layers, n_features=2, dtype="float64")
        network.set_weights([a for pair in zip(model.coefs_, model.intercepts_, strict=True) for a in pair])
        want, _ = fastbp.Trainer(network, loss=loss).loss_and_gradients(features, y)
        assert model.validation_loss_curve_[-1] == pytest.approx(want, rel=1e-12)


def test_several_quantiles_of_one_target():
    rng = np.random.default_rng(0)
    features, levels = rng.uniform(-1, 1, (1000, 1)), (0.1, 0.5, 0.9)
    y = features[:, 0] + (1.2 + features[:, 0]) * rng.normal(size=1000)
    loss = Loss("quantile", level=levels)
    options = OPTIONS | {"activation": "tanh", "max_iter": 100}
    model = MLPRegressor(loss, **options).fit(features, y, X_val=features[:100], y_val=y[:100])
    quantiles = model.predict(features)
    assert quantiles.shape == (1000, 3) and model.n_outputs_ == 3 and clone(model).loss == loss
    np.testing.assert_allclose((y[:, None] < quantiles).mean(axis=0), levels, atol=0.05)
    pinball = [mean_pinball_loss(y[:100], quantiles[:100, k], alpha=level) for k, level in enumerate(levels)]
    assert model.validation_loss_curve_[-1] == pytest.approx(np.mean(pinball), rel=1e-9)
    stopped = MLPRegressor(loss, early_stopping=True, **options).fit(features, y)
    assert len(stopped.validation_scores_) == stopped.n_iter_
    model.partial_fit(features, y)
    assert model.n_outputs_ == 3


def test_what_a_regressor_cannot_take_is_refused():
    features, _, y = noisy()
    for loss, message in (
        (
            Loss("softmax_cross_entropy"),
            "loss must be one for real targets, got 'softmax_cross_entropy', which is for MLPC",
        ),
        (
            Loss("quantile", level=(0.1, 0.5, 0.9)),
            "loss has 3 levels, which are all for one target, but y has 2 columns: give one c",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            MLPRegressor(loss).fit(features, np.stack([y, y], axis=1))
    for loss in ("hinge", 5, None):
        with pytest.raises(InvalidParameterError, match="The 'loss' parameter of MLPRegressor must be"):
            MLPRegressor(loss).fit(features, y)
    with pytest.raises(ValueError, match="loss='poisson' needs targets of at least 0, got a smallest y of -"):
        MLPRegressor(Loss("poisson")).fit(features, y)
    model = MLPRegressor("huber", **OPTIONS).fit(features, y)
    with pytest.raises(ValueError, match="scikit-learn's MLPRegressor has no place for the loss 'huber'"):
        model.to_sklearn()
