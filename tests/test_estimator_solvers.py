"""Solvers beyond scikit-learn's: which optimizer each stands for, objects, clip_norm, partial_fit, interchange."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import scale
from sklearn.utils._param_validation import InvalidParameterError

import fastbp
import fastbp.losses
from fastbp import MLPClassifier, MLPRegressor
from fastbp.estimators._parameters import optimizer_of
from fastbp.optimizers import Optimizer

X, Y = load_iris(return_X_y=True)
X = scale(X)
NEW = ("rmsprop", "adagrad", "adamw", "nadam", "lion")
OPTIONS = {"hidden_layer_sizes": (6,), "max_iter": 3, "random_state": 0, "tol": 0, "n_iter_no_change": 100}
pytestmark = pytest.mark.filterwarnings("ignore:.*Maximum iterations.*")

EXPECTED = {
    "sgd": fastbp.SGD(0.002, 0.8, False, 0.1, "scikit-learn", clip_norm=3.0),
    "adam": fastbp.Adam(0.002, 0.7, 0.6, 0.01, 0.1, "scikit-learn", clip_norm=3.0),
    "rmsprop": fastbp.RMSprop(0.002, epsilon=0.01, l2=0.1, convention="scikit-learn", clip_norm=3.0),
    "adagrad": fastbp.Adagrad(0.002, epsilon=0.01, l2=0.1, convention="scikit-learn", clip_norm=3.0),
    "adamw": fastbp.AdamW(0.002, 0.7, 0.6, 0.01, weight_decay=0.1, clip_norm=3.0),
    "nadam": fastbp.NAdam(0.002, 0.7, 0.6, 0.01, l2=0.1, convention="scikit-learn", clip_norm=3.0),
    "lion": fastbp.Lion(0.002, weight_decay=0.1, clip_norm=3.0),
}


@pytest.mark.parametrize("solver", EXPECTED)
@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_what_a_solver_stands_for(kind, solver):
    estimator = kind(
        solver=solver, alpha=0.1, learning_rate_init=0.002, momentum=0.8, nesterovs_momentum=False, beta_1=0.7,
        beta_2=0.6, epsilon=0.01, clip_norm=3.0,
    )  # fmt: skip
    assert optimizer_of(estimator) == EXPECTED[solver]


def test_an_object_is_taken_as_it_is():
    optimizer = fastbp.RMSprop(0.3, momentum=0.5, clip_norm=2.0)
    assert optimizer_of(MLPClassifier(solver=optimizer, alpha=5, learning_rate_init=7)) is optimizer
    assert optimizer_of(MLPClassifier(solver=optimizer, clip_norm=4.0)) == fastbp.RMSprop(
        0.3, momentum=0.5, clip_norm=4.0
    )


@pytest.mark.parametrize("solver", [*NEW, fastbp.NAdam(0.01)])
def test_fits_end_where_the_trainer_does(solver):
    """The same network, order of rows and optimizer."""
    ours = MLPRegressor(solver=solver, shuffle=False, batch_size=50, **OPTIONS)
    ours.fit(X[:, :3], X[:, 3])
    bare = MLPRegressor(solver=solver, shuffle=False, batch_size=50, **{**OPTIONS, "max_iter": 1})
    layers = [fastbp.Dense(6, "relu"), fastbp.Dense(1)]
    model = fastbp.Sequential(layers, n_features=3, dtype="float64")
    rng = np.random.RandomState(0)
    model.set_weights(initial(rng, (3, 6), (6, 1)))
    loss = fastbp.losses.Loss("half_squared_error", convention="scikit-learn")
    trainer = fastbp.Trainer(model, loss=loss, optimizer=optimizer_of(bare))
    history = trainer.fit(X[:, :3], X[:, 3], epochs=3, batch_size=50, shuffle=False)
    for mine, theirs in zip(
        ours.coefs_ + ours.intercepts_, model.get_weights()[::2] + model.get_weights()[1::2], strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(ours.loss_curve_, history["loss"])


def initial(rng, *shapes):
    """Weights as scikit-learn draws them."""
    arrays = []
    for fan_in, fan_out in shapes:
        bound = np.sqrt(6 / (fan_in + fan_out))
        arrays += [rng.uniform(-bound, bound, (fan_in, fan_out)), rng.uniform(-bound, bound, fan_out)]
    return arrays


@pytest.mark.parametrize("solver", NEW)
def test_they_learn(solver):
    options = {**OPTIONS, "hidden_layer_sizes": (20,), "max_iter": 100}
    rate = {"adagrad": 0.1, "lion": 0.03}.get(solver, 0.01)
    assert MLPClassifier(solver=solver, learning_rate_init=rate, **options).fit(X, Y).score(X, Y) > 0.95


@pytest.mark.slow
def test_a_short_gradient_stays_as_it_is_and_a_long_one_is_shortened():
    same, short, plain = (
        MLPClassifier(solver="sgd", learning_rate_init=0.1, clip_norm=norm, **OPTIONS).fit(X, Y)
        for norm in (1e9, 0.1, None)
    )
    for a, b, c in zip(same.coefs_, plain.coefs_, short.coefs_, strict=True):
        np.testing.assert_array_equal(a, b)
        assert (a != c).any()


SCHEDULED = fastbp.SGD(fastbp.schedules.Exponential(0.1, 0.9, per="step"), momentum=0.9)


@pytest.mark.parametrize("solver", ["nadam", fastbp.Adam(0.01, amsgrad=True, ema_decay=0.9), SCHEDULED])
def test_partial_fit_goes_on(solver):
    options = {**OPTIONS, "solver": solver, "shuffle": False}
    whole, parts = MLPClassifier(**options).fit(X, Y), MLPClassifier(**options)
    for _ in range(3):
        parts.partial_fit(X, Y, classes=[0, 1, 2])
    for a, b in zip(whole.coefs_ + whole.intercepts_, parts.coefs_ + parts.intercepts_, strict=True):
        np.testing.assert_array_equal(a, b)
    again = pickle.loads(pickle.dumps(parts)).partial_fit(X, Y)
    parts.partial_fit(X, Y)
    np.testing.assert_array_equal(again.coefs_[0], parts.coefs_[0])
    with_other_state = parts.set_params(solver="lion").partial_fit(X, Y)  # starts with a state of its own
    assert np.isfinite(with_other_state.coefs_[0]).all()


def test_objects_in_a_search_and_a_clone():
    optimizer = fastbp.AdamW(0.01)
    assert clone(MLPClassifier(solver=optimizer)).solver == optimizer
    grid = {"solver": [optimizer, "rmsprop"], "clip_norm": [None, 1.0]}
    search = GridSearchCV(MLPClassifier(**OPTIONS), grid, cv=2).fit(X, Y)
    assert isinstance(search.best_params_["solver"], str | Optimizer)
    assert "AdamW(learning_rate=0.01)" in repr(MLPClassifier(solver=optimizer))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"solver": "adamax"}, "The 'solver' parameter of MLPClassifier must be a str among .*'rmsprop'.* or an inst"),
        ({"solver": fastbp.Adam}, "The 'solver' parameter of MLPClassifier must be"),
        ({"clip_norm": 0.0}, "The 'clip_norm' parameter of MLPClassifier must be a float in the range"),
        ({"clip_norm": "short"}, "The 'clip_norm' parameter of MLPClassifier must be"),
    ],
)
def test_what_is_wrong_is_named(parameters, message):
    with pytest.raises(InvalidParameterError, match=message):
        MLPClassifier(**parameters).fit(X, Y)


@pytest.mark.parametrize("solver", ["rmsprop", fastbp.SGD(0.01)])
def test_scikit_learns_estimator_has_its_own_solver(solver):
    ours = MLPClassifier(solver=solver, **OPTIONS).fit(X, Y)
    theirs = ours.to_sklearn()
    assert theirs.solver == "adam" and not hasattr(theirs, "_optimizer")
    np.testing.assert_allclose(theirs.predict_proba(X), ours.predict_proba(X), rtol=1e-10)
    back = MLPClassifier.from_sklearn(theirs, solver=solver)
    np.testing.assert_array_equal(back.coefs_[0], ours.coefs_[0])
    assert np.isfinite(back.partial_fit(X, Y).coefs_[0]).all()
